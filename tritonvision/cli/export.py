"""``tritonvision export``: weights in, a published and proven model out."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli.options import Calibrate, GateData, MaxBatch, print_json, settings_with
from tritonvision.errors import InvalidParameter

if TYPE_CHECKING:
    from tritonvision.exporters.contract import Weights
    from tritonvision.publication import Manifest

_SIZE = re.compile(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?")


def export(
    model_ids: Annotated[list[str], typer.Argument(metavar="MODEL_ID", help="Ids or aliases of the catalogue.")],
    weights: Annotated[
        str, typer.Option(metavar="official|random|PATH", help="The released weights, random ones, or a file of yours.")
    ] = "official",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one a line, in the order of the class ids.")
    ] = None,
    as_id: Annotated[
        str | None, typer.Option("--as", metavar="PROJECT/VERSION", help="Publish under an id of your own.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to publish into.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is published under that id.")] = False,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Classifiers: labels that do not exclude each other (sigmoid).")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|HxW", help="YOLO: pixels of the pictures; else those of the training."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|onnxruntime|openvino|tensorrt",
            help="What runs the networks: ONNX Runtime in fp32 always can; auto takes what is faster here, if the "
            "precision gate lets it.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|bf16|fp16|int8|fp8", help="Of the arithmetic on that engine.")
    ] = None,
    calibrate: Calibrate = None,
    gate_data: GateData = None,
    max_batch: MaxBatch = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the manifests as a JSON list.")] = False,
) -> None:
    """Publish models: build the network, write its graph, prove it against the reference, put it into the repository.

    A model that differs from its reference is not published, and the repository stays as it was. What is published
    already stays, unless --force is given. With --engine and --precision a variant joins it and serves, if it passes
    the precision gate; 'tritonvision variants' shows and changes that.

    \b
    Examples:
      tritonvision export mediapipe-face-detection
      tritonvision export yolov8n-640 yolov11n-640
      tritonvision export yolov8n-640 --weights best.pt --as helmets/3
      tritonvision export resnet18 --weights tags.safetensors --labels tags.txt --multi-label --as tags/1
      tritonvision export yolov8n-640 --weights random --seed 7 --as trial/1
      tritonvision export yolov8n-640 --engine openvino --precision int8 --calibrate pictures
    """
    if as_id is not None and len(model_ids) > 1:
        raise InvalidParameter("--as names one model, and several were given.", hint="Export them one by one.")
    root = settings_with(repository=repository).repository
    wanted = _weights(weights, seed, labels, multi_label, read_size(size))
    how = How.read(engine, precision, calibrate, gate_data, max_batch)
    outcomes = [_export(model_id, wanted, root, as_id, force, json, how) for model_id in model_ids]
    if json:
        print_json([{"fresh": fresh, **asdict(manifest)} for manifest, fresh in outcomes])


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
    def read(
        cls, engine: str, precision: str | None, calibrate: Path | None, gate_data: Path | None, max_batch: int
    ) -> How:
        """The options of the command line, refused before anything is built if they cannot come true.

        Raises:
            InvalidParameter: no such engine or precision.
            SetupError: this machine lacks it.
        """
        from tritonvision import machine
        from tritonvision.exporters import variants

        options = {"calibrate": calibrate, "gate_data": gate_data, "max_batch": max_batch}
        if engine in ("auto", "onnxruntime"):
            if precision not in (None, "fp32") or any(options.values()):
                raise InvalidParameter(
                    "--precision, --calibrate, --gate-data and --max-batch are for another engine.",
                    hint="Name it: --engine openvino or --engine tensorrt.",
                )
            return cls(engine, "fp32", {})
        variants.check_offered(engine, precision or "fp32")
        if precision is None:
            precision = "bf16" if not machine.why_not(engine, "bf16") else "fp32"
        variants.require(engine, precision)
        return cls(engine, precision, options)


def _weights(
    text: str, seed: int, labels: Path | None, multi_label: bool, size: tuple[int, int] | None
) -> Weights:  # fmt: skip
    from tritonvision.exporters.contract import Weights

    is_kind = text in ("official", "random")
    return Weights(
        kind=text if is_kind else "user",
        path=None if is_kind else Path(text).expanduser(),
        seed=seed,
        labels=None if labels is None else read_labels(labels),
        multi_label=multi_label,
        size=size,
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line; empty lines at its end do not count. Raises InvalidParameter."""
    from tritonvision.exporters.weight_files import named_lines

    try:
        names = named_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter("The file of labels cannot be read.", hint="UTF-8 text, one name a line.") from error
    if not names or not all(names):
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


def _export(
    model_id: str, weights: Weights, root: Path, as_id: str | None, force: bool, quiet: bool, how: How
) -> tuple[Manifest, bool]:
    from tritonvision.exporters import pipeline

    existing = pipeline.published(model_id, root, as_id)
    if existing is not None and not force:
        if not quiet:
            typer.echo(f"{existing.id} is published already ({existing.weights} weights); --force replaces it.")
        return _served(existing, root, how, quiet, fresh=False), False
    public_id = as_id or catalog.find(model_id).id
    with shown(public_id, quiet) as progress:
        manifest = pipeline.export(model_id, weights, root, as_id, force, progress)
    if not quiet:
        for sentence in (*progress.notices, *manifest.notes):
            typer.echo(f"Note: {sentence}")
        typer.echo(summary(manifest))
    return _served(manifest, root, how, quiet, fresh=True), True


def _served(manifest: Manifest, root: Path, how: How, quiet: bool, fresh: bool) -> Manifest:
    """The model with the variant that is asked for; of one that was there already ``auto`` changes nothing."""
    from tritonvision.cli.variants import sentence
    from tritonvision.exporters import variants

    if how.engine == "onnxruntime" or (how.engine == "auto" and not fresh):
        return manifest
    with shown(manifest.id, quiet) as progress:
        if how.engine == "auto":
            after = variants.auto(root, manifest, progress)
        else:
            after = variants.add(
                root, manifest.id, how.engine, how.precision, serve=True, progress=progress, **how.options
            )
    if not quiet and after is not manifest:
        new = [f"Note: {note}" for note in (*progress.notices, *after.notes[len(manifest.notes) :])]
        typer.echo("\n".join([*new, sentence(after, after.serving)] if after.serving else new))
    return after


# Figures of the gate as a person reads them; what is not among a model's figures is left out.
_FIGURES = {
    "pixels": "{:.2g} px", "scores": "{:.2g} of a score", "masks": "{:.2g} of a mask (1 - IoU)",
    "map": "{:.2g} of the largest depth", "embeddings": "{:.2g} of their spread", "degrees": "{:.2g} degrees",
}  # fmt: skip


def summary(manifest: Manifest) -> str:
    """What was published and how exactly it was proven, in one sentence."""
    parity = manifest.parity
    figures = {name.removeprefix("pipeline_"): value for name, value in parity.items()}
    within = [text.format(figures[name]) for name, text in _FIGURES.items() if name in figures]
    return (
        f"{manifest.id} is published ({manifest.weights} weights): {parity['pipeline_answers']:.0f} answers equal the "
        f"reference's within {' and '.join(within)}."
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
