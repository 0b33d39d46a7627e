"""``tritonvision validate``: how well a served model does on labelled pictures, beside its reference."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonvision import catalog, tasks
from tritonvision.cli.options import ApiKey, OwnRepository, Url, print_json, settings_with
from tritonvision.errors import InvalidParameter, NotSupported, TritonVisionError, UnknownModel

if TYPE_CHECKING:
    import numpy as np

    from tritonvision.client.connections import Connection
    from tritonvision.engine.facts import Facts
    from tritonvision.exporters.contract import Tensors
    from tritonvision.exporters.precision.measures.base import Answer
    from tritonvision.exporters.precision.validation import Data
    from tritonvision.settings import Settings


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        served: figures of the server's answers, by name, in percent.
        reference: those of the reference pipeline, None where it was not asked.
        why: not, in a sentence.
    """

    id: str
    task: str
    pictures: int
    served: Mapping[str, float]
    reference: Mapping[str, float] | None = None
    why: str = ""


def validate(
    model_id: Annotated[str, typer.Argument(help="Id or alias of a published model.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Labelled pictures: COCO, YOLO, or a folder a class.")],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many of them, evenly spread.")
    ] = None,
    with_reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Ask the author's own pipeline, too; it needs torch.")
    ] = True,
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="For the reference: the weights of yours it was published from.")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="For the reference: accept the licence of the weights.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    repository: OwnRepository = None,
) -> None:
    """Measure a served model on labelled pictures: mAP of boxes and masks, best classes, error of depth.

    The pictures go through the server, then through the reference pipeline, the author's own code with the same
    weights; the figures stand side by side. Where that code is not installed, the server's stand alone.

    \b
    The folder, by task:
      detection       pictures, and one JSON of COCO's kind; or labels of YOLO's kind (data.yaml, images/, labels/)
      classification  a folder for each class, called as the class
      depth           pictures, beside each NAME.npy or a grey NAME.depth.png

    \b
    Examples:
      tritonvision validate yolov8n-640 --data coco/val2017 --limit 200
      tritonvision validate helmets/3 --data helmets --weights best.pt
      tritonvision validate resnet18 --data birds --no-reference --url gpu-box:9001
    """
    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model_id)
    facts, read, served = asyncio.run(_served(settings, model_id, url, data, limit))
    asked = (settings, facts, read, weights, accept_license)
    reference, why = _reference(*asked) if with_reference else (None, "")
    report = Report(facts.id, facts.task, read.count, served, reference, why)
    if json:
        print_json(report.__dict__)
    else:
        typer.echo(table(report, data.name))


async def _served(
    settings: Settings, model_id: str, url: str | None, folder: Path, limit: int | None
) -> tuple[Facts, Data, Mapping[str, float]]:
    """The model, the pictures, and the figures of what a server answers about them."""
    from tritonvision.cli.sources import facade, published, server_to_ask
    from tritonvision.client.connections import EngineConnection
    from tritonvision.engine.facts import Facts
    from tritonvision.engine.own import own_engine

    address = server_to_ask(url, settings.port)
    if address is None:
        facts = Facts.of(published(settings, model_id, _say))
        data = _read(facts, folder, limit)
        async with own_engine(settings) as engine:
            return facts, data, await _measured(EngineConnection(engine, _say), facts, data)
    connection = await facade(address, settings.api_key, _say)
    try:
        facts = await connection.facts(model_id)
        data = _read(facts, folder, limit)
        return facts, data, await _measured(connection, facts, data)
    finally:
        await connection.close()


def _read(facts: Facts, folder: Path, limit: int | None) -> Data:
    from tritonvision.exporters.precision.validation import Data

    return Data.of(folder.expanduser(), facts.task, facts.labels, facts.map_meaning, limit)


async def _measured(connection: Connection, facts: Facts, data: Data) -> Mapping[str, float]:
    """The figures of a connection's answers: the measure runs in a thread, its questions here."""
    from tritonvision.ensembles.in_process import npy
    from tritonvision.exporters.precision.validation import tensors_of

    loop = asyncio.get_running_loop()

    def answer(sample: np.ndarray, given: Mapping[str, Any]) -> Tensors:
        settings = tasks.resolve(tasks.TASKS[facts.task].parameters, given)
        asked = connection.infer(facts, [npy(sample)], settings)
        (result,) = asyncio.run_coroutine_threadsafe(asked, loop).result()
        return tensors_of(result)

    with _bar("Served", data.count) as advance:
        return await asyncio.to_thread(data.measured, _counted(answer, advance))


def _reference(
    settings: Settings, facts: Facts, data: Data, weights: Path | None, accept_license: bool
) -> tuple[Mapping[str, float] | None, str]:  # fmt: skip
    """The figures of the reference pipeline, or why there are none. Raises what is wrong with ``weights``."""
    from tritonvision.exporters import pipeline
    from tritonvision.exporters.precision import validation
    from tritonvision.publication import Repository

    def accept(entry: catalog.Entry) -> None:
        pipeline.accepted(entry, accept_license)

    try:
        manifest = Repository(settings.repository).resolve(facts.id)
        with pipeline.naming_what_is_missing(facts.id):
            answer = validation.reference(manifest, weights, accept)
            with _bar("Reference", data.count) as advance:
                return data.measured(_counted(answer, advance)), ""
    except UnknownModel:
        return None, "It is not published in this repository, so nothing tells its weights."
    except (InvalidParameter, NotSupported) as error:
        if weights is not None:
            raise
        return None, f"{error.message} {error.hint}".strip()
    except TritonVisionError as error:
        return None, f"{error.message} {error.hint}".strip()


def table(report: Report, folder: str) -> str:
    """The figures as lines: what, of the server, of the reference."""
    from tritonvision.exporters.precision.validation import WORDS

    names = [name for name in WORDS if name in report.served]
    width = max(len(WORDS[name]) for name in names)
    lines = [
        f"{report.id} over {report.pictures} pictures of '{folder}', in percent:",
        f"{'':{width}}  served" + ("  reference" if report.reference else ""),
    ]
    for name in names:
        reference = f"  {report.reference[name]:9.2f}" if report.reference else ""
        lines.append(f"{WORDS[name]:{width}}  {report.served[name]:6.2f}{reference}")
    if report.why:
        lines.append(f"The reference is not beside it: {report.why}")
    return "\n".join(lines)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error if that is a terminal; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _counted(answer: Answer, advance: Callable[[], None]) -> Answer:
    def asked(*question: Any) -> Tensors:
        found = answer(*question)
        advance()
        return found

    return asked


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)
