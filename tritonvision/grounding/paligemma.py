"""PaliGemma's places: ``<loc0120><loc0034><loc0870><loc0512> cat ; ...``, top, left, bottom and right of 1024 parts.

In an answer to ``segment`` sixteen tokens, ``<seg000>`` to ``<seg127>``, follow a box. They are the codes of a mask,
which a network of the model decodes; :func:`outlined` puts it into the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tritonvision.grounding.grounded import Grounded, Point, box

_PARTS = 1024
_PLACE = re.compile(r"(?P<places>(?:<loc\d{4}>){4})\s*(?P<codes>(?:<seg\d{3}>)*)(?P<phrase>[^;<>]*)")
_RUN = re.compile(r"(?:<seg\d{3}>)+")
_MASK = 16 * len("<seg000>")  # characters of a run that is the codes of a mask
_ENOUGH = 128  # a pixel of a mask that is inside


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`."""
    return [place for _, place in _places(text)]


def outlined(text: str, masks: Sequence[np.ndarray]) -> list[Grounded]:
    """The places of an answer with the outlines of their masks.

    Args:
        masks: uint8 ``[64,64]`` each, in the order of the answer, see :class:`tritonvision.results.Delta`.
    """
    spelled = [run.start() for run in _RUN.finditer(text) if len(run[0]) == _MASK]
    of_run = dict(zip(spelled, masks, strict=False))
    return [
        replace(place, polygons=_outlines(of_run[run], place)) if run in of_run else place
        for run, place in _places(text)
    ]


def _places(text: str) -> list[tuple[int, Grounded]]:
    """Where the codes behind a box begin, and the box with its phrase. A box without an extent is left out."""
    found = []
    for match in _PLACE.finditer(text):
        top, left, bottom, right = (int(number) for number in re.findall(r"\d{4}", match["places"]))
        extent = box((left, top, right, bottom), _PARTS, _PARTS)
        if extent is not None:
            end = match.start() + len(match[0].rstrip())
            place = Grounded(match["phrase"].strip(), (extent,), start_end=(match.start(), end))
            found.append((match.start("codes"), place))
    return found


def _outlines(mask: np.ndarray, place: Grounded) -> tuple[tuple[Point, ...], ...]:
    """Outlines of what is inside, whose corners are centres of the mask's pixels, as fractions of the picture."""
    import cv2

    left, top, right, bottom = place.boxes[0]
    inside = np.ascontiguousarray(mask >= _ENOUGH, dtype=np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    height, width = mask.shape
    return tuple(
        tuple(
            (left + (x + 0.5) / width * (right - left), top + (y + 0.5) / height * (bottom - top))
            for x, y in contour[:, 0].tolist()
        )
        for contour in sorted(contours, key=cv2.contourArea, reverse=True) if len(contour) > 2
    )  # fmt: skip
