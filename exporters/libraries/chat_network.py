"""Reference networks of vision-language models: the graphs ``vision``, ``embed`` and ``decoder``, and ``generate``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tritonvision.ensembles.entry_points import Chat
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_chat, transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin


class Parts(NamedTuple):
    """Of a vision-language model.

    Attributes:
        tower: the vision network, whose attention can be set.
        text: the language model without its head.
        head: gives logits of its last hidden states.
    """

    tower: PreTrainedModel
    text: PreTrainedModel
    head: torch.nn.Module


class WritingNetwork(TorchNetwork):
    """A network of transformers, and the processor whose tokenizer is served.

    ``embed`` and ``decoder`` are those of :mod:`tritonvision.exporters.modules.causal_decoder`. A family gives
    :meth:`parts`, and of the graph ``vision`` :meth:`export_vision`, :meth:`vision_tensors` and
    :meth:`vision_examples`.

    Attributes:
        decoding: what :func:`~tritonvision.exporters.modules.causal_decoder.decoder_net` is told of the decoder.
    """

    packages = ("transformers", "tokenizers", "pillow")
    decoding: Mapping[str, Any] = {}

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, point: Chat, source: str = "", **facts: Any
    ):  # fmt: skip
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, (), source, **facts)
        self._processor = processor
        self.entry_points, self._options = (point,), dict(point.options)

    @abstractmethod
    def parts(self, model: PreTrainedModel) -> Parts:
        """Of ``model``: the reference or its copy in float64."""

    @abstractmethod
    def export_vision(self, path: Path) -> None:
        """Write the graph ``vision``."""

    @abstractmethod
    def vision_tensors(self, model: PreTrainedModel, inputs: Mapping[str, np.ndarray], dtype: torch.dtype) -> Tensors:
        """What the graph ``vision`` computes, by the library's own methods; called in inference mode."""

    @abstractmethod
    def vision_examples(self) -> dict[str, Tensors]:
        """Inputs on which the graph ``vision`` is compared, see :meth:`Network.examples`."""

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``vision``, ``embed`` or ``decoder``."""
        _, text, head = self.parts(self._model)
        if role == "decoder":
            causal_decoder.export_decoder(text, head, path, **self.decoding)
        elif role == "embed":
            causal_decoder.export_embed(text.get_input_embeddings(), text.config, path)
        else:
            self.export_vision(path)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        dtype, model = torch.float64 if double else torch.float32, self.reference(double)
        _, text, head = self.parts(model)
        if role == "decoder":
            return causal_decoder.reference(text, head, inputs, dtype, extra=self.decoding.get("extra", ()))
        with torch.inference_mode():
            if role == "embed":
                return {"inputs_embeds": text.get_input_embeddings()(torch.from_numpy(inputs["input_ids"])).numpy()}
            return self.vision_tensors(model, inputs, dtype)

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`."""
        config = self.parts(self._model).text.config
        if role == "decoder":
            return causal_decoder.examples(config, **self.decoding)
        if role == "embed":
            return causal_decoder.embed_examples(config)
        return self.vision_examples()

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the tokenizer."""
        return {TOKENIZER: self._processor.tokenizer.backend_tokenizer.to_str().encode()}

    def save(self, folder: Path) -> None:
        """Write network and processor as ``save_pretrained`` does: a folder that the export takes as weights."""
        with transformers_weights.quiet():
            self._model.save_pretrained(folder)
            self._processor.save_pretrained(folder)


class ChatNetwork(WritingNetwork):
    """A model whose ``generate`` is the reference, over tiles of one size; the reference pipeline adds its processor.

    A family gives :meth:`parts`, :meth:`vision`, :meth:`image_embeds`, :meth:`tiles` and :meth:`read`.
    """

    @abstractmethod
    def vision(self) -> torch.nn.Module:
        """The graph ``vision``: uint8 ``[n,side,side,3]`` RGB to ``image_embeds`` float32 ``[n,tokens,H]``."""

    @abstractmethod
    def image_embeds(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """What :meth:`vision` computes, by the library's own methods; ``pixels`` ``[n,3,side,side]`` from 0 to 1."""

    @abstractmethod
    def tiles(self, picture: np.ndarray) -> np.ndarray:
        """Two tiles and more of RGB uint8 ``[h,w,3]``: uint8 ``[n,side,side,3]``, on which the graph is compared."""

    @abstractmethod
    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """What the library's processor makes of ``messages`` and ``pictures``: ``input_ids``, ``pixel_values``, ..."""

    @property
    def words(self) -> PreTrainedTokenizerBase:
        """What makes texts of the tokens of an answer."""
        return self._processor.tokenizer

    def export_vision(self, path: Path) -> None:
        """See :meth:`WritingNetwork.export_vision`."""
        import torch

        side = self._options["tile"]
        pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        export_onnx(self.vision(), pixels, path, ("pixels",), ("image_embeds",))

    def vision_tensors(self, model: PreTrainedModel, inputs: Mapping[str, np.ndarray], dtype: torch.dtype) -> Tensors:
        """See :meth:`WritingNetwork.vision_tensors`."""
        import torch

        rows = self.image_embeds(model, torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2).to(dtype) / 255)
        return {"image_embeds": rows.reshape(len(inputs["pixels"]), -1, rows.shape[-1]).numpy()}

    def predict(self, sample: Mapping[str, Any], parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; ``sample`` has ``messages`` and ``pictures``, see the prompt's ``Reader``.

        The vision network uses the library's default attention: the eager one takes 3 GB for the scores of 17 tiles.
        """
        tower = self.parts(self._model).tower
        tower.set_attn_implementation("sdpa")
        try:
            ends = self._options["end_ids"]
            return transformers_chat.answer(self._model, self.words, self.read(sample), parameters, ends)
        finally:  # back to eager attention, the reference of the graphs
            tower.set_attn_implementation("eager")

    def vision_examples(self) -> dict[str, Tensors]:
        """See :meth:`WritingNetwork.vision_examples`."""
        side = self._options["tile"]
        return {
            "two tiles of the photo": {"pixels": self.tiles(sample_pictures.photo()[:256])[:2]},
            "noise": {"pixels": sample_pictures.noise(side, side)[None]},
        }


def end_ids(model: PreTrainedModel) -> list[int]:
    """The tokens that end an answer, as the network's ``generation_config`` has them."""
    ends = model.generation_config.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends)
