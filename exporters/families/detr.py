"""DETR with a ResNet-50; the reference is transformers' network, its image processor and its post-processing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import QUERY_BOXES
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_processors as processors
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.modules.normalise import IMAGENET, Scale, normalised, without_padding
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from transformers import DetrConfig, DetrForObjectDetection
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    from tritonvision.exporters.libraries.transformers_weights import Loaded

SHORTEST, LONGEST = 800, 1333  # pixels, as DETR was evaluated
_NO_NAME = "N/A"  # what the official configuration calls a column without a class
_COCO_COLUMNS = 91
_HEAD = "class_labels_classifier.weight"
_STANDARD_SIZE = 320  # pixels at which random networks are standardised; the statistics hardly depend on the size
# Factors for random layers, by the end of their names: residual branches of the backbone, so that rounding errors do
# not grow with depth; the encoder's attention output; the decoder's cross attention, its queries and its output.
_GAINS = {"bn3": 0.15, ".self_attn.o_proj": 0.3, "encoder_attn.q_proj": 4.0, "encoder_attn.o_proj": 3.0}


class Detr(TransformersFamily):
    """Shorter side to 800, longer to at most 1333; 100 queries with a softmax over the classes and "no object"."""

    name = "DETR"
    activation_memory = 0.05  # most of its pixels are seen at a stride of 32
    class_name = "DetrForObjectDetection"
    head = QUERY_BOXES
    tolerance = Tolerance({"boxes": 1e-4, "scores": 1e-4, "class_ids": 0}, {"pixels": 0.05, "scores": 1e-4})
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "DetrImageProcessorPil()(rgb), DetrForObjectDetection, post_process_object_detection(threshold=)",
    )  # fmt: skip
    fp32_layers = ("bbox_predictor",)

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of the image processor; the size follows the picture."""
        return Resize("shortest", SHORTEST, LONGEST)

    def repository(self, entry: Entry) -> str:
        """The id is the hub's."""
        return entry.id

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> DetrConfig:
        """The official configuration with the class count of a bare file of tensors."""
        from transformers import DetrConfig

        return DetrConfig(num_labels=len(tensors[_HEAD]) - 1 if _HEAD in tensors else _COCO_COLUMNS)

    def random_network(self, entry: Entry, weights: Weights) -> DetrNetwork:
        """See :meth:`Family.random_network`."""
        model, names = _random(self.resize(entry), weights)
        return DetrNetwork(model, tuple(names), _processor(), labels=tuple(names.values()))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> DetrNetwork:
        """See :meth:`TransformersFamily.network`. Pictures are resized as the weights' own processor says."""
        names, named = _names(loaded.module.config)
        labels, notes = files.labels_of(weights, tuple(names.values()), named)
        processor = processors.beside(weights, _processor(), ("size", "image_mean", "image_std"))
        resize = Resize("shortest", *processors.sides(processor, ("shortest_edge", "longest_edge")))
        points: tuple[Chain, ...] = ()
        if resize != self.resize(entry):
            points = (Chain(resize, self.head),)
            notes += (f"Its pictures are resized to {resize.height}, at most {resize.width}, as its processor says.",)
        facts = loaded.facts | {"notes": (*loaded.notes, *notes)}
        return DetrNetwork(loaded.module, tuple(names), processor, labels=labels, entry_points=points, **facts)


class DetrNetwork(TorchNetwork):
    """One detector: transformers' module is the reference; the reference pipeline adds its processor."""

    packages = ("transformers", "timm")

    def __init__(
        self, model: DetrForObjectDetection, columns: tuple[int, ...], processor: DetrImageProcessorPil, **facts: Any
    ):
        """``columns`` of the class logits by class id; ``facts`` are the attributes of :class:`Network`."""
        super().__init__(model, **facts)
        self._columns = columns
        self._processor = processor

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. Batch, height and width are dynamic."""
        import torch

        height, width = 256, 320
        pixels = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        sizes = torch.tensor([[height, width], [height - 40, width - 70]], dtype=torch.int32)
        outputs = tuple(tensor.name for tensor in QUERY_BOXES.tensors)
        export_onnx(
            _graph(self._model, self._columns, self._scale), (pixels, sizes), path, ("pixels", "valid_size"), outputs,
            {"pixels": {1: "height", 2: "width"}},
        )  # fmt: skip

    @property
    def _scale(self) -> Scale:
        return tuple(self._processor.image_mean), tuple(self._processor.image_std)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. Pixels outside the valid size are zero after normalising, as the processor
        pads.
        """
        import torch

        images = normalised(inputs["pixels"], self._scale, double)
        mask = without_padding(images, inputs["valid_size"])
        with torch.inference_mode():
            found = self.reference(double)(pixel_values=images, pixel_mask=mask)
        probabilities = found.logits.softmax(2).numpy()[..., list(self._columns)]
        corners, scores = query_networks.corners(found.pred_boxes.numpy()), probabilities.max(2)
        order = np.argsort(-scores, axis=1, kind="stable")
        return {
            "boxes": np.take_along_axis(corners, order[..., None], axis=1),
            "scores": np.take_along_axis(scores, order, axis=1),
            "class_ids": np.take_along_axis(probabilities.argmax(2).astype(np.int32), order, axis=1),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Columns that stand for no class are left out of the processor's answer.

        The processor does not clip boxes; public boxes are clipped, so this method clips them.
        """
        import torch

        inputs = self._processor(sample, return_tensors="pt", input_data_format="channels_last")
        size = [sample.shape[:2]]
        with torch.inference_mode():
            found = self._model(**inputs)
            (result,) = self._processor.post_process_object_detection(found, parameters["confidence"], size)
        boxes, scores, columns = (result[name].numpy() for name in ("boxes", "scores", "labels"))
        boxes = boxes.clip(0, [*sample.shape[1::-1]] * 2)
        return query_networks.answer(boxes, scores, columns, self._columns, parameters)


def _processor() -> DetrImageProcessorPil:
    """The image processor of the released weights."""
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    # the backend on Pillow, which serving can reproduce without torch; torchvision's differs by a grey level
    return DetrImageProcessorPil(size={"shortest_edge": SHORTEST, "longest_edge": LONGEST})


def _graph(model: DetrForObjectDetection, columns: tuple[int, ...], scale: Scale) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB and int32 ``[B,2]`` (height, width) without the padding, to canonical query boxes."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model
            self.register_buffer("mean", 255 * torch.tensor(scale[0]))
            self.register_buffer("std", 255 * torch.tensor(scale[1]))
            self.register_buffer("columns", torch.tensor(columns))

        def forward(self, pixels, valid_size):
            height, width = pixels.shape[1:3]
            rows = torch.arange(height)[None, :, None] < valid_size[:, 0, None, None]
            mask = rows & (torch.arange(width)[None, None, :] < valid_size[:, 1, None, None])
            images = (pixels.float() - self.mean) / self.std * mask[..., None]
            found = self.network(pixel_values=images.permute(0, 3, 1, 2), pixel_mask=mask.long(), return_dict=True)
            probabilities = found.logits.softmax(2).index_select(2, self.columns)
            scores, class_ids = probabilities.max(2)
            scores, best = scores.topk(found.pred_boxes.shape[1], dim=1)
            boxes = found.pred_boxes.gather(1, best[:, :, None].repeat(1, 1, 4))
            half = boxes[..., 2:] / 2
            corners = torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], 2)
            return corners, scores, class_ids.gather(1, best).int()

    return Graph().eval()


def _names(config: DetrConfig) -> tuple[dict[int, str], bool]:
    """Name by column of the class logits, and whether they come from the configuration."""
    labels = {int(column): str(name) for column, name in config.id2label.items()}
    if any(name != f"LABEL_{column}" for column, name in labels.items()):
        return {column: name for column, name in sorted(labels.items()) if name != _NO_NAME}, True
    if len(labels) == _COCO_COLUMNS:
        return query_networks.coco_columns(), True
    return {column: f"class {column}" for column in sorted(labels)}, False


def _random(pre: Resize, weights: Weights) -> tuple[DetrForObjectDetection, dict[int, str]]:
    """The true architecture with random weights that find some thirty things on the photo."""
    import torch
    from transformers import DetrConfig, DetrForObjectDetection

    names = dict(enumerate(weights.labels)) if weights.labels else query_networks.coco_columns()
    config = DetrConfig(num_labels=max(names) + 1)
    model = transformers_weights.random(DetrForObjectDetection, config, weights.seed)
    _standardise(model, list(names), weights.seed)
    head, images = model.class_labels_classifier, normalised(pre(sample_pictures.photo())[0][None], IMAGENET)
    (states,) = query_networks.seen_by([head], lambda: model(images))
    with torch.no_grad():
        logits = head(states[0].float())[:, list(names)].double().numpy()
        # the logit of "no object" at which the best class of a query gets the threshold
        levels = np.log(np.maximum(np.exp(logits.max(1)) / 0.4 - np.exp(logits).sum(1), 1e-30))
        head.bias[-1] = query_networks.cut(levels, logits.argmax(1), len(names))
    return model, names


def _standardise(model: DetrForObjectDetection, columns: list[int], seed: int) -> None:
    """Make queries differ from each other, and answers from picture to picture.

    With plain random weights, attention averages over hundreds of positions in every layer, so all tokens and all
    queries become nearly equal. Therefore features are centred, the encoder's attention is scaled down, and the
    attention of the decoder's queries is concentrated on few positions.
    """
    import torch

    views = [sample_pictures.views()[name] for name in ("photo", "odd-220x316", "no-face-noise-333x97")]
    pictures = [resize.stretch(view, _STANDARD_SIZE, _STANDARD_SIZE)[0] for view in views]
    pictures.extend(calibrate.structured_pictures(2, _STANDARD_SIZE, _STANDARD_SIZE, seed))
    images = normalised(np.stack(pictures), IMAGENET)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, layer in model.named_modules():
            for end, gain in _GAINS.items():
                if name.endswith(end):
                    layer.weight *= gain
    projection = model.model.input_projection
    boxes, head = model.bbox_predictor.layers[-1], model.class_labels_classifier
    features: list[torch.Tensor] = []
    calibrate.settle(model, lambda: features.extend(calibrate.inputs_of([projection], model, images)))
    calibrate.standardise(projection, features[0], 1.0, torch.zeros(projection.out_channels, dtype=torch.float64))
    states = query_networks.seen_by([boxes, head], lambda: model(images))
    calibrate.standardise(boxes, states[0].flatten(0, 1), 1.0, torch.randn(4, generator=generator, dtype=torch.float64))
    unnamed = torch.ones(head.out_features, dtype=torch.bool)
    unnamed[columns] = False
    bias = torch.randn(head.out_features, generator=generator, dtype=torch.float64)
    bias = bias.masked_fill(unnamed, query_networks.UNNAMED)
    calibrate.standardise(head, states[1].flatten(0, 1), 3.0, bias)
    with torch.no_grad():
        head.weight[-1] = 0  # "no object" is as likely everywhere


FAMILY = Detr()
