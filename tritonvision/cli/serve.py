"""``tritonvision serve``: the HTTP facade in front of a tritonserver, its own or somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from tritonvision import memory
from tritonvision.cli import complain
from tritonvision.cli.options import settings_with
from tritonvision.errors import ModelLoading, TritonVisionError, UnknownModel

if TYPE_CHECKING:
    from tritonvision.engine.engine import Engine
    from tritonvision.repository_sources.copying import RepositoryCopy
    from tritonvision.server import Embedded
    from tritonvision.server.succession import Predecessor, Successor
    from tritonvision.settings import Settings

log = logging.getLogger(__name__)

# Of a worn tritonserver: seconds between two looks, and after a handover that failed or had no room; and how many times
# what the server holds has to be free for a second one.
_LOOK_SECONDS, _RENEW_AGAIN, _ROOM = 10.0, 600.0, 1.5


def serve(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_ID...]", help="Models to load at the start.")
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on. [9001]")] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="DIR", help="Model repository; a URL (s3://, gs://, az://, oci://) is copied.")
    ] = None,
    triton_url: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="gRPC address of a tritonserver somebody else runs; again for more."),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of KServe's v2 protocol over gRPC. [none]")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(
            metavar="K", help="Key that every request must carry. Other users of this machine can read it in the list "
            "of processes; not so in TRITONVISION_API_KEY, or with --keys.",
        )
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys of several callers, see 'tritonvision keys'.")
    ] = None,
    manage: Annotated[
        str | None, typer.Option(
            metavar="WHO", help="Who may load, unload, export: none, key (keys that may) or local (from here). [key]"
        )
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate, to serve over https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    max_loaded: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most models loaded at once; the least recently used leaves.")
    ] = None,
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory for loaded models, e.g. 8GB. [85 % of what there is]")
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
    over the TRITONVISION_* variables of the same name. SIGUSR2 starts what is installed now beside the running server,
    with the same models loaded, and lets it take the port over; no request fails.

    \b
    Examples:
      tritonvision serve
      tritonvision serve mediapipe-face-detection --port 9002
      tritonvision serve --host 0.0.0.0 --keys keys.jsonl --manage local
      tritonvision serve --host 0.0.0.0 --keys keys.jsonl --tls-cert cert.pem --tls-key key.pem
      tritonvision serve --triton-url gpu-box:8001 --repository /models
      tritonvision serve --triton-url dns:///tritons:8001 --repository /models
      tritonvision serve --repository s3://models/production
      tritonvision serve --memory-budget 4GB --log-json
    """
    from tritonvision.facade.observability.logging import logging_to_stderr
    from tritonvision.facade.run import certificates_of, listen
    from tritonvision.facade.security.access import Access
    from tritonvision.publication import Repository
    from tritonvision.server import succession

    settings = settings_with(
        host=host, port=port, repository=repository, api_key=api_key, max_loaded=max_loaded,
        triton_url=",".join(triton_url) if triton_url else None, grpc_port=grpc_port,
        memory_budget=memory_budget, deadline=deadline, export_missing=export, log_json=log_json, keys_file=keys,
        manage=manage, tls_cert=tls_cert, tls_key=tls_key,
        cors_origins=frozenset(cors) if cors else None, log_level=None if log_level is None else log_level.lower(),
    )  # fmt: skip
    before = succession.Predecessor.of_this_process()
    succession.serve_under(before)
    if before is None:
        listen(settings.host, settings.port).close()  # before anything is started
    copy = _copied(settings)
    published = Repository(settings.repository)
    named = [published.resolve(name).id for name in models or ()]
    for sentence in published.left_out():
        typer.echo(f"Warning: {sentence}", err=True)
    if before is None:
        certificates_of(settings)
        _warn(settings, Access(settings).closed)
    handover = _Handover(before)
    try:
        with logging_to_stderr(settings.log_level, settings.log_json):
            uvloop.run(_serve(settings, named, handover, copy))
    finally:
        if handover.successor is not None:
            succession.leave(handover.successor, handover.told)


class _Handover:
    """From which process this one takes the port over, and to which it hands it on.

    Attributes:
        before: the former, None where a person started this process.
        successor: the latter, once it answers.
        told: the signals that told this process to end.
    """

    def __init__(self, before: Predecessor | None):
        self.before = before
        self.successor: Successor | None = None
        self.told: list[int] = []
        self.relieving: asyncio.Task[None] | None = None

    async def load_as_before(self, engine: Engine) -> None:
        """Load what the process before has loaded. A model that does not load is an error: that process goes on."""
        for name in self.before.models if self.before else ():
            with contextlib.suppress(UnknownModel):  # removed since then
                while not await _loaded_now(engine, name):
                    await asyncio.sleep(0.5)

    def port_answers(self) -> None:
        """The port is answered here: the process before may end."""
        if self.before is not None:
            self.relieving = asyncio.create_task(self.before.relieve())

    async def hand_on(self, listener: socket.socket, engine: Engine) -> bool:
        """Start a successor on ``listener``; whether it took over."""
        from tritonvision.server.succession import Successor

        if self.relieving is not None and not self.relieving.done():
            complain("The process before this one still ends its work; the port stays here.", "Try again in a minute.")
            return False
        try:
            self.successor = await Successor.start(listener, [manifest.id for manifest in engine.loaded()])
        except TritonVisionError as error:
            complain(error.message, error.hint)
        return self.successor is not None


def _warn(settings: Settings, closed: bool) -> None:
    from tritonvision.settings import unknown_variables

    for name, meant in unknown_variables().items():
        typer.echo(f"Warning: no setting is called {name}." + (f" Is {meant} meant?" if meant else ""), err=True)
    if not settings.loopback and not closed:
        typer.echo(
            f"Warning: whoever reaches {settings.host}:{settings.port} can use this server. Give --keys or --api-key "
            "to keep others out.", err=True,
        )  # fmt: skip


async def _loaded_now(engine: Engine, name: str) -> bool:
    """Load a model; False where it still loads after the time that a request waits for it."""
    try:
        await engine.load(name)
    except ModelLoading:
        return False
    return True


async def _serve(settings: Settings, named: Sequence[str], handover: _Handover, copy: RepositoryCopy | None) -> None:
    from tritonvision import catalog
    from tritonvision.engine.engine import Engine
    from tritonvision.exporters import registry
    from tritonvision.server import Embedded

    server = None if settings.triton_url else Embedded(settings)
    exportable = frozenset(entry.id for entry in catalog.entries().values() if registry.can_export(entry))
    engine = Engine(settings, server, exportable)
    await engine.start()
    try:
        await _until_told_to_end(_answer(engine, settings, server, named, handover, copy), handover.told)
    finally:
        await engine.close()
        if server is not None:
            await asyncio.to_thread(server.stop)


async def _until_told_to_end(work: Coroutine[None, None, None], told: list[int]) -> None:
    """Run ``work`` until it ends, or SIGTERM or Ctrl-C, added to ``told``, cancels it. The clean-up ignores more."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def end(number: int, _: FrameType | None) -> None:
        told.append(number)
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    # Not loop.add_signal_handler: that would go on firing while uvicorn has taken the signals over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    signal.signal(signal.SIGUSR2, lambda *_: None)  # until the port answers
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _answer(
    engine: Engine, settings: Settings, server: Embedded | None, named: Sequence[str], handover: _Handover,
    copy: RepositoryCopy | None,
) -> None:  # fmt: skip
    from tritonvision.facade import grpc_bridge
    from tritonvision.facade.app import create_app
    from tritonvision.facade.run import run

    if server is not None:
        await asyncio.to_thread(server.start)
    await handover.load_as_before(engine)
    await asyncio.gather(*(_load(engine, name) for name in named))
    line = await asyncio.to_thread(_ready_line, engine, settings, server)
    if server is None:
        await asyncio.to_thread(_warn_of_old, settings)
    app = create_app(engine, settings)

    def ready() -> None:
        typer.echo(line)
        handover.port_answers()

    told = asyncio.Event()
    following = asyncio.create_task(_follow(copy, settings.repository_poll, told)) if copy else None
    renewing = asyncio.create_task(_renew(server)) if server else None
    async with grpc_bridge.serving(app, settings, successor=handover.before is not None):
        try:
            await run(
                app, settings, ready=ready, hangup=told.set if copy else None,
                listener=None if handover.before is None else handover.before.listener,
                hand_on=lambda listener: handover.hand_on(listener, engine),
            )  # fmt: skip
        finally:
            for task in filter(None, (following, renewing)):
                task.cancel()


def _copied(settings: Settings) -> RepositoryCopy | None:
    """The copy of a repository that lies elsewhere, brought up to date; that of before where it does not answer."""
    if settings.repository_source is None:
        return None
    from tritonvision.publication import Repository
    from tritonvision.repository_sources import source_of
    from tritonvision.repository_sources.copying import RepositoryCopy

    copy = RepositoryCopy(source_of(settings.repository_source), settings.repository)
    try:
        copy.look()
    except TritonVisionError as error:
        if not any(Repository(settings.repository)):
            raise
        typer.echo(f"Warning: {error.message} The models of the last time are served.", err=True)
    return copy


async def _follow(copy: RepositoryCopy, seconds: float, told: asyncio.Event) -> None:
    """Look at the source every ``seconds``, 0 for never, and when told."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await told.wait()
        told.clear()
        try:
            await asyncio.to_thread(copy.look)
        except TritonVisionError as error:
            log.error("The repository stays as it is: %s", error.message)
        except Exception:  # the boundary of the task: nobody would look at the source again
            log.exception("The repository stays as it is: a look at its source failed.")


async def _renew(server: Embedded) -> None:
    """Have a new process take over once the tritonserver is worn, as with SIGUSR2, where there is memory for both."""
    from tritonvision.server import stubs

    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        with contextlib.suppress(TritonVisionError):  # it is being started
            if not await asyncio.to_thread(stubs.worn, server.pid):
                continue
            held = sum(map(stubs.resident, (os.getpid(), server.pid, *stubs.of_server(server.pid))))
            if memory.free() > _ROOM * held:
                log.warning("The inference server keeps too much of processes that ended; a new one takes over.")
                os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(_RENEW_AGAIN)


async def _load(engine: Engine, name: str) -> None:
    try:
        await engine.load(name)
    except TritonVisionError as error:  # one broken model must not prevent serving the others
        complain(f"{name} was not loaded: {error.message}", error.hint)


def _ready_line(engine: Engine, settings: Settings, server: Embedded | None) -> str:
    host = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.host
    published, loaded = len(list(engine.repository)), len(engine.loaded())
    models = f"{published} model{'s' * (published != 1)} published, {loaded} loaded"
    triton = _foreign(settings) if server is None else f"tritonserver {server.version}, embedded"
    scheme = "http" if settings.tls_cert is None else "https"
    return f"Serving on {scheme}://{host}:{settings.port} ({models}; {triton})"


def _foreign(settings: Settings) -> str:
    """Who the tritonservers are; the version of one that stands alone."""
    from tritonvision.engine.endpoints import endpoints_of
    from tritonvision.server.control import Control

    first, *others = endpoints_of(settings)
    if others:
        return f"tritonservers at {', '.join(endpoint.target for endpoint in (first, *others))}"
    if first.target.startswith("dns:"):
        return f"tritonservers at {first.target}"
    control = Control(first)
    try:
        return f"tritonserver {control.version()} at {first.target}"
    except TritonVisionError:
        return f"tritonserver at {first.target}, which does not answer yet"
    finally:
        control.close()


def _warn_of_old(settings: Settings) -> None:
    """Say it where a tritonserver of somebody else lacks security fixes; nothing where it does not tell its version."""
    from tritonvision.engine.endpoints import endpoints_of
    from tritonvision.server.control import Control
    from tritonvision.server.fixes import SAFE_LINE, described, has_fixes

    for endpoint in endpoints_of(settings):
        control = Control(endpoint)
        try:
            version = control.version()
        except TritonVisionError:
            continue
        finally:
            control.close()
        if has_fixes(version) is False:
            typer.echo(
                f"Warning: the tritonserver at {endpoint.target} is not safe among strangers: "
                f"{described(version)}. Let nobody but this server reach it, or run {SAFE_LINE} or newer.", err=True,
            )  # fmt: skip
