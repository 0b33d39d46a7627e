"""bf16 with some layers in fp32: which they are stands in the file, and those that the gate blames are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision import machine
from tritonvision.errors import ExportFailed
from tritonvision.exporters import variants
from tritonvision.exporters.pipeline import Quiet
from tritonvision.exporters.precision import bf16
from tritonvision.python_backend.runtime.engines import open_network

openvino = pytest.importorskip("openvino")
PUBLISHED = Path(__file__).parents[2] / "data" / "published_0_1"
UNFIT = ("away", "middle", "back")
LAYERS = ("first", *UNFIT)
needs_bf16 = pytest.mark.skipif(
    bool(machine.why_not("openvino", "bf16")), reason=machine.why_not("openvino", "bf16") or "it is there"
)


def network(path, between, numbers=(), gain=40.0):
    """A classifier of colours: mean of the picture, two products with weights, and ``between`` them what is told."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2], keepdims=0, name="mean"),
        helper.make_node("Mul", ["m", "s"], ["n"], name="scale"),
        helper.make_node("MatMul", ["n", "w"], ["x"], name="first"),
        *between,
        helper.make_node("MatMul", ["y", "one"], ["logits"], name="last"),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
    ]
    values = {"s": np.float32(1 / 255), "w": gain * np.eye(3, dtype=np.float32), "one": np.eye(3, dtype=np.float32)}
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("logits", "scores")]
    graph = helper.make_graph(
        nodes, "colours", [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["b", 224, 224, 3])], floats,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**values, **dict(numbers)}.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def unfit(path):
    """A product in the middle reads 30000 more, which is taken off again: bf16 has one number in 128 there."""
    shift = [
        helper.make_node("Add", ["x", "far"], ["z"], name="away"),
        helper.make_node("MatMul", ["z", "one"], ["t"], name="middle"),
        helper.make_node("Sub", ["t", "far"], ["y"], name="back"),
    ]
    return network(path, shift, {"far": np.float32([30000, 30000, 30000])})


def chaotic(path):
    """The sine of millions: the last digit of fp32 decides."""
    return network(path, [helper.make_node("Sin", ["x"], ["y"], name="sine")], gain=1e9)


def types(file):
    """The type that each named operation answers in."""
    model = openvino.Core().read_model(file)
    return {op.get_friendly_name(): op.get_output_element_type(0).get_type_name() for op in model.get_ordered_ops()}


def test_each_operation_has_a_type_and_what_was_kept_has_fp32(tmp_path):
    graph = unfit(tmp_path / "model.onnx")
    names = bf16.bf16(graph, tmp_path / "a.xml")
    assert names == LAYERS
    found = types(tmp_path / "a.xml")
    assert {found[name] for name in names} == {"bf16"} and found["logits"] == "f32", "the last weights stay"
    assert found["mean"] == found["scale"] == "f32", "before the first weights"
    assert bf16.bf16(graph, tmp_path / "b.xml", UNFIT) == ("first",)
    found = types(tmp_path / "b.xml")
    assert [found[name] for name in LAYERS] == ["bf16"] + ["f32"] * 3


def test_activations_and_transposed_convolutions_compute_in_bf16_and_so_do_tables(tmp_path):
    names = ("table", "HardSwish", "HardSigmoid", "ConvTranspose")
    nodes = [
        helper.make_node("Gather", ["rows", "ids"], ["x"], name="table"),
        helper.make_node("HardSwish", ["x"], ["y"], name="HardSwish"),
        helper.make_node("HardSigmoid", ["y"], ["z"], name="HardSigmoid"),
        helper.make_node("ConvTranspose", ["z", "w"], ["t"], name="ConvTranspose"),
        helper.make_node("Conv", ["t", "w"], ["found"], name="last"),
    ]
    values = {"rows": np.ones((9, 4, 2, 2), np.float32), "w": np.ones((4, 4, 1, 1), np.float32)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["b", 4, 2, 2])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert set(names) <= set(bf16.bf16(tmp_path / "m.onnx", tmp_path / "m.xml"))
    found = types(tmp_path / "m.xml")
    assert {found[name] for name in names} == {"bf16"}


def test_of_transformers_all_but_products_may_stay_in_fp32(tmp_path):
    graph = unfit(tmp_path / "model.onnx")
    assert bf16.is_transformer(graph)
    assert bf16.bf16(graph, tmp_path / "a.xml", (), products_only=True) == ("first", "middle")
    found = types(tmp_path / "a.xml")
    assert {name: found[name] for name in LAYERS} == dict.fromkeys(LAYERS, "f32") | {"first": "bf16", "middle": "bf16"}


def test_what_an_angle_follows_from_stays_in_fp32(tmp_path):
    assert bf16.bf16(chaotic(tmp_path / "model.onnx"), tmp_path / "a.xml") == ()


def test_with_all_layers_in_fp32_the_network_answers_as_before(tmp_path):
    graph = unfit(tmp_path / "model.onnx")
    bf16.bf16(graph, tmp_path / "a.xml", LAYERS)
    picture = {"pixels": np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3)).astype(np.uint8)}
    want, got = (
        open_network(path, "openvino", precision).run(["logits"], picture)[0]
        for path, precision in ((graph, "fp32"), (tmp_path / "a.xml", "bf16"))
    )
    np.testing.assert_array_equal(got, want)


def test_weights_are_rounded_to_the_nearest_and_none_becomes_infinite(tmp_path):
    far = np.float32([-3.4e38, 1 + 2**-8, 1 + 3 * 2**-8])
    graph = network(tmp_path / "m.onnx", [helper.make_node("Add", ["x", "far"], ["y"])], {"far": far})
    bf16.bf16(graph, tmp_path / "m.xml")
    model = openvino.Core().read_model(tmp_path / "m.xml")
    (add,) = [op for op in model.get_ordered_ops() if op.get_type_name() == "Add"]
    constant = add.input_value(1).get_node()
    assert constant.get_element_type().get_type_name() == "bf16"
    bits = constant.data.view(np.uint16)  # numpy has no such numbers
    assert (bits.astype(np.uint32) << 16).view(np.float32).tolist() == [-3.3895313892515355e38, 1.0, 1.015625]


def test_all_weights_are_those_of_the_graph_to_within_their_rounding(tmp_path):
    """None is written from memory that was given up: there are several, and all are large."""
    rng, size = np.random.default_rng(0), 512
    weights = {f"w{i}": rng.standard_normal((size, size)).astype(np.float32) for i in range(6)}
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"product{i}") for i in range(6)]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size]) for name in ("x0", "x6")]
    graph = helper.make_graph(
        nodes, "products", ports[:1], ports[1:], [numpy_helper.from_array(v, name) for name, v in weights.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert len(bf16.bf16(tmp_path / "m.onnx", tmp_path / "m.xml")) == 5
    assert (tmp_path / "m.bin").stat().st_size < 0.65 * (tmp_path / "m.onnx").stat().st_size
    ops = {op.get_friendly_name(): op for op in openvino.Core().read_model(tmp_path / "m.xml").get_ordered_ops()}
    for i in range(5):
        bits = ops[f"product{i}"].input_value(1).get_node().data.view(np.uint16)
        found = (bits.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_allclose(found, weights[f"w{i}"], rtol=2**-8)


@needs_bf16
def test_values_are_rounded_to_bf16_without_a_bias_and_those_of_bf16_stay_as_they_are(tmp_path):
    """OpenVINO cuts every other value off, in networks of any batch: sums of them would be off by 0.13 %."""
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["y"], name="same"),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("MatMul", ["z", "one"], ["t"], name="last"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 64]) for name in ("x", "t")]
    one = numpy_helper.from_array(np.eye(64, dtype=np.float32), "one")
    graph = helper.make_graph(nodes, "same", ports[:1], ports[1:], [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert bf16.bf16(tmp_path / "m.onnx", tmp_path / "m.xml", products_only=True) == ("same",)
    session = open_network(tmp_path / "m.xml", "openvino", "bf16")
    values = np.random.default_rng(0).uniform(1, 2, (512, 64)).astype(np.float32)
    (found,) = session.run(["t"], {"x": values})
    assert abs((found / values - 1).mean()) < 1e-4 and np.abs(found / values - 1).max() < 2**-7
    exact = np.repeat(1 + np.arange(128, dtype=np.float32)[:, None] / 128, 64, 1)
    np.testing.assert_array_equal(session.run(["t"], {"x": exact})[0], exact)


def test_what_is_no_network_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportFailed, match="^OpenVINO cannot read this network.$"):
        bf16.bf16(tmp_path / "model.onnx", tmp_path / "model.xml")


class Told(Quiet):
    """Keeps what a person would read."""

    def __init__(self):
        self.sentences = []

    def notice(self, sentence):
        self.sentences.append(sentence)


@pytest.fixture
def colours(tmp_path):
    """``colours(write)``: the repository of a published classifier whose graph is another."""

    def make(write):
        root = Path(shutil.copytree(PUBLISHED, tmp_path / "models"))
        write(root / "net--colours" / "1" / "model.onnx")
        return root

    return make


@needs_bf16
def test_the_layers_that_do_not_bear_bf16_are_found_kept_named_and_served_from_a_file_of_their_own(colours):
    root, told = colours(unfit), Told()
    manifest = variants.add(root, "colours", "openvino", "bf16", serve=True, progress=told)
    (variant,) = manifest.variants
    assert variant.typed and variant.kept_fp32 == ("middle",) and variant.figures["top1"] >= 0.99
    place = "net--colours/1/openvino-bf16.xml"
    assert set(variant.files) == {place, place.replace(".xml", ".bin")} and types(root / place)["away"] == "f32"
    config = (root / "net--colours" / "config.pbtxt").read_text()
    assert "openvino-bf16.xml" in config and "HINT_BF16" not in config, "types stand in the file"
    told = "\n".join(told.sentences)
    assert "all but products in fp32" in told and "Looking for the layers to keep in fp32" in told


@needs_bf16
def test_weights_whose_answers_rounding_decides_are_refused_for_that(colours, contents):
    root = colours(chaotic)
    before = contents(root)
    with pytest.raises(ExportFailed, match="openvino-fp32 does not do what fp32 does.*rounding decides") as caught:
        variants.add(root, "colours", "openvino", "bf16")
    assert "--gate-data" in caught.value.hint and contents(root) == before


@needs_bf16
def test_what_an_export_tries_by_itself_is_not_searched(colours):
    root = colours(unfit)
    with pytest.raises(ExportFailed):
        variants.add(root, "colours", "openvino", "bf16", least_gain=-9.0)
