"""Choosing a typeface that has all letters of the names to be drawn; without one, class ids are drawn instead.

Pillow's built-in one has only ASCII. DejaVu Sans comes with matplotlib, a dependency of supervision: Latin with
accents, Greek, Cyrillic, Arabic and more. Chinese, Japanese and Korean need a system font, e.g. Debian's
fonts-noto-cjk.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageFont, features

_DEJAVU = "DejaVuSans.ttf"
# Pillow looks for these in the system's font folders.
_OF_THE_SYSTEM = (
    _DEJAVU, "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)  # fmt: skip
_SAMPLE = 20  # pixels: the size at which typefaces are checked for letters
_NO_LETTER = "\U0010ffff"  # noncharacter, which is drawn as the typeface's glyph for missing letters
_UNSEEN = ("Mn", "Me", "Cf")  # Unicode's categories of combining marks and of format characters such as joiners
_NOT_WRITTEN = ("Cc", "Cs", "Co", "Cn")  # and of code points that have no glyph in any typeface


@dataclass(frozen=True)
class Typeface:
    """A font file by its ``path``; None for Pillow's built-in font."""

    path: str | None = None

    def sized(self, pixels: int) -> ImageFont.FreeTypeFont:
        """The font at that size, in pixels."""
        return _font(self.path, pixels)

    def has(self, text: str) -> bool:
        """Whether every letter of ``text`` can be drawn as itself."""
        return all(_has(self.path, letter) for letter in text)


BUILT_IN = Typeface()


@cache
def installed() -> tuple[Typeface, ...]:
    """The typefaces of this machine in order of preference, Pillow's built-in one first."""
    found = [BUILT_IN]
    matplotlib = importlib.util.find_spec("matplotlib")
    for folder in matplotlib.submodule_search_locations or () if matplotlib else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / _DEJAVU
        if path.is_file():
            found.append(Typeface(str(path)))
    for name in _OF_THE_SYSTEM:
        try:
            found.append(Typeface(str(ImageFont.truetype(name, _SAMPLE).path)))
        except OSError:  # not installed, or no font
            continue
    return tuple(found)


def best_for(texts: Collection[str], typefaces: Collection[Typeface] | None = None) -> Typeface:
    """The first of ``typefaces`` (default: all installed) with most ``texts``, then with most letters of the others."""

    def worth(typeface: Typeface) -> tuple[int, int]:
        letters = {letter for text in texts for letter in text}
        return sum(map(typeface.has, texts)), sum(map(typeface.has, letters))

    return max(installed() if typefaces is None else typefaces, key=worth)


def legible(
    names: Mapping[int, str], typefaces: Collection[Typeface] | None = None
) -> tuple[Typeface, dict[int, str]]:
    """A typeface for ``names``, and the text to draw for each: the name, or its number where letters are missing."""
    typeface = best_for(set(names.values()), typefaces)
    return typeface, {i: name if typeface.has(name) else str(i) for i, name in names.items()}


def drawable(text: str, typeface: Typeface = BUILT_IN) -> str:
    """``text`` with letters that ``typeface`` has: others lose their accents or become question marks."""
    return "".join(letter if letter == "\n" else _nearest(letter, typeface) for letter in text)


def _nearest(letter: str, typeface: Typeface) -> str:
    if letter.isspace():
        return " "
    if typeface.has(letter):
        return "" if unicodedata.category(letter) == "Cf" else letter
    plain = (c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return "".join(c if typeface.has(c) else "?" for c in plain)


@cache
def _font(path: str | None, pixels: int) -> Any:
    """A Pillow font; without FreeType the built-in one is of another class with the same methods."""
    return ImageFont.load_default(pixels) if path is None else ImageFont.truetype(path, pixels)


@cache
def _has(path: str | None, letter: str) -> bool:
    kind = unicodedata.category(letter)
    if letter.isspace() or kind in _UNSEEN:
        return True
    if kind in _NOT_WRITTEN or (unicodedata.bidirectional(letter) in ("R", "AL") and not _joins_letters()):
        return False
    return _drawn(path, letter) != _drawn(path, _NO_LETTER)


def _drawn(path: str | None, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(path, _SAMPLE).getmask(letter)
    return mask.size, bytes(mask)


@cache
def _joins_letters() -> bool:
    """Whether Pillow can lay out right-to-left scripts; without that they would be drawn in the wrong order."""
    return bool(features.check("raqm") and features.check("fribidi"))
