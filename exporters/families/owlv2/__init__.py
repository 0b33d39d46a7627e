"""OWLv2; the reference is transformers' ``Owlv2ForObjectDetection`` behind its ``Owlv2Processor``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import CLASSES_OF_REQUESTS, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.owlv2 import graphs, synthetic
from tritonvision.exporters.families.owlv2.graphs import CONTEXT, EMBEDS, IDS, IMAGE_OUTPUTS, PIXELS
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import torch_env, transformers_processors
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import SEVERAL
from tritonvision.pictures import size_of
from tritonvision.python_backend.compositions import open_vocabulary
from tritonvision.python_backend.images import padded_square

if TYPE_CHECKING:
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

# The config.json of each on the hub, as far as it differs from the library's defaults.
_CONFIGS: dict[str, dict[str, Any]] = {
    "owlv2-base-patch14": {"vision_config": {"image_size": 960}},
    "owlv2-large-patch14": {
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {
            "image_size": 1008, "patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16,
        },
    },
}  # fmt: skip
# The catalogue's "base-patch14" has patches of 16; nobody has released another.
_REPOSITORIES = {
    "owlv2-base-patch14": "google/owlv2-base-patch16-ensemble",
    "owlv2-large-patch14": "google/owlv2-large-patch14-ensemble",
}


def point(side: int = 960, patch: int = 16, width: int = 512) -> Composition:
    """The entry point over networks for pictures of ``side`` pixels, patches of ``patch`` pixels and embeddings of
    ``width`` numbers; the defaults are those of base.
    """
    count = (side // patch) ** 2
    dims = {"boxes": (count, 4), "class_embeds": (count, width)}
    emitted = tuple(Tensor(name, "FP32", dims.get(name, (count,))) for name in IMAGE_OUTPUTS)
    image = Net("image", (Tensor(PIXELS, "FP32", (side, side, 3)),), emitted, instances=1)
    text = Net("text", (Tensor(IDS, "INT64", (CONTEXT,)),), (Tensor(EMBEDS, "FP32", (width,)),), instances=1)
    return Composition(
        name="open-vocabulary",
        version=1,
        task=open_vocabulary.TASK,
        nets=(image, text),
        extra_inputs=(Tensor("examples", "STRING", (-1,), optional=True),),
        outputs=(
            Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)),
            IMAGE_SIZE,
        ),
        options=(("side", side), ("context", CONTEXT)),
        size=(side, side),
    )  # fmt: skip


def point_of(config: Owlv2Config) -> Composition:
    """The entry point over networks of that configuration."""
    return point(config.vision_config.image_size, config.vision_config.patch_size, config.text_config.hidden_size)


class OWLv2(TransformersFamily):
    """Classes in words or as boxes of examples; pictures padded with black to a square."""

    name = "OWLv2"
    class_name = "Owlv2ForObjectDetection"
    refusals = CLASSES_OF_REQUESTS
    tolerance = Tolerance(
        {"boxes": 4e-5, "class_embeds": 3e-5, "shift": 2e-5, "scale": 1e-5, "objectness": 5e-5, EMBEDS: 5e-5},
        answers={"pixels": 0.01, "scores": 1e-4},
        relative=frozenset({*IMAGE_OUTPUTS, EMBEDS}),
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "Owlv2ForObjectDetection(**Owlv2Processor(texts, image)), then post_process_grounded_object_detection",
    )  # fmt: skip
    fp32_layers = ("box_head",)

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over two graphs."""
        facts = _CONFIGS[entry.id]
        vision, text = facts["vision_config"], facts.get("text_config", {})
        return (point(vision["image_size"], vision.get("patch_size", 16), text.get("hidden_size", 512)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return _REPOSITORIES[entry.id]

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> Owlv2Config:
        """See :meth:`TransformersFamily.config_of`."""
        return config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> OWLv2Network:
        """See :meth:`Family.random_network`."""
        return OWLv2Network(synthetic.random(config(entry), weights.seed))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> OWLv2Network:
        """See :meth:`TransformersFamily.network`."""
        if (point_of(loaded.module.config),) != self.entry_points(entry):
            raise ExportFailed(
                f"The weights are those of another size than {entry.id}.",
                hint=f"They must have the sizes of {_REPOSITORIES[entry.id]}.",
            )
        network = OWLv2Network(loaded.module, **loaded.facts)
        transformers_processors.beside(weights, network.processor.image_processor)
        return network


class OWLv2Network(TorchNetwork):
    """One model: transformers' is the reference; the reference pipeline adds its processor."""

    packages = ("transformers", "open_clip_torch", "tokenizers")

    def __init__(self, model: Owlv2ForObjectDetection, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        graphs.attend_fast(model)
        super().__init__(model, **facts)
        self._seen: dict[bytes, torch.Tensor] = {}

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``image`` or ``text``.

        The former is traced with one picture, because attention over two takes gigabytes; the batch stays dynamic.
        """
        import torch

        if role == "text":
            example = torch.from_numpy(graphs.ids(["a cat", "two dogs"]))
            export_onnx(graphs.text_graph(self._model), example, path, (IDS,), (EMBEDS,))
        else:
            side = self._model.config.vision_config.image_size
            example = torch.zeros(1, side, side, 3)
            export_onnx(graphs.image_graph(self._model), example, path, (PIXELS,), IMAGE_OUTPUTS)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        model = self.reference(double)
        with torch.inference_mode():
            if role == "text":
                features = model.owlv2.get_text_features(torch.from_numpy(inputs[IDS])).pooler_output
                return {EMBEDS: (features / features.norm(dim=-1, keepdim=True)).numpy()}
            dtype = torch.float64 if double else torch.float32
            rows = [self._boxes(model, torch.from_numpy(one[None]).to(dtype)) for one in inputs[PIXELS]]
        return {name: np.concatenate([row[name] for row in rows]) for name in IMAGE_OUTPUTS}

    @staticmethod
    def _boxes(model: Owlv2ForObjectDetection, pixels: torch.Tensor) -> Tensors:
        """One picture through the parts of ``Owlv2ForObjectDetection.forward`` that do not depend on texts."""
        feature_map = model.image_embedder(graphs.normalised(pixels))[0]
        features = feature_map.flatten(1, 2)
        head = model.class_head
        return {
            "boxes": query_networks.corners(model.box_predictor(features, feature_map).numpy()),
            "class_embeds": model.class_predictor(features)[1].numpy(),
            "shift": head.logit_shift(features)[..., 0].numpy(),
            "scale": (head.elu(head.logit_scale(features)) + 1)[..., 0].numpy(),
            "objectness": model.objectness_predictor(features).numpy(),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; for texts only. Boxes are clipped; suppression is torchvision's."""
        import torch
        from transformers.models.owlv2.modeling_owlv2 import Owlv2ObjectDetectionOutput

        texts, size = parameters["texts"], size_of(sample)
        processed = self.processor(text=[texts], images=sample, return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            feature_map = self._feature_map(processed["pixel_values"])
            features = feature_map.flatten(1, 2)
            asked = self._model.owlv2.get_text_features(processed[IDS], processed["attention_mask"]).pooler_output
            queries = (asked / asked.norm(dim=-1, keepdim=True))[None]
            logits, _ = self._model.class_predictor(features, queries, processed[IDS][None, :, 0] > 0)
            found = Owlv2ObjectDetectionOutput(
                logits=logits, pred_boxes=self._model.box_predictor(features, feature_map)
            )
        (result,) = self.processor.post_process_grounded_object_detection(found, parameters["confidence"], [size])
        boxes, scores, labels = (result[name].numpy() for name in ("boxes", "scores", "labels"))
        return query_networks.limited(boxes, scores, labels, size, parameters)

    def _feature_map(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Cached for the last pictures: the encoder takes seconds, and each picture is asked several questions."""
        picture = pixel_values.numpy().tobytes()
        if picture not in self._seen:
            if len(self._seen) == 8:
                self._seen.clear()
            self._seen[picture] = self._model.image_embedder(pixel_values)[0]
        return self._seen[picture]

    @cached_property
    def processor(self) -> Owlv2Processor:
        """The library's, with the tokenizer that is exported."""
        from transformers import Owlv2ImageProcessor, Owlv2Processor

        side = self._model.config.vision_config.image_size
        return Owlv2Processor(Owlv2ImageProcessor(size={"height": side, "width": side}), graphs.tokenizer())

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: a picture with padding, and noise beside it; texts of any length."""
        if role == "text":
            texts = ["x", "a photo of an astronaut", "12 dogs & cats, on the grass of a park!"]
            ids = graphs.ids(texts)
            return {"a text": {IDS: ids[:1]}, "texts": {IDS: ids}}
        side = self._model.config.vision_config.image_size
        pictures = sample_pictures.views()["wide-512x260"], sample_pictures.noise(97, 333)
        pixels = np.stack([padded_square.resize(picture, side) for picture in pictures])
        return {"the photo": {PIXELS: pixels[:1]}, "the photo and noise": {PIXELS: pixels}}

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`."""
        suppressed = {"confidence": 0.1, "iou_threshold": 0.1, "class_agnostic_nms": True}
        return [{"texts": [*SEVERAL[:3]], **suppressed}]

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`."""
        import tokenizers

        file = tokenizers.Tokenizer.from_str(graphs.tokenizer().backend_tokenizer.to_str())
        file.no_padding()  # the processor changes the padding of the tokenizer, which would be exported with it
        return {open_vocabulary.TOKENIZER: file.to_str().encode()}


def config(entry: Entry) -> Owlv2Config:
    """The configuration of one id."""
    torch_env.import_torchvision()
    from transformers import Owlv2Config

    return Owlv2Config(**copy.deepcopy(_CONFIGS[entry.id]))


FAMILY = OWLv2()
