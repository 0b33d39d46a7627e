"""A vision-language model as a whole: messages and pictures in, the answer in pieces out, many answers in one batch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import tokenizers

from tritonvision import memory
from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.python_backend.generation.answer import Answer
from tritonvision.python_backend.generation.answering import Engine, Messages
from tritonvision.python_backend.generation.decoder import Decoder, Piece
from tritonvision.python_backend.generation.encodings import Encodings
from tritonvision.python_backend.generation.grammar import Grammars
from tritonvision.python_backend.generation.prefixes import LIMIT, Content, Prefixes
from tritonvision.python_backend.generation.prompt import Picture, Prompt, Reader, Size, details
from tritonvision.python_backend.generation.sampling import Sampler
from tritonvision.python_backend.generation.scheduler import Cancelled, Job, Scheduler, fail, unloaded
from tritonvision.python_backend.generation.text_stream import TextStream
from tritonvision.python_backend.images import total
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.results import Delta

TOKENIZER = "tokenizer.json"
_LETTERS = 64  # a bound on the average length of a token in characters
_KEPT = 4  # earlier prompts take no more than this part of the room


class VlmEngine(Engine):
    """Holds the networks, the tokenizer and the threads that read prompts and generate.

    Args:
        sessions: the networks ``vision``, ``embed`` and ``decoder``.
        module: of the family's prompt, below ``python_backend/vlm``.
        options: of that module.
        assets: ``tokenizer.json``.
        working: a context manager around each unit of work (a turn of the scheduler, one picture, one run of the vision
            network), for a heartbeat that stops when a unit hangs.
        model: changes with everything that decides what the networks answer: a key of what is kept of pictures.
        room: bytes of all that is in memory of prompts and answers: keys and values of those that run, prompts of those
            that wait, and what is kept of earlier ones; None for half of the memory that is free now.
        kept: bytes of the last of these; a quarter of the room at most.
    """

    def __init__(
        self, sessions: Sessions, module: str, options: Mapping[str, Any], assets: Mapping[str, bytes],
        working: Callable[[], AbstractContextManager] = nullcontext, model: str = "", kept: int = LIMIT,
        room: int | None = None,
    ):  # fmt: skip
        self._sessions, self._working = sessions, working
        self._tokenizer = tokenizers.Tokenizer.from_str(assets[TOKENIZER].decode())
        family = importlib.import_module(f"tritonvision.python_backend.vlm.{module}")
        self._reader: Reader = family.Reader(options, self._tokenizer)
        self._decoder = Decoder(sessions["decoder"])
        with working():
            self._width = self._embed(np.zeros((1, 1), dtype=np.int64)).shape[-1]  # numbers of one token
        self._words: int = getattr(self._reader, "words", self._decoder.vocabulary)
        self._grammars = Grammars(self._tokenizer, self._words, self._reader.end_ids)
        cache = encoding_cache.of_server("encodings")
        self._encodings = Encodings(sessions, self._reader, model, cache, working)
        room = memory.free() // 2 if room is None else room
        kept = min(kept, room // _KEPT)
        self._prefixes = Prefixes(kept)
        self.scheduler = Scheduler(self._decoder, self._embed, working, self._prefixes, room - kept)
        self._prompts = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._closing = False

    def start(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """See :meth:`Engine.start`."""

        def prepare() -> None:
            try:
                self.scheduler.add(self._job(messages, pictures, settings, emit, failed, cancelled))
            except Exception as error:  # the thread's boundary: the error goes to the caller
                fail(failed, error)

        self._prompts.submit(prepare)

    def likeliest(self, messages: Messages, pictures: Sequence[np.ndarray], answer: Sequence[int]) -> list[int]:
        """The token with the largest logit at each place of ``answer`` (token ids), behind what is before it.

        Args:
            pictures: RGB uint8 ``[h,w,3]``.
        """
        given = [Picture.of(pixels) for pixels in pictures]
        sizes = [picture.size() for picture in given]
        prompt = self._reader.read(messages, sizes)
        kinds = prompt.details or details(messages)
        keys = [self._encodings.key(*one, [*prompt.injections.values()]) for one in zip(given, kinds, strict=True)]
        piece = self._piece(prompt, [*zip(keys, given, sizes, kinds, strict=True)], 0, lambda: False)
        logits, cache = self._decoder(self._decoder.empty(), piece)
        found = []
        for token in answer:
            found.append(int(logits[0].argmax()))
            logits, cache = self._decoder(cache, Piece(self._embed(np.array([[token]], dtype=np.int64))))
        return found

    def steps(self, past: int) -> Iterator[np.ndarray]:
        """Logits ``[1,V]`` of one token after another behind ``past`` tokens: what the bare decoder takes a step."""
        ids = np.arange(past)[None] % self._decoder.vocabulary
        _, cache = self._decoder(self._decoder.empty(), Piece(self._embed(ids)))
        token = self._embed(ids[:, :1])
        while True:
            logits, cache = self._decoder(cache, Piece(token))
            yield logits

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._closing = True
        self._prompts.shutdown()
        self.scheduler.close()

    def _job(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> Job:  # fmt: skip
        self._go_on(cancelled)
        if (settings["num_beams"] or 1) > 1:
            raise InvalidParameter(
                "This model writes token by token, without beams.", hint="Leave 'num_beams' out, or send 1."
            )
        text = TextStream(self._tokenizer, settings["stop"] or ())
        with self._working():
            sizes = [picture.size() for picture in pictures]
            total.check(sizes)  # one thread decodes for all callers
            prompt = self._read(messages, sizes)
            count = len(prompt.input_ids)
            most = min(settings["max_new_tokens"], self._reader.context - count)
            self.scheduler.check(count, most, self._held(prompt))
            kinds = prompt.details or details(messages)
            outputs = [*prompt.injections.values()]
            grammar = None if settings["schema"] is None else self._grammars.of(settings["schema"])
            keys = [self._encodings.key(*one, outputs) for one in zip(pictures, kinds, strict=True)]
            kept = self._prefixes.find(self._content(prompt, keys))
        read = 0 if kept is None else kept.tokens
        piece = self._piece(prompt, [*zip(keys, pictures, sizes, kinds, strict=True)], read, cancelled)
        if prompt.speaker is not None and (grammar is not None or settings["top_logprobs"] is not None):
            raise InvalidParameter("An answer in places has neither a schema nor log probabilities.")
        sampler = Sampler(settings, prompt.input_ids, self._words, grammar)
        told = None if settings["top_logprobs"] is None else partial(sampler.likelihoods, most=settings["top_logprobs"])
        masks = self._masks if "masks" in self._sessions else None
        answer = Answer(prompt.speaker or text, most, self._reader.end_ids, count, emit, masks, read, told)
        chooses = prompt.speaker or sampler
        content = self._content(prompt, keys)
        return Job(piece, chooses, answer.accept, failed, cancelled, content, kept, count + most)

    def _held(self, prompt: Prompt) -> int:
        """Bytes of what :meth:`_piece` makes of the whole of a prompt."""
        row = len(prompt.injections) * self._width * np.dtype(np.float32).itemsize
        return len(prompt.input_ids) * row + (0 if prompt.position_ids is None else prompt.position_ids.nbytes)

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

    def _content(self, prompt: Prompt, keys: Sequence[str]) -> Content:
        """What decides the keys and values of a prompt, as far as its pictures are known.

        Args:
            keys: of its pictures.
        """
        places = np.flatnonzero(prompt.input_ids == prompt.image_token)
        known, at, pictures = len(prompt.input_ids), 0, []
        for key in keys:
            count = self._encodings.count(key)
            if count is None or at + count > len(places):  # where the one after it begins is not known
                known = int(places[at]) if at < len(places) else known
                break
            pictures.append((int(places[at]), key))
            at += count
        return Content(prompt.input_ids, pictures, known, prompt.position_ids, prompt.bidirectional)

    def _piece(
        self, prompt: Prompt, pictures: Sequence[tuple[str, Picture, Size, str]], begin: int,
        cancelled: Callable[[], bool],
    ) -> Piece:  # fmt: skip
        """The decoder's inputs for the tokens from ``begin`` on: their embeddings, with the pictures' rows among them.

        Args:
            pictures: each with its key, its size and its ``detail``. Those before ``begin`` are not read.
        """
        with self._working():
            embeds = self._embed(prompt.input_ids[None, begin:])[0]
        places, outputs = np.flatnonzero(prompt.input_ids == prompt.image_token), [*prompt.injections.values()]
        inputs = {name: np.zeros_like(embeds) for name in prompt.injections}
        inputs["inputs_embeds"] = embeds.copy() if pictures else embeds  # the array belongs to onnxruntime
        at = 0
        for key, picture, size, kind in pictures:
            count = self._encodings.count(key)
            if count is not None and at + count <= len(places) and places[at + count - 1] < begin:
                at += count
                continue
            rows = self._encodings.rows(key, picture, size, kind, outputs, partial(self._go_on, cancelled))
            where = places[at : at + len(rows[outputs[0]])]
            if len(where) == len(rows[outputs[0]]):
                for name, output in prompt.injections.items():
                    inputs[name][where[where >= begin] - begin] = rows[output][where >= begin]
            at += len(rows[outputs[0]])
        if at != len(places):
            raise TritonVisionError("The prompt and its pictures do not fit together.")
        positions = prompt.position_ids
        return Piece(
            inputs.pop("inputs_embeds")[None],
            None if positions is None else positions[..., None, begin:],
            {name: rows[None] for name, rows in inputs.items()},
            0 if begin else prompt.bidirectional,
        )

    def _embed(self, input_ids: np.ndarray) -> np.ndarray:
        return self._sessions("embed", {"input_ids": input_ids}, ["inputs_embeds"])["inputs_embeds"]

    def _masks(self, token_ids: Sequence[int]) -> np.ndarray | None:
        """The masks that an answer spells, see :class:`tritonvision.results.Delta`."""
        codes = self._reader.codes(token_ids)
        if not len(codes):
            return None
        masks = self._sessions("masks", {"codes": codes}, ["masks"])["masks"]
        return (np.clip(masks * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8)

    def _go_on(self, cancelled: Callable[[], bool]) -> None:
        """Raises Cancelled when the caller cancelled, ServerUnavailable when the engine closes."""
        if cancelled():
            raise Cancelled
        if self._closing:
            raise unloaded()
