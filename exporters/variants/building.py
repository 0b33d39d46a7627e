"""A variant before it is published: its files, the precision gate, and the time it takes."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision import graph_files, machine
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import EntryPoint, networks_of
from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalPipeline
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.pipeline import Progress
from tritonvision.exporters.variants import folders, golden, timing
from tritonvision.exporters.weight_files import sha256
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

if TYPE_CHECKING:
    from tritonvision.exporters.contract import Tensors
    from tritonvision.exporters.precision.gate import GateResult, Imprecise
    from tritonvision.exporters.precision.layers import Write

_PACKAGES = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino",), "tensorrt": ("tensorrt",)}


@dataclass(frozen=True)
class Built:
    """What passed.

    Attributes:
        files: what it adds, by place below the repository.
    """

    variant: Variant
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Job:
    """One variant that is asked for.

    Attributes:
        repository: where the model is published.
        folder: to build in.
        variant: engine, precision and networks; the rest is what the job finds out.
        calibrate: folder of pictures for int8, and to judge by; None takes drawn ones.
        gate_data: folder of labelled pictures, or None.
        least_gain: share of the time that must be saved, or the variant is not worth its place.
    """

    repository: Path
    folder: Path
    manifest: Manifest
    variant: Variant
    progress: Progress
    calibrate: Path | None = None
    gate_data: Path | None = None
    least_gain: float | None = None
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _controlled: list[bool] = field(default_factory=list)

    def run(self) -> Built:
        """Build it, let it pass the precision gate, and time it.

        Raises:
            ExportFailed: it misses a bar, does not gain enough, or the pictures prove nothing.
        """
        if not self.variant.networks:
            raise NotSupported(f"No network of '{self.manifest.id}' can run on another engine.")
        if self.variant.engine not in _BUILDERS:
            raise NotSupported(f"This version does not build variants for {self.variant.engine}.")
        with self._exits:
            self._gate.prepare()  # labels of another format are refused before anything is built
            return _BUILDERS[self.variant.engine](self)

    @cached_property
    def points(self) -> tuple[EntryPoint, ...]:
        """The entry points that ask networks that change."""
        points = published.entry_points_of(self.repository, self.manifest)
        return tuple(p for p in points if any(net.role in self.variant.networks for net in networks_of(p)))

    @cached_property
    def base(self) -> timing.Opened:
        """The model as it was exported, in this process."""
        return self.opened(None)

    def opened(self, variant: Variant | None, files: Mapping[str, Path] | None = None) -> timing.Opened:
        """The model in this process, as a variant whose files, by role, are not published yet."""
        found = published.open_published(self.repository, self.manifest, variant, files)
        for local in found.values():
            if hasattr(local, "close"):
                self._exits.callback(local.close)
        return found

    @contextlib.contextmanager
    def tried(self, variant: Variant, files: Mapping[str, Path]) -> Iterator[timing.Opened]:
        """As :meth:`opened`, of files that may be written anew, and closed afterwards: a search would else hold as many
        models as it tries.
        """
        with contextlib.ExitStack() as exits:
            found = published.open_published(self.repository, self.manifest, variant, files)
            for local in found.values():
                if hasattr(local, "close"):
                    exits.callback(local.close)
            yield found

    @cached_property
    def graphs(self) -> dict[str, Path]:
        """The ONNX file of each network that changes, by role."""
        found = published.graphs_of(self.repository, self.manifest, self.points)
        return {role: found[role] for role in self.variant.networks}

    def timed(self, candidate: timing.Opened) -> Variant:
        """The variant with the time it takes. Raises ExportFailed where it does not gain what it must."""
        roles = self.variant.networks
        return self.worth(*timing.milliseconds(self.points, self.base, candidate, self._timed_by, roles))

    @cached_property
    def _timed_by(self) -> dict[str, list[Tensors]]:
        """What each network reads of the photo: asked once, since a model that writes keeps what it encoded."""
        from tritonvision.exporters.precision import calibration

        return calibration.inputs(self.points, self.base, [sample_pictures.photo()])

    def worth(self, base: float, taken: float) -> Variant:
        """The variant with the time that it takes where ONNX Runtime in fp32 takes ``base`` milliseconds.

        Raises ExportFailed where it does not gain what it must.
        """
        if self.least_gain is not None and taken > (1 - self.least_gain) * base:
            raise ExportFailed(
                f"{self.variant.name} takes {taken:.3g} ms where ONNX Runtime takes {base:.3g} ms: that gains less "
                f"than {self.least_gain:.0%}."
            )
        return replace(self.variant, milliseconds=round(taken, 3), base_milliseconds=round(base, 3))

    def judged(self, candidate: timing.Opened) -> GateResult:
        """What the precision gate says of it. Raises ExportFailed."""
        return self._gate.check(candidate, self.variant.name)

    def control(self, refused: Imprecise, files: Mapping[str, Path] | None = None) -> None:
        """Whether it is the precision that was refused: the same engine in fp32 is asked the same.

        Args:
            files: by role, where the engine needs them for fp32, too.

        Raises ExportFailed where it does not agree with ONNX Runtime either.
        """
        from tritonvision.exporters.precision.gate import Imprecise

        if self._controlled:
            return
        fp32 = replace(self.variant, precision="fp32", typed=False)
        try:
            self._gate.check(self.opened(fp32, files), fp32.name)
        except Imprecise as error:
            raise ExportFailed(
                f"{refused.message} {error.message} So rounding decides what these weights answer, and no "
                "precision can be proven by agreement.",
                hint="Random weights do so. Bring trained ones, or labelled pictures with --gate-data FOLDER.",
            ) from refused
        self._controlled.append(True)

    @cached_property
    def _gate(self):
        from tritonvision.exporters.precision import calibration
        from tritonvision.exporters.precision.gate import Gate

        judging = calibration.sets(self.calibrate)[1]
        labels, meaning = self.manifest.labels, self.manifest.map_meaning
        return Gate(self.base, self.points, self.gate_data, judging, labels, meaning)

    def finished(
        self, variant: Variant, candidate: timing.Opened, result: GateResult, files: Mapping[str, Path],
        packages: Sequence[str] = (),
    ) -> Built:  # fmt: skip
        """The variant with all that its manifest tells.

        Args:
            candidate: the variant in this process.
            files: of its own, by role of the network; what lies beside one under the same stem belongs to it.
            packages: that took part besides the engine.

        Raises ExportFailed where it would not pass its golden questions at a load.
        """
        asked = golden.ask(self.repository, self.manifest, candidate, variant)
        placed = dict(self._placed(variant, files))
        versions = {name: importlib.metadata.version(name) for name in (*_PACKAGES[variant.engine], *packages)}
        return Built(
            replace(
                variant, figures=dict(result.figures), shown=result.shown, machine=machine.cpu_name(),
                versions=versions, files={place: sha256(path) for place, path in placed.items()},
                bytes=sum(path.stat().st_size for path in placed.values()), graph_bytes=self._graph_bytes(files),
                golden=asked,
            ),
            placed,
        )  # fmt: skip

    def _placed(self, variant: Variant, files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
        for role, path in files.items():
            place = folders.place(self.manifest, self.points, variant, role)
            assert place is not None, "a file that the engine does not read"
            for part in sorted(path.parent.glob(f"{path.stem}.*")):
                yield str(Path(place).with_suffix(part.name.removeprefix(path.stem))), part

    def _graph_bytes(self, files: Mapping[str, Path]) -> int:
        """Bytes of all networks of the model while the variant serves, once for each process."""
        points = published.entry_points_of(self.repository, self.manifest)
        graphs = published.graphs_of(self.repository, self.manifest, points)
        total = 0
        for point in points:
            for net in point.nets:
                parts = sorted(files[net.role].parent.glob(f"{files[net.role].stem}.*")) if net.role in files else ()
                size = sum(part.stat().st_size for part in parts) if parts else graph_files.size(graphs[net.role])
                total += size * (point.instances if model_configs.embedded(point) else net.instances)
        return total


def _openvino(job: Job) -> Built:
    """OpenVINO reads the ONNX graphs itself. Files of its own format are what NNCF writes in int8, and graphs in bf16
    with some layers in fp32, which are looked for where bf16 everywhere misses a bar and somebody asked for bf16.
    """
    from tritonvision.exporters.precision.gate import Imprecise

    if job.variant.precision == "int8":
        return _openvino_int8(job)
    job.progress.stage(f"{job.variant.name}: time")
    candidate = job.opened(job.variant)
    variant = job.timed(candidate)  # first: it is the shorter of the two
    job.progress.stage(f"{job.variant.name}: precision gate")
    try:
        return job.finished(variant, candidate, job.judged(candidate), {})
    except Imprecise as refused:
        if job.variant.precision != "bf16" or job.least_gain is not None:
            raise
        job.control(refused)
        return _openvino_bf16(job, refused)


def _openvino_bf16(job: Job, refused: Imprecise) -> Built:
    """Layers in fp32 and the others in bf16: what is sensitive in fp32, of transformers then all but products, and then
    what the gate blames. Raises ExportFailed.
    """
    from tritonvision.exporters.precision import bf16
    from tritonvision.exporters.precision.gate import Imprecise

    transformers = {role for role, graph in job.graphs.items() if bf16.is_transformer(graph)}

    def write(products_only: Collection[str]) -> Write:
        return lambda role, target, kept: bf16.bf16(job.graphs[role], target, kept, role in products_only)

    job.progress.notice(f"{refused.message} Trying again with what is sensitive in fp32.")
    if not transformers:
        return _searched(job, True, write(()), ())
    try:
        return _searched(job, True, write(()), (), tries=0)
    except Imprecise as error:
        job.progress.notice(f"{error.message} Trying again with all but products in fp32.")
    return _searched(job, True, write(transformers), ())


def _openvino_int8(job: Job) -> Built:
    from tritonvision.exporters.precision import calibration, quantize

    job.progress.stage(f"{job.variant.name}: calibration")
    inputs = calibration.inputs(job.points, job.base, calibration.sets(job.calibrate)[0])
    job.progress.stage(f"{job.variant.name}: quantisation and precision gate")
    return _searched(
        job, False, lambda role, target, kept: quantize.int8(job.graphs[role], inputs[role], target, kept), ("nncf",)
    )


def _searched(job: Job, typed: bool, write: Write, packages: Sequence[str], tries: int | None = None) -> Built:
    """Files of OpenVINO's own format with the layers in fp32 that the gate blames.

    Args:
        typed: see :class:`~tritonvision.variants.Variant`.
        packages: that take part besides the engine.
        tries: to find the layers to blame; None as many as usual.
    """
    from tritonvision.exporters.precision import blame, layers

    variant = replace(job.variant, typed=typed)
    target = job.folder / variant.precision
    target.mkdir(exist_ok=True)

    def judge(files: Mapping[str, Path]) -> GateResult:
        with job.tried(variant, files) as candidate:
            return job.judged(candidate)

    found = layers.reduced(
        write, tuple(job.graphs), target, judge, job.progress, blame.TRIES if tries is None else tries, job.control,
    )  # fmt: skip
    job.progress.stage(f"{variant.name}: time")
    candidate = job.opened(variant, found.files)
    variant = replace(job.timed(candidate), typed=typed, kept_fp32=found.kept_fp32)
    return job.finished(variant, candidate, found.result, found.files, packages)


def _onnxruntime(job: Job) -> Built:
    """Decoders whose weights have 8 or 4 bits: what a token costs is to read them."""
    from tritonvision.exporters.precision import calibration, decoding, layers, weights

    (point,) = job.points
    base, variant = _chat(job.base, point), job.variant
    target = job.folder / variant.precision
    target.mkdir()
    job.progress.stage(f"{variant.name}: precision gate")
    trial = decoding.Trial(base, calibration.sets(job.calibrate)[1])

    def judge(files: Mapping[str, Path]) -> GateResult:
        with job.tried(variant, files) as candidate:
            return trial.check(_chat(candidate, point), variant.name)

    found = layers.reduced(
        lambda role, file, kept: weights.write(job.graphs[role], file, variant.precision, kept), tuple(job.graphs),
        target, judge, job.progress, tries=decoding.TRIES, name=variant.file,
    )  # fmt: skip
    job.progress.stage(f"{variant.name}: time")
    candidate = job.opened(variant, found.files)
    before, taken = decoding.milliseconds(base, _chat(candidate, point))
    timed = replace(job.worth(before, taken), kept_fp32=found.kept_fp32)
    return job.finished(timed, candidate, found.result, found.files)


def _chat(opened: timing.Opened, point: EntryPoint) -> LocalChat:
    found = opened[point.role]
    assert not isinstance(found, LocalPipeline | LocalComposition), "only models that write have decoders"
    return found


def _tensorrt(job: Job) -> Built:
    from tritonvision.exporters.tensorrt import variant

    return variant.built(job)


_BUILDERS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "tensorrt": _tensorrt}
