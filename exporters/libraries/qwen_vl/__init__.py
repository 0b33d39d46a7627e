"""Base of the families of Qwen's vision-language models: a vision network over patches, an embedding, a decoder.

A family gives the classes of ``transformers``, sizes by id, and what differs in its prompts.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries import torch_env, transformers_chat, transformers_weights
from tritonvision.exporters.libraries.chat_family import ChatFamily
from tritonvision.exporters.libraries.qwen_vl.network import AXES, QwenNetwork
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm import qwen_vl

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

    from tritonvision.exporters.libraries.transformers_weights import Loaded

# The most pixels of a picture that are read: 1280 units of 28 x 28 pixels, what the authors advise where memory is
# short. Their own bound is 16 times that, at which the scores of one attention head take 17 GB.
MOST_PIXELS = 1280 * 28 * 28
# The most tokens of a prompt and its answer: keys and values of so many take 2 GB (3b) to 8 GB (Qwen3's 2b) of memory.
MOST_TOKENS = 32768
_SPECIAL = (
    qwen_vl.TEXT_END, qwen_vl.START, qwen_vl.END, "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", qwen_vl.SEEN_START, qwen_vl.SEEN_END, "<|vision_pad|>",
    qwen_vl.PICTURE, "<|video_pad|>",
)  # fmt: skip
_FIRST_SPECIAL = 151643  # their ids follow one another in every tokenizer of the family


class QwenVL(ChatFamily):
    """A family whose networks are Qwen's.

    Attributes:
        sizes: by id, and of ``reduced``, which has every part at a size for tests.
        repositories: hub ids of the released weights, by id.
        config_class, processor_class: names in transformers.
        video_processor: its module below ``transformers.models`` and its name.
        mean, std: of the pixels, as the released processor has them.
        min_pixels: the fewest of a picture, likewise.
        template: the released chat template as far as messages of texts and pictures go.
        system: the message that it puts before a conversation without one.
        only_users_show: whether it leaves out pictures outside the user's messages, and later system messages.
        grounding: convention of the places in its texts, see :mod:`tritonvision.grounding`.
        in_pixels: whether their numbers are pixels of the picture as it was read.
    """

    working_memory = 3_000_000_000
    activation_memory = 0.0

    sizes: Mapping[str, SimpleNamespace]
    repositories: Mapping[str, str]
    config_class: str
    processor_class: str
    video_processor: tuple[str, str]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    min_pixels: int
    template: str
    system: str = ""
    only_users_show: bool = False
    grounding: str
    in_pixels: bool = False

    @abstractmethod
    def vision(self, visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
        """The module whose graph :func:`vision_net` describes, for pixels of that mean and standard deviation."""

    def config(self, name: str, tied: bool = False) -> PretrainedConfig:
        """The configuration of an id, or of ``reduced``.

        Args:
            tied: whether the table of embeddings is the decoder's last layer, too, as in some of the released ones;
                random ones would answer with what they were asked.
        """
        torch_env.import_torchvision()
        import transformers

        plain = self.sizes[name]
        first = plain.image_token_id - _SPECIAL.index(qwen_vl.PICTURE)
        ends = {"bos_token_id": first, "eos_token_id": first + _SPECIAL.index(qwen_vl.END)}
        text, vision = vars(plain.text_config) | ends, dict(vars(plain.vision_config))
        return getattr(transformers, self.config_class)(
            text_config=text, vision_config=vision, tie_word_embeddings=tied, **token_ids(first)
        )

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        return (self.point(self.sizes[entry.id]),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return self.repositories[entry.id]

    def random_network(self, entry: Entry, weights: Weights) -> QwenNetwork:
        """See :meth:`Family.random_network`."""
        return self.random(entry.id, weights.seed)

    def random(self, name: str, seed: int) -> QwenNetwork:
        """The network of an id, or of ``reduced``, whose answers vary from token to token and with the picture.

        Its tokenizer has a small vocabulary; no other tokens are generated.
        """
        config = self.config(name)
        model = transformers_weights.random(self.model_class(), config, seed)
        processor = self._processor(_tokenizer(config), self._images(config, self.sizes[name].most_pixels), None)
        tokenizer = processor.tokenizer
        model.generation_config.eos_token_id = [*map(tokenizer.convert_tokens_to_ids, (qwen_vl.END, qwen_vl.TEXT_END))]
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        said = sorted(set(tokenizer.get_vocab().values()) - set(special_ids(config).values()))
        network = QwenNetwork(self, model, processor, f"{name}, seed {seed}")
        network.calibrate(said, seed)
        return network

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> QwenNetwork:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        processor, bounded = self._processor_of(loaded.folder)
        facts = loaded.facts
        facts["notes"] = (*facts["notes"], *bounded)
        return QwenNetwork(self, loaded.module, processor, **facts)

    def point(self, config: Any, bounds: tuple[int, int] | None = None, end_ids: Sequence[int] = ()) -> Chat:
        """The entry point of a network with that configuration; what it does not contain is as released.

        Args:
            config: of transformers, or with the same names: see :meth:`sizes`.
            bounds: the fewest and the most pixels of a picture.
            end_ids: tokens that end an answer.
        """
        text, vision = config.text_config, config.vision_config
        deep, unit = len(getattr(vision, "deepstack_visual_indexes", ())), vision.patch_size * vision.spatial_merge_size
        least, most = bounds or (self.min_pixels, MOST_PIXELS)
        options = {
            "patch": vision.patch_size, "merge": vision.spatial_merge_size, "deep": deep,
            "window": getattr(vision, "window_size", 0) // unit,
            "table": math.isqrt(getattr(vision, "num_position_embeddings", 0)),
            "min_pixels": least, "max_pixels": most, "image_token": config.image_token_id,
            "end_ids": tuple(end_ids or (_FIRST_SPECIAL + 2, _FIRST_SPECIAL)),
            "context": min(text.max_position_embeddings, MOST_TOKENS), "system": self.system,
            "only_users_show": self.only_users_show, "grounding": self.grounding,
        }  # fmt: skip
        if self.in_pixels:
            options["grounding_pixels"] = (unit, least, most)
        decoder = causal_decoder.decoder_net(text, axes=AXES, extra=[qwen_vl.DEEP.format(n) for n in range(deep)])
        nets = vision_net(options, text.hidden_size), causal_decoder.embed_net(text), decoder
        return Chat("qwen_vl", nets, tuple(sorted(options.items())))

    def save_reduced(self, folder: Path, seed: int = 0) -> None:
        """Write random weights of the reduced size with their processor, which tests publish and serve."""
        self.random("reduced", seed).save(folder)

    # ---- the processor -----------------------------------------------------------------------------------------------

    def _processor_of(self, folder: Path) -> tuple[ProcessorMixin, tuple[str, ...]]:
        """The processor that lies beside the weights, resizing with Pillow and bounded to ``MOST_PIXELS``, and a note
        where that is fewer than its own. Raises ExportFailed.
        """
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        images, tokenizer = transformers_chat.processor_parts(folder, Qwen2VLImageProcessorPil)
        with transformers_chat.reading_processor():
            given, _ = self._processor_class.get_processor_dict(folder, local_files_only=True)
            own = images.size["longest_edge"]
        notes: tuple[str, ...] = ()
        if own > MOST_PIXELS:
            images.size["longest_edge"] = MOST_PIXELS
            notes = (
                f"Pictures are read at no more than {MOST_PIXELS:,} pixels; the processor's own bound, {own:,}, would "
                "take gigabytes of memory a picture.",
            )
        template = given.get("chat_template") or tokenizer.chat_template
        return self._processor(tokenizer, images, template), notes

    def _processor(self, tokenizer: Any, images: Any, template: str | None) -> ProcessorMixin:
        module, name = self.video_processor
        videos = getattr(import_module(f"transformers.models.{module}"), name)()
        return self._processor_class(images, tokenizer, videos, chat_template=template or self.template)

    @property
    def _processor_class(self) -> type[ProcessorMixin]:
        import transformers

        return getattr(transformers, self.processor_class)

    def _images(self, config: Any, most: int) -> Any:
        """The released image processor, at the patches of ``config``."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        vision = config.vision_config
        return Qwen2VLImageProcessorPil(
            size={"shortest_edge": min(self.min_pixels, most), "longest_edge": most}, patch_size=vision.patch_size,
            merge_size=vision.spatial_merge_size, image_mean=list(self.mean), image_std=list(self.std),
        )  # fmt: skip


def vision_net(options: Mapping[str, Any], width: int) -> Net:
    """The vision network of pictures with as many patches: what :mod:`.qwen_vision` describes.

    Args:
        options: of the prompt's ``Reader``.
        width: of the decoder's embeddings.
    """
    numbers = 3 * options["patch"] ** 2
    if options["window"]:
        length = (options["window"] * options["merge"]) ** 2
        inputs: tuple[Tensor, ...] = (
            Tensor("pixels", "UINT8", (-1, length, numbers)), Tensor("position_ids", "INT64", (-1, length, 2)),
            Tensor("order", "INT64", (-1,)),
        )  # fmt: skip
    else:
        inputs = (
            Tensor("pixels", "UINT8", (-1, numbers)), Tensor("position_ids", "INT64", (-1, 2)),
            Tensor("table_ids", "INT64", (-1, 4)), Tensor("table_weights", "FP32", (-1, 4)),
        )  # fmt: skip
    names = ("image_embeds", *(qwen_vl.DEEP.format(n) for n in range(options["deep"])))
    return Net("vision", inputs, tuple(Tensor(name, "FP32", (-1, width)) for name in names), 1)


def special_ids(config: Any) -> dict[str, int]:
    """The special tokens, where the token of pictures has the id that ``config`` gives it."""
    first = config.image_token_id - _SPECIAL.index(qwen_vl.PICTURE)
    return {token: first + n for n, token in enumerate(_SPECIAL)}


def token_ids(first: int) -> dict[str, int]:
    """The fields of a configuration that name special tokens, where the first of these has the id ``first``."""
    fields = {
        "image_token_id": qwen_vl.PICTURE, "video_token_id": "<|video_pad|>",
        "vision_start_token_id": qwen_vl.SEEN_START, "vision_end_token_id": qwen_vl.SEEN_END,
    }  # fmt: skip
    return {name: first + _SPECIAL.index(token) for name, token in fields.items()}


def _tokenizer(config: Any) -> Any:
    """A small tokenizer with the true special tokens."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_pairs.byte_pairs(special_ids(config))), eos_token=qwen_vl.END,
        pad_token=qwen_vl.TEXT_END,
    )  # fmt: skip


def sizes(
    text: Mapping[str, Any], vision: Mapping[str, Any], first: int = _FIRST_SPECIAL, most: int = MOST_PIXELS
) -> SimpleNamespace:
    """The fields of a configuration, by the library's names, for environments without it.

    Args:
        first: id of the first special token.
        most: pixels of a picture.
    """
    return SimpleNamespace(
        text_config=SimpleNamespace(**text), vision_config=SimpleNamespace(**vision), most_pixels=most,
        image_token_id=token_ids(first)["image_token_id"],
    )  # fmt: skip
