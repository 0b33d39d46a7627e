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
_MOST_LINES = 10_000  # lines waiting to be written; request handlers never wait

_FLUSH_SECONDS = 2.0


@contextlib.contextmanager
def logging_to_stderr(level: str, as_json: bool) -> Iterator[None]:
    """Within the block our loggers write from ``level`` on, other loggers from WARNING on.

    A thread writes, so that a blocked standard error blocks no request; lines over a bound are dropped.
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
    """UTC with milliseconds; further lines, as of a traceback, are indented, so that no request can forge a log
    line.
    """

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
