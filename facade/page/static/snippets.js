/* The same question as lines to copy: for a shell with curl, and for Python. The picture is read from its file. */

import { FOLLOWED } from "./questions.js";

const VARIABLE = "TRITONVISION_API_KEY";

/** A shell command that sends `request` (see questions.js). A key comes from the environment, never into the text. */
export function curl(request, base, file, { type, keyed }) {
  if (request.upload && !/[";,\\]/.test(file)) return upload(request.upload, base, file, keyed);
  const [before, after] = around(request, type, JSON.stringify);
  const options = ["-H 'Content-Type: application/json'"];
  if (keyed) options.push(bearer());
  return [
    `{ printf %s ${quoted(before)}`, `  base64 < ${quoted(file)} | tr -d '\\n'`, `  printf %s ${quoted(after)}`,
    `} | curl -sS${request.streams ? "N" : ""} ${quoted(url(base, request.path))} \\`,
    `  ${options.join(" \\\n  ")} --data-binary @-`,
  ].join("\n");
}

/** One line, where the file alone says everything; curl reads signs of its own in the names of files. */
function upload(path, base, file, keyed) {
  return `curl -sS ${keyed ? `${bearer()} ` : ""}-F ${quoted(`file=@${file}`)} ${quoted(url(base, path))}`;
}

function bearer() {
  return `-H "Authorization: Bearer $${VARIABLE}"`;
}

/** A Python program that sends it: with requests, or with OpenAI's client where the route is OpenAI's; `film`, a video, from `seconds` on. */
export function python(request, base, file, { type, keyed, film, seconds }) {
  if (request.follows) return follower(request, base, file, { keyed, seconds });
  if (film) return frames(request, base, film, { keyed, seconds });
  const head = [...(keyed ? ["import os"] : []), "import base64", ""].sort((a, b) => !a - !b || a.localeCompare(b));
  const opened = [`with open(${JSON.stringify(file)}, "rb") as file:`, "    picture = base64.b64encode(file.read()).decode()", ""];
  const key = keyed ? `os.environ["${VARIABLE}"]` : '"any"';
  if (request.streams) return [...head, "from openai import OpenAI", "", ...opened, ...chat(request, base, type, key)].join("\n");
  const headers = keyed ? [`    headers={"Authorization": "Bearer " + ${key}},`] : [];
  return [
    ...head, "import requests", "", ...opened, "answer = requests.post(", `    ${JSON.stringify(url(base, request.path))},`,
    ...headers, `    json=${literal(body(request, type), 1)},`, "    timeout=300,", ")", "answer.raise_for_status()",
    "print(answer.json())",
  ].join("\n");
}

/** The frames of a video from `seconds` on, each a question of its own. */
function frames(request, base, film, { keyed, seconds = 0 }) {
  const headers = keyed ? `, headers={"Authorization": "Bearer " + os.environ["${VARIABLE}"]}` : "";
  return [
    ...(keyed ? ["import os"] : []), "import base64", "", "import cv2", "import requests", "", ...opening(film, seconds), "while True:",
    "    there, frame = film.read()", "    if not there:", "        break",
    '    picture = base64.b64encode(cv2.imencode(".jpg", frame)[1]).decode()', "    answer = requests.post(",
    `        ${JSON.stringify(url(base, request.path))}${headers},`, `        json=${literal(body(request, "image/jpeg"), 2)},`,
    "        timeout=300,", "    )", "    answer.raise_for_status()", "    print(answer.json())",
  ].join("\n");
}

function opening(file, seconds) {
  const there = seconds ? [`film.set(cv2.CAP_PROP_POS_MSEC, ${Math.round(seconds * 1000)})`] : [];
  return [`film = cv2.VideoCapture(${JSON.stringify(file)})`, ...there];
}

/** The frames of a video from `seconds` on, or the one picture that the file is, on a WebSocket: OpenCV reads both. */
function follower(request, base, file, { keyed, seconds = 0 }) {
  const address = url(base, request.path).replace(/^http/, "ws");
  const whole = keyed ? `${JSON.stringify(`${address}?api_key=`)} + os.environ["${VARIABLE}"]` : JSON.stringify(address);
  return [
    ...(keyed ? ["import os"] : []), "import base64", "import json", "", "import cv2", "from websockets.sync.client import connect", "",
    `prompt = ${literal(request.body({ base64: "" }), 0)}`, ...opening(file, seconds),
    `with connect(${whole}, max_size=None) as socket:`, "    while True:", "        there, frame = film.read()",
    "        if not there:", "            break", '        picture = base64.b64encode(cv2.imencode(".png", frame)[1]).decode()',
    '        socket.send(json.dumps({"image": picture, **prompt}))', "        print(json.loads(socket.recv()))",
    `        prompt = ${literal(FOLLOWED, 2)}`,
  ].join("\n");
}

// What OpenAI's client has no argument for.
const OURS = ["top_k", "repetition_penalty", "places"];

function chat(request, base, type, key) {
  const all = Object.entries(body(request, type)), extra = Object.fromEntries(all.filter(([name]) => OURS.includes(name)));
  const given = all.filter(([name]) => !OURS.includes(name)).map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  if (Object.keys(extra).length) given.push(`    extra_body=${literal(extra, 1)},`);
  return [
    `client = OpenAI(base_url=${JSON.stringify(url(base, "/v1"))}, api_key=${key})`,
    "stream = client.chat.completions.create(", ...given, ")", "for chunk in stream:",
    '    print(chunk.choices[0].delta.content or "", end="", flush=True)', "print()",
  ];
}

// ---- a body with a hole where the picture belongs --------------------------------------------------------------------

const HOLE = `picture-${Math.random().toString(36).slice(2)}`;

function body(request, type) {
  return request.body({ base64: HOLE, type });
}

function around(request, type, written) {
  return written(body(request, type)).split(HOLE);
}

function url(base, path) {
  return new URL(path.slice(1), base).href;
}

/** A word of a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A JSON value as Python writes it; the picture is the variable of that name. */
function literal(value, depth) {
  const inner = "    ".repeat(depth + 1), outer = "    ".repeat(depth);
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string" && value.includes(HOLE)) {
    const [before] = value.split(HOLE);
    return before ? `${JSON.stringify(before)} + picture` : "picture";
  }
  if (typeof value !== "object") return JSON.stringify(value); // a JSON string is a Python string
  const list = Array.isArray(value);
  const items = list
    ? value.map((item) => literal(item, depth + 1))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, depth + 1)}`);
  const [open, close] = list ? "[]" : "{}", flat = `${open}${items.join(", ")}${close}`;
  if (flat.length + outer.length < 88 && !flat.includes("\n")) return flat;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${outer}${close}`;
}
