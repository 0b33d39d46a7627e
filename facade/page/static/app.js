/* The page itself: which model, which picture, what was asked last; everything else is told what to show. */

import * as answers from "./answers.js";
import * as api from "./api.js";
import { $, copy, debounced, show } from "./dom.js";
import { draw } from "./draw.js";
import * as films from "./film.js";
import * as list from "./list.js";
import * as pictures from "./picture.js";
import * as prompts from "./prompts.js";
import { films as takesFilms, FOLLOWED, follows, known, needsOf, question } from "./questions.js";
import * as results from "./results.js";
import * as settings from "./settings.js";
import * as snippets from "./snippets.js";
import { Stream } from "./streams.js";
import { Tracks } from "./tracks.js";

const NEEDS = ["classes", "texts", "question", "prompt"];
const QUIET = 250; // milliseconds without a change before it is asked again
const PATIENCE = 700; // milliseconds before the page says that a model is loading

const state = {
  listing: { models: [], unpublished: [], routes: {} }, model: null, picture: null, controls: { values: () => ({}) },
  answer: null, depth: null, rubber: null, chosen: -1, film: null, stream: null, pointed: "", following: null,
};

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

/** Show a picture, without an answer. */
async function put(picture) {
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

// ---- asking ----------------------------------------------------------------------------------------------------------

let controller = null;

/** The request that the page stands for, or null; `missing` is told when `aloud`. */
function request(aloud) {
  if (!state.model || !state.picture || !known(state.model.route)) return null;
  const words = Object.fromEntries([...NEEDS, "object"].map((name) => [name, $(name).value]));
  const found = question(state.model, state.controls.values(), words);
  if (found.missing && aloud) tell(found.missing);
  return found.missing ? null : found;
}

/** Ask what the page stands for; whatever was being asked before is given up. */
async function ask() {
  const pointed = $("prompt").value;
  stop();
  if (state.following) {
    await state.following; // the frame that is being answered still comes
    $("prompt").value = pointed;
  }
  complain(null);
  const asked = request(true), { model, picture } = state;
  preview();
  if (!asked) return;
  const mine = (controller = new AbortController()), began = performance.now();
  const waiting = (sentence, seconds) => tell(`${sentence} Asking again in ${seconds} s.`);
  busy(true);
  const loading = setTimeout(() => !model.loaded && tell(`${model.id} is loading; the first answer waits for it.`), PATIENCE);
  try {
    const body = asked.body(picture);
    if (asked.follows) return await point(picture, body, mine, waiting);
    const response = await api.ask(asked.path, body, { signal: mine.signal, waiting });
    if (asked.streams) await write(response, mine, began);
    else await answer(asked.path, await response.json(), body, mine, began);
  } catch (error) {
    if (mine === controller && error.name !== "AbortError") {
      forget();
      tell("");
      complain(error);
    }
  } finally {
    clearTimeout(loading);
    if (mine === controller) {
      busy(false);
      if (!model.loaded) reloadQuietly(model);
    }
  }
}

async function answer(path, content, body, mine, began) {
  const took = performance.now() - began, read = answers.read(path, content, body);
  const depth = read.depth ? await loaded(read.depth) : null;
  if (mine !== controller) return;
  show($("said"), false);
  present(read, depth);
  const server = read.seconds === null ? "" : `${duration(read.seconds * 1000)} in the server, `;
  $("time").textContent = `${server}${duration(took)} in all`;
}

/** Draw an answer over its picture, and list it beside it. */
function present(read, depth = null) {
  Object.assign(state, { answer: read, depth, chosen: -1 });
  results.list(read, state.model, (i) => {
    state.chosen = i;
    paint();
  });
  paint();
  tell(read.summary);
}

/** Point at objects of a stream; without one, another begins. */
async function point(picture, body, mine, waiting) {
  const stream = (state.stream ??= new Stream(`${state.model.route}/${state.model.id}`)), began = performance.now();
  try {
    const pointed = $("prompt").value;
    await answer(state.model.route, await stream.ask(picture, body, waiting), body, mine, began);
    state.pointed = pointed;
  } catch (error) {
    if (stream === state.stream) endStream(); // what it still holds is not known here
    throw error;
  }
}

/**
 * Ask about the frames of the video, until it ends or somebody stops it; where things are pointed at, follow what was pointed at.
 */
async function follow() {
  const pointing = follows(state.model.route);
  if (pointing && (!state.stream || $("prompt").value !== state.pointed)) await ask();
  if ((pointing && !(state.stream && state.answer)) || state.following) return;
  stop();
  complain(null);
  preview();
  const mine = (controller = new AbortController()), { model } = state;
  busy(true);
  state.following = throughFilm(mine, pointing ? streamed() : detected(mine));
  await state.following;
  state.following = null;
  if (mine === controller) busy(false);
  if (!model.loaded) reloadQuietly(model);
  preview();
}

async function throughFilm(mine, answered) {
  const { film, stream, model } = state;
  try {
    const ended = await films.through(film, mine.signal, answered, async (picture, answer, pace) => {
      await put(picture);
      present(answer);
      $("time").textContent = pace;
      $("seen").value = picture.share;
    });
    if (ended) {
      if (!follows(model.route)) film.rewind(); // a stream goes on
      $("seen").value = 1;
      tell(`The video ends here. ${state.answer.summary}`);
    }
  } catch (error) {
    if (film !== state.film || stream !== state.stream || error.name === "AbortError") return;
    endStream();
    complain(error);
  }
}

/** How the stream answers a frame; null once something else is in sight. */
function streamed() {
  const { stream, model } = state;
  return async (picture) => {
    const content = await stream.ask(picture, FOLLOWED);
    return stream === state.stream ? answers.read(model.route, content, FOLLOWED) : null;
  };
}

/** How a model answers a frame that is asked about each by itself, as it is set now; a frame that is given up comes again. */
function detected({ signal }) {
  const { film } = state, tracks = new Tracks();
  const waiting = (sentence, seconds) => tell(`${sentence} Asking again in ${seconds} s.`);
  return async (picture) => {
    const asked = request(true);
    let answer = null;
    try {
      if (!asked) return null;
      const body = asked.body(picture), response = await api.ask(asked.path, body, { signal, waiting });
      answer = answers.numbered(answers.read(asked.path, await response.json(), body), tracks);
      return answer;
    } finally {
      if (!answer) film.back();
    }
  };
}

/** Whether there is a video to follow anything through. */
function offer() {
  const there = Boolean(state.film) && takesFilms(state.model?.route);
  for (const id of ["follow", "seen"]) show($(id), there);
  $("follow").textContent = follows(state.model?.route) ? "Follow" : "Play";
}

/** Forget what is being followed. */
function endStream() {
  state.stream?.close();
  state.stream = null;
}

/** Show an answer while it is being written. */
async function write(response, mine, began) {
  forget();
  $("said").textContent = "";
  show($("said"), true);
  show($("stop"), true);
  tell("Writing …");
  let first = 0, reason = "", told = [];
  for await (const { choices: [choice] } of api.events(response)) {
    if (mine !== controller) return;
    if (choice?.delta.content) {
      first ||= performance.now() - began;
      const said = $("said"), atEnd = said.scrollHeight - said.scrollTop - said.clientHeight < 40;
      said.append(choice.delta.content);
      if (atEnd) said.scrollTop = said.scrollHeight; // whoever scrolled up is reading
    }
    told = choice?.delta.places ?? told;
    reason = choice?.finish_reason ?? reason;
  }
  if (mine !== controller) return;
  const found = told.length ? answers.places(told, state.picture) : null;
  if (found) present(found);
  else if (reason === "length") tell("Written, up to the most tokens it may.");
  else tell("Written.");
  const took = performance.now() - began;
  $("time").textContent = `first words after ${duration(first || took)}, ${duration(took)} in all`;
}

/** Give up what is being asked. What was written so far stays. */
function stop() {
  if (!controller) return;
  const was = controller;
  controller = null;
  was.abort();
  busy(false);
}

const again = debounced(() => state.following || ask(), QUIET);

/** Something of the question changed. A model that writes is asked when told to, all others by themselves. */
function changed() {
  preview();
  if (state.model?.weights !== undefined && needsOf(state.model.route) !== "question") again();
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

// ---- what is in sight ------------------------------------------------------------------------------------------------

/** The lines to copy, of what would be asked now. */
function preview() {
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

function paint() {
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
function forget() {
  Object.assign(state, { answer: null, depth: null, chosen: -1 });
  results.clear();
  show($("scale"), false);
  show($("said"), false);
  $("time").textContent = "";
  paint();
}

function tell(sentence) {
  $("status").textContent = sentence;
  $("canvas").setAttribute("aria-label", sentence || "Nothing is drawn yet.");
}

function complain(error) {
  $("error").textContent = error?.message ?? "";
  show($("error"), Boolean(error));
}

let slow = 0; // a timer: most answers are there before anybody could stop them

function busy(is) {
  show($("busy"), is);
  clearTimeout(slow);
  if (is) slow = setTimeout(() => show($("stop"), true), PATIENCE);
  else show($("stop"), false);
  $("results").setAttribute("aria-busy", is);
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
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
