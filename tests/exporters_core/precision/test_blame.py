"""The search for the layers to keep in fp32: it finds them, all of them and no others, in a bounded number of tries."""

from __future__ import annotations

import itertools

import pytest

from tritonvision.exporters.precision.blame import layers_to_keep

LAYERS = tuple(f"layer{i}" for i in range(100))


def gate(*guilty):
    """Passes when all of the guilty are kept; counts what it was asked."""

    def passes(kept):
        passes.tries += 1
        return set(guilty) <= set(kept)

    passes.tries = 0
    return passes


@pytest.mark.parametrize("guilty", LAYERS[::7])
def test_one_layer_among_a_hundred_is_found_in_sixteen_tries(guilty):
    passes = gate(guilty)
    assert layers_to_keep(LAYERS, passes, tries=16) == (guilty,)
    assert passes.tries <= 16


@pytest.mark.parametrize("guilty", list(itertools.combinations(LAYERS[::30], 2)))
def test_two_layers_are_found_and_no_third(guilty):
    assert layers_to_keep(LAYERS, gate(*guilty), tries=40) == guilty


def test_layers_come_in_the_order_of_the_graph():
    assert layers_to_keep(LAYERS, gate("layer80", "layer3", "layer81"), tries=60) == ("layer3", "layer80", "layer81")


def test_where_tries_run_out_the_smallest_block_that_passed_stands():
    passes = gate("layer10")
    found = layers_to_keep(LAYERS, passes, tries=4)
    assert passes.tries == 4
    assert "layer10" in found and 1 < len(found) <= 25


def test_where_nothing_helps_nothing_is_named():
    passes = gate("what no layer is called")
    assert layers_to_keep(LAYERS, passes, tries=12) is None
    assert passes.tries == 12


def test_the_last_layer_that_is_left_is_the_one_to_blame():
    assert layers_to_keep(("only",), gate("only"), tries=5) == ("only",)
