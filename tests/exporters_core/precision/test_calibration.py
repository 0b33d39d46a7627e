"""What networks are asked while a model answers: of a chain, behind another network, of a model that writes."""

from __future__ import annotations

import numpy as np
import pytest

from tritonvision.ensembles import published
from tritonvision.exporters.precision import calibration, pictures
from tritonvision.publication import Repository


@pytest.fixture
def opened(served_repository):
    """``opened(id) -> (entry points, pipelines by role)`` of a published model."""
    closing = []

    def open_it(model_id):
        manifest = Repository(served_repository).get(model_id)
        base = published.open_published(served_repository, manifest)
        closing.extend(local for local in base.values() if hasattr(local, "close"))
        return published.entry_points_of(served_repository, manifest), base

    yield open_it
    for local in closing:
        local.close()


def test_a_chain_is_asked_what_its_resize_step_makes_of_each_picture(opened):
    points, base = opened("resnet18")
    session = base[""].session
    given = pictures.structured()[:3]
    found = calibration.inputs(points, base, given)
    assert {role: [one["pixels"].shape for one in record] for role, record in found.items()} == {
        "": [(1, 224, 224, 3)] * 3
    }
    assert base[""].session is session


def test_words_reach_the_reader_of_a_page_as_its_detector_found_them(opened):
    points, base = opened("doctr-db_mobilenet_v3")
    found = calibration.inputs(points, base, [calibration.MEASURES["page-text"](points[0]).pictures()[0]])
    assert len(found["detector"]) == 1 and len(found["recogniser"]) > 1
    assert found["recogniser"][0]["pixels"].shape[0] > 1


def test_a_reader_that_finds_no_word_in_the_pictures_is_asked_about_a_drawn_page(opened):
    points, base = opened("doctr-db_mobilenet_v3")
    found = calibration.inputs(points, base, [np.full((40, 40, 3), 255, np.uint8)])
    assert found["recogniser"]


def test_only_the_tower_is_recorded_of_a_model_that_writes(opened):
    points, base = opened("tests/small-vlm/1")
    before = {role: base[""].sessions[role] for role in ("vision", "decoder")}
    found = calibration.inputs(points, base, [pictures.structured()[0]], roles=("vision",))
    assert found.keys() == {"vision"} and found["vision"][0]
    assert {role: base[""].sessions[role] for role in ("vision", "decoder")} == before


def test_many_inputs_are_thinned_evenly():
    record = [{"x": np.full(1, i)} for i in range(1000)]
    kept = [int(one["x"][0]) for one in calibration._some(record)]
    assert len(kept) == 64 and kept[0] == 0 and set(np.diff(kept)) <= {15, 16}
