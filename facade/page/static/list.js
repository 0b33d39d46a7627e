/* The list of models: grouped by task, searched by any of their names, walked through with the arrow keys. */

import { $, make } from "./dom.js";

const TASKS = {
  "object-detection": "Object detection", "keypoint-detection": "Key points", "instance-segmentation": "Instance segmentation",
  "open-vocabulary-object-detection": "Detection of what you name", "interactive-instance-segmentation": "Masks of what you click",
  "video-instance-segmentation": "Objects followed through a video",
  "classification": "Classification", "embedding": "Vectors of pictures and texts", "depth-estimation": "Depth",
  "gaze-detection": "Gaze", "structured-ocr": "Text of a page", "text-only-ocr": "Text of a line", "vlm": "Answers about pictures",
};

/** A task in plain words. */
export function taskName(task) {
  return TASKS[task] ?? task.replaceAll("-", " ");
}

/** Show `listing` (see GET /models); `choose(model)` is told what was picked. The model in sight is `chosen`, an id. */
export function fill(listing, chosen, choose) {
  const place = $("list"), unpublished = $("unpublished-list");
  place.replaceChildren(...groups(listing.models, chosen, choose));
  unpublished.replaceChildren(...groups(listing.unpublished, chosen, choose));
  $("unpublished-count").textContent = listing.unpublished.length;
  $("unpublished").hidden = !listing.unpublished.length;
  filter();
}

/** Mark the one that is in sight. */
export function mark(id) {
  for (const button of all()) {
    if (button.dataset.id === id) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  rove();
}

/** Make the search and the arrow keys work. Once. */
export function listen() {
  $("search").addEventListener("input", filter);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") move(event, 0);
    if (event.key === "Enter") {
      event.preventDefault();
      visible()[0]?.click();
    }
  });
  $("models").addEventListener("keydown", (event) => {
    const here = visible().indexOf(document.activeElement);
    if (here < 0) return;
    if (event.key === "ArrowDown") move(event, here + 1);
    if (event.key === "ArrowUp") here ? move(event, here - 1) : (event.preventDefault(), $("search").focus());
    if (event.key === "Home") move(event, 0);
    if (event.key === "End") move(event, visible().length - 1);
  });
}

function groups(models, chosen, choose) {
  const byTask = new Map(Object.keys(TASKS).map((task) => [task, []]));
  for (const model of models) byTask.set(model.task, [...(byTask.get(model.task) ?? []), model]);
  return [...byTask].filter(([, group]) => group.length).map(([task, group]) => make(
    "section", { class: "group" }, make("h3", {}, taskName(task)),
    make("ul", {}, ...group.map((model) => make("li", {}, button(model, chosen, choose)))),
  ));
}

function button(model, chosen, choose) {
  const states = [model.loaded && ["loaded", "loaded"], model.weights === "random" && ["random", "random weights"]].filter(Boolean);
  const element = make(
    "button",
    { type: "button", "data-id": model.id, "aria-current": model.id === chosen ? "true" : null },
    make("span", { class: "id" }, model.id), ...states.map(([kind, told]) => make("span", { class: `state ${kind}` }, told)),
  );
  element.dataset.names = [model.id, model.family, taskName(model.task), model.task, ...model.aliases].join("\n").toLowerCase();
  element.addEventListener("click", () => choose(model));
  return element;
}

function filter() {
  const wanted = $("search").value.trim().toLowerCase().split(/\s+/);
  for (const element of all()) {
    element.parentElement.hidden = !wanted.every((word) => element.dataset.names.includes(word));
  }
  for (const group of $("models").querySelectorAll(".group")) {
    group.hidden = ![...group.querySelectorAll("li")].some((item) => !item.hidden);
  }
  if (wanted[0]) $("unpublished").open = true;
  const shown = all().filter((element) => !element.parentElement.hidden).length;
  $("none").textContent = shown ? "" : "No model is called that.";
  rove();
}

function all() {
  return [...$("models").querySelectorAll("button[data-id]")];
}

function visible() {
  return all().filter((element) => element.offsetParent !== null);
}

function move(event, to) {
  event.preventDefault();
  const buttons = visible();
  buttons[Math.min(to, buttons.length - 1)]?.focus();
}

/** One stop for Tab: the model in sight, or the first one; arrow keys do the rest. */
function rove() {
  const buttons = all(), shown = buttons.filter((element) => !element.parentElement.hidden);
  const stop = shown.find((element) => element.hasAttribute("aria-current")) ?? shown[0];
  for (const element of buttons) element.tabIndex = element === stop ? 0 : -1;
}
