"""Pictures that exports are measured on, derived from the photograph in the tree by integer arithmetic alone.

They use no library's filter, so they are the same bytes on every machine and with every reference pipeline.
"""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np
from PIL import Image

_ONE = 1 << 16


def photo() -> np.ndarray:
    """The photograph in the tree (NASA, public domain): RGB uint8 ``[512, 512, 3]``, one person, one face."""
    return _photo().copy()


@functools.cache
def _photo() -> np.ndarray:
    with resources.files("tritonvision.data").joinpath("astronaut.png").open("rb") as file, Image.open(file) as image:
        return np.array(image.convert("RGB"))


def large() -> np.ndarray:
    """The photo, enlarged and cut at the bottom: RGB uint8 ``[760, 1100, 3]``.

    Resize rules make it smaller, and those that keep the aspect pad it.
    """
    return _views()["large-1100"][:760].copy()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uniform noise: RGB uint8 ``[height, width, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def views() -> dict[str, np.ndarray]:
    """Twelve pictures by name: the photo, crops, sizes, a mirror image, a rotation, three faces, two without any."""
    return {name: picture.copy() for name, picture in _views().items()}


@functools.cache
def _views() -> dict[str, np.ndarray]:
    picture = photo()
    face = picture[:300, 100:350]
    return {
        "photo": picture,
        "tall-300x512": picture[:, 100:400].copy(),
        "wide-512x260": picture[:260].copy(),
        "small-200": _scale(picture, 200, 200),
        "mirror": picture[:, ::-1].copy(),
        "rotated-15": _rotate_15(picture),
        "large-1100": _scale(picture, 1100, 1100),
        "odd-220x316": picture[5:321, 120:340].copy(),
        "tiny-91x77": _scale(picture, 77, 91),
        "three-faces-749x300": np.concatenate([face, face[:, ::-1], face[:, :249]], axis=1),
        "no-face-151x237": picture[275:, 361:].copy(),
        "no-face-noise-333x97": noise(97, 333, seed=1),
    }


def _scale(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with pixel centres aligned, no antialiasing, the border repeated outside."""
    step_y, step_x = (picture.shape[0] * _ONE) // height, (picture.shape[1] * _ONE) // width
    ys = np.arange(height, dtype=np.int64) * step_y + (step_y - _ONE) // 2
    xs = np.arange(width, dtype=np.int64) * step_x + (step_x - _ONE) // 2
    ys, xs = (v.clip(0, (n - 1) * _ONE) for v, n in zip((ys, xs), picture.shape, strict=False))
    return _sample(picture, *np.broadcast_arrays(ys[:, None], xs[None, :]))


def _rotate_15(picture: np.ndarray) -> np.ndarray:
    """Fifteen degrees about the centre, counter-clockwise, black outside."""
    height, width = picture.shape[:2]
    cos, sin = 63303, 16962  # of 15 degrees, in 1/65536
    y, x = np.mgrid[:height, :width].astype(np.int64)
    y, x = 2 * y - (height - 1), 2 * x - (width - 1)  # twice the distance from the centre
    ys = (cos * y + sin * x) // 2 + (height - 1) * _ONE // 2
    xs = (cos * x - sin * y) // 2 + (width - 1) * _ONE // 2
    return _sample(picture, ys, xs)


def _sample(picture: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Bilinear samples at positions in 1/65536 pixel, weights in 1/256, zero outside."""
    source = np.pad(picture, ((1, 2), (1, 2), (0, 0))).astype(np.int64)
    height, width = picture.shape[:2]
    ys, xs = (np.clip(v, -_ONE, n * _ONE) + _ONE for v, n in ((ys, height), (xs, width)))
    y, x = ys >> 16, xs >> 16
    fy, fx = ((ys >> 8) & 255)[..., None], ((xs >> 8) & 255)[..., None]
    top = source[y, x] * (256 - fx) + source[y, x + 1] * fx
    bottom = source[y + 1, x] * (256 - fx) + source[y + 1, x + 1] * fx
    return ((top * (256 - fy) + bottom * fy + (1 << 15)) >> 16).astype(np.uint8)
