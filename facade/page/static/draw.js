/* An answer drawn over its picture, on a canvas as large as the picture is shown. */

// As the command line draws them: colours that stay apart on photographs and carry white letters.
const COLOURS = ["#2563eb", "#dc2626", "#059669", "#c026d3", "#b45309", "#0e7490", "#7c3aed", "#be123c", "#4d7c0f", "#475569"];
const POINTS = ["#facc15", "#22d3ee", "#fb7185", "#4ade80", "#fb923c", "#c084fc", "#a3e635", "#60a5fa", "#f472b6", "#e2e8f0"];
const ARROW = "#facc15";
const LETTERS = "600 12px system-ui, sans-serif";
const HIGH = 18; // pixels of the screen, of a label

/** The colour of the i-th name, and of the i-th key point. */
export const colourOf = (i) => COLOURS[i % COLOURS.length];
export const pointColourOf = (i) => POINTS[i % POINTS.length];

/** The colour of every name in `answer.boxes`, in the order in which they come; words and angles are no names. */
export function colours(boxes) {
  const found = new Map();
  for (const { label, arrow, word } of boxes) {
    if (!found.has(label)) found.set(label, colourOf(arrow || word ? 0 : found.size));
  }
  return found;
}

/**
 * Draw `answer` (see answers.js) and the prompt `{points, labels, box}` that it is about.
 *
 * `size` is the picture's own, `chosen` the row to bring out or -1, `depth` a loaded picture and `blend` its opacity.
 */
export function draw(canvas, size, { answer, prompt, chosen = -1, depth = null, blend = 1 }) {
  const ratio = window.devicePixelRatio || 1, { clientWidth, clientHeight } = canvas;
  canvas.width = Math.round(clientWidth * ratio);
  canvas.height = Math.round(clientHeight * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.lineJoin = pen.lineCap = "round";
  const scale = { x: clientWidth / size.width, y: clientHeight / size.height };
  const at = ([x, y]) => [x * scale.x, y * scale.y];
  if (depth) {
    pen.globalAlpha = blend;
    pen.drawImage(depth, 0, 0, clientWidth, clientHeight);
    pen.globalAlpha = 1;
  }
  if (answer?.boxes) drawBoxes(pen, answer.boxes, chosen, at);
  if (answer?.masks) drawMasks(pen, answer.masks, chosen, at);
  if (prompt) drawPrompt(pen, prompt, at);
}

function drawBoxes(pen, boxes, chosen, at) {
  const colour = colours(boxes);
  const order = boxes.map((_, i) => i).reverse(); // the best on top
  if (boxes[chosen]) order.push(chosen);
  for (const i of order) {
    const box = boxes[i], faint = chosen >= 0 && i !== chosen;
    pen.globalAlpha = faint ? 0.3 : 1;
    pen.strokeStyle = pen.fillStyle = colour.get(box.label);
    if (box.outline?.length) fillShape(pen, box.outline, at, i === chosen ? 0.6 : 0.38);
    drawFrame(pen, box, at, i === chosen ? 3 : box.outline ? 1.25 : 2);
    if (box.arrow) drawArrow(pen, box.arrow, at);
    for (const point of box.points ?? []) drawDot(pen, at([point.x, point.y]), pointColourOf(point.index), 4);
    if (!box.width && !box.height) drawDot(pen, at([box.left, box.top]), colour.get(box.label), 6);
  }
  pen.globalAlpha = 1;
  const taken = []; // a label that would cover a better one is left out: looking at its row brings it out
  for (const box of boxes[chosen] ? [boxes[chosen]] : boxes) {
    const place = placeOf(pen, box, at);
    if (!place.text) continue; // a word that could not be read
    if (taken.some((other) => place.x < other.x + other.width && other.x < place.x + place.width && Math.abs(place.y - other.y) < HIGH)) continue;
    taken.push(place);
    drawLabel(pen, place, colour.get(box.label));
  }
}

function drawFrame(pen, { left, top, width, height }, at, line) {
  const [x1, y1] = at([left, top]), [x2, y2] = at([left + width, top + height]);
  pen.lineWidth = line;
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

/** Where the label of a box goes: over its upper left corner, and inside the picture. */
function placeOf(pen, { label, number, score, left, top }, at) {
  const name = number === undefined ? label : `${label} #${number}`;
  const text = score === null ? name : `${name}  ${score.toFixed(2)}`, edge = pen.canvas.clientWidth;
  pen.font = LETTERS;
  const [x, y] = at([left, top]), width = pen.measureText(text).width + 10;
  return { text, width, x: Math.max(0, Math.min(x - 1, edge - width)), y: y < HIGH + 1 ? Math.max(y, 0) : y - HIGH };
}

function drawLabel(pen, { text, width, x, y }, colour) {
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, HIGH);
  pen.fillStyle = "#fff";
  pen.textBaseline = "middle";
  pen.fillText(text, x + 5, y + HIGH / 2 + 0.5);
}

function drawMasks(pen, masks, chosen, at) {
  const best = chosen >= 0 ? chosen : 0;
  masks.forEach(({ outline }, i) => {
    if (!outline.length) return;
    pen.strokeStyle = pen.fillStyle = colourOf(i);
    pen.setLineDash(i === best ? [] : [4, 5]);
    if (i === best) fillShape(pen, outline, at, 0.45);
    else strokeShape(pen, outline, at, 1.5);
  });
  pen.setLineDash([]);
}

function fillShape(pen, outline, at, opacity) {
  const before = pen.globalAlpha;
  strokeShape(pen, outline, at, 2);
  pen.globalAlpha = before * opacity;
  pen.fill("evenodd");
  pen.globalAlpha = before;
}

function strokeShape(pen, outline, at, line) {
  pen.beginPath();
  for (const point of outline) pen.lineTo(...at(point));
  pen.closePath();
  pen.lineWidth = line;
  pen.stroke();
}

function drawArrow(pen, [x1, y1, x2, y2], at) {
  const start = at([x1, y1]), end = at([x2, y2]), length = Math.hypot(end[0] - start[0], end[1] - start[1]);
  const turn = Math.atan2(end[1] - start[1], end[0] - start[0]), head = Math.max(9, length * 0.22);
  for (const [colour, line] of [["#000", 6], [ARROW, 3.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.beginPath();
    pen.moveTo(...start);
    pen.lineTo(...end);
    if (length > 12) {
      for (const side of [-0.5, 0.5]) {
        pen.moveTo(...end);
        pen.lineTo(end[0] - head * Math.cos(turn + side), end[1] - head * Math.sin(turn + side));
      }
    }
    pen.stroke();
  }
  drawDot(pen, start, ARROW, 4.5);
}

function drawDot(pen, [x, y], colour, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = colour;
  pen.fill();
  pen.lineWidth = 1.5;
  pen.strokeStyle = "#0b0f14";
  pen.stroke();
}

function drawPrompt(pen, { points, labels, box }, at) {
  if (box) {
    const [left, top, right, bottom] = box;
    pen.setLineDash([6, 4]);
    for (const [colour, line] of [["#0b0f14", 3.5], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      drawFrame(pen, { left, top, width: right - left, height: bottom - top }, at, line);
    }
    pen.setLineDash([]);
  }
  points.forEach((point, i) => {
    const [x, y] = at(point), on = labels[i] === 1;
    drawDot(pen, [x, y], on ? "#22c55e" : "#ef4444", 7);
    pen.strokeStyle = "#fff"; // a plus or a minus, not the colour alone
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(x - 3.5, y);
    pen.lineTo(x + 3.5, y);
    if (on) {
      pen.moveTo(x, y - 3.5);
      pen.lineTo(x, y + 3.5);
    }
    pen.stroke();
  });
}
