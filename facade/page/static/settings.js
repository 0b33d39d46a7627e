/* The settings of a route as controls: a slider, a number, a box to tick or a choice each. */

import { make } from "./dom.js";

const NAMES = {
  confidence: "Lowest score", iou_threshold: "Overlap that suppresses", max_detections: "Most boxes",
  class_agnostic_nms: "Suppress across classes", text_threshold: "Lowest score of a word", multimask: "Three proposals",
  detect_faces: "Look for faces first", max_new_tokens: "Most tokens", num_beams: "Beams", temperature: "Temperature",
  top_p: "Top p", top_k: "Top k", repetition_penalty: "Repetition penalty", seed: "Seed",
};

/** Controls for `settings` (see GET /models) in `place`; the first stays in sight, `more` holds the others. */
export function build(settings, place, more, changed) {
  const controls = settings.map((setting) => control(setting, changed));
  place.replaceChildren(...controls.slice(0, 1).map(({ element }) => element));
  more.replaceChildren(...controls.slice(1).map(({ element }) => element));
  return { values: () => Object.fromEntries(controls.map(({ field, value }) => [field, value()])) };
}

function control({ name, field, kind, start, low, high, choices }, changed) {
  const id = `setting-${name}`, label = NAMES[name] ?? name.replaceAll("_", " ");
  if (kind === "bool") {
    const input = make("input", { type: "checkbox", id, checked: start });
    input.addEventListener("change", changed);
    return { field, value: () => input.checked, element: make("label", { class: "tick", for: id }, input, label) };
  }
  if (kind === "choice") {
    const input = make("select", { id }, ...choices.map((choice) => make("option", { selected: choice === start }, choice)));
    input.addEventListener("change", changed);
    return { field, value: () => input.value, element: make("div", { class: "field" }, make("label", { for: id }, label), input) };
  }
  const bounds = { min: low, max: high, step: kind === "int" ? 1 : 0.01 };
  const number = make("input", { type: "number", id, ...bounds, value: start, placeholder: start === null ? "default" : null });
  const value = () => (number.value === "" || !number.checkValidity() ? null : number.valueAsNumber);
  const parts = [make("label", { for: id }, label), number];
  if (kind === "float" && high - low <= 2) {
    const slider = make("input", { type: "range", ...bounds, value: start ?? high, "aria-label": label });
    slider.addEventListener("input", () => {
      number.value = slider.value;
      changed();
    });
    number.addEventListener("input", () => {
      if (value() !== null) slider.value = number.value;
    });
    parts.push(slider);
  }
  number.addEventListener("input", changed);
  return { field, value, element: make("div", { class: "field number" }, ...parts) };
}
