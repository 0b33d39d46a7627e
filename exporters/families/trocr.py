"""TrOCR, base and large, printed and handwritten; the reference is transformers' ``VisionEncoderDecoderModel`` behind
its ``TrOCRProcessor``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NO_CLASSES, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.libraries import torch_env, transformers_processors, transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import encoder_decoder
from tritonvision.exporters.parity import sample_pictures, text_pages
from tritonvision.exporters.synthetic import calibrate, text_decoder
from tritonvision.exporters.synthetic.tokenizers import roberta
from tritonvision.python_backend.compositions import line_text

if TYPE_CHECKING:
    import torch
    from transformers import RobertaTokenizer, TrOCRProcessor, VisionEncoderDecoderConfig, VisionEncoderDecoderModel

    from tritonvision.exporters.libraries.transformers_weights import Loaded

MEAN = STD = 0.5  # preprocessor_config.json
START, PAD, END = 0, 1, 2  # ids of RoBERTa's vocabulary; decoding starts from the end token
VOCABULARY = 50265

SIDE, PATCH = 384, 16  # pixels of the encoder's square input and of one patch

# The architectures, as transformers' conversion script of the authors' checkpoints sets them (the rest are the
# defaults of ViTConfig and TrOCRConfig). To be checked against each config.json when weights are at hand; official and
# user weights bring their own.
_ENCODERS = {
    "base": {"image_size": SIDE, "patch_size": PATCH, "qkv_bias": False},
    "large": {
        "image_size": SIDE, "patch_size": PATCH, "qkv_bias": False, "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16,
    },
}  # fmt: skip
_DECODER = {
    "vocab_size": VOCABULARY, "d_model": 1024, "decoder_layers": 12, "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096, "max_position_embeddings": 512,
}  # fmt: skip
_DECODERS = {
    # sinusoidal positions, an output projection that is not tied, embeddings scaled and without layer norm
    "large-printed": {
        "tie_word_embeddings": False, "activation_function": "relu", "max_position_embeddings": 1024,
        "scale_embedding": True, "use_learned_position_embeddings": False, "layernorm_embedding": False,
    },
}  # fmt: skip
_EMITTED = ("logits", "cross.key", "cross.value", "present.key", "present.value")


def point(side: int = SIDE, text: Mapping[str, Any] = _DECODER) -> Composition:
    """The entry point over networks for pictures of ``side`` pixels and a decoder of this configuration."""
    layers, heads = text["decoder_layers"], text["decoder_attention_heads"]
    networks = encoder_decoder.nets(
        (Tensor("pixels", "UINT8", (side, side, 3)),), layers, heads, text["d_model"] // heads,
        (side // PATCH) ** 2 + 1, text["vocab_size"],
    )  # fmt: skip
    return Composition(
        name="line-text",
        version=1,
        task=line_text.TASK,
        nets=networks,
        outputs=(Tensor("text", "STRING", (1,)), Tensor("token_ids", "INT64", (-1,)), IMAGE_SIZE),
        options=(("side", side), ("layers", layers), ("positions", text["max_position_embeddings"])),
        instances=1,
        size=(side, side),
        embedded=True,
    )


class TrOCR(TransformersFamily):
    """A picture of one line to its text."""

    name = "TrOCR"
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it reads means nothing."
    beside = ("generation_config.json", "vocab.json", "merges.txt")
    # relative to the largest value, which is about 5 of keys, values and logits
    tolerance = Tolerance(
        dict.fromkeys(_EMITTED, 1e-4) | dict.fromkeys(("cross.key", "cross.value"), 5e-5),
        relative=frozenset(_EMITTED),
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "VisionEncoderDecoderModel.generate(TrOCRProcessor(image)), batch_decode(skip_special_tokens=True); pictures "
        "by ViTImageProcessorPil",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over two graphs."""
        vision, text = _shapes(entry)
        return (point(vision["image_size"], text),)

    def model_class(self) -> type[VisionEncoderDecoderModel]:
        """See :meth:`TransformersFamily.model_class`.

        It accepts weights without the encoder's pooler, which nothing reads and which the authors' weights lack.
        """
        from transformers import VisionEncoderDecoderModel

        class Recogniser(VisionEncoderDecoderModel):
            _keys_to_ignore_on_load_missing = [r"encoder\.pooler\."]

        return Recogniser

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return entry.weights_source.removeprefix("HF ")

    def random_network(self, entry: Entry, weights: Weights) -> TrOCRNetwork:
        """See :meth:`Family.random_network`."""
        shape = config(entry)
        return TrOCRNetwork(random(shape, weights.seed), roberta.vocabulary(shape.decoder.vocab_size))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> TrOCRNetwork:
        """See :meth:`TransformersFamily.network`."""
        _complete(loaded.module)
        assert loaded.folder is not None, "a bare file is refused"
        network = TrOCRNetwork(loaded.module, _tokenizer(loaded.folder), **loaded.facts)
        transformers_processors.beside(weights, network.processor.image_processor)
        return network


class TrOCRNetwork(TorchNetwork):
    """One model: transformers' is the reference; the reference pipeline adds its processor and its ``generate``."""

    packages = ("transformers", "tokenizers")

    def __init__(self, model: VisionEncoderDecoderModel, tokenizer: RobertaTokenizer, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        super().__init__(model, **facts)
        self._tokenizer = tokenizer
        self._search = encoder_decoder.search_of(model)
        self._side = model.config.encoder.image_size
        self._point = point(self._side, model.config.decoder.to_dict())

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``encoder`` or ``decoder``, as
        :mod:`tritonvision.exporters.modules.encoder_decoder` has them.
        """
        import torch

        nets = {net.role: net for net in self._point.nets}
        graph = encoder(self._model) if role == "encoder" else decoder(self._model)
        examples = {name: torch.from_numpy(value) for name, value in self._traced(role).items()}
        encoder_decoder.export(graph, nets[role], path, examples)

    def _traced(self, role: str) -> Tensors:
        """Inputs for tracing: all axes differ in length, and none has length one."""
        if role == "encoder":
            return {"pixels": np.zeros((2, self._side, self._side, 3), dtype=np.uint8)}
        return self._prompt(samples=2, beams=2, tokens=3, before=5)

    def _prompt(self, samples: int, beams: int, tokens: int, before: int) -> Tensors:
        """Random inputs of the decoder: several continuations of several samples."""
        vocabulary = self._model.config.decoder.vocab_size
        return encoder_decoder.example(self._point.nets[1], vocabulary, samples, beams, tokens, before)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`: the library's own decoder with its own cache."""
        import torch

        model = self.reference(double)
        if role == "decoder":
            return encoder_decoder.decoded(model.decoder, inputs, model.config.encoder.hidden_size)
        pixels = torch.tensor(inputs["pixels"]).permute(0, 3, 1, 2).to(model.dtype)
        with torch.inference_mode():
            hidden = model.encoder((pixels / 255 - MEAN) / STD).last_hidden_state
        return encoder_decoder.encoded(model.decoder, hidden)

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        import torch

        asked = {name: parameters[name] for name in ("max_new_tokens", "num_beams")}
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers warns where a checkpoint sets no length
            pixels = self.processor(sample, input_data_format="channels_last", return_tensors="pt").pixel_values
            ids = self._model.generate(pixels, **{name: value for name, value in asked.items() if value is not None})
        (text,) = self.processor.batch_decode(ids, skip_special_tokens=True)
        return {
            "text": np.array([text.encode()], dtype=object),
            "token_ids": ids[0, 1:].numpy(),
            "image_size": np.array(sample.shape[:2], dtype=np.int32),
        }

    @cached_property
    def processor(self) -> TrOCRProcessor:
        """The library's processor, with the settings of the released weights."""
        from transformers import TrOCRProcessor, ViTImageProcessorPil

        size = {"height": self._side, "width": self._side}
        return TrOCRProcessor(
            ViTImageProcessorPil(size=size, image_mean=[MEAN] * 3, image_std=[STD] * 3), self._tokenizer
        )

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: the first token, a further one of several beams, several at once."""
        if role == "encoder":
            side = self._model.config.encoder.image_size
            pictures = [
                line_text.frame(picture, side) for picture in (text_pages.line("ledger 2"), sample_pictures.photo())
            ]
            return {"a line": {"pixels": pictures[0][None]}, "two pictures": {"pixels": np.stack(pictures)}}
        first = self._prompt(samples=1, beams=1, tokens=1, before=0)
        first["input_ids"][:] = END
        return {
            "the first token": first, "the next one of three beams": self._prompt(1, 3, 1, 7),
            "two pictures, two beams, four tokens": self._prompt(2, 2, 4, 2),
        }  # fmt: skip

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`: a long greedy answer, beams, and the checkpoint's own settings."""
        asked: list[dict[str, Any]] = [{"max_new_tokens": 24, "num_beams": 1}, {"max_new_tokens": 8, "num_beams": 3}]
        return [*asked, {}] if self.sha256 else asked

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the vocabulary, and the checkpoint's settings for generating."""
        return {
            line_text.TOKENIZER: self._tokenizer.backend_tokenizer.to_str().encode(),
            line_text.SEARCH: json.dumps(self._search).encode(),
        }


def encoder(model: VisionEncoderDecoderModel) -> torch.nn.Module:
    """The graph of the encoder: pixels uint8 ``[B,H,W,3]`` to the keys and values of the decoder's cross attention."""
    import torch

    class Encode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vision = model.encoder

        def forward(self, pixels):
            return self.vision((pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD).last_hidden_state

    return encoder_decoder.encoder(Encode(), model.decoder.model.decoder.layers)


def decoder(model: VisionEncoderDecoderModel) -> torch.nn.Module:
    """The graph of the decoder, see :func:`encoder_decoder.decoder`."""
    import torch

    layers = model.decoder.model.decoder

    class Embed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions, self.norm = (
                layers.embed_tokens, layers.embed_positions, layers.layernorm_embedding or torch.nn.Identity()
            )  # fmt: skip

        def forward(self, input_ids, before):
            return self.norm(self.tokens(input_ids) + self.positions(input_ids, past_key_values_length=before))

    return encoder_decoder.decoder(Embed(), layers.layers, model.decoder.output_projection.weight)


def config(entry: Entry) -> VisionEncoderDecoderConfig:
    """The configuration of one id."""
    torch_env.import_torchvision()
    from transformers import TrOCRConfig, VisionEncoderDecoderConfig, ViTConfig

    encoder, decoder = _shapes(entry)
    vision = ViTConfig(**encoder)
    text = TrOCRConfig(
        cross_attention_hidden_size=vision.hidden_size, is_decoder=True, add_cross_attention=True, **decoder
    )
    found = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    found.pad_token_id, found.eos_token_id, found.decoder_start_token_id = PAD, END, END
    return found


def _shapes(entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of the encoder and the decoder of one id."""
    kind = entry.id.removeprefix("trocr-")
    return _ENCODERS[kind.split("-")[0]], _DECODER | _DECODERS.get(kind, {})


def random(config: VisionEncoderDecoderConfig, seed: int) -> VisionEncoderDecoderModel:
    """The true architecture with random weights that generate varying tokens, different ones for different pictures."""
    import torch
    from transformers import GenerationConfig, VisionEncoderDecoderModel

    model = transformers_weights.random(VisionEncoderDecoderModel, config, seed)
    model.generation_config = GenerationConfig(
        bos_token_id=START, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=END
    )
    text, side = model.decoder.model.decoder, config.encoder.image_size
    pictures = list(calibrate.structured_pictures(2, side, side, seed))
    pictures += [line_text.frame(text_pages.line(words), side) for words in ("Receipt no. 9", "lamp oil & rope")]
    tokens = torch.randint(4, config.decoder.vocab_size, (4, 16), generator=torch.Generator().manual_seed(seed))
    tables = (text.embed_tokens, model.decoder.output_projection, text.embed_positions)
    with torch.no_grad():
        hidden = encoder(model).encode(torch.from_numpy(np.stack(pictures)))
    text_decoder.vary(
        text.layers, [table for table in tables if hasattr(table, "weight")], hidden,  # sinusoidal positions have none
        lambda: model(encoder_outputs=(hidden,), decoder_input_ids=tokens),
    )  # fmt: skip
    return model


def _complete(model: VisionEncoderDecoderModel) -> None:
    """Compute the sinusoidal positions, which are no parameter and which from_pretrained leaves without values."""
    positions = model.decoder.model.decoder.embed_positions
    if not model.config.decoder.use_learned_position_embeddings:
        count, width = positions.weights.shape
        positions.weights = positions.get_embedding(count, width, positions.padding_idx)


def _tokenizer(folder: Path) -> RobertaTokenizer:
    """The tokenizer beside the weights, ``vocab.json`` and ``merges.txt`` or ``tokenizer.json``."""
    from transformers import RobertaTokenizer

    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ExportFailed(
            "The weights folder lacks a vocabulary.", hint="Write it with processor.save_pretrained(folder)."
        )
    try:
        return RobertaTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportFailed("The vocabulary beside the weights cannot be read.") from error


FAMILY = TrOCR()
