"""A TensorRT variant from the build to its rebuilding on another GPU, with a recording double for what needs a GPU."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import tensorrt_double
from tensorrt_double import H200, L4

from tritonvision import gpus, plans
from tritonvision.errors import ExportFailed, InvalidParameter, SetupError
from tritonvision.exporters import pipeline, variants
from tritonvision.exporters.contract import Weights
from tritonvision.publication import Repository
from tritonvision.variants import PlanOptions

FACE, NAME = "mediapipe-face-detection", "tensorrt-fp32"
PLACE = f"net--{FACE}/1/{NAME}.plan"


@pytest.fixture
def calls():
    return []


@pytest.fixture
def on(monkeypatch, calls):
    """``on(gpu)``: this machine has that GPU, and TensorRT."""
    return partial(tensorrt_double.have, monkeypatch, calls=calls)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    pipeline.export(FACE, Weights(), root)
    return root


@pytest.fixture
def root(published, tmp_path):
    return Path(shutil.copytree(published, tmp_path / "models"))


def add(root):
    return variants.add(root, FACE, "tensorrt", "fp32", serve=True)


def test_a_variant_is_a_plan_its_key_and_a_config_that_triton_takes(root, on, calls):
    on(H200)
    (variant,) = add(root).variants
    assert set(variant.files) == {PLACE, PLACE.replace(".plan", ".json")}
    assert (variant.name, variant.machine, variant.shown) == (NAME, "NVIDIA H200", "agreement")
    graph = root / PLACE.replace(f"{NAME}.plan", "model.onnx")
    assert (root / PLACE).read_bytes() == graph.read_bytes(), "nothing is prepended to what TensorRT built"
    key = plans.read_key(root / PLACE)
    assert (key.gpu, key.compute_capability, key.tensorrt) == ("NVIDIA H200", "9.0", "10.13.0.35")
    assert json.loads(key.profile)["pixels"] == [[1, 128, 128, 3], [8, 128, 128, 3], [8, 128, 128, 3]]
    config = (root / f"net--{FACE}" / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"' in config and "KIND_GPU" in config and f'"{NAME}.plan"' in config
    assert ("create_network", 2) in calls and ("clear_flag", "TF32") in calls
    assert (root / ".tensorrt" / "NVIDIA-H200-10.13.0.35.timing").read_bytes() == b"measured"


def test_a_plan_of_another_gpu_is_built_again_for_this_one_from_what_is_published(root, on):
    on(H200)
    before = add(root)
    assert plans.missing(root, before, NAME, H200, "10.13.0.35") == ""
    why = "The plan was built for another GPU and another compute capability."
    assert plans.missing(root, before, NAME, L4, "10.13.0.35") == why
    on(L4)
    told = []
    after = variants.build_plans(root, FACE, NAME, lambda phase, done: told.append(phase) or True)
    assert plans.missing(root, after, NAME, L4, "10.13.0.35") == ""
    assert after.serving == NAME and after.variants[0].machine == "NVIDIA L4"
    assert after.variants[0].files != before.variants[0].files
    assert after.variants[0].figures == before.variants[0].figures


def test_a_truncated_plan_and_another_tensorrt_are_noticed_and_mended(root, on):
    on(H200)
    manifest = add(root)
    assert "another TensorRT" in plans.missing(root, manifest, NAME, H200, "11.4.0.106")
    (root / PLACE).write_bytes((root / PLACE).read_bytes()[:100])
    assert plans.missing(root, manifest, NAME, H200, "10.13.0.35") == "The plan's file is not whole."
    manifest = variants.build_plans(root, FACE, NAME)
    assert plans.missing(root, manifest, NAME, H200, "10.13.0.35") == ""


def test_a_build_that_fails_leaves_the_variant_and_the_repository_as_they_are(root, on, contents):
    on(H200)
    add(root)
    before = contents(root)
    on(L4, broken=True)
    with pytest.raises(ExportFailed, match="could not build the plan"):
        variants.build_plans(root, FACE, NAME)
    assert contents(root) == before


def test_plans_that_are_dropped_are_missing_and_can_be_built_again(root, on):
    on(H200)
    add(root)
    manifest = variants.drop_plans(root, FACE, NAME)
    assert not (root / PLACE).exists() and manifest.variants[0].files == {}
    assert plans.missing(root, manifest, NAME, H200, "10.13.0.35") == "No plan has been built yet."
    assert variants.build_plans(root, FACE, NAME).variants[0].files.keys() == {PLACE, PLACE.replace(".plan", ".json")}


def test_a_plan_for_more_gpus_and_another_batch_is_built_so_and_built_again_so(root, on, calls):
    on(H200)
    asked = PlanOptions(optimal_batch=2, hardware="same-capability", version_compatible=True, workspace=256)
    manifest = variants.add(root, FACE, "tensorrt", "fp32", plan=asked)
    manifest = variants.build_plans(root, FACE, NAME)
    assert manifest == Repository(root).get(FACE) and manifest.variants[0].plan == asked
    key = plans.read_key(root / PLACE)
    assert (key.hardware, key.version_compatible) == ("same-capability", True)
    assert json.loads(key.profile)["pixels"][1] == [2, 128, 128, 3]
    assert calls.count(("set_flag", "VERSION_COMPATIBLE")) == 2
    assert calls.count(("set_memory_pool_limit", "WORKSPACE", 256 << 20)) == 2
    other = gpus.Gpu("NVIDIA H100", "9.0", "", "13.0")
    assert plans.missing(root, manifest, NAME, other, "10.14.0.1") == ""


@pytest.mark.parametrize(("engine", "asked", "said"), [
    ("openvino", PlanOptions(2), "are for TensorRT"), ("tensorrt", PlanOptions(9), "cannot be tuned for 9"),
    ("tensorrt", PlanOptions(hardware="turing"), "No GPUs are called 'turing'"),
])  # fmt: skip
def test_options_of_plans_that_do_not_fit_are_refused_before_anything_is_built(root, engine, asked, said):
    with pytest.raises(InvalidParameter, match=said):
        variants.add(root, FACE, engine, "fp32", max_batch=8, plan=asked)


def test_without_a_gpu_nothing_is_built_and_the_sentence_says_so(root, on):
    with pytest.raises(SetupError, match="The package 'tensorrt' is not installed"):
        add(root)
    on(H200)
    add(root)
    on(None)
    with pytest.raises(SetupError, match="No NVIDIA GPU is to be seen"):
        variants.build_plans(root, FACE, NAME)
    with pytest.raises(InvalidParameter, match="'onnxruntime-fp32' has no plans"):
        variants.build_plans(root, FACE, "onnxruntime-fp32")
    assert Repository(root).get(FACE).serving == NAME
