"""Export is publishing with proof: weights -> network -> graph -> check -> parity gate -> repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tritonvision import __version__, catalog
from tritonvision.catalog import Entry
from tritonvision.errors import SetupError
from tritonvision.exporters import pins, registry, weight_files
from tritonvision.exporters.contract import Family, Network, Weights, entry_points_of
from tritonvision.exporters.synthetic import seeds
from tritonvision.publication import Manifest, Repository

if TYPE_CHECKING:
    from tritonvision.ensembles.in_process import Ask

# Packages that a missing module belongs to, and the extras that bring them.
_EXTRAS = {
    "flatbuffers": "mediapipe",
    "onnx": "mediapipe",  # the smallest extra that has it; families with torch miss torch first
    "onnxruntime": "onnx-cpu",
    "openvino": "openvino",
}
_TORCH_EXTRAS = "export,torch-cpu"
# It names versions of other packages that it does not need at all.
_ALONE = {"doctr": "pip install --no-deps python-doctr"}


class Progress(Protocol):
    """The observer of an export's progress."""

    def stage(self, name: str) -> None:
        """``name`` begins; the stage before it is done."""

    def notice(self, sentence: str) -> None:
        """A notice for the user, such as a licence."""


class Quiet:
    """Progress without output."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def notice(self, sentence: str) -> None:
        """Nothing."""


def published(model_id: str, repository: Path, as_id: str | None = None) -> Manifest | None:
    """What is published under the id that ``model_id`` would get, or None. Raises UnknownModel."""
    return Repository(repository).get(as_id or catalog.find(model_id).id)


def export(
    model_id: str,
    weights: Weights,
    repository: Path,
    as_id: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Publish one model, or nothing.

    Args:
        model_id: id or alias of the catalogue; it decides about the architecture.
        as_id: public id when it shall be another one.
        force: replace what is published under that id; without it, that is left alone and its manifest returned.

    Raises:
        UnknownModel, NotSupported: no such id, or no exporter for it.
        ExportFailed: weights cannot be loaded, or the graph does not compute what its reference computes.
        SetupError: a package is not installed, or the repository cannot be written.
    """
    entry = catalog.find(model_id)
    public_id = catalog.check_id(as_id or entry.id)
    weight_files.refuse_graphs(weights)
    existing = published(model_id, repository, as_id)
    if existing is not None and not force:
        return existing
    with naming_what_is_missing(entry.id):
        family = registry.find(entry.family)
        family.refusals.check(entry.id, weights)
        return publish_family(family, entry, weights, repository, public_id, progress or Quiet())


@contextmanager
def naming_what_is_missing(model_id: str) -> Iterator[None]:
    """Turn a failed import of a third-party package into a SetupError with the install command."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tritonvision"):
            raise
        package = error.name.split(".")[0]
        install = _ALONE.get(package) or f"pip install 'tritonvision[{_EXTRAS.get(package, _TORCH_EXTRAS)}]'"
        raise SetupError(
            f"Exporting '{model_id}' needs the package '{package}', which is not installed.",
            hint=f"Get it with: {install}",
        ) from error


def publish_family(
    family: Family, entry: Entry, weights: Weights, repository: Path, public_id: str, progress: Progress
) -> Manifest:
    """Build, prove and publish one id of a family under ``public_id``, in the place of what is there.

    Raises:
        ExportFailed, SetupError: as :func:`export`.
        ModuleNotFoundError: a package that the export needs is not installed.
    """
    if family.license_notice:
        progress.notice(family.license_notice)
    # import first, so that a missing package fails before anything is built
    from tritonvision.exporters.parity import gate, published_models  # noqa: F401

    needs = {
        need: published_models.needed(repository, need)
        for point in family.entry_points(entry)
        for need in getattr(point, "needs", ())
    }

    def attempt(seeded: Weights) -> Manifest:
        left_out = f"Seed {weights.seed} carries no signal: seed {seeded.seed} was taken."
        notes = () if seeded == weights else (left_out,)
        return _prove_and_publish(family, entry, seeded, repository, public_id, progress, needs, notes)

    return seeds.with_signal(attempt, weights, progress.notice)


def _prove_and_publish(
    family: Family, entry: Entry, weights: Weights, repository: Path, public_id: str, progress: Progress,
    needs: Mapping[str, Ask], notes: tuple[str, ...],
) -> Manifest:  # fmt: skip
    from tritonvision.exporters import publish
    from tritonvision.exporters.graphs import check
    from tritonvision.exporters.parity.gate import Gate

    with publish.staging(repository) as folder:
        progress.stage("weights")
        with pins.recorded() as taken:
            network = family.build(entry, weights)
        notes += pins.notes(taken)
        points = entry_points_of(family, entry, network)
        progress.stage("graph")
        graphs = {}
        for net in (net for point in points for net in point.nets):
            graphs[net.role] = folder / f"{net.role or 'model'}.onnx"
            network.export(graphs[net.role], net.role)
            check.check(graphs[net.role], net)
        progress.stage("parity gate")
        gate = Gate(family, entry, network, graphs, weights.kind, needs)
        parity = gate.check()
        manifest = _manifest(entry, family, network, weights, public_id, parity, graphs, notes)
        golden = gate.golden(parity, manifest)
        progress.stage("publishing")
        assets = {point.role: network.assets(point.role) for point in points}
        return publish.publish(repository, folder, manifest, points, graphs, assets, golden)


def license_of(entry: Entry, kind: str) -> str:
    """The licence of weights of that kind; the catalogue knows that of the released ones."""
    if kind == "official":
        return entry.license
    return "none, the weights are random numbers" if kind == "random" else "not known, the weights are your own"


def _manifest(
    entry: Entry, family: Family, network: Network, weights: Weights, public_id: str, parity: dict[str, float],
    graphs: Mapping[str, Path], notes: tuple[str, ...],
) -> Manifest:  # fmt: skip
    from tritonvision.ensembles import model_configs
    from tritonvision.ensembles.entry_points import Chain
    from tritonvision.exporters.graphs import storage

    points = entry_points_of(family, entry, network)
    return Manifest(
        id=public_id,
        family=entry.family,
        task=entry.task,
        head=points[0].name,
        weights=weights.kind,
        source=network.source,
        sha256=network.sha256 or storage.digest(graphs.values()),
        license=license_of(entry, weights.kind),
        precision=network.precision,
        labels=network.labels,
        input_size=points[0].size,
        steps=model_configs.step_names(catalog.triton_name(public_id), points),
        roles=tuple(point.role for point in points),
        needs=tuple(need for point in points for need in getattr(point, "needs", ())),
        graph_bytes=sum(
            storage.size(graphs[net.role]) * (point.instances if model_configs.embedded(point) else net.instances)
            for point in points
            for net in point.nets
        ),
        processes=sum(net.instances for point in points for net in point.nets if not model_configs.embedded(point))
        + sum(point.instances for point in points if not isinstance(point, Chain)),
        map_meaning=network.map_meaning or family.map_meaning,
        keypoint_labels=network.keypoint_labels,
        multi_label=network.multi_label,
        parity=parity,
        versions={"tritonvision": __version__, "onnxruntime": _onnxruntime_version()} | network.versions,
        notes=network.notes + notes,
    )


def _onnxruntime_version() -> str:
    """Its distribution is called differently for CPU and GPU, the module is one."""
    import onnxruntime

    return onnxruntime.__version__
