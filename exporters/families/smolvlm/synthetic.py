"""SmolVLM with random weights whose answers depend on the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.synthetic import calibrate, chat

if TYPE_CHECKING:
    from transformers import SmolVLMForConditionalGeneration

_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position


def calibrate_prompt(
    model: SmolVLMForConditionalGeneration, said: list[int], tiles_of_picture: int, seed: int
) -> None:
    """Make the answers depend on the picture, and consist of the tokens ``said``, in place; see :func:`chat.tune`."""
    import torch

    side = model.config.vision_config.image_size
    images = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed)).permute(0, 3, 1, 2) / 127.5 - 1
    vision, connector = model.model.vision_model, model.model.connector
    with torch.no_grad():
        vision.embeddings.position_embedding.weight.mul_(_PLACES)
    chat.tune(
        lambda tiles: connector(vision(tiles).last_hidden_state), connector.modality_projection.proj,
        model.model.text_model, model.lm_head, images, said, tiles_of_picture, seed,
    )  # fmt: skip
