"""``inference_config.json``: how a package wants its pictures prepared, and what of it can be done here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tritonvision.ensembles.preprocessing import Resize
from tritonvision.errors import ExportFailed

# Resize modes beyond those of packages, as ONNX files are prepared that name none: ultralytics' letterbox, RF-DETR's
# stretching of values in 0..1, and ``crop-PERCENT-FILTER``, timm's and torchvision's eval transform.
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
    """One step before the resizing; whatever else it says is heard only where it is enabled."""

    enabled: bool = False


class PreProcessing(BaseModel):
    """Steps before the resizing by name, ``auto-orient`` among them: that is what happens to every picture here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Step | None] = Field(init=False)


class NetworkInput(BaseModel):
    """What the network reads.

    ``padding_value`` is grey, ``normalization`` means and standard deviations by channel. ``resize_mode`` is one of a
    package's (``stretch``, ``letterbox``, ``letterbox-reflect-edges``, ``center-crop``, ``fit-longer-edge``), or of
    :data:`ROUNDED`, :data:`FLOAT`, whose pixels are in 0..1 already, and :data:`CROP`.
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
    """What follows the network; ``fused`` where the graph holds it already."""

    type: str
    fused: bool = False


class ClassNamesOperation(BaseModel):
    """A change of the class names: only ``class_name_removal`` is known."""

    type: str
    class_name: str


class InferenceConfig(BaseModel):
    """The whole file; keys that are not listed say nothing that matters here."""

    image_pre_processing: PreProcessing = PreProcessing()
    network_input: NetworkInput
    post_processing: PostProcessing | None = None
    class_names_operations: list[ClassNamesOperation] | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what cannot be done. Raises ExportFailed; the sentence names it."""
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
        """(height, width) of the pixels that the network takes."""
        size = self.network_input.training_input_size
        assert size is not None, "a file without is refused"
        return size.height, size.width

    def resize(self, grey: int | None) -> Resize:
        """The pre step. Raises ExportFailed where there is none like it.

        Args:
            grey: padding of ``fit-longer-edge``, which a network of one size cannot have; None stretches instead.
        """
        given = self.network_input
        mode, size = given.resize_mode, self.size
        pad = given.padding_value or 0
        if mode == "fit-longer-edge":
            mode, pad = ("stretch", 0) if grey is None else ("letterbox", grey)
        if mode == "stretch":
            return Resize("stretch", *size)
        if mode in ("letterbox", "letterbox-reflect-edges"):  # the peer reflects nothing either
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
        """Names of classes that are none."""
        return {operation.class_name for operation in self.class_names_operations or ()}


def _cannot(what: str) -> ExportFailed:
    return ExportFailed(
        f"The package asks for {what}, which cannot be done here.",
        hint="Export the weights without it, or bring the package with code of its own.",
    )
