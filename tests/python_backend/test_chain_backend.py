"""A network's process that runs the steps around it: the same answers as the steps give one after the other."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonvision.python_backend import post, pre
from tritonvision.python_backend.chain_backend import TritonPythonModel

STEPS = {
    "pre--stretch": {"resize": json.dumps({"rule": "stretch", "height": 4, "width": 4})},
    "post--embeddings": {"head": "embeddings"},
}
IMAGE_TO_PIXELS = {
    "model": "pre--stretch", "inputs": {"image": "image", "parameters": "parameters"},
    "outputs": {"pixels": "pixels", "geometry": "geometry"},
}  # fmt: skip
NETWORK = {"model": "net--m", "inputs": {"pixels": "pixels"}, "outputs": {"embeddings": "net_embeddings"}}
TO_ANSWER = {
    "model": "post--embeddings",
    "inputs": {"embeddings": "net_embeddings", "geometry": "geometry", "parameters": "parameters"},
    "outputs": {"embeddings": "embeddings", "image_size": "image_size"},
}
CHAIN = {
    "engine": "onnxruntime", "inputs": ["pixels"], "outputs": ["embeddings"],
    "steps": {name: {"parameters": {key: {"string_value": text} for key, text in given.items()}}
              for name, given in STEPS.items()},
    "ensembles": {
        "m": {
            "outputs": {"m--embeddings": "embeddings", "m--image_size": "image_size"},
            "steps": [IMAGE_TO_PIXELS, NETWORK, TO_ANSWER],
        },
        "m--pixels": {
            "outputs": {"m--pixels--found": "found"},
            "steps": [IMAGE_TO_PIXELS, NETWORK | {"outputs": {"embeddings": "found"}}],
        },
    },
}  # fmt: skip


@pytest.fixture
def model(triton, tmp_path):
    root = tmp_path / "net--m"
    (root / "1").mkdir(parents=True)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 4, 4, 3])
    answer = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", 48])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["embeddings"]),
    ]
    graph = helper.make_graph(nodes, "flattens", [pixels], [answer])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), root / "1" / "model.onnx"
    )
    for name in STEPS:
        (tmp_path / name / "1").mkdir(parents=True)
        module = name.split("--")[0]
        (tmp_path / name / "1" / "model.py").write_text(
            f"from tritonvision.python_backend.{module} import TritonPythonModel\n"
        )
    made = TritonPythonModel()
    given = triton.args(
        root, {"intra_op_thread_count": "1", "chain": json.dumps(CHAIN)}, instance_group=[{"count": 1}],
        optimization={}, input=[{"name": name} for name in ("pixels", "image", "parameters")],
        output=[{"name": name} for name in ("embeddings", "m--embeddings", "m--image_size", "m--pixels--found")],
    )  # fmt: skip
    made.initialize(given | {"model_name": "net--m"})
    return made


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)
    return np.array([[cv2.imencode(".png", one)[1].tobytes()] for one in noise], dtype=object)


def ask(triton, model, wanted, **inputs):
    (response,) = model.execute([triton.Request(inputs, wanted)])
    return response


def one_by_one(triton, tmp_path, model, pictures, settings):
    """What the steps answer that have a process each."""
    steps = {"pre--stretch": pre.TritonPythonModel(), "post--embeddings": post.TritonPythonModel()}
    for name, step in steps.items():
        step.initialize(triton.args(tmp_path / name, STEPS[name]))
    first = steps["pre--stretch"].answer({"image": pictures, "parameters": settings}, ())
    network = model.steps["net--m"].answer({"pixels": first["pixels"]}, ())
    given = {**network, "geometry": first["geometry"], "parameters": settings}
    return steps["post--embeddings"].answer(given, ())


@pytest.mark.parametrize("settings", [b"{}", b'{"region": [3, 4, 4, 6]}'])
def test_an_ensemble_is_answered_as_by_its_steps(triton, tmp_path, model, pictures, settings):
    given = np.array([[settings]] * 2, dtype=object)
    wanted = one_by_one(triton, tmp_path, model, pictures, given)
    found = ask(triton, model, ["m--embeddings", "m--image_size"], image=pictures, parameters=given).tensors
    assert set(found) == {"m--embeddings", "m--image_size"}
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[f"m--{name}"], value)


def test_parameters_may_be_left_out(triton, tmp_path, model, pictures):
    empty = np.array([[b"{}"]] * 2, dtype=object)
    found = ask(triton, model, ["m--embeddings"], image=pictures).tensors["m--embeddings"]
    np.testing.assert_array_equal(found, one_by_one(triton, tmp_path, model, pictures, empty)["embeddings"])


def test_the_outputs_that_are_wanted_tell_which_ensemble_is_asked(triton, model, pictures):
    (name,) = ask(triton, model, ["m--pixels--found"], image=pictures).tensors
    assert name == "m--pixels--found", "'m' is the beginning of its name, and not what was asked"


def test_the_network_alone_can_be_asked_too(triton, model):
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    found = ask(triton, model, ["embeddings"], pixels=pixels).tensors
    assert list(found) == ["embeddings"] and found["embeddings"].tolist() == [list(range(48))]


def test_a_picture_that_cannot_be_read_is_refused_and_the_next_answered(triton, model, pictures):
    broken = np.array([[b"no picture"]], dtype=object)
    assert "picture" in ask(triton, model, ["m--embeddings"], image=broken).error().message()
    assert ask(triton, model, ["m--embeddings"], image=pictures).tensors


def test_each_step_is_told_of(triton, model, pictures, monkeypatch):
    told = []
    monkeypatch.setattr(model.teller, "tell", lambda request, name, began, ended: told.append((name, began, ended)))
    ask(triton, model, ["m--embeddings"], image=pictures)
    assert [name for name, _, _ in told] == ["pre--stretch", "net--m", "post--embeddings"]
    times = [time for _, began, ended in told for time in (began, ended)]
    assert times == sorted(times)
