"""YOLACT: the authors' network and pipeline, the gate on a reduced network, and weights as the authors save them."""

import torch  # isort: skip

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yolact_weights as made
from pycocotools import mask as coco

from tritonvision import catalog
from tritonvision.ensembles.in_process import open_entry_point
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolact
from tritonvision.exporters.families.yolact import authors
from tritonvision.exporters.families.yolact.network import network, priors
from tritonvision.exporters.graphs import check
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.gate import Gate
from tritonvision.exporters.synthetic import seeds
from tritonvision.tasks import INSTANCE_SEGMENTATION, resolve

RECORDED = json.loads((Path(__file__).parent / "yolact.json").read_text())
ENTRY = replace(catalog.find("yolact-resnet50"), input_size=(made.SIDE, made.SIDE))
SIZE = ENTRY.fixed_size
TRUE = dict(yolact._BLOCKS)

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module", autouse=True)
def small():
    """A block or two of each stage; every other part is whole."""
    with pytest.MonkeyPatch.context() as patch:
        for model_id in yolact._BLOCKS:
            patch.setitem(yolact._BLOCKS, model_id, made.BLOCKS)
        yield


@pytest.fixture(scope="module")
def recorded_network():
    module = network(made.BLOCKS, 80)
    module.load_state_dict(made.drawn(module.state_dict()), strict=False)
    return module.eval()


def test_the_network_answers_what_the_authors_network_answers(recorded_network):
    with torch.inference_mode():
        found = recorded_network(authors.pixels(sample_pictures.photo()[:360], SIZE))
    said = found._asdict() | {"proto": found.proto.permute(0, 2, 3, 1), "priors": priors(*SIZE)}
    for name, want in RECORDED["raw"].items():
        scale = max(map(abs, want))
        np.testing.assert_allclose(made.some(said[name].numpy()), want, atol=2e-5 * scale, err_msg=name)


def test_the_reference_pipeline_answers_what_the_authors_pipeline_answers(recorded_network):
    picture = sample_pictures.photo()[:360]
    settings = resolve(INSTANCE_SEGMENTATION.parameters, {
        "confidence": made.CONFIDENCE, "iou_threshold": made.OVERLAP, "max_detections": 100,
    })  # fmt: skip
    with torch.inference_mode():
        found = authors.answer(
            recorded_network(authors.pixels(picture, SIZE)), SIZE, picture.shape[:2], settings
        )  # fmt: skip
    want = RECORDED["found"]
    assert len(want["scores"]) >= 10 and found["class_ids"].tolist() == want["class_ids"]
    np.testing.assert_allclose(found["scores"], want["scores"], atol=1e-4)
    assert np.abs(np.floor(found["boxes"]) - want["boxes"]).max() <= 1  # on the border of a pixel either may be
    areas = coco.area([{"size": list(picture.shape[:2]), "counts": counts} for counts in found["masks"]])
    np.testing.assert_allclose(areas, want["areas"], rtol=0.01, atol=3)


@pytest.fixture(scope="module")
def built(small, tmp_path_factory):
    """A random network that finds some things, its graph and its pipeline, with fewer candidates than usual."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yolact.YOLACTNetwork, "candidates", 1600)
        made = seeds.with_signal(partial(yolact.FAMILY.build, ENTRY), Weights("random", seed=0), print)
        made.export(path)
        (point,) = yolact.FAMILY.entry_points(ENTRY)
        check.check(path, point.nets[0])
        yield made, open_entry_point({"": path}, point, {}), path


def test_the_graph_computes_what_the_network_computes(built):
    made, local, _ = built
    pixels = np.stack([local.inputs(sample_pictures.views()[name])[0]["pixels"] for name in ("photo", "odd-220x316")])
    got, want = local.tensors({"pixels": pixels}), made.tensors({"pixels": pixels})
    found = compare.tensor_differences("prototype-masks", got, want, yolact.FAMILY.tolerance.tensors)
    assert found["class_ids"] == 0 and found["prototypes"] <= 1e-3
    assert found["boxes"] <= 5e-3 and found["scores"] <= 5e-5 and found["coefficients"] <= 5e-4


@pytest.mark.parametrize(("view", "given"), [
    ("photo", {}), ("odd-220x316", {"confidence": 0.2, "iou_threshold": 0.6}),
    ("wide-512x260", {"confidence": 0.2, "class_agnostic_nms": True}),
])  # fmt: skip
def test_the_pipeline_finds_what_the_authors_pipeline_finds(built, view, given):
    made, local, _ = built
    picture = sample_pictures.views()[view]
    settings = resolve(INSTANCE_SEGMENTATION.parameters, given)
    got = local(picture, given)
    want = made.predict(picture, settings) | {"image_size": np.array(picture.shape[:2])}
    assert len(want["scores"]) >= 5
    missing, figures = compare.detections(got, want, settings["confidence"], 1e-5, settings["max_detections"])
    assert missing == 0 and figures["pixels"] <= 0.01 and figures["masks"] <= 0.01 and figures["scores"] <= 1e-4


@pytest.mark.slow  # every candidate is looked for among all others, under settings that leave hundreds of masks
def test_a_reduced_network_passes_the_gate(built):
    made, _, path = built
    figures = Gate(yolact.FAMILY, ENTRY, made, {"": path}, "random").check()
    assert figures["pipeline_answers"] > 100
    assert figures["pipeline_masks"] <= 0.01 and figures["pipeline_pixels"] <= 0.01


def test_the_authors_files_are_read_without_what_only_a_training_needs(recorded_network, tmp_path):
    state = recorded_network.state_dict()
    more = {
        "semantic_seg_conv.weight": torch.zeros(80, 256, 1, 1), "semantic_seg_conv.bias": torch.zeros(80),
        "backbone.layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1), "fpn.downsample_layers.2.bias": torch.zeros(256),
    }  # fmt: skip
    path = tmp_path / "yolact_resnet50_54_800000.pth"
    torch.save({**state, **more}, path)
    read = yolact.FAMILY.build(ENTRY, Weights("user", path=path))
    assert read.labels[0] == "person" and len(read.labels) == 80 and read.source == path.name
    assert all(torch.equal(ours, state[name]) for name, ours in read._model.state_dict().items())


def test_other_classes_need_their_names_and_other_networks_are_refused(tmp_path):
    state = network(made.BLOCKS, 2).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    weights = Weights("user", path=tmp_path / "mine.pth")
    with pytest.raises(ExportFailed, match="for 2 classes, whose names the file does not hold"):
        yolact.FAMILY.build(ENTRY, weights)
    with pytest.raises(ExportFailed, match="name 3 classes, and the head of the network has 2"):
        yolact.FAMILY.build(ENTRY, replace(weights, labels=("a", "b", "c")))
    assert yolact.FAMILY.build(ENTRY, replace(weights, labels=("a", "b"))).labels == ("a", "b")
    state["backbone.layers.0.0.conv2.conv_offset_mask.weight"] = torch.zeros(27, 64, 3, 3)
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(ExportFailed, match="conv_offset_mask") as caught:
        yolact.FAMILY.build(ENTRY, weights)
    assert "YOLACT++ is another network" in caught.value.hint


def test_official_weights_are_fetched_by_a_person():
    with pytest.raises(ExportFailed, match="yolact_base_54_800000.pth lie on a drive"):
        yolact.FAMILY.build(catalog.find("yolact-resnet101"), Weights())


@pytest.mark.parametrize(("model_id", "millions"), [("yolact-resnet50", 31.1), ("yolact-resnet101", 50.1)])
def test_every_id_has_the_network_of_its_name(model_id, millions):
    with torch.device("meta"):
        module = network(TRUE[model_id], 80)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert priors(550, 550).shape == (19248, 4)
