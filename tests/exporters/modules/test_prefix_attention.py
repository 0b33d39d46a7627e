"""The decoder of a prefix language model: its graph computes what transformers does, in layers of every kind."""

import torch  # isort: skip

import numpy as np
import onnxruntime
import pytest

from tritonvision.ensembles.in_process import LocalNet
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.modules import causal_decoder
from tritonvision.python_backend.generation.decoder import Decoder, Piece

pytestmark = pytest.mark.usefixtures("few_threads")

SIZES = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "head_dim": 12, "pad_token_id": 0,
}  # fmt: skip


def build(kind):
    """(text model, head) of Gemma, or of Gemma 2 with a window of 6 positions and low bounds of scores and logits."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, GemmaConfig, GemmaForCausalLM

    if kind == "gemma":
        whole = transformers_weights.random(GemmaForCausalLM, GemmaConfig(**SIZES), 0)
    else:
        config = Gemma2Config(
            **SIZES, sliding_window=6, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
            query_pre_attn_scalar=20,
        )  # fmt: skip
        whole = transformers_weights.random(Gemma2ForCausalLM, config, 0)
    return whole.model, whole.lm_head


@pytest.fixture(scope="module", params=["gemma", "gemma2"])
def decoder(request, tmp_path_factory):
    """(text model, head, the path of its graph)."""
    text_model, head = build(request.param)
    path = tmp_path_factory.mktemp(request.param) / "decoder.onnx"
    causal_decoder.export_decoder(text_model, head, path, bidirectional=True)
    return text_model, head, path


def test_the_graph_computes_what_the_library_computes(decoder):
    text_model, head, path = decoder
    net = causal_decoder.decoder_net(text_model.config, bidirectional=True)
    check.check(path, net)
    local = LocalNet(path, net)
    for name, inputs in causal_decoder.examples(text_model.config, bidirectional=True).items():
        got = local.tensors(inputs)
        want = causal_decoder.reference(text_model, head, inputs, torch.float32)
        for tensor, value in want.items():
            largest = np.abs(value).max()  # Gemma's norms double what they are given, so logits are 20 and more
            np.testing.assert_allclose(got[tensor], value, rtol=0, atol=1e-5 * largest, err_msg=f"{name}: {tensor}")
        assert want["logits"].std() > 0.1


def test_a_prefix_is_read_in_both_directions(decoder):
    """A later token of the prefix changes the keys of an earlier one's second layer; one behind it does not."""
    text_model, _, path = decoder
    local = LocalNet(path, causal_decoder.decoder_net(text_model.config, bidirectional=True))
    given = causal_decoder.example(text_model.config, batch=1, past=0, new=9, bidirectional=True)
    given["bidirectional"] = np.array([8])
    before = local.tensors(given)["present.1.key"]
    for place, changes in ((7, True), (8, False)):
        other = given | {"inputs_embeds": given["inputs_embeds"].copy()}
        other["inputs_embeds"][0, place] *= -1
        assert (np.abs(local.tensors(other)["present.1.key"] - before)[0, :, 0].max() > 1e-3) == changes


def test_the_loop_feeds_the_graph_its_prefix(decoder):
    """The prompt at once and the next token: as the graph's own inputs say it."""
    text_model, _, path = decoder
    net = causal_decoder.decoder_net(text_model.config, bidirectional=True)
    given = causal_decoder.example(text_model.config, batch=1, past=0, new=9, bidirectional=True)
    loop = Decoder(onnxruntime.InferenceSession(path))
    logits, cache = loop(loop.empty(), Piece(given["inputs_embeds"], given["position_ids"], {}, 9))
    np.testing.assert_allclose(logits, LocalNet(path, net).tensors(given)["logits"], rtol=1e-5, atol=1e-5)
    causal, _ = loop(loop.empty(), Piece(given["inputs_embeds"], given["position_ids"]))
    assert np.abs(causal - logits).max() > 1e-2
    assert cache.next_positions.tolist() == [9]


def test_other_families_have_no_such_input():
    text_model, _ = build("gemma")
    names = {tensor.name for tensor in causal_decoder.decoder_net(text_model.config).inputs}
    assert "bidirectional" not in names
    assert causal_decoder.example(text_model.config, batch=1, past=2, new=1).keys() == names
