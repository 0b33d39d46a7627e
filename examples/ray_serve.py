"""The HTTP server of tritonvision as a Ray Serve application, for those who run Ray and not Kubernetes.

    pip install 'tritonvision[onnx-cpu,ray]'
    serve run examples.ray_serve:app                  # http://127.0.0.1:8000, the routes of 'tritonvision serve'

Each replica has a tritonserver of its own, which uses the cores or the GPU that Ray gives to the replica. Settings are
the TRITONVISION_* variables of the replicas; every node needs the model repository at the same path. Ray's proxy is in
front, so a host name that is not this machine's has to be allowed: TRITONVISION_ALLOWED_HOSTS='["vision.example"]'.
What a replica remembers (streams of video, pictures kept for later prompts, cached answers) its siblings do not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from ray import serve

from tritonvision.engine.engine import Engine
from tritonvision.facade.app import create_app
from tritonvision.server import Embedded
from tritonvision.settings import read_settings

_engines: list[Engine] = []  # of this replica: one


def build() -> FastAPI:
    """The application of one replica."""
    settings = read_settings()
    server = Embedded(settings)
    engine = Engine(settings, server)
    application = create_app(engine, settings)
    within = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(server.start)
        await engine.start()
        _engines.append(engine)
        try:
            async with within(running):
                yield
        finally:
            await engine.close()
            await asyncio.to_thread(server.stop)

    application.router.lifespan_context = lifespan
    return application


@serve.deployment(
    ray_actor_options={"num_cpus": 1},                     # and "num_gpus": 1 on machines with GPUs
    max_ongoing_requests=64,                               # the server refuses what it cannot answer in time itself
    autoscaling_config={
        "min_replicas": 1, "max_replicas": 8,
        "target_ongoing_requests": 6,                      # three for each of the two processes of a network
        "upscale_delay_s": 10, "downscale_delay_s": 300,
    },
    health_check_period_s=5, graceful_shutdown_timeout_s=20,
)  # fmt: skip
@serve.ingress(build)
class TritonVision:
    """A replica."""

    def check_health(self) -> None:
        """Ray replaces a replica whose tritonserver cannot be started again."""
        if not all(engine.live() for engine in _engines):
            raise RuntimeError(_engines[0].why_not_ready())


app = TritonVision.bind()
