/* The page itself: what a person chooses, drops, types and clicks. */

import * as api from "./api.js";
import { ask, changed, endStream, follow, offer, stop } from "./asking.js";
import { $, copy, show } from "./dom.js";
import * as films from "./film.js";
import * as list from "./list.js";
import * as pictures from "./picture.js";
import * as prompts from "./prompts.js";
import { films as takesFilms, follows, known, needsOf } from "./questions.js";
import * as settings from "./settings.js";
import { complain, forget, NEEDS, paint, preview, put, request, state, tell } from "./sight.js";

// ---- models ----------------------------------------------------------------------------------------------------------

async function reload() {
  try {
    state.listing = await api.models();
  } catch (error) {
    if (error.status === 401) {
      $("key-box").open = true;
      $("key").focus();
    }
    complain(error);
    return;
  }
  complain(null);
  list.fill(state.listing, state.model?.id, (model) => choose(model, true));
  if (!state.model) {
    const first = named() ?? best(state.listing.models);
    if (first) choose(first, false);
    else $("facts").textContent = "No model is published here yet. Pick one on the left to see how to publish it.";
  }
}

/** The model that the address names, if it does. */
function named() {
  const wanted = location.hash.slice(1), { models, unpublished } = state.listing;
  return [...models, ...unpublished].find(({ id }) => wanted === encodeURIComponent(id) || wanted === id);
}

/** What to begin with: something loaded, else something with weights that mean something. */
function best(models) {
  const usable = models.filter(({ route }) => known(route)), rank = ({ loaded, weights }) => 2 * loaded + (weights !== "random");
  return usable.sort((a, b) => rank(b) - rank(a))[0] ?? models[0];
}

/** Put `model` in sight; when a person picked it, it is asked at once if nothing else has to be said first. */
function choose(model, picked) {
  stop();
  endStream();
  const need = needsOf(model.route);
  state.model = model;
  forget();
  list.mark(model.id);
  history.replaceState(null, "", `#${encodeURIComponent(model.id)}`);
  document.title = `${model.id} · tritonvision`;
  describe(model);
  const route = state.listing.routes[model.route];
  state.controls = settings.build(route?.settings ?? [], $("settings"), $("more-settings"), changed);
  show($("more"), (route?.settings.length ?? 0) > 1);
  for (const name of NEEDS) show($(`need-${name}`), name === need);
  $("stage").classList.toggle("points", need === "prompt");
  $("file").accept = takesFilms(model.route) ? "image/*,video/*" : "image/*";
  show($("which"), follows(model.route));
  show($("or-video"), takesFilms(model.route));
  offer();
  const can = known(model.route) && (model.weights !== undefined || (state.listing.exports_missing && model.exportable_here));
  show($("desk"), can);
  $("ask").textContent = model.weights === undefined ? "Export it and ask" : need === "question" ? "Send" : "Ask";
  if (picked) unfold(false);
  tell("");
  if (picked && can && model.weights !== undefined && need !== "question") ask();
  else hint();
}

/** The lines to copy; or, where the picture itself is asked with, what to do with it. */
function hint() {
  preview();
  if (needsOf(state.model?.route) === "prompt") request(true);
}

function describe(model) {
  const { weights, loaded, label_count, labels, input_size } = model;
  $("name").textContent = $("picked").textContent = model.id;
  const size = input_size ? `${input_size[1]} × ${input_size[0]} pixels` : "";
  const classes = label_count > 1 ? `${label_count} classes: ${labels.slice(0, 3).join(", ")} …` : "";
  const state = weights === undefined ? "" : loaded ? "loaded" : "not loaded";
  const licence = weights === "random" ? "" : `licence of the weights: ${model.license}`;
  const facts = [list.taskName(model.task), model.family, state, size, classes, licence];
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  const nowhere = "No route of this server answers this kind of model yet.";
  $("warning").textContent = weights === "random" ? "Random weights: answers mean nothing." : known(model.route) ? "" : nowhere;
  show($("warning"), $("warning").textContent !== "");
  show($("publish"), weights === undefined);
  $("publish-text").textContent = model.command ? "Not published on this server. This publishes it:" : "This version cannot export it yet.";
  $("publish-command").textContent = model.command ?? "";
  show($("publish-command").closest(".code"), Boolean(model.command));
}

function unfold(open) {
  $("pick").setAttribute("aria-expanded", open);
  $("models").classList.toggle("open", open);
}

/** An export may have ended, a model has been loaded: the list says so. */
async function reloadQuietly(model) {
  try {
    state.listing = await api.models();
  } catch {
    return; // the answer is what matters
  }
  if (state.model !== model) return;
  const now = state.listing.models.find(({ id }) => id === model.id);
  list.fill(state.listing, model.id, (other) => choose(other, true));
  if (now) {
    state.model = now;
    describe(now);
  }
}

// ---- pictures --------------------------------------------------------------------------------------------------------

/** Put another picture in sight, `film` where it is the first one of a video. Says whether there is one. */
async function take(opening, film = null) {
  try {
    const picture = await opening;
    stop();
    endStream();
    state.film?.close();
    state.film = film;
    $("seen").value = 0;
    await put(picture);
  } catch (error) {
    complain(error);
    return false;
  }
  offer();
  return true;
}

/** Whatever a person chose, dropped or pasted. */
async function open(file) {
  const route = state.model?.route;
  if (!takesFilms(route) || !file.type.startsWith("video/")) return takeAndAsk(pictures.open(file));
  try {
    const film = await films.open(file);
    if (follows(route)) return takeAndAsk(film.next(), film);
    if (!(await take(film.next(), film))) return;
    film.rewind();
    if (state.model.weights !== undefined) follow();
    else preview();
  } catch (error) {
    complain(error);
  }
}

// ---- what a person does ----------------------------------------------------------------------------------------------

async function takeAndAsk(opening, film) {
  if (!(await take(opening, film))) return;
  if (needsOf(state.model?.route) === "question") preview();
  else if (state.model?.weights !== undefined) ask();
}

function writePrompt(text) {
  $("prompt").value = text;
  ask();
}

list.listen();
document.addEventListener("model-loaded", ({ detail }) => reloadQuietly(detail));
pictures.listen($("file"), $("stage"), open);
$("sample").addEventListener("click", () => takeAndAsk(pictures.sample()));
prompts.listen($("canvas"), {
  size: () => state.picture,
  point: (at, plain) => writePrompt(prompts.addPoint($("prompt").value, at, plain === $("click-on").checked)),
  box: (box) => writePrompt(prompts.setBox($("prompt").value, box)),
  rubber: (box) => {
    state.rubber = box;
    paint();
  },
});
$("undo").addEventListener("click", () => writePrompt(prompts.undo($("prompt").value)));
$("clear").addEventListener("click", () => {
  $("prompt").value = "";
  forget();
  preview();
  tell("");
});
for (const name of NEEDS) $(name).addEventListener("input", changed);
$("object").addEventListener("change", () => {
  $("prompt").value = state.pointed = ""; // those were about another one
  preview();
});
$("follow").addEventListener("click", follow);
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    ask();
  }
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("stop").addEventListener("click", () => {
  stop();
  tell("Stopped.");
});
$("blend").addEventListener("input", paint);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key.set($("key").value.trim());
  $("key-box").open = false;
  reload().then(preview);
});
$("pick").addEventListener("click", () => unfold($("pick").getAttribute("aria-expanded") !== "true"));
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await copy($(button.dataset.copy).textContent);
    const before = [...button.childNodes];
    button.replaceChildren("Copied");
    setTimeout(() => button.replaceChildren(...before), 1500);
  });
}
window.addEventListener("hashchange", () => {
  const wanted = named();
  if (wanted && wanted.id !== state.model?.id) choose(wanted, true);
});
new ResizeObserver(paint).observe($("picture"));

$("key").value = api.key.get();
await Promise.all([reload(), take(pictures.sample())]);
if (state.model?.loaded && needsOf(state.model.route) === "") ask();
else hint();
$("work").removeAttribute("aria-busy");
