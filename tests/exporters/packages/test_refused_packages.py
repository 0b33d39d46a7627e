"""Packages that are not published: the gate finds a difference, a file is invalid, or weights are elsewhere."""

import json

import onnx
import pytest
from packages import ID, Classifier, Queries, Yolo, describe, write

from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages import wrap as graphs
from tritonvision.exporters.packages.config import InferenceConfig

pytestmark = pytest.mark.usefixtures("few_threads")


def test_a_wrapped_graph_that_computes_something_else_is_not_published(folder, tmp_path, monkeypatch):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc")
    whole = graphs.wrap

    def wrong(graph, before, after, path):
        whole(graph, before.replace("255", "254"), after, path)

    monkeypatch.setattr(graphs, "wrap", wrong)
    with pytest.raises(ExportFailed, match="of the graph differs from the reference network"):
        import_package(folder, ID, tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


def test_another_resize_rule_than_the_described_one_is_not_published(folder, tmp_path, monkeypatch):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc", mode="letterbox")
    right = InferenceConfig.resize
    monkeypatch.setattr(InferenceConfig, "resize", lambda self, grey: right(self, grey).__class__("stretch", 64, 64))
    with pytest.raises(ExportFailed, match="differ|disagree"):
        import_package(folder, ID, tmp_path / "repository")


def test_a_graph_with_swapped_class_columns_is_not_published(folder, tmp_path, monkeypatch):
    """The graph and its numpy version both read the wrong columns; the reference pipeline reads them independently."""
    from tritonvision.exporters.packages import heads

    write(folder, Queries(3), ["dets", "labels"])
    describe(folder, "abc")
    config = json.loads((folder / "inference_config.json").read_text())
    config["class_names_operations"] = [{"type": "class_name_removal", "class_name": "a"}]
    (folder / "inference_config.json").write_text(json.dumps(config))
    right = heads.choose

    def mirrored(graph, layout, names, *rest):
        return right(graph, layout, names[::-1], *rest)

    monkeypatch.setattr(heads, "choose", mirrored)
    with pytest.raises(ExportFailed, match="differ|disagree"):
        import_package(folder, ID, tmp_path / "repository")


def change(**network):
    def apply(folder):
        describe(folder, "abc", **network)

    return apply


def before(**steps):
    def apply(folder):
        path = folder / "inference_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"image_pre_processing": steps}))

    return apply


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


WRONG = {
    "contrast": (before(contrast={"enabled": True, "type": "Adaptive Equalization"}), "asks for 'contrast' of"),
    "grayscale": (before(grayscale={"enabled": True}), "asks for 'grayscale' of image_pre_processing"),
    "static-crop": (before(**{"static-crop": {"enabled": True, "x_min": 1}}), "asks for 'static-crop' of"),
    "a mode of two lines": (change(mode="a\nb"), r"asks for resize mode 'a\\nb', which"),
    "mode": (change(mode="tiles"), "asks for resize mode 'tiles'"),
    "channels": (change(input_channels=1), "asks for 1 input channels"),
    "twice": (change(dataset_version_resize_dimensions={"height": 9, "width": 9}), "asks for resizing twice"),
    "no size": (change(training_input_size=None), "names no training_input_size"),
    "a huge size": (change(size=(64, 1 << 30)), "training_input_size.width': Input should be less than"),
    "no deviation": (change(normalization=[[0] * 3, [1, 0, 1]]), "standard deviation of 'normalization' is zero"),
    "nan": (text("inference_config.json", '{"network_input": {"scaling_factor": NaN}}'), "is not valid"),
    "another size": (change(size=(96, 64)), r"takes \[1, 3, 64, 64\], not \[N or 1, 3, 96, 64\]"),
    "another task": (change(task="classification"), "says 'classification', and the outputs .* 'object-detection'"),
    "an unknown task": (change(task="keypoint-detection"), "says 'keypoint-detection'"),
    "too many names": (lambda f: describe(f, "abcd"), "are of no kind that is known for 4 class names"),
    "an empty name": (text("class_names.txt", "a\n\nc\n"), "class_names.txt of the package has an empty line"),
    "no names": (lambda f: (f / "class_names.txt").unlink(), "The package has no class_names.txt"),
    "no description": (lambda f: (f / "inference_config.json").unlink(), "has no inference_config.json"),
    "no JSON": (text("inference_config.json", "{"), "inference_config.json of the package is not valid: Invalid JSON"),
    "deep JSON": (text("inference_config.json", "[" * 100_000), "inference_config.json of the package is"),
    "a list": (text("model_config.json", "[]"), "model_config.json of the package is not valid"),
    "no text": (lambda f: (f / "class_names.txt").write_bytes(b"\xff\xfe"), "cannot be read as UTF-8"),
    "no graph": (text("weights.onnx", "not a graph"), "weights.onnx is not a valid ONNX graph"),
    "an empty graph": (text("weights.onnx", ""), "weights.onnx"),
}


@pytest.mark.parametrize("spoil", WRONG)
def test_an_invalid_package_is_refused_in_one_sentence_and_not_published(folder, tmp_path, spoil):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc")
    apply, sentence = WRONG[spoil]
    apply(folder)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        import_package(folder, ID, tmp_path / "repository")
    assert caught.value.hint or "onnxruntime" in caught.value.message
    assert "\n" not in caught.value.message and str(tmp_path) not in caught.value.message
    assert not list((tmp_path / "repository").glob("*"))


@pytest.mark.attack("code in weights and packages")
@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "missing.bin"])
def test_weights_outside_the_package_are_not_read(folder, tmp_path, location):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd")
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(folder / "weights.onnx")
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (folder / "weights.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportFailed, match="names a file of weights that is not in the package"):
        import_package(folder, ID, tmp_path / "repository")


@pytest.mark.attack("code in weights and packages")
@pytest.mark.parametrize("name", ["class_names.txt", "inference_config.json", "weights.onnx"])
def test_a_link_that_leads_out_of_the_package_is_not_followed(folder, tmp_path, name):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd", post={"type": "softmax"})
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ExportFailed, match=f"{name} of the package is a link that leads out of its folder"):
        import_package(folder, ID, tmp_path / "repository")


def test_a_graph_with_unknown_operators_is_refused(folder, tmp_path):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd")
    model = onnx.load(folder / "weights.onnx")
    model.graph.node[0].domain = "evil.com"
    model.opset_import.add(domain="evil.com", version=1)
    onnx.save(model, folder / "weights.onnx")
    with pytest.raises(ExportFailed, match="weights.onnx"):
        import_package(folder, ID, tmp_path / "repository")
