"""InternVL's places: ``<ref>phrase</ref><box>[[x1, y1, x2, y2], ...]</box>``, in thousandths of the picture.

Its authors decode answers without these marks as often as with them, so a list of boxes behind words is read, too: the
phrase is then what stands before it since the last sentence or line.
"""

from __future__ import annotations

import re

from tritonvision.grounding import grounded
from tritonvision.grounding.grounded import Grounded

_SCALE = 1000
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
_LIST = rf"\[{_NUMBER}(?:,{_NUMBER}){{3}}\]"
_BOXES = rf"\[\s*{_LIST}(?:\s*,\s*{_LIST})*\s*\]|{_LIST}"
_PLACES = re.compile(rf"""
    (?:<ref>(?P<ref>[^<]{{0,500}})</ref>\s*)?   # the phrase between its marks
    <box>\s*(?P<marked>{_BOXES})\s*(?:</box>|\Z)   # an answer may be cut behind its boxes
    | (?P<bare>{_BOXES})
""", re.VERBOSE)  # fmt: skip
_ONE = re.compile(_LIST)
_BREAK = re.compile(r"[.!?;]\s+|\n\s*")


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`; the numbers do not depend on the picture's size."""
    found: list[Grounded] = []
    behind = 0
    for match in _PLACES.finditer(text):
        # stripped, since float() knows fewer kinds of space than the pattern does
        written = (one[1:-1].split(",") for one in _ONE.findall(match["marked"] or match["bare"]))
        listed = [[float(number.strip()) for number in numbers] for numbers in written]
        boxes = grounded.boxes(listed, _SCALE, _SCALE)
        phrase, start = match["ref"], match.start()
        if phrase is None:
            start = max((end.end() for end in _BREAK.finditer(text, behind, start)), default=behind)
            phrase = text[start : match.start()]
        if boxes:
            found.append(Grounded(_words(phrase), boxes, start_end=(start, match.end())))
        behind = match.end()
    return found


def _words(phrase: str) -> str:
    """Without what ties it to its boxes."""
    return phrase.strip().strip(":,-*").strip()
