"""Name, data type and axes of what travels between the models of a server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NUMPY: dict[str, type[np.generic]] = {
    "FP32": np.float32, "FP64": np.float64, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
    "UINT16": np.uint16,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Name, Triton data type (``FP32``, ``INT32``, ``STRING``, ...) and axes, the batch axis not counted.

    An axis of any length is -1. ``optional`` inputs may be left out of a request. ``bounds`` are the (least, usual,
    largest) lengths of each axis of any length, in their order; empty where they are not declared. ``batch_axis`` is
    where the batch axis stands: positions of several axes have it second, as the libraries do.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False
    bounds: tuple[tuple[int, int, int], ...] = ()
    batch_axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes, the batch axis in its place, those of any length -1."""
        return (*self.dims[: self.batch_axis], -1, *self.dims[self.batch_axis :])

    @property
    def numpy(self) -> type[np.generic]:
        """The numpy type of a numeric tensor."""
        return _NUMPY[self.dtype]


BATCH = "batch"  # what graphs call the batch axis
MAX_BATCH = 8  # samples of one execution, where a model does not say otherwise

IMAGE = Tensor("image", "STRING", (1,))
TEXT = Tensor("text", "STRING", (1,))
PARAMETERS = Tensor("parameters", "STRING", (1,), optional=True)
GEOMETRY = Tensor("geometry", "FP64", (6,))
VALID_SIZE = Tensor("valid_size", "INT32", (2,))  # height, width of the pixels that are no padding
IMAGE_SIZE = Tensor("image_size", "INT32", (2,))  # height, width of the oriented picture
