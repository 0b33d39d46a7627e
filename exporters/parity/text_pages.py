"""Pages and lines of printed text to measure readers of text on, drawn with the typeface that Pillow carries."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = """
The harbour master kept two ledgers. In the first she wrote what the tide brought: 14 crates of lemons, a broken oar,
nine letters addressed to nobody. The second held what it took away again, and that list was always longer by one.
"Count twice," her father used to say, "and trust the smaller number." On the 3rd of March 1927 a grey ship came in
without a flag; its captain paid $250 in silver, asked for rope (60 fathoms), lamp oil & bread, and left before noon.
Nobody wrote down its name. Years later, sorting papers by the window, she found a receipt: paid in full, thank you,
QUICK JOURNEY HOME. The ink was still wet. Was it a joke? She folded it, put it into the second ledger, and smiled.
Below the lighthouse the keeper boiled water for coffee, fixed the radio with tape, and waited for the evening news.
Five foxes jumped over the low wall; a dozen wizards might have vexed them less than one small dog called Zebra #7.
Rain began at 18:45. By midnight the gauge read 31.6 mm, which is why the bridge stayed closed until Sunday morning.
"""
INK = (24, 22, 30)
_PAPER = (250, 249, 245)
_TABLE = (62, 48, 40)
_WORDS = TEXT.split()


class Word(NamedTuple):
    """A drawn word and the corners of its ink: left, top, right, bottom in pixels."""

    text: str
    box: tuple[int, int, int, int]


def page(seed: int = 0) -> np.ndarray:
    """A printed page, RGB uint8 ``[860, 720, 3]``: a heading, a paragraph of five lines, a table of two columns,
    some 45 words in all.

    Which words and how large they are follows from ``seed``.
    """
    return page_and_words(seed)[0]


def page_and_words(seed: int = 0) -> tuple[np.ndarray, list[Word]]:
    """:func:`page` and what stands on it, in reading order."""
    rng = np.random.default_rng(seed)
    sheet = Image.new("RGB", (720, 860), _PAPER)
    pen, words = ImageDraw.Draw(sheet), []
    start = int(rng.integers(len(_WORDS)))
    stock = deque(_WORDS[start:] + _WORDS)

    def put(text: str, x: float, y: float, font: ImageFont.FreeTypeFont) -> float:
        """Draws one word; where the next one begins."""
        pen.text((x, y), text, font=font, fill=INK, anchor="ls")
        left, top, right, bottom = (round(v) for v in pen.textbbox((x, y), text, font=font, anchor="ls"))
        words.append(Word(text, (left, top, right, bottom)))
        return x + font.getlength(text) + 0.45 * font.size

    def lines(top: float, count: int, size: int) -> float:
        """Fills ``count`` lines; where the next one stands."""
        font = _font(size)
        for _ in range(count):
            x, top = 60.0, top + 1.75 * size
            while x + font.getlength(stock[0]) <= 670:
                x = put(stock.popleft(), x, top, font)
        return top

    bottom = lines(30, 1, int(rng.integers(38, 46)))
    bottom = lines(bottom + 20, 5, size := int(rng.integers(25, 33)))
    font = _font(size)
    for _ in range(4):
        bottom += 2 * size
        put(stock.popleft(), 60, bottom, font)
        put(stock.popleft(), 460, bottom, font)
    return np.array(sheet), words


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels hold FreeType"
    return font


def turned(picture: np.ndarray, degrees: float = 3.0, outside: tuple[int, int, int] = _PAPER) -> np.ndarray:
    """The page turned counter-clockwise about its centre, ``outside`` what comes in at the corners."""
    return np.array(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=outside))


def seen(picture: np.ndarray, seed: int = 0, outside: tuple[int, int, int] = _TABLE) -> np.ndarray:
    """The page at an angle that follows from ``seed``, on a table: a tenth taller and a quarter wider than the page."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    tall, wide = int(1.1 * height), int(1.25 * width)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + ((wide - width) / 2, (tall - height) / 2) + rng.uniform(-0.02, 0.02, (4, 2)) * (width, height)
    warp = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(picture, warp, (wide, tall), borderMode=cv2.BORDER_CONSTANT, borderValue=outside)


def photographed(picture: np.ndarray, seed: int = 0) -> np.ndarray:
    """A photo of the page: :func:`seen`, lit from the right, noisy, out of a JPEG of quality 85."""
    photo = seen(picture, seed)
    tall, wide = photo.shape[:2]
    light = np.linspace(0.72, 1.0, wide)[None, :, None] * np.linspace(1.0, 0.88, tall)[:, None, None]
    noisy = photo * light + np.random.default_rng(seed).normal(0, 5, photo.shape)
    _, encoded = cv2.imencode(".jpg", noisy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # channels went in as RGB, so they come out as RGB


def line(text: str, size: int = 40) -> np.ndarray:
    """One printed line with a margin of half its height: RGB uint8 ``[2 * size, its width, 3]``."""
    font = _font(size)
    sheet = Image.new("RGB", (round(font.getlength(text)) + size, 2 * size), _PAPER)
    ImageDraw.Draw(sheet).text((size / 2, size), text, font=font, fill=INK, anchor="lm")
    return np.array(sheet)
