"""Tables of ``make bench`` as pictures: what is read of a text, and how long the bars are."""

import sys
from pathlib import Path

import numpy as np

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import bench  # noqa: E402
import charts  # noqa: E402

TEXT = """AMD EPYC; random weights

| model | a second | of the limit | said |
|---|---|---|---|
| one | 10.0 | **1.00** | fit |
| two | 40 | +0.5 | 7 of 8 |

A line | with a bar in it is no table.

| alone |
|---|
"""


def test_a_table_is_read_with_what_stands_above_it_and_without_rows_it_is_none():
    (table,) = charts.tables(TEXT)
    assert table.heads == ("model", "a second", "of the limit", "said") and len(table.rows) == 2
    assert table.above == "AMD EPYC; random weights"
    assert [table.numbers(i) for i in range(4)] == [None, [10.0, 40.0], [1.0, 0.5], None]


def test_bars_are_as_long_as_their_numbers(tmp_path):
    (path,) = charts.write(TEXT, tmp_path, "speed")
    assert path.name == "speed-1.png"
    picture = np.asarray(charts.draw("speed", next(charts.tables(TEXT))))
    lengths = sorted(int(run) for run in _runs(picture, charts._COLOURS[0]))
    assert lengths == [charts._BAR // 4 + 1, charts._BAR]  # 37.5 is rounded to the even 38
    assert sorted(_runs(picture, charts._COLOURS[1])) == [charts._BAR // 2, charts._BAR]


def _runs(picture, colour):
    """Widths of the bars of one colour, each once."""
    same = (picture == colour).all(-1).sum(1)
    changed = np.flatnonzero(np.diff(same, prepend=0))
    return [width for width in same[changed] if width]


def test_numbers_that_are_zero_or_less_have_no_bar():
    table = charts.Table(("a", "b"), (("x", "0"), ("y", "-3")))
    picture = np.asarray(charts.draw("t", table))
    assert not (picture == charts._COLOURS[0]).all(-1).any()


def test_what_make_bench_runs_is_there_and_one_that_fails_is_told(tmp_path):
    assert all((BENCHMARKS / f"{name}.py").is_file() for name in bench.SCRIPTS)
    assert bench.run("faces", tmp_path / "nothing") is None
