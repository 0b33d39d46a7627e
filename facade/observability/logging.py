"""The log of ``serve``: a line an event on standard error, for people or as JSON."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import IO

import orjson

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_MOST_LINES = 10_000  # lines waiting to be written; request handlers never wait

_FLUSH_SECONDS = 2.0
_BATCH_SECONDS = 0.02


@contextlib.contextmanager
def logging_to_stderr(level: str, as_json: bool) -> Iterator[None]:
    """Within the block our loggers write from ``level`` on, other loggers from WARNING on.

    A thread writes, so that a blocked standard error blocks no request; lines over a bound are dropped.
    """
    writer = _Writer(sys.stderr)
    handler = _Handler(writer)
    handler.setFormatter(_Json() if as_json else _Text(_TEXT))
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


class _Handler(logging.Handler):
    def __init__(self, writer: _Writer):
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError):  # arguments that do not fit the text
            self.handleError(record)
        else:
            self._writer.add(line)


class _Writer(threading.Thread):
    """Writes lines in batches: to wake a thread for each line costs a request more than the line does."""

    def __init__(self, stream: IO[str]):
        super().__init__(name="log", daemon=True)
        self._stream, self._lines = stream, deque[str]()
        self._some, self._end = threading.Event(), threading.Event()

    def add(self, line: str) -> None:
        """Leave a line to be written, unless too many are waiting."""
        if len(self._lines) < _MOST_LINES:
            self._lines.append(line)
            if not self._some.is_set():
                self._some.set()

    def run(self) -> None:
        while not self._end.is_set():
            self._some.wait()
            self._end.wait(_BATCH_SECONDS)
            self._some.clear()
            # a closed standard error loses lines, and ends nothing
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("".join(f"{self._lines.popleft()}\n" for _ in range(len(self._lines))))
                self._stream.flush()

    def stop(self) -> None:
        """Write what is left, unless the stream is blocked."""
        self._end.set()
        self._some.set()
        self.join(_FLUSH_SECONDS)


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
