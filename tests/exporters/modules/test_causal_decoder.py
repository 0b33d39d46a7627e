"""Decoders whose positions have three axes, and that add further rows to what their first layers put out."""

import torch  # isort: skip

import dataclasses

import numpy as np
import onnx
import pytest

from tritonvision.ensembles.in_process import LocalNet
from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.modules import causal_decoder

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
EXTRA = ("deepstack.0.embeds", "deepstack.1.embeds")


def qwen2_5():
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

    return library.Qwen2_5_VLTextModel, library.Qwen2_5_VLTextConfig(**SIZES, rope_parameters=dict(ROPE)), {"axes": 3}


def qwen3():
    from transformers.models.qwen3_vl import modeling_qwen3_vl as library

    rope = ROPE | {"mrope_interleaved": True}
    config = library.Qwen3VLTextConfig(**SIZES, head_dim=8, rope_parameters=rope)
    return library.Qwen3VLTextModel, config, {"axes": 3, "extra": EXTRA}


@pytest.fixture(scope="module", params=[qwen2_5, qwen3], ids=["three axes", "three axes and further rows"])
def decoder(request, tmp_path_factory):
    """The text model, its head, how it is cut, and its graph."""
    cls, config, cut = request.param()
    model = transformers_weights.random(cls, config, 0)
    head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    causal_decoder.export_decoder(model, head, path, **cut)
    return model, head, cut, path


def test_a_graph_computes_what_the_library_computes(decoder):
    model, head, cut, path = decoder
    net = causal_decoder.decoder_net(model.config, **cut)
    check.check(path, net)
    local, extra = LocalNet(path, net), cut.get("extra", ())
    for what, inputs in causal_decoder.examples(model.config, **cut).items():
        want = causal_decoder.reference(model, head, inputs, torch.float32, extra=extra)
        got = local.tensors(inputs)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5, err_msg=f"{what}: {name}")


def test_each_axis_and_each_further_input_has_an_effect(decoder):
    model, _, cut, path = decoder
    local = LocalNet(path, causal_decoder.decoder_net(model.config, **cut))
    inputs = causal_decoder.examples(model.config, **cut)["a prompt"]
    plain = local.tensors(inputs)["logits"]
    for axis in range(3):
        moved = inputs["position_ids"].copy()
        moved[axis, :, 4:] += 3
        assert np.abs(local.tensors(inputs | {"position_ids": moved})["logits"] - plain).max() > 1e-4, axis
    for name in cut.get("extra", ()):
        assert np.abs(local.tensors(inputs | {name: 0 * inputs[name]})["logits"] - plain).max() > 1e-4, name


def test_the_batch_axis_of_the_positions_is_the_second(decoder):
    model, _, cut, path = decoder
    net = causal_decoder.decoder_net(model.config, **cut)
    (positions,) = (tensor for tensor in net.inputs if tensor.name == "position_ids")
    assert positions.shape == (3, -1, -1) and positions.dims == (3, -1)
    (declared,) = (value for value in onnx.load(path).graph.input if value.name == "position_ids")
    assert [axis.dim_value or axis.dim_param for axis in declared.type.tensor_type.shape.dim] == [3, "batch", "tokens"]
    first = tuple(dataclasses.replace(tensor, batch_axis=0) for tensor in net.inputs)
    with pytest.raises(ExportFailed, match=r"'position_ids' is INT64 \[3, -1, -1\], not INT64 \[-1, 3, -1\]"):
        check.check(path, dataclasses.replace(net, inputs=first))
