"""A collector of OpenTelemetry in a process of its own, and the backend behind it that the tests read.

The collector is rotel: it takes OTLP over HTTP and gRPC and passes it on. What arrives behind it has been a message
that another implementation could read.
"""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tritonvision.server.process import free_port


class Backend:
    """What came through the collector.

    Attributes:
        http, grpc: where the collector takes OTLP.
        resource: attributes of the process that sent the last spans.
    """

    def __init__(self) -> None:
        self.http, self.grpc = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.resource: dict[str, Any] = {}
        self._spans: list[Any] = []
        self._more = threading.Condition()

    def take(self, body: bytes) -> None:
        """Keep the spans of one message."""
        with self._more:
            for told in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = attributes(told.resource)
                self._spans += [span for scope in told.scope_spans for span in scope.spans]
            self._more.notify_all()

    def wait_for(self, wanted: Callable[[list[Any]], Any], seconds: float = 20.0) -> Any:
        """What ``wanted`` finds in the spans so far, as soon as it is true; fails after ``seconds``."""
        with self._more:
            found = self._more.wait_for(lambda: wanted(self._spans), seconds)
            assert found, f"not among {sorted(span.name for span in self._spans)}"
            return found


def attributes(told: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in told.attributes}


def program() -> Path | None:
    """The collector's program, None where it is not installed."""
    with contextlib.suppress(ImportError):
        for file in files("rotel") or ():
            if file.name == "rotel-agent":
                path = Path(str(file.locate()))
                path.chmod(path.stat().st_mode | 0o111)  # installers drop the executable bit
                return path
    return None


@contextlib.contextmanager
def collector(folder: Path) -> Iterator[Backend]:
    """A running collector with a backend behind it; its log goes into ``folder``. Skips the test where there is none.
    """
    agent = program()
    if agent is None:
        pytest.skip("there is no collector of OpenTelemetry here: pip install rotel")
    backend = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            backend.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as behind:
        threading.Thread(target=behind.serve_forever, daemon=True).start()
        command = [
            str(agent), "start", "--otlp-http-endpoint", backend.http.removeprefix("http://"), "--otlp-grpc-endpoint",
            backend.grpc.removeprefix("http://"), "--exporter", "otlp", "--otlp-exporter-endpoint",
            f"http://127.0.0.1:{behind.server_port}", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms",
        ]  # fmt: skip
        with (folder / "collector.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_it_listens(backend.http, process)
            yield backend
        finally:
            process.terminate()
            process.wait(10)
            behind.shutdown()


def _wait_until_it_listens(address: str, process: subprocess.Popen[bytes]) -> None:
    import socket

    host, port = address.removeprefix("http://").split(":")
    end = time.monotonic() + 20
    while True:
        assert process.poll() is None, "the collector ended"
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), 1).close()
            return
        assert time.monotonic() < end, "the collector does not listen"
        time.sleep(0.05)
