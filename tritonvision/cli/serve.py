"""``tritonvision serve``: the HTTP facade in front of a tritonserver, its own or somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from tritonvision.cli import complain
from tritonvision.cli.options import settings_with
from tritonvision.errors import TritonVisionError

if TYPE_CHECKING:
    from tritonvision.engine.engine import Engine
    from tritonvision.server import Embedded
    from tritonvision.settings import Settings


def serve(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_ID...]", help="Models to load at the start.")
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on. [9001]")] = None,
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository.")] = None,
    triton_url: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="gRPC address of a tritonserver somebody else runs.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(metavar="K", help="Key that every request must carry.")] = None,
    max_loaded: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most models loaded at once; the least recently used leaves.")
    ] = None,
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most memory for loaded models, e.g. 8GB or 500MB.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(metavar="S", help="Seconds an answer may take. [30]")] = None,
    export: Annotated[
        bool | None, typer.Option(
            "--export/--no-export", help="Export known models on their first request. [on loopback only]"
        )
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Web page that may ask, https://HOST; again for more.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error; requests are info. [info]")
    ] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log a JSON object a line.")] = None,
) -> None:
    """Serve the published models over HTTP until Ctrl-C or SIGTERM, both with exit code 0.

    Every published model is served: it loads on the first request that names it, or at the start when it is named
    here. Without --triton-url a tritonserver is started and looked after; no other user reaches it. Options stand
    over the TRITONVISION_* variables of the same name.

    \b
    Examples:
      tritonvision serve
      tritonvision serve mediapipe-face-detection --port 9002
      tritonvision serve --host 0.0.0.0 --api-key "$KEY"
      tritonvision serve --triton-url gpu-box:8001 --repository /models
      tritonvision serve --memory-budget 4GB --log-json
    """
    from tritonvision.facade.observability.logging import logging_to_stderr
    from tritonvision.facade.run import listen
    from tritonvision.publication import Repository

    settings = settings_with(
        host=host, port=port, repository=repository, triton_url=triton_url, api_key=api_key, max_loaded=max_loaded,
        memory_budget=memory_budget, deadline=deadline, export_missing=export, log_json=log_json,
        cors_origins=frozenset(cors) if cors else None, log_level=None if log_level is None else log_level.lower(),
    )  # fmt: skip
    published = Repository(settings.repository)
    named = [published.resolve(name).id for name in models or ()]
    for sentence in published.left_out():
        typer.echo(f"Warning: {sentence}", err=True)
    listen(settings.host, settings.port).close()  # before anything is started
    _warn(settings)
    with logging_to_stderr(settings.log_level, settings.log_json):
        uvloop.run(_serve(settings, named))


def _warn(settings: Settings) -> None:
    from tritonvision.settings import unknown_variables

    for name, meant in unknown_variables().items():
        typer.echo(f"Warning: no setting is called {name}." + (f" Is {meant} meant?" if meant else ""), err=True)
    if not settings.loopback and settings.api_key is None:
        typer.echo(
            f"Warning: whoever reaches {settings.host}:{settings.port} can use this server. Give --api-key to keep "
            "others out.", err=True,
        )  # fmt: skip


async def _serve(settings: Settings, named: Sequence[str]) -> None:
    from tritonvision import catalog
    from tritonvision.engine.engine import Engine
    from tritonvision.exporters import registry
    from tritonvision.server import Embedded

    server = None if settings.triton_url else Embedded(settings)
    exportable = frozenset(entry.id for entry in catalog.entries().values() if registry.can_export(entry))
    engine = Engine(settings, server, exportable)
    await engine.start()
    try:
        await _until_told_to_end(_answer(engine, settings, server, named))
    finally:
        await engine.close()
        if server is not None:
            await asyncio.to_thread(server.stop)


async def _until_told_to_end(work: Coroutine[None, None, None]) -> None:
    """Run ``work`` until it ends, or SIGTERM or Ctrl-C cancels it. The clean-up ignores further signals."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    # Not loop.add_signal_handler: that would go on firing while uvicorn has taken the signals over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _answer(engine: Engine, settings: Settings, server: Embedded | None, named: Sequence[str]) -> None:
    from tritonvision.facade.app import create_app
    from tritonvision.facade.run import run

    if server is not None:
        await asyncio.to_thread(server.start)
    await asyncio.gather(*(_load(engine, name) for name in named))
    line = await asyncio.to_thread(_ready_line, engine, settings, server)
    await run(create_app(engine, settings), settings, ready=lambda: typer.echo(line))


async def _load(engine: Engine, name: str) -> None:
    try:
        await engine.load(name)
    except TritonVisionError as error:  # one broken model must not prevent serving the others
        complain(f"{name} was not loaded: {error.message}", error.hint)


def _ready_line(engine: Engine, settings: Settings, server: Embedded | None) -> str:
    host = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.host
    published, loaded = len(list(engine.repository)), len(engine.loaded())
    models = f"{published} model{'s' * (published != 1)} published, {loaded} loaded"
    triton = _foreign(engine.address) if server is None else f"tritonserver {server.version}, embedded"
    return f"Serving on http://{host}:{settings.port} ({models}; {triton})"


def _foreign(address: str) -> str:
    from tritonvision.server.control import Control

    control = Control(address)
    try:
        return f"tritonserver {control.version()} at {address}"
    except TritonVisionError:
        return f"tritonserver at {address}, which does not answer yet"
    finally:
        control.close()
