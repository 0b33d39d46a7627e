"""Every id of the catalogue is proven, ported or missing; no family file goes without a line in benchmarks/PARITY.md.

``pytest -s`` prints the status of each id. ``make parity-all MODELS='"the family"'`` writes the lines.
"""

import importlib.util
from pathlib import Path

import pytest

from tritonvision import catalog
from tritonvision.exporters import registry

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPEC = importlib.util.spec_from_file_location("parity_table", BENCHMARKS / "parity_table.py")
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)

ENTRIES = catalog.entries()
RECORDS, VARIANTS = table.read(), table.read_variants()
DEEP = {"yolov9e-640", "yolov9e-1280"}


def test_every_id_has_a_status():
    found = {model_id: table.status(RECORDS.get(model_id)) for model_id in ENTRIES}
    for model_id, status in found.items():
        run = ENTRIES[model_id].family in registry.exportable() and model_id not in RECORDS
        print(f"{status:8} {model_id}{' (can be exported, was not run)' if run else ''}")
    assert set(found.values()) <= set(table.STATUSES) and len(found) == len(ENTRIES)


def test_official_weights_have_been_gated_where_they_need_no_hub():
    assert table.status(RECORDS.get("mediapipe-face-detection")) == "proven"


@pytest.mark.parametrize("family", sorted(registry.exportable()))
def test_a_family_that_can_be_exported_has_gone_through_the_gate(family):
    ids = [entry.id for entry in ENTRIES.values() if entry.family == family]
    assert any(table.status(RECORDS.get(i)) != "missing" for i in ids), f"run: make parity-all MODELS='\"{family}\"'"


def test_no_record_is_of_an_id_that_is_not_there_or_cannot_be_exported():
    assert {ENTRIES[model_id].family for model_id in RECORDS} <= registry.exportable()


@pytest.mark.parametrize("model_id", sorted(i for i, record in RECORDS.items() if not record["failure"]))
def test_what_went_through_the_gate_was_within_its_limits(model_id):
    record = RECORDS[model_id]
    assert sum(record["answers"].values()) > 0
    for name, (value, limit) in record["figures"].items():
        # a graph may be as far off as float32 itself makes it; so may answers, which few networks are deep enough for
        assert 0 <= value <= limit or "tensor_" in name or model_id in DEEP, name


def test_the_table_shows_what_the_records_hold():
    assert (BENCHMARKS / "PARITY.md").read_text() == table.render(RECORDS, VARIANTS, ENTRIES), (
        "run: python benchmarks/parity_all.py --render"
    )
