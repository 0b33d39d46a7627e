"""The size at which Qwen's vision-language models and their kin read a picture."""

from __future__ import annotations

import math

from tritonvision.errors import InvalidParameter
from tritonvision.tasks import HIGH, is_low

_NARROWEST = 200  # longer side over shorter
_LOW = 512  # pixels: the side of a square that is as large as a picture of low detail


def read_size(size: tuple[int, int], bounds: tuple[int, int, int], detail: str = HIGH) -> tuple[int, int]:
    """(height, width) at which a model reads a picture, which are the pixels that its text counts.

    Args:
        size: (height, width) of the picture.
        bounds: of the model, the last three arguments of :func:`smart_resize`.
        detail: one of :data:`tritonvision.tasks.DETAILS`.

    Raises:
        InvalidParameter: as :func:`smart_resize`.
    """
    factor, least, most = bounds
    if is_low(detail, size, _LOW):
        most = max(min(most, _LOW * _LOW), least)
    return smart_resize(*size, factor, least, most)


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(height, width): multiples of ``factor`` near those given, their product within the two bounds.

    As ``smart_resize`` of transformers' ``Qwen2VLImageProcessor`` computes it, rounding of halves included.

    Raises:
        InvalidParameter: one side is over 200 times the other.
    """
    if max(height, width) > _NARROWEST * min(height, width):
        raise InvalidParameter(
            f"A picture of {width} x {height} pixels is too narrow for this model.",
            hint=f"One side may have at most {_NARROWEST} times the pixels of the other.",
        )
    tall, wide = (round(side / factor) * factor for side in (height, width))
    if tall * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide
