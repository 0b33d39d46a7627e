"""A vision-language model as a whole: messages and pictures in, the answer in pieces out, many answers in one batch."""

from __future__ import annotations

import hashlib
import importlib
import queue
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tokenizers

from tritonvision.errors import InvalidParameter, InvalidPicture, TritonVisionError
from tritonvision.python_backend.generation.decoder import Decoder, Piece
from tritonvision.python_backend.generation.prompt import Picture, Prompt, Reader, Size
from tritonvision.python_backend.generation.sampling import Sampler
from tritonvision.python_backend.generation.scheduler import Cancelled, Job, Scheduler, fail, unloaded
from tritonvision.python_backend.generation.text_stream import TextStream
from tritonvision.python_backend.images import total
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.results import Delta

TOKENIZER = "tokenizer.json"
_TILES = 4  # tiles in one run of the vision network; cancelling takes effect between two runs
_LETTERS = 64  # a bound on the average length of a token in characters
_PICTURES = 32  # pictures whose encodings are cached: a conversation sends its pictures again with every question

Messages = Sequence[Mapping[str, Any]]


class VlmEngine:
    """Holds the networks, the tokenizer and the threads that read prompts and generate.

    Args:
        sessions: the networks ``vision``, ``embed`` and ``decoder``.
        module: of the family's prompt, below ``python_backend/vlm``.
        options: of that module.
        assets: ``tokenizer.json``.
        working: a context manager around each unit of work (a turn of the scheduler, one picture, one run of the vision
            network), for a heartbeat that stops when a unit hangs.
    """

    def __init__(
        self, sessions: Sessions, module: str, options: Mapping[str, Any], assets: Mapping[str, bytes],
        working: Callable[[], AbstractContextManager] = nullcontext,
    ):  # fmt: skip
        self._sessions, self._working = sessions, working
        self._tokenizer = tokenizers.Tokenizer.from_str(assets[TOKENIZER].decode())
        family = importlib.import_module(f"tritonvision.python_backend.vlm.{module}")
        self._reader: Reader = family.Reader(options, self._tokenizer)
        self._decoder = Decoder(sessions["decoder"])
        self.scheduler = Scheduler(self._decoder, self._embed, working)
        self._prompts = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._closing = False
        self._encoded: OrderedDict[bytes, Mapping[str, np.ndarray]] = OrderedDict()

    def start(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Begin an answer and return at once; ``emit`` and ``failed`` are called from other threads.

        Every answer ends exactly once: by a piece with a ``finish_reason``, or a call of ``failed``.

        Args:
            messages: see :meth:`Reader.read`.
            settings: of the task, resolved.
            emit: called with every piece, of which the last one has a ``finish_reason``.
            failed: called with the error, and no piece follows; Cancelled when the caller cancelled.
            cancelled: whether the caller cancelled; checked before every picture, tile and token.

        Raises:
            RuntimeError: after :meth:`close`.
        """

        def prepare() -> None:
            try:
                self.scheduler.add(self._job(messages, pictures, settings, emit, failed, cancelled))
            except Exception as error:  # the thread's boundary: the error goes to the caller
                fail(failed, error)

        self._prompts.submit(prepare)

    def talk(
        self, messages: Messages, pictures: Sequence[np.ndarray], settings: Mapping[str, Any]
    ) -> Iterator[Delta]:
        """The pieces of one answer about pictures, RGB uint8 ``[h,w,3]``. Closing the iterator cancels the answer."""
        pieces: queue.SimpleQueue[Delta | Exception] = queue.SimpleQueue()
        left = False
        self.start(messages, [*map(Picture.of, pictures)], settings, pieces.put, pieces.put, lambda: left)
        try:
            while True:
                piece = pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason:
                    return
        finally:
            left = True

    def close(self) -> None:
        """End the threads; answers that are not finished fail with ServerUnavailable."""
        self._closing = True
        self._prompts.shutdown()
        self.scheduler.close()

    def _job(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> Job:  # fmt: skip
        self._go_on(cancelled)
        text = TextStream(self._tokenizer, settings["stop"] or ())
        with self._working():
            sizes = [picture.size() for picture in pictures]
            total.check(sizes)  # one thread decodes for all callers
            prompt = self._read(messages, sizes)
        piece = self._piece(prompt, pictures, sizes, cancelled)
        count = len(prompt.input_ids)
        most = min(settings["max_new_tokens"], self._reader.context - count)
        answer = Answer(text, most, self._reader.end_ids, count, emit)
        sampler = Sampler(settings, prompt.input_ids, self._decoder.vocabulary)
        return Job(piece, sampler, answer.accept, failed, cancelled)

    def _read(self, messages: Messages, sizes: Sequence[Size]) -> Prompt:
        # a text that cannot fit is refused before it is tokenized, which would delay all other prompts
        parts = [part for message in messages for part in message["content"]]
        letters = sum(len(part.get("text", "")) for part in parts)
        for count, unit, most in (
            (letters, "characters", _LETTERS * self._reader.context),
            (max(len(messages), len(parts)), "messages or parts of them", self._reader.context),
        ):
            if count > most:
                raise InvalidParameter(
                    f"The prompt has {count} {unit}; the model reads {self._reader.context} tokens.",
                    hint="Shorten the conversation.",
                )
        return self._reader.read(messages, sizes)

    def _piece(
        self, prompt: Prompt, pictures: Sequence[Picture], sizes: Sequence[Size], cancelled: Callable[[], bool]
    ) -> Piece:
        """The decoder's inputs for the prompt: embeddings of its tokens, with the pictures' rows in their places."""
        with self._working():
            embeds = self._embed(prompt.input_ids[None])[0]
        places = np.flatnonzero(prompt.input_ids == prompt.image_token)
        outputs = [*prompt.injections.values()]
        seen = [self._encode(*picture, outputs, cancelled) for picture in zip(pictures, sizes, strict=True)]
        if sum(len(rows[outputs[0]]) for rows in seen) != len(places):
            raise TritonVisionError("The prompt and its pictures do not fit together.")
        inputs = {name: np.zeros_like(embeds) for name in prompt.injections} | {"inputs_embeds": embeds}
        if seen:
            for name, output in prompt.injections.items():
                inputs[name] = inputs[name].copy()  # the array belongs to onnxruntime
                inputs[name][places] = np.concatenate([rows[output] for rows in seen])
        positions = prompt.position_ids
        return Piece(
            inputs.pop("inputs_embeds")[None],
            None if positions is None else positions[..., None, :],
            {name: rows[None] for name, rows in inputs.items()},
            prompt.bidirectional,
        )

    def _embed(self, input_ids: np.ndarray) -> np.ndarray:
        return self._sessions("embed", {"input_ids": input_ids}, ["inputs_embeds"])["inputs_embeds"]

    def _encode(
        self, picture: Picture, size: Size, outputs: Sequence[str], cancelled: Callable[[], bool]
    ) -> Mapping[str, np.ndarray]:
        """float32 (n, H) of each of the vision network's ``outputs`` for one picture, a few tiles at a time.

        Its pixels are freed before the network runs, and the pictures of a request are decoded one at a time.
        """
        self._go_on(cancelled)
        with self._working():
            pixels = picture.decode()
            if pixels.shape[:2] != size:
                raise InvalidPicture("The picture's header tells another size than its pixels have.")
            inputs = self._reader.vision_inputs(pixels)
            del pixels
            key = _digest(inputs)
        if key not in self._encoded:
            tiles, parts = len(next(iter(inputs.values()))), []
            for begin in range(0, tiles, _TILES):
                self._go_on(cancelled)
                some = {name: value[begin : begin + _TILES] for name, value in inputs.items()}
                with self._working():
                    parts.append(self._sessions("vision", some, outputs))
            whole = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
            self._encoded[key] = {name: rows.reshape(-1, rows.shape[-1]) for name, rows in whole.items()}
            if len(self._encoded) > _PICTURES:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key]

    def _go_on(self, cancelled: Callable[[], bool]) -> None:
        """Raises Cancelled when the caller cancelled, ServerUnavailable when the engine closes."""
        if cancelled():
            raise Cancelled
        if self._closing:
            raise unloaded()


def _digest(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape} ".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.digest()


class Answer:
    """Turns the tokens of one answer into pieces of text, until an end token, a stop text or the limit of tokens.

    Args:
        most: tokens it may have.
        end_ids: tokens that end it.
        prompt: tokens of its prompt.
        emit: called with every piece.
    """

    def __init__(
        self, text: TextStream, most: int, end_ids: Sequence[int], prompt: int, emit: Callable[[Delta], None]
    ):  # fmt: skip
        self._text, self._most, self._end_ids, self._prompt, self._emit = text, most, end_ids, prompt, emit
        self._count = 0
        self._pending: list[int] = []

    def accept(self, token: int) -> bool:
        """Take the next token and emit the text that it completes. Returns whether the answer continues."""
        self._count += 1
        self._pending.append(token)
        ended = token in self._end_ids
        text = "" if ended else self._text.push(token)
        reason = "stop" if ended or self._text.stopped else "length" if self._count >= self._most else ""
        if reason:
            text += self._text.flush()
        if text or reason:
            ids = np.array(self._pending, dtype=np.int64)
            self._emit(Delta(text, ids, reason, (self._prompt, self._count)))
            self._pending = []
        return not reason
