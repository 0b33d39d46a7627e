"""What a TensorRT plan was built from and for. A plan is of use only where all of that is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tritonvision.gpus import Gpu
from tritonvision.graph_files import data_file
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

# What a person reads where two keys differ in it.
_WORDS = {
    "weights": "another graph", "family_version": "another version of the exporter", "tensorrt": "another TensorRT",
    "gpu": "another GPU", "compute_capability": "another compute capability", "mig": "another MIG profile",
    "cuda": "a driver of another CUDA", "precision": "another precision", "profile": "other shapes",
    "hardware": "other GPUs", "version_compatible": "other versions of TensorRT",
}  # fmt: skip


@dataclass(frozen=True)
class PlanKey:
    """What decides whether a plan may serve.

    Attributes:
        weights: of the graph that it was built from, which carries its precision, see :func:`weights_of`.
        family_version: version of the package whose exporter wrote the graph.
        tensorrt: its version.
        gpu, compute_capability, mig, cuda: see :class:`tritonvision.gpus.Gpu`.
        precision: one of :data:`tritonvision.variants.PRECISIONS`.
        profile: the shapes it was built for, as :meth:`tritonvision.exporters.tensorrt.profiles.Profile.to_json`.
        hardware: GPUs it was built for, one of :data:`tritonvision.variants.HARDWARE`.
        version_compatible: whether other versions of the same major TensorRT run it.
    """

    weights: str
    family_version: str
    tensorrt: str
    gpu: str
    compute_capability: str
    mig: str
    cuda: str
    precision: str
    profile: str
    hardware: str = "this"
    version_compatible: bool = False

    def differs(self, here: PlanKey) -> str:
        """Why a plan of this key cannot serve where ``here`` is the key: words, empty where it can."""
        return " and ".join(_WORDS[name] for name in (f.name for f in fields(self)) if not self._fits(name, here))

    def _fits(self, name: str, here: PlanKey) -> bool:
        mine, theirs = getattr(self, name), getattr(here, name)
        if name in ("gpu", "mig") and self.hardware != "this":
            return True
        if name == "compute_capability" and self.hardware == "ampere-plus":
            return float(theirs or 0) >= 8
        if name == "tensorrt" and self.version_compatible:
            return mine.split(".")[0] == theirs.split(".")[0]
        if name == "cuda":  # a driver is compatible with what was built for an older one of the same major version
            return mine.split(".")[0] == theirs.split(".")[0]
        return mine == theirs


def places(manifest: Manifest, name: str) -> tuple[str, ...]:
    """Where the plans of the variant ``name`` lie, below the repository; none of a variant of another engine."""
    variant = next((v for v in manifest.variants if v.name == name and v.engine == "tensorrt"), None)
    if variant is None:
        return ()
    model = f"net--{manifest.triton_name}"
    return tuple(f"{model}--{role}/1/{variant.file()}" if role else f"{model}/1/{variant.file()}"
                 for role in variant.networks)  # fmt: skip


def missing(root: Path, manifest: Manifest, name: str, gpu: Gpu, tensorrt: str) -> str:
    """Why the plans of a variant cannot serve on this GPU and version of TensorRT: a sentence, empty where they can.

    Args:
        root: of the repository.
    """
    variant = next(variant for variant in manifest.variants if variant.name == name)
    for place in places(manifest, name):
        plan = root / place
        stored = read_key(plan)
        here = stored and key_on(
            gpu, weights=weights_of(_graph_digests(manifest, variant, Path(place))),
            family_version=manifest.versions.get("tritonvision", ""), tensorrt=tensorrt, precision=variant.precision,
            profile=stored.profile, hardware=stored.hardware, version_compatible=stored.version_compatible,
        )  # fmt: skip
        why = why_not(plan, here)
        if why:
            return why
    return ""


def weights_of(digests: Sequence[str]) -> str:
    """What a key says of the weights, from the sha256 of each file of the graph: its own, and that of its weights where
    they lie beside it.
    """
    return "".join(digests) if len(digests) < 2 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _graph_digests(manifest: Manifest, variant: Variant, place: Path) -> list[str]:
    """sha256 of the files of the graph that the plan at ``place`` is built from: its own typed one, or the model's."""
    typed = place.with_suffix(".onnx")
    files, graph = (
        (variant.files, typed) if str(typed) in variant.files else (manifest.files, place.with_name("model.onnx"))
    )
    return [files[str(path)] for path in (graph, data_file(graph)) if str(path) in files]


def key_on(
    gpu: Gpu, *, weights: str, family_version: str, tensorrt: str, precision: str, profile: str, hardware: str = "this",
    version_compatible: bool = False,
) -> PlanKey:  # fmt: skip
    """The key of a plan that is built on this GPU."""
    return PlanKey(
        weights, family_version, tensorrt, gpu.name, gpu.compute_capability, gpu.mig, gpu.cuda, precision, profile,
        hardware, version_compatible,
    )  # fmt: skip


def key_file(plan: Path) -> Path:
    """Where the key of ``plan`` stands: beside it, since a plan has nothing before or behind it."""
    return plan.with_suffix(".json")


def write_key(plan: Path, key: PlanKey, seconds: float) -> None:
    """Put the key of a plan that took ``seconds`` to build beside it, with the plan's size and sha256."""
    with plan.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"key": asdict(key), "seconds": round(seconds, 1), "bytes": plan.stat().st_size, "sha256": digest}
    key_file(plan).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read_key(plan: Path) -> PlanKey | None:
    """The key of ``plan``, None where none stands beside it that can be read."""
    about = _about(plan)
    try:
        return None if about is None else PlanKey(**about["key"])
    except TypeError:
        return None


def why_not(plan: Path, here: PlanKey | None) -> str:
    """Why ``plan`` cannot serve where ``here`` is the key: a sentence, empty where it can."""
    about, key = _about(plan), read_key(plan)
    if about is None or key is None or here is None:
        return "No plan has been built yet." if not plan.exists() else "Nobody knows what the plan was built for."
    differs = key.differs(here)
    if differs:
        return f"The plan was built for {differs}."
    try:
        size = plan.stat().st_size
    except OSError:
        return "No plan has been built yet."
    return "" if size == about.get("bytes") else "The plan's file is not whole."


def _about(plan: Path) -> Mapping | None:
    try:
        about = json.loads(key_file(plan).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and isinstance(about.get("key"), dict) else None
