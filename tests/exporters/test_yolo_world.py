"""YOLO-World: the graphs compute the outputs of ultralytics' detector and open_clip's tower for any number of classes.

The detector is ultralytics' smallest, whose parts are those of the released ones; pictures are small.
"""

import torch  # isort: skip

import copy

import numpy as np
import pytest
from attention import check_attention, examples_of
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.families import yolo_world
from tritonvision.exporters.families.yolo_world import FAMILY, text_tower
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import MANY, SEVERAL
from tritonvision.tasks import OPEN_VOCABULARY, resolve

ENTRY = catalog.find("yolo-world-s")
SMALLEST, SIDE = "yolov8n-worldv2", 160

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tower, "LAYERS", 2)
        patch.setattr(FAMILY, "architecture", lambda entry: SMALLEST)
        yield


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """A reference network and the composition over its graphs."""
    network = FAMILY.build(ENTRY, Weights("random", seed=1, size=(SIDE, SIDE)))
    (point,) = entry_points_of(FAMILY, ENTRY, network)
    folder = tmp_path_factory.mktemp("graphs")
    graphs = {net.role: folder / f"{net.role}.onnx" for net in point.nets}
    for net in point.nets:
        network.export(graphs[net.role], net.role)
        check.check(graphs[net.role], net)
    return network, LocalComposition(graphs, point, assets=network.assets(""))


@pytest.mark.parametrize("texts", [SEVERAL[:1], SEVERAL, MANY])
def test_the_detectors_graph_takes_any_number_of_classes(model, texts):
    network, local = model
    pixels = network.examples("image")["the photo and noise"]["pixels"]
    inputs = {"pixels": pixels, "queries": np.stack([network._asked(texts).numpy()] * 2)}
    got, want = local.nets["image"].tensors(inputs), network.tensors(inputs, role="image")
    found = compare.tensor_differences("text-guided-boxes", got, want, FAMILY.tolerance.tensors)
    assert all(difference <= FAMILY.tolerance.tensor(name) for name, difference in found.items()), found
    assert want["scores"].std() > 1e-4 and len(set(want["class_ids"].ravel().tolist())) >= min(len(texts), 3)


def test_other_classes_change_what_is_found(model):
    network, local = model
    inputs = network.examples("image")["the photo"]
    other = inputs | {"queries": network._asked(MANY[: len(SEVERAL)]).numpy()[None]}
    some, others = (local.nets["image"].tensors(one) for one in (inputs, other))
    assert np.abs(some["scores"] - others["scores"]).max() > 0.05


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, _ = model
    check_attention(network, FAMILY.tolerance, examples_of(network, "text"), network._towers[False])


def test_the_towers_graph_gives_embeddings_of_length_one_that_differ(model):
    network, local = model
    for inputs in network.examples("text").values():
        got, want = (side["query_embeds"] for side in (local.nets["text"].tensors(inputs), network.tensors(
            inputs, role="text"
        )))  # fmt: skip
        assert np.abs(got - want).max() <= 2e-5 and np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5
    assert (got @ got.T - np.eye(len(got))).max() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("view", "given"), [
    ("photo", {"texts": [*SEVERAL]}),
    ("photo", {"texts": [*SEVERAL], "iou_threshold": 0.3, "confidence": 0.05, "class_agnostic_nms": True}),
    ("wide-512x260", {"texts": [*MANY], "confidence": 0.1, "max_detections": 40}),
    ("odd-220x316", {"texts": ["face"], "confidence": 0.02}),
])  # fmt: skip
def test_the_composition_finds_what_ultralytics_predict_finds(model, view, given):
    network, local = model
    picture, settings = sample_pictures.views()[view], resolve(OPEN_VOCABULARY.parameters, given)
    got, want = local(picture, given), network.predict(picture, settings)
    assert len(want["scores"]) >= 3
    most = settings["max_detections"]
    missing, figures = compare.detections(got, want, settings["confidence"], 1e-5, most)
    assert missing == 0 and figures["pixels"] <= 0.01 and figures["scores"] <= 1e-5


def test_random_weights_find_some_things_of_several_classes_on_the_photo(model):
    found = model[1](sample_pictures.photo(), {"texts": [*SEVERAL]})
    assert 10 <= len(found["scores"]) <= 60 and len(set(found["class_ids"].tolist())) > 1


@pytest.fixture
def saved(model, tmp_path):
    """A folder as a user has it: the detector as ultralytics saves it, and CLIP's file with a picture tower beside."""
    detector = copy.deepcopy(model[0]._yolo.model).float()
    detector.names, detector.txt_feats = {0: "x"}, torch.zeros(1, 80, 512)
    torch.save({"model": detector, "ema": None, "train_args": {"task": "detect", "imgsz": 640}}, tmp_path / "w.pt")
    tower = model[0]._towers[False].state_dict()
    save_file({**tower, "visual.conv1.weight": torch.zeros(3), "logit_scale": torch.zeros(1)},
              tmp_path / text_tower.BESIDE)  # fmt: skip
    return tmp_path / "w.pt"


def test_a_checkpoint_and_the_tower_beside_it_are_the_network(model, saved):
    read = FAMILY.build(ENTRY, Weights("user", path=saved, size=(SIDE, SIDE)))
    inputs = model[0].examples("image")["the photo"]
    got, want = read.tensors(inputs, role="image"), model[0].tensors(inputs, role="image")
    np.testing.assert_allclose(got["scores"], want["scores"], atol=1e-5)
    texts = model[0].examples("text")["texts"]
    np.testing.assert_array_equal(
        read.tensors(texts, role="text")["query_embeds"], model[0].tensors(texts, role="text")["query_embeds"]
    )
    assert read.source == "w.pt" and len(read.sha256) == 64 and read.labels == ()


def test_what_is_no_such_checkpoint_is_refused(saved, tmp_path):
    load.prepare()
    weights = Weights("user", path=saved)
    tower = saved.with_name(text_tower.BESIDE)
    save_file({"visual.conv1.weight": torch.zeros(3)}, tower)
    with pytest.raises(ExportFailed, match="has no text tower"):
        FAMILY.build(ENTRY, weights)
    save_file(text_tower.module().state_dict(), tower)
    for stem, sentence in (("yolov8n", "ends in Detect"), ("yolov8n-world", "those of the first YOLO-World")):
        torch.save({"model": load.architecture(stem, 80, 0).model}, saved)
        with pytest.raises(ExportFailed, match=sentence):
            FAMILY.build(ENTRY, weights)
    saved.write_bytes(b"no checkpoint")
    with pytest.raises(ExportFailed, match="not a checkpoint that ultralytics reads"):
        FAMILY.build(ENTRY, weights)


def test_labels_and_odd_sizes_are_refused():
    with pytest.raises(ExportFailed, match="takes its classes from each request"):
        FAMILY.build(ENTRY, Weights("random", labels=("cat",)))
    with pytest.raises(InvalidParameter, match="Both sides are multiples|cannot take 100 x 640"):
        FAMILY.build(ENTRY, Weights("random", size=(100, 640)))


def test_every_id_has_the_detector_of_its_size():
    load.prepare()
    from ultralytics.nn.tasks import WorldModel

    for size in "smlx":
        entry = catalog.find(f"yolo-world-{size}")
        stem = type(FAMILY).architecture(FAMILY, entry)
        assert stem == f"yolov8{size}-worldv2"
        (point,) = FAMILY.entry_points(entry)
        assert point.size == (640, 640) and point == yolo_world.point(instances=point.nets[0].instances)
        model = WorldModel(f"{stem}.yaml", nc=80, verbose=False)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(entry.params_m, abs=0.7)
