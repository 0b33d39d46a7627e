"""ResNet 18 to 152, single and multi-label; the reference is timm's network with timm's eval transform."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.heads import CLASSES
from tritonvision.ensembles.resize import Resize
from tritonvision.errors import ExportFailed
from tritonvision.exporters import calibrate, torch_tools
from tritonvision.exporters import weights as files
from tritonvision.exporters.family import Family, Network, Oracle, Tolerance, Weights

if TYPE_CHECKING:
    import torch

TAG = "a1_in1k"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values in 0..1


class ResNet(Family):
    """timm's ``resnetNN.a1_in1k``: bicubic to 224 / 0.95, centre crop, ImageNet mean and std."""

    name = "ResNet"
    head = CLASSES
    tolerance = Tolerance({"logits": 1e-4, "scores": 1e-5})
    oracle = Oracle("timm", "1.0.31", "create_transform(**resolve_data_config(network.pretrained_cfg)), then network")

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of timm's eval transform."""
        return Resize("crop", *entry.input_size, (("interpolation", "bicubic"), ("percent", 95)))

    def build(self, entry: Entry, weights: Weights) -> ResNetNetwork:
        """The classifier of one id. Raises ExportFailed when the weights cannot be had or are of something else."""
        torch_tools.import_torchvision()
        if weights.kind == "random":
            labels = weights.labels or _imagenet_names()
            network = _random(entry, len(labels), weights)
            note = "Random weights, calibrated only to carry signal: what it sees means nothing."
            return ResNetNetwork(
                network, weights.multi_label, labels=labels, source=f"{entry.id}, seed {weights.seed}", notes=(note,)
            )
        notes: tuple[str, ...] = ()
        if weights.kind == "official":
            repository = f"timm/{entry.id}.{TAG}"
            path, source = files.hub_file(repository, "model.safetensors"), repository
        else:
            path = files.user_file(weights, (".safetensors", ".pth"))
            source = path.name
        network = _load(entry, files.state_dict(path))
        if weights.kind == "official":
            own = _imagenet_names()
        else:
            own = tuple(f"class {i}" for i in range(network.num_classes))
            notes = () if weights.labels else ("The weights do not name their classes; --labels FILE does.",)
        labels = files.class_names(weights, own)
        sha256 = files.sha256(path)
        return ResNetNetwork(network, weights.multi_label, labels=labels, source=source, sha256=sha256, notes=notes)


class ResNetNetwork(Network):
    """One classifier: timm's module as the reference, timm's transform before it as the oracle."""

    def __init__(self, network: torch.nn.Module, multi_label: bool, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        super().__init__(**facts, multi_label=multi_label, versions=torch_tools.versions("timm"))
        self._network = network.eval()

    def export(self, path: Path) -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        _, height, width = self._network.pretrained_cfg["input_size"]
        example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        graph = _graph(self._network, self.multi_label)
        torch_tools.export_onnx(graph, example, path, ("pixels",), tuple(t.name for t in CLASSES.tensors))

    @cached_property
    def _double(self) -> torch.nn.Module:
        return copy.deepcopy(self._network).double()

    def tensors(self, pixels: np.ndarray, double: bool = False) -> dict[str, np.ndarray]:
        """See :meth:`Network.tensors`."""
        import torch

        dtype = torch.float64 if double else torch.float32
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype) / 255
        mean, std = (torch.tensor(v, dtype=dtype).view(3, 1, 1) for v in (MEAN, STD))
        return self._answer((images - mean) / std, self._double if double else self._network)

    def predict(self, picture: np.ndarray, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See :meth:`Network.predict`."""
        image = self._transform(Image.fromarray(picture))[None]
        answer = {name: value[0] for name, value in self._answer(image, self._network).items()}
        if parameters["function"] is None:
            scores = answer["scores"]
        else:
            scores = _activate(answer["logits"], parameters["function"])
        order = np.argsort(-scores, kind="stable")
        return {"scores": scores, "class_ids": order[scores[order] >= parameters["confidence"]].astype(np.int32)}

    def _answer(self, images: torch.Tensor, network: torch.nn.Module) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            logits = network(images).numpy()
        return {"logits": logits, "scores": _activate(logits, "sigmoid" if self.multi_label else "softmax")}

    @cached_property
    def _transform(self):
        from timm.data import create_transform, resolve_data_config

        return create_transform(**resolve_data_config(self._network.pretrained_cfg))


def _activate(logits: np.ndarray, function: str) -> np.ndarray:
    import torch

    values = torch.from_numpy(logits)
    return {"softmax": lambda v: v.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda v: v}[function](values).numpy()


def _graph(network: torch.nn.Module, multi_label: bool) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to logits and scores, with mean and std inside."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1))

        def forward(self, pixels):
            logits = self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
            return logits, logits.sigmoid() if multi_label else logits.softmax(1)

    return Graph()


def _create(entry: Entry, class_count: int, **options: Any) -> torch.nn.Module:
    import timm

    return timm.create_model(f"{entry.id}.{TAG}", pretrained=False, num_classes=class_count, **options).eval()


def _load(entry: Entry, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """timm's network with ``state``; the class count is that of its ``fc`` layer. Raises ExportFailed."""
    wrong = ExportFailed(
        f"The weights are not those of {entry.id}.",
        hint="Their names must be timm's (conv1, bn1, layer1 to layer4, fc), their depth that of the id.",
    )
    if "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise wrong
    network = _create(entry, len(state["fc.weight"]))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise wrong from error
    return network


def _random(entry: Entry, class_count: int, weights: Weights) -> torch.nn.Module:
    """The true architecture with random weights whose logits differ between classes and between pictures.

    Batch norms take the statistics of structured pictures and noise; those that close a residual branch, which timm
    starts at zero, get a gain of 0.15, so that all layers matter and depth does not turn rounding into chaos.
    """
    import torch

    height, width = entry.input_size
    pictures = calibrate.structured_pictures(12, height, width, weights.seed)
    noise = np.random.default_rng(weights.seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    images = (torch.from_numpy(np.concatenate([pictures, noise])).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(weights.seed)
        network = _create(entry, class_count, zero_init_last=False)
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # one batch, whole statistics
                layer.weight.fill_(0.15 if name.endswith(_last_norm(entry)) else 1)
        network.train()(images)
        network.eval()
        bias = torch.randn(class_count, dtype=torch.float64)
    (rows,) = calibrate.inputs_of([network.fc], network, images[: len(pictures)])
    calibrate.standardise(network.fc, rows, 0.7, bias - 4 if weights.multi_label else bias)
    _assert_signal(network, images)
    return network


def _last_norm(entry: Entry) -> str:
    """Name of the batch norm that closes a residual branch: of basic blocks (18, 34) the second, else the third."""
    return "bn2" if entry.id in ("resnet18", "resnet34") else "bn3"


def _assert_signal(network: torch.nn.Module, images: torch.Tensor) -> None:
    """Raise ExportFailed unless pictures get different best classes and these stand out."""
    import torch

    with torch.inference_mode():
        logits = network(images)
    standing_out = (logits.max(1).values - logits.median(1).values).min()
    if len(set(logits.argmax(1).tolist())) < min(3, logits.shape[1]) or standing_out < 2:
        raise ExportFailed("The random network carries no signal.", hint="Try another --seed.")


def _imagenet_names() -> tuple[str, ...]:
    """The 1000 class names of ImageNet as torchvision gives them, each once."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


FAMILY = ResNet()
