"""The bar of a request's milliseconds: segments in proportion, numbers where they can be read, a line for each part."""

from __future__ import annotations

import numpy as np

from tritonvision.drawing.budget import Bar, draw_budget

PARTS = [
    Bar("client", "HTTP", 10.0), Bar("net--x", "queue", 0.0), Bar("net--x", "infer", 30.0), Bar("post", "infer", -1.0),
]  # fmt: skip


def test_segments_are_as_wide_as_their_share():
    canvas = np.asarray(draw_budget("x: 1 request", PARTS))
    row = canvas[40 + 28 + 24 + 3]  # just inside the bar
    drawn = row[(row != 255).any(axis=1)]
    colours, counts = np.unique(drawn, axis=0, return_counts=True)
    assert canvas.shape[1] == 1200 and len(colours) == 2, "what takes no time has no segment"
    assert sorted(np.round(counts / counts.sum(), 2)) == [0.25, 0.75]


def test_every_part_has_a_line():
    few, many = (draw_budget("x", PARTS[:count]).height for count in (1, 4))
    assert many - few == 3 * 30
    assert draw_budget("nothing", [Bar("client", "HTTP", 0.0)]).width == 1200
