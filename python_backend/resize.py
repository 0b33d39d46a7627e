"""Pictures to network pixels, each rule with the very filter of the reference it reproduces.

All rules take RGB uint8 ``[h, w, 3]`` and give uint8 ``[H, W, 3]`` and the :class:`Geometry` that leads back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Geometry:
    """The map from network pixels to picture pixels: ``picture = (network - offset) / gain``, an axis each.

    Attributes:
        width, height: of the picture.
        offset_x, offset_y: network pixels.
        gain_x, gain_y: network pixels a picture pixel.
    """

    width: int
    height: int
    offset_x: float
    offset_y: float
    gain_x: float
    gain_y: float

    def to_array(self) -> np.ndarray:
        """float64 ``[6]`` in the order of the attributes, as it travels between the steps."""
        return np.array(
            [self.width, self.height, self.offset_x, self.offset_y, self.gain_x, self.gain_y], dtype=np.float64
        )

    @classmethod
    def from_array(cls, values: np.ndarray) -> Geometry:
        """The inverse of :meth:`to_array`."""
        width, height, *rest = (float(v) for v in values)
        return cls(int(width), int(height), *rest)

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """float32 ``[..., 2]`` network pixels to picture pixels, not clipped."""
        offset = np.array([self.offset_x, self.offset_y], dtype=np.float32)
        return (points - offset) / np.array([self.gain_x, self.gain_y], dtype=np.float32)


def letterbox(picture: np.ndarray, height: int, width: int, pad: int = 114) -> tuple[np.ndarray, Geometry]:
    """Keep the aspect, centre, pad with grey ``pad``: ultralytics' LetterBox(auto=False, scaleup=True), cv2 bilinear."""
    h, w = picture.shape[:2]
    scale = min(height / h, width / w)
    new_w, new_h = max(round(w * scale), 1), max(round(h * scale), 1)
    left, top = round((width - new_w) / 2 - 0.1), round((height - new_h) / 2 - 0.1)
    if (new_h, new_w) != (h, w):
        picture = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    pixels = np.full((height, width, 3), pad, dtype=np.uint8)
    pixels[top : top + new_h, left : left + new_w] = picture
    return pixels, Geometry(w, h, left, top, new_w / w, new_h / h)


def square(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """The centred square over the longer side, black outside, sampled corner-aligned as MediaPipe's ImageToTensor does.

    Source = destination * side / size + offset without a half-pixel shift, bilinear, no antialiasing.
    """
    h, w = picture.shape[:2]
    side = max(h, w)
    x0, y0 = (w - side) / 2, (h - side) / 2
    gain_x, gain_y = width / side, height / side
    inverse = np.array([[1 / gain_x, 0, x0], [0, 1 / gain_y, y0]])
    pixels = cv2.warpAffine(
        picture, inverse, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0),
    )  # fmt: skip
    return pixels, Geometry(w, h, -x0 * gain_x, -y0 * gain_y, gain_x, gain_y)


def crop(
    picture: np.ndarray, height: int, width: int, interpolation: str = "bicubic", percent: int = 95
) -> tuple[np.ndarray, Geometry]:
    """Shorter edge to ``floor(size * 100 / percent)`` with Pillow's antialiasing filter, then the centre crop.

    torchvision's ``Resize(int)`` and ``CenterCrop`` on a Pillow image, which is timm's eval transform.
    """
    h, w = picture.shape[:2]
    edge = int(min(height, width) * 100 / percent)
    new_w, new_h = (edge, int(edge * h / w)) if w <= h else (int(edge * w / h), edge)
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    resized = np.asarray(Image.fromarray(picture).resize((max(new_w, 1), max(new_h, 1)), method))
    left, top = round((resized.shape[1] - width) / 2), round((resized.shape[0] - height) / 2)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    source = resized[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    y, x = max(-top, 0), max(-left, 0)
    pixels[y : y + source.shape[0], x : x + source.shape[1]] = source
    return pixels, Geometry(w, h, -left, -top, resized.shape[1] / w, resized.shape[0] / h)


RULES: dict[str, Callable[..., tuple[np.ndarray, Geometry]]] = {
    "letterbox": letterbox, "square": square, "crop": crop,
}  # fmt: skip
