"""Export is publishing with proof: weights -> network -> graph -> check -> parity gate -> repository."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tritonvision import __version__, catalog, graph_files, licenses
from tritonvision.catalog import Entry
from tritonvision.cgroups import cores
from tritonvision.errors import NotSupported, SetupError
from tritonvision.exporters import adapters, demand, pins, recognise, registry, weight_files
from tritonvision.exporters.contract import Family, Network, Weights, entry_points_of
from tritonvision.exporters.sources import hub
from tritonvision.exporters.synthetic import seeds
from tritonvision.publication import Manifest, Repository
from tritonvision.tasks import VLM

if TYPE_CHECKING:
    from tritonvision.ensembles.in_process import Ask

# Packages that a missing module belongs to, and the extras that bring them.
_EXTRAS = {
    "flatbuffers": "mediapipe",
    "huggingface_hub": "export",
    "onnx": "mediapipe",  # the smallest extra that has it; families with torch miss torch first
    "onnxruntime": "onnx-cpu",
    "openvino": "openvino",
}
_TORCH_EXTRAS = "export,torch-cpu"
# They name versions of other packages that they do not need at all.
_EASYOCR = "pip install --no-deps easyocr python-bidi scikit-image lazy-loader"
_ALONE = {
    "doctr": "pip install --no-deps python-doctr",
    **dict.fromkeys(("easyocr", "bidi", "skimage", "lazy_loader"), _EASYOCR),
}


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
    """What is published under the id that ``model_id`` would get, or None. Raises UnknownModel, BrokenModel."""
    return Repository(repository).existing(as_id or catalog.find(model_id).id)


def export(
    model_id: str,
    weights: Weights,
    repository: Path,
    as_id: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    accept_license: bool = False,
) -> Manifest:
    """Publish one model, or nothing.

    Args:
        model_id: id or alias of the catalogue; it decides about the architecture.
        as_id: public id when it shall be another one.
        force: replace what is published under that id; without it, that is left alone and its manifest returned.
        accept_license: accept the licence of the weights where that is asked for, and remember it.

    Raises:
        UnknownModel, NotSupported: no such id, or no exporter for it.
        BrokenModel: something unreadable is published under that id, and ``force`` is not given.
        InvalidParameter: an option that the family does not have.
        LicenseNotAccepted: of the weights, see :mod:`tritonvision.licenses`.
        ExportFailed: weights cannot be loaded, or the graph does not compute what its reference computes.
        SetupError: a package is not installed, or the repository cannot be written.
    """
    entry = catalog.find(model_id)
    public_id = catalog.check_id(as_id or entry.id)
    weight_files.refuse_graphs(weights)
    existing = None if force else published(model_id, repository, as_id)
    if existing is not None:
        return existing
    with naming_what_is_missing(entry.id):
        family = registry.find(entry.family)
        family.check(entry, weights)
        if weights.kind == "official":
            accepted(entry, accept_license)
        told = progress or Quiet()
        with _ready(weights, told, accept_license) as ready:
            return publish_family(family, entry, ready, repository, public_id, told)


def export_of_family(
    name: str, weights: Weights, repository: Path, public_id: str, force: bool = False,
    progress: Progress | None = None, accept_license: bool = False,
) -> Manifest:  # fmt: skip
    """Publish the user's weights of a family; which of its ids they are of is found out, see :mod:`.recognise`.

    Args:
        name: of the family, as the catalogue or a person spells it.
        public_id, force, progress, accept_license: as of :func:`export`.

    Raises:
        InvalidParameter: no such family.
        ExportFailed: the weights fit none of its ids; else as :func:`export`.
    """
    family = recognise.family(name)
    catalog.check_id(public_id)
    weight_files.refuse_graphs(weights)
    existing = None if force else Repository(repository).existing(public_id)
    if existing is not None:
        return existing
    told = progress or Quiet()
    with naming_what_is_missing(public_id):
        found = registry.find(family)
        with _ready(weights, told, accept_license) as ready:
            told.stage("recognition")
            entry = recognise.entry_of(family, ready)
            return publish_family(found, entry, ready, repository, public_id, told)


@contextmanager
def _ready(weights: Weights, progress: Progress, accept_license: bool) -> Iterator[Weights]:
    """``weights`` as a family reads them, within the block: fetched, and an adapter merged. Raises as both."""
    if cores() < len(os.sched_getaffinity(0)):  # a container's quota, which torch would not see when it is imported
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    here = fetched(weights, progress, accept_license)
    with adapters.merged(here, lambda text: from_hub(text, progress, accept_license).path) as ready:
        yield ready


def fetched(weights: Weights, progress: Progress, accept_license: bool = False) -> Weights:
    """``weights`` as they lie on this machine: those of a hub are fetched.

    Raises:
        LicenseNotAccepted: it has to be, and was not.
        InvalidParameter, ExportFailed, SetupError: they cannot be fetched, see :mod:`.sources.hub`.
    """
    if not weights.source.startswith(hub.PREFIX):
        return weights
    found = from_hub(weights.source, progress, accept_license)
    local = replace(weights, path=found.path, source=found.source, license=found.license)
    weight_files.refuse_graphs(local, weights.source)
    return local


def from_hub(text: str, progress: Progress, accept_license: bool = False) -> hub.Fetched:
    """What ``hf:...`` names, see :func:`.sources.hub.fetch`; its licence is accepted first if that is wanted."""
    progress.stage("download")
    try:
        return hub.fetch(text)
    except licenses.LicenseNotAccepted as error:
        _accepted(error.terms, accept_license)
    return hub.fetch(text)


def accepted(entry: Entry, now: bool) -> None:
    """Raise LicenseNotAccepted where the released weights of ``entry`` need that, unless it is accepted ``now``."""
    _accepted(licenses.of_catalogue(entry), now)


def _accepted(terms: licenses.Terms, now: bool) -> None:
    """Accept ``terms`` where they have to be, if that is wanted ``now``. Raises LicenseNotAccepted."""
    if now and terms.kind:
        licenses.accept(terms)
    licenses.require(terms)


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
        NotSupported: no machine could hold the id, or it has no run of the kind that is named.
        ModuleNotFoundError: a package that the export needs is not installed.
    """
    demand.require_memory(entry, family, weights)
    if weights.asked_as and family.entry_points(entry)[0].task.name != VLM.name:
        raise NotSupported(f"'{entry.id}' does not answer questions in words.", hint="Leave --task out.")
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
    from tritonvision.ensembles import model_configs
    from tritonvision.exporters import publish
    from tritonvision.exporters.graphs import check
    from tritonvision.exporters.parity.gate import Gate

    with publish.staging(repository) as folder:
        progress.stage("weights")
        with pins.recorded() as taken:
            network = family.build(entry, weights)
        network.map_weights(folder)
        notes += pins.notes(taken)
        points = entry_points_of(family, entry, network)
        progress.stage("graph")
        graphs = {}
        for net, point in ((net, each) for each in points for net in each.nets):
            # under the name it will have: external data is named after its graph
            place = model_configs.graph_path(catalog.triton_name(public_id), point, net)
            graphs[net.role] = path = folder / "graphs" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            network.export(path, net.role)
            check.check(path, net)
        progress.stage("parity gate")
        gate = Gate(family, entry, network, graphs, weights.kind, needs)
        parity = gate.check()
        manifest = _manifest(entry, family, network, weights, public_id, parity, graphs, notes)
        golden = gate.golden(parity, manifest)
        progress.stage("publishing")
        assets = {point.role: network.assets(point.role) for point in points}
        return publish.publish(repository, folder, manifest, points, graphs, assets, golden)


def license_of(entry: Entry, kind: str, told: str = "") -> str:
    """The licence of weights of that kind: the catalogue knows that of the released ones, some sources tell theirs."""
    if kind == "official":
        return entry.license
    return "none, the weights are random numbers" if kind == "random" else told or "not known, the weights are your own"


def _manifest(
    entry: Entry, family: Family, network: Network, weights: Weights, public_id: str, parity: dict[str, float],
    graphs: Mapping[str, Path], notes: tuple[str, ...],
) -> Manifest:  # fmt: skip
    from tritonvision.ensembles import model_configs
    from tritonvision.ensembles.entry_points import Chain
    from tritonvision.exporters.graphs import storage

    points = entry_points_of(family, entry, network)
    options = dict(getattr(points[0], "options", ()))
    return Manifest(
        id=public_id,
        family=entry.family,
        task=points[0].task.name,
        head=points[0].name,
        weights=weights.kind,
        source=weights.source or network.source,
        sha256=network.sha256 or storage.digest(graphs.values()),
        license=license_of(entry, weights.kind, weights.license),
        precision=network.precision,
        labels=network.labels,
        input_size=points[0].size,
        steps=model_configs.step_names(catalog.triton_name(public_id), points),
        roles=tuple(point.role for point in points),
        needs=tuple(need for point in points for need in getattr(point, "needs", ())),
        graph_bytes=sum(
            graph_files.size(graphs[net.role]) * (point.instances if model_configs.embedded(point) else net.instances)
            for point in points
            for net in point.nets
        ),
        processes=sum(net.instances for point in points for net in point.nets if not model_configs.embedded(point))
        + sum(point.instances for point in points if not isinstance(point, Chain)),
        map_meaning=network.map_meaning or family.map_meaning,
        keypoint_labels=network.keypoint_labels,
        multi_label=network.multi_label,
        grounding=options.get("grounding", ""),
        grounding_pixels=options.get("grounding_pixels"),
        asked_as=weights.asked_as,
        parity=parity,
        versions={"tritonvision": __version__, "onnxruntime": _onnxruntime_version()} | network.versions,
        notes=network.notes + notes,
    )


def _onnxruntime_version() -> str:
    """Its distribution is called differently for CPU and GPU, the module is one."""
    import onnxruntime

    return onnxruntime.__version__
