"""SmolVLM with random weights whose answers depend on the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    from transformers import SmolVLMForConditionalGeneration

_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position


def calibrate_prompt(
    model: SmolVLMForConditionalGeneration, said: list[int], tiles_of_picture: int, seed: int
) -> None:
    """Make the embeddings of pictures differ, and let the model generate the tokens ``said`` only, in place.

    The outputs of a random connector are nearly the same for every picture: their mean is projected out, and the rest
    is scaled to a standard deviation of one.
    """
    import torch

    side = model.config.vision_config.image_size
    tiles = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed)).permute(0, 3, 1, 2) / 127.5 - 1
    vision, connector = model.model.vision_model, model.model.connector
    with torch.no_grad():
        vision.embeddings.position_embedding.weight.mul_(_PLACES)
        whole = vision(tiles).last_hidden_state
        rows = connector.pixel_shuffle(whole, connector.scale_factor).flatten(0, 1).double()
        kernel, mean = connector.modality_projection.proj.weight, rows.mean(0)
        blind = kernel.double() - (kernel.double() @ mean).outer(mean) / mean.square().sum()
        kernel.copy_(blind / (rows @ blind.T).std(0)[:, None])
        picture = connector(whole).flatten(0, 1)
    whole_picture = picture.repeat(-(-(tiles_of_picture) // len(tiles)), 1)
    causal_decoder.tune(model.model.text_model, model.lm_head, said, whole_picture, seed)
