"""Plans are built by the code that users call, ahead of time for a GPU that is not here. Nothing runs them."""

from pathlib import Path

import pytest

from tritonvision import catalog
from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt.build import BuildOptions, build_plan
from tritonvision.exporters.tensorrt.profiles import Profile, profile

CACHE = Path(__file__).parents[2] / ".cache"
REPOSITORY, FURTHER = CACHE / "test_repository", CACHE / "tensorrt_graphs"
SM89 = "8.9"  # compute capability that is built for
FACES = REPOSITORY / "net--mediapipe-face-detection" / "1" / "model.onnx"
FACES_PROFILE = profile(Net("", (Tensor("pixels", "UINT8", (128, 128, 3)),), ()), max_batch=2)


def net(model_id, role=""):
    entry = catalog.find(model_id)
    points = registry.find(entry.family).entry_points(entry)
    return next(net for point in points for net in point.nets if net.role == role)


@pytest.mark.parametrize("model_id, precision", [
    ("yolov8n-640", "fp16"), ("yolov8n-640", "bf16"), ("resnet18", "int8"), ("resnet18", "fp8"),
])  # fmt: skip
def test_a_graph_that_carries_its_precision_is_built_and_the_plan_is_smaller_than_that_of_fp32(
    trt, model_id, precision
):
    graph = FURTHER / f"{catalog.triton_name(model_id)}--{precision}.onnx"
    plan = build_plan(graph, profile(net(model_id)), BuildOptions(capability=SM89), trt=trt)
    weights = (REPOSITORY / f"net--{catalog.triton_name(model_id)}" / "1" / "model.onnx").stat().st_size
    assert 0.2 * weights < len(plan) < weights


def test_progress_is_told_and_what_was_measured_is_kept(trt, tmp_path):
    told, cache = [], tmp_path / "cache" / "timing"
    plan = build_plan(
        FACES, FACES_PROFILE, BuildOptions(capability=SM89, timing_cache=cache),
        lambda phase, done: told.append((phase, done)) or True, trt,
    )  # fmt: skip
    assert len(plan) > 100_000 and cache.stat().st_size > 0
    parts = [done for _, done in told]
    assert len(parts) > 2 and parts == sorted(parts) and 0 < parts[-1] <= 1


def test_a_cache_that_is_none_does_not_stop_a_build_and_is_replaced(trt, tmp_path):
    (tmp_path / "timing").write_bytes(b"measured by nobody")
    build_plan(FACES, FACES_PROFILE, BuildOptions(capability=SM89, timing_cache=tmp_path / "timing"), trt=trt)
    assert (tmp_path / "timing").read_bytes() != b"measured by nobody"


def test_a_build_ends_when_nobody_wants_it_any_more(trt):
    with pytest.raises(ExportFailed, match="building of the plan was ended"):
        build_plan(FACES, FACES_PROFILE, BuildOptions(capability=SM89), lambda phase, done: False, trt)


def test_bounds_that_the_network_does_not_have_are_refused_with_a_sentence(trt):
    other = Profile({"pixels": ((1, 64, 64, 3), (1, 64, 64, 3), (1, 64, 64, 3))})
    with pytest.raises(ExportFailed, match="TensorRT"):
        build_plan(FACES, other, BuildOptions(capability=SM89), trt=trt)


def test_a_plan_for_all_gpus_of_a_kind_and_for_all_versions_is_another_plan(trt):
    narrow = build_plan(FACES, FACES_PROFILE, BuildOptions(capability=SM89), trt=trt)
    wide = BuildOptions(capability=SM89, workspace=1 << 28, tf32=True, level=1)
    assert build_plan(FACES, FACES_PROFILE, wide, trt=trt) != narrow
