"""PaliGemma: a picture through SigLIP and a linear layer into the prefix of Gemma, which writes text, places and masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.ensembles.tensors import Tensor
from tritonvision.exporters.contract import ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.paligemma import masks, sizes, synthetic
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import torch_env, transformers_chat, transformers_weights
from tritonvision.exporters.libraries.chat_family import TOLERANCES, ChatFamily
from tritonvision.exporters.libraries.chat_network import Parts, WritingNetwork, end_ids
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import PICTURE as SHOWN
from tritonvision.exporters.parity.checks.chat import sample, says
from tritonvision.python_backend.vlm.paligemma import CODES, LOCATIONS, PICTURE

if TYPE_CHECKING:
    import torch
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

_REPOSITORIES = {"paligemma-3b": "google/paligemma-3b-mix-224", "paligemma-10b": "google/paligemma2-10b-mix-448"}
REDUCED_AS = {"paligemma-3b": "reduced", "paligemma-10b": "reduced2"}  # which of :mod:`sizes` has every part of an id
_NO_MASKS = (
    f"Masks stay codes in its answers: there was no {masks.FILE} beside the weights. big_vision publishes it; export "
    "again from a folder that holds it."
)


class PaliGemma(ChatFamily):
    """transformers' network and processor, of both generations; pictures are resized by Pillow."""

    name = "PaliGemma"
    class_name = "PaliGemmaForConditionalGeneration"
    license_notice = "The released weights are under the Gemma Terms of Use, which restrict what they may be used for."
    sometimes_beside = ("processor_config.json", masks.FILE)
    tolerance = Tolerance(
        TOLERANCES | {"masks": 1e-4},
        relative=frozenset({"image_embeds"}),
        causes={"image_embeds": "It was measured with two layers; the released network has 27, and an error in each."},
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "PaliGemmaForConditionalGeneration.generate(**PaliGemmaProcessor(pictures, '<image>' + prompt), "
        "do_sample=False), the processor with SiglipImageProcessorPil",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over four graphs."""
        return (point(sizes.plain(entry.id)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return _REPOSITORIES[entry.id]

    def random_network(self, entry: Entry, weights: Weights) -> PaliGemmaNetwork:
        """See :meth:`Family.random_network`."""
        return random(entry.id, weights.seed)

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> PaliGemmaNetwork:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        processor, facts = _processor_of(loaded.folder, loaded.module.config), loaded.facts
        decoder = masks.beside(loaded.folder)
        if decoder is None:
            facts["notes"] = (*facts["notes"], _NO_MASKS)
        return PaliGemmaNetwork(loaded.module, processor, decoder, **facts)


class PaliGemmaNetwork(WritingNetwork):
    """transformers' model is the reference; the reference pipeline adds its processor and its ``generate``."""

    decoding = {"bidirectional": True}

    def __init__(
        self, model: PaliGemmaForConditionalGeneration, processor: PaliGemmaProcessor,
        decoder: torch.nn.Module | None, source: str = "", **facts: Any,
    ):  # fmt: skip
        """``decoder`` is that of the masks, where there is one; ``facts`` further attributes of :class:`Network`."""
        super().__init__(model, processor, point(model.config, end_ids(model), decoder is not None), source, **facts)
        self._masks = decoder

    def parts(self, model: PaliGemmaForConditionalGeneration) -> Parts:
        """See :meth:`WritingNetwork.parts`."""
        return Parts(model.model.vision_tower, model.model.language_model, model.lm_head)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`; ``masks`` besides."""
        import torch

        if role == masks.ROLE:
            codes = torch.zeros(2, 16, dtype=torch.int64)
            export_onnx(self._masks, codes, path, ("codes",), ("masks",))
        else:
            super().export(path, role)

    def export_vision(self, path: Path) -> None:
        """See :meth:`WritingNetwork.export_vision`."""
        import torch

        side = self._options["side"]
        pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        export_onnx(_vision(self._model), pixels, path, ("pixels",), ("image_embeds",))

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`; ``masks`` besides."""
        if role != masks.ROLE:
            return super().tensors(inputs, double, role)
        import torch

        with torch.inference_mode():
            codes, dtype = inputs["codes"], torch.float64 if double else torch.float32
            return {"masks": masks.of_codes(self._masks, codes, dtype)}

    def vision_tensors(
        self, model: PaliGemmaForConditionalGeneration, inputs: Mapping[str, np.ndarray], dtype: torch.dtype
    ) -> Tensors:
        """See :meth:`WritingNetwork.vision_tensors`."""
        import torch

        pixels = (torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2).to(dtype) / 255 - 0.5) / 0.5
        return {"image_embeds": model.get_image_features(pixels, return_dict=True).pooler_output.numpy()}

    def predict(self, sample: Mapping[str, Any], parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; ``sample`` has ``messages`` and ``pictures``, see the prompt's ``Reader``."""
        given = self.read(sample)
        ends = self._options["end_ids"]
        return transformers_chat.answer(self._model, self._processor.tokenizer, given, parameters, ends)

    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """What the library's processor makes of one message and its pictures: ``input_ids``, ``pixel_values``, ..."""
        (message,) = sample["messages"]
        text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
        images = [Image.fromarray(picture) for picture in sample["pictures"]]
        given = self._processor(text=[PICTURE * len(images) + text], images=[images], return_tensors="pt")
        return {name: value for name, value in given.items() if name != "labels"}  # those are for training

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`; ``masks`` besides."""
        return masks.examples() if role == masks.ROLE else super().examples(role)

    def vision_examples(self) -> dict[str, Tensors]:
        """See :meth:`WritingNetwork.vision_examples`."""
        side = self._options["side"]
        photo = np.array(Image.fromarray(sample_pictures.photo()).resize((side, side)))
        noise = sample_pictures.noise(side, side)
        return {"the photo": {"pixels": photo[None]}, "photo and noise": {"pixels": np.stack([photo, noise])}}

    def conversations(self) -> list[dict[str, Any]]:
        """See :meth:`Network.conversations`: prompts about a picture, and about two; it knows no conversation."""
        photo = sample_pictures.photo()
        strip, other = photo[200:264], photo[300:420, ::-1]
        asked = (
            ([photo], "What is in this picture?"), ([strip, other], "Which colours are there?"),
            ([other], "caption en"), ([strip], "detect person ; flag"),
        )  # fmt: skip
        return [sample(pictures, says("user", *[SHOWN] * len(pictures), text)) for pictures, text in asked]

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the tokenizer. Its tokens of places are words of answers, never control."""
        file = json.loads(super().assets(role)[TOKENIZER])
        places = {*LOCATIONS, *CODES}
        for token in file["added_tokens"]:
            token["special"] = token["special"] and token["content"] not in places
        return {TOKENIZER: json.dumps(file, ensure_ascii=False).encode()}

    def save(self, folder: Path) -> None:
        """See :meth:`WritingNetwork.save`; beside them the decoder of the masks."""
        super().save(folder)
        if self._masks is not None:
            masks.save(self._masks, folder)


def save_reduced(folder: Path, seed: int = 0, name: str = "reduced") -> None:
    """Write random weights of a reduced size with their processor, which tests publish and serve."""
    random(name, seed).save(folder)


def random(name: str, seed: int) -> PaliGemmaNetwork:
    """The true architecture of an id with random weights whose answers vary and depend on the picture."""
    found = config(name)  # makes transformers importable
    from transformers import PaliGemmaForConditionalGeneration
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    model = transformers_weights.random(PaliGemmaForConditionalGeneration, found, seed)
    special = sizes.plain(name).special
    for kind, token in (("eos", sizes.END), ("bos", "<bos>"), ("pad", sizes.PADDING)):
        setattr(model.generation_config, f"{kind}_token_id", special[token])
    words = synthetic.tokenizer(name)
    synthetic.calibrate_prompt(model, words, seed)
    side = found.vision_config.image_size
    images = SiglipImageProcessorPil(size={"height": side, "width": side})
    return PaliGemmaNetwork(model, _processor(words, images, found), masks.random(seed))


def config(name: str, tied: bool = False) -> PaliGemmaConfig:
    """The configuration of an id, or of a reduced network.

    Args:
        tied: whether the head is the table of embeddings, as in the released weights. A random one that is does not
            answer differently from step to step.
    """
    torch_env.import_torchvision()
    from transformers import Gemma2Config, GemmaConfig, PaliGemmaConfig, SiglipVisionConfig

    plain = sizes.plain(name)
    kinds = {"gemma": GemmaConfig, "gemma2": Gemma2Config}
    text = dict(vars(plain.text_config))
    width = text["hidden_size"]
    return PaliGemmaConfig(
        text_config=kinds[text.pop("model_type")](**text, tie_word_embeddings=tied),
        vision_config=SiglipVisionConfig(**vars(plain.vision_config), vision_use_head=False),
        image_token_index=plain.image_token_id, vocab_size=text["vocab_size"], projection_dim=width,
        hidden_size=width, tie_word_embeddings=tied,
    )  # fmt: skip


def point(config: Any, end_ids: list[int] | None = None, with_masks: bool = True) -> Chat:
    """The entry point of a network with that configuration; what it does not contain is as released."""
    text, vision = config.text_config, config.vision_config
    side, count = vision.image_size, (vision.image_size // vision.patch_size) ** 2
    pixels = Tensor("pixels", "UINT8", (side, side, 3))
    embeds = Tensor("image_embeds", "FP32", (count, text.hidden_size))
    nets = (
        Net("vision", (pixels,), (embeds,), 1), causal_decoder.embed_net(text),
        causal_decoder.decoder_net(text, bidirectional=True), *([masks.NET] if with_masks else ()),
    )  # fmt: skip
    options = {
        "side": side, "tokens_per_picture": count, "image_token": config.image_token_id,
        "end_ids": tuple(end_ids or [1]), "context": text.max_position_embeddings, "grounding": "paligemma",
    }  # fmt: skip
    return Chat("paligemma", nets, tuple(sorted(options.items())), (side, side))


def _vision(model: PaliGemmaForConditionalGeneration) -> torch.nn.Module:
    """Pictures uint8 ``[n,side,side,3]`` RGB to ``image_embeds`` float32 ``[n,tokens,H]``."""
    from torch import nn

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector

        def forward(self, pixels):
            hidden = self.tower.embeddings((pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
            for layer in self.tower.encoder.layers:
                hidden = layer(hidden, None)
            return self.projector(self.tower.post_layernorm(hidden))

    return Vision()


def _processor_of(folder: Path, config: PaliGemmaConfig) -> PaliGemmaProcessor:
    """The processor that lies beside the weights, resizing with Pillow. Raises ExportFailed."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    images, words = transformers_chat.processor_parts(folder, SiglipImageProcessorPil)
    return _processor(words, images, config)


def _processor(words: Any, images: Any, config: PaliGemmaConfig) -> PaliGemmaProcessor:
    from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor

    images.image_seq_length = dict(point(config).options)["tokens_per_picture"]
    return PaliGemmaProcessor(images, words)


FAMILY = PaliGemma()
