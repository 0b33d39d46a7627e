/* A video as pictures, one after another, and how a model is asked about all of them. */

import * as pictures from "./picture.js";

const STEP = 0.1; // seconds of the video from one picture to the next
const QUALITY = 0.92; // of the JPEG that a picture becomes
const PAINTING = 250; // milliseconds that a browser takes at most to paint what it sought
const SEEKING = 5000, TRIES = 3; // milliseconds until a place of the video is sought again, and how often

/**
 * The video in a file: `name`, `next()` is its next picture as {@link pictures.open} gives one, with its `seconds` and its `share` of
 * the video, or null after the last one; after `back()` the last one comes once more, after `rewind()` the first, and `close()`
 * forgets the video. Throws with a sentence.
 */
export async function open(file) {
  const video = document.createElement("video"), url = URL.createObjectURL(file);
  Object.assign(video, { muted: true, preload: "auto", src: url });
  try {
    await happened(video, "loadeddata");
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`This browser cannot play ${file.name} as a video. Take an MP4 with H.264, or a WebM.`);
  }
  const name = file.name.replace(/\.\w+$/, "");
  let count = 0;
  return {
    name: file.name,
    async next() {
      const seconds = count * STEP, paints = painted(video);
      await seek(video, seconds); // past the end it stays there
      if (video.currentTime < seconds - STEP / 2 || (count && video.ended)) return null;
      await Promise.race([paints, after(PAINTING)]);
      count += 1;
      const frame = new File([await pictureOf(video)], `${name}-${seconds.toFixed(1)}s.jpg`, { type: "image/jpeg" });
      return { ...(await pictures.open(frame)), seconds, share: seconds / video.duration };
    },
    back() {
      count -= 1;
    },
    rewind() {
      count = 0;
    },
    close() {
      video.removeAttribute("src");
      video.load();
      URL.revokeObjectURL(url);
    },
  };
}

/**
 * Ask about every picture of `film`, one after another, until `signal` is aborted.
 *
 * `ask(picture)` gives an answer, or null where nobody wants it any more; `show(picture, answer, pace)` is told each, and how many
 * there were at which pace. Says whether the film ended.
 */
export async function through(film, signal, ask, show) {
  const began = performance.now();
  for (let count = 1; !signal.aborted; count += 1) {
    const picture = await film.next();
    if (!picture) return true;
    const answer = await ask(picture);
    if (!answer) break;
    const rate = (1000 * count) / (performance.now() - began);
    await show(picture, answer, `${count} frame${count === 1 ? "" : "s"}, ${rate.toFixed(1)} a second`);
  }
  return false;
}

/** Throws with a sentence where the browser does not come to that place. */
async function seek(video, seconds) {
  for (let tries = 0; tries < TRIES; tries += 1) {
    video.currentTime = seconds;
    const sought = happened(video, "seeked").then(() => true);
    sought.catch(() => {}); // of a try that was given up nobody wants to know
    if (await Promise.race([sought, after(SEEKING)])) return;
  }
  throw new Error("The video cannot be decoded any further.");
}

function after(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** When the next picture of `video` is there to be drawn, which may be after "seeked"; at once where a browser does not tell. */
function painted(video) {
  return new Promise((resolve) => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(resolve) : resolve()));
}

function pictureOf(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

function happened(video, event) {
  const settled = new AbortController(), { signal } = settled;
  return new Promise((resolve, reject) => {
    video.addEventListener(event, resolve, { signal });
    video.addEventListener("emptied", () => reject(new Error("The video was closed.")), { signal });
    video.addEventListener("error", () => reject(new Error("The video cannot be decoded any further.")), { signal });
  }).finally(() => settled.abort());
}
