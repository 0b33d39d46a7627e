"""Moondream2 with random weights whose answers, in words and in places, depend on the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tritonvision.exporters.families.moondream2.network import Moondream
from tritonvision.exporters.families.moondream2.sizes import Config
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.modules import attention_masks
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.vlm.moondream2 import Reader

_PLACES = 0.3  # share of a patch's embedding that is its position
_SPREAD = 3.0  # standard deviation of logits
_LAYERS = 6  # above this number attention is scaled down


def random(config: Config, said: Sequence[int], reader: Reader, seed: int) -> Moondream:
    """A network that says the tokens ``said`` only.

    What every input has in common is most of the last hidden states of a random network. It is projected out of the
    heads, as :func:`causal_decoder.tune` does, and out of the projector of pictures.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Moondream(config).eval()
    transformers_weights.redraw(network, seed)
    with torch.no_grad():
        network.vision.pos_emb.mul_(_PLACES)
        for block in network.text.blocks:
            block.attn["proj"].weight.mul_(min(1.0, _LAYERS / len(network.text.blocks)))
        rows = _project(network, reader, seed)
        hidden = _hidden(network, torch.tensor(said), rows, seed)
        _words(network, torch.tensor(said), hidden)
        for decoder in (network.region.coord_decoder, network.region.size_decoder):
            _blind(decoder.fc1, hidden, 1.0)
            inner = torch.nn.functional.gelu(decoder.fc1(hidden), approximate="tanh")
            _blind(decoder.fc2, inner, _SPREAD)
    return network


def _project(network: Moondream, reader: Reader, seed: int) -> torch.Tensor:
    """Let rows of pictures differ with a standard deviation of one; those of two pictures, ``[2,rows,H]``."""
    projector, side = network.vision.proj_mlp, 3 * network.config.vision_crop_size
    seen: list[torch.Tensor] = []
    hook = projector.fc2.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pictures = calibrate.structured_pictures(2, side, side, seed)
    given = [{name: torch.from_numpy(value) for name, value in reader.vision_inputs(p).items()} for p in pictures]
    for inputs in given:
        network.vision(**inputs)
    hook.remove()
    _blind(projector.fc2, torch.cat(seen).flatten(0, 1), 1.0)
    return torch.cat([network.vision(**inputs) for inputs in given])


def _hidden(network: Moondream, said: torch.Tensor, rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Last hidden states behind pictures and without any, ``[n,H]``."""
    config = network.config
    picked = torch.randint(len(said), (2, 64), generator=torch.Generator().manual_seed(seed))
    texts = network.text.wte[said[picked]]
    past = torch.zeros(2, config.text_n_kv_heads, 0, config.text_dim // config.text_n_heads)
    found = []
    for embeds in (texts, torch.cat([rows, texts], dim=1)):
        count = embeds.shape[1]
        mask = attention_masks.additive(count, torch.ones(2, count, dtype=torch.int64))
        places = torch.arange(count).expand(2, -1)
        hidden, _ = network.text(embeds, mask, places, [past] * (2 * config.text_n_layers))
        found.append(hidden[:, -48:].flatten(0, 1))
    return torch.cat(found)


def _words(network: Moondream, said: torch.Tensor, hidden: torch.Tensor) -> None:
    head = network.text.lm_head
    kernel = torch.nn.Linear(head.in_features, len(said))
    kernel.weight.copy_(head.weight[said])
    _blind(kernel, network.text.post_ln(hidden), _SPREAD)
    head.weight.zero_()
    head.bias.zero_()
    head.weight[said], head.bias[said] = kernel.weight, kernel.bias


def _blind(layer: torch.nn.Linear, rows: torch.Tensor, spread: float) -> None:
    """Project the mean of ``rows`` out of a layer, and scale its outputs to a standard deviation of ``spread``."""
    mean = rows.double().mean(0)
    kernel = layer.weight.double()
    blind = kernel - (kernel @ mean).outer(mean) / mean.square().sum()
    layer.weight.copy_(blind * (spread / (rows.double() @ blind.T).std(0))[:, None])
    layer.bias.zero_()
