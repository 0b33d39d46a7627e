/* What is asked, one thing at a time: a question, or a video frame by frame; and what becomes of the answer. */

import * as answers from "./answers.js";
import * as api from "./api.js";
import { $, debounced, show } from "./dom.js";
import * as films from "./film.js";
import { films as takesFilms, FOLLOWED, follows, needsOf } from "./questions.js";
import { busy, complain, duration, forget, loaded, PATIENCE, present, preview, put, request, state, tell } from "./sight.js";
import { Stream } from "./streams.js";
import { Tracks } from "./tracks.js";

const QUIET = 250; // milliseconds without a change before it is asked again

let controller = null;

/** Ask what the page stands for; whatever was being asked before is given up. */
export async function ask() {
  const pointed = $("prompt").value;
  again.cancel(); // this asks what was typed just before, and would be given up for it
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
      if (!model.loaded) announce(model);
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
export async function follow() {
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
  if (!model.loaded) announce(model);
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
export function offer() {
  const there = Boolean(state.film) && takesFilms(state.model?.route);
  for (const id of ["follow", "seen"]) show($(id), there);
  $("follow").textContent = follows(state.model?.route) ? "Follow" : "Play";
}

/** Forget what is being followed. */
export function endStream() {
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
export function stop() {
  if (!controller) return;
  const was = controller;
  controller = null;
  was.abort();
  busy(false);
}

const again = debounced(() => state.following || ask(), QUIET);

/** Something of the question changed. A model that writes is asked when told to, all others by themselves. */
export function changed() {
  preview();
  if (state.model?.weights !== undefined && needsOf(state.model.route) !== "question") again();
}

/** A model has answered that was not loaded: whoever lists models looks again. */
function announce(model) {
  document.dispatchEvent(new CustomEvent("model-loaded", { detail: model }));
}
