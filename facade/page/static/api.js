/* What the page asks of the server: the list of models, one question at a time, and an answer that is being written. */

const KEY = "tritonvision-key";
const UNREACHABLE = "The server does not answer. Is it still running?";

/** The page's own address; routes lie beside it, also behind a proxy that serves it below a path. */
export const base = new URL(".", document.baseURI);

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** The server said no: `status`, and its own sentence as the message. */
export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Everything there is to ask, see GET /models. */
export async function models() {
  return (await send("models", { method: "GET" })).json();
}

/**
 * The response to one question, once there is one.
 *
 * While the server says 503 and when to come back, it is asked again, and `waiting(sentence, seconds)` is told.
 */
export async function ask(path, body, { signal, waiting }) {
  const options = { method: "POST", body: JSON.stringify(body), signal, headers: { "Content-Type": "application/json" } };
  for (;;) {
    try {
      return await send(path.slice(1), options);
    } catch (error) {
      if (error.status !== 503 || !error.retryAfter) throw error;
      waiting(error.message, error.retryAfter);
      await pause(error.retryAfter * 1000, signal);
    }
  }
}

/** The objects of a stream of server-sent events, as they come; the closing mark is left out. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.replace(/^data: ?/, "");
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Refusal(200, sentenceOf(event));
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have been cancelled with the request
  }
}

async function send(path, options) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(0, UNREACHABLE);
  }
  if (response.ok) return response;
  const said = await response.text();
  const refusal = new Refusal(response.status, sentenceOf(parsed(said)) || `The server answered ${response.status}.`);
  refusal.retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw refusal;
}

/** The sentence in an error of any dialect, or nothing. */
function sentenceOf(body) {
  if (Array.isArray(body?.detail)) {
    return body.detail.map(({ loc, msg }) => [loc.slice(1).join("."), msg].filter(Boolean).join(": ")).join("; ");
  }
  return body?.message ?? body?.error?.message ?? body?.error ?? "";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
