/* A video as pictures, one after another: what a stream of objects is asked about. */

import * as pictures from "./picture.js";

const STEP = 0.1; // seconds of the video from one picture to the next
const QUALITY = 0.92; // of the JPEG that a picture becomes

/**
 * The video in a file: `name`, `next()` is its next picture as {@link pictures.open} gives one, with its `seconds`, or null after the
 * last one, and `close()` forgets it. Throws with a sentence.
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
      const seconds = count * STEP;
      video.currentTime = seconds; // past the end it stays there
      await happened(video, "seeked");
      if (video.currentTime < seconds - STEP / 2 || (count && video.ended)) return null;
      count += 1;
      const frame = new File([await pictureOf(video)], `${name}-${seconds.toFixed(1)}s.jpg`, { type: "image/jpeg" });
      return { ...(await pictures.open(frame)), seconds };
    },
    close() {
      video.removeAttribute("src");
      video.load();
      URL.revokeObjectURL(url);
    },
  };
}

function pictureOf(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

function happened(video, event) {
  return new Promise((resolve, reject) => {
    video.addEventListener(event, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error("The video cannot be decoded any further.")), { once: true });
  });
}
