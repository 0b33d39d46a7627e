"""A published model is read back from its repository alone: entry points, files, and all of it opened in this process.

That the entry points equal those of the families is tested where the families are installed.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import Chain
from tritonvision.errors import BrokenModel
from tritonvision.exporters.parity import sample_pictures
from tritonvision.publication import Repository
from tritonvision.variants import Variant

OLD = Path(__file__).parents[1] / "data" / "published_0_1"


def test_the_configs_written_of_what_was_read_are_the_published_ones(served_repository):
    """Every word of the configs is read back, for every model of the tests."""
    seen = set()
    for manifest in Repository(served_repository):
        for point in published.entry_points_of(served_repository, manifest):
            seen.add(type(point).__name__)
            folder = served_repository / model_configs.entry_point_name(manifest.triton_name, point.role)
            assets = published.assets_of(served_repository, manifest, point)
            itself = None if point.role else manifest
            written = model_configs.public_config(manifest.triton_name, point, assets, itself)
            assert strip(written) == strip((folder / "config.pbtxt").read_text()), folder.name
            for step in model_configs.shared_steps(point):
                text = (served_repository / step.triton_name / "config.pbtxt").read_text()
                assert strip(model_configs.step_config(step)) == strip(text), step.triton_name
            for net in point.nets if not model_configs.embedded(point) else ():
                name = model_configs.net_name(manifest.triton_name, net.role)
                text = (served_repository / name / "config.pbtxt").read_text()
                assert strip(model_configs.net_config(manifest.triton_name, net)) == strip(text), name
    assert seen == {"Chain", "Composition", "Chat"}


def strip(config: str) -> str:
    """A config without what models published before lack: fields of the manifest's JSON, bounds of axes, queues."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    for name in {"manifest", "bounds"} & set(parsed.parameters):
        del parsed.parameters[name]
    parsed.ClearField("dynamic_batching")
    return text_format.MessageToString(parsed)


def test_a_model_of_0_1_is_read_and_answers_in_this_process():
    manifest = Repository(OLD).get("colours")
    pipeline = published.open_published(OLD, manifest)[""]
    red = np.zeros((90, 120, 3), np.uint8)
    red[..., 0] = 255
    assert manifest.labels[pipeline(red)["class_ids"][0]] == "red"


@pytest.mark.parametrize("model", ["yolov8n-640", "l2cs-gaze", "doctr-db_mobilenet_v3"])
def test_a_model_opened_in_this_process_answers_all_it_promises(served_repository, model):
    manifest = Repository(served_repository).get(model)
    (point,) = published.entry_points_of(served_repository, manifest)
    answer = published.open_published(served_repository, manifest)[""](sample_pictures.photo(), {})
    head = {tensor.name for tensor in (point.head.outputs if isinstance(point, Chain) else point.outputs)}
    assert head - {"image_size"} <= answer.keys()


def test_a_text_tower_is_opened_with_its_vocabulary(served_repository):
    manifest = Repository(served_repository).get("clip/RN50")
    opened = published.open_published(served_repository, manifest)
    assert opened.keys() == {"", "text"}
    cat, dog = (opened["text"](text)["embeddings"] for text in ("a cat", "a dog"))
    assert cat.shape == dog.shape and not np.array_equal(cat, dog)


@pytest.mark.parametrize("file", ["colours/config.pbtxt", "net--colours/config.pbtxt", "post--classes/config.pbtxt"])
@pytest.mark.parametrize("damage", ["gone", "no config", "another config"])
def test_a_damaged_config_is_one_sentence(tmp_path, file, damage):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    if damage == "gone":
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text("}{" if damage == "no config" else 'name: "x"')
    with pytest.raises(BrokenModel, match="not those that were published"):
        published.entry_points_of(tmp_path, Repository(tmp_path).get("colours"))


@pytest.mark.parametrize("damage", ["gone", "no graph"])
@pytest.mark.parametrize("embedded", [False, True])
def test_a_damaged_graph_is_one_sentence(tmp_path, served_repository, embedded, damage):
    name = "tests__small-line__1" if embedded else "colours"
    source = served_repository / name if embedded else OLD
    shutil.copytree(source, tmp_path / name if embedded else tmp_path, dirs_exist_ok=True)
    for graph in tmp_path.glob("*/1/*.onnx"):
        graph.unlink()
        if damage == "no graph":
            graph.write_bytes(b"no graph")
    (manifest,) = Repository(tmp_path)
    with pytest.raises(BrokenModel) as caught:
        published.open_published(tmp_path, manifest)
    assert "--force" in caught.value.hint


def test_a_variant_runs_the_networks_that_are_plainly_called(served_repository):
    """A decoder with its cache in onnxruntime stays there, and so does a table of embeddings."""
    repository = Repository(served_repository)
    points = {m.id: published.entry_points_of(served_repository, m)[0] for m in repository}
    assert published.replaceable(points["tests/small-vlm/1"]) == ("vision",)
    assert published.replaceable(points["tests/small-line/1"]) == ("encoder",)
    assert published.replaceable(points["sam-vit_b"]) == ("encoder", "decoder")
    int8 = Variant("openvino", "int8", ("vision",))
    vlm = published.as_variant(points["tests/small-vlm/1"], int8)
    assert [(net.engine, net.file) for net in vlm.nets] == [
        ("openvino", "vision.openvino-int8.xml"), ("onnxruntime", "model.onnx"), ("onnxruntime", "model.onnx")
    ]  # fmt: skip
    bf16 = Variant("openvino", "bf16", ("",))
    (net,) = published.as_variant(points["resnet18"], bf16).nets
    assert (net.engine, net.precision, net.file) == ("openvino", "bf16", "model.onnx")


def test_a_variant_answers_as_the_graphs_do_within_its_precision(served_repository):
    pytest.importorskip("openvino")
    manifest = Repository(served_repository).get("resnet18")
    variant = Variant("openvino", "fp32", ("",))
    base, other = (published.open_published(served_repository, manifest, v)[""] for v in (None, variant))
    photo = sample_pictures.photo()
    assert np.abs(base(photo)["scores"] - other(photo)["scores"]).max() < 1e-5
