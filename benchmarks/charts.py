"""Tables in Markdown, drawn: every column of numbers gets bars, whose lengths compare its rows.

    python benchmarks/charts.py FILE.md FOLDER      (a picture in FOLDER for each table of FILE)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from tritonvision.drawing.text import wrapped
from tritonvision.drawing.typefaces import best_for

_TEXT, _ROW, _MARGIN, _GAP = 18, 34, 32, 28  # pixels
_BAR, _NUMBER = 150, 86  # pixels of the longest bar of a column, and for the number beside it
_MOST_LINES = 4  # of what stands above a table
_BACKGROUND, _INK, _FAINT, _RULE = (255, 255, 255), (17, 24, 39), (107, 114, 128), (229, 231, 235)
_COLOURS = ((37, 99, 235), (5, 150, 105), (180, 83, 9), (124, 58, 237))  # of columns, taking turns
_SEPARATOR = re.compile(r"\|(\s*:?-+:?\s*\|)+")


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, its rows, each of as many cells, and the line that stands above it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    above: str = ""

    def numbers(self, column: int) -> list[float] | None:
        """The values of a column in which every cell is one number, or empty (0.0); None of any other column."""
        cells = [row[column].strip("*") for row in self.rows]
        found = [_number(cell) for cell in cells]
        if not any(cells) or any(cell and value is None for cell, value in zip(cells, found, strict=True)):
            return None
        return [value or 0.0 for value in found]


def tables(text: str) -> Iterator[Table]:
    """The tables of a text in Markdown; rows that have another number of cells than the head are left out."""
    lines = text.splitlines()
    for number, line in enumerate(lines[1:], 1):
        if not _SEPARATOR.fullmatch(line.strip()):
            continue
        heads = _cells(lines[number - 1])
        rows = []
        for row in lines[number + 1 :]:
            if not row.startswith("|"):
                break
            rows.append(_cells(row))
        rows = [row for row in rows if len(row) == len(heads)]
        if rows:
            above = next((before for before in lines[number - 2 :: -1] if before), "") if number > 1 else ""
            yield Table(heads, tuple(rows), "" if above.startswith("|") else above)


def draw(title: str, table: Table) -> Image.Image:
    """An RGB picture of a table: its words as they stand, and beside each number a bar, from zero to the column's
    largest value; numbers below zero have none.
    """
    typeface = best_for([title, table.above, *table.heads, *(cell for row in table.rows for cell in row)])
    font, large = typeface.sized(_TEXT), typeface.sized(_TEXT + 6)
    columns = [(head, table.numbers(i) if i else None) for i, head in enumerate(table.heads)]
    widths = [
        _BAR + _NUMBER if numbers else round(max(font.getlength(_plain(row[i])) for row in table.rows))
        for i, (_, numbers) in enumerate(columns)
    ]
    widths = [max(width, round(font.getlength(head))) for width, (head, _) in zip(widths, columns, strict=True)]
    room = max(sum(widths) + _GAP * (len(widths) - 1), round(large.getlength(title)))
    above = wrapped(_plain(table.above), room, font, _MOST_LINES) if table.above else []
    top, width = _MARGIN + (2 + len(above)) * _ROW, room + 2 * _MARGIN
    canvas = Image.new("RGB", (width, top + _ROW * len(table.rows) + _MARGIN), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, _MARGIN), title, font=large, fill=_INK, anchor="lm")
    for line, words in enumerate(above):
        pen.text((_MARGIN, _MARGIN + (line + 0.8) * _ROW), words, font=font, fill=_FAINT, anchor="lm")
    left, drawn = _MARGIN, 0
    for i, ((head, numbers), wide) in enumerate(zip(columns, widths, strict=True)):
        pen.text((left, top - _ROW / 2), head, font=font, fill=_FAINT, anchor="lm")
        largest = max(numbers or (), default=0.0)
        for line, row in enumerate(table.rows):
            middle, start = top + _ROW * (line + 0.5), left
            if numbers:
                length = round(_BAR * max(numbers[line], 0.0) / largest) if largest > 0 else 0
                if length:
                    colour = _COLOURS[drawn % len(_COLOURS)]
                    pen.rectangle((left, middle - 10, left + length - 1, middle + 10), fill=colour)
                start += length + 8 * bool(length)
            pen.text((start, middle), _plain(row[i]), font=font, fill=_INK, anchor="lm")
        drawn += bool(numbers)
        left += wide + _GAP
    for line in range(len(table.rows) + 1):
        pen.line((_MARGIN, top + _ROW * line, width - _MARGIN, top + _ROW * line), fill=_RULE)
    return canvas


def write(text: str, folder: Path, stem: str) -> list[Path]:
    """A picture ``<stem>-<number>.png`` in ``folder`` for each table of ``text``."""
    found = []
    for number, table in enumerate(tables(text), 1):
        path = folder / f"{stem}-{number}.png"
        draw(stem, table).save(path)
        found.append(path)
    return found


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _plain(cell: str) -> str:
    """A cell without the marks of Markdown."""
    return cell.strip("*").replace("`", "")


def main(arguments: Sequence[str]) -> None:
    """Draw the tables of a file."""
    file, folder = map(Path, arguments)
    for path in write(file.read_text(encoding="utf-8"), folder, file.stem):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
