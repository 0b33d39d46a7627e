"""The golden file of MediaPipe Face is what mediapipe says today; runs where mediapipe 0.10.21 is installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "exporters" / "families" / "mediapipe_face" / "golden.json"


@pytest.fixture(scope="module")
def recorded() -> dict:
    """A recording made now."""
    spec = importlib.util.spec_from_file_location("record", HERE / "record.py")
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    return record.record()


@pytest.fixture(scope="module")
def golden() -> dict:
    """The recording in the tree."""
    return json.loads(GOLDEN.read_text())


def test_the_recording_is_of_the_same_oracle(recorded, golden):
    assert recorded["oracle"] == golden["oracle"]


def test_the_pictures_are_the_same_bytes_in_both_environments(recorded, golden):
    facts = [[(p["name"], p["width"], p["height"], p["sha256"]) for p in r["pictures"]] for r in (recorded, golden)]
    assert facts[0] == facts[1]


def test_mediapipe_says_the_same_again(recorded, golden):
    """To 1e-5 of the picture's side, a hundredth of a pixel in the largest: its kernels differ between processors."""
    for now, then in zip(recorded["pictures"], golden["pictures"], strict=True):
        assert len(now["faces"]) == len(then["faces"]), now["name"]
        for a, b in zip(now["faces"], then["faces"], strict=True):
            for name in ("score", "box", "keypoints"):
                np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=now["name"])
