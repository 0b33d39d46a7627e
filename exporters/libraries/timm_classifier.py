"""Base of timm's classifiers: the reference is timm's network, the reference pipeline adds timm's eval transform.

A family gives timm's model names, the crop's percentage, and how random weights are drawn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, with_features
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES, EMBEDDINGS
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Network, NoSignal, ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import timm_files
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules import class_scores
from tritonvision.exporters.modules.normalise import normalised, normalising
from tritonvision.exporters.synthetic import calibrate
from tritonvision.publication import FEATURES

if TYPE_CHECKING:
    import torch


_SPREAD = 0.7  # standard deviation of each logit of random weights over pictures


class TimmClassifier(TorchFamily):
    """Classifiers of timm for square pictures.

    Attributes:
        mean, std: of the pixels in 0..1, by channel.
    """

    head = CLASSES
    tolerance = Tolerance({"logits": 1e-4, "scores": 1e-5, "embeddings": 2e-5}, {"embeddings": 1e-4})
    reference_pipeline = ReferencePipeline(
        "timm", "1.0.31", "create_transform(**resolve_data_config(network.pretrained_cfg)), then network"
    )
    refusals = Refusals(multi_label="")
    random_note = "Random weights, calibrated only to carry signal: what it sees means nothing."
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def timm_name(self, entry: Entry) -> str:
        """timm's ``architecture.tag`` of one id."""

    def arguments(self, entry: Entry) -> dict[str, Any]:
        """Arguments of timm's ``create_model`` for an architecture that has no name of its own."""
        return {}

    def percent(self, entry: Entry) -> float:
        """The crop's side as a percentage of the resized picture's shorter side: ``crop_pct``."""
        return 95

    @abstractmethod
    def redraw(self, network: torch.nn.Module, images: torch.Tensor, entry: Entry, seed: int) -> None:
        """Draw all weights but the last layer's so that each has an effect; ``images``: normalised, ``[B,3,H,W]``."""

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of timm's eval transform."""
        return Resize("crop", *entry.fixed_size, (("interpolation", "bicubic"), ("percent", self.percent(entry))))

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """Its classes, and its features: what the last layer reads."""
        return with_features(Chain(self.resize(entry), self.head))

    def random_network(self, entry: Entry, weights: Weights) -> TimmNetwork:
        """See :meth:`Family.random_network`."""
        labels = weights.labels or imagenet_names()
        return TimmNetwork(self._random(entry, len(labels), weights), labels, multi_label=weights.multi_label)

    def official_network(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.official_network`."""
        if entry.upstream_exists is False:
            return super().official_network(entry, weights)
        source = f"timm/{self.timm_name(entry)}"
        path = files.hub_file(source, "model.safetensors")
        network = self._load(entry, checkpoints.read(path).tensors, {})
        labels = files.class_names(weights, imagenet_names())
        return TimmNetwork(network, labels, source, multi_label=weights.multi_label, sha256=files.sha256(path))

    def network_from_file(self, entry: Entry, weights: Weights) -> TimmNetwork:
        """A checkpoint, or a folder as timm's ``save_for_hf`` writes it. Raises ExportFailed."""
        found = timm_files.read(weights, self.timm_name(entry).split(".")[0])
        network = self._load(entry, found.tensors, found.preparation)
        own = found.labels or tuple(f"class {i}" for i in range(network.num_classes))
        labels, unnamed = files.labels_of(weights, own, bool(found.labels))
        notes = found.notes + unnamed
        one = len(labels) == 1 and not weights.multi_label
        if one:
            notes += ("Its score is a sigmoid: the softmax of a single class is 1 for every picture.",)
        resize = timm_files.resize(network.pretrained_cfg)
        points: tuple[Chain, ...] = ()
        if resize != self.resize(entry):
            points = with_features(Chain(resize, self.head))
            notes += (f"Its pictures are prepared as its training says: {timm_files.told(resize)}.",)
        return TimmNetwork(
            network, labels, found.path.name, multi_label=weights.multi_label or one,
            sha256=files.sha256(found.path), notes=notes, entry_points=points,
        )  # fmt: skip

    def _create(self, entry: Entry, class_count: int, **more: Any) -> torch.nn.Module:
        import timm

        name, options = self.timm_name(entry), self.arguments(entry) | more
        return timm.create_model(name, pretrained=False, num_classes=class_count, **options).eval()

    def sized(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Arguments of ``create_model`` that follow from the shapes of ``tensors``, for families that have such."""
        return {}

    def _load(
        self, entry: Entry, tensors: Mapping[str, torch.Tensor], preparation: Mapping[str, Any]
    ) -> torch.nn.Module:  # fmt: skip
        """timm's network with ``tensors``; the class count is that of its last layer.

        Args:
            preparation: keys of timm's ``pretrained_cfg`` that replace those of the released weights.

        Raises:
            ExportFailed: the tensors are of another architecture; the sentence names the first that does not fit.
        """
        plain = self._create(entry, 1)
        tensors = checkpoints.unwrapped(tensors, plain.state_dict().keys())
        last = tensors.get(f"{plain.pretrained_cfg['classifier']}.weight")
        more = self.sized(entry, tensors)
        network = self._create(entry, len(last), **more) if last is not None and last.ndim == 2 else plain
        hint = f"Their names must be those of timm's {self.timm_name(entry).split('.')[0]}, their sizes the id's."
        checkpoints.load_into(network, tensors, entry.id, hint)
        network.pretrained_cfg = {**network.pretrained_cfg, **preparation}
        if "img_size" in more:
            network.pretrained_cfg["input_size"] = (3, *more["img_size"])
        return network

    def _random(self, entry: Entry, class_count: int, weights: Weights) -> torch.nn.Module:
        """The true architecture with random weights whose logits differ between classes and between pictures."""
        import torch

        height, width = entry.fixed_size
        pictures = calibrate.structured_pictures(12, height, width, weights.seed)
        noise = np.random.default_rng(weights.seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        images = normalised(np.concatenate([pictures, noise]), (self.mean, self.std))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(weights.seed)
            network = self._create(entry, class_count)
            self.redraw(network, images, entry, weights.seed)
            bias = torch.randn(class_count, dtype=torch.float64)
        last = network.get_classifier()
        (rows,) = calibrate.inputs_of([last], network, images[: len(pictures)])
        calibrate.standardise(last, rows, _SPREAD, bias - 4 if weights.multi_label else bias)
        _assert_signal(network, images)
        return network


class TimmNetwork(TorchNetwork):
    """One classifier: timm's module is the reference; the reference pipeline adds timm's transform."""

    packages = ("timm",)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        _, height, width = self._model.pretrained_cfg["input_size"]
        example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        graph = _graph(self._model, self.multi_label)
        outputs = tuple(tensor.name for tensor in (*CLASSES.tensors, *EMBEDDINGS.tensors))
        export_onnx(graph, example, path, ("pixels",), outputs)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        config = self._model.pretrained_cfg
        images = normalised(inputs["pixels"], (config["mean"], config["std"]), double)
        return self._answer(images, self.reference(double))

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        image = self._transform(Image.fromarray(sample))[None]
        answer = {name: value[0] for name, value in self._answer(image, self._model).items()}
        if role == FEATURES:
            return {"embeddings": answer["embeddings"]}
        return class_scores.answer(answer["logits"], answer["scores"], parameters)

    def _answer(self, images: torch.Tensor, network: torch.nn.Module) -> Tensors:
        import torch

        read: list[torch.Tensor] = []
        hook = network.get_classifier().register_forward_pre_hook(lambda _, given: read.append(given[0]))
        with torch.inference_mode():
            logits = network(images).numpy()
        hook.remove()
        scores = class_scores.activated(logits, "sigmoid" if self.multi_label else "softmax")
        return {"logits": logits, "scores": scores, "embeddings": read[0].numpy()}

    @cached_property
    def _transform(self):
        from timm.data import create_transform, resolve_data_config

        return create_transform(**resolve_data_config(self._model.pretrained_cfg))


def imagenet_names() -> tuple[str, ...]:
    """The 1000 class names of ImageNet as torchvision gives them, each once."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _graph(network: torch.nn.Module, multi_label: bool) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to logits, scores and what the last layer reads, with mean and std inside."""
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            config = network.pretrained_cfg
            self.network, self.normalising = network, normalising((config["mean"], config["std"]))

        def forward(self, pixels):
            seen = self.network.forward_features(self.normalising(pixels))
            features = self.network.forward_head(seen, pre_logits=True)
            logits = self.network.get_classifier()(features)
            return logits, logits.sigmoid() if multi_label else logits.softmax(1), features

    return Graph()


def _assert_signal(network: torch.nn.Module, images: torch.Tensor) -> None:
    """Raise NoSignal unless logits differ between pictures, and between the classes of most pictures.

    Measured by standard deviations, not by the margin of the best class: the expected margin depends on the number of
    classes.
    """
    import torch

    with torch.inference_mode():
        logits = network(images)
    between_pictures = logits.std(0).mean()
    between_classes = logits.std(1).median() if logits.shape[1] > 1 else between_pictures
    best = set(logits.argmax(1).tolist())
    if len(best) < min(3, logits.shape[1]) or between_pictures < _SPREAD / 2 or between_classes < _SPREAD / 2:
        raise NoSignal()
