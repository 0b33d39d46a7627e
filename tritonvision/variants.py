"""Variants: the ways in which the networks of a published model can run, each an engine and a precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENGINES = ("onnxruntime", "openvino", "tensorrt")
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4", "fp8")

# What each engine runs in, and for which of these it needs a file of its own, with what ending.
_OWN_FILES = {
    "onnxruntime": {"int8": "onnx", "int4": "onnx"}, "openvino": {"int8": "xml"},
    "tensorrt": dict.fromkeys(PRECISIONS, "plan"),
}  # fmt: skip
OFFERED = {
    "onnxruntime": ("fp32", "int8", "int4"), "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "bf16", "fp16", "int8", "fp8"),
}  # fmt: skip
# ONNX Runtime in these keeps the weights of decoders with a cache in as few bits; what is computed stays fp32.
WEIGHTS_ONLY = ("int8", "int4")


# GPUs that a TensorRT plan may be built for: this model, all of its compute capability, all from Ampere on.
HARDWARE = ("this", "same-capability", "ampere-plus")


@dataclass(frozen=True)
class PlanOptions:
    """How the TensorRT plans of a variant are built, besides its precision and its largest batch.

    Attributes:
        optimal_batch: the batch that they are tuned for; 0 for the largest.
        hardware: GPUs that they run on, one of :data:`HARDWARE`.
        version_compatible: whether other versions of the same major TensorRT load them.
        workspace: MiB of GPU memory that an operator may use; 0 for all there is.
    """

    optimal_batch: int = 0
    hardware: str = "this"
    version_compatible: bool = False
    workspace: int = 0


def variant_name(engine: str, precision: str, max_batch: int = 0) -> str:
    """``openvino-bf16``; ``tensorrt-fp16-b8`` where the engine was built for batches of a certain size."""
    return f"{engine}-{precision}-b{max_batch}" if max_batch else f"{engine}-{precision}"


@dataclass(frozen=True)
class Variant:
    """One way to run the networks of a model, as its manifest tells it. The fp32 graphs on ONNX Runtime are none: they
    are always there.

    Attributes:
        engine: Triton backend, one of :data:`ENGINES`.
        precision: of the arithmetic, one of :data:`PRECISIONS`.
        networks: roles of the networks that run this way; the model's others run as they were published.
        max_batch: samples of one execution that the engine was built for; 0 where any number of them runs.
        files: sha256 of what the variant adds, by path below the repository.
        bytes: of these files.
        figures: of the precision gate, name to number.
        shown: how the gate was passed: ``labelled`` (accuracy over labelled pictures) or ``agreement`` (with the fp32
            pipeline).
        kept_fp32: names of layers that stay in fp32, because the gate blamed them.
        milliseconds: of one sample through the networks, on the machine that made the variant.
        base_milliseconds: of the same sample through the fp32 graphs on ONNX Runtime, measured beside it.
        graph_bytes: of the model's networks while this variant serves, counted once for each process.
        machine: that machine: its CPU's or GPU's name.
        versions: packages that took part.
        typed: whether its networks have files of their own that give each operation a type, where the engine could read
            the graphs, too: some layers are in fp32.
        plan: how its plans are built, where the engine is TensorRT.
        golden: how far its answers to the golden questions were from those of fp32 when it was added: figures of
            :func:`tritonvision.differences.agreement`, by role of the entry point.
    """

    engine: str
    precision: str
    networks: tuple[str, ...]
    max_batch: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    shown: str = ""
    kept_fp32: tuple[str, ...] = ()
    milliseconds: float = 0.0
    base_milliseconds: float = 0.0
    graph_bytes: int = 0
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    typed: bool = False
    plan: PlanOptions = PlanOptions()
    golden: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people and the manifest call it, see :func:`variant_name`."""
        return variant_name(self.engine, self.precision, self.max_batch)

    def file(self, role: str = "") -> str:
        """Name of the file of its own that a network runs from, or empty: the engine reads the ONNX graph itself.

        Args:
            role: of the network, where several lie in one folder.
        """
        ending = "xml" if self.typed else _OWN_FILES.get(self.engine, {}).get(self.precision, "")
        return f"{role}.{self.name}.{ending}" if ending and role else ending and f"{self.name}.{ending}"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Variant:
        """The variant that ``dataclasses.asdict`` wrote. Raises TypeError or ValueError for anything else."""
        known: dict[str, Any] = dict(data)
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        if "plan" in known:
            known["plan"] = PlanOptions(**known["plan"])
        return cls(**known)
