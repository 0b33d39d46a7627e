/* The picture that questions are about: chosen, dropped, pasted, or the sample. */

import { base } from "./api.js";

const SAMPLE = "static/sample.png", SAMPLE_NAME = "astronaut.png";

/**
 * The picture in a file: `{name, type, url, width, height, base64}`; the size is that of the picture as it is shown,
 * turned as its EXIF says. Throws with a sentence.
 */
export async function open(file) {
  const url = URL.createObjectURL(file), name = file.name || `pasted.${(file.type.split("/")[1] || "png").replace(/\W.*/, "")}`;
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`This browser cannot show ${name} as a picture. Take a PNG, a JPEG or a WebP.`);
  }
  if (await mayBeTurnedElsewhere(file)) {
    const blob = await redrawn(image);
    URL.revokeObjectURL(url);
    return { name, type: blob.type, url: URL.createObjectURL(blob), width: image.naturalWidth, height: image.naturalHeight, base64: await base64(blob) };
  }
  const type = file.type.startsWith("image/") ? file.type : "image/jpeg";
  return { name, type, url, width: image.naturalWidth, height: image.naturalHeight, base64: await base64(file) };
}

/** The photograph that comes with the server. */
export async function sample() {
  const blob = await (await fetch(new URL(SAMPLE, base))).blob();
  return open(new File([blob], SAMPLE_NAME, { type: "image/png" }));
}

/** Tell `take(file)` of every picture that is chosen in `input`, dropped on `area`, or pasted anywhere. */
export function listen(input, area, take) {
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const name of ["dragenter", "dragover"]) {
    area.addEventListener(name, (event) => {
      event.preventDefault();
      area.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) area.addEventListener(name, () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) take(file);
  });
}

/* Browsers pass over the EXIF block of a WebP, and of a PNG after its pixels; the server turns the picture as it says. */
async function mayBeTurnedElsewhere(file) {
  const text = new TextDecoder("latin1").decode(await file.arrayBuffer());
  return (text.slice(8, 12) === "WEBP" && text.includes("EXIF")) || (text.slice(1, 4) === "PNG" && text.includes("eXIf"));
}

/* The picture as this browser shows it, so that a box stands on what was asked about. */
function redrawn(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}
