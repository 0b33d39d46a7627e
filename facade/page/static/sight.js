/* What is in sight: the model, the picture, what was answered last, and what is said about it. */

import * as api from "./api.js";
import { $, show } from "./dom.js";
import { draw } from "./draw.js";
import * as prompts from "./prompts.js";
import { films as takesFilms, known, needsOf, question } from "./questions.js";
import * as results from "./results.js";
import * as snippets from "./snippets.js";

export const NEEDS = ["classes", "texts", "question", "prompt"];
export const PATIENCE = 700; // milliseconds before there is a button that stops, and a word about a model that is loading

export const state = {
  listing: { models: [], unpublished: [], routes: {} }, model: null, picture: null, controls: { values: () => ({}) },
  answer: null, depth: null, rubber: null, chosen: -1, film: null, stream: null, pointed: "", following: null,
};

/** Show a picture, without an answer. */
export async function put(picture) {
  if (state.picture) URL.revokeObjectURL(state.picture.url);
  state.picture = picture;
  const { name, width, height, url } = state.picture;
  $("picture").src = url;
  $("picture").alt = `The picture ${name}, ${width} by ${height} pixels`;
  $("picture-name").textContent = `${name}, ${width} × ${height}`;
  show($("picture"), true);
  show($("drop"), false);
  $("prompt").value = state.pointed = "";
  forget();
  await $("picture").decode();
  paint();
}

/** The request that the page stands for, or null; `missing` is told when `aloud`. */
export function request(aloud) {
  if (!state.model || !state.picture || !known(state.model.route)) return null;
  const words = Object.fromEntries([...NEEDS, "object"].map((name) => [name, $(name).value]));
  const found = question(state.model, state.controls.values(), words);
  if (found.missing && aloud) tell(found.missing);
  return found.missing ? null : found;
}

/** Draw an answer over its picture, and list it beside it. */
export function present(read, depth = null) {
  Object.assign(state, { answer: read, depth, chosen: -1 });
  results.list(read, state.model, (i) => {
    state.chosen = i;
    paint();
  });
  paint();
  tell(read.summary);
}

/** The lines to copy, of what would be asked now. */
export function preview() {
  const asked = request(false);
  show($("code"), Boolean(asked));
  if (!asked) return paint();
  const { type, name, seconds } = state.picture, film = takesFilms(state.model.route) ? state.film?.name : undefined;
  const how = { type, keyed: Boolean(api.key.get()), film, seconds }, alone = !asked.follows && !film;
  show($("curl").closest(".code"), alone); // curl opens no WebSocket, and reads no video
  $("curl").textContent = alone ? snippets.curl(asked, api.base, name, how) : "";
  $("python").textContent = snippets.python(asked, api.base, film ?? name, how);
  paint();
}

export function paint() {
  if (!state.picture) return;
  let prompt = null;
  if (needsOf(state.model?.route) === "prompt") {
    try {
      prompt = prompts.readPrompt($("prompt").value);
    } catch {
      prompt = { points: [], labels: [], box: null }; // being typed
    }
    if (state.rubber) prompt.box = state.rubber;
  }
  draw($("canvas"), state.picture, {
    answer: state.answer, prompt, chosen: state.chosen, depth: state.depth, blend: $("blend").valueAsNumber,
  });
}

/** No answer any more. */
export function forget() {
  Object.assign(state, { answer: null, depth: null, chosen: -1 });
  results.clear();
  show($("scale"), false);
  show($("said"), false);
  $("time").textContent = "";
  paint();
}

export function tell(sentence) {
  $("status").textContent = sentence;
  $("canvas").setAttribute("aria-label", sentence || "Nothing is drawn yet.");
}

export function complain(error) {
  $("error").textContent = error?.message ?? "";
  show($("error"), Boolean(error));
}

let slow = 0; // a timer: most answers are there before anybody could stop them

export function busy(is) {
  show($("busy"), is);
  clearTimeout(slow);
  if (is) slow = setTimeout(() => show($("stop"), true), PATIENCE);
  else show($("stop"), false);
  $("results").setAttribute("aria-busy", is);
}

export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}
