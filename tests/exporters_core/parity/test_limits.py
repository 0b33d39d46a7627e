"""Limits follow what was measured: far above it they would let through what no rounding explains."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tritonvision import catalog
from tritonvision.exporters import registry

FACTOR = 30
RECORDS = json.loads((Path(__file__).parents[3] / "benchmarks" / "parity.json").read_text())


def limited(figure):
    """``pipeline_scores`` of ``text_pipeline_scores``: entry points share a limit."""
    return figure[max(figure.find("tensor_"), figure.find("pipeline_")) :]


def figures():
    """(family, figure) to its largest value over all ids and entry points; families of one tolerance count together."""
    found, names = defaultdict(float), {}
    for model_id, record in RECORDS.items():
        family = registry.find(catalog.find(model_id).family)
        first = names.setdefault(id(family.tolerance), family.name)
        for figure, (value, _) in record["figures"].items():
            key = first, limited(figure)
            found[key] = max(found[key], value)
    return dict(found)


FIGURES = figures()


def limit(family, figure):
    """The limit of one figure of the gate, and its name."""
    where, name = figure.split("_", 1)
    tolerance = registry.find(family).tolerance
    return tolerance.tensor(name) if where == "tensor" else tolerance.answer(name), name


@pytest.mark.parametrize(("family", "figure"), FIGURES)
def test_a_limit_is_at_most_thirty_times_what_was_measured_or_says_why(family, figure):
    allowed, name = limit(family, figure)
    close = allowed <= FACTOR * FIGURES[family, figure]
    assert close != (name in registry.find(family).tolerance.causes)


def test_the_limits_in_the_record_are_those_of_today():
    for model_id, record in RECORDS.items():
        family = catalog.find(model_id).family
        for figure, (_, written) in record["figures"].items():
            assert written == limit(family, limited(figure))[0], (model_id, figure)
