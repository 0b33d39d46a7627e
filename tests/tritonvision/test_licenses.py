"""Licences that have to be accepted: which ones they are, and that one acceptance is remembered."""

import re

import pytest

from tritonvision import catalog, licenses
from tritonvision.errors import SetupError


@pytest.fixture
def store(monkeypatch, tmp_path):
    path = tmp_path / "kept" / "accepted.json"
    monkeypatch.setenv("TRITONVISION_ACCEPTED_LICENSES", str(path))
    return path


def test_every_licence_of_the_catalogue_that_restricts_use_asks_to_be_accepted():
    restricts = re.compile(r"\bnc\b|non-?commercial|no commercial|research|gated|data terms", re.IGNORECASE)
    free = {"Apache-2.0 (GH facebookresearch/perception_models states Apache-2.0 for PE; FAIR Noncommercial applies to "
            "PLM)"}  # fmt: skip
    for entry in catalog.entries().values():
        assert bool(entry.terms) == (bool(restricts.search(entry.license)) and entry.license not in free), entry.id
        assert entry.terms in ("", licenses.NON_COMMERCIAL, licenses.RESEARCH, licenses.GATED)


def test_one_acceptance_is_remembered_for_all_weights_of_that_licence(store):
    base, large = (licenses.of_catalogue(catalog.find(f"depth-anything-v2-{size}")) for size in ("base", "large"))
    with pytest.raises(licenses.LicenseNotAccepted, match="The licence of the weights of depth-anything-v2-base is"):
        licenses.require(base)
    licenses.accept(base)
    licenses.require(large)
    with pytest.raises(licenses.LicenseNotAccepted, match="research only"):
        licenses.require(licenses.of_catalogue(catalog.find("l2cs-gaze")))
    licenses.require(licenses.of_catalogue(catalog.find("depth-anything-v2-small")))  # Apache asks nothing


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_damaged_file_accepts_nothing_and_is_replaced(store, content):
    store.parent.mkdir()
    store.write_text(content, encoding="latin-1")
    terms = licenses.of_hub("somebody/flowers", "cc-by-nc-4.0", gated=False)
    with pytest.raises(licenses.LicenseNotAccepted):
        licenses.require(terms)
    licenses.accept(terms)
    licenses.require(terms)


@pytest.mark.parametrize(
    ("license", "gated", "kind"),
    [
        ("apache-2.0", False, ""), ("agpl-3.0", False, ""), ("cc-by-nc-4.0", False, licenses.NON_COMMERCIAL),
        ("cc-by-nc-sa-4.0", False, licenses.NON_COMMERCIAL), ("apple-amlr", True, licenses.GATED), ("", False, ""),
        ("fair-noncommercial-research-license", False, licenses.NON_COMMERCIAL), ("other", True, licenses.GATED),
    ],
)  # fmt: skip
def test_cards_of_the_hub_are_understood(license, gated, kind):
    assert licenses.of_hub("somebody/flowers", license, gated).kind == kind


def test_terms_without_a_name_are_those_of_one_repository(store):
    one, two = (licenses.of_hub(f"somebody/{name}", "other", gated=True) for name in ("one", "two"))
    licenses.accept(one)
    licenses.require(one)
    with pytest.raises(licenses.LicenseNotAccepted):
        licenses.require(two)


def test_a_file_that_cannot_be_written_is_a_matter_of_setup(store):
    store.parent.write_text("a file where the folder would be")
    with pytest.raises(SetupError, match="cannot be remembered"):
        licenses.accept(licenses.of_hub("somebody/flowers", "cc-by-nc-4.0", gated=False))
