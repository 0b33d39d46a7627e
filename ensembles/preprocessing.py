"""How a picture becomes the pixels of a network: families declare a resize rule, pre steps run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.ensembles.tensors import VALID_SIZE, Tensor
from tritonvision.python_backend.images import resize as rules
from tritonvision.python_backend.images.resize import Geometry


@dataclass(frozen=True)
class Resize:
    """One pre step: a rule of :mod:`tritonvision.python_backend.images.resize`, a size, and the rule's options.

    Attributes:
        rule: a name of ``RULES`` there.
        height, width: of the network's pixels, RGB ``[H, W, 3]``; two parameters of rules whose size varies.
        options: keyword arguments of the rule, as sorted pairs; with ``("encoding", "float32")`` pixels are in 0..1.
    """

    rule: str
    height: int
    width: int
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the pixels; None where it follows the picture."""
        return None if self.rule in rules.DYNAMIC else (self.height, self.width)

    @property
    def bounds(self) -> tuple[tuple[int, int, int], ...]:
        """(least, usual, largest) height and width of the pixels; empty where they have a size of their own."""
        return () if self.size else rules.BOUNDS[self.rule](self.height, self.width, **dict(self.options))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs of a network after this step: ``pixels``, and ``valid_size`` where it has to mask padding."""
        dtype = "FP32" if ("encoding", "float32") in self.options else "UINT8"
        pixels = Tensor("pixels", dtype, (*(self.size or (-1, -1)), 3), bounds=self.bounds)
        return (pixels, VALID_SIZE) if self.rule in rules.WITH_VALID_SIZE else (pixels,)

    @property
    def triton_name(self) -> str:
        """Name of the shared Triton model, e.g. ``pre--letterbox-640`` or ``pre--crop-224-bicubic-95``."""
        size = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        return "-".join([f"pre--{self.rule}", size, *(str(value).replace(".", "p") for _, value in self.options)])

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, Geometry]:
        """RGB uint8 ``[h, w, 3]`` to pixels ``[H, W, 3]`` and the geometry that maps back to the picture."""
        return rules.RULES[self.rule](picture, self.height, self.width, **dict(self.options))

    def inputs(self, picture: np.ndarray) -> tuple[dict[str, np.ndarray], Geometry]:
        """The network's inputs for RGB uint8 ``[h, w, 3]``, without a batch axis, and the geometry that maps back."""
        pixels, geometry = self(picture)
        if self.rule in rules.WITH_VALID_SIZE:
            return {"pixels": pixels, "valid_size": np.array(geometry.valid_size, dtype=np.int32)}, geometry
        return {"pixels": pixels}, geometry
