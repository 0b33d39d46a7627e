"""Continuous batching: answers join and leave one batch between two steps of the decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from tritonvision.python_backend.generation.decoder import Cache, Decoder
from tritonvision.python_backend.generation.sampling import Sampler

# Tokens of a prompt that are read between two steps of the others: what they wait for, against reading in one go.
CHUNK = 256
MOST_ROWS = 16


class Cancelled(Exception):
    """Nobody wants the answer any more."""


class Job:
    """One answer.

    Args:
        embeds: float32 (S, H), the prompt.
        accept: called with each new token; returns whether the answer goes on.
        failed: called once when it will not be finished, with the reason.
        cancelled: whether nobody wants it any more; asked before every step.
    """

    def __init__(
        self, embeds: np.ndarray, sampler: Sampler, accept: Callable[[int], bool],
        failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ):  # fmt: skip
        self.embeds, self.sampler = embeds, sampler
        self.accept, self.failed, self.cancelled = accept, failed, cancelled
        self.cache: Cache | None = None
        self.token = -1


class Scheduler:
    """One thread that owns a decoder and the rows under way in it.

    Args:
        embed: token ids int64 ``[B,1]`` to float32 ``[B,1,H]``.
        working: what each turn of the thread runs in, e.g. a heart that beats only while turns end.
    """

    def __init__(
        self, decoder: Decoder, embed: Callable[[np.ndarray], np.ndarray],
        working: Callable[[], AbstractContextManager] = nullcontext,
    ):  # fmt: skip
        self._decoder, self._embed, self._working = decoder, embed, working
        self._waiting: deque[Job] = deque()
        self._rows: list[Job] = []
        self._cache: Cache | None = None
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="scheduler")
        self._thread.start()

    def add(self, job: Job) -> None:
        """Begin with ``job`` as soon as there is room."""
        with self._change:
            self._waiting.append(job)
            self._change.notify()

    def close(self) -> None:
        """End the thread; answers that are not finished stay so."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._rows or self._closed)
                if self._closed:
                    return
            with self._working():
                self._turn()

    def _turn(self) -> None:
        """Drop what nobody wants, read a piece of one prompt, write one token of every answer."""
        try:
            self._drop()
            if self._waiting and len(self._rows) < MOST_ROWS:
                self._read(self._waiting[0])
            if self._rows:
                self._write()
        except Exception as error:  # the thread's boundary: whoever waits is told, and it goes on with the next
            lost, self._rows, self._cache = [*self._rows], [], None
            with self._change:
                if self._waiting and self._waiting[0].cache is not None:
                    lost.append(self._waiting.popleft())
            for job in lost:
                job.failed(error)

    def _drop(self) -> None:
        with self._change:
            waiting = [*self._waiting]
        left = [job for job in (*waiting, *self._rows) if job.cancelled()]
        with self._change:
            self._waiting = deque(job for job in self._waiting if job not in left)
        self._keep([i for i, job in enumerate(self._rows) if job not in left])
        for job in left:
            job.failed(Cancelled())

    def _keep(self, kept: list[int]) -> None:
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in kept]
        self._cache = self._cache.only(kept) if kept else None

    def _read(self, job: Job) -> None:
        """One piece of the prompt; after the last one the job has its first token and joins the others."""
        cache = self._decoder.empty() if job.cache is None else job.cache
        begin = cache.mask.shape[1]
        logits, job.cache = self._decoder(cache, job.embeds[None, begin : begin + CHUNK])
        if begin + CHUNK < len(job.embeds):
            return
        with self._change:
            self._waiting.popleft()
        if self._took(job, logits[0]):
            self._cache = job.cache if self._cache is None else self._cache.joined(job.cache)
            self._rows.append(job)
        job.cache = None

    def _write(self) -> None:
        embeds = self._embed(np.array([[job.token] for job in self._rows], dtype=np.int64))
        logits, self._cache = self._decoder(self._cache, embeds)
        self._keep([i for i, job in enumerate(self._rows) if self._took(job, logits[i])])

    def _took(self, job: Job, logits: np.ndarray) -> bool:
        """Whether the job, given its next token, goes on."""
        job.token = job.sampler(logits)
        return job.accept(job.token)
