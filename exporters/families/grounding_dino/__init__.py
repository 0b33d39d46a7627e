"""Grounding DINO; the reference is transformers' network, its processor and its post-processing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.ensembles.tensors import IMAGE_SIZE, VALID_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import CLASSES_OF_REQUESTS, Network, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.grounding_dino import graph, synthetic
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import torch_env, transformers_processors
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import proposals, query_networks
from tritonvision.exporters.modules.normalise import IMAGENET, normalised, without_padding
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic.tokenizers import wordpiece
from tritonvision.pictures import size_of
from tritonvision.python_backend.compositions import phrase_grounding
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoProcessor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

SHORTEST, LONGEST = 800, 1333  # pixels, as it was evaluated
QUERIES = 900
_TOKENS = ((1, 16, phrase_grounding.MOST_TOKENS),)  # least, usual and most of a caption
# The Swin transformers of config.json on the hub, as far as they differ from the library's default.
_BACKBONES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "base": {
        "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12, "image_size": 384,
    },
}  # fmt: skip


def _sides(shortest: int, longest: int) -> resize.Bounds:
    """Bounds of the pixels: the coarsest level of the backbone has a cell for 32, and TensorRT builds for no fewer."""
    (_, *height), (_, *width) = resize.shortest_bounds(shortest, longest)
    return (32, height[0], height[1]), (32, width[0], width[1])


def point(shortest: int = SHORTEST, longest: int = LONGEST) -> Composition:
    """The entry point over pictures whose shorter side gets ``shortest`` pixels, the longer at most ``longest``."""
    return Composition(
        name="phrase-grounding",
        version=1,
        task=phrase_grounding.TASK,
        nets=(
            Net(
                "",
                (
                    Tensor("pixels", "UINT8", (-1, -1, 3), bounds=_sides(shortest, longest)),
                    VALID_SIZE,
                    Tensor("input_ids", "INT64", (-1,), bounds=_TOKENS),
                    Tensor("text_token_mask", "UINT8", (-1, -1), bounds=2 * _TOKENS),
                    Tensor("position_ids", "INT64", (-1,), bounds=_TOKENS),
                ),
                (Tensor("boxes", "FP32", (QUERIES, 4)), Tensor("token_scores", "FP32", (QUERIES, -1))),
                instances=1,
            ),
        ),
        outputs=(
            Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)),
            IMAGE_SIZE,
        ),
        options=(("shortest", shortest), ("longest", longest)),
    )  # fmt: skip


class GroundingDino(TransformersFamily):
    """Shorter side to 800, longer to at most 1333; classes as one caption; 900 queries that score its tokens."""

    name = "Grounding DINO"
    class_name = "GroundingDinoForObjectDetection"
    refusals = CLASSES_OF_REQUESTS
    beside = (TOKENIZER,)
    tolerance = Tolerance({"boxes": 1e-4, "token_scores": 1e-4}, {"pixels": 0.3, "scores": 1e-3})
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "GroundingDinoProcessor(rgb, [classes]), GroundingDinoForObjectDetection, "
        "post_process_grounded_object_detection over the tokens of one class at a time",
    )  # fmt: skip
    fp32_layers = ("bbox_embed", "reference_points")

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over one graph."""
        return (point(),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"IDEA-Research/{entry.id}"

    def random_network(self, entry: Entry, weights: Weights) -> GroundingDinoNetwork:
        """See :meth:`Family.random_network`."""
        return random_network(entry, weights.seed)

    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.network_from_file`."""
        if not ((weights.path or Path()) / TOKENIZER).is_file():
            raise ExportFailed(
                "The weights have no tokenizer.json beside them.",
                hint="Name the folder that model.save_pretrained and processor.save_pretrained wrote.",
            )
        return super().network_from_file(entry, weights)

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> GroundingDinoNetwork:
        """See :meth:`TransformersFamily.network`."""
        found, wanted = (c.backbone_config.embed_dim for c in (loaded.module.config, config(entry)))
        if found != wanted:
            raise ExportFailed(f"The weights are not those of {entry.id}.", hint="They are of another size.")
        assert loaded.folder is not None, "a bare file is refused"
        vocabulary = (loaded.folder / TOKENIZER).read_bytes()
        network = GroundingDinoNetwork(loaded.module, vocabulary, **loaded.facts)
        transformers_processors.beside(weights, network.processor.image_processor)
        return network


class GroundingDinoNetwork(TorchNetwork):
    """One detector: transformers' module is the reference; the reference pipeline adds its processor."""

    packages = ("transformers",)

    def __init__(
        self, model: GroundingDinoForObjectDetection, vocabulary: bytes, sides: tuple[int, int] = (SHORTEST, LONGEST),
        **facts: Any,
    ):  # fmt: skip
        """``vocabulary`` is the ``tokenizer.json``; ``facts`` are the attributes of :class:`Network`."""
        super().__init__(graph.as_released(model), **facts)
        self._vocabulary, self._sides = vocabulary, sides
        self._tokenizer = tokenizers.Tokenizer.from_str(vocabulary.decode())
        self._ranking: proposals.GraphRanking | None = None

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. Batch, height, width and the number of tokens are dynamic."""
        import torch

        height, width = graph.EXAMPLE
        text = self._text(("a dog", "a cup"), 2)
        examples = [
            torch.zeros(2, height, width, 3, dtype=torch.uint8),
            torch.tensor([[height, width], [height - 40, width - 70]], dtype=torch.int32),
            *(torch.from_numpy(value) for value in text.values()),
        ]
        inputs, outputs = (
            tuple(t.name for t in tensors) for tensors in (point().nets[0].inputs, point().nets[0].outputs)
        )
        dynamic = {
            "pixels": {1: "height", 2: "width"}, "input_ids": {1: "tokens"}, "position_ids": {1: "tokens"},
            "text_token_mask": {1: "tokens", 2: "tokens"}, "token_scores": {2: "tokens"},
        }  # fmt: skip
        with graph.traceable():
            export_onnx(graph.graph(self._model), examples, path, inputs, outputs, dynamic)
        self._ranking = proposals.GraphRanking(path)

    def _text(self, texts: Sequence[str], batch: int = 1) -> Tensors:
        """Inputs of the graph for a list of classes, the same for each of ``batch`` pictures."""
        caption = phrase_grounding.caption(self._tokenizer, texts)
        named = {"input_ids": caption.ids, "text_token_mask": caption.mask, "position_ids": caption.positions}
        return {name: np.repeat(value[None], batch, axis=0) for name, value in named.items()}

    def _ranked(self, model: torch.nn.Module, inputs: Mapping[str, np.ndarray]) -> AbstractContextManager[None]:
        """After an export, the reference ranks its proposals by the scores of the graph, see :mod:`proposals`."""
        scores = self._ranking(inputs) if self._ranking else None
        return proposals.ranked_by(model.model.encoder_output_class_embed, scores)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. The library computes the masks of the text itself.

        Pixels outside the valid size are zero after normalising, as the processor pads.
        """
        import torch

        model = self.reference(double)
        images = normalised(inputs["pixels"], IMAGENET, double)
        mask = without_padding(images, inputs["valid_size"])
        with torch.inference_mode(), self._ranked(model, inputs):
            found = model(images, torch.from_numpy(inputs["input_ids"]), pixel_mask=mask)
        tokens = inputs["input_ids"].shape[1]
        return {
            "boxes": query_networks.corners(found.pred_boxes.numpy()),
            "token_scores": found.logits[..., :tokens].sigmoid().numpy(),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. The processor answers with phrases; given the tokens of one class at a
        time, it gives the boxes of that class. It neither clips boxes nor applies non-maximum suppression.
        """
        import torch

        texts = parameters["texts"]
        pixels, valid_size = phrase_grounding.framed(resize.shortest(sample, *self._sides)[0])
        frame = dict(zip(("height", "width"), pixels.shape[:2], strict=True))
        inputs = self.processor(
            images=sample, text=[list(texts)], return_tensors="pt", input_data_format="channels_last", pad_size=frame
        )
        asked = {"pixels": pixels[None], "valid_size": np.array([valid_size], np.int32), **self._text(texts)}
        with torch.inference_mode(), self._ranked(self._model, asked):
            found = self._model(**inputs)
        of_class = torch.full((len(texts), *found.logits.shape[1:]), -torch.inf)
        for row, tokens in enumerate(self._spans(texts)):
            of_class[row, :, tokens] = found.logits[0, :, tokens]
        found.logits, found.pred_boxes = of_class, found.pred_boxes.expand(len(texts), -1, -1)
        results = self.processor.post_process_grounded_object_detection(
            found, inputs["input_ids"].expand(len(texts), -1), threshold=-1, text_threshold=1,
            target_sizes=[sample.shape[:2]] * len(texts),
        )  # fmt: skip
        scores, class_ids = torch.stack([result["scores"] for result in results]).max(0)
        least = max(v for v in (parameters["confidence"], parameters["text_threshold"]) if v is not None)
        kept = scores > least
        boxes, scores, class_ids = (values[kept].numpy() for values in (results[0]["boxes"], scores, class_ids))
        return query_networks.limited(boxes, scores, class_ids, size_of(sample), parameters)

    def _spans(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each class, from the positions of its characters in the processor's caption."""
        names = [text.strip().lower() for text in texts]
        offsets = self.processor.tokenizer(". ".join(names) + ".", return_offsets_mapping=True)["offset_mapping"]
        spans, start = [], 0
        for name in names:
            end = start + len(name)
            spans.append([i for i, (first, last) in enumerate(offsets) if start <= first < last <= end])
            start = end + 2
        return spans

    @cached_property
    def processor(self) -> GroundingDinoProcessor:
        """The library's processor, with the settings of the released weights."""
        from transformers import GroundingDinoProcessor, PreTrainedTokenizerFast
        from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
            GroundingDinoImageProcessorPil,
        )

        shortest, longest = self._sides
        special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
        return GroundingDinoProcessor(
            # the backend on Pillow, which serving can reproduce without torch; torchvision's rounds differently
            GroundingDinoImageProcessorPil(size={"shortest_edge": shortest, "longest_edge": longest}),
            PreTrainedTokenizerFast(tokenizer_object=self._tokenizer, **special),
        )

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: small pictures, which take one second; one of the true size takes twenty."""
        photo, _ = resize.shortest(sample_pictures.photo(), 230, LONGEST)
        both = np.stack([photo, sample_pictures.noise(*photo.shape[:2])])
        sizes = np.array([photo.shape[:2], (190, 150)], dtype=np.int32)
        strip, valid_size = phrase_grounding.framed(resize.shortest(sample_pictures.photo()[:40], 230, 500)[0])
        return {
            "the photo and noise": {"pixels": both, "valid_size": sizes, **self._text(("a dog", "a red cup"), 2)},
            "a strip": {
                "pixels": strip[None], "valid_size": np.array([valid_size], np.int32), **self._text(("an astronaut",)),
            },
        }  # fmt: skip

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`."""
        return {TOKENIZER: self._vocabulary}


def config(entry: Entry) -> GroundingDinoConfig:
    """The configuration of one id."""
    torch_env.import_torchvision()
    from transformers import GroundingDinoConfig, SwinConfig

    backbone = SwinConfig(out_indices=[2, 3, 4], **_BACKBONES[entry.id.removeprefix("grounding-dino-")])
    return GroundingDinoConfig(backbone_config=backbone, num_queries=QUERIES)


def random_network(entry: Entry, seed: int, sides: tuple[int, int] = (SHORTEST, LONGEST)) -> GroundingDinoNetwork:
    """The true architecture with random weights that find some thirty things on the photo at ``sides``."""
    vocabulary = wordpiece.tokenizer_json(synthetic.words())
    model = synthetic.network(config(entry), vocabulary, seed, sides)
    return GroundingDinoNetwork(model, vocabulary, sides)


FAMILY = GroundingDino()
