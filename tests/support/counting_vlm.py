"""A vision-language model over networks small enough to follow, and callers of its engine."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
from onnxruntime import OrtValue

from tritonvision.tasks import VLM, resolve

SPECIAL = {token: id for id, token in enumerate([
    "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
])}  # fmt: skip
TILE, LONGEST, TOKENS, VOCABULARY, WIDTH = 32, 128, 4, 400, 3
OPTIONS = {
    "tile": TILE, "longest_edge": LONGEST, "tokens_per_tile": TOKENS, "image_token": SPECIAL["<image>"],
    "end_ids": [SPECIAL["<end_of_utterance>"]], "context": 800,
}  # fmt: skip


class Networks:
    """An embedding is (id, 0, 1); a tile is (-1, its mean, 1) four times; the token after ``id`` is ``id + 1``."""

    def __init__(self):
        self.tiles, self.prompts, self.before = [], [], lambda role: None

    def run(self, outputs, inputs):
        if "image_embeds" in outputs:
            self.before("vision")
            self.tiles.append(len(inputs["pixels"]))
            tiles = np.stack([[-1, mean, 1] for mean in inputs["pixels"].mean((1, 2, 3))])
            rows = np.repeat(tiles[:, None], TOKENS, 1).astype(np.float32)
            found = {"image_embeds": rows, "deep": rows + 100}
            return [found[name] for name in outputs]
        self.before("embed")
        ids = inputs["input_ids"].astype(np.float32)
        return [np.stack([ids, 0 * ids, 0 * ids + 1], -1)]

    def get_inputs(self):
        return [SimpleNamespace(name="past_key_values.0.key", shape=["b", 1, "p", WIDTH])]

    def get_outputs(self):
        return [SimpleNamespace(name="logits", shape=["b", VOCABULARY])]

    def run_with_ort_values(self, names, feeds):
        self.before("decoder")
        embeds, past = feeds["inputs_embeds"].numpy(), feeds["past_key_values.0.key"].numpy()
        if embeds.shape[1] > 1:
            self.prompts.append(embeds[0].copy())
        logits = np.zeros((len(embeds), VOCABULARY), np.float32)
        logits[np.arange(len(embeds)), embeds[:, -1, 0].astype(int) + 1] = 1
        # onnxruntime owns what a session answers, but not what it was made of here
        self.kept = [logits, np.concatenate([past, embeds[:, None]], 2)]
        return [OrtValue.ortvalue_from_numpy(value) for value in self.kept]


def asks(text, pictures=0):
    return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]


def settings(**given):
    return resolve(VLM.parameters, {"max_new_tokens": 3, **given})


def grey(value, height=32, width=32):
    return np.full((height, width, 3), value, np.uint8)


class Caller:
    """Collects what an answer says until it ends."""

    def __init__(self):
        self.deltas, self.error, self.ends, self.done, self.left = [], None, 0, threading.Event(), False

    def emit(self, delta):
        self.deltas.append(delta)
        if delta.finish_reason:
            self.end()

    def failed(self, error):
        self.error = error
        self.end()

    def end(self):
        self.ends += 1
        self.done.set()

    def ask(self, engine, messages, pictures=(), **given):
        engine.start(messages, pictures, settings(**given), self.emit, self.failed, lambda: self.left)
        return self

    def wait(self):
        assert self.done.wait(20)
        assert self.ends == 1
        return self.error


def never():
    raise AssertionError("the picture was decoded")
