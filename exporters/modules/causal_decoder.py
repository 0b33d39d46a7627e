"""A decoder-only language model as two graphs: token ids to embeddings, and embeddings with a KV cache to logits.

Every vision-language family of that kind has these two graphs besides its vision network, under the same names. One
decoder graph does both the prefill (empty cache) and the generation (one embedding at a time), so its weights are held
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import BATCH, Tensor
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.modules import attention_masks

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_KINDS = ("key", "value")
# Of the limits of keys and values, in families of which a reduced network was measured.
CAUSES = dict.fromkeys(
    (f"present.{kind}" for kind in _KINDS),
    "measured on few layers of 24 and more, where rounding adds up: over the 30 of SmolVLM it is six times as much",
)
_GROUPED = "tritonvision_grouped"  # the name under which the attention is registered in transformers
_SPREAD = 3.0  # standard deviation of the logits of random models
_LAYERS = 6  # of random weights: above this number attention is scaled down


def embed_net(config: PretrainedConfig) -> Net:
    """``input_ids [B,S]`` to ``inputs_embeds [B,S,H]``; ``config`` is the text model's."""
    return Net(
        "embed", (Tensor("input_ids", "INT64", (-1,)),), (Tensor("inputs_embeds", "FP32", (-1, config.hidden_size)),), 1
    )


def decoder_net(
    config: PretrainedConfig, *, axes: int = 1, extra: Sequence[str] = (), bidirectional: bool = False
) -> Net:
    """The decoder over a cache of ``P`` positions, reading ``S`` more.

    In: ``inputs_embeds [B,S,H]``, ``attention_mask [B,P+S]`` (0 at the padding, which is on the left and is
    not attended to), ``position_ids [B,S]``, and ``past_key_values.N.key`` and ``.value [B,Hkv,P,D]`` of each
    layer N; P may be 0. Out: ``logits [B,V]`` of the last position, ``present.N.key`` and ``.value [B,Hkv,P+S,D]``.

    Args:
        axes: of a position; above one ``position_ids`` is ``[axes,B,S]`` (M-RoPE: time, height, width).
        extra: names of further inputs ``[B,S,H]``; the n-th is added to what the n-th layer puts out (DeepStack).
        bidirectional: whether there is ``bidirectional [B]`` besides (prefix language models): so many of the S
            positions, from the first on, attend to each other in both directions, all others to what is before them.
    """
    positions = Tensor("position_ids", "INT64", (axes, -1), batch_axis=1)
    cache = (config.num_key_value_heads, -1, _head_size(config))
    layers = [f"{n}.{kind}" for n in range(config.num_hidden_layers) for kind in _KINDS]
    return Net(
        "decoder",
        (
            Tensor("inputs_embeds", "FP32", (-1, config.hidden_size)), Tensor("attention_mask", "INT64", (-1,)),
            positions if axes > 1 else Tensor("position_ids", "INT64", (-1,)),
            *(Tensor(name, "FP32", (-1, config.hidden_size)) for name in extra),
            *(Tensor(f"past_key_values.{layer}", "FP32", cache) for layer in layers),
            *([Tensor(attention_masks.BIDIRECTIONAL, "INT64", ())] if bidirectional else ()),
        ),
        (
            Tensor("logits", "FP32", (config.vocab_size,)),
            *(Tensor(f"present.{layer}", "FP32", cache) for layer in layers),
        ),
        1,
    )  # fmt: skip


def _head_size(config: PretrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def export_embed(table: torch.nn.Module, config: PretrainedConfig, path: Path) -> None:
    """Write the graph of :func:`embed_net`; ``table`` is the text model's ``get_input_embeddings()``."""
    import torch

    net = embed_net(config)
    axes = {"input_ids": {1: "tokens"}, "inputs_embeds": {1: "tokens"}}
    _export(table, [torch.zeros(2, 3, dtype=torch.int64)], path, net, axes)


def export_decoder(
    text_model: PreTrainedModel, lm_head: torch.nn.Module, path: Path, *, axes: int = 1, extra: Sequence[str] = (),
    bidirectional: bool = False,
) -> None:
    """Write the graph of :func:`decoder_net`."""
    with _grouped_attention(text_model.config):
        graph = _graph(text_model, lm_head, len(extra), bidirectional)
        write_decoder(graph, text_model.config, path, axes=axes, extra=extra, bidirectional=bidirectional)


def write_decoder(
    graph: torch.nn.Module, config: Any, path: Path, *, axes: int = 1, extra: Sequence[str] = (),
    bidirectional: bool = False,
) -> None:  # fmt: skip
    """Write a module with the inputs and outputs of :func:`decoder_net`."""
    import torch

    kind: dict[str, Any] = {"axes": axes, "extra": extra, "bidirectional": bidirectional}
    net = decoder_net(config, **kind)
    named = {"inputs_embeds": {1: "tokens"}, "attention_mask": {1: "seen"}, "position_ids": {1: "tokens"}}
    named |= {name: {1: "tokens"} for name in extra}
    if axes > 1:
        named["position_ids"] = {1: BATCH, 2: "tokens"}
    for tensor in (*_past(net), *net.outputs[1:]):
        named[tensor.name] = {2: "past" if tensor.name.startswith("past") else "seen"}
    # No axis of these has length 0 or 1, which tracing could make a constant.
    given = example(config, batch=2, past=5, new=3, **kind)
    _export(graph, [torch.from_numpy(value) for value in given.values()], path, net, named)


def _past(net: Net) -> list[Tensor]:
    return [tensor for tensor in net.inputs if tensor.name.startswith("past_key_values.")]


def _export(
    module: torch.nn.Module, examples: list[torch.Tensor], path: Path, net: Net, axes: Mapping[str, Mapping[int, str]]
) -> None:
    inputs, outputs = (tuple(tensor.name for tensor in tensors) for tensors in (net.inputs, net.outputs))
    export_onnx(module, examples, path, inputs, outputs, axes)


@contextmanager
def _grouped_attention(config: PretrainedConfig) -> Iterator[None]:
    """A context in which grouped-query attention multiplies all queries of a group with their keys in one product.

    transformers repeats keys and values for each query instead, at every token: with a cache of 1200 tokens that takes
    half of a layer's time, and the result is the same.
    """
    from transformers import AttentionInterface

    def attend(module, query, key, value, attention_mask, scaling, softcap=None, **_):
        batch, heads, new, size = query.shape
        shared = key.shape[1]
        scores = query.reshape(batch, shared, -1, size) @ key.transpose(2, 3) * scaling
        if softcap is not None:  # Gemma 2
            scores = (scores / softcap).tanh() * softcap
        weights = (scores.view(batch, heads, new, -1) + attention_mask).softmax(-1)
        read = weights.view(batch, shared, heads // shared * new, -1) @ value
        return read.view(batch, heads, new, size).transpose(1, 2).contiguous(), None

    AttentionInterface.register(_GROUPED, attend)
    before, config._attn_implementation = config._attn_implementation, _GROUPED
    try:
        yield
    finally:
        config._attn_implementation = before


def _graph(
    text_model: PreTrainedModel, lm_head: torch.nn.Module, extra: int, bidirectional: bool
) -> torch.nn.Module:
    """The decoder with its cache as flat arguments and results, in the order of :func:`decoder_net`.

    The mask is built here: transformers uses a mask of four axes unchanged, while its own code for building one cannot
    be traced without making the length of the cache a constant. Where some layers see a window of the last positions
    only, it takes two of them by the layers' type.
    """
    import torch
    from torch import nn

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.text_model = text_model
            self.lm_head = lm_head

        def forward(self, inputs_embeds, attention_mask, position_ids, *more):
            more, prefix = (more[:-1], more[-1]) if bidirectional else (more, None)
            added, past = more[:extra], more[extra:]
            new = inputs_embeds.shape[1]
            mask = attention_masks.additive(new, attention_mask, prefix)
            if attention_masks.slides(text_model.config):
                window = text_model.config.sliding_window
                narrow = attention_masks.additive(new, attention_mask, prefix, window)
                mask = {"full_attention": mask, "sliding_attention": narrow}
            cache = Cache(past)
            with adding(added):
                hidden = self.text_model(
                    inputs_embeds=inputs_embeds, attention_mask=mask, position_ids=position_ids, past_key_values=cache,
                    use_cache=True,
                )[0]  # fmt: skip
            return _logits(hidden, self.lm_head, text_model.config), *cache.tensors

    @contextmanager
    def adding(rows):
        """A context in which each of ``rows`` is added to what the layer of its place puts out."""
        hooks = [
            layer.register_forward_hook(lambda _, __, out, more=more: out + more)
            for layer, more in zip(text_model.layers, rows, strict=False)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    class Cache:
        """The part of transformers' ``DynamicCache`` that attention uses, without its branches on an empty cache."""

        def __init__(self, tensors):
            self.tensors = list(tensors)

        def get_seq_length(self, layer=0):
            return self.tensors[2 * layer].shape[-2]

        def update(self, keys, values, layer, *_, **__):
            for index, new in ((2 * layer, keys), (2 * layer + 1, values)):
                self.tensors[index] = torch.cat([self.tensors[index], new], dim=-2)
            return self.tensors[2 * layer], self.tensors[2 * layer + 1]

    return Decoder()


def _logits(hidden: torch.Tensor, lm_head: torch.nn.Module, config: PretrainedConfig) -> torch.Tensor:
    """``[B,S,H]`` to ``[B,V]`` of the last position, within the bounds that Gemma 2 sets them."""
    logits, most = lm_head(hidden[:, -1]), getattr(config, "final_logit_softcapping", None)
    return logits if most is None else (logits / most).tanh() * most


def example(
    config: PretrainedConfig, batch: int, past: int, new: int, padding: int = 0, seed: int = 0, *, axes: int = 1,
    extra: Sequence[str] = (), bidirectional: bool = False,
) -> Tensors:  # fmt: skip
    """Inputs of the decoder: ``batch`` rows, of which the first starts with ``padding`` positions of padding.

    The axes of a position differ from each other; ``extra`` inputs are zero at most positions. Where it is
    ``bidirectional``, a prompt is a prefix but for the last positions of all rows except the first.
    """
    rng = np.random.default_rng(seed)
    net = decoder_net(config, axes=axes, extra=extra, bidirectional=bidirectional)
    mask = np.ones((batch, past + new), dtype=np.int64)
    mask[0, :padding] = 0
    cache = (batch, config.num_key_value_heads, past, _head_size(config))
    given: Tensors = {
        "inputs_embeds": rng.normal(size=(batch, new, config.hidden_size)).astype(np.float32),
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(1) - 1, 0)[:, past:],
    }
    if axes > 1:
        given["position_ids"] = np.stack([given["position_ids"] // (axis + 1) for axis in range(axes)])
    places = np.arange(new) % 3 == 1  # of a picture
    given |= {name: given["inputs_embeds"][:, ::-1] * places[:, None] / n for n, name in enumerate(extra, 1)}
    given |= {tensor.name: rng.normal(size=cache).astype(np.float32) for tensor in _past(net)}
    if bidirectional:
        prefix = np.maximum(new - 3 * np.arange(batch), 0)
        given[attention_masks.BIDIRECTIONAL] = np.zeros_like(prefix) if past else prefix
    return given


def embed_examples(config: PretrainedConfig) -> dict[str, Tensors]:
    """Inputs to compare a table of embeddings on, by what they are; ``config`` is that of the language model."""
    ids = np.arange(2 * 7).reshape(2, 7) * (config.vocab_size // 14)
    return {"some tokens": {"input_ids": ids[:1]}, "two texts": {"input_ids": ids}}


def examples(config: PretrainedConfig, **kind: Any) -> dict[str, Tensors]:
    """Inputs on which a decoder's graph is compared: prompts and further tokens, alone and beside longer ones.

    ``kind`` is what :func:`decoder_net` was told.
    """
    make = partial(example, config, **kind)
    return {
        "a prompt": make(batch=1, past=0, new=9),
        "two prompts, one of them padded": make(batch=2, past=0, new=11, padding=4, seed=1),
        "a token after 17": make(batch=1, past=17, new=1, seed=2),
        "tokens of two answers, one of them shorter": make(batch=2, past=13, new=1, padding=6, seed=3),
        "several tokens after some": make(batch=2, past=7, new=4, padding=2, seed=4),
    }


def tune(
    text_model: PreTrainedModel, lm_head: torch.nn.Module, said: Sequence[int], picture: torch.Tensor, seed: int
) -> None:
    """Rescale a random model so that it generates the tokens ``said`` only, and different ones from step to step.

    In a deep random network the last hidden states share a large common component, whatever the input, so one token
    would always have the largest logit. Three operations reduce it: ``o_proj`` is scaled by min(1, 6 / layers), because
    attention adds much of the common component in each layer; the directions of the mean hidden state, with and without
    a picture (``[rows, H]`` of embeddings), are projected out of the head; and the logits are scaled to one standard
    deviation over texts of random tokens.
    """
    import torch

    tokens = torch.tensor(said)
    picked = torch.randint(len(said), (4, 96), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for layer in text_model.layers:
            layer.self_attn.o_proj.weight.mul_(min(1.0, _LAYERS / len(text_model.layers)))
        texts = text_model.get_input_embeddings()(tokens[picked])
        behind = torch.cat([picture.expand(2, -1, -1), texts[:2]], dim=1)
        # row by row: behind a picture of 13 tiles the scores of eager attention alone take a gigabyte a row
        alone, behind = (
            torch.cat([text_model(inputs_embeds=row[None], use_cache=False)[0][0, -80:] for row in rows]).double()
            for rows in (texts, behind)
        )
        common, _ = torch.linalg.qr(torch.stack([alone.mean(0), behind.mean(0)], dim=1))
        kernel = lm_head.weight[tokens].double()
        blind = kernel - kernel @ common @ common.T
        lm_head.weight.zero_()
        lm_head.weight[tokens] = (blind * (_SPREAD / (behind @ blind.T).std(0))[:, None]).float()


def reference(
    text_model: PreTrainedModel, lm_head: torch.nn.Module, inputs: Mapping[str, np.ndarray], dtype: torch.dtype, *,
    extra: Sequence[str] = (),
) -> Tensors:  # fmt: skip
    """The outputs of :func:`decoder_net` as transformers computes them with its own cache and masks.

    ``extra`` inputs are passed as its models with a deep stack take them: without the rows that are zero. The cache
    keeps every position in every layer, as the graph does, also in those that see a window only.
    """
    import torch
    from transformers import DynamicCache

    config = text_model.config
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    cache = DynamicCache()
    if given["past_key_values.0.key"].shape[2]:
        for n in range(config.num_hidden_layers):
            cache.update(*(given[f"past_key_values.{n}.{kind}"].to(dtype) for kind in _KINDS), n)
    embeds = given["inputs_embeds"].to(dtype)
    more = {}
    if extra:
        places = (given[extra[0]] != 0).any(-1)
        rows = [given[name][places].to(dtype) for name in extra]
        more = {"visual_pos_masks": places, "deepstack_visual_embeds": rows}
    with torch.inference_mode():
        hidden = text_model(
            inputs_embeds=embeds, attention_mask=attention_masks.of_library(config, given, embeds, cache),
            position_ids=given["position_ids"], past_key_values=cache, use_cache=True, **more,
        )[0]  # fmt: skip
        logits = _logits(hidden, lm_head, config)
    found = {"logits": logits.numpy()}
    for n, layer in enumerate(cache.layers):
        found |= {f"present.{n}.key": layer.keys.numpy(), f"present.{n}.value": layer.values.numpy()}
    return found
