/* A question in the words of the route that answers it: which path, which body, and what is still missing. */

import { readPrompt } from "./prompts.js";

const PICTURE = (picture) => ({ type: "base64", value: picture.base64 });

/** What each route reads besides the model and its settings. `needs` are fields of the page. */
const ROUTES = {
  "/infer/object_detection": { body: withImage, films: true },
  "/infer/keypoints_detection": { body: withImage, films: true },
  "/infer/instance_segmentation": { body: withImage, films: true },
  "/infer/classification": { body: withImage },
  "/infer/embeddings": { body: withImage },
  "/infer/depth-estimation": { body: (picture) => ({ ...withImage(picture), depth_map_format: "png8" }) },
  "/gaze/gaze_detection": { body: withImage },
  "/doctr/ocr": { body: (picture) => ({ ...withImage(picture), generate_bounding_boxes: true }) },
  "/ocr/trocr": { body: withImage },
  "/grounding_dino/infer": { needs: "classes", body: withClasses, films: true },
  "/owlv2/infer": { needs: "classes", body: withClasses, films: true },
  "/yolo_world/infer": { needs: "classes", body: withClasses, films: true },
  "/sam/segment_image": { needs: "prompt", body: withPrompt },
  "/streams": { needs: "prompt", body: withObject, films: true, follows: true },
  "/clip/compare": { needs: "texts", body: withTexts },
  "/v1/chat/completions": { needs: "question", body: withQuestion, streams: true },
};

/** Tasks whose question also fits the legacy route: its names of their settings, and what it takes where they are not given. */
const UPLOADED = new Set(["object-detection", "keypoint-detection", "instance-segmentation"]);
const UPLOAD_SETTINGS = { confidence: ["confidence", 0.4], iou_threshold: ["overlap", 0.3], max_detections: ["max_detections", 300] };

/** The field of the page that the route reads besides the picture: classes, texts, prompt, question, or nothing. */
export function needsOf(route) {
  return ROUTES[route]?.needs ?? "";
}

/** Whether what is pointed at is followed through a video. */
export function follows(route) {
  return ROUTES[route]?.follows ?? false;
}

/** Whether it is asked about one frame of a video after another. */
export function films(route) {
  return ROUTES[route]?.films ?? false;
}

/** What a frame is asked that nothing is pointed at on. */
export const FOLLOWED = { mask_format: "polygon" };

/** Whether the page knows how to ask that route. */
export function known(route) {
  return route in ROUTES;
}

/**
 * The request that the page would send now: `{path, streams, follows, body(picture), upload}`, or `{missing}`, a sentence.
 *
 * `settings` are values by field of the body; those that are null are left to the server. `words` are the page's fields
 * by name. `body` takes `{base64, type}`; where it `follows`, it is a message on the WebSocket of that path,
 * and the picture travels beside it. `upload` is the path that answers the same to the file alone, or null.
 */
export function question(model, settings, words) {
  const { body, streams = false, follows = false } = ROUTES[model.route];
  const missing = lacks(needsOf(model.route), words);
  if (missing) return { missing };
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null));
  if (follows) return { path: `${model.route}/${model.id}`, streams, follows, upload: null, body: (picture) => body(picture, words) };
  // without texts to compare with there is still the vector of the picture
  const path = model.route === "/clip/compare" && !lines(words.texts).length ? "/clip/embed_image" : model.route;
  const name = streams ? { model: model.id } : { model_id: model.id };
  const extra = model.places ? { places: true } : {};
  return { path, streams, follows, upload: uploadPath(model, given), body: (picture) => ({ ...name, ...given, ...body(picture, words), ...extra }) };
}

function uploadPath(model, given) {
  const name = [model.id, ...model.aliases].find((one) => one.split("/").length === 2), query = new URLSearchParams();
  if (!name || !UPLOADED.has(model.task)) return null;
  for (const [field, value] of Object.entries(given)) {
    const [spelt, usual] = UPLOAD_SETTINGS[field] ?? ["", false];
    if (value === usual) continue;
    const share = field !== "max_detections";
    if (!spelt || (share && !(value >= 0.01 && value < 1))) return null; // the route reads 1 as one per cent
    query.set(spelt, value);
  }
  const asked = query.toString();
  return asked ? `/${name}?${asked}` : `/${name}`;
}

/** What was typed, line by line or with commas between. */
export function lines(text) {
  return (text ?? "").split(/[\n,]/).map((line) => line.trim()).filter(Boolean);
}

function lacks(need, words) {
  if (need === "classes" && !lines(words.classes).length) return "Name at least one thing to look for.";
  if (need === "question" && !words.question?.trim()) return "Type a question.";
  if (need !== "prompt") return "";
  try {
    const { points, box } = readPrompt(words.prompt);
    return points.length || box ? "" : "Click what you mean, or drag a box around it.";
  } catch (error) {
    return error.message;
  }
}

function withImage(picture) {
  return { image: PICTURE(picture) };
}

function withClasses(picture, words) {
  return { ...withImage(picture), text: lines(words.classes) };
}

function withPrompt(picture, words) {
  const { points, labels, box } = readPrompt(words.prompt);
  const clicked = points.length ? { point_coords: points, point_labels: labels } : {};
  return { ...withImage(picture), ...clicked, ...(box ? { box } : {}) };
}

/** The object that the page counts by its number, from 0. */
function withObject(_, words) {
  const { points, labels, box } = readPrompt(words.prompt), object = Number(words.object) || 0;
  const clicked = points.length ? { points, point_labels: labels, point_objects: points.map(() => object) } : {};
  return { ...FOLLOWED, ...clicked, ...(box ? { boxes: [box], box_objects: [object] } : {}) };
}

function withTexts(picture, words) {
  const texts = lines(words.texts);
  if (!texts.length) return withImage(picture);
  return { subject: PICTURE(picture), subject_type: "image", prompt: texts, prompt_type: "text" };
}

function withQuestion(picture, words) {
  const url = `data:${picture.type};base64,${picture.base64}`;
  const content = [{ type: "text", text: words.question.trim() }, { type: "image_url", image_url: { url } }];
  return { messages: [{ role: "user", content }], stream: true };
}
