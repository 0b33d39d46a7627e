"""Limits count by kind where layers emit the same thing, and a network may bring its own entry points."""

import copy
import dataclasses

import pytest

from tritonvision import catalog
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Network, Tolerance, Weights, entry_points_of, kind
from tritonvision.exporters.registry import find

ENTRY = catalog.find("mediapipe-face-detection")


@pytest.mark.parametrize(
    ("name", "folded"),
    [("present.0.key", "present.key"), ("cross.17.value", "cross.value"), ("logits", "logits"), ("top1", "top1")],
)
def test_the_kind_of_an_output_is_its_name_without_the_layer(name, folded):
    assert kind(name) == folded


def test_a_limit_is_that_of_the_name_or_of_its_kind():
    tolerance = Tolerance({"present.key": 1e-4, "present.3.key": 1e-2}, relative=frozenset({"present.key"}))
    assert (tolerance.tensor("present.0.key"), tolerance.tensor("present.3.key")) == (1e-4, 1e-2)
    assert tolerance.is_relative("present.7.key") and not tolerance.is_relative("present.7.value")
    with pytest.raises(KeyError):
        tolerance.tensor("present.0.value")


class Sized(Network):
    """A network whose weights decide about its entry points."""

    def export(self, path, role=""):
        """Nothing."""

    def tensors(self, inputs, double=False, role=""):
        """Nothing."""

    def predict(self, sample, parameters, role=""):
        """Nothing."""


def test_a_networks_own_entry_points_come_before_the_familys():
    family = find(ENTRY.family)
    own = family.entry_points(catalog.find("mediapipe-face-detection"))
    assert entry_points_of(family, ENTRY, Sized((), "")) == own
    other = (Chain(Resize("stretch", 8, 8), CLASSES),)
    assert entry_points_of(family, ENTRY, Sized((), "", entry_points=other)) is other


def test_two_networks_of_one_role_are_refused(family, entry, network):
    """There is one graph a role: the second would silently take the place of the first."""
    (point,) = family.entry_points(entry)
    network = copy.copy(network)
    network.entry_points = (point, dataclasses.replace(point, pre=Resize("stretch", 8, 8)))
    with pytest.raises(ExportFailed, match="Two networks of 'mediapipe-face-detection' have the role ''"):
        entry_points_of(family, entry, network)


PAGES = catalog.find("doctr-db_resnet50")


def asked(entry, *options):
    return find(entry.family).chosen(entry, Weights(options=options))


def test_options_of_a_family_are_its_defaults_but_for_those_that_are_given():
    assert asked(PAGES) == {option.name: option.default for option in find("DocTR").choices}
    assert asked(PAGES, ("reco_arch", "parseq")) == asked(PAGES) | {"reco_arch": "parseq"}
    assert asked(ENTRY) == {}


@pytest.mark.parametrize(("entry", "options", "sentence", "hint"), [
    (PAGES, [("reco_arch", "best")], "cannot be 'best'", "parseq"),
    (PAGES, [("colour", "red")], "has no option 'colour'", "reco_arch"),
    (PAGES, [("resolve_blocks", "true"), ("resolve_blocks", "false")], "given twice", "once"),
    (ENTRY, [("colour", "red")], "has no option 'colour'", "leave --option out"),
], ids=["value", "name", "twice", "none"])  # fmt: skip
def test_options_without_sense_are_refused_with_what_can_be_given(entry, options, sentence, hint):
    with pytest.raises(InvalidParameter) as caught:
        asked(entry, *options)
    assert sentence in caught.value.message and hint in caught.value.hint
