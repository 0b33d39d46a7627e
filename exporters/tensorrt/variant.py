"""A TensorRT variant of a model: built on the machine that will serve it, and built again where that changed.

Beside each plan lie, under the same stem, the graph that it was built from, which carries its precision (for fp32 that
is the published one), and the key that says what it was built for.
"""

from __future__ import annotations

import importlib.metadata
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision import gpus, machine, plans
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import EntryPoint, Net
from tritonvision.errors import NotSupported, SetupError
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt import build, typed
from tritonvision.exporters.tensorrt.profiles import profile
from tritonvision.exporters.weight_files import sha256
from tritonvision.graph_files import files_of
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

if TYPE_CHECKING:
    from tritonvision.exporters.precision.gate import Imprecise
    from tritonvision.exporters.variants.building import Built, Job

SAMPLES = 16  # pictures on which the range of a network's tensors is measured
_CACHE = ".tensorrt"  # folder of the repository with what was measured of operators, by GPU and version


@dataclass(frozen=True)
class Plan:
    """One plan to be built.

    Attributes:
        graph: that it is built from.
        path: where it is written; its key goes beside it.
    """

    net: Net
    graph: Path
    path: Path


def built(job: Job) -> Built:
    """Write the graphs in the precision, build their plans, and let them pass the gate, on the GPU of this machine.

    Where they miss a bar and a plan in fp32 does not, the layers to blame stay in fp32; a try is a build.

    Raises:
        SetupError: there is no GPU, or a package is missing.
        NotSupported: no network of the model can run as a plan.
        ExportFailed: a graph cannot be converted or built, or the plans miss a bar of the gate.
    """
    from tritonvision.exporters.precision import blame, calibration, layers

    gpu = this_gpu()
    nets = networks(job.points, job.variant)
    if not nets:
        raise NotSupported(f"No network of '{job.manifest.id}' can run as a TensorRT plan.")
    job = replace(job, variant=replace(job.variant, networks=tuple(nets)))
    reduced = job.variant.precision != "fp32"
    inputs = calibration.inputs(job.points, job.base, calibration.sets(job.calibrate)[0]) if reduced else {}
    keep, policed = policy(job.manifest), set[str]()

    def file(role: str) -> str:
        return f"net-{role or 'model'}/{job.variant.file()}"  # the graph names its weights' file as it is published

    def plan(role: str, path: Path, graph: Path, variant: Variant) -> None:
        build_on(gpu, Plan(nets[role], graph, path), job.manifest, variant, job.repository, _told(job))

    def write(role: str, path: Path, kept: Sequence[str]) -> Sequence[str]:
        graph, found = job.graphs[role], typed.Typed((), ())
        path.parent.mkdir(exist_ok=True)
        if reduced:
            named = [*keep, *(f"^{re.escape(name)}$" for name in kept)]
            job.progress.stage(f"{job.variant.name}: graph")
            graph = path.with_suffix(".onnx")
            found = typed.write(job.graphs[role], graph, job.variant.precision, together(inputs[role]), named)
            policed.update(name for name in found.kept if any(re.search(pattern, name) for pattern in keep))
        plan(role, path, graph, job.variant)
        return found.layers

    def control(refused: Imprecise) -> None:
        fp32 = replace(job.variant, precision="fp32")
        files = {role: (job.folder / file(role)).with_name(fp32.file()) for role in nets}
        for role, path in files.items():
            plan(role, path, job.graphs[role], fp32)
        job.control(refused, files)

    found = layers.reduced(
        write, tuple(nets), job.folder, lambda files: job.judged(job.opened(job.variant, files)), job.progress,
        tries=blame.TRIES if reduced else 0, control=control, name=file,
    )  # fmt: skip
    job.progress.stage(f"{job.variant.name}: time")
    candidate = job.opened(job.variant, found.files)
    variant = replace(job.timed(candidate), kept_fp32=(*sorted(policed), *found.kept_fp32))
    packages = ("nvidia-modelopt",) if reduced else ()
    done = job.finished(variant, candidate, found.result, found.files, packages)
    return replace(done, variant=replace(done.variant, machine=gpu.name))


def networks(points: Sequence[EntryPoint], variant: Variant) -> dict[str, Net]:
    """The networks of a model that can run as plans, by role, as the variant has them: Triton's backend runs them, so
    those inside a Python process stay as they are, and so do those whose axes have no bounds.
    """
    return {
        net.role: net
        for point in points
        if not model_configs.embedded(point)
        for net in published.as_variant(point, variant).nets
        if net.role in variant.networks and all(t.dims.count(-1) == len(t.bounds) for t in net.inputs)
    }


def build_on(
    gpu: gpus.Gpu, plan: Plan, manifest: Manifest, variant: Variant, repository: Path, progress: build.Progress | None
) -> None:
    """Build one plan on the GPU of this machine and write it and its key. Raises ExportFailed or SetupError."""
    trt = build.library()
    asked = variant.plan
    shapes = profile(plan.net, optimal_batch=min(asked.optimal_batch, plan.net.max_batch))
    measured = repository / _CACHE / f"{gpu.name}-{trt.__version__}.timing".replace(" ", "-")
    begun = time.monotonic()
    options = build.BuildOptions(
        asked.workspace << 20, timing_cache=measured, hardware=asked.hardware,
        version_compatible=asked.version_compatible,
    )  # fmt: skip
    data = build.build_plan(plan.graph, shapes, options, progress, trt)
    plan.path.write_bytes(data)
    key = plans.key_on(
        gpu, weights=plans.weights_of([sha256(path) for path in files_of(plan.graph)]),
        family_version=manifest.versions.get("tritonvision", ""),
        tensorrt=importlib.metadata.version("tensorrt"), precision=variant.precision, profile=shapes.to_json(),
        hardware=asked.hardware, version_compatible=asked.version_compatible,
    )  # fmt: skip
    plans.write_key(plan.path, key, time.monotonic() - begun)


def this_gpu() -> gpus.Gpu:
    """The GPU of this machine. Raises SetupError where none is to be seen or TensorRT is not installed."""
    missing = machine.why_not("tensorrt", "fp32")
    gpu = machine.gpu()
    if missing or gpu is None:
        raise SetupError(
            missing or "No NVIDIA GPU is to be seen on this machine.",
            hint="Plans are built on the machine that will serve them; until then the model runs as it was exported.",
        )
    return gpu


def policy(manifest: Manifest) -> tuple[str, ...]:
    """What the model's family keeps in fp32; nothing for models of no family."""
    return registry.find(manifest.family).fp32_layers if manifest.family in registry.exportable() else ()


def together(given: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Inputs of several samples as one batch, of those of one shape, :data:`SAMPLES` at most."""
    shapes = [{name: value.shape[1:] for name, value in one.items()} for one in given]
    alike = [one for one, shape in zip(given, shapes, strict=True) if shape == shapes[0]][:SAMPLES]
    return {name: np.concatenate([one[name] for one in alike]) for name in given[0]}


def _told(job: Job) -> build.Progress:
    """A progress of TensorRT's that tells the person who waits, a stage for each phase."""
    seen: set[str] = set()

    def progress(phase: str, done: float) -> bool:
        if phase not in seen:
            seen.add(phase)
            job.progress.stage(f"{job.variant.name}: {phase.lower()}")
        return True

    return progress


def rebuilt(
    repository: Path, folder: Path, manifest: Manifest, variant: Variant, progress: build.Progress | None = None
) -> tuple[Variant, dict[str, Path]]:
    """The plans of a published variant, built again for the GPU of this machine in ``folder``.

    Returns:
        The variant as its manifest is to tell it now, and the new files by place below the repository.

    Raises:
        SetupError: there is no GPU, or TensorRT is not installed.
        ExportFailed: a plan cannot be built.
    """
    gpu = this_gpu()
    points = published.entry_points_of(repository, manifest)
    graphs = published.graphs_of(repository, manifest, points)
    placed: dict[str, Path] = {}
    for role, net in networks(points, variant).items():
        place = graphs[role].parent / variant.file()
        typed_graph = place.with_suffix(".onnx")
        target = folder / f"net-{role or 'model'}"
        target.mkdir()
        plan = Plan(net, typed_graph if typed_graph.is_file() else graphs[role], target / place.name)
        build_on(gpu, plan, manifest, variant, repository, progress)
        for path, made in ((place, plan.path), (plans.key_file(place), plans.key_file(plan.path))):
            placed[path.relative_to(repository).as_posix()] = made
    files = {**variant.files, **{place: sha256(path) for place, path in placed.items()}}
    size = sum((placed.get(place) or repository / place).stat().st_size for place in files)
    return replace(variant, files=files, bytes=size, machine=gpu.name), placed
