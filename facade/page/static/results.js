/* An answer in words and numbers beside its picture: a table, bars, a text, the facts of a vector, a legend. */

import { $, make, show } from "./dom.js";
import { colourOf, colours, pointColourOf } from "./draw.js";

const MOST_ROWS = 60, MOST_BARS = 12, FIRST_NUMBERS = 6;

/** Show `answer` (see answers.js); `choose(i)` is told which row is being looked at, or -1. */
export function list(answer, model, choose) {
  const parts = [];
  if (answer.text) parts.push(make("p", { class: "text" }, answer.text));
  if (answer.bars) parts.push(bars(answer.bars));
  if (answer.vector) parts.push(facts(answer.vector), strip(answer.vector));
  if (answer.table?.rows.length) parts.push(table(answer, choose));
  $("results").replaceChildren(...parts);
  legend(answer, model);
}

/** Nothing to show. */
export function clear() {
  $("results").replaceChildren();
  $("legend").replaceChildren();
  show($("legend"), false);
}

function table(answer, choose) {
  const { columns, rows, order } = answer.table, shown = rows.slice(0, MOST_ROWS);
  const named = answer.boxes && colours(answer.boxes);
  const body = shown.map((cells, i) => {
    const colour = named ? named.get(answer.boxes[i].label) : colourOf(i), swatch = make("span", { class: "swatch" });
    swatch.style.background = colour;
    const row = make("tr", {}, ...cells.map((cell, c) => (c ? make("td", {}, cell) : make("th", { scope: "row" }, swatch, cell))));
    row.addEventListener("pointerenter", () => choose(i));
    row.addEventListener("pointerleave", () => choose(-1));
    return row;
  });
  const left = rows.length - shown.length;
  const whole = make(
    "table", {}, make("caption", { class: "aside" }, `What was found, ${order}`),
    make("thead", {}, make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column)))),
    make("tbody", {}, ...body, left ? make("tr", {}, make("td", { colspan: columns.length }, `and ${left} more`)) : null),
  );
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What was found" }, whole);
}

function bars(all) {
  const left = all.length - MOST_BARS;
  return make("ol", { class: "bars" }, ...all.slice(0, MOST_BARS).map(({ label, value, text }) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${Math.min(Math.max(value, 0), 1) * 100}%`;
    return make("li", {}, make("span", { class: "name" }, label), make("span", { class: "value" }, text), make("span", { class: "track" }, bar));
  }), left > 0 ? make("li", { class: "more" }, `and ${left} more`) : null);
}

function facts(numbers) {
  const length = Math.hypot(...numbers), told = (value) => value.toFixed(4);
  const rows = [
    ["numbers", `${numbers.length}`], ["length (L2)", told(length)], ["smallest", told(Math.min(...numbers))],
    ["largest", told(Math.max(...numbers))], ["first ones", `${numbers.slice(0, FIRST_NUMBERS).map(told).join("  ")} …`],
  ];
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/** The vector as stripes, one a number: two pictures of the same thing look alike in it. */
function strip(numbers) {
  const canvas = make("canvas", { class: "strip", width: numbers.length, height: 1, role: "img", "aria-label": "The vector as stripes" });
  const pen = canvas.getContext("2d"), most = Math.max(...numbers.map(Math.abs)) || 1;
  numbers.forEach((value, i) => {
    pen.fillStyle = value < 0 ? `rgba(180, 83, 9, ${-value / most})` : `rgba(14, 116, 144, ${value / most})`;
    pen.fillRect(i, 0, 1, 1);
  });
  return canvas;
}

function legend(answer, model) {
  const parts = [];
  if (answer.boxes?.some(({ points }) => points?.length)) {
    for (const [i, name] of model.keypoint_labels.entries()) {
      const dot = make("span", { class: "dot" });
      dot.style.background = pointColourOf(i);
      parts.push(make("li", {}, dot, name));
    }
  }
  $("legend").replaceChildren(...parts);
  show($("legend"), parts.length > 0);
  show($("scale"), Boolean(answer.depth));
}
