"""Random vision-language models whose answers vary from token to token and depend on the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tritonvision.exporters.modules import causal_decoder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def tune(
    encode: Callable[[torch.Tensor], torch.Tensor], last: torch.nn.Linear, text_model: PreTrainedModel,
    lm_head: torch.nn.Module, images: torch.Tensor, said: Sequence[int], tiles: int, seed: int,
) -> None:  # fmt: skip
    """Make the embeddings of pictures differ, and let the model generate the tokens ``said`` only, in place.

    The outputs of a random connector are nearly the same for every picture: their mean is projected out, and the rest
    is scaled to a standard deviation of one.

    Args:
        encode: ``images`` to their embeddings ``[n,tokens,H]``.
        last: the layer that gives them.
        images: some tiles, as the vision network reads them.
        tiles: of a whole picture.
    """
    import torch

    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        encode(images)
        hook.remove()
        rows = seen[0].flatten(0, -2).double()
        kernel, mean = last.weight, rows.mean(0)
        blind = kernel.double() - (kernel.double() @ mean).outer(mean) / mean.square().sum()
        kernel.copy_(blind / (rows @ blind.T).std(0)[:, None])
        picture = encode(images).flatten(0, 1)
    causal_decoder.tune(text_model, lm_head, said, picture.repeat(-(-tiles // len(images)), 1), seed)
