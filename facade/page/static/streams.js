/* A stream: objects are prompted on a picture and followed through the next ones, over one WebSocket. */

import { base, key, Refusal } from "./api.js";

const LOST = "The server closed the stream.";
const LOADING = "model_loading", PAUSE = 2000; // milliseconds until a model that is loading is asked again

/** A stream of the model under `path`, which begins with the first picture; see docs/models/sam2-rt.md. */
export class Stream {
  #address;
  #socket = null;
  #answered = []; // of each message without an answer: what to call with it, and with an error
  #seen = null;
  #turn = Promise.resolve();
  #ended = null; // why nothing more can be asked

  constructor(path) {
    this.#address = new URL(path.slice(1), base);
    this.#address.protocol = this.#address.protocol.replace("http", "ws");
    if (key.get()) this.#address.searchParams.set("api_key", key.get()); // a browser sends no header with a WebSocket
  }

  /**
   * The answer about `picture` with `settings`: it is the next frame unless it was the last one. Throws a Refusal.
   *
   * `waiting(sentence, seconds)` is told when a model is loading, and asked again.
   */
  ask(picture, settings, waiting = () => {}) {
    const asked = this.#turn.then(() => this.#ask(picture, settings, waiting));
    this.#turn = asked.catch(() => {});
    return asked;
  }

  /** Forget it here and on the server. */
  close() {
    this.#end(new Refusal(0, LOST));
    this.#socket?.close();
  }

  async #ask(picture, settings, waiting) {
    const frame = picture === this.#seen ? {} : { image: picture.base64 };
    for (;;) {
      const answer = await this.#send({ ...frame, ...settings });
      if (!answer.error) {
        this.#seen = picture;
        return answer;
      }
      if (answer.code !== LOADING) throw new Refusal(0, [answer.error, answer.hint].filter(Boolean).join(" "));
      waiting(answer.error, PAUSE / 1000);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  async #send(message) {
    if (!this.#socket && !this.#ended) await this.#open();
    if (this.#ended) throw this.#ended;
    return new Promise((resolve, reject) => {
      this.#answered.push({ resolve, reject });
      this.#socket.send(JSON.stringify(message));
    });
  }

  #open() {
    const socket = (this.#socket = new WebSocket(this.#address));
    socket.addEventListener("message", ({ data }) => this.#answered.shift()?.resolve(JSON.parse(data)));
    return new Promise((resolve) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("close", ({ reason }) => {
        this.#end(new Refusal(0, reason || LOST));
        resolve();
      });
    });
  }

  #end(refusal) {
    this.#ended ??= refusal;
    for (const one of this.#answered.splice(0)) one.reject(this.#ended);
  }
}
