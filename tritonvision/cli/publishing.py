"""What commands that publish models share: options that are read, licences, progress, and the sentence at the end."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tritonvision.errors import InvalidParameter
from tritonvision.variants import WEIGHTS_ONLY

if TYPE_CHECKING:
    from tritonvision.exporters.contract import Weights
    from tritonvision.publication import Manifest

T = TypeVar("T")
_SIZE = re.compile(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?")
# Figures of the gate as a person reads them; what is not among a model's figures is left out.
_FIGURES = {
    "pixels": "{:.2g} px", "scores": "{:.2g} of a score", "masks": "{:.2g} of a mask (1 - IoU)",
    "map": "{:.2g} of the largest depth", "embeddings": "{:.2g} of their spread", "degrees": "{:.2g} degrees",
}  # fmt: skip


@dataclass(frozen=True)
class How:
    """What shall run the networks.

    Attributes:
        engine: ``auto``, or one of :data:`tritonvision.variants.ENGINES`.
        options: of :func:`tritonvision.exporters.variants.add`.
    """

    engine: str
    precision: str
    options: Mapping[str, Any]

    @classmethod
    def read(cls, engine: str, precision: str | None, **options: Any) -> How:
        """The options of the command line, refused before anything is built if they cannot come true.

        Args:
            options: of :func:`tritonvision.exporters.variants.add`, empty where they were not given.

        Raises:
            InvalidParameter: no such engine or precision, or an option is for another engine.
            SetupError: this machine lacks it.
        """
        from tritonvision import machine
        from tritonvision.exporters import variants

        if engine == "auto" or (engine == "onnxruntime" and precision not in WEIGHTS_ONLY):
            if precision not in (None, "fp32") or any(options.values()):
                raise InvalidParameter(
                    "--precision, --calibrate, --gate-data and what is said of plans are for another engine.",
                    hint="Name it: --engine openvino or --engine tensorrt.",
                )
            return cls(engine, "fp32", {})
        variants.check_offered(engine, precision or "fp32")
        variants.check_plan(engine, options["max_batch"], options["plan"])
        if precision is None:
            precision = "bf16" if not machine.why_not(engine, "bf16") else "fp32"
        variants.require(engine, precision)
        return cls(engine, precision, options)


@dataclass(frozen=True)
class Job:
    """What is asked of every model that a command names, see the options of :func:`export`."""

    weights: Weights
    root: Path
    as_id: str | None
    force: bool
    quiet: bool
    accept_license: bool
    how: How


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line; empty lines at its end do not count. Raises InvalidParameter."""
    from tritonvision.exporters.weight_files import named_lines

    try:
        names = named_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter("The file of labels cannot be read.", hint="UTF-8 text, one name a line.") from error
    if names == ("",):
        raise InvalidParameter("The file of labels is empty.", hint="UTF-8 text, one name a line.")
    if not all(names):
        raise InvalidParameter("The file of labels has an empty line.", hint="Give each class id a name, one a line.")
    return names


def read_size(given: str | None) -> tuple[int, int] | None:
    """(height, width) of ``640`` or ``480x640``. Raises InvalidParameter."""
    if given is None:
        return None
    found = _SIZE.fullmatch(given)
    if found is None:
        raise InvalidParameter(
            f"--size {given[:40]!r} is no size.", hint="Pixels of a side, 640, or height and width, 480x640."
        )
    return int(found[1]), int(found[2] or found[1])


def accepting(publish: Callable[[bool], T], accept_license: bool) -> T:
    """``publish(accept_license)``; at a terminal a person is asked about a licence that has to be accepted.

    Raises:
        LicenseNotAccepted: nobody is there, or does not accept it.
    """
    from tritonvision.licenses import LicenseNotAccepted

    try:
        return publish(accept_license)
    except LicenseNotAccepted as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        if not typer.confirm(f"{error.message} Do you accept it?", err=True):
            raise
        return publish(True)


def summary(manifest: Manifest) -> str:
    """What was published and how exactly it was proven, in one sentence."""
    parity = manifest.parity
    figures = {name.removeprefix("pipeline_"): value for name, value in parity.items()}
    within = [text.format(figures[name]) for name, text in _FIGURES.items() if name in figures]
    license = f" Licence of the weights: {manifest.license}." if manifest.weights == "official" else ""
    return (
        f"{manifest.id} is published ({manifest.weights} weights): {parity['pipeline_answers']:.0f} answers equal the "
        f"reference's within {' and '.join(within)}.{license}"
    )


@contextmanager
def shown(public_id: str, quiet: bool):
    """A progress that a person at a terminal sees on standard error, and nobody else."""
    if quiet or not sys.stderr.isatty():
        yield _Stages()
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        stages = _Stages(bars, public_id)
        yield stages
        stages.done()


class _Stages:
    """One line a stage: what began before has ended."""

    def __init__(self, bars=None, public_id: str = ""):
        self.notices: list[str] = []
        self._bars = bars
        self._public_id = public_id
        self._task = None

    def stage(self, name: str) -> None:
        """Tick off the stage before, and let this one run."""
        if self._bars is not None:
            self.done()
            self._task = self._bars.add_task(f"{self._public_id}: {name}", total=1)

    def notice(self, sentence: str) -> None:
        """Kept for after the export: what is printed first on standard error is why an export failed."""
        self.notices.append(sentence)

    def done(self) -> None:
        """Tick off the stage that runs."""
        if self._task is not None:
            self._bars.update(self._task, completed=1)
