"""The figures of the last ten seconds."""

from __future__ import annotations

import pytest

from tritonvision.facade.observability.metrics import Window


def test_the_window_expires_and_counts_errors_separately():
    now = 100.0
    window = Window(lambda: now)
    window.add("a-b/1", 0.2, False)
    now = 105.0
    window.add("a-b/1", 0.4, False)
    window.add("a-b/1", 9.0, True)
    window.add("c", 0.6, False)

    def figures() -> dict[str, float]:
        return {metric.name: metric.samples[0].value for metric in window.collect(lambda model: True)}

    seen = figures()
    assert (seen["num_inferences_a_b_1"], seen["num_errors_a_b_1"], seen["num_inferences_c"]) == (2, 1, 1)
    assert seen["avg_inference_time_a_b_1"] == pytest.approx(0.3)
    assert (seen["num_inferences_total"], seen["num_errors_total"]) == (3, 1)
    assert seen["avg_inference_time_total"] == pytest.approx(0.4)
    now = 112.0
    assert figures()["num_inferences_total"] == 2
    now = 200.0
    assert figures()["avg_inference_time_total"] == 0.0


def test_ids_that_share_a_name_are_one_figure():
    window = Window()
    for model in ("a-b", "a_b", "a/b"):
        window.add(model, 0.1, False)
    figures = [(metric.name, metric.samples[0].value) for metric in window.collect(lambda model: True)]
    assert len({name for name, _ in figures}) == len(figures) and ("num_inferences_a_b", 3) in figures
