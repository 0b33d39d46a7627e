"""``tritonvision explain``: where the milliseconds of a request go, from the client to the network and back."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from tritonvision import tasks
from tritonvision.cli.options import ApiKey, OwnRepository, Url, print_json, settings_with
from tritonvision.cli.predict import note
from tritonvision.cli.question import ask as question_of
from tritonvision.cli.sources import FacadeSource, published, server_to_ask
from tritonvision.commands import command
from tritonvision.engine.model_times import ModelTimes
from tritonvision.errors import InvalidParameter, SetupError

if TYPE_CHECKING:
    from tritonvision.settings import Settings

_START_SECONDS = 60.0
_FIRST_STEPS, _NETWORK = ("pre--", "tokens--"), "net--"  # an ensemble begins with one of the first
_BLOCKS = 14  # of the longest bar in the table
_WARM_UP = 3  # requests that are not counted
# What a task has to be asked besides the picture, of which the network's time does not depend on what is meant.
_QUESTIONS: dict[str, dict[str, Any]] = {
    tasks.PROMPTABLE.name: {"points": ["200,150"]}, tasks.OPEN_VOCABULARY.name: {"texts": ["a person"]},
    tasks.VLM.name: {"texts": ["What is this?"], "max_tokens": 8},
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Where a part of a request's time goes.

    Attributes:
        place: ``client``, ``facade``, ``engine``, or the Triton model.
        what: it is spent on.
        milliseconds: of one request, in the mean.
        batch: samples of one execution, in the mean; None where there is nothing to count.
    """

    place: str
    what: str
    milliseconds: float
    batch: float | None = None


def explain(
    model_id: Annotated[str, typer.Argument(help="Id or alias of a published model.")],
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture to ask about. [a photograph]")] = None,
    requests: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="How many requests.")] = 30,
    at_once: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many of them at the same time.")] = 1,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the table as a bar into this file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    repository: OwnRepository = None,
) -> None:
    """Ask a model a number of times over HTTP and tell where the milliseconds of a request went.

    Triton's own statistics tell of every step the time in its queue, gathering inputs, computing and handing on
    outputs, and how many samples one execution took. What is left is the engine's (its queue, the way to Triton and
    back), the facade's (reading the request, writing the answer) and the client's. Others who ask a running server
    meanwhile count, too.

    \b
    Examples:
      tritonvision explain yolov8n-640
      tritonvision explain resnet18 --requests 200 --at-once 8 --picture resnet18.png
      tritonvision explain coco/3 --image street.jpg --url gpu-box:9001 --json
    """
    settings = settings_with(repository=repository, api_key=api_key)
    data = _read(image)
    address = server_to_ask(url, settings.port)
    if address is None:
        model_id = published(settings, model_id, lambda _: None).id  # before a server is started
    parts = asyncio.run(_explain(settings, address, model_id, data, requests, at_once))
    if json:
        print_json([asdict(part) for part in parts])
    else:
        _print(model_id, parts, requests, at_once)
    if picture is not None:
        _draw(f"{model_id}: {requests} requests, {at_once} at once", parts, picture)


def _read(image: Path | None) -> bytes:
    if image is None:
        return resources.files("tritonvision.data").joinpath("astronaut.png").read_bytes()
    try:
        return image.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"{image} cannot be read: {error.strerror}.") from error


async def _explain(
    settings: Settings, address: str | None, model_id: str, data: bytes, requests: int, at_once: int
) -> list[Part]:
    from tritonvision.client.remote.facade import RunningFacade

    async with _server(settings, address) as url, RunningFacade(url, settings.api_key, note) as facade:
        await facade.ready(model_id)
        facts = await facade.get(f"/model/facts/{quote(model_id)}")
        nothing: dict[str, Any] = {"points": None, "box": None, "texts": None}
        question = question_of(None, **{**nothing, **_QUESTIONS.get(facts["task"], {})})
        source = FacadeSource(url, settings.api_key, model_id, question, note)
        async with source:
            for _ in range(_WARM_UP):
                await source.ask(data)
            before = await _snapshot(facade, model_id)
            seconds = await _ask(source, data, requests, at_once)
            after = await _snapshot(facade, model_id)
    return _parts(before, after, seconds, requests)


@asynccontextmanager
async def _server(settings: Settings, address: str | None) -> AsyncIterator[str]:
    """The address of the server that is asked: ``address``, or that of one of our own for the duration."""
    if address is not None:
        yield address
        return
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = command("serve", "--port", str(port), "--repository", str(settings.repository), "--log-level", "warning")
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + _START_SECONDS
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    (await client.get(f"{url}/readiness", timeout=5)).raise_for_status()
                    break
                except httpx.HTTPError as error:
                    if process.poll() is not None or time.monotonic() > give_up:
                        raise SetupError("No server could be started.", hint="See: tritonvision doctor") from error
                    await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def _ask(source: FacadeSource, data: bytes, requests: int, at_once: int) -> float:
    """Seconds of one request as its caller sees them, in the mean."""
    gate, spent = asyncio.Semaphore(at_once), 0.0

    async def one() -> None:
        nonlocal spent
        async with gate:
            began = time.perf_counter()
            await source.ask(data)
            spent += time.perf_counter() - began

    async with asyncio.TaskGroup() as group:
        for _ in range(requests):
            group.create_task(one())
    return spent / requests


@dataclass(frozen=True)
class _Snapshot:
    """What the server has counted so far.

    Attributes:
        facade: seconds of requests for the model, from the first byte to the answer, and in them ``engine``: waiting
            for the model.
        times: of each Triton model behind it: its ``entry_points``, their ``steps``, and other models that they ask.
        stages: seconds of requests by stage, see :class:`tritonvision.stages.Stage`.
    """

    facade: float
    engine: float
    entry_points: Sequence[str]
    steps: Sequence[str]
    times: Mapping[str, ModelTimes]
    stages: Mapping[str, float] = field(default_factory=dict)


async def _snapshot(facade: Any, model_id: str) -> _Snapshot:
    told = await facade.get(f"/model/times/{quote(model_id)}")
    times = {one["model"]: ModelTimes(**one) for one in told["times"]}
    counted = told["request_seconds"], told["model_seconds"]
    return _Snapshot(*counted, told["entry_points"], told["steps"], times, told["stage_seconds"])


def _parts(before: _Snapshot, after: _Snapshot, seconds: float, requests: int) -> list[Part]:
    """The parts of one request, in the order in which it meets them."""
    ms = 1000 / requests
    times = [one.since(before.times.get(name)) for name, one in after.times.items()]
    asked = [one for one in times if one.requests]
    entry = [one for one in asked if one.model in after.entry_points]
    in_triton = sum(one.total for one in entry)
    facade, engine = after.facade - before.facade, after.engine - before.engine
    parts = [
        Part("client", "HTTP, base64 and JSON", 1000 * seconds - facade * ms),
        Part("facade", "request read, answer written", (facade - engine) * ms),
        Part("engine", "queue, way to Triton and back", (engine - in_triton) * ms),
    ]
    inner = sorted((one for one in asked if one not in entry), key=lambda one: one.model.startswith("post--"))
    inner.sort(key=lambda one: not one.model.startswith(_FIRST_STEPS))
    within = _within_the_network(before, after, inner)
    for one in inner:
        if one.model not in after.steps:
            parts.append(Part(one.model, "all of it", one.total * ms))
        elif one.model.startswith(_NETWORK) and within:
            queue, gathered, around, output = _of_step(one, ms, less=sum(within.values()))
            steps = [Part(one.model, what, seconds * ms, one.batch) for what, seconds in within.items()]
            parts += [queue, gathered, *steps, replace(around, what="around its steps"), output]
        else:
            parts += _of_step(one, ms)
    rest = sum(one.total for one in inner)
    ensemble = any(name.startswith(_FIRST_STEPS) for name in after.steps)
    for one in entry:
        if ensemble:  # its steps are all that it does
            parts.append(Part(one.model, "between its steps", (one.total - rest) * ms))
        else:
            parts += _of_step(one, ms, less=rest)
    return [part for part in parts if part.milliseconds > 0 or part.place in ("client", "facade", "engine")]


def _within_the_network(before: _Snapshot, after: _Snapshot, inner: Sequence[ModelTimes]) -> dict[str, float]:
    """Seconds of each stage where the processes of a network run the steps around it, too; else nothing."""
    if not {one.model for one in inner} < set(after.steps) or any(not one.model.startswith(_NETWORK) for one in inner):
        return {}
    took = {name: seconds - before.stages.get(name, 0.0) for name, seconds in after.stages.items()}
    return {name: took[name] for name in ("pre", "network", "post") if took.get(name)}


def _of_step(one: ModelTimes, ms: float, less: float = 0.0) -> list[Part]:
    """The four parts of a Triton model's time.

    Args:
        less: seconds of ``infer`` that belong to the models it asks.
    """
    shares = {"queue": one.queue, "input": one.input, "infer": one.infer - less, "output": one.output}
    return [Part(one.model, what, value * ms, one.batch) for what, value in shares.items()]


def _print(model_id: str, parts: Sequence[Part], requests: int, at_once: int) -> None:
    from rich.console import Console
    from rich.table import Table

    whole = sum(part.milliseconds for part in parts)
    console = Console(highlight=False)
    console.print(f"[bold]{model_id}[/bold]  {whole:.1f} ms a request ({requests} requests, {at_once} at once)")
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for width in (7, 5, 5):
        table.add_column(justify="right", no_wrap=True, min_width=width)
    table.add_column(no_wrap=True, min_width=_BLOCKS)
    table.add_row("[dim]where", "[dim]what", "[dim]ms", "[dim]share", "[dim]batch", "")
    previous = ""
    for part in parts:
        share = part.milliseconds / whole if whole else 0.0
        batch = "" if part.batch is None else f"{part.batch:.1f}"
        place, previous = ("" if part.place == previous else part.place), part.place
        table.add_row(place, part.what, f"{part.milliseconds:.2f}", f"{share:.0%}", batch, "█" * round(_BLOCKS * share))
    console.print(table)


def _draw(title: str, parts: Sequence[Part], target: Path) -> None:
    from tritonvision.drawing.budget import Bar, draw_budget

    bars = [Bar(part.place, part.what, part.milliseconds) for part in parts]
    try:
        draw_budget(title, bars).save(target, "PNG")
    except OSError as error:
        raise SetupError(f"{target} cannot be written.", hint="Choose another file for --picture.") from error
    typer.echo(f"Drawn into {target}")
