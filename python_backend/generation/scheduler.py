"""Continuous batching: answers join and leave one batch between two steps of the decoder.

Every job ends exactly once: ``accept`` returns False, or ``failed`` is called. An error of one job (in its prompt, its
sampling, its callbacks) ends that job alone; an error in a decoder step ends the rows of that step.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from tritonvision.errors import InvalidParameter, Overloaded, ServerUnavailable
from tritonvision.python_backend.generation.decoder import COPIES, Cache, Decoder, Piece
from tritonvision.python_backend.generation.prefixes import Content, Kept, Prefixes

# Tokens of a prompt that are read between two steps: more delays the other answers, fewer slows this prompt.
CHUNK = 256
MOST_ROWS = 16

_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The caller cancelled the answer."""


class Job:
    """One answer.

    Args:
        prompt: what is to be read of the prompt, as one piece of one row.
        accept: called with each new token; returns whether the answer goes on.
        failed: called once with the error when the answer cannot be finished; nothing else is called after it.
        cancelled: whether the caller cancelled it; checked before every step.
        content: of the whole prompt; None where it is not to be kept.
        kept: what was read of it before; None for nothing.
        most: tokens that prompt and answer may have together.

    Attributes:
        cache: keys and values of what is read of the prompt, from its first piece until it joins the batch.
        held: bytes of what is left to be read of the prompt.
    """

    def __init__(
        self, prompt: Piece, sampler: Callable[[np.ndarray], int], accept: Callable[[int], bool],
        failed: Callable[[Exception], None], cancelled: Callable[[], bool],
        content: Content | None = None, kept: Kept | None = None, most: int = 0,
    ):  # fmt: skip
        self._prompt: Piece | None = prompt
        self._kept, self._read = kept, 0
        self.most, self.held = most, prompt.nbytes
        self._sampler, self._accept, self._failed, self._cancelled = sampler, accept, failed, cancelled
        self.content = content
        self.cache: Cache | None = None
        self.tokens: list[int] = []
        self.failure: Exception | None = None

    @property
    def begun(self) -> bool:
        """Whether a piece of the prompt is being read, or was."""
        return self._read > 0

    def past(self) -> Cache | None:
        """Keys and values of what is read of the prompt; what was read of it before is let go. None for nothing."""
        if self.cache is None and self._kept is not None:
            self.cache, self._kept = self._kept.cache(), None
        return self.cache

    def next_piece(self) -> Piece:
        """The next piece of the prompt: CHUNK tokens, or more where they attend to each other in both directions."""
        begin, prompt = self._read, self._prompt
        assert prompt is not None, "a piece is left"
        end = max(begin + CHUNK, prompt.bidirectional)
        self._read = end
        if end >= prompt.embeds.shape[1]:
            self._prompt, self.held = None, 0
        return Piece(
            prompt.embeds[:, begin:end],
            None if prompt.position_ids is None else prompt.position_ids[..., begin:end],
            {name: rows[:, begin:end] for name, rows in prompt.extra.items()},
            prompt.bidirectional if begin == 0 else 0,
        )

    @property
    def prompt_read(self) -> bool:
        """Whether no piece of the prompt is left."""
        return self._prompt is None

    def advance(self, logits: np.ndarray) -> bool:
        """Sample the next token of ``logits`` float32 (V,) and pass it on. Returns whether the answer continues."""
        try:
            self.tokens.append(self._sampler(logits))
            return self._accept(self.tokens[-1])
        except Exception as error:  # an error in this answer's sampling or callback must not end the others
            self.fail(error)
            return False

    def dropped(self) -> bool:
        """End the answer if the caller cancelled it; whether it did."""
        try:
            if not self._cancelled():
                return False
            reason: Exception = Cancelled()
        except Exception as error:  # see advance
            reason = error
        self.fail(reason)
        return True

    def fail(self, error: Exception) -> None:
        """End the answer with ``error``."""
        self.failure = error
        fail(self._failed, error)


class Scheduler:
    """One thread that owns a decoder and the rows of its batch.

    Args:
        embed: token ids int64 ``[B,1]`` to float32 ``[B,1,H]``.
        working: a context manager around each turn of the thread, for a heartbeat that stops when a turn hangs.
        room: bytes that the keys and values of the answers that run and the prompts of those that wait may take
            together; None for any number. An answer that does not fit beside those that run waits.
    """

    def __init__(
        self, decoder: Decoder, embed: Callable[[np.ndarray], np.ndarray],
        working: Callable[[], AbstractContextManager] = nullcontext, prefixes: Prefixes | None = None,
        room: int | None = None,
    ):  # fmt: skip
        self._decoder, self._embed, self._working, self._room = decoder, embed, working, room
        self._prefixes = prefixes or Prefixes(0)
        self._waiting: deque[Job] = deque()
        self._rows: list[Job] = []
        self._cache: Cache | None = None
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="scheduler")
        self._thread.start()

    def check(self, prompt: int, answer: int, held: int = 0) -> None:
        """Whether one more answer has room; asked by one thread, which adds it before it asks again.

        What waits is taken only as far as each of these answers could run beside the prompts of all others: then the
        first of them can always begin when those that run have ended.

        Args:
            prompt, answer: tokens.
            held: bytes of the prompt as it waits.

        Raises:
            InvalidParameter: it has none, even alone.
            Overloaded: it has none beside those that run and wait.
        """
        if self._room is None:
            return
        alone, room = self._wanted([prompt + answer]), self._room / 1e9
        if alone + held > self._room:
            raise InvalidParameter(
                f"A prompt of {prompt} tokens and an answer of up to {answer} take {(alone + held) / 1e9:.1f} GB of "
                f"memory; {room:.1f} GB are for prompts, keys and values.",
                hint="Shorten the conversation, send fewer or smaller pictures, or let fewer tokens be written.",
            )
        with self._change:
            waiting, running = [*self._waiting], {*self._rows}
        running |= {job for job in waiting if job.begun}
        largest = max(
            alone, *(self._wanted([job.most]) for job in waiting), self._wanted([job.most for job in running])
        )
        if largest + held + sum(job.held for job in waiting) > self._room:
            count = sum(not job.begun for job in waiting)
            raise Overloaded(
                f"{count} prompts wait to be read, and there is no memory for one more.",
                hint="Ask again when answers have ended, or send shorter prompts.",
            )

    def add(self, job: Job) -> None:
        """Begin with ``job`` as soon as there is room. After :meth:`close` it fails at once."""
        with self._change:
            if not self._closed:
                self._waiting.append(job)
                self._change.notify()
                return
        job.fail(unloaded())

    def close(self) -> None:
        """End the thread after its turn; answers that are not finished fail with ServerUnavailable."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._rows or self._closed)
                if self._closed:
                    break
            with self._working():
                self._turn()
        for job in (*self._waiting, *self._rows):
            job.fail(unloaded())

    def _turn(self) -> None:
        """Drop cancelled jobs, read a piece of one prompt, generate one token of every answer."""
        self._drop()
        if self._waiting and len(self._rows) < MOST_ROWS and self._has_room(self._waiting[0]):
            self._read(self._waiting[0])
        if self._rows:
            self._write()

    def _has_room(self, job: Job) -> bool:
        """Whether ``job`` fits beside the answers that run and the prompts that wait; beside these it does, see
        :meth:`check`.
        """
        if self._room is None or not self._rows:
            return True
        with self._change:
            held = sum(one.held for one in self._waiting)
        return self._wanted([one.most for one in (*self._rows, job)]) + held <= self._room

    def _wanted(self, lengths: Sequence[int]) -> int:
        """Bytes of keys and values of rows of at most so many tokens, all padded to the longest."""
        return COPIES * len(lengths) * max(lengths, default=0) * self._decoder.token_bytes

    def _drop(self) -> None:
        with self._change:
            waiting = [*self._waiting]
        for job in waiting:
            if job.dropped():
                self._leave(job)
        self._keep([i for i, job in enumerate(self._rows) if not job.dropped()])

    def _leave(self, job: Job) -> None:
        """Remove ``job`` from the queue."""
        with self._change:
            self._waiting.remove(job)

    def _keep(self, kept: list[int]) -> None:
        """Keep only the rows ``kept``; the others have ended."""
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in kept]
        try:
            self._cache = self._cache.only(kept) if kept and self._cache is not None else None
        except Exception as error:  # out of memory while copying the smaller cache
            self._fail_rows(error)

    def _read(self, job: Job) -> None:
        """Read one piece of the prompt; after the last one, sample the first token and join the batch."""
        try:
            logits, job.cache = self._decoder(job.past() or self._decoder.empty(), job.next_piece())
        except Exception as error:  # an error of this prompt alone: the batch has a cache of its own
            self._leave(job)
            job.fail(error)
            return
        if not job.prompt_read:
            return
        goes_on = job.advance(logits[0])
        self._remember(job, job.cache, 0)
        if goes_on:
            self._join(job)
        self._leave(job)  # last: until then it counts among those that wait

    def _join(self, job: Job) -> None:
        try:
            assert job.cache is not None, "its prompt was read"
            cache = job.cache if self._cache is None else self._cache.joined(job.cache)
        except Exception as error:  # out of memory for one more row; the batch is unchanged
            job.fail(error)
            return
        self._cache, job.cache = cache, None
        self._rows.append(job)

    def _write(self) -> None:
        try:
            assert self._cache is not None, "every row has joined"
            embeds = self._embed(np.array([[job.tokens[-1]] for job in self._rows], dtype=np.int64))
            logits, self._cache = self._decoder(self._cache, Piece(embeds))
        except Exception as error:  # an error of the step ends all its rows
            self._fail_rows(error)
            return
        kept = [i for i, job in enumerate(self._rows) if job.advance(logits[i])]
        for i in sorted({*range(len(self._rows))} - {*kept}):
            self._remember(self._rows[i], self._cache, i)
        self._keep(kept)

    def _remember(self, job: Job, cache: Cache, row: int) -> None:
        """Keep what the decoder read of a prompt and of the answer to it, unless that failed."""
        if job.content is None or job.failure is not None:
            return
        try:
            self._prefixes.put(job.content.keys(job.tokens[:-1]), cache, row)
        except MemoryError:  # it is read again when it comes again
            _log.warning("There is no memory to keep a prompt that was read.")

    def _fail_rows(self, error: Exception) -> None:
        lost, self._rows, self._cache = self._rows, [], None
        for job in lost:
            job.fail(error)


def fail(failed: Callable[[Exception], None], error: Exception) -> None:
    """Call ``failed``; an error in that callback is logged and stops no other answer."""
    try:
        failed(error)
    except Exception:
        _log.exception("An answer failed (%r), and its caller could not be told.", error)


def unloaded() -> ServerUnavailable:
    """The error of an answer whose model is unloaded before it ends."""
    return ServerUnavailable("The model was unloaded before it had answered.")
