"""``tritonvision tune``: how a model runs best on this machine, measured, and from then on how it is served here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonvision.cli.options import ApiKey, Repository, print_json, settings_with
from tritonvision.errors import ExportFailed, InvalidParameter

if TYPE_CHECKING:
    from tritonvision.exporters.variants.search import Found, Look
    from tritonvision.exporters.variants.tuning import Plan, Trial
    from tritonvision.settings import Settings

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")
_LONGEST = 60_000.0  # milliseconds


def tune(
    model_id: Annotated[str, typer.Argument(metavar="MODEL_ID", help="Id or alias of a published model.")],
    p99: Annotated[
        str | None,
        typer.Option(metavar="100ms", help="Of 100 requests that come when they come, 99 are answered within this."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, metavar="S", help="About how long to measure.")] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, and change nothing.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Take back what was tuned; measure nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    repository: Repository = None,
    api_key: ApiKey = None,
) -> None:
    """Measure how a model runs best on this machine, and let it run so from now on.

    Published variants (engine and precision), processes and threads of the networks, and, where the server's engines
    let requests share a run, how long one waits for others, are tried on a server of its own: a single caller, four
    callers at once, and arrivals of a Poisson process at 70 % of the best throughput. Triton is asked directly, so what
    HTTP costs is not part of the figures. Short looks at all settings are followed by longer ones at the better half.

    The highest throughput is chosen whose p99 of the Poisson arrivals is within --p99; without it, whose p50 of a
    single caller is within 10 % of the best. A running server changes over without failing a request. On a machine
    with another CPU or number of cores the model runs by default.

    \b
    Examples:
      tritonvision tune yolov8n-640
      tritonvision tune yolov8n-640 --p99 100ms --seconds 120
      tritonvision tune resnet18 --dry-run --json
      tritonvision tune resnet18 --reset
    """
    settings = settings_with(repository=repository, api_key=api_key)
    bar = milliseconds(p99)
    if reset:
        _reset(settings, model_id)
        return
    from tritonvision.exporters.variants import tuning

    planned = tuning.plan(settings, model_id)
    with _shown(planned) as told:
        found = tuning.run(settings, planned, seconds, bar, told)
    written = found.chosen is not None and not dry_run
    if written:
        _write(settings, planned, found)
    if json:
        print_json(_facts(planned, found, bar, written))
    else:
        _print(planned, found, bar, written)
    if found.chosen is None:
        raise _none_fits(planned, found, bar)


def milliseconds(given: str | None) -> float | None:
    """Milliseconds of ``100ms``, ``0.1s`` or ``100``; None of None. Raises InvalidParameter."""
    if given is None:
        return None
    read = _DURATION.fullmatch(given.strip().lower())
    value = float(read[1]) * (1000 if read[2] == "s" else 1) if read else 0.0
    if not 0 < value <= _LONGEST:
        raise InvalidParameter(
            f"--p99 {given[:40]!r} is no time that an answer may take.", hint="A number of milliseconds, such as 100ms."
        )
    return value


def words(trial: Trial) -> str:
    """A setting as people read it."""
    threads = f" x {trial.threads} thread{'s' * (trial.threads != 1)}" if trial.threads else ""
    delay = f", {trial.delay:g} ms delay" if trial.delay else ""
    return f"{trial.variant}, {trial.instances} process{'es' * (trial.instances != 1)}{threads}{delay}"


def _reset(settings: Settings, model_id: str) -> None:
    from tritonvision.cli.variants import tell_server
    from tritonvision.exporters import variants
    from tritonvision.publication import Repository as Published

    before = Published(settings.repository).resolve(model_id)
    if before.tuning is None:
        typer.echo(f"{before.id} is not tuned: nothing is taken back.")
        return
    after = variants.untune(settings.repository, before.id)
    tell_server(after.id, settings)
    typer.echo(f"{after.id} is served by {after.serving or after.base_variant} as by default.")


def _write(settings: Settings, planned: Plan, found: Found[Trial]) -> None:
    from tritonvision.cli.variants import tell_server
    from tritonvision.exporters import variants
    from tritonvision.exporters.variants import tuning

    assert found.chosen is not None
    serving, tuned = tuning.tuning_of(settings.repository, planned, found.chosen, found.looks[found.chosen])
    variants.tune(settings.repository, planned.manifest.id, serving, tuned)
    tell_server(planned.manifest.id, settings)


def _none_fits(planned: Plan, found: Found[Trial], bar: float | None) -> ExportFailed:
    tails = {trial: look.p99 for trial in found.last if (look := found.looks[trial]).p99 is not None}
    if bar is None or not tails:
        return ExportFailed(f"'{planned.manifest.id}' ran in none of its settings.", hint="See: tritonvision doctor")
    nearest = min(tails, key=lambda trial: tails[trial] or 0.0)
    return ExportFailed(
        f"No setting of '{planned.manifest.id}' keeps a p99 of {bar:g} ms; the nearest, {words(nearest)}, takes "
        f"{tails[nearest]:.3g} ms, so nothing was changed.",
        hint="Allow more, or add a variant: tritonvision variants add --help",
    )


@contextmanager
def _shown(planned: Plan) -> Iterator[Any]:
    """A line that a person at a terminal sees while it runs, and nobody else."""
    if not sys.stderr.isatty():
        yield lambda trial, look: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{planned.manifest.id}: a server is started") as status:

        def told(trial: Trial, look: Look | None) -> None:
            figures = "does not run" if look is None else f"{look.per_second:.1f} a second, p50 {look.p50:.1f} ms"
            status.update(f"{planned.manifest.id}: {words(trial)}: {figures}")

        yield told


def _facts(planned: Plan, found: Found[Trial], bar: float | None, written: bool) -> dict[str, Any]:
    return {
        "model_id": planned.manifest.id, "p99_bar": bar, "poisson_per_second": found.rate,
        "today": asdict(planned.today), "chosen": None if found.chosen is None else asdict(found.chosen),
        "written": written, "notes": planned.notes,
        "settings": [
            {**asdict(trial), **asdict(look), "last_round": trial in found.last} for trial, look in _ranked(found)
        ],
    }  # fmt: skip


def _ranked(found: Found[Trial]) -> list[tuple[Trial, Look]]:
    """Those of the last round first, then by throughput."""
    return sorted(found.looks.items(), key=lambda one: (one[0] not in found.last, -one[1].per_second))


def _print(planned: Plan, found: Found[Trial], bar: float | None, written: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", overflow="fold")
    for name in ("a second", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for trial, look in _ranked(found):
        states = ["chosen"] * (trial == found.chosen) + ["today"] * (trial == planned.today)
        tail = "-" if look.p99 is None else f"{look.p99:.1f}"
        table.add_row(words(trial), f"{look.per_second:.1f}", f"{look.p50:.1f}", tail, ", ".join(states))
    console = Console(highlight=False)
    console.print(f"[bold]{planned.manifest.id}[/bold]")
    console.print(table)
    typer.echo("a second: four callers; p50: a single one; p99: Poisson arrivals, "
               f"in the last round {found.rate:.1f} a second")  # fmt: skip
    for note in planned.notes:
        typer.echo(f"Note: {note}")
    if found.chosen is not None:
        rule = f"its p99 is within {bar:g} ms" if bar else "its p50 is within 10 % of the best"
        verb = "runs from now on as" if written else "would run best as"
        typer.echo(f"{planned.manifest.id} {verb} {words(found.chosen)}: the highest throughput where {rule}.")
