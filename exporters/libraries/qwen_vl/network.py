"""A network of Qwen's vision-language models: its three graphs beside transformers' model and processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_chat
from tritonvision.exporters.libraries.chat_network import Parts, WritingNetwork, end_ids
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.vlm import qwen_vl

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

    from tritonvision.exporters.libraries.qwen_vl import QwenVL

AXES = 3  # of a position: time, height, width
BATCH = "a batch of both"
_SIDE = 8  # units of a side of the pictures that random weights are calibrated with
_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position
_DEEP = 0.5  # standard deviation of the rows that a random deep stack adds


class QwenNetwork(WritingNetwork):
    """transformers' model is the reference; the reference pipeline adds its processor and its ``generate``."""

    def __init__(
        self, family: QwenVL, model: PreTrainedModel, processor: ProcessorMixin, source: str = "", **facts: Any
    ):
        """``facts`` are further attributes of :class:`Network`."""
        size = processor.image_processor.size
        point = family.point(model.config, (size["shortest_edge"], size["longest_edge"]), end_ids(model))
        super().__init__(model, processor, point, source, **facts)
        self._family = family
        self._mean, self._std = processor.image_processor.image_mean, processor.image_processor.image_std
        self.decoding = {"axes": AXES, "extra": [qwen_vl.DEEP.format(n) for n in range(self._options["deep"])]}

    def parts(self, model: PreTrainedModel) -> Parts:
        """See :meth:`WritingNetwork.parts`."""
        return Parts(model.model.visual, model.model.language_model, model.lm_head)

    def export_vision(self, path: Path) -> None:
        """See :meth:`WritingNetwork.export_vision`."""
        import torch

        net = self.entry_points[0].nets[0]
        given = self.examples("vision")[BATCH]
        names = [tensor.name for tensor in net.outputs]
        many = {"pixels": "windows", "position_ids": "windows"} if self._options["window"] else {}
        dynamic = {tensor.name: {1: many.get(tensor.name, "patches")} for tensor in net.inputs}
        dynamic |= {name: {1: "units"} for name in ("order", *names)}
        pixels = [torch.from_numpy(given[tensor.name]) for tensor in net.inputs]
        vision = self._family.vision(self._model.model.visual, self._mean, self._std)
        export_onnx(vision, pixels, path, [*given], names, dynamic)

    def vision_tensors(self, model: PreTrainedModel, inputs: Mapping[str, np.ndarray], dtype: torch.dtype) -> Tensors:
        """See :meth:`WritingNetwork.vision_tensors`."""
        values, grids = self.library_inputs(inputs, dtype)
        seen = model.model.visual(values, grid_thw=grids)
        names = [tensor.name for tensor in self.entry_points[0].nets[0].outputs]
        rows = [seen.pooler_output, *getattr(seen, "deepstack_features", ())]
        batch = len(inputs["pixels"])
        return {n: v.reshape(batch, -1, v.shape[-1]).numpy() for n, v in zip(names, rows, strict=True)}

    def library_inputs(self, inputs: Mapping[str, np.ndarray], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """``pixel_values`` and ``image_grid_thw`` of the library for inputs of the graph ``vision``."""
        import torch

        patch, merge = self._options["patch"], self._options["merge"]
        rows, places = ([*inputs[name]] for name in ("pixels", "position_ids"))
        if self._options["window"]:  # take the units out of their windows, in order
            rows, places = (
                [
                    some.reshape(-1, merge * merge, some.shape[-1])[order]
                    for some, order in zip(given, inputs["order"], strict=True)
                ]
                for given in (rows, places)
            )
        grids = [[1, *(some.reshape(-1, 2).max(0) + 1)] for some in places]
        pixels = torch.from_numpy(np.concatenate([some.reshape(-1, patch, patch, 3) for some in rows]))
        mean, std = (torch.tensor(v, dtype=dtype) for v in (self._mean, self._std))
        seen = ((pixels.to(dtype) / 255 - mean) / std).permute(0, 3, 1, 2)
        frames = seen[:, :, None].expand(-1, -1, self._model.config.vision_config.temporal_patch_size, -1, -1)
        return frames.flatten(1), torch.tensor(np.array(grids))

    def predict(self, sample: Mapping[str, Any], parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; ``sample`` has ``messages`` and ``pictures``, see the prompt's ``Reader``."""
        tokenizer = self._processor.tokenizer
        return transformers_chat.answer(self._model, tokenizer, self.read(sample), parameters, self._options["end_ids"])

    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """What the library's processor makes of ``messages`` and ``pictures``: ``input_ids``, ``pixel_values``, ..."""
        text = self._processor.apply_chat_template(sample["messages"], add_generation_prompt=True)
        images = [Image.fromarray(picture) for picture in sample["pictures"]]
        return dict(self._processor(text=[text], images=images or None, return_tensors="pt"))

    def vision_examples(self) -> dict[str, Tensors]:
        """See :meth:`WritingNetwork.vision_examples`."""
        unit = self._options["patch"] * self._options["merge"]
        photo, noise = sample_pictures.photo()[: 6 * unit, : 9 * unit], sample_pictures.noise(6 * unit, 9 * unit)
        one, other, narrow = (
            qwen_vl.vision_inputs(picture, self._options) for picture in (photo, noise, photo[:, : 5 * unit])
        )
        both = {name: np.concatenate([one[name], other[name]]) for name in one}
        return {"a piece of the photo": one, "a narrow one": narrow, BATCH: both}

    def calibrate(self, said: Sequence[int], seed: int) -> None:
        """Make the embeddings of pictures differ, and let the random model generate the tokens ``said`` only, in place.

        The rows of a random merger are nearly the same for every picture: they are standardised over structured ones.
        """
        import torch

        side = _SIDE * self._options["patch"] * self._options["merge"]
        visual = self._model.model.visual
        pictures = calibrate.structured_pictures(4, side, side, seed)
        each = [qwen_vl.vision_inputs(picture, self._options) for picture in pictures]
        inputs = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        values, grids = self.library_inputs(inputs, torch.float32)
        if hasattr(visual, "pos_embed"):
            with torch.no_grad():
                visual.pos_embed.weight.mul_(_PLACES)
        mergers = [visual.merger, *getattr(visual, "deepstack_merger_list", ())]
        last = [merger.linear_fc2 if hasattr(merger, "linear_fc2") else merger.mlp[2] for merger in mergers]
        rows = calibrate.inputs_of(last, lambda shown: visual(shown, grid_thw=grids), values)
        for number, (layer, given) in enumerate(zip(last, rows, strict=True)):
            calibrate.standardise(layer, given, _DEEP if number else 1.0, torch.zeros(len(layer.weight)))
        with torch.no_grad():
            picture = visual(values, grid_thw=grids).pooler_output
        causal_decoder.tune(self._model.model.language_model, self._model.lm_head, said, picture, seed)
