"""A page photographed at an angle: the angle from where its words are, the page put straight, and the way back.

Arithmetic and constants are those of python-doctr 1.1.0: ``estimate_orientation``, ``straighten_page`` and
``_remap_geometry``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from statistics import median_low

import cv2
import numpy as np

TURNS = (0, -90, 180, 90)  # degrees, by the class of an orientation network
_TEXT = 0.3  # from which probability on a pixel is text
_REGIONS = 70  # of which the angle is taken, the longest ones
_SMALLEST = 100  # pixels of a region
_LONG = 3  # times as long as high is a line


def angle_of(probabilities: np.ndarray, general: int) -> int:
    """Degrees by which the page has to be turned counter-clockwise to be straight, in -179 to 180.

    Args:
        probabilities: float32 ``[h, w]`` that a pixel is text.
        general: one of :data:`TURNS`, what an orientation network says.
    """
    height, width = probabilities.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -general, 1.0)
    bitmap = cv2.warpAffine((probabilities > _TEXT).astype(np.uint8) * 255, turn, (width, height))
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    large = (contour for contour in contours if cv2.contourArea(contour) > _SMALLEST)
    angles = [angle for contour in heapq.nlargest(_REGIONS, large, key=_elongation) for angle in _line_angle(contour)]
    skew = 0
    if angles:
        median = -median_low(angles)
        skew = -round(median)
    if skew % 90 == 0 or (abs(skew) == abs(general) and general):
        return general
    found = general + skew
    return int(found - 360 if found > 180 else found + 360 if found <= -180 else found)


def _elongation(contour: np.ndarray) -> float:
    _, (width, height), _ = cv2.minAreaRect(contour)
    return max(width / height, height / width) if width and height else 0.0


def _line_angle(contour: np.ndarray) -> list[float]:
    """The angle of a region that is as long as a line, in -90 to 90; none of another."""
    _, (width, height), angle = cv2.minAreaRect(contour)
    if width < height:
        width, height, angle = height, width, angle - 90
    if angle <= -90:
        angle += 180
    return [angle] if height > 0 and width / height > _LONG else []


@dataclass(frozen=True)
class Straightened:
    """A page put straight.

    Attributes:
        picture: RGB uint8.
        inverse: float64 ``[3, 3]``, its pixels to those of the page as it came.
        shape: height and width of the page as it came.
    """

    picture: np.ndarray
    inverse: np.ndarray
    shape: tuple[int, int]

    def back(self, geometry: np.ndarray) -> np.ndarray:
        """A box ``[4]`` or a polygon ``[4, 2]`` of the straight page on the page as it came, all as fractions."""
        if geometry.ndim == 1:
            left, top, right, bottom = geometry.tolist()
            corners = self.back(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64))
            return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        points = geometry.astype(np.float64) * self.picture.shape[1::-1]
        moved = (np.column_stack([points, np.ones(4)]) @ self.inverse.T)[:, :2]
        size = np.array(self.shape[::-1])
        return moved.clip(0, size - 1) / size


def straightened(picture: np.ndarray, angle: int) -> Straightened:
    """The page turned counter-clockwise by ``angle`` degrees, on a larger sheet so that nothing is cut off."""
    height, width = picture.shape[:2]
    tall, wide = _expanded(height, width, angle)
    more_high, more_wide = (int(max(0, np.ceil(new - old))) for new, old in ((tall, height), (wide, width)))
    top, left = more_high // 2, more_wide // 2
    sheet = np.pad(picture, ((top, more_high - top), (left, more_wide - left), (0, 0)))
    high, broad = sheet.shape[:2]
    turn = cv2.getRotationMatrix2D((broad / 2, high / 2), angle, 1.0)
    found = cv2.warpAffine(sheet, turn, (broad, high))
    if more_high or more_wide:  # the aspect as it was
        if high / broad > height / width:
            found = np.pad(found, ((0, 0), (0, int(high * width / height - broad)), (0, 0)))
        else:
            found = np.pad(found, ((0, int(broad * height / width - high)), (0, 0), (0, 0)))
    corners = np.array([
        [left, left + width, left + width, left], [top, top, top + height, top + height], [1, 1, 1, 1],
    ], np.float64)  # fmt: skip
    x, y = (max(0, int(np.floor(places.min()))) for places in turn @ corners)
    cropped = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]], np.float64)
    padded = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], np.float64)
    inverse = np.linalg.inv(cropped @ np.vstack([turn, [0, 0, 1]]) @ padded)
    return Straightened(found[y:, x:], inverse, (height, width))


def _expanded(height: int, width: int, angle: float) -> tuple[float, float]:
    """Height and width of the upright box around a page that was turned."""
    turn = angle * np.pi / 180.0
    points = np.array([[width / 2, height / 2], [-width / 2, height / 2]])
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wide, tall = 2 * np.abs(np.matmul(points, matrix.T)).max(axis=0)
    return tall, wide
