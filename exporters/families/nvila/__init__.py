"""NVILA: tiles of a picture go through SigLIP, at one scale (Lite) or merged at three, into the prompt of Qwen2, which
writes. No library has this network: it is built of transformers' SigLIP and Qwen2 by the facts of VILA's published
code. What only a released checkpoint can show has not been compared with one: the ids of its special tokens, its chat
template where its folder brings none, and that its names of weights are those of the layout for Hugging Face (`-hf`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat
from tritonvision.exporters.contract import ReferencePipeline, Tensors, Weights
from tritonvision.exporters.families.nvila import configs, synthetic
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_chat
from tritonvision.exporters.libraries.chat_family import ChatFamily
from tritonvision.exporters.libraries.chat_network import ChatNetwork, Parts, end_ids
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.vlm import nvila, tiles

if TYPE_CHECKING:
    import torch

    from tritonvision.exporters.families.nvila.network import NVILAModel
    from tritonvision.exporters.families.nvila.reference import Processor
    from tritonvision.exporters.libraries.transformers_weights import Loaded

_REPOSITORIES = {"nvila": "NVILA-8B-hf", "nvila-lite-8b": "NVILA-Lite-8B-hf", "nvila-lite-2b": "NVILA-Lite-2B-hf"}
# Which of :mod:`.configs` has every part of an id.
REDUCED_AS = {"nvila": "reduced", "nvila-lite-8b": "reduced-lite", "nvila-lite-2b": "reduced-lite"}


class NVILA(ChatFamily):
    """Our network around transformers' towers; the reference of the prompt is written from the author's code."""

    name = "NVILA"
    license_notice = "NVILA's released weights may not be used commercially (CC BY-NC 4.0)."
    beside = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
    sometimes_beside = ("generation_config.json", "processor_config.json", "chat_template.jinja", "chat_template.json")
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "SiglipVisionModel(tiles).hidden_states[-2], a projector as VILA's mlp_downsample, "
        "Qwen2ForCausalLM.generate(inputs_embeds=..., do_sample=False)",
    )  # fmt: skip

    def model_class(self) -> Any:
        """See :meth:`TransformersFamily.model_class`: the folder says which of the two kinds it is."""
        from tritonvision.exporters.families.nvila.network import AnyNVILA

        return AnyNVILA

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        return (configs.point(configs.plain(entry.id)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"Efficient-Large-Model/{_REPOSITORIES[entry.id]}"

    def random_network(self, entry: Entry, weights: Weights) -> NVILANetwork:
        """See :meth:`Family.random_network`."""
        return NVILANetwork(*synthetic.random(configs.config(entry.id), weights.seed))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> NVILANetwork:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        return NVILANetwork(loaded.module, _processor_of(loaded.folder, loaded.module), **loaded.facts)


class NVILANetwork(ChatNetwork):
    """See :mod:`.network` and :mod:`.reference`."""

    def __init__(self, model: NVILAModel, processor: Processor, source: str = "", **facts: Any):
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, processor, configs.point(model.config, end_ids(model)), source, **facts)
        model.llm.generation_config = model.generation_config
        self._mean, self._std = processor.images.image_mean, processor.images.image_std

    def parts(self, model: NVILAModel) -> Parts:
        """See :meth:`ChatNetwork.parts`."""
        return Parts(model.vision_tower, model.llm.model, model.llm.lm_head)

    def vision(self) -> torch.nn.Module:
        """See :meth:`ChatNetwork.vision`."""
        from tritonvision.exporters.families.nvila import graphs

        return graphs.vision(self._model, self._mean, self._std)

    def image_embeds(self, model: NVILAModel, pixels: torch.Tensor) -> torch.Tensor:
        """See :meth:`ChatNetwork.image_embeds`, of one scale."""
        return model.project(model.features(self._normalised(pixels)))

    def tiles(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`ChatNetwork.tiles`."""
        return tiles.cut(picture, self._options["tile"], 1, 2)

    def read(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`ChatNetwork.read`; ``pictures`` are the tiles of each."""
        return self._processor(sample["messages"], sample["pictures"])

    def export_vision(self, path: Path) -> None:
        """See :meth:`WritingNetwork.export_vision`."""
        if self._options["scales"] == 1:
            super().export_vision(path)
            return
        import torch

        given = {name: torch.from_numpy(value) for name, value in self.examples("vision")["two pictures"].items()}
        axes = {"pixels": {1: "tiles"}, "places": {1: "blocks"}, "order": {1: "tokens"}, "image_embeds": {1: "tokens"}}
        export_onnx(self.vision(), [*given.values()], path, (*given,), ("image_embeds",), axes)

    def vision_tensors(self, model: NVILAModel, inputs: Mapping[str, np.ndarray], dtype: torch.dtype) -> Tensors:
        """See :meth:`WritingNetwork.vision_tensors`."""
        if self._options["scales"] == 1:
            return super().vision_tensors(model, inputs, dtype)
        import torch

        across = -(-model.side // model.ratio)
        found = []
        for pixels, places, order in zip(*(inputs[name] for name in ("pixels", "places", "order")), strict=True):
            # the second line of the first block comes when the first lines of all columns are through
            columns = int(np.flatnonzero(order == across)[0]) // across
            images = self._normalised(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype) / 255)
            found.append(model.embeddings(images, (len(places) // columns, columns)))
        return {"image_embeds": torch.stack(found).numpy()}

    def vision_examples(self) -> dict[str, Tensors]:
        """See :meth:`WritingNetwork.vision_examples`."""
        if self._options["scales"] == 1:
            return super().vision_examples()
        import tokenizers

        (text,) = self.assets("").values()
        reader = nvila.Reader(self._options, tokenizers.Tokenizer.from_str(text.decode()))
        photo = sample_pictures.photo()
        wide, mirrored = (dict(reader.vision_inputs(picture)) for picture in (photo[:256], photo[:256, ::-1].copy()))
        return {
            "a wide picture": wide,
            "a picture in one view": dict(reader.vision_inputs(photo, "low")),
            "two pictures": {name: np.concatenate([wide[name], mirrored[name]]) for name in wide},
        }

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (self._mean, self._std))
        return (pixels - mean) / std


def save_reduced(folder: Path, seed: int = 0, name: str = "reduced") -> None:
    """Write random weights of a reduced size with their processor, which tests publish and serve."""
    NVILANetwork(*synthetic.random(configs.config(name), seed), f"{name}, seed {seed}").save(folder)


def _processor_of(folder: Path, model: NVILAModel) -> Processor:
    """The processor that lies beside the weights, resizing with Pillow. Raises ExportFailed."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    images, tokenizer = transformers_chat.processor_parts(folder, SiglipImageProcessorPil)
    return synthetic.processor(tokenizer, images, model)


FAMILY = NVILA()
