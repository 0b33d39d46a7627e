"""Encoder-decoders as two graphs: an encoder up to the keys and values of cross attention, a decoder with a cache.

For decoders like BART's, with layer norm after each block and transformers' names of the layers: TrOCR, Florence-2.

``encoder`` emits the keys and values of every layer's cross attention. ``decoder`` computes the first tokens (empty
cache) and each further one with the same weights. Its rows are one or more continuations (beams) of each encoded
sample, in the order of the samples: cross attention processes all continuations of a sample at once, so keys and values
are neither repeated nor read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.python_backend.generation.beams import MASK

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Settings of generate() that python_backend/generation/beams.py does not support, with the values that switch them off.
_OFF = {
    "do_sample": False, "min_length": 0, "min_new_tokens": None, "repetition_penalty": 1.0, "bad_words_ids": None,
    "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "sequence_bias": None,
    "suppress_tokens": None, "begin_suppress_tokens": None, "exponential_decay_length_penalty": None,
    "guidance_scale": None, "remove_invalid_values": False,
}  # fmt: skip


def nets(
    inputs: Sequence[Tensor], layers: int, heads: int, width: int, encoded: int, vocabulary: int
) -> tuple[Net, Net]:
    """Both networks.

    Args:
        inputs: of the encoder.
        layers, heads, width: of the decoder; width of one head.
        encoded: positions of the encoder's output; -1 for any number, of which a mask tells what is padding.
        vocabulary: number of logits.
    """
    cross = cache("cross", layers, (heads, encoded, width))
    past, present = (cache(name, layers, (heads, -1, width)) for name in ("past_key_values", "present"))
    mask = (Tensor(MASK, "INT64", (-1,)),) if encoded == -1 else ()
    return (
        Net("encoder", tuple(inputs), cross, instances=1),
        Net(
            "decoder", (Tensor("input_ids", "INT64", (-1,)), *past, *cross, *mask),
            (Tensor("logits", "FP32", (vocabulary,)), *present), instances=1,
        ),
    )  # fmt: skip


def cache(name: str, layers: int, dims: tuple[int, ...]) -> tuple[Tensor, ...]:
    """``<name>.N.key`` and ``<name>.N.value`` of every layer, in this order."""
    return tuple(Tensor(f"{name}.{layer}.{part}", "FP32", dims) for layer in range(layers) for part in ("key", "value"))


def encoder(encode: torch.nn.Module, layers: torch.nn.ModuleList) -> torch.nn.Module:
    """``encode``'s inputs to ``cross.N.key`` and ``cross.N.value`` ``[B,H,E,D]`` of every layer.

    Args:
        encode: gives hidden states ``[B,E,C]``.
        layers: of the decoder, for the projections of their cross attention.
    """
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = encode
            self.attentions = torch.nn.ModuleList(layer.encoder_attn for layer in layers)

        def forward(self, *inputs):
            hidden = self.encode(*inputs)
            return tuple(
                _heads(projection(hidden), attention)
                for attention in self.attentions
                for projection in (attention.k_proj, attention.v_proj)
            )

    return Encoder()


def decoder(
    embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], layers: torch.nn.ModuleList, head: torch.Tensor
) -> torch.nn.Module:
    """``input_ids [B,S]``, past of every layer ``[B,H,P,D]``, cross of every layer ``[B / n,H,E,D]`` and, where some of
    E may be padding, a mask ``[B / n,E]`` to the logits ``[B,V]`` of the last position and the past of every layer
    ``[B,H,P+S,D]``.

    Args:
        embed: a module: token ids ``[B,S]`` and the number of earlier tokens to hidden states ``[B,S,C]``.
        head: ``[V,C]``; the same tensor as the token embeddings where they are tied.
    """
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layers = embed, layers
            self.head = head
            self.no_bias = torch.nn.Buffer(head.new_zeros(len(head)), persistent=False)

        def forward(self, input_ids, *tensors):
            count = 2 * len(self.layers)
            past, cross, masks = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
            length, before = input_ids.shape[1], past[0].shape[2]
            hidden = self.embed(input_ids, before)
            queries, keys = torch.arange(length)[:, None] + before, torch.arange(length + before)[None]
            future = torch.where(keys > queries, torch.finfo(hidden.dtype).min, 0.0).to(hidden.dtype)
            padding = None
            for mask in masks:  # one or none
                padding = torch.where(mask == 0, torch.finfo(hidden.dtype).min, 0.0).to(hidden.dtype)[:, None, None]
            present = []
            for index, layer in enumerate(self.layers):
                attention = layer.self_attn
                key, value = (
                    torch.cat([earlier, _heads(projection(hidden), attention)], dim=2)
                    for earlier, projection in zip(
                        past[2 * index : 2 * index + 2], (attention.k_proj, attention.v_proj), strict=True
                    )
                )
                present += [key, value]
                read = _attend(attention, hidden, key, value, future)
                hidden = layer.self_attn_layer_norm(hidden + read)
                read = _attend(layer.encoder_attn, hidden, *cross[2 * index : 2 * index + 2], padding)
                hidden = layer.encoder_attn_layer_norm(hidden + read)
                hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
            # With a bias this becomes a Gemm, which reads the table as it is; a MatMul would need a transposed copy.
            return torch.nn.functional.linear(hidden[:, -1], self.head, self.no_bias), *present

    return Decoder()


def _heads(values: torch.Tensor, attention: torch.nn.Module) -> torch.Tensor:
    """``[B,S,C]`` to ``[B,H,S,D]``."""
    return values.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def _attend(attention, hidden, key, value, mask=None):
    """The output of ``attention`` for ``hidden`` ``[B,S,C]``; each ``key`` and ``value`` is used by several rows."""
    query = (attention.q_proj(hidden) * attention.scaling).view(key.shape[0], -1, hidden.shape[2])
    scores = _heads(query, attention) @ key.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    read = (scores.softmax(-1) @ value).transpose(1, 2)
    return attention.out_proj(read.reshape(hidden.shape))


def export(graph: torch.nn.Module, net: Net, path: Path, examples: Mapping[str, torch.Tensor]) -> None:
    """Write one of the two graphs. ``examples`` of every input, by name.

    See :func:`tritonvision.exporters.graphs.export.export_onnx`.
    """
    dynamic = {}
    for tensor in (*net.inputs, *net.outputs):
        kind = tensor.name.split(".")[0]
        named = {"input_ids": "tokens", "past_key_values": "past", "present": "all"}
        named |= dict.fromkeys(("cross", MASK), "encoded")
        axes = {i: named.get(kind, f"{kind}_{i}") for i, size in enumerate(tensor.dims, 1) if size == -1}
        if net.role == "decoder" and kind in ("cross", MASK):
            axes[0] = "samples"
        dynamic[tensor.name] = axes
    inputs, outputs = (tuple(tensor.name for tensor in tensors) for tensors in (net.inputs, net.outputs))
    export_onnx(graph, [examples[name] for name in inputs], path, inputs, outputs, dynamic)


def example(net: Net, vocabulary: int, samples: int, beams: int, tokens: int, before: int) -> Tensors:
    """Random inputs of the decoder: ``beams`` continuations of each sample by ``tokens`` after ``before`` earlier ones.

    ``before`` is the length of every axis that may have any. Of all samples but the first the last position is padding,
    where the network has a mask.
    """
    rng = np.random.default_rng(before)
    inputs: Tensors = {}
    rows = {"input_ids": samples * beams, "past_key_values": samples * beams, "cross": samples, MASK: samples}
    for tensor in net.inputs:
        kind = tensor.name.split(".")[0]
        free = max(before, 1) if kind in ("cross", MASK) else before  # there is always something to attend to
        shape = (rows[kind], *(free if size == -1 else size for size in tensor.dims))
        inputs[tensor.name] = rng.normal(size=shape).astype(np.float32)
    inputs["input_ids"] = rng.integers(4, vocabulary, (samples * beams, tokens))
    if MASK in inputs:
        inputs[MASK] = np.ones(inputs[MASK].shape, dtype=np.int64)
        inputs[MASK][1:, 1:][:, -1:] = 0
    return inputs


def encoded(decoder: PreTrainedModel, hidden: torch.Tensor) -> Tensors:
    """``cross.N.key`` and ``cross.N.value`` of every layer as the library's ``decoder`` computes them from the
    encoder's hidden states ``[B,E,C]``.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.inference_mode():
        decoder(torch.zeros(len(hidden), 1, dtype=torch.int64), encoder_hidden_states=hidden, past_key_values=cache)
    return _read("cross", cache.cross_attention_cache)


def decoded(decoder: PreTrainedModel, inputs: Mapping[str, np.ndarray], width: int) -> Tensors:
    """Logits and ``present.*`` as the library's ``decoder`` computes them from the inputs of the graph.

    Args:
        width: of the encoder's hidden states.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids = torch.from_numpy(inputs["input_ids"])
    beams = len(ids) // len(inputs["cross.0.key"])
    for name in inputs:
        if not name.startswith("cross") or not name.endswith("key"):
            continue
        layer = int(name.split(".")[1])
        cross, past = (
            [torch.from_numpy(inputs[f"{kind}.{layer}.{part}"]).to(decoder.dtype) for part in ("key", "value")]
            for kind in ("cross", "past_key_values")
        )
        cache.cross_attention_cache.update(*(value.repeat_interleave(beams, 0) for value in cross), layer)
        cache.self_attention_cache.update(*past, layer)
        cache.is_updated[layer] = True
    # keys and values are cached: the library only checks that the encoder's hidden states are given
    unread = torch.zeros(len(ids), cross[0].shape[2], width, dtype=decoder.dtype)
    given: dict[str, Any] = {"encoder_hidden_states": unread, "past_key_values": cache}
    if MASK in inputs:
        given[MASK] = torch.from_numpy(inputs[MASK]).repeat_interleave(beams, 0)
    with torch.inference_mode():
        logits = decoder(ids, **given).logits
    return {"logits": logits[:, -1].numpy(), **_read("present", cache.self_attention_cache)}


def _read(name: str, cache: Any) -> Tensors:
    """Keys and values of a cache by the graphs' names of them."""
    return {
        f"{name}.{index}.{part}": getattr(layer, f"{part}s").numpy()
        for index, layer in enumerate(cache.layers)
        for part in ("key", "value")
    }


def search_of(model: PreTrainedModel) -> dict[str, Any]:
    """The settings of ``model.generate()`` as the fields of
    :class:`tritonvision.python_backend.generation.beams.Search`.

    Raises:
        ExportFailed: a setting is not supported, or the start or the end token is missing.
    """
    from transformers import GenerationConfig

    # settings that a checkpoint does not set are None, and get these values when generate() runs
    defaults = GenerationConfig._get_default_generation_params()
    asked = {n: v for n, v in model.generation_config.to_dict().items() if v is not None}
    for name, off in _OFF.items():
        if asked.get(name, off) != off:
            raise ExportFailed(f"The weights' generation_config.json asks for '{name}', which is not supported.")
    most = asked.get("max_new_tokens") or (asked["max_length"] - 1 if "max_length" in asked else defaults["max_length"])
    start, ends = asked.get("decoder_start_token_id", asked.get("bos_token_id")), asked.get("eos_token_id")
    for name, token in (("decoder_start_token_id", start), ("eos_token_id", ends)):
        if token is None or token == []:
            raise ExportFailed(
                f"The weights' generation_config.json does not tell '{name}'.",
                hint="Add it there: the tokenizer of the checkpoint knows the token.",
            )
    last = asked.get("forced_eos_token_id", [])
    found = defaults | asked
    return {
        "start": start, "most": most,
        "ends": ends if isinstance(ends, list) else [ends], "beams": found["num_beams"],
        "length_penalty": found["length_penalty"], "early_stopping": found["early_stopping"],
        "no_repeat": found["no_repeat_ngram_size"], "first": asked.get("forced_bos_token_id"),
        "last": last if isinstance(last, list) else [last],
    }  # fmt: skip
