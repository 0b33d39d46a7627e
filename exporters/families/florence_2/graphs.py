"""Florence-2 as graphs: DaViT with its projector, BART's encoder over picture and prompt, BART's decoder."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.modules import encoder_decoder
from tritonvision.exporters.modules.normalise import MEAN, STD

if TYPE_CHECKING:
    import torch
    from transformers import Florence2ForConditionalGeneration


def vision(model: Florence2ForConditionalGeneration) -> torch.nn.Module:
    """``pixels`` uint8 ``[B,side,side,3]`` RGB to ``image_embeds`` float32 ``[B,rows,C]``."""
    import torch

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector

        def forward(self, pixels):
            hidden = normalised(pixels.float())
            for embed, blocks in zip(self.tower.convs, self.tower.blocks, strict=True):
                hidden = embed(hidden)
                for block in blocks:
                    hidden = block(hidden)
            return self.projector(hidden)

    return Vision()


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Real pixels 0..255 ``[B,H,W,3]`` to the network's ``[B,3,H,W]``."""
    mean, std = (pixels.new_tensor(values) for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)


def encoder(model: Florence2ForConditionalGeneration) -> torch.nn.Module:
    """``input_ids`` int64 ``[B,S]`` of the prompt and ``image_embeds`` to keys and values of cross attention."""
    import torch

    text = model.model.language_model

    class Encode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layers = model.get_input_embeddings(), text.encoder.layers
            self.positions, self.norm = text.encoder.embed_positions, text.encoder.layernorm_embedding

        def forward(self, input_ids, image_embeds):
            hidden = torch.cat([image_embeds, self.embed(input_ids)], dim=1)
            hidden = self.norm(hidden + self.positions(hidden[:, :, 0]))  # they need the length only
            for layer in self.layers:
                hidden = layer(hidden, None)
            return hidden

    return encoder_decoder.encoder(Encode(), text.decoder.layers)


def decoder(model: Florence2ForConditionalGeneration) -> torch.nn.Module:
    """See :func:`encoder_decoder.decoder`."""
    import torch

    text = model.model.language_model.decoder

    class Embed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions, self.norm = text.embed_tokens, text.embed_positions, text.layernorm_embedding

        def forward(self, input_ids, before):
            return self.norm(self.tokens(input_ids) + self.positions(input_ids, past_key_values_length=before))

    return encoder_decoder.decoder(Embed(), text.layers, model.lm_head.weight)


def reference(model: Florence2ForConditionalGeneration, inputs: Mapping[str, np.ndarray], role: str) -> Tensors:
    """What the library's own modules compute, in the precision of ``model``."""
    import torch

    text = model.model.language_model
    with torch.inference_mode():
        if role == "vision":
            pixels = normalised(torch.tensor(inputs["pixels"]).to(model.dtype))
            return {"image_embeds": model.get_image_features(pixels, return_dict=True).pooler_output.numpy()}
        if role == "decoder":
            return encoder_decoder.decoded(_Decoder(model), inputs, model.config.text_config.d_model)
        embeds = model.get_input_embeddings()(torch.from_numpy(inputs["input_ids"]))
        rows = torch.from_numpy(inputs["image_embeds"]).to(model.dtype)
        hidden = text.encoder(inputs_embeds=torch.cat([rows, embeds], dim=1)).last_hidden_state
        return encoder_decoder.encoded(_Decoder(model), hidden)


class _Decoder:
    """BART's decoder with the head behind it, called as the decoders of transformers that have one of their own."""

    def __init__(self, model: Florence2ForConditionalGeneration):
        self._model, self.dtype = model, model.dtype

    def __call__(self, input_ids: torch.Tensor, **given: Any) -> SimpleNamespace:
        hidden = self._model.model.language_model.decoder(input_ids, **given).last_hidden_state
        return SimpleNamespace(logits=self._model.lm_head(hidden))
