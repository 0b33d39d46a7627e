"""The response cache in front of a real tritonserver, whose own statistics say what it was asked."""

from __future__ import annotations

import asyncio
import base64
import time

import httpx
import pytest
from tritonclient.grpc import service_pb2 as pb

from tritonvision.engine.engine import Engine
from tritonvision.facade.app import create_app
from tritonvision.server import Embedded
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"


@pytest.fixture
def server(served_repository, tmp_path):
    embedded = Embedded(Settings(repository=served_repository, log_dir=tmp_path))
    embedded.start()
    yield embedded
    embedded.stop()


def inferences(server: Embedded) -> int:
    """Pictures that the network has seen; Triton counts one a moment after it has answered."""
    time.sleep(0.2)
    control = server._process.control  # statistics are the administrator's
    request = pb.ModelStatisticsRequest(name=f"net--{FACE}")
    return control._call(control._stub.ModelStatistics, request).model_stats[0].inference_stats.success.count


def test_a_hit_reaches_no_network_and_without_the_cache_every_request_does(server, served_repository, tmp_path, photo):
    settings = Settings(repository=served_repository, log_dir=tmp_path)
    body = {"inputs": base64.b64encode(photo).decode(), "parameters": {"threshold": 0.5}}

    async def main():
        engine = Engine(settings, server)
        await engine.start()
        transport = httpx.ASGITransport(create_app(engine, settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:

            async def ask(**headers):
                answer = await client.post(f"/models/{FACE}", json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                return answer, inferences(server) - at_load

            await engine.load(FACE)
            at_load = inferences(server)  # its golden question
            first, seen = await ask()
            assert first.headers["x-cache"] == "miss" and seen == 1 and len(first.json()) == 1
            raw = await client.post(f"/models/{FACE}", content=photo)
            assert raw.headers["x-cache"] == "hit" and raw.content == first.content
            assert inferences(server) == at_load + 1
            for number, word in enumerate(("false", "0", "False"), start=2):
                anew, seen = await ask(**{"x-use-cache": word})
                assert anew.headers["x-cache"] == "miss" and seen == number and anew.json() == first.json()
            again, seen = await ask(**{"x-use-cache": "true"})
            assert again.headers["x-cache"] == "hit" and seen == 4
        await engine.close()

    asyncio.run(main())
