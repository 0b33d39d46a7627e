"""A vision-language model of an encoder and a decoder: one question at a time, its answer searched for as a whole."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import tokenizers

from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.python_backend.generation import beams
from tritonvision.python_backend.generation.answering import Engine, Messages
from tritonvision.python_backend.generation.encodings import Encodings
from tritonvision.python_backend.generation.prompt import Picture, Prompt, Size
from tritonvision.python_backend.generation.sampling import Sampler
from tritonvision.python_backend.generation.scheduler import Cancelled, fail, unloaded
from tritonvision.python_backend.generation.text_stream import check_stops
from tritonvision.python_backend.images import total
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.results import Delta

TOKENIZER = "tokenizer.json"
_SIGN = 10.0  # seconds after which an empty piece tells that the search goes on: a stream that pauses is given up
_ROWS = "image_embeds"


class Reader(Protocol):
    """A family's prompt: ``Reader(options, tokenizer)`` of ``python_backend/vlm/<family>.py``.

    Attributes:
        positions: most tokens that the decoder writes.
    """

    positions: int

    def read(self, messages: Messages, sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation, which is about its last picture; see :class:`prompt.Reader`."""

    def vision_inputs(self, picture: np.ndarray, detail: str = "") -> Mapping[str, np.ndarray]:
        """Inputs of the vision network for one picture, RGB uint8 ``[h,w,3]``, batch axis first; one resolution."""

    def written(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens."""


class SearchEngine(Engine):
    """Holds the networks, the tokenizer and the thread that answers.

    Args:
        sessions: the networks ``vision`` (a picture -> ``image_embeds`` ``[1,R,H]``), ``encoder`` (``input_ids``
            ``[1,S]`` and ``image_embeds`` -> keys and values of every layer's cross attention) and ``decoder``.
        module: of the family's prompt, below ``python_backend/vlm``.
        options: of that module, and ``layers`` of the decoder.
        assets: ``tokenizer.json`` and :data:`beams.SEARCH`, the settings of the search as the checkpoint has them.
        working, model: see :class:`engine.VlmEngine`.
    """

    def __init__(
        self, sessions: Sessions, module: str, options: Mapping[str, Any], assets: Mapping[str, bytes],
        working: Callable[[], AbstractContextManager] = nullcontext, model: str = "",
    ):  # fmt: skip
        self._sessions, self._working = sessions, working
        family = importlib.import_module(f"tritonvision.python_backend.vlm.{module}")
        tokenizer = tokenizers.Tokenizer.from_str(assets[TOKENIZER].decode())
        self._reader: Reader = family.Reader(options, tokenizer)
        self._search = beams.Search(**beams.read_search(assets[beams.SEARCH]))
        self._cross = [f"cross.{n}.{part}" for n in range(options["layers"]) for part in ("key", "value")]
        self._answers = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._closing = False
        self._encodings = Encodings(sessions, self._reader, model, encoding_cache.of_server("encodings"), working)

    def start(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """See :meth:`Engine.start`; an answer is one piece, before which empty ones may come."""

        def go_on() -> None:
            if cancelled():
                raise Cancelled
            if self._closing:
                raise unloaded()

        def answer() -> None:
            try:
                emit(self._answer(messages, pictures, settings, emit, go_on))
            except Exception as error:  # the thread's boundary: the error goes to the caller
                fail(failed, error)

        self._answers.submit(answer)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._closing = True
        self._answers.shutdown()

    def _answer(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], go_on: Callable[[], None],
    ) -> Delta:  # fmt: skip
        go_on()
        search, stops = self._search_of(settings), check_stops(settings["stop"] or ())
        with self._working():
            sizes = [picture.size() for picture in pictures]
            total.check(sizes)
            prompt = self._reader.read(messages, sizes)
        rows = self._rows(pictures[-1], sizes[-1], go_on)
        text = prompt.input_ids[prompt.input_ids != prompt.image_token]
        go_on()
        with self._working():
            cross = self._sessions("encoder", {"input_ids": text[None], _ROWS: rows}, self._cross)
        decoder, told = beams.Decoder(self._sessions, cross), time.monotonic()

        def step(ids: np.ndarray, origins: np.ndarray) -> np.ndarray:
            nonlocal told
            go_on()
            if time.monotonic() - told > _SIGN:
                emit(Delta("", np.zeros(0, dtype=np.int64), "", (len(prompt.input_ids), 0)))
                told = time.monotonic()
            with self._working():
                return decoder(ids, origins)

        ids = beams.search(step, search, self._choice(settings))
        said, stopped = _before(self._reader.written(ids.tolist()), stops)
        ended = stopped or (ids[-1] in search.ends and not (search.last and len(ids) == search.most))
        return Delta(said, ids, "stop" if ended else "length", (len(prompt.input_ids), len(ids)))

    def _search_of(self, settings: Mapping[str, Any]) -> beams.Search:
        """The checkpoint's search with what the request asks for; one row where tokens are not taken by score alone."""
        for name in ("schema", "top_logprobs"):
            if settings[name] is not None:
                raise NotSupported(f"This model searches for its whole answer, and knows no '{name}'.")
        count, alone = settings["num_beams"], _chosen(settings)
        if alone and (count or 1) > 1:
            raise InvalidParameter(
                "Beams follow the likeliest texts, so they go with a temperature of 0 and no repetition penalty.",
                hint="Leave 'num_beams' out, or 'temperature' and 'repetition_penalty'.",
            )
        most = min(settings["max_new_tokens"], self._reader.positions)
        return replace(self._search, most=most, beams=1 if alone else count or self._search.beams)

    def _choice(self, settings: Mapping[str, Any]) -> Callable[[np.ndarray], int] | None:
        """How a token is chosen of logits ``[V]``, or None where the search does it."""
        if not _chosen(settings):
            return None
        sampler: list[Sampler] = []  # made of the first logits, which tell the size of the vocabulary

        def choose(logits: np.ndarray) -> int:
            if not sampler:
                sampler.append(Sampler(settings, np.array([self._search.start]), len(logits)))
            return sampler[0](logits)

        return choose

    def _rows(self, picture: Picture, size: Size, go_on: Callable[[], None]) -> np.ndarray:
        """``image_embeds`` float32 ``[1,R,H]`` of one picture."""
        key = self._encodings.key(picture, "", [_ROWS])
        return self._encodings.rows(key, picture, size, "", [_ROWS], go_on)[_ROWS][None]


def _chosen(settings: Mapping[str, Any]) -> bool:
    return settings["temperature"] > 0 or settings["repetition_penalty"] != 1


def _before(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the stop text that is complete first, and whether there is one."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(found)[1]], True) if found else (text, False)
