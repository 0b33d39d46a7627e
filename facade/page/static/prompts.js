/* Points and a box on the picture: as lines that can be typed, and as clicks, taps and drags that write those lines. */

const NUMBER = String.raw`\s*(-?\d+(?:\.\d+)?)\s*`;
const POINT = new RegExp(`^(not\\s+)?${NUMBER},${NUMBER}$`, "i");
const BOX = new RegExp(`^box\\s+${Array(4).fill(NUMBER).join(",")}$`, "i");
const DRAGGED = 6; // pixels of the screen that make a drag of a click

/**
 * The points (x, y), a label each (1 on the object, 0 not), and the box (left, top, right, bottom) or null.
 *
 * A line is `x, y` or `not x, y` or `box left, top, right, bottom`, in pixels of the picture. Throws with a sentence.
 */
export function readPrompt(text) {
  const points = [], labels = [];
  let box = null;
  for (const line of (text ?? "").split("\n").map((line) => line.trim()).filter(Boolean)) {
    const point = POINT.exec(line), corners = BOX.exec(line);
    if (point) {
      points.push([Number(point[2]), Number(point[3])]);
      labels.push(point[1] ? 0 : 1);
    } else if (corners) {
      box = corners.slice(1).map(Number);
    } else {
      throw new Error(`“${line.slice(0, 40)}” is no point and no box: write 220, 140 or not 220, 140 or box 10, 20, 200, 240.`);
    }
  }
  return { points, labels, box };
}

/** `text` with a point more. */
export function addPoint(text, [x, y], on) {
  return [...kept(text), `${on ? "" : "not "}${x}, ${y}`].join("\n");
}

/** `text` with that box in place of the one it had. */
export function setBox(text, box) {
  return [...kept(text).filter((line) => !/^box\b/i.test(line)), `box ${box.join(", ")}`].join("\n");
}

/** `text` without its last line. */
export function undo(text) {
  return kept(text).slice(0, -1).join("\n");
}

function kept(text) {
  return text.split("\n").filter((line) => line.trim());
}

/**
 * Clicks and drags on `surface`, told in pixels of a picture of `size()`.
 *
 * `point([x, y], on)` for a click (right button or Shift: not on it), `rubber(box)` while a box is dragged (null when it
 * ends), `box(box)` for a dragged one.
 */
export function listen(surface, { size, point, rubber, box }) {
  let start = null, dragged = false;
  const at = (event) => {
    const frame = surface.getBoundingClientRect(), { width, height } = size();
    const inside = (share, pixels) => Math.round(Math.min(Math.max(share, 0), 1) * pixels);
    return [
      inside((event.clientX - frame.left) / frame.width, width), inside((event.clientY - frame.top) / frame.height, height),
    ];
  };
  const between = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  surface.addEventListener("pointerdown", (event) => {
    if (event.button > 2 || event.button === 1) return;
    start = event;
    dragged = false;
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    if (!start) return;
    dragged ||= Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > DRAGGED;
    if (dragged) rubber(between(at(start), at(event)));
  });
  surface.addEventListener("pointerup", (event) => {
    if (!start) return;
    const first = start;
    start = null;
    rubber(null);
    if (dragged) box(between(at(first), at(event)));
    else point(at(first), !(first.button === 2 || first.shiftKey));
  });
  surface.addEventListener("pointercancel", () => {
    start = null;
    rubber(null);
  });
  surface.addEventListener("contextmenu", (event) => event.preventDefault());
}
