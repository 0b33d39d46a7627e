"""The precision gate on a detector that was really trained, over labelled pictures: what passes, and what does not."""

from __future__ import annotations

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

from dataclasses import replace

import drawn_shapes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tritonvision import catalog
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.in_process import open_entry_point
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolov8
from tritonvision.exporters.pipeline import Quiet
from tritonvision.exporters.precision import bf16, calibration, gate, layers, quantize
from tritonvision.machine import why_not

PICTURES, CALIBRATING = 16, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes as the detector was trained on, four times as large, with their boxes in COCO's format."""
    return drawn_shapes.labelled(tmp_path_factory.mktemp("labelled"), PICTURES)


@pytest.fixture(scope="module")
def detector(trained_yolo, folder, tmp_path_factory):
    """The fp32 graph, what opens a graph as an entry point, and the gate over the labelled pictures."""
    entry = catalog.find("yolov8n-640")
    graph = tmp_path_factory.mktemp("graph") / "model.onnx"
    yolov8.FAMILY.build(entry, Weights("user", path=trained_yolo)).export(graph)
    point = Chain(yolov8.FAMILY.resize(entry), yolov8.FAMILY.head)

    def opened(path=graph, **how):
        return {"": open_entry_point({"": path}, replace(point, **how))}

    return graph, opened, gate.Gate(opened(), [point], folder, labels=drawn_shapes.SHAPES)


def test_int8_loses_at_most_half_a_point_of_map_with_the_layers_it_names_in_fp32(detector, draw_scene, tmp_path):
    graph, opened, tested = detector
    rng = np.random.default_rng(5)
    scenes = [draw_scene(rng, 640, 640, 12, 18, 60)[0] for _ in range(CALIBRATING)]
    inputs = calibration.inputs(tested.points, tested.base, scenes)
    found = layers.reduced(
        lambda role, target, kept: quantize.int8(graph, inputs[role], target, kept), [""], tmp_path,
        lambda files: tested.check(opened(files[""], engine="openvino", precision="int8")), Quiet(),
    )  # fmt: skip
    figures = found.result.figures
    print(f"\nint8: mAP {figures['map']:.2f}, fp32 {figures['map_fp32']:.2f}, in fp32 {found.kept_fp32}")
    assert found.result.shown == "labelled" and figures["map_fp32"] > 50
    assert figures["map"] >= figures["map_fp32"] - 0.5
    assert len(found.kept_fp32) <= 20


@pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason=why_not("openvino", "bf16"))
def test_bf16_loses_at_most_half_a_point_of_map(detector):
    _, opened, tested = detector
    figures = tested.check(opened(engine="openvino", precision="bf16")).figures
    print(f"\nbf16: mAP {figures['map']:.2f}, fp32 {figures['map_fp32']:.2f}")
    assert figures["map"] >= figures["map_fp32"] - 0.5


@pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason=why_not("openvino", "bf16"))
def test_a_graph_typed_in_bf16_loses_at_most_half_a_point_of_map(detector, tmp_path):
    graph, opened, tested = detector
    assert len(bf16.bf16(graph, tmp_path / "typed.xml")) > 100
    figures = tested.check(opened(tmp_path / "typed.xml", engine="openvino", precision="bf16")).figures
    print(f"\ntyped: mAP {figures['map']:.2f}, fp32 {figures['map_fp32']:.2f}")
    assert figures["map"] >= figures["map_fp32"] - 0.5


def test_a_head_of_four_bits_is_refused_with_figure_and_bar(detector, tmp_path):
    graph, opened, tested = detector
    model = onnx.load(graph)
    head = [value for value in model.graph.initializer if "box_branches" in value.name]
    coarse = [value for value in head if value.name.endswith("weight")]
    assert coarse
    for value in coarse:
        weights = numpy_helper.to_array(value)
        step = np.abs(weights).max() / 7
        value.CopyFrom(numpy_helper.from_array((np.round(weights / step) * step).astype(np.float32), value.name))
    onnx.save(model, tmp_path / "coarse.onnx")
    with pytest.raises(gate.Imprecise, match=r"The mAP is \d+\.\d\d %, that of fp32 \d+\.\d\d %: at most 0\.5 points"):
        tested.check(opened(tmp_path / "coarse.onnx"))
