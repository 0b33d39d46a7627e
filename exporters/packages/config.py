"""``inference_config.json``: the preprocessing and postprocessing of a package; what is not supported is refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tritonvision.ensembles.preprocessing import Resize
from tritonvision.errors import ExportFailed

# Resize modes beyond those of packages, for ONNX files, which do not name theirs: ultralytics' letterbox, RF-DETR's
# stretching of values in 0..1, and ``crop-PERCENT-FILTER``, the eval transform of timm and torchvision.
ROUNDED, FLOAT = "letterbox-rounded", "stretch-float32"
CROP = re.compile(r"crop-(100|[1-9][0-9]?(?:\.[0-9]{1,2})?)-(bicubic|bilinear)")

Side = Annotated[int, Field(ge=1, le=4096)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]


class Size(BaseModel):
    """Pixels of a network or of a picture."""

    height: Side
    width: Side


class Step(BaseModel):
    """One step before the resizing; its other fields count only where it is enabled."""

    enabled: bool = False


class PreProcessing(BaseModel):
    """Steps before the resizing by name; ``auto-orient`` is applied to every picture."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Step | None] = Field(init=False)


class NetworkInput(BaseModel):
    """The network's input.

    ``padding_value`` is a grey level, ``normalization`` means and standard deviations by channel. ``resize_mode`` is a
    mode of packages (``stretch``, ``letterbox``, ``letterbox-reflect-edges``, ``center-crop``, ``fit-longer-edge``), or
    :data:`ROUNDED`, :data:`FLOAT` (pixels are in 0..1), or a match of :data:`CROP`.
    """

    training_input_size: Size | None = None
    dataset_version_resize_dimensions: Size | None = None
    color_mode: Literal["rgb", "bgr"]
    resize_mode: str
    padding_value: Annotated[int, Field(ge=0, le=255)] | None = None
    input_channels: int = 3
    scaling_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    normalization: tuple[Triple, Triple] | None = None


class PostProcessing(BaseModel):
    """The postprocessing; ``fused`` where the graph contains it."""

    type: str
    fused: bool = False


class ClassNamesOperation(BaseModel):
    """A change of the class names: only ``class_name_removal`` is known."""

    type: str
    class_name: str


class InferenceConfig(BaseModel):
    """The whole file; keys that are not listed have no effect here."""

    image_pre_processing: PreProcessing = PreProcessing()
    network_input: NetworkInput
    post_processing: PostProcessing | None = None
    class_names_operations: list[ClassNamesOperation] | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse unsupported settings. Raises ExportFailed; the sentence names the setting."""
        for name, step in (self.image_pre_processing.model_extra or {}).items():
            if name != "auto-orient" and step is not None and step.enabled:
                raise _cannot(f"{name[:40]!r} of image_pre_processing")
        given = self.network_input
        if given.training_input_size is None:
            raise ExportFailed(
                "The package names no training_input_size.", hint="A network of any size at all cannot be imported."
            )
        if given.normalization is not None and not all(given.normalization[1]):
            raise ExportFailed("A standard deviation of 'normalization' is zero.", hint="It divides the pixels.")
        if given.input_channels != 3:
            raise _cannot(f"{given.input_channels} input channels")
        between = given.dataset_version_resize_dimensions
        if between is not None and between != given.training_input_size:
            raise _cannot("resizing twice (dataset_version_resize_dimensions)")
        for operation in self.class_names_operations or ():
            if operation.type != "class_name_removal":
                raise _cannot(f"{operation.type[:40]!r} of class_names_operations")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        size = self.network_input.training_input_size
        assert size is not None, "a file without is refused"
        return size.height, size.width

    def resize(self, grey: int | None) -> Resize:
        """The pre step. Raises ExportFailed where no pre step does the same.

        Args:
            grey: of the padding of ``fit-longer-edge``; None stretches instead of padding.
        """
        given = self.network_input
        mode, size = given.resize_mode, self.size
        pad = given.padding_value or 0
        if mode == "fit-longer-edge":
            mode, pad = ("stretch", 0) if grey is None else ("letterbox", grey)
        if mode == "stretch":
            return Resize("stretch", *size)
        if mode in ("letterbox", "letterbox-reflect-edges"):  # inference-models does not reflect edges either
            return Resize("letterbox", *size, (("pad", pad), ("sizes", "truncated")))
        if mode == "center-crop":
            return Resize("centre", *size)
        if mode == ROUNDED:
            return Resize("letterbox", *size, () if pad == 114 else (("pad", pad),))
        if mode == FLOAT:
            return Resize("stretch", *size, (("encoding", "float32"),))
        if cut := CROP.fullmatch(mode):
            percent = float(cut[1])
            percent = int(percent) if percent.is_integer() else percent
            return Resize("crop", *size, (("interpolation", cut[2]), ("percent", percent)))
        raise _cannot(f"resize mode {mode[:40]!r}")

    @property
    def removed(self) -> set[str]:
        """Names that ``class_name_removal`` takes out of the classes."""
        return {operation.class_name for operation in self.class_names_operations or ()}


def _cannot(what: str) -> ExportFailed:
    return ExportFailed(
        f"The package asks for {what}, which cannot be done here.",
        hint="Export the weights without it, or bring the package with code of its own.",
    )
