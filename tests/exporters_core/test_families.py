"""What every family has of the contract, and what it must not ask: the contract asks it, in one place."""

import dataclasses
import re
from pathlib import Path

import pytest

from tritonvision import catalog
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters import families, libraries, registry
from tritonvision.exporters.contract import Family, Network, NoSignal, Refusals, Weights
from tritonvision.exporters.synthetic import seeds

FAMILIES = {name: registry.find(name) for name in sorted(registry.exportable())}
ENTRIES = {name: next(e for e in catalog.entries().values() if e.family == name) for name in FAMILIES}
OPTIONS = {"labels": ("no class of it",), "multi_label": True, "size": (64, 64)}
REFUSED = [
    (name, option) for name, family in FAMILIES.items() for option in OPTIONS if getattr(family.refusals, option)
]
MODULES = [path for room in (families, libraries) for path in sorted(Path(room.__path__[0]).rglob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_family_asks_which_kind_of_weights_it_gets(path):
    assert not re.search(r"\bweights\.kind\b", path.read_text()), "the contract asks, and calls the hook that is meant"


@pytest.mark.parametrize(("name", "option"), REFUSED)
def test_an_option_that_a_family_refuses_is_refused_before_anything_is_imported(monkeypatch, name, option):
    family, entry = FAMILIES[name], ENTRIES[name]
    sentence = getattr(family.refusals, option)
    monkeypatch.setattr(type(family), "prepare", lambda self: pytest.fail("imported before it was refused"))
    with pytest.raises((ExportFailed, NotSupported)) as caught:
        family.build(entry, Weights("random", **{option: OPTIONS[option]}))
    assert caught.value.message == f"'{entry.id}' {sentence}."
    assert caught.value.hint == f"Leave --{option.replace('_', '-')} out."


def test_the_options_that_can_be_given_are_those_of_these_families():
    taken = {o: {n for n, family in FAMILIES.items() if not getattr(family.refusals, o)} for o in OPTIONS}
    yolo = {name for name in FAMILIES if name.startswith("YOLO")}
    assert taken == {
        "labels": {"DETR", "DINOv3", "RFDetr", "ResNet", "ViT", "YOLACT"} | yolo - {"YOLO-World"},
        "multi_label": {"DINOv3", "ResNet", "ViT"}, "size": yolo,
    }  # fmt: skip


def test_class_names_that_are_the_familys_own_can_be_given():
    for family in FAMILIES.values():
        if family.refusals.own_labels:
            family.refusals.check("any", Weights(labels=family.refusals.own_labels))


class Answers(Network):
    """A network that says which hook made it."""

    def export(self, path, role=""):
        """Nothing."""

    def tensors(self, inputs, double=False, role=""):
        """Nothing."""

    def predict(self, sample, parameters, role=""):
        """Nothing."""


class OfFiles(Family):
    """The smallest family: weights out of a file, and nothing else."""

    head, refusals = CLASSES, Refusals()

    def resize(self, entry):
        return Resize("stretch", 8, 8)

    def network_from_file(self, entry, weights):
        return Answers(("file",), weights.path.name)


class OfAll(OfFiles):
    """One that also draws weights and has released ones."""

    def official_network(self, entry, weights):
        return Answers(("official",), "hub")

    def random_network(self, entry, weights):
        return Answers(("random",), notes=("another note",))


ENTRY = ENTRIES["ResNet"]


def test_the_contract_calls_the_hook_of_the_weights_that_are_meant():
    user = Weights("user", path=Path("mine.pth"))
    made = [OfAll().build(ENTRY, weights) for weights in (Weights(), Weights("random", seed=4), user)]
    assert [network.labels for network in made] == [("official",), ("random",), ("file",)]
    assert [network.source for network in made] == ["hub", f"{ENTRY.id}, seed 4", "mine.pth"]
    assert [network.notes for network in made] == [(), (Family.random_note, "another note"), ()]


@pytest.mark.parametrize(("kind", "sentence"), [("official", "ever released"), ("random", "no random variant")])
def test_weights_that_a_family_does_not_have_are_refused(kind, sentence):
    with pytest.raises(ExportFailed, match=sentence) as caught:
        OfFiles().build(ENTRY, Weights(kind))
    assert "--weights PATH" in caught.value.hint


def test_refusals_are_by_option():
    everything = Refusals("knows none", (), "is none", "has its own")
    for option, value in OPTIONS.items():
        weights = dataclasses.replace(Weights(), **{option: value})
        with pytest.raises((ExportFailed, NotSupported), match=f"'it' {getattr(everything, option)}"):
            everything.check("it", weights)
    Refusals("", (), "", "").check("it", Weights(labels=("a",), multi_label=True, size=(8, 8)))


@pytest.mark.parametrize("name", FAMILIES)
def test_random_weights_without_signal_are_those_of_the_next_seed_in_every_family(monkeypatch, name):
    family, entry, asked = FAMILIES[name], ENTRIES[name], []

    def random_network(self, entry, weights):
        asked.append(weights.seed)
        if weights.seed < 5:
            raise NoSignal("All alike.")
        return Answers(())

    monkeypatch.setattr(type(family), "prepare", lambda self: None)
    monkeypatch.setattr(type(family), "random_network", random_network)
    weights = Weights("random", seed=3)
    network = seeds.with_signal(lambda seeded: family.build(entry, seeded), weights, lambda sentence: None)
    assert asked == [3, 4, 5] and network.source == f"{family.architecture(entry)}, seed 5"
