"""Pictures to network pixels; each rule reproduces the filter of its reference exactly.

All rules take RGB uint8 ``[h, w, 3]`` and give uint8 ``[H, W, 3]`` and the :class:`Geometry` that maps back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tritonvision.errors import InvalidPicture

# A picture whose longer edge would be resized to more than this many shorter edges is cut before it is resized.
_LONGEST = 64
# Attention grows with the square of the area: at four times the usual one it takes 1 GB and 10 s on two cores.
_MOST_AREAS = 4
_CV2_LONGEST = 32767  # no side of what OpenCV warps may reach a 16-bit integer's maximum
_WHOLE: dict[str, Callable[[float], int]] = {"rounded": round, "truncated": int}

Bounds = tuple[tuple[int, int, int], tuple[int, int, int]]


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

    @property
    def valid_size(self) -> tuple[int, int]:
        """(height, width) of the network pixels that show the picture, where padding is at the right and the bottom."""
        return round(self.height * self.gain_y), round(self.width * self.gain_x)

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """float32 ``[..., 2]`` network pixels to picture pixels, not clipped."""
        offset = np.array([self.offset_x, self.offset_y], dtype=np.float32)
        return (points - offset) / np.array([self.gain_x, self.gain_y], dtype=np.float32)


def letterbox(
    picture: np.ndarray, height: int, width: int, pad: int = 114, sizes: str = "rounded", margin: int = 0,
    gain: str = "each",
) -> tuple[np.ndarray, Geometry]:  # fmt: skip
    """Keep the aspect, centre, pad with grey ``pad``: ultralytics' LetterBox(auto=False), cv2 bilinear.

    With ``sizes="truncated"`` nothing is rounded up: as in training and inference of Roboflow's packages. With a
    ``margin`` the picture leaves so many pixels of each axis to the padding, and with ``gain="common"`` both axes are
    mapped back by the scale before it was rounded to whole pixels: as in super-gradients.
    """
    h, w = picture.shape[:2]
    scale = min((height - margin) / h, (width - margin) / w)
    whole = _WHOLE[sizes]
    new_w, new_h = max(whole(w * scale), 1), max(whole(h * scale), 1)
    left, top = round((width - new_w) / 2 - 0.1), round((height - new_h) / 2 - 0.1)
    if (new_h, new_w) != (h, w):
        picture = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    bottom, right = height - top - new_h, width - left - new_w
    pixels = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(pad, pad, pad))
    gains = (scale, scale) if gain == "common" else (new_w / w, new_h / h)
    return pixels, Geometry(w, h, left, top, *gains)


def square(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """The centred square over the longer side, black outside, sampled corner-aligned as MediaPipe's ImageToTensor does.

    Source = destination * side / size + offset without a half-pixel shift, bilinear, no antialiasing. MediaPipe's CPU
    converter warps by a perspective matrix; an affine warp of the same map rounds its 1/32 pixels differently.
    """
    h, w = picture.shape[:2]
    side = max(h, w)
    x0, y0 = (w - side) / 2, (h - side) / 2
    x1, y1 = x0 + side, y0 + side
    source = np.array([[x0, y1], [x0, y0], [x1, y0], [x1, y1]], dtype=np.float32)
    target = np.array([[0, height], [0, 0], [width, 0], [width, height]], dtype=np.float32)
    gain_x, gain_y = width / side, height / side
    if side < _CV2_LONGEST:
        pixels = cv2.warpPerspective(
            picture, cv2.getPerspectiveTransform(source, target), (width, height), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0),
        )  # fmt: skip
    else:
        pixels = _bilinear(picture, np.arange(height) / gain_y + y0, np.arange(width) / gain_x + x0)
    return pixels, Geometry(w, h, -x0 * gain_x, -y0 * gain_y, gain_x, gain_y)


def _bilinear(picture: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """uint8 ``[len(ys), len(xs), 3]`` sampled at rows ``ys`` and columns ``xs``, black outside the picture."""
    total = np.zeros((len(ys), len(xs), 3))
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = np.floor(ys).astype(np.int64) + down, np.floor(xs).astype(np.int64) + across
        rows = (1 - np.abs(ys - y)) * ((y >= 0) & (y < picture.shape[0]))
        columns = (1 - np.abs(xs - x)) * ((x >= 0) & (x < picture.shape[1]))
        corner = picture[np.clip(y, 0, picture.shape[0] - 1)[:, None], np.clip(x, 0, picture.shape[1] - 1)]
        total += (rows[:, None] * columns)[..., None] * corner
    return np.rint(total).astype(np.uint8)


def crop(
    picture: np.ndarray, height: int, width: int, interpolation: str = "bicubic", percent: float = 95
) -> tuple[np.ndarray, Geometry]:
    """Shorter edge to ``floor(size * 100 / percent)`` with Pillow's antialiasing filter, then the centre crop.

    torchvision's ``Resize(int)`` and ``CenterCrop`` on a Pillow image, which is timm's eval transform for a square
    (``height == width``, ``percent <= 100``; the crop never reaches over the border).
    """
    h, w = picture.shape[:2]
    edge = math.floor(min(height, width) / (percent / 100))
    new_w, new_h = (edge, int(edge * h / w)) if w <= h else (int(edge * w / h), edge)
    left, top = round((new_w - width) / 2), round((new_h - height) / 2)
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    if max(new_w, new_h) <= _LONGEST * edge:
        resized = Image.fromarray(picture).resize((new_w, new_h), method)
        pixels = np.array(resized.crop((left, top, left + width, top + height)))
    else:
        pixels = _crop_of_strip(picture, (new_w, new_h), (left, top, width, height), method)
    return pixels, Geometry(w, h, -left, -top, new_w / w, new_h / h)


def _crop_of_strip(
    picture: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int], method: Image.Resampling
) -> np.ndarray:
    """The ``window`` (left, top, width, height) of ``picture`` resized to ``size`` (width, height), without the rest.

    A strip of one pixel by a million would become gigabytes. Along its length only the source pixels that the filter
    reads for the window are resized; Pillow holds their offset in float32, so about one value in a thousand is a grey
    level or two off.
    """
    left, top, width, height = window
    wide = size[0] > size[1]
    source, target, first, count = (
        (picture.shape[1], size[0], left, width) if wide else (picture.shape[0], size[1], top, height)
    )
    step = source / target
    reach = 2 * max(step, 1) + 1  # bicubic looks two source pixels far, or two of its own when it shrinks
    start, end = max(math.floor(first * step - reach), 0), math.ceil((first + count) * step + reach)
    part = Image.fromarray(np.ascontiguousarray(picture[:, start:end] if wide else picture[start:end]))
    box = first * step - start, (first + count) * step - start
    if wide:
        resized = part.resize((width, size[1]), method, box=(box[0], 0, box[1], part.height))
        return np.array(resized.crop((0, top, width, top + height)))
    resized = part.resize((size[0], height), method, box=(0, box[0], part.width, box[1]))
    return np.array(resized.crop((left, 0, left + width, height)))


def stretch(
    picture: np.ndarray, height: int, width: int, encoding: str = "uint8", filter: str = "plain"
) -> tuple[np.ndarray, Geometry]:
    """Each axis to its own size, bilinear.

    With ``encoding="float32"`` the picture is scaled to 0..1 first and the pixels stay float32: RF-DETR and DINOv3
    resize so. With ``filter="plain"`` nothing is antialiased, as in torch's ``interpolate``; ``antialiased`` is
    Pillow's filter, which torchvision's has become.
    """
    h, w = picture.shape[:2]
    if encoding == "float32":
        picture = picture.astype(np.float32) / 255
    if (h, w) == (height, width):
        pixels = picture
    elif filter == "antialiased":
        pixels = _antialiased(picture, height, width)
    else:
        pixels = cv2.resize(picture, (width, height))
    return pixels, Geometry(w, h, 0, 0, width / w, height / h)


def _antialiased(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 or float32 ``[h,w,3]`` to ``[height,width,3]`` by Pillow's bilinear filter; floats a channel at a time."""

    def resized(image: Image.Image) -> np.ndarray:
        if image.height > _LONGEST * image.width:  # Pillow shortens rows first: a strip would become gigabytes
            image = image.resize((image.width, height), Image.Resampling.BILINEAR)
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))

    if picture.dtype == np.uint8:
        return np.array(resized(Image.fromarray(picture)))
    return np.stack([resized(Image.fromarray(np.ascontiguousarray(plane))) for plane in picture.transpose(2, 0, 1)], -1)


def centre(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """The middle of the picture as it is: nothing is resized, what is larger is cut and what is smaller gets black."""
    h, w = picture.shape[:2]
    top, left = abs(height - h) // 2, abs(width - w) // 2
    ys, xs = (0, top) if h > height else (top, 0), (0, left) if w > width else (left, 0)
    part = picture[ys[1] : ys[1] + height, xs[1] : xs[1] + width]
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[ys[0] : ys[0] + part.shape[0], xs[0] : xs[0] + part.shape[1]] = part
    return pixels, Geometry(w, h, xs[0] - xs[1], ys[0] - ys[1], 1, 1)


def shortest(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """Shorter side to ``height``, but the longer one to no more than ``width``; Pillow bilinear, antialiased.

    The size follows the picture. transformers' ``get_resize_output_image_size`` of DETR: where the longer side is
    limited, the shorter one is ``int(round(...))`` of the limit and the other ``int(shorter * longer / shorter)``.
    """
    h, w = picture.shape[:2]
    small, large = min(h, w), max(h, w)
    edge, raw = height, None
    if large / small * edge > width:
        raw = width * small / large
        edge = round(raw)
    if small == edge:
        new_h, new_w = h, w
    elif w < h:
        new_h, new_w = int((raw if raw is not None else edge) * h / w), edge
    else:
        new_h, new_w = edge, int((raw if raw is not None else edge) * w / h)
    new_h, new_w = max(new_h, 1), max(new_w, 1)
    pixels = np.array(Image.fromarray(picture).resize((new_w, new_h), Image.Resampling.BILINEAR))
    return pixels, Geometry(w, h, 0, 0, new_w / w, new_h / h)


def longest(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """Longer side to ``height`` (= ``width``), black at the right and the bottom; Pillow bilinear, antialiased.

    SamImageProcessor: sides are rounded half up.
    """
    h, w = picture.shape[:2]
    new_h, new_w = fitted(h, w, height)
    resized = np.asarray(Image.fromarray(picture).resize((new_w, new_h), Image.Resampling.BILINEAR))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:new_h, :new_w] = resized
    return pixels, Geometry(w, h, 0, 0, new_w / w, new_h / h)


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of a picture after :func:`longest` has made its longer side ``side`` pixels long."""
    scale = side / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def squash(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Geometry]:
    """Each axis to its own size; Pillow bilinear, antialiased. Sam2ImageProcessor."""
    h, w = picture.shape[:2]
    pixels = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    return pixels, Geometry(w, h, 0, 0, width / w, height / h)


def multiple(picture: np.ndarray, height: int, width: int, multiple: int = 14) -> tuple[np.ndarray, Geometry]:
    """Keep the aspect so that the side that changes less gets its size, each side a multiple; Pillow bicubic.

    The size follows the picture. DPTImageProcessor with ``keep_aspect_ratio`` and ``ensure_multiple_of``, which has no
    bound and gives some strips no pixels at all.

    Raises:
        InvalidPicture: a strip of no pixels, or of more than four times ``height * width``.
    """
    h, w = picture.shape[:2]
    scale_h, scale_w = height / h, width / w
    scale = scale_w if abs(1 - scale_w) < abs(1 - scale_h) else scale_h
    new_h, new_w = (round(side * scale / multiple) * multiple for side in (h, w))
    if not 0 < new_h * new_w <= _MOST_AREAS * height * width:
        raise InvalidPicture(
            f"The picture is too long and narrow for this model: crop it to {_MOST_AREAS} times its shorter side."
        )
    pixels = np.array(Image.fromarray(picture).resize((new_w, new_h), Image.Resampling.BICUBIC))
    return pixels, Geometry(w, h, 0, 0, new_w / w, new_h / h)


def bounded(picture: np.ndarray, height: int, width: int, multiple: int = 14) -> tuple[np.ndarray, Geometry]:
    """Longer side to ``height`` (= ``width``), then each side to the nearest multiple, the larger of two as near.

    The size follows the picture. Depth Anything 3's ``InputProcessor`` with ``upper_bound_resize``: OpenCV's area
    filter where a picture shrinks, cubic where it grows. It gives some strips a side of one pixel, which no patch
    covers; here a side has one multiple at least.
    """
    h, w = picture.shape[:2]
    scale = height / max(h, w)
    pixels = picture if scale == 1 else _by_area(picture, max(1, round(h * scale)), max(1, round(w * scale)))
    sides = [max(multiple, (side + multiple // 2) // multiple * multiple) for side in pixels.shape[:2]]
    pixels = pixels if sides == list(pixels.shape[:2]) else _by_area(pixels, *sides)
    return pixels, Geometry(w, h, 0, 0, sides[1] / w, sides[0] / h)


def _by_area(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's area filter, or the cubic one where a side grows."""
    grows = height > picture.shape[0] or width > picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


RULES: dict[str, Callable[..., tuple[np.ndarray, Geometry]]] = {
    "letterbox": letterbox, "square": square, "crop": crop, "centre": centre, "stretch": stretch,
    "shortest": shortest, "longest": longest, "multiple": multiple, "bounded": bounded,
}  # fmt: skip


def shortest_bounds(height: int, width: int) -> Bounds:
    """Of the sides that :func:`shortest` makes; usual is a picture of 4 to 3."""
    return (1, height, width), (1, min(height * 4 // 3, width), width)


def multiple_bounds(height: int, width: int, multiple: int = 14) -> Bounds:
    """Of the sides that :func:`multiple` makes; usual is a picture of 4 to 3."""
    usual = round(width * 4 / 3 / multiple) * multiple
    return (multiple, height, _MOST_AREAS * height), (multiple, usual, _MOST_AREAS * width)


def bounded_bounds(height: int, width: int, multiple: int = 14) -> Bounds:
    """Of the sides that :func:`bounded` makes; usual is a picture of 4 to 3."""
    return (multiple, round(height * 3 / 4 / multiple) * multiple, height), (multiple, width, width)


# (least, usual, largest) height and width, of the rules whose size follows the picture.
BOUNDS: dict[str, Callable[..., Bounds]] = {
    "shortest": shortest_bounds, "multiple": multiple_bounds, "bounded": bounded_bounds,
}  # fmt: skip
# Rules whose size follows the picture, and rules whose padding is a matter of the network, after it has normalised.
DYNAMIC = frozenset(BOUNDS)
WITH_VALID_SIZE = frozenset({"shortest", "longest"})
