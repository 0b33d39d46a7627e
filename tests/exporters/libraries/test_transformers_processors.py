"""The settings of the image processor in a user's folder are served, or the export is refused and names the key."""

import torch  # isort: skip

import copy
import json

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.families import depth_anything_v2, detr
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.libraries import transformers_processors as processors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.tasks import resolve

DETR, DEPTH = catalog.find("facebook/detr-resnet-50"), catalog.find("depth-anything-v2-small")


@pytest.fixture(scope="module", autouse=True)
def libraries():
    torch_env.import_torchvision()


@pytest.fixture
def ours():
    return detr._processor()


def written(folder, **config):
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return Weights("user", path=folder)


@pytest.mark.parametrize(
    "config",
    [
        {"feature_extractor_type": "DetrFeatureExtractor", "do_resize": True, "size": 800, "max_size": 1333,
         "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"image_processor_type": "DetrImageProcessorFast", "size": {"shortest_edge": 800, "longest_edge": 1333}},
        {},
    ],
    ids=["as released", "as saved today", "empty"],
)  # fmt: skip
def test_an_equivalent_processor_is_accepted(tmp_path, ours, config):
    found = processors.beside(written(tmp_path, **config), ours)
    assert processors.sides(found, ("shortest_edge", "longest_edge")) == (800, 1333)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"image_mean": [0.5] * 3}, r"has image_mean \(0.5, 0.5, 0.5\), and here it is \(0.485, 0.456, 0.406\)"),
        ({"resample": 3}, "has resample 3, and here it is 2"),
        ({"do_normalize": False}, "has do_normalize False, and here it is True"),
        ({"rescale_factor": 1 / 127.5}, "has rescale_factor"),
        ({"do_center_crop": True, "crop_size": {"height": 9, "width": 9}}, "has do_center_crop True"),
    ],
)
def test_an_unsupported_key_is_refused_with_both_values(tmp_path, ours, config, sentence):
    with pytest.raises(ExportFailed, match=sentence):
        processors.beside(written(tmp_path, **config), ours)


@pytest.mark.parametrize("text", ["[", "[]", "7"])
def test_an_unreadable_processor_is_refused(tmp_path, ours, text):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ExportFailed, match="The image processor beside the weights cannot be read"):
        processors.beside(Weights("user", path=tmp_path), ours)


def test_a_size_with_other_keys_is_refused(tmp_path, ours):
    found = processors.beside(written(tmp_path, size={"height": 480, "width": 480}), ours, ("size",))
    with pytest.raises(ExportFailed, match="size .*, which cannot be done here"):
        processors.sides(found, ("shortest_edge", "longest_edge"))


def test_a_detr_is_served_with_its_own_mean_and_size(tmp_path):
    from transformers import DetrConfig, DetrForObjectDetection

    config = DetrConfig(
        id2label={0: "helmet", 1: "vest"}, label2id={"helmet": 0, "vest": 1}, encoder_layers=1, decoder_layers=1
    )
    module = transformers_weights.random(DetrForObjectDetection, config, seed=4)
    module.save_pretrained(tmp_path)
    own = {"size": {"shortest_edge": 200, "longest_edge": 300}, "image_mean": [0.5] * 3, "image_std": [0.4] * 3}
    network = detr.FAMILY.build(DETR, written(tmp_path, **own))
    (point,) = entry_points_of(detr.FAMILY, DETR, network)
    assert (point.pre.height, point.pre.width) == (200, 300) and "200, at most 300" in network.notes[-1]
    rgb = sample_pictures.photo()
    inputs, _ = point.pre.inputs(rgb)
    found = network.tensors({name: value[None] for name, value in inputs.items()})
    values = (inputs["pixels"] / 255 - 0.5) / 0.4
    with torch.inference_mode():
        want = module(torch.from_numpy(values.transpose(2, 0, 1)[None]).float())
    best = want.logits.softmax(2)[0, :, :2].max(1).values.sort(descending=True).values
    np.testing.assert_allclose(found["scores"][0], best.numpy(), atol=1e-4)
    graph = detr._graph(network._model, network._columns, network._scale)
    with torch.inference_mode():
        _, scores, _ = graph(*(torch.from_numpy(value[None]) for value in inputs.values()))
    np.testing.assert_allclose(scores[0].numpy(), best.numpy(), atol=1e-4)


def test_metric_depth_is_published_as_depth_and_its_own_processor_is_served(tmp_path):
    from transformers import DepthAnythingForDepthEstimation

    module = transformers_weights.random(
        DepthAnythingForDepthEstimation, depth_anything_v2._config(DEPTH), seed=1
    )  # fmt: skip
    metric = copy.deepcopy(module.config)
    metric.depth_estimation_type, metric.max_depth = "metric", 20
    network = DepthAnythingForDepthEstimation(metric).eval()
    network.load_state_dict(module.state_dict())
    network.save_pretrained(tmp_path)
    relative = depth_anything_v2.PROCESSOR | {"size": {"height": 140, "width": 140}, "image_mean": [0.5] * 3}
    built = depth_anything_v2.FAMILY.build(DEPTH, written(tmp_path, **relative))
    assert built.map_meaning == "depth" and "metres up to 20, larger is farther" in built.notes[-1]
    (point,) = entry_points_of(depth_anything_v2.FAMILY, DEPTH, built)
    assert (point.pre.height, point.pre.width) == (140, 140)
    built.export(tmp_path / "model.onnx")
    rgb = sample_pictures.photo()
    pipeline = LocalPipeline(tmp_path / "model.onnx", point.pre, point.head)
    want = built.predict(rgb, resolve(pipeline.head.task.parameters, {}))["map"]
    got = pipeline(rgb)
    low, high = got["range"]
    np.testing.assert_allclose(got["map"] * ((high - low) / 65535) + low, want, atol=20e-3)
    assert want.min() >= 0 and want.max() <= 20
