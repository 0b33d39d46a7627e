"""``tritonvision verify``: ask models what they answered when they were published, and compare, stage by stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from tritonvision.cli import FAILED, complain
from tritonvision.cli.options import ApiKey, OwnRepository, Url, print_json, settings_with
from tritonvision.cli.sources import server_to_ask
from tritonvision.engine.own import own_engine
from tritonvision.errors import TritonVisionError

if TYPE_CHECKING:
    from rich.text import Text

    from tritonvision.settings import Settings

Checked = Mapping[str, Any]  # as ``GET /model/verify/{model}`` tells it, with ``error`` where there is no verdict


def verify(
    model_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_ID...]", help="Ids or aliases. Default: all published ones.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object a model.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    repository: OwnRepository = None,
) -> None:
    """Ask models their golden questions: a picture or a text and its answer, recorded when they were published.

    Every load asks the whole model and refuses one that answers otherwise; this command asks each stage of it, too (pre
    step, network, post step), and shows how far each is from what was recorded, and how far it may be. Ends with 1 when
    a model differs or cannot be asked.

    \b
    Examples:
      tritonvision verify
      tritonvision verify yolov8n-640 clip/ViT-B-32
      tritonvision verify coco/3 --url gpu-box:9001 --json
    """
    from tritonvision.publication import Repository

    settings = settings_with(repository=repository, api_key=api_key)
    published = Repository(settings.repository)
    address = server_to_ask(url, settings.port)
    names = [*(model_ids or (manifest.id for manifest in published))]
    if address is None:
        names = [published.resolve(name).id for name in names]  # before a server is started
    if not names:
        typer.echo("Nothing is published here.", err=True)
        return
    found = asyncio.run(_check(settings, names, address, quiet=json))
    if json:
        print_json(found)
    if not all(checked["passed"] for checked in found):
        raise typer.Exit(FAILED)


async def _check(settings: Settings, names: Sequence[str], address: str | None, quiet: bool) -> list[Checked]:
    """Every model after the other; each is shown as soon as it is known, unless ``quiet``."""
    found = []
    verdicts = _of_own_server(settings, names) if address is None else _of_facade(address, settings.api_key, names)
    async with aclosing(verdicts):
        async for checked in verdicts:
            found.append(checked)
            if not quiet:
                show(checked)
    return found


async def _of_own_server(settings: Settings, names: Sequence[str]) -> AsyncGenerator[Checked, None]:
    async with own_engine(settings) as engine:
        for name in names:
            try:
                verdict = await engine.verify(name)
                await engine.unload(verdict.model_id)
                yield verdict.to_dict()
            except TritonVisionError as error:
                yield _failed(name, error)


async def _of_facade(address: str, api_key: str | None, names: Sequence[str]) -> AsyncGenerator[Checked, None]:
    from tritonvision.cli.predict import note
    from tritonvision.client.remote.facade import RunningFacade

    async with RunningFacade(address, api_key, note) as facade:
        for name in names:
            try:
                yield await facade.get(f"/model/verify/{quote(name)}")
            except TritonVisionError as error:
                yield _failed(name, error)


def _failed(name: str, error: TritonVisionError) -> Checked:
    return {
        "model_id": name, "variant": "", "asked": False, "passed": False, "differs": "", "why": error.message,
        "stages": [], "error": error.code, "hint": error.hint,
    }  # fmt: skip


def show(checked: Checked) -> None:
    """Print one model: a heading, and a line for each of its stages."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if "error" in checked:
        complain(f"{checked['model_id']}: {checked['why']}", checked["hint"])
        return
    console = Console(highlight=False)
    heading = (checked["model_id"], "bold"), (checked["variant"], "cyan")
    console.print(Text.assemble(heading[0], "  ", heading[1], "  ", _state(checked)))
    table = Table.grid(padding=(0, 2))
    for column in ("", "stage", "model", "figures", "verdict"):
        table.add_column(column, no_wrap=column != "figures", overflow="fold")
    for stage in checked["stages"]:
        name = f"{stage['entry_point']}: {stage['stage']}" if stage["entry_point"] else stage["stage"]
        state = Text("ok", style="green") if stage["passed"] else Text(_over(stage), style="bold red")
        table.add_row("", name, stage["model"], _figures(stage), state)
    if checked["stages"]:
        console.print(table)


def _state(checked: Checked) -> Text:
    from rich.text import Text

    if not checked["asked"]:
        return Text("has no golden answer: it is of before there were any, or its own code gave none", style="yellow")
    if checked["passed"]:
        return Text("answers as it did when it was published", style="green")
    return Text(f"does not answer as it did: {checked['differs']}", style="bold red")


def _figures(stage: Mapping[str, Any]) -> str:
    """Each difference and its bar; what is compared exactly and agrees is left out where there is more to say."""
    told = {
        name: value for name, value in stage["found"].items() if stage["bars"][name] or value != 0
    } or stage["found"]
    return ", ".join(
        f"{name} {'no number' if value is None else f'{value:.2g}'} of {stage['bars'][name]:.2g}"
        for name, value in told.items()
    )


def _over(stage: Mapping[str, Any]) -> str:
    return stage["why"] if not stage["found"] else "differs"
