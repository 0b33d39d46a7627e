"""YOLO-NAS: what super-gradients 3.7.1 answered, the graph against the network, weights of one's own.

``tests/support/record_yolo_nas.py`` recorded super-gradients' answers; it cannot be installed beside the exporter.
"""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import contextlib
import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from class_heads import exchange_often
from numbered_weights import numbered

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolo_nas
from tritonvision.exporters.families.yolo_nas import network as networks
from tritonvision.exporters.graphs.check import check
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.gate import Gate
from tritonvision.tasks import resolve

RECORDED = json.loads((Path(__file__).parent / "yolo_nas.recorded.json").read_text())
FAMILY, HEAD = yolo_nas.FAMILY, yolo_nas.FAMILY.head
IDS = [entry.id for entry in catalog.entries().values() if entry.family == FAMILY.name]
SIZE = (96, 128)
ENTRY = dataclasses.replace(catalog.find("yolonass-640"), input_size=SIZE)

pytestmark = pytest.mark.usefixtures("few_threads")


def of_super_gradients(letter, size):
    """The network with numbered weights, for pictures of ``size``."""
    module = networks.build(networks.ARCHITECTURES[letter], 80)
    state = numbered(module.state_dict(), RECORDED["networks"][letter]["gain"])
    module.load_state_dict(state, strict=False)
    return yolo_nas.YoloNasNetwork(module, tuple(size), labels=tuple(map(str, range(80)))), state


@pytest.mark.parametrize("letter", "sml")
def test_the_network_is_super_gradients(letter):
    network, state = of_super_gradients(letter, (64, 64))
    wanted = RECORDED["networks"][letter]
    assert len(state) == wanted["tensors"] and sum(v.numel() for v in state.values()) == wanted["parameters"]
    boxes, logits = (part[0] for part in network._decoded(sample_pictures.noise(64, 64)[None]))
    boxes, scores = boxes.numpy(), logits.sigmoid().numpy()
    np.testing.assert_allclose(boxes[::4], wanted["boxes"], atol=5e-3)
    np.testing.assert_allclose(scores[::4].max(1), wanted["scores"], atol=1e-4)
    assert scores[::4].argmax(1).tolist() == wanted["class_ids"]
    assert np.ptp(wanted["scores"]) > 0.01  # or the comparison would prove little


@pytest.mark.parametrize("name", RECORDED["answers"])
def test_the_reference_pipeline_is_super_gradients_predict(name):
    network, _ = of_super_gradients("s", RECORDED["size"])
    asked, wanted = RECORDED["asked"], RECORDED["answers"][name]
    given = {"confidence": asked["conf"], "iou_threshold": asked["iou"], "max_candidates": asked["nms_top_k"],
             "max_detections": asked["max_predictions"]}  # fmt: skip
    picture = sample_pictures.views()[name]
    got = network.predict(picture, resolve(HEAD.task.parameters, given))
    want = {key: np.array(value, np.int32 if key == "class_ids" else np.float32) for key, value in wanted.items()}
    want["boxes"] = want["boxes"].clip(0, [*picture.shape[1::-1]] * 2)  # super-gradients does not clip
    missing, differences = compare.detections(got, want, asked["conf"], 1e-4, asked["max_predictions"])
    assert missing == 0 and len(want["scores"]) >= 10
    assert differences["pixels"] <= 0.02 and differences["scores"] <= 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A calibrated random network at a small input: network, pipeline and graph."""
    network = FAMILY.build(ENTRY, Weights("random", seed=7))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return SimpleNamespace(network=network, path=path, pipeline=LocalPipeline(path, FAMILY.resize(ENTRY), HEAD))


@pytest.mark.parametrize("batch", [1, 2])
def test_the_fused_graph_computes_what_the_branches_compute(model, batch):
    photo, _ = model.pipeline.resize(sample_pictures.photo())
    pixels = {"pixels": np.stack([photo, sample_pictures.noise(*SIZE)])[:batch]}
    got, want = model.pipeline.tensors(pixels), model.network.tensors(pixels)
    exact = model.network.tensors(pixels, double=True)
    scale = FAMILY.tolerance.tensors
    found, own = (compare.tensor_differences(HEAD.name, side, exact, scale) for side in (got, want))
    assert all(found[name] <= max(3 * own[name], scale[name]) for name in found), (found, own)
    check(model.path, model.pipeline.net)


@pytest.mark.parametrize("fault", [False, True])
def test_classes_are_compared_also_where_float32_gives_all_of_them_the_score_1(model, tmp_path, fault):
    module = copy.deepcopy(model.network.reference())
    heads = [getattr(module.heads, f"head{level}").cls_pred for level in (1, 2, 3)]
    with torch.no_grad():
        for head in heads:
            head.bias += 60  # from 37 on float64 gives 1, too
    network = yolo_nas.YoloNasNetwork(copy.deepcopy(module), SIZE, labels=model.network.labels)
    pixels = {"pixels": sample_pictures.noise(*SIZE)[None]}
    found = network.tensors(pixels)
    assert found["scores"].min() == 1 and len(set(found["class_ids"].ravel())) > 5
    if fault:
        exchange_often(heads, found["class_ids"])
    yolo_nas.YoloNasNetwork(module, SIZE, labels=model.network.labels).export(tmp_path / "model.onnx")
    gate = Gate(FAMILY, ENTRY, network, {"": tmp_path / "model.onnx"}, "random")
    with pytest.raises(ExportFailed, match="'class_ids' of the graph differs") if fault else contextlib.nullcontext():
        gate._differences(HEAD.name, gate.opened[""], "", pixels, "noise")


def test_every_block_of_branches_is_one_convolution_in_the_graph(model):
    operators = [node.op_type for node in onnx.load(model.path).graph.node]
    assert "BatchNormalization" not in operators
    blocks = sum(hasattr(module, "fused") for module in model.network.reference().modules())
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in model.network.reference().modules())
    assert operators.count("Conv") == layers - blocks and blocks == 37


@pytest.mark.parametrize("given", [{}, {"confidence": 0.1, "iou_threshold": 0.6, "class_agnostic_nms": True}])
def test_the_pipeline_finds_what_the_reference_pipeline_finds(model, given):
    settings, count = resolve(HEAD.task.parameters, given), 0
    for picture in sample_pictures.views().values():
        got, want = model.pipeline(picture, given), model.network.predict(picture, settings)
        missing, differences = compare.detections(got, want, settings["confidence"], 5e-5, settings["max_detections"])
        assert missing == 0 and differences["pixels"] <= FAMILY.tolerance.answer("pixels")
        count += len(want["scores"])
    assert count >= 40


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"ema_net": s, "net": {}, "epoch": 3}])
def test_weights_of_ones_own_bring_their_class_count_and_names(tmp_path, wrapped):
    module = networks.build(networks.ARCHITECTURES["s"], 3)
    state = {f"module.{name}": value for name, value in numbered(module.state_dict(), 0.3).items()}
    state["module.backbone.stem.conv.rbr_reparam.bias"] = torch.zeros(48)
    found = wrapped(state)
    if "ema_net" in found:
        found["processing_params"] = {"class_names": ["disc", "box", "triangle"]}
    torch.save(found, tmp_path / "ckpt_best.pth")
    network = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "ckpt_best.pth"))
    named = "ema_net" in found
    assert network.labels == (("disc", "box", "triangle") if named else ("class 0", "class 1", "class 2"))
    assert any("do not name their classes" in note for note in network.notes) is not named
    found = network.tensors({"pixels": np.zeros((1, 64, 64, 3), np.uint8)})
    assert found["boxes"].shape == (1, 84, 4) and set(found["class_ids"].ravel()) <= {0, 1, 2}
    with pytest.raises(ExportFailed, match="The weights are not those of yolo_nas_m"):
        FAMILY.build(catalog.find("yolonasm-640"), Weights("user", path=tmp_path / "ckpt_best.pth"))


def test_the_released_weights_are_asked_of_the_user_and_their_licence_is_said():
    with pytest.raises(ExportFailed, match="yolo_nas_s_coco.pth are no longer where") as caught:
        FAMILY.build(catalog.find("yolonass-640"), Weights("official"))
    assert "--weights PATH" in caught.value.hint
    assert "no commercial use" in FAMILY.license_notice


@pytest.mark.parametrize("model_id", IDS)
def test_every_id_names_an_architecture_and_a_size(model_id):
    entry = catalog.find(model_id)
    assert FAMILY.architecture(entry) == f"yolo_nas_{model_id[7]}" and model_id[7] in networks.ARCHITECTURES
    assert f"{FAMILY.architecture(entry)}_coco.pth" in entry.weights_source
    resize = FAMILY.resize(entry)
    assert (resize.height, resize.rule) == (int(model_id.split("-")[1]), "letterbox")
