"""A picture in the upper left of a black square of another size, filtered as scikit-image's ``resize`` does it."""

from __future__ import annotations

import math

import cv2
import numpy as np

_GREY = np.float32(1 / 255)


def resize(picture: np.ndarray, side: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to float32 ``[side,side,3]`` from 0 to 1.

    The arithmetic is that of transformers' ``Owlv2ImageProcessor`` before it normalises: padded with black at the right
    or the bottom to a square; when that shrinks, blurred by a Gaussian of the standard deviation (factor - 1) / 2, cut
    at three of them, mirrored at the square's edges; then bilinear samples of the blurred values, never rounded.

    Outside the picture and the reach of the blur the square is black, so only that part is computed: the whole square
    of a strip would take gigabytes.
    """
    square = max(picture.shape[:2])
    factor = np.float32(square) / np.float32(side)
    sigma = max(float((factor - 1) / 2), 0.0)
    radius = math.ceil(np.float32(3) * np.float32(sigma))
    # twice the blur's reach, so that its mirror image at the edge is black, and one black row to sample
    height, width = (min(length + 2 * radius + 1, square) for length in picture.shape[:2])
    frame: np.ndarray = np.zeros((height, width, 3), dtype=np.float32)
    np.multiply(picture, _GREY, out=frame[: picture.shape[0], : picture.shape[1]])
    if sigma > 0:
        kernel = _gaussian(sigma, radius)
        frame = cv2.sepFilter2D(frame, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return _sampled(_sampled(frame, side, square, factor, 0), side, square, factor, 1)


def _gaussian(sigma: float, radius: int) -> np.ndarray:
    """Weights of ``2 radius + 1`` pixels, with sum 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _sampled(values: np.ndarray, side: int, square: int, factor: np.float32, axis: int) -> np.ndarray:
    """``side`` linear samples along ``axis`` of a square that is black outside ``values``."""
    # rounded to float32 once, after the subtraction, as a fused multiply-add does it
    at = np.maximum(float(factor) * (np.arange(side) + 0.5) - 0.5, 0).astype(np.float32)
    before = np.minimum(at.astype(np.int64), square - 1)
    share = (at - before.astype(np.float32)).reshape([-1 if i == axis else 1 for i in range(3)])
    last = values.shape[axis] - 1  # black where the frame ends before the square does
    after = np.minimum(before + 1, square - 1)
    low, high = (values.take(np.minimum(index, last), axis=axis) for index in (before, after))
    return low * (1 - share) + high * share
