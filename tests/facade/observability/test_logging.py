"""The log of serve: its lines, which no request can forge, and a slow reader, which does not block requests."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading

from tritonvision.facade.observability import logging as logging_module
from tritonvision.facade.observability.logging import logging_to_stderr

log = logging.getLogger("tritonvision.access")


def test_a_line_has_a_time_and_a_level_and_cannot_be_forged(capsys):
    with logging_to_stderr("info", as_json=False):
        log.info("GET /%s 200", "a\nforged line\rmore")
        logging.getLogger("some.library").info("chatter")
    first, second = capsys.readouterr().err.splitlines()
    assert first[:20].count("-") == 2 and "Z INFO tritonvision.access GET /a" in first
    assert second == "  forged line\\rmore 200"


def test_json_lines_have_the_fields_of_the_request_and_tracebacks(capsys):
    with logging_to_stderr("info", as_json=True):
        log.info("text", extra={"fields": {"status": 200, "path": "/a\nb"}})
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["status"], first["path"], first["level"], first["message"]) == (200, "/a\nb", "info", "text")
    assert "ValueError: no" in second["traceback"] and second["level"] == "error"


def test_levels_below_the_wanted_one_are_silent_and_nothing_stays_configured(capsys):
    before = logging.getLogger().handlers[:], log.getEffectiveLevel()
    with logging_to_stderr("warning", as_json=False):
        log.info("GET / 200")
    assert capsys.readouterr().err == "" and (logging.getLogger().handlers, log.getEffectiveLevel()) == before


def test_a_slow_log_reader_delays_neither_requests_nor_shutdown(monkeypatch):
    free = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            free.wait()
            return len(text)

    monkeypatch.setattr(logging_module, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(sys, "stderr", Stuck())
    record = log.makeRecord(log.name, logging.INFO, "", 0, "GET / 200", (), None)
    with logging_to_stderr("info", as_json=False):
        for _ in range(11_000):
            logging.getLogger().handlers[-1].handle(record)
    free.set()
