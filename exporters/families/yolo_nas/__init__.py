"""YOLO-NAS detection, sizes s, m and l at 640 and 1280 pixels.

super-gradients, whose network this is, cannot be installed beside the exporter: it wants a numpy, a torch and an onnx
of 2023. So the network is written afresh (:mod:`.network`) with its parameter names, and the tests hold what
super-gradients 3.7.1 itself answered.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import DENSE_BOXES
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.yolo_nas import network as networks
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.libraries.ultralytics.load import sized
from tritonvision.exporters.modules import anchor_boxes, query_networks
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

MARGIN = 4  # pixels of each axis that super-gradients always pads: 636 of 640 show the picture
_GREY = 114
_SUFFIXES = (".pth", ".pt", ".safetensors")
_CLASSES = "heads.head1.cls_pred.weight"
_UNUSED = ".rbr_reparam."  # room for fused blocks, which a checkpoint of super-gradients keeps from the start
_TRAINED = 640
_SIDE = 224  # pixels of the pictures from which batch norms take their statistics
_GAIN = 0.15  # of the last batch norm of a random residual branch; more lets rounding errors grow with depth


class YoloNas(TorchFamily):
    """The network of super-gradients, whose checkpoints it takes."""

    name = "YOLO-NAS"
    head = DENSE_BOXES
    refusals = Refusals(size="")
    activation_memory = 0.16  # the catalogue counts weights before blocks are fused: the graph has two thirds of them
    # float32 itself is off by up to 0.005 pixels from float64 at 192 x 256, fused or not
    tolerance = Tolerance({"boxes": 1e-2, "scores": 3e-5, "class_ids": 0}, {"pixels": 0.03, "scores": 5e-5})
    reference_pipeline = ReferencePipeline(
        "torchvision", "0.28.0",
        "the steps of super-gradients 3.7.1, which cannot be installed beside it: model.predict(rgb, conf=, iou=, "
        "nms_top_k=, max_predictions=, multi_label_per_box=False)",
    )  # fmt: skip
    license_notice = (
        "The released YOLO-NAS weights are under Deci's licence, not Apache 2.0: no commercial use, no service to "
        "others, no redistribution. Only the code is free."
    )

    def architecture(self, entry: Entry) -> str:
        """super-gradients' name of one id: ``yolo_nas_s`` for ``yolonass-640``."""
        return f"yolo_nas_{_letter(entry)}"

    def resize(self, entry: Entry) -> Resize:
        """Letterbox with a margin, and one scale for both axes."""
        return Resize("letterbox", *entry.fixed_size, (("gain", "common"), ("margin", MARGIN)))

    def random_network(self, entry: Entry, weights: Weights) -> YoloNasNetwork:
        """See :meth:`Family.random_network`."""
        labels = weights.labels or query_networks.coco_names()
        entry = sized(entry, weights)
        model = _random(entry, len(labels), weights.seed, self.resize(entry))
        return YoloNasNetwork(model, entry.fixed_size, labels=labels, entry_points=self.entry_points(entry))

    def official_network(self, entry: Entry, weights: Weights) -> YoloNasNetwork:
        """The released weights cannot be fetched by a program. Raises ExportFailed."""
        name = f"{self.architecture(entry)}_coco.pth"
        raise ExportFailed(
            f"The official weights {name} are no longer where super-gradients fetched them from.",
            hint=f"Have them from somebody who kept {name}, and name it with --weights PATH; or --weights random.",
        )

    def network_from_file(self, entry: Entry, weights: Weights) -> YoloNasNetwork:
        """See :meth:`Family.network_from_file`."""
        path = files.user_file(weights, _SUFFIXES)
        found = checkpoints.read(path)
        model = _load(found.tensors, entry, self.architecture(entry))
        own = checkpoints.class_names(found.settings.get("class_names"))
        count = model.heads.head1.cls_pred.out_channels
        coco = query_networks.coco_names()
        usual = coco if count == len(coco) else tuple(f"class {i}" for i in range(count))
        named = own if own is not None and len(own) == count else None
        known = named is not None or count == len(coco)
        labels, notes = files.labels_of(weights, named or usual, known)
        entry, side = sized(entry, weights), max(entry.fixed_size)
        if side != _TRAINED and weights.size is None:
            notes += (f"YOLO-NAS was trained with pictures of {_TRAINED} pixels a side; this id gives it {side}.",)
        return YoloNasNetwork(
            model, entry.fixed_size, labels=labels, source=path.name, sha256=files.sha256(path),
            notes=(*found.notes, *notes), entry_points=self.entry_points(entry),
        )  # fmt: skip


class YoloNasNetwork(TorchNetwork):
    """One detector: the network with all its branches is the reference, in the graph they are fused."""

    packages = ("torchvision",)

    def __init__(self, model: torch.nn.Module, size: tuple[int, int], **facts: Any):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(model, **facts)
        self._size = size

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        graph = _graph(networks.fuse(copy.deepcopy(self._model)), *self._size)
        example = torch.zeros(2, *self._size, 3, dtype=torch.uint8)
        export_onnx(graph, example, path, ("pixels",), tuple(tensor.name for tensor in DENSE_BOXES.tensors))

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. The best anchors by score, ties by anchor. The class is that of the largest
        logit: float32 gives every logit over 17 the score 1.
        """
        boxes, logits = self._decoded(inputs["pixels"], double)
        boxes, best, class_ids = boxes.numpy(), logits.max(2).values.sigmoid().numpy(), logits.argmax(2).int().numpy()
        order = np.argsort(-best, axis=1, kind="stable")[:, : anchor_boxes.CANDIDATES]
        return {
            "boxes": np.take_along_axis(boxes, order[..., None], axis=1),
            "scores": np.take_along_axis(best, order, axis=1),
            "class_ids": np.take_along_axis(class_ids, order, axis=1),
        }

    def _decoded(self, pixels: np.ndarray, double: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """super-gradients' ``pred_bboxes [B,anchors,4]`` of uint8 pixels, and the logits ``[B,anchors,classes]`` of its
        ``pred_scores``.
        """
        import torch

        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float64 if double else torch.float32) / 255
        boxes, classes = [], []
        with torch.inference_mode():
            levels = self.reference(double)(images)
            for stride, (bins, logits) in zip(networks.STRIDES, levels, strict=True):
                height, width = logits.shape[2:]
                shares = bins.reshape(len(bins), 4, networks.BINS, height * width).permute(0, 2, 3, 1).softmax(1)
                numbers = torch.arange(networks.BINS, dtype=images.dtype)
                sides = (shares * numbers[None, :, None, None]).sum(1)
                y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
                centres = torch.stack([x, y], -1).reshape(-1, 2).to(images.dtype)
                boxes.append(torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1) * stride)
                classes.append(logits.flatten(2).permute(0, 2, 1))
        return torch.cat(boxes, 1), torch.cat(classes, 1)

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. super-gradients neither clips boxes nor chooses classes: that is done here."""
        import torch
        from torchvision.ops import batched_nms, nms

        pixels, scale, (left, top) = _prepared(sample, *self._size)
        boxes, logits = (part[0] for part in self._decoded(pixels[None]))
        scores, class_ids = logits.sigmoid().max(1)
        (kept,) = torch.nonzero(scores > parameters["confidence"], as_tuple=True)
        kept = kept[scores[kept].argsort(descending=True, stable=True)[: parameters["max_candidates"]]]
        boxes, scores, class_ids = boxes[kept], scores[kept], class_ids[kept]
        if parameters["class_agnostic_nms"]:
            kept = nms(boxes, scores, parameters["iou_threshold"])
        else:
            kept = batched_nms(boxes, scores, class_ids, parameters["iou_threshold"])
        kept = kept[: parameters["max_detections"]]
        if parameters["classes"] is not None:
            kept = kept[torch.isin(class_ids[kept], torch.tensor(parameters["classes"], dtype=torch.int64))]
        corners = (boxes[kept].numpy() - np.array([left, top] * 2, dtype=np.float32)) * np.float32(1 / scale)
        limits = np.array([*sample.shape[1::-1]] * 2, dtype=np.float32)
        return {
            "boxes": corners.clip(0, limits).astype(np.float32), "scores": scores[kept].numpy(),
            "class_ids": class_ids[kept].numpy().astype(np.int32),
        }  # fmt: skip


def _prepared(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """super-gradients' ``DetectionLongestMaxSizeRescale`` and ``DetectionCenterPadding``: pixels, scale, corner."""
    h, w = picture.shape[:2]
    scale = min((height - MARGIN) / h, (width - MARGIN) / w)
    if scale != 1:
        picture = cv2.resize(picture, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_LINEAR)
    down, across = height - picture.shape[0], width - picture.shape[1]
    around = ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    return np.pad(picture, around, constant_values=_GREY), scale, (across // 2, down // 2)


def _graph(network: torch.nn.Module, height: int, width: int) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to the canonical tensors of dense boxes."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.decoded = anchor_boxes.decoder(networks.STRIDES, height, width, networks.BINS)

        def forward(self, pixels):
            levels = self.network(pixels.permute(0, 3, 1, 2).float() / 255)
            sides, logits = (torch.cat([part.flatten(2) for part in level], 2) for level in zip(*levels, strict=True))
            return self.decoded(sides, logits)[:3]

    return Graph().eval()


def _random(entry: Entry, classes: int, seed: int, resize: Resize) -> torch.nn.Module:
    """The true architecture with random weights. Batch norms take the statistics of structured pictures."""
    import torch

    pictures = calibrate.structured_pictures(4, _SIDE, _SIDE, seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = networks.build(networks.ARCHITECTURES[_letter(entry)], classes)
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the statistics are those of one batch
                last = name.endswith((".cv2.post_bn", ".cv2.bn")) and ".bottlenecks." in name
                layer.weight.uniform_(0.9, 1.1).mul_(_GAIN if last else 1)
                layer.bias.normal_(0, 0.05)
        model.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
        model.eval()
    heads = [getattr(model.heads, f"head{level}") for level in (1, 2, 3)]
    anchor_boxes.calibrate(
        model, [head.reg_pred for head in heads], [head.cls_pred for head in heads],
        lambda: _graph(model, *entry.fixed_size), resize, seed,
    )  # fmt: skip
    return model


def _load(tensors: Mapping[str, torch.Tensor], entry: Entry, name: str) -> torch.nn.Module:
    """The network with the tensors of a checkpoint; the number of classes is that of its heads. Raises ExportFailed."""
    architecture = networks.ARCHITECTURES[_letter(entry)]
    state = checkpoints.unwrapped(tensors, networks.build(architecture, 1).state_dict().keys())
    heads = state.get(_CLASSES)
    model = networks.build(architecture, len(heads) if heads is not None and heads.ndim == 4 else 1)
    state = {name: value for name, value in state.items() if _UNUSED not in f".{name}"}
    checkpoints.load_into(
        model, state, name,
        "They are those that super-gradients saves, of this size, before its blocks are fused: "
        f"{name}_coco.pth or ckpt_best.pth.",
    )  # fmt: skip
    return model


def _letter(entry: Entry) -> str:
    """The size of one id: ``s`` for ``yolonass-640``."""
    return entry.id.removeprefix("yolonas")[0]


FAMILY = YoloNas()
