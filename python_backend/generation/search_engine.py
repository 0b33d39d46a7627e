"""A vision-language model of an encoder and a decoder: an answer is searched for as a whole, several at a time."""

from __future__ import annotations

import importlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import tokenizers

from tritonvision import memory
from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.python_backend.generation import beams
from tritonvision.python_backend.generation.answering import Engine, Messages
from tritonvision.python_backend.generation.decoder import COPIES
from tritonvision.python_backend.generation.encodings import Encodings
from tritonvision.python_backend.generation.grammar import Branches, Grammars
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
_TOGETHER = 8  # answers that are searched for in one batch
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


@dataclass(eq=False)
class _Answer:
    """One answer: what was asked, see :meth:`Engine.start`, and what has become of it.

    Attributes:
        steps: of its search; ``asked`` is what the next one is of.
        width: rows that it had in the step before; 1 before the first.
        told: when its caller last heard of it.
    """

    messages: Messages
    pictures: Sequence[Picture]
    settings: Mapping[str, Any]
    emit: Callable[[Delta], None]
    failed: Callable[[Exception], None]
    cancelled: Callable[[], bool]
    prompt: Prompt | None = None
    sizes: Sequence[Size] = ()
    search: beams.Search = field(init=False)
    stops: Sequence[str] = ()
    allowed: Branches | None = None
    cross: Mapping[str, np.ndarray] = field(default_factory=dict)
    steps: beams.Steps = field(init=False)
    asked: tuple[np.ndarray, np.ndarray] = field(init=False)
    width: int = 1
    told: float = field(default_factory=time.monotonic)

    @property
    def length(self) -> int:
        """Tokens of the prompt, the picture's included."""
        return 0 if self.prompt is None else len(self.prompt.input_ids)


class SearchEngine(Engine):
    """Holds the networks, the tokenizer and the thread that answers.

    Args:
        sessions: the networks ``vision`` (a picture -> ``image_embeds`` ``[1,R,H]``), ``encoder`` (``input_ids``
            ``[1,S]`` and ``image_embeds`` -> keys and values of every layer's cross attention) and ``decoder``.
        module: of the family's prompt, below ``python_backend/vlm``.
        options: of that module, ``layers`` of the decoder, and ``masked``: whether it has the input :data:`beams.MASK`;
            without, as models had it that were published before, only prompts of one length are answered together.
        assets: ``tokenizer.json`` and :data:`beams.SEARCH`, the settings of the search as the checkpoint has them.
        working, model: see :class:`engine.VlmEngine`.
        room: bytes that keys and values of the answers that are searched for together may take; None for half of the
            memory that is free now.
    """

    def __init__(
        self, sessions: Sessions, module: str, options: Mapping[str, Any], assets: Mapping[str, bytes],
        working: Callable[[], AbstractContextManager] = nullcontext, model: str = "", room: int | None = None,
    ):  # fmt: skip
        self._sessions, self._working = sessions, working
        self._room = memory.free() // 2 if room is None else room
        family = importlib.import_module(f"tritonvision.python_backend.vlm.{module}")
        tokenizer = tokenizers.Tokenizer.from_str(assets[TOKENIZER].decode())
        self._reader: Reader = family.Reader(options, tokenizer)
        self._search = beams.Search(**beams.read_search(assets[beams.SEARCH]))
        self._grammars = Grammars(tokenizer, tokenizer.get_vocab_size(True), self._search.ends)
        self._masked: bool = options.get("masked", False)
        self._cross = [f"cross.{n}.{part}" for n in range(options["layers"]) for part in ("key", "value")]
        self._encodings = Encodings(sessions, self._reader, model, encoding_cache.of_server("encodings"), working)
        self._waiting: deque[_Answer] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="answers")
        self._thread.start()

    def start(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """See :meth:`Engine.start`; an answer is one piece, before which empty ones may come."""
        with self._change:
            if self._closing:
                raise RuntimeError("the engine is closed")
            self._waiting.append(_Answer(messages, pictures, settings, emit, failed, cancelled))
            self._change.notify()

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    break
            self._write(self._encode(self._batch()))
        for answer in self._waiting:
            fail(answer.failed, unloaded())

    def _batch(self) -> list[_Answer]:
        """The answer that waits longest, and others that the decoder can write together with it: by searches of one
        width.
        """
        with self._change:
            waiting = [*self._waiting]
        batch: list[_Answer] = []
        for answer in waiting:
            if len(batch) == _TOGETHER or not self._is_read(answer):
                continue
            alike = ((one.search.beams, 0 if self._masked else one.length) for one in (answer, *batch[:1]))
            if len({*alike}) == 1:
                batch.append(answer)
        with self._change:
            for answer in batch:
                self._waiting.remove(answer)
        return batch

    def _is_read(self, answer: _Answer) -> bool:
        """Read the prompt of an answer, once; where it is refused, the answer has failed and waits no longer."""
        if answer.prompt is not None:
            return True
        with self._of(answer):
            answer.search = self._search_of(answer.settings)
            answer.stops = check_stops(answer.settings["stop"] or ())
            if answer.settings["schema"] is not None:
                answer.allowed = Branches(self._grammars.of(answer.settings["schema"]), self._search.ends)
            with self._working():
                answer.sizes = [picture.size() for picture in answer.pictures]
                total.check(answer.sizes)
                answer.prompt = self._reader.read(answer.messages, answer.sizes)
            return True
        with self._change:
            self._waiting.remove(answer)
        return False

    def _encode(self, batch: Sequence[_Answer]) -> list[_Answer]:
        """Those of a batch whose picture and prompt could be encoded; the others have failed, or wait again where there
        is no room for them beside those before them.
        """
        encoded: list[_Answer] = []
        for number, answer in enumerate(batch):
            if encoded and self._wanted(encoded[0].cross, [*encoded, answer]) > self._room:
                with self._change:
                    self._waiting.extendleft(reversed(batch[number:]))
                break
            self._look_after_those_that_wait()
            with self._of(answer):
                assert answer.prompt is not None, "it is read"
                rows = self._rows(answer)
                text = answer.prompt.input_ids[answer.prompt.input_ids != answer.prompt.image_token]
                self._check(answer)
                with self._working():
                    given = {"input_ids": text[None], _ROWS: rows}
                    answer.cross = self._sessions("encoder", given, self._cross)
                self._require_room(answer)
                answer.steps = beams.steps(answer.search, self._choice(answer.settings), answer.allowed)
                answer.asked = next(answer.steps)
                encoded.append(answer)
        return encoded

    def _require_room(self, answer: _Answer) -> None:
        """Raise InvalidParameter where the keys and values of an answer have no room, even alone."""
        wanted = self._wanted(answer.cross, [answer])
        if wanted > self._room:
            answer.cross = {}
            search = answer.search
            raise InvalidParameter(
                f"{search.beams} texts of up to {search.most} tokens take {wanted / 1e9:.1f} GB of keys and values; "
                f"{self._room / 1e9:.1f} GB are for them.",
                hint="Let fewer tokens be written, or follow fewer beams.",
            )

    @staticmethod
    def _wanted(cross: Mapping[str, np.ndarray], answers: Sequence[_Answer]) -> int:
        """Bytes of keys and values of answers that are searched for together, all padded to the longest.

        Args:
            cross: of one of them: what they tell the size of a token's.
        """
        token = sum(value.nbytes // value.shape[2] for value in cross.values())
        read, written = max(answer.length for answer in answers), max(answer.search.most for answer in answers)
        return COPIES * token * len(answers) * (read + answers[0].search.beams * written)

    def _write(self, running: list[_Answer]) -> None:
        """Search for answers together; of ``running`` those are left that have not ended."""
        try:
            self._search_for(running)
        except Exception as error:  # of a step, or of memory for it: all that it was of
            for answer in running:
                fail(answer.failed, error)

    def _search_for(self, running: list[_Answer]) -> None:
        """Each step of all answers at once, until the last has ended."""
        if not running:
            return
        cross, mask = _together([answer.cross for answer in running])
        decoder = beams.Decoder(self._sessions, cross, mask if self._masked else None)
        for answer in running:
            answer.cross = {}
        places = [*range(len(running))]  # of the running answers among those of the step before
        while running:
            self._look_after_those_that_wait()
            there = [n for n, answer in enumerate(running) if self._goes_on(answer)]
            places = [places[n] for n in there]
            self._keep(running, there, decoder)
            if not running:
                return
            logits = self._step(decoder, running, places)
            places = [n for n, answer in enumerate(running) if self._advance(answer, logits[n])]
            self._keep(running, places, decoder)

    def _keep(self, running: list[_Answer], kept: list[int], decoder: beams.Decoder) -> None:
        """Go on with these of the answers; the others have ended."""
        if len(kept) < len(running):
            running[:] = [running[n] for n in kept]
            decoder.only(kept)

    def _step(self, decoder: beams.Decoder, running: Sequence[_Answer], places: Sequence[int]) -> np.ndarray:
        """Logits float32 ``[n, rows, V]`` of the next step of n answers.

        Args:
            places: of each among the answers of the step before, which had ``width`` rows each.
        """
        origins = [place * answer.width + answer.asked[1] for place, answer in zip(places, running, strict=True)]
        ids = [answer.asked[0] for answer in running]
        for answer in running:
            answer.width = len(answer.asked[0])
        with self._working():
            logits = decoder(np.concatenate(ids), np.concatenate(origins))
        return logits.reshape(len(running), -1, logits.shape[-1])

    def _look_after_those_that_wait(self) -> None:
        """Drop answers that nobody wants any more, and tell the callers of the others that they are not forgotten."""
        with self._change:
            waiting = [*self._waiting]
        for answer in waiting:
            if not self._goes_on(answer):
                with self._change:
                    self._waiting.remove(answer)

    def _goes_on(self, answer: _Answer) -> bool:
        """Whether an answer is still wanted; where not, it has failed. Now and then its caller is told that it goes on.
        """
        with self._of(answer):
            self._check(answer)
            if time.monotonic() - answer.told > _SIGN:
                answer.emit(Delta("", np.zeros(0, dtype=np.int64), "", (answer.length, 0)))
                answer.told = time.monotonic()
            return True
        return False

    def _advance(self, answer: _Answer, logits: np.ndarray) -> bool:
        """Take the logits of a step; whether there is another one. An answer that is whole is sent."""
        with self._of(answer):
            try:
                answer.asked = answer.steps.send(logits)
            except StopIteration as ended:
                answer.emit(self._whole(answer, ended.value))
                return False
            return True
        return False

    def _whole(self, answer: _Answer, ids: np.ndarray) -> Delta:
        said, stopped = _before(self._reader.written(ids.tolist()), answer.stops)
        search = answer.search
        ended = stopped or (ids[-1] in search.ends and not (search.last and len(ids) == search.most))
        return Delta(said, ids, "stop" if ended else "length", (answer.length, len(ids)))

    @contextmanager
    def _of(self, answer: _Answer) -> Iterator[None]:
        """Work for one answer: an error in it ends that answer alone, and nothing else."""
        try:
            yield
        except Exception as error:  # the boundary of an answer: the error goes to its caller
            fail(answer.failed, error)

    def _check(self, answer: _Answer) -> None:
        """Raise Cancelled or ServerUnavailable where an answer is not wanted any more."""
        if answer.cancelled():
            raise Cancelled
        if self._closing:
            raise unloaded()

    def _search_of(self, settings: Mapping[str, Any]) -> beams.Search:
        """The checkpoint's search with what the request asks for; one row where tokens are not taken by score alone."""
        if settings["top_logprobs"] is not None:
            raise NotSupported("This model searches for its whole answer, and knows no 'top_logprobs'.")
        count, alone = settings["num_beams"], _chosen(settings)
        if alone and (count or 1) > 1:
            raise InvalidParameter(
                "Beams follow the likeliest texts, so they go with a temperature of 0 and no repetition penalty.",
                hint="Leave 'num_beams' out, or 'temperature' and 'repetition_penalty'.",
            )
        most = min(settings["max_new_tokens"], self._reader.positions)
        found = replace(self._search, most=most, beams=1 if alone else count or self._search.beams)
        return found if settings["schema"] is None else replace(found, no_repeat=0)  # JSON repeats its keys

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

    def _rows(self, answer: _Answer) -> np.ndarray:
        """``image_embeds`` float32 ``[1,R,H]`` of the last picture."""
        picture, size = answer.pictures[-1], answer.sizes[-1]
        key, go_on = self._encodings.key(picture, "", [_ROWS]), partial(self._check, answer)
        return self._encodings.rows(key, picture, size, "", [_ROWS], go_on)[_ROWS][None]


def _together(
    samples: Sequence[Mapping[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """Keys and values of the cross attention of several samples, each ``[1,H,E,D]``, padded behind to the longest, and
    what of them is no padding, int64 ``[n,E]``.
    """
    lengths = [next(iter(one.values())).shape[2] for one in samples]
    mask = np.arange(max(lengths))[None] < np.array(lengths)[:, None]
    missing = [((0, 0), (0, 0), (0, max(lengths) - length), (0, 0)) for length in lengths]
    return {
        name: np.concatenate([np.pad(one[name], more) for one, more in zip(samples, missing, strict=True)])
        for name in samples[0]
    }, mask.astype(np.int64)


def _chosen(settings: Mapping[str, Any]) -> bool:
    return settings["temperature"] > 0 or settings["repetition_penalty"] != 1


def _before(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the stop text that is complete first, and whether there is one."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(found)[1]], True) if found else (text, False)
