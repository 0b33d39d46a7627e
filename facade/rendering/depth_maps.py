"""Depth maps as the dialects send them: grey PNGs, nested lists in JSON, a picture in false colours.

Slow for large pictures, so callers run it in a thread.
"""

from __future__ import annotations

import numpy as np
import orjson

from tritonvision.errors import InvalidParameter
from tritonvision.facade.rendering.opencv import jpeg, png

_MOST_NUMBERS = 16_000_000  # of a map in JSON: some 130 MB
_BLOCK = 100_000  # numbers encoded at once: orjson holds the GIL
_QUALITY = 95  # of the JPEG, by Roboflow's contract


def grey_png(shares: np.ndarray, bits: int) -> str:
    """Base64 of a PNG of one channel: float32 ``[h,w]`` in 0..1 over all values of 8 or 16 ``bits``."""
    dtype: type[np.uint8] | type[np.uint16] = np.uint8 if bits == 8 else np.uint16
    return png(np.rint(shares * np.float32(np.iinfo(dtype).max)).astype(dtype))


def false_colours(nearness: np.ndarray) -> str:
    """Base64 of a JPEG: float32 ``[h,w]`` in 0..1, dark is far and bright is near."""
    from tritonvision.drawing.depth import colours  # and with it OpenCV and Pillow, as in rendering/opencv.py

    return jpeg(colours(nearness), _QUALITY)


def numbers(values: np.ndarray, decimals: int) -> orjson.Fragment:
    """Nested lists, row by row, of float32 ``[h,w]``.

    Raises:
        InvalidParameter: too many for JSON.
    """
    if values.size > _MOST_NUMBERS:
        raise InvalidParameter(
            f"A map of {values.shape[1]} x {values.shape[0]} numbers is too large for JSON.", hint="Ask for a PNG."
        )
    rows = max(1, _BLOCK // values.shape[1])
    blocks = (
        orjson.dumps(np.round(values[start : start + rows], decimals), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for start in range(0, len(values), rows)
    )
    return orjson.Fragment(b"[" + b",".join(blocks) + b"]")
