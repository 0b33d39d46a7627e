"""Detectors of ultralytics with its ``Detect`` head: their graph, their reference pipeline, their family class.

Networks whose head extends ``Detect`` extend these three, as in :mod:`.segment`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import DENSE_BOXES
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Family, ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.modules import anchor_boxes, query_networks
from tritonvision.exporters.modules.anchor_boxes import CANDIDATES

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

Further = Callable[["torch.nn.Module"], "torch.nn.Module"]

FINAL = 300  # detections a picture of a one-to-one head, ultralytics' own number


class UltralyticsNetwork(TorchNetwork):
    """One detector: ultralytics' model is the reference, ``YOLO.predict`` the reference pipeline.

    Attributes:
        further: makes the module that gives the graph's tensors beyond those of dense boxes, see
            :func:`detection_graph`.
    """

    packages = ("ultralytics",)
    head = DENSE_BOXES
    further: Further | None = None

    def __init__(self, yolo: YOLO, size: tuple[int, int], **facts: Any):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(copy.deepcopy(yolo.model), **facts)  # a copy, because predict() fuses its own model
        self._yolo = yolo
        self._size = size
        self._fused: dict[bool, torch.nn.Module] = {}

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        height, width = self._size
        graph = detection_graph(copy.deepcopy(self._model).fuse(verbose=False), height, width, self.further)
        example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        export_onnx(graph, example, path, ("pixels",), tuple(t.name for t in self.head.tensors))

    def reference(self, double: bool = False) -> torch.nn.Module:
        """The module as ultralytics predicts with it: batch norms are fused into convolutions."""
        if double not in self._fused:
            self._fused[double] = copy.deepcopy(super().reference(double)).fuse(verbose=False)
        return self._fused[double]

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. ultralytics' own decoding, then the best anchors by score, ties by anchor."""
        import torch

        images = torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2).to(torch.float64 if double else torch.float32)
        with torch.inference_mode():
            return self.canonical(*self.reference(double)(images / 255))

    def canonical(self, output: Any, raw: Mapping[str, torch.Tensor]) -> Tensors:
        """The canonical tensors of what ultralytics' network gives: ``[B, 4 + classes, anchors]``, and what that was
        decoded from, where ``scores`` are logits ``[B, classes, anchors]``.
        """
        return best_anchors(output.transpose(1, 2).numpy(), raw["scores"].transpose(1, 2).numpy())

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. ``max_candidates`` has no counterpart in ultralytics and is not used."""
        return boxes_of(self.ask(sample, parameters))

    def ask(self, picture: np.ndarray, parameters: Mapping[str, Any], **options: Any) -> Results:
        """ultralytics' answer for RGB uint8 ``[h,w,3]``; ``options`` are further ones of its ``predict``."""
        bgr = np.ascontiguousarray(picture[..., ::-1])
        (result,) = self._yolo.predict(
            bgr, imgsz=list(self._size), rect=False, conf=parameters["confidence"], iou=parameters["iou_threshold"],
            max_det=parameters["max_detections"], agnostic_nms=parameters["class_agnostic_nms"],
            classes=parameters["classes"], device="cpu", save=False, verbose=False, **options,
        )  # fmt: skip
        return result


def best_anchors(predictions: np.ndarray, logits: np.ndarray) -> Tensors:
    """The canonical tensors of ultralytics' decoded ``[B, anchors, 4 + classes + rest]``.

    If there are further columns, they are returned as ``rest [B, K, rest]``. The class is that of the largest of
    ``logits [B, anchors, classes]``, from which the scores come: float32 gives every logit over 17 the score 1. Where
    only scores are known, they are given for logits.
    """
    classes, rest = np.split(predictions[..., 4:], [logits.shape[2]], axis=2)
    scores = classes.max(2)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :CANDIDATES]
    found = {
        "boxes": np.take_along_axis(query_networks.corners(predictions[..., :4]), order[..., None], axis=1),
        "scores": np.take_along_axis(scores, order, axis=1),
        "class_ids": np.take_along_axis(logits.argmax(2).astype(np.int32), order, axis=1),
    }
    return found | ({"rest": np.take_along_axis(rest, order[..., None], axis=1)} if rest.size else {})


def boxes_of(result: Results) -> Tensors:
    """The public outputs of dense boxes."""
    found = result.boxes.data.numpy()
    return {
        "boxes": found[:, :4].astype(np.float32),
        "scores": found[:, 4].astype(np.float32),
        "class_ids": found[:, 5].astype(np.int32),
    }


class UltralyticsDetector(Family):
    """A family whose ids read ``<name><size>-<pixels>`` and whose networks end in ultralytics' ``Detect`` head."""

    head = DENSE_BOXES
    refusals = Refusals(size="")
    network = UltralyticsNetwork
    tolerance = Tolerance({"boxes": 1e-3, "scores": 1e-5, "class_ids": 0})
    reference_pipeline = ReferencePipeline(
        "ultralytics", "8.4.190", "YOLO(weights).predict(bgr, imgsz=(H, W), rect=False, conf=, iou=, max_det=)"
    )

    def __init__(self, name: str, stem: str, activation_memory: float = Family.activation_memory):
        """``name`` as the catalogue spells it; ``stem`` as ultralytics does, without the size letter."""
        self.name = name
        self.stem = stem
        self.activation_memory = activation_memory
        self.license_notice = (
            f"{name} weights and code are Ultralytics' under AGPL-3.0: who serves them to others owes them the source, "
            "unless a licence was bought."
        )

    def architecture(self, entry: Entry) -> str:
        """ultralytics' name of one id, e.g. ``yolo11n`` for ``yolov11n-640``."""
        return self.stem + entry.id.removeprefix(self.name.lower().split()[0]).rsplit("-", 1)[0]

    def resize(self, entry: Entry) -> Resize:
        """Letterbox to the id's own size."""
        return Resize("letterbox", *entry.fixed_size)

    def prepare(self) -> None:
        """See :meth:`Family.prepare`."""
        load.prepare()

    def random_network(self, entry: Entry, weights: Weights) -> UltralyticsNetwork:
        """See :meth:`Family.random_network`."""
        entry = load.sized(entry, weights)
        labels = weights.labels or load.coco_names()
        yolo = load.architecture(self.architecture(entry), len(labels), weights.seed)
        self.calibrate(yolo.model, entry, weights.seed)
        yolo.model.names = dict(enumerate(labels))
        return self.network(yolo, entry.fixed_size, labels=labels, entry_points=self.entry_points(entry))

    def official_network(self, entry: Entry, weights: Weights) -> UltralyticsNetwork:
        """See :meth:`Family.official_network`."""
        path = load.official(self.architecture(entry))
        found, sized = load.checkpoint(path, self.architecture(entry)), load.sized(entry, weights)
        notes: tuple[str, ...] = ()
        if found.size not in (None, max(sized.fixed_size)):
            notes = (
                f"{path.name} was trained with pictures of {found.size} pixels a side, and no weights of "
                f"{entry.id} for its own {max(sized.fixed_size)} were released.",
            )
        return self._around(found, path, sized, weights, notes)

    def network_from_file(self, entry: Entry, weights: Weights) -> UltralyticsNetwork:
        """See :meth:`Family.network_from_file`. Without ``--size`` its pictures have the size of its training."""
        path = files.user_file(weights, (".pt",))
        found = load.checkpoint(path, self.architecture(entry))
        sized = load.sized(entry, weights)
        notes: tuple[str, ...] = ()
        if weights.size is None and found.size is not None:
            side = load.side(found.size)
            sized = replace(entry, input_size=(side, side))
            if sized != entry:
                notes = (
                    f"Its pictures have {side} pixels a side, as the weights were trained; "
                    f"--size {entry.fixed_size[0]} gives them the id's.",
                )
        return self._around(found, path, sized, weights, notes)

    def _around(
        self, found: load.Trained, path: Path, entry: Entry, weights: Weights, notes: tuple[str, ...] = ()
    ) -> UltralyticsNetwork:  # fmt: skip
        """The network around a checkpoint of ``path``, for pictures of the size of ``entry``. Raises ExportFailed."""
        labels = load.named(found, weights.labels)
        found.yolo.model.names = dict(enumerate(labels))
        return self.network(
            found.yolo, entry.fixed_size, labels=labels, source=path.name, sha256=files.sha256(path), notes=notes,
            entry_points=self.entry_points(entry),
        )  # fmt: skip

    def calibrate(self, model: torch.nn.Module, entry: Entry, seed: int) -> None:
        """Give the random ``model`` weights that carry signal, in place."""
        _calibrate(model, entry.fixed_size, self.resize(entry), seed)


def _calibrate(model: torch.nn.Module, size: tuple[int, int], resize: Resize, seed: int) -> None:
    """Standardise the head's last layers, then shift the class biases so that the photo has 20 to 40 boxes."""
    detect = model.model[-1]
    heads = detect.one2one if detect.end2end else detect.one2many
    box_layers, class_layers = ([branch[-1] for branch in heads[name]] for name in ("box_head", "cls_head"))
    anchor_boxes.calibrate(
        model, box_layers, class_layers, lambda: detection_graph(copy.deepcopy(model), *size), resize, seed,
        suppressed=not detect.end2end,
    )  # fmt: skip


def detection_graph(
    model: torch.nn.Module, height: int, width: int, further: Further | None = None
) -> torch.nn.Module:  # fmt: skip
    """``model``, changed in place: uint8 ``[B,H,W,3]`` RGB to the canonical tensors of dense boxes.

    Of a one-to-one head (``end2end``) these are its final boxes, of others the candidates of a non-maximum suppression.
    Only the best are decoded (:mod:`tritonvision.exporters.modules.anchor_boxes`): the graph then costs a little less
    than ultralytics' own, which decodes all anchors and applies a sigmoid to every class.

    Args:
        further: called with ultralytics' head, gives a module for further tensors; its inputs are the feature maps,
            finest first, and the chosen anchors, int64 ``[B,K]``.
    """
    import torch
    from torch import nn

    class Canonical(nn.Module):
        def __init__(self, detect: nn.Module):
            super().__init__()
            self.f, self.i = detect.f, detect.i  # the layers whose outputs it reads, as ultralytics numbers them
            heads = detect.one2one if detect.end2end else detect.one2many
            self.box_branches, self.class_branches = heads["box_head"], heads["cls_head"]
            strides, most = [int(s) for s in detect.stride], FINAL if detect.end2end else CANDIDATES
            self.decoded = anchor_boxes.decoder(strides, height, width, detect.reg_max, most, final=detect.end2end)
            self.further = further(detect) if further else None

        def forward(self, features):
            logits = torch.cat([b(x).flatten(2) for b, x in zip(self.class_branches, features, strict=True)], 2)
            sides = torch.cat([b(x).flatten(2) for b, x in zip(self.box_branches, features, strict=True)], 2)
            boxes, scores, class_ids, best = self.decoded(sides, logits)
            return boxes, scores, class_ids, *(self.further(features, best) if self.further else ())

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            model.model[-1] = Canonical(model.model[-1])
            self.network = model

        def forward(self, pixels):
            return self.network(pixels.permute(0, 3, 1, 2).float() / 255)

    return Graph().eval()
