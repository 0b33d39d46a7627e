"""Traces by OpenTelemetry's standard variables, through a real collector; without the variables nothing is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from collector import Backend, attributes, collector

from tritonvision.settings import Telemetry, read_telemetry

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
JPEG = {"content-type": "image/jpeg", "x-wait-for-model": "true", "x-use-cache": "false"}


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with collector(tmp_path_factory.mktemp("collector")) as backend:
        yield backend


@pytest.fixture
def variables(monkeypatch):
    """``variables(OTEL_X="y")``: these of OpenTelemetry's variables and no others."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def set_all(**given: str) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return set_all


def spans_of(backend: Backend, trace: str, *names: str) -> dict:
    """The spans of a trace by name, once all of ``names`` have come."""

    def found(spans):
        own = {span.name: span for span in spans if span.trace_id.hex() == trace}
        return own if own.keys() >= set(names) else None

    return backend.wait_for(found)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_request_continues_its_callers_trace_and_its_stages_are_spans_within_it(
    backend, variables, house_with, picture, caplog, protocol
):
    variables(
        OTEL_EXPORTER_OTLP_ENDPOINT=backend.grpc if protocol == "grpc" else backend.http,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_SERVICE_NAME="eyes", OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    )
    trace = f"{protocol.encode().hex():0<32}"[:32]
    with caplog.at_level("INFO", "tritonvision.access"):
        house_with().client.post(
            "/models/yolov8n-640?api_key=secret", content=picture,
            headers=JPEG | {"traceparent": f"00-{trace}-{CALLER}-01", "x-request-id": "mine"},
        )
    (line,) = [record.fields for record in caplog.records if record.name == "tritonvision.access"]
    assert line["trace_id"] == trace
    found = spans_of(backend, trace, "POST /models/{model:path}", "decode", "encode")
    request = found["POST /models/{model:path}"]
    assert request.parent_span_id.hex() == CALLER and request.kind == request.SPAN_KIND_SERVER
    told = attributes(request)
    assert (told["http.response.status_code"], told["tritonvision.model"]) == (200, "yolov8n-640")
    assert (told["tritonvision.request_id"], told["tritonvision.dialect"]) == ("mine", "huggingface")
    assert "secret" not in str(request)
    for name in ("decode", "encode"):
        span = found[name]
        assert span.parent_span_id == request.span_id
        assert request.start_time_unix_nano - 1e6 <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano + 1e6
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 60
    assert backend.resource["service.name"] == "eyes"
    assert backend.resource["deployment.environment.name"] == "test"


def test_a_failed_request_is_an_error_and_a_refused_one_is_none(backend, variables, house_with, picture):
    variables(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{backend.http}/v1/traces", OTEL_BSP_SCHEDULE_DELAY="50")
    house = house_with()
    house.engine.failure = RuntimeError("a bug")
    failed, refused = "11" * 16, "22" * 16
    for trace, path in ((failed, "/models/yolov8n-640"), (refused, "/nothing/here/at/all")):
        headers = JPEG | {"traceparent": f"00-{trace}-{CALLER}-01"}
        house.client.post(path, content=picture, headers=headers)
    (error,) = [span for name, span in spans_of(backend, failed, "decode").items() if name.startswith("POST")]
    assert error.status.code == error.status.STATUS_CODE_ERROR
    request = spans_of(backend, refused, "HTTP")["HTTP"]
    assert request.status.code == request.status.STATUS_CODE_UNSET and "nothing" not in request.name
    assert backend.resource["service.name"] == "tritonvision"


def test_a_caller_that_does_not_sample_is_not_traced(backend, variables, house_with, picture):
    variables(OTEL_EXPORTER_OTLP_ENDPOINT=backend.http, OTEL_BSP_SCHEDULE_DELAY="50")
    house, unsampled, sampled = house_with(), "33" * 16, "44" * 16
    for trace, flag in ((unsampled, "00"), (sampled, "01")):
        headers = JPEG | {"traceparent": f"00-{trace}-{CALLER}-{flag}"}
        house.client.post("/models/yolov8n-640", content=picture, headers=headers)
    spans_of(backend, sampled, "encode")
    assert not backend.wait_for(lambda spans: [{span.trace_id.hex() for span in spans}])[0] & {unsampled}


@pytest.mark.parametrize("given", [
    {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    {"OTEL_SERVICE_NAME": "eyes"}, {"OTEL_TRACES_EXPORTER": "zipkin"}, {},
])  # fmt: skip
def test_without_an_exporter_there_are_no_traces(variables, given):
    variables(**given)
    assert read_telemetry().exporters == ()


@pytest.mark.parametrize("given, telemetry", [
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, Telemetry(("otlp",))),
    ({"OTEL_TRACES_EXPORTER": "otlp, console"}, Telemetry(("otlp", "console"))),
    ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Telemetry(("otlp",), "grpc")),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
      "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, Telemetry(("otlp",))),
])  # fmt: skip
def test_the_variables_name_exporters_and_the_protocol(variables, given, telemetry):
    variables(**given)
    assert read_telemetry() == telemetry


def test_nothing_of_it_is_imported_where_no_traces_are_wanted(tmp_path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from memory_engine import MemoryEngine\n"
        "from tritonvision.facade.app import create_app\n"
        "from tritonvision.settings import Settings\n"
        "create_app(MemoryEngine(Path(sys.argv[1])), Settings(repository=sys.argv[1]))\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    support = os.path.join(os.path.dirname(__file__), "..", "..", "support")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True,
        env=environment | {"PYTHONPATH": support},
    )  # fmt: skip
    assert told.stdout.strip() == "[]"


def test_where_the_packages_lack_a_sentence_says_so_and_the_server_starts(variables, house_with, monkeypatch, caplog):
    variables(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "tritonvision.facade.observability.tracing", None)
    assert house_with().client.get("/info").status_code == 200
    assert "pip install 'tritonvision[telemetry]'" in caplog.text


@contextmanager
def hanging():
    """A collector that takes connections and never answers."""
    free = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            free.wait(30)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        free.set()
        server.shutdown()


def test_a_collector_that_hangs_delays_no_answer_and_no_end(variables, house_with, picture, monkeypatch):
    from tritonvision.facade.observability import tracing

    assert tracing._LAST_SECONDS <= 3
    monkeypatch.setattr(tracing, "_LAST_SECONDS", 0.3)
    with hanging() as address:
        variables(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="10")
        house = house_with()
        began = time.monotonic()
        for _ in range(20):
            assert house.client.post("/models/yolov8n-640", content=picture, headers=JPEG).status_code == 200
        assert time.monotonic() - began < 20  # the collector hangs for 30 s
        ended = time.monotonic()
        house.client.__exit__(None, None, None)
        assert 0.2 < time.monotonic() - ended < 20
        house.client.__enter__()  # the fixture ends it once more
