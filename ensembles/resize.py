"""How a picture becomes the pixels of a network: the declaration that families make and pre steps carry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.python_backend import resize as rules
from tritonvision.python_backend.resize import Geometry


@dataclass(frozen=True)
class Resize:
    """One pre step: a rule of :mod:`tritonvision.python_backend.resize`, a size, and the rule's options.

    Attributes:
        rule: ``letterbox``, ``square`` or ``crop``.
        height, width: of the network's pixels, uint8 RGB ``[H, W, 3]``.
        options: keyword arguments of the rule, as sorted pairs.
    """

    rule: str
    height: int
    width: int
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def triton_name(self) -> str:
        """Name of the shared Triton model, e.g. ``pre--letterbox-640`` or ``pre--crop-224-bicubic-95``."""
        size = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        return "-".join([f"pre--{self.rule}", size, *(str(value).replace(".", "p") for _, value in self.options)])

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, Geometry]:
        """RGB uint8 ``[h, w, 3]`` to pixels uint8 ``[H, W, 3]`` and the way back."""
        return rules.RULES[self.rule](picture, self.height, self.width, **dict(self.options))
