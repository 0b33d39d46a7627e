"""Florence-2, base and large: DaViT's picture and a prompt go through BART, which writes texts and places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Network, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.florence_2 import graphs, microsoft, synthetic
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import torch_env, transformers_processors, transformers_weights
from tritonvision.exporters.libraries.chat_family import ChatFamily
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_weights import Loaded
from tritonvision.exporters.modules import encoder_decoder
from tritonvision.exporters.modules.normalise import MEAN, STD
from tritonvision.exporters.parity import sample_pictures, text_pages
from tritonvision.exporters.parity.checks import chat
from tritonvision.grounding import florence
from tritonvision.python_backend.generation.beams import SEARCH
from tritonvision.python_backend.vlm import florence_2

if TYPE_CHECKING:
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        PreTrainedTokenizerBase,
    )

_VISION = ("embed_dim", "num_heads", "num_groups", "depths", "window_size", "projection_dim")
_TEXT = ("d_model", "layers", "heads", "ffn_dim", "max_position_embeddings")
# By id: of DaViT, of BART, pixels of the picture's side, tokens that stand for texts. To be checked against the real
# config.json. ``reduced`` has every part at a size for tests: windows that fit and windows that are padded.
_SIZES: dict[str, tuple[tuple, tuple, int, int]] = {
    "florence-2-base": (
        ((128, 256, 512, 1024), (4, 8, 16, 32), (4, 8, 16, 32), (1, 1, 9, 1), 12, 768), (768, 6, 12, 3072, 1024),
        768, 50265,
    ),
    "florence-2-large": (
        ((256, 512, 1024, 2048), (8, 16, 32, 64), (8, 16, 32, 64), (1, 1, 9, 1), 12, 1024),
        (1024, 12, 16, 4096, 1024), 768, 50265,
    ),
    "reduced": (((16, 24, 32, 48), (2, 2, 4, 4), (2, 4, 4, 6), (1, 1, 2, 1), 6, 48), (48, 3, 4, 96, 128), 96, 600),
}  # fmt: skip
_START, _PAD, _END = 0, 1, 2  # ids of BART's vocabulary; decoding starts from the end token
# generation_config.json of the released weights
_GENERATION = {
    "num_beams": 3, "no_repeat_ngram_size": 3, "early_stopping": True, "bos_token_id": _START, "pad_token_id": _PAD,
    "eos_token_id": _END, "decoder_start_token_id": _END, "forced_bos_token_id": _START, "forced_eos_token_id": _END,
}  # fmt: skip
_EMITTED = ("image_embeds", "logits", "cross.key", "cross.value", "present.key", "present.value")
_TOKENS = {"max_new_tokens": chat.TOKENS}


class Florence2(ChatFamily):
    """transformers' network and processor; pictures are resized by Pillow."""

    name = "Florence-2"
    class_name = "Florence2ForConditionalGeneration"
    beside = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")
    sometimes_beside = ("preprocessor_config.json", "processor_config.json", "special_tokens_map.json")
    tolerance = Tolerance({**dict.fromkeys(_EMITTED, 5e-5), "image_embeds": 1e-4}, relative=frozenset(_EMITTED))
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "Florence2ForConditionalGeneration.generate(**Florence2Processor(prompt, image)), the processor with "
        "CLIPImageProcessorPil; batch_decode(skip_special_tokens=False) without <s>, </s> and <pad>",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        *_, side, texts = _SIZES[entry.id]
        return (_point(_plain(entry.id), side, texts + len(synthetic.MARKS)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"florence-community/Florence-2-{entry.id.removeprefix('florence-2-')}"

    def random_network(self, entry: Entry, weights: Weights) -> Florence2Network:
        """See :meth:`Family.random_network`."""
        return Florence2Network(*random(entry.id, weights.seed))

    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.network_from_file`; a folder of the library's layout or of the authors'."""
        folder = weights.path
        if folder is None or not microsoft.is_layout(folder):
            return super().network_from_file(entry, weights)
        from transformers import GenerationConfig

        tokenizer = _tokenizer(folder)
        found = microsoft.config(folder, tokenizer.image_token_id)
        file = microsoft.weights_file(folder)
        state = microsoft.tensors(checkpoints.read(file).tensors, found, _PAD)
        model = transformers_weights.of_tensors(self.model_class(), self.repository(entry), found, state)
        model.generation_config = GenerationConfig(**_GENERATION | microsoft.generation(folder))
        loaded = Loaded(model, folder, folder.name, files.sha256(file))
        return self.network(entry, weights, loaded)

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> Florence2Network:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        ours = _images(768, rows=1)
        images = transformers_processors.beside(Weights(path=loaded.folder), ours, ("size", "crop_size"))
        side, across = transformers_processors.sides(images, ("height", "width"))
        if side != across:
            raise ExportFailed(
                f"The weights' own image processor makes pictures of {side} x {across} pixels, not squares.",
                hint="Leave the processor as it was released.",
            )
        return Florence2Network(loaded.module, _processor(_tokenizer(loaded.folder), loaded.module.config, side),
                                **loaded.facts)  # fmt: skip


class Florence2Network(TorchNetwork):
    """transformers' model is the reference; the reference pipeline adds its processor and its ``generate``."""

    packages = ("transformers", "tokenizers", "pillow")

    def __init__(
        self, model: Florence2ForConditionalGeneration, processor: Florence2Processor, source: str = "", **facts: Any
    ):  # fmt: skip
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, (), source, **facts)
        self._processor = processor
        self._search = encoder_decoder.search_of(model)
        self._side = processor.image_processor.size["height"]
        self.entry_points = (_point(model.config, self._side, processor.image_token_id),)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``vision``, ``encoder`` or ``decoder``."""
        import torch

        nets = {net.role: net for net in self.entry_points[0].nets}
        if role == "vision":
            pixels = torch.zeros(2, self._side, self._side, 3, dtype=torch.uint8)
            export_onnx(graphs.vision(self._model), pixels, path, ("pixels",), ("image_embeds",))
            return
        graph = graphs.encoder(self._model) if role == "encoder" else graphs.decoder(self._model)
        inputs = self._prompt(2, 5) if role == "encoder" else self._continuation(samples=2, beams=2, tokens=3, before=5)
        examples = {name: torch.from_numpy(value) for name, value in inputs.items()}
        encoder_decoder.export(graph, nets[role], path, examples)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        return graphs.reference(self.reference(double), inputs, role)

    def predict(self, sample: Mapping[str, Any], parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; of ``messages`` the last one, of ``pictures`` the last one.

        The answer is as :class:`LocalChat` gives it; ``max_new_tokens`` and ``num_beams`` are applied.
        """
        import torch

        asked = {name: parameters[name] for name in ("max_new_tokens", "num_beams")}
        given = self.read(sample)
        with torch.inference_mode():
            ids = self._model.generate(**given, **{name: value for name, value in asked.items() if value is not None})
        (written,) = ids[:, 1:].numpy()
        forced = bool(self._search["last"]) and len(written) == asked["max_new_tokens"]
        text = self._processor.tokenizer.decode(ids[0], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for end in (florence_2.START, florence_2.END, florence_2.PAD):
            text = text.replace(end, "")
        return {
            "token_ids": written,
            "text": np.array([text], dtype=object),
            "finish_reason": np.array(["stop" if written[-1] == _END and not forced else "length"], dtype=object),
            "usage": np.array([given["input_ids"].shape[1], len(written)], dtype=np.int32),
        }

    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """What the library's processor makes of the last message and the last picture."""
        text = "".join(part["text"] for part in sample["messages"][-1]["content"] if part["type"] == "text")
        image = Image.fromarray(sample["pictures"][-1])
        return dict(self._processor(text=text, images=image, return_tensors="pt"))

    def conversations(self) -> list[dict[str, Any]]:
        """See :meth:`Network.conversations`: one picture each, tasks of every kind of input, a second question."""
        photo, page = sample_pictures.photo(), text_pages.line("ledger 2")
        region = "<REGION_TO_CATEGORY><loc_52><loc_332><loc_932><loc_774>"
        return [
            chat.sample([photo], chat.says("user", chat.PICTURE, "<MORE_DETAILED_CAPTION>")),
            chat.sample([page], chat.says("user", "<OCR_WITH_REGION>", chat.PICTURE)),
            chat.sample([photo[:260]], chat.says("user", chat.PICTURE, region)),
            chat.sample([photo[:, 90:]], chat.says("user", chat.PICTURE, "What is in this picture?")),
            chat.sample(
                [photo[200:264]], chat.says("user", chat.PICTURE, "<CAPTION>"), chat.says("assistant", "A strip."),
                chat.says("user", "<CAPTION_TO_PHRASE_GROUNDING> A dark strip & a light one."),
            ),
        ]  # fmt: skip

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`: the checkpoint's own search, and greedy."""
        return [_TOKENS, _TOKENS | {"num_beams": 1}]

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`."""
        if role == "vision":
            views = sample_pictures.photo(), text_pages.line("ledger 2")
            pixels = np.stack([florence_2.square(view, self._side) for view in views])
            return {"the photo": {"pixels": pixels[:1]}, "the photo and a line": {"pixels": pixels}}
        if role == "encoder":
            return {"a prompt": self._prompt(1, 7), "two prompts": self._prompt(2, 4)}
        first = self._continuation(samples=1, beams=1, tokens=1, before=0)
        first["input_ids"][:] = _END
        return {
            "the first token": first, "the next one of three beams": self._continuation(1, 3, 1, 7),
            "two pictures, two beams, four tokens": self._continuation(2, 2, 4, 2),
        }  # fmt: skip

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the tokenizer, and the checkpoint's settings for generating."""
        return {
            TOKENIZER: self._processor.tokenizer.backend_tokenizer.to_str().encode(),
            SEARCH: json.dumps(self._search).encode(),
        }

    def save(self, folder: Path) -> None:
        """Write network and processor as ``save_pretrained`` does: a folder that the export takes as weights."""
        with transformers_weights.quiet():
            self._model.save_pretrained(folder)
            self._processor.save_pretrained(folder)

    def _prompt(self, samples: int, tokens: int) -> Tensors:
        """Random inputs of the encoder."""
        rng = np.random.default_rng(tokens)
        vision, encoder, _ = self.entry_points[0].nets
        rows = rng.normal(size=(samples, *vision.outputs[0].dims)).astype(np.float32)
        ids = rng.integers(4, self._model.config.text_config.vocab_size, (samples, tokens))
        return dict(zip([tensor.name for tensor in encoder.inputs], (ids, rows), strict=True))

    def _continuation(self, samples: int, beams: int, tokens: int, before: int) -> Tensors:
        """Random inputs of the decoder: several continuations of several samples."""
        vocabulary = self._model.config.text_config.vocab_size
        return encoder_decoder.example(self.entry_points[0].nets[2], vocabulary, samples, beams, tokens, before)


def save_reduced(folder: Path, seed: int = 0) -> None:
    """Write random weights of the reduced size with their processor, which tests publish and serve."""
    Florence2Network(*random("reduced", seed), f"reduced, seed {seed}").save(folder)


def random(name: str, seed: int) -> tuple[Florence2ForConditionalGeneration, Florence2Processor]:
    """The true architecture with random weights whose answers vary from token to token and depend on the picture."""
    found = config(name)
    from transformers import Florence2ForConditionalGeneration, GenerationConfig

    *_, side, texts = _SIZES[name]
    model = transformers_weights.random(Florence2ForConditionalGeneration, found, seed)
    model.generation_config = GenerationConfig(**_GENERATION)
    synthetic.vary(model, side, texts, seed)
    return model, _processor(synthetic.vocabulary(texts), found, side)


def config(name: str) -> Florence2Config:
    """The configuration of an id, or of ``reduced``, which has every part at a size for tests."""
    torch_env.import_torchvision()
    from transformers import BartConfig, Florence2Config, Florence2VisionConfig

    plain = _plain(name)
    return Florence2Config(
        vision_config=Florence2VisionConfig(**vars(plain.vision_config)),
        text_config=BartConfig(**vars(plain.text_config)), image_token_id=plain.image_token_id,
        tie_word_embeddings=True,
    )  # fmt: skip


def _plain(name: str) -> SimpleNamespace:
    """The fields of a configuration that :func:`_point` reads, for environments without transformers."""
    vision, (width, layers, heads, inner, positions), _, texts = _SIZES[name]
    both = {"layers": layers, "attention_heads": heads, "ffn_dim": inner}
    text = {f"{part}_{field}": value for part in ("encoder", "decoder") for field, value in both.items()}
    tokens = texts + len(synthetic.MARKS) + 1
    return SimpleNamespace(
        vision_config=SimpleNamespace(**dict(zip(_VISION, vision, strict=True))),
        text_config=SimpleNamespace(
            **text, d_model=width, max_position_embeddings=positions, vocab_size=-(-tokens // 64) * 64
        ),
        image_token_id=tokens - 1,
    )  # fmt: skip


def _point(config: Any, side: int, image_token: int) -> Chat:
    """The entry point of a network with that configuration."""
    text, rows = config.text_config, _rows(side)
    pixels = Tensor("pixels", "UINT8", (side, side, 3))
    embeds = Tensor("image_embeds", "FP32", (rows, text.d_model))
    networks = encoder_decoder.nets(
        (Tensor("input_ids", "INT64", (-1,)), embeds), text.decoder_layers, text.decoder_attention_heads,
        text.d_model // text.decoder_attention_heads, -1, text.vocab_size,
    )  # fmt: skip
    options = {
        "side": side, "rows": rows, "context": text.max_position_embeddings, "image_token": image_token,
        "positions": text.max_position_embeddings, "layers": text.decoder_layers, "masked": True,
        "grounding": florence.NAME,
    }  # fmt: skip
    return Chat("florence_2", (Net("vision", (pixels,), (embeds,), 1), *networks), tuple(sorted(options.items())),
                (side, side))  # fmt: skip


def _rows(side: int) -> int:
    """Rows of a picture: one a place of DaViT's last stage, whose strides are 4, 2, 2, 2, and their mean."""
    places = side
    for kernel, stride, padding in ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1)):
        places = (places + 2 * padding - kernel) // stride + 1
    return places**2 + 1


# ---- the processor ---------------------------------------------------------------------------------------------------


def _images(side: int, rows: int) -> CLIPImageProcessorPil:
    from transformers import CLIPImageProcessorPil

    size = {"height": side, "width": side}
    return CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD),
        image_seq_length=rows,
    )  # fmt: skip


def _processor(tokenizer: PreTrainedTokenizerBase, config: Florence2Config, side: int) -> Florence2Processor:
    """The library's processor, resizing with Pillow; what it makes of answers is :mod:`tritonvision.grounding`'s."""
    from transformers import Florence2Processor

    if tokenizer.image_token_id != config.image_token_id:
        raise ExportFailed(
            "The vocabulary has another token for pictures than the weights' config.json.",
            hint="Write both into one folder with save_pretrained(folder).",
        )
    return Florence2Processor(_images(side, _rows(side)), tokenizer)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside the weights, with the tokens that the authors' processor adds. Raises ExportFailed."""
    from transformers import AutoTokenizer, BartTokenizer

    kind = BartTokenizer if microsoft.is_layout(folder) else AutoTokenizer
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ExportFailed(
            "The weights folder lacks a vocabulary.", hint="Write it with processor.save_pretrained(folder)."
        )
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportFailed("The vocabulary beside the weights cannot be read.") from error
    synthetic.add_marks(tokenizer)
    return tokenizer


FAMILY = Florence2()
