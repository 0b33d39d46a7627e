"""A tritonserver that makes traces of its own continues the trace of the request: it is told with the call."""

from __future__ import annotations

import pytest
from collector import attributes, collector
from own_engine import with_engine

from tritonvision.engine.engine import Engine
from tritonvision.server import Embedded, process
from tritonvision.stages import Timeline, measured

FACE = "mediapipe-face-detection"
TRACE, CALLER = "aabbccddeeff00112233445566778899", "0123456789abcdef"


@pytest.mark.slow
def test_triton_adds_its_spans_to_the_trace_of_the_request(settings, photo, monkeypatch, tmp_path):
    popen = process.subprocess.Popen
    with collector(tmp_path) as backend:
        traces = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1", f"opentelemetry,url={backend.http}/v1/traces"]
        options = [f"--trace-config={one}" for one in traces]
        monkeypatch.setattr(
            process.subprocess, "Popen",
            lambda command, **rest: popen([*command, *(options if "--grpc-port=1" in command else ())], **rest),
        )  # fmt: skip
        # a confined one reaches no collector; steps without processes of their own make no spans in Triton
        open_settings = settings.model_copy(update={"sandbox": False, "fusion": False})
        server = Embedded(open_settings)
        server.start()

        async def work(engine: Engine) -> Timeline:
            await engine.load(FACE)
            timeline = Timeline()
            timeline.traceparent = f"00-{TRACE}-{CALLER}-01"
            with measured(timeline):
                await engine.infer(FACE, [photo], {})
            return timeline

        try:
            timeline = with_engine(open_settings, server, work)

            def of_the_network(spans):
                own = [span for span in spans if span.trace_id.hex() == TRACE]
                models = {attributes(span).get("triton.model_name") for span in own}
                return own if {FACE, f"net--{FACE}", "post--keypoints"} <= models else None

            spans = backend.wait_for(of_the_network)
        finally:
            server.stop()
    assert any(span.parent_span_id.hex() == CALLER for span in spans)
    assert [part.name for part in timeline.stages[-1].parts] == ["pre", "network", "post"], "ours are told, too"
