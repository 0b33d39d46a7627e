"""Decoders like BART's with random weights that generate varying tokens, other ones for other encoded samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

# Gains on random weights: of each layer's feed-forward part, and of the attention of twelve layers. Attention adds
# nearly the same to every position; without these gains the decoder would repeat one token. Found by trial.
_FEED_FORWARD_GAIN, _ATTENTION_GAIN = 4.0, 0.4
_PEAKED = 3.0  # standard deviation of cross attention's keys: large enough that few positions dominate


def vary(
    layers: Iterable[torch.nn.Module], tables: Iterable[torch.nn.Module], hidden: torch.Tensor,
    run: Callable[[], Any],
) -> None:  # fmt: skip
    """Change the weights in place.

    Token and position embeddings get the same standard deviation. The keys and values of cross attention and the output
    of each layer are standardised over positions, tokens and samples: otherwise their common component grows from layer
    to layer, and one token is repeated.

    Args:
        tables: of tokens and of learned positions.
        hidden: float32 ``[B,E,C]``, what the encoder makes of several samples.
        run: runs the decoder over ``hidden`` with several random tokens.
    """
    import torch

    layers = list(layers)
    with torch.no_grad():
        for table in tables:
            table.weight.mul_(table.weight.shape[1] ** -0.5 / table.weight.std())
        rows = hidden.flatten(0, 1)[::4].double()
        for layer in layers:
            layer.fc2.weight.mul_(_FEED_FORWARD_GAIN)
            for attention in (layer.self_attn, layer.encoder_attn):
                attention.out_proj.weight.mul_(_ATTENTION_GAIN * (12 / len(layers)) ** 0.5)
            for projection, spread in ((layer.encoder_attn.k_proj, _PEAKED), (layer.encoder_attn.v_proj, 1.0)):
                calibrate.standardise(projection, rows, spread, torch.zeros(len(projection.weight)))
        hooks = [layer.final_layer_norm.register_forward_hook(_standardise) for layer in layers]
        run()
    for hook in hooks:
        hook.remove()


def _standardise(norm: torch.nn.LayerNorm, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """A forward hook that changes ``norm`` so that each output channel has mean 0 and standard deviation 1."""
    mean, spread = output.mean((0, 1)), output.std((0, 1))
    norm.weight /= spread
    norm.bias.copy_((norm.bias - mean) / spread)
    return (output - mean) / spread
