"""The log of ``serve``: a line an event on standard error, for people or as JSON."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_MOST_LINES = 10_000  # that wait for a reader; who answers requests never does

_FLUSH_SECONDS = 2.0


@contextlib.contextmanager
def logging_to_stderr(level: str, as_json: bool) -> Iterator[None]:
    """Within the block our loggers write from ``level`` on, those of libraries from warnings on.

    A thread writes, so that a reader of standard error that stops reading stops no request; what it leaves waiting over
    a bound is dropped.
    """
    lines: queue.Queue[Any] = queue.Queue(_MOST_LINES)
    handler = _Handler(lines)
    handler.setFormatter(_Json() if as_json else _Text(_TEXT))
    writer = _Writer(lines, logging.StreamHandler(sys.stderr))
    root, ours = logging.getLogger(), logging.getLogger("tritonvision")
    before = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    ours.setLevel(level.upper())
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])
        writer.stop()


class _Handler(logging.handlers.QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class _Writer(logging.handlers.QueueListener):
    def stop(self) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put(self._sentinel, timeout=_FLUSH_SECONDS)  # type: ignore[attr-defined]
        if self._thread is not None:
            self._thread.join(_FLUSH_SECONDS)


class _Text(logging.Formatter):
    """UTC with milliseconds; what follows a line of its own, a traceback, is indented: no request can forge a line."""

    converter = staticmethod(time.gmtime)
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", "\\r").replace("\n", "\n  ")


class _Json(_Text):
    """An object a line: ``time``, ``level``, ``logger``, ``message``, and the ``fields`` of a request."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), **getattr(record, "fields", {}),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
