"""MediaPipe Face against what mediapipe itself said about twelve pictures."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families.mediapipe_face import GOLDEN, _append_decoding, anchors
from tritonvision.exporters.graphs import tflite_converter
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.images import resize

_FOLDER = resources.files("tritonvision.exporters.families.mediapipe_face")
RECORDED = json.loads(_FOLDER.joinpath(GOLDEN).read_text())["pictures"]


@pytest.mark.parametrize("number", range(len(RECORDED)), ids=[row["name"] for row in RECORDED])
def test_the_whole_pipeline_answers_as_mediapipe_does(network, pipeline, number):
    picture, parameters, wanted = network.golden()[number]
    got = pipeline(picture, parameters)
    assert len(got["scores"]) == len(wanted["scores"])
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=5e-5)
    np.testing.assert_allclose(got["boxes"], wanted["boxes"], atol=0.1)
    np.testing.assert_allclose(got["keypoints"], wanted["keypoints"], atol=0.1)
    assert set(got["class_ids"]) <= {0}


def test_the_golden_pictures_hold_faces_and_pictures_without_any():
    counts = {row["name"]: len(row["faces"]) for row in RECORDED}
    assert len(counts) == 12
    assert sum(count == 0 for count in counts.values()) == 2
    assert counts["three-faces-749x300"] == 3


def test_the_photo_gives_the_figures_that_others_measured_too(pipeline):
    """Written down by another trial on another machine, in fractions of the picture."""
    answer = pipeline(sample_pictures.photo(), {"confidence": 0.5})
    assert answer["scores"][0] == pytest.approx(0.92174, abs=5e-6)
    np.testing.assert_allclose(answer["boxes"][0] / 512, [0.34681, 0.16186, 0.53303, 0.34808], atol=2e-5)
    xs, ys = [0.3935, 0.4802, 0.4305, 0.4293, 0.3480, 0.5316], [0.2049, 0.2131, 0.2486, 0.2903, 0.2260, 0.2419]
    np.testing.assert_allclose(answer["keypoints"][0].T / 512, [xs, ys], atol=6e-5)


def test_anchors_are_the_cells_of_two_grids():
    centres = anchors()
    assert centres.shape == (896, 2)
    np.testing.assert_array_equal(centres[:4], [[4, 4], [4, 4], [12, 4], [12, 4]])
    np.testing.assert_array_equal(centres[512:519], [[8, 8]] * 6 + [[24, 8]])
    np.testing.assert_array_equal(centres[-1], [120, 120])


def test_the_graph_equals_the_reference_within_float32(network, pipeline):
    pixels = np.stack([pipeline.resize(sample_pictures.photo())[0], sample_pictures.noise(128, 128)])
    graph, exact = pipeline.tensors({"pixels": pixels}), network.tensors({"pixels": pixels}, double=True)
    np.testing.assert_allclose(graph["boxes"], exact["boxes"], atol=1e-3)
    np.testing.assert_allclose(graph["keypoints"], exact["keypoints"], atol=1e-3)
    np.testing.assert_allclose(graph["scores"], exact["scores"], atol=1e-5)
    assert graph["class_ids"].dtype == np.int32 and not graph["class_ids"].any()


def test_a_candidate_of_negative_size_is_none():
    """mediapipe skips them, however sure the network is; a size of exactly zero stays."""
    builder = tflite_converter.Builder()
    _append_decoding(builder, "regressors", "classificators")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 896, depth])
        for name, depth in (("regressors", 16), ("classificators", 1))
    ]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 896])
    session = onnxruntime.InferenceSession(builder.model("decoding", inputs, [scores]).SerializeToString())
    regressors, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), 1e6, np.float32)
    regressors[0, 1, 2] = -1  # width
    regressors[0, 2, 3] = -1  # height
    (found,) = session.run(["scores"], {"regressors": regressors, "classificators": logits})
    assert np.flatnonzero(found[0] == 0).tolist() == [1, 2]
    assert set(found[0, 3:]) == {1.0}


def test_there_is_no_random_variant(family, entry):
    with pytest.raises(ExportFailed, match="no random variant"):
        family.build(entry, Weights("random"))


def test_other_labels_are_refused(family, entry):
    with pytest.raises(ExportFailed, match="one class"):
        family.build(entry, Weights(labels=("cat",)))


def test_a_file_that_is_another_one_is_refused(family, entry, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"something else")
    with pytest.raises(ExportFailed, match="not the file"):
        family.build(entry, Weights("user", path))
    with pytest.raises(ExportFailed, match="no such weights"):
        family.build(entry, Weights("user", Path("/nowhere/model.tflite")))


@pytest.mark.parametrize("shape", [(100, 40_000, 3), (40_000, 100, 3), (1, 32_767, 3)])
def test_a_strip_longer_than_opencv_warps_is_sampled_too(shape):
    """OpenCV refuses sides of 32767 pixels and more."""
    pixels, geometry = resize.square(np.full(shape, 200, np.uint8), 128, 128)
    assert pixels.shape == (128, 128, 3) and pixels.any()
    assert (geometry.height, geometry.width) == shape[:2]


def test_both_ways_of_sampling_a_square_agree():
    picture = sample_pictures.views()["tall-300x512"]
    pixels, geometry = resize.square(picture, 128, 128)
    ys, xs = ((np.arange(128) - o) / g for o, g in (
        (geometry.offset_y, geometry.gain_y), (geometry.offset_x, geometry.gain_x)))  # fmt: skip
    assert np.abs(resize._bilinear(picture, ys, xs).astype(int) - pixels).max() <= 1
