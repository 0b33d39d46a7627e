/* Answers of every route in one form: what to draw, what to list, what to say. */

/**
 * The answer of `path` to the body `asked`, in one form for all:
 *   boxes   [{label, number, score, left, top, width, height, outline, points, arrow, word}]
 *           number: of the object in a video, where it is known; score is null of what is written, not scored; a box without an extent is a point; word: text of a page
 *   masks   [{label, score, outline}]     best first
 *   bars    [{label, value, text}]        best first, values in 0..1 of the bar
 *   depth   a picture in colours, as a data URL
 *   vector  numbers
 *   text    what was read
 *   table   {columns, rows, order}        cells are texts; row i is about boxes[i] or masks[i]; order says how they are sorted
 *   summary one sentence
 *   seconds that the server says it took, or null
 */
export function read(path, answer, asked) {
  const one = Array.isArray(answer) ? answer[0] : answer;
  return { seconds: one.time ?? null, ...READERS[path](one, asked) };
}

const READERS = {
  "/infer/object_detection": found,
  "/infer/keypoints_detection": found,
  "/infer/instance_segmentation": found,
  "/grounding_dino/infer": found,
  "/owlv2/infer": found,
  "/yolo_world/infer": found,
  "/infer/classification": classes,
  "/infer/depth-estimation": (answer) => ({
    depth: `data:image/jpeg;base64,${answer.image}`, summary: "Depth of every pixel: dark is far, bright is near.",
  }),
  "/gaze/gaze_detection": gazes,
  "/sam/segment_image": masks,
  "/streams": followed,
  "/clip/compare": similarities,
  "/clip/embed_image": vector,
  "/infer/embeddings": vector,
  "/doctr/ocr": page,
  "/ocr/trocr": (answer) => ({ text: answer.result, summary: answer.result ? "The line says:" : "Nothing was read." }),
};

function found({ predictions }) {
  const boxes = predictions.map((p) => ({
    ...corners(p), label: p.class, score: p.confidence, outline: p.points?.map(({ x, y }) => [x, y]),
    points: p.keypoints?.map(({ x, y, class_id, class: label }) => ({ x, y, label, index: class_id })),
  }));
  const rows = boxes.map((box) => [box.label, score(box.score), place(box)]);
  return { boxes, table: { columns: ["what", "score", "box"], rows, order: "best first" }, summary: count(boxes) };
}

/** `answer` about a frame of a video, with the numbers that `tracks` (see tracks.js) gives its boxes. */
export function numbered(answer, tracks) {
  const numbers = tracks.follow(answer.boxes);
  const boxes = answer.boxes.map((box, i) => ({ ...box, number: numbers[i] }));
  const rows = answer.table.rows.map(([label, ...cells], i) => [`${label} #${numbers[i]}`, ...cells]);
  return { ...answer, boxes, table: { ...answer.table, rows } };
}

function gazes({ predictions }) {
  const degrees = (angle) => `${Math.round((angle * 180) / Math.PI)}°`;
  const boxes = predictions.map(({ face, yaw, pitch }) => ({
    ...corners(face), label: `yaw ${degrees(yaw)}, pitch ${degrees(pitch)}`, score: face.confidence, arrow: arrow(face, yaw, pitch),
  }));
  const rows = predictions.map(({ yaw, pitch }, i) => [degrees(yaw), degrees(pitch), score(boxes[i].score), place(boxes[i])]);
  const table = { columns: ["yaw", "pitch", "score", "box"], rows, order: "best first" };
  return { boxes, table, summary: boxes.length ? `Found: ${plural(boxes.length, "face")}.` : "No face found." };
}

/** From the middle of the face along its gaze, as long as the face: a positive yaw looks left, a positive pitch up. */
function arrow({ x, y, width, height }, yaw, pitch) {
  const length = Math.max(width, height);
  return [x, y, x - length * Math.cos(pitch) * Math.sin(yaw), y - length * Math.sin(pitch)];
}

function masks(answer) {
  const all = answer.masks.map((outline, i) => ({ outline, score: answer.scores[i] })).sort((a, b) => b.score - a.score);
  const named = all.map((mask, i) => ({ ...mask, label: all.length > 1 ? `proposal ${i + 1}` : "mask" }));
  const rows = named.map((mask) => [mask.label, score(mask.score), `${mask.outline.length} points`]);
  const nothing = !named.some((mask) => mask.outline.length);
  const summary = nothing ? "Nothing is selected." : `${plural(named.length, "mask")}; expected overlap ${score(named[0].score)}.`;
  return { masks: named, table: { columns: ["mask", "expected overlap", "outline"], rows, order: "best first" }, summary };
}

function followed({ frame, objects }) {
  const seen = objects.filter(({ outline }) => outline.length);
  const boxes = seen.map(({ object_id, confidence, outline }) => ({
    ...around(outline), label: `object ${object_id}`, score: confidence, outline,
  }));
  const rows = boxes.map((box) => [box.label, score(box.score), place(box)]);
  const summary = `Frame ${frame}: ${seen.length} of ${plural(objects.length, "object")} in sight.`;
  return { boxes, table: { columns: ["object", "in sight", "box"], rows, order: "by number" }, summary };
}

function around(points) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y), left = Math.min(...xs), top = Math.min(...ys);
  return { left, top, width: Math.max(...xs) - left, height: Math.max(...ys) - top };
}

function classes({ predictions, predicted_classes }) {
  const many = !Array.isArray(predictions);
  const all = many
    ? Object.entries(predictions).map(([label, { confidence }]) => ({ label, value: confidence }))
    : predictions.map((p) => ({ label: p.class, value: p.confidence }));
  const bars = all.sort((a, b) => b.value - a.value).map((bar) => ({ ...bar, text: score(bar.value) }));
  const best = many ? predicted_classes.join(", ") : bars[0]?.label;
  return { bars, summary: best ? `${many ? "Tags" : "Best"}: ${best}.` : "No class reaches the threshold." };
}

function similarities({ similarity }, { prompt }) {
  const all = prompt.map((label, i) => ({ label, value: Math.max(similarity[i], 0), cosine: similarity[i] }));
  const bars = all.sort((a, b) => b.cosine - a.cosine).map((bar) => ({ ...bar, text: bar.cosine.toFixed(3) }));
  return { bars, summary: `Most alike: ${bars[0].label}.` };
}

function vector({ embeddings: [numbers] }) {
  return { vector: numbers, summary: `A vector of ${numbers.length} numbers.` };
}

function page({ result, predictions = [] }) {
  const divided = new Set(predictions.map((p) => p.parent_id));
  const words = predictions.filter((p) => !divided.has(p.detection_id)); // or lines, where these are not divided
  const kind = words.every((p) => p.class === "line") ? "line" : "word";
  const boxes = words.map((p) => ({ ...corners(p), label: p.text, score: null, word: true }));
  const rows = boxes.map((box) => [box.label || "—", place(box)]);
  const summary = words.length ? `${plural(words.length, kind)} read.` : "Nothing was read.";
  return { boxes, text: result, table: { columns: [kind, "box"], rows, order: "in reading order" }, summary };
}

/** The places that a model's text names, see the route's `places`: fractions of the picture, which is of this `size`. */
export function places(told, { width, height }) {
  const boxes = told.flatMap(({ phrase, boxes, polygons, points }) => {
    const outlines = polygons.map((outline) => outline.map(([x, y]) => [x * width, y * height]));
    const framed = outlines.length
      ? outlines.map((outline) => ({ outline, ...around(outline) }))
      : boxes.map(([left, top, right, bottom]) => around([[left * width, top * height], [right * width, bottom * height]]));
    const marked = points.map(([x, y]) => around([[x * width, y * height]]));
    return [...framed, ...marked].map((box) => ({ ...box, label: phrase || "region", score: null }));
  });
  const rows = boxes.map((box) => [box.label, place(box)]);
  return { boxes, table: { columns: ["what", "place"], rows, order: "in the order of the text" }, summary: `Written. ${count(boxes)}` };
}

function corners({ x, y, width, height }) {
  return { left: x - width / 2, top: y - height / 2, width, height };
}

function place({ left, top, width, height }) {
  if (!width && !height) return `${Math.round(left)}, ${Math.round(top)}`;
  return `${Math.round(left)}, ${Math.round(top)} · ${Math.round(width)} × ${Math.round(height)}`;
}

function score(value) {
  return value.toFixed(Math.abs(value) < 0.01 ? 4 : 2);
}

function count(boxes) {
  if (!boxes.length) return "Nothing over the threshold.";
  const counts = new Map();
  for (const { label } of boxes) counts.set(label, (counts.get(label) ?? 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1]);
  const told = most.slice(0, 4).map(([label, n]) => `${n} ${label}`).join(", ");
  const others = most.length > 4 ? ` and ${plural(most.length - 4, "other kind")}` : "";
  return most.length > 1 ? `${boxes.length} found: ${told}${others}.` : `Found: ${told}.`;
}

export function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}
