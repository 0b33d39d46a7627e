"""YOLO-World v2: classes are texts of the request; the reference is ultralytics' ``YOLOWorld`` with open_clip's tower.

ultralytics downloads a fork of OpenAI's CLIP for the texts; open_clip's module has the same arithmetic and weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.yolo_world import checkpoint, synthetic, text_tower
from tritonvision.exporters.families.yolo_world.graph import graph
from tritonvision.exporters.families.yolo_world.text_tower import IDS, WIDTH
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import open_clip_vocabulary
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.libraries.ultralytics import detect, load
from tritonvision.exporters.modules import anchor_boxes
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import SEVERAL
from tritonvision.python_backend.compositions import text_guided_boxes
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.vocabulary.text_encodings import EMBEDS, NETWORK

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLOWorld

PIXELS, QUERIES = "pixels", "queries"
_OF_EACH = {"scores": "FP32", "class_ids": "INT32"}  # box
_FOUND = ("boxes", *_OF_EACH)
_LARGE = 40  # million parameters from which one process runs the detector
_CLASSES = ((1, 80, text_guided_boxes.MOST_CLASSES),)  # least, usual and most


def point(height: int = 640, width: int = 640, instances: int = 2) -> Composition:
    """The entry point over a detector for pictures of that size, in so many processes."""
    size = (height, width)
    count = min(anchor_boxes.CANDIDATES, sum((height // stride) * (width // stride) for stride in (8, 16, 32)))
    read = (Tensor(PIXELS, "UINT8", (*size, 3)), Tensor(QUERIES, "FP32", (-1, WIDTH), bounds=_CLASSES))
    found = (Tensor("boxes", "FP32", (count, 4)), *(Tensor(n, t, (count,)) for n, t in _OF_EACH.items()))
    image = Net("image", read, found, instances=instances)
    text = Net(
        NETWORK, (Tensor(IDS, "INT64", (text_guided_boxes.CONTEXT,)),), (Tensor(EMBEDS, "FP32", (WIDTH,)),), instances=1
    )
    return Composition(
        name="text-guided-boxes",
        version=1,
        task=text_guided_boxes.TASK,
        nets=(image, text),
        outputs=(
            Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)),
            IMAGE_SIZE,
        ),
        options=(("height", height), ("width", width)),
        size=size,
    )  # fmt: skip


class YOLOWorldFamily(TorchFamily):
    """ids read ``yolo-world-<size>``; the second generation of the detector, whose neck needs no picture for texts."""

    name = "YOLO-World"
    refusals = Refusals(labels="takes its classes from each request", size="")
    working_memory = 2_600_000_000  # the text tower, too: the catalogue counts the weights of the detector alone
    tolerance = Tolerance({"boxes": 1e-3, "scores": 1e-5, "class_ids": 0, EMBEDS: 8e-6}, answers={"pixels": 9e-3})
    reference_pipeline = ReferencePipeline(
        "ultralytics", "8.4.190",
        "YOLOWorld(weights).predict(bgr, imgsz=(H, W), rect=False, conf=, iou=, max_det=) with the txt_feats of "
        "open_clip's create_model('ViT-B-32', 'openai').encode_text(get_tokenizer('ViT-B-32')(texts)), normalised",
    )  # fmt: skip
    license_notice = (
        "YOLO-World's weights are under GPL-3.0, and under AGPL-3.0 as ultralytics distributes them: who serves them "
        "to others owes them the source, unless a licence was bought."
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over two graphs."""
        return (point(*entry.fixed_size, instances=1 if (entry.params_m or 0) > _LARGE else 2),)

    def architecture(self, entry: Entry) -> str:
        """ultralytics' name of one id, e.g. ``yolov8s-worldv2``."""
        return f"yolov8{entry.id.rpartition('-')[2]}-worldv2"

    def prepare(self) -> None:
        """See :meth:`Family.prepare`."""
        super().prepare()
        load.prepare()

    def random_network(self, entry: Entry, weights: Weights) -> YOLOWorldNetwork:
        """See :meth:`Family.random_network`."""
        entry = load.sized(entry, weights)
        yolo = load.architecture(self.architecture(entry), checkpoint.CLASSES, weights.seed)
        tower = text_tower.random(weights.seed)
        synthetic.signal(yolo.model, tower, entry.fixed_size, weights.seed)
        return YOLOWorldNetwork(yolo, tower, entry.fixed_size, entry_points=self.entry_points(entry))

    def official_network(self, entry: Entry, weights: Weights) -> YOLOWorldNetwork:
        """See :meth:`Family.official_network`."""
        return self._of_file(load.official(self.architecture(entry)), text_tower.official(), load.sized(entry, weights))

    def network_from_file(self, entry: Entry, weights: Weights) -> YOLOWorldNetwork:
        """See :meth:`Family.network_from_file`. The text tower is read from ``open_clip_model.safetensors`` beside the
        file, or fetched: a detector's checkpoint does not hold it.
        """
        path = files.user_file(weights, (".pt",))
        beside = path.with_name(text_tower.BESIDE)
        tower = text_tower.of_file(beside) if beside.is_file() else text_tower.official()
        return self._of_file(path, tower, load.sized(entry, weights))

    def _of_file(self, path: Path, tower: torch.nn.Module, entry: Entry) -> YOLOWorldNetwork:
        yolo = checkpoint.read(path, self.architecture(entry))
        return YOLOWorldNetwork(
            yolo, tower, entry.fixed_size, source=path.name, sha256=files.sha256(path),
            entry_points=self.entry_points(entry),
        )  # fmt: skip


class YOLOWorldNetwork(TorchNetwork):
    """One model: ultralytics' detector and its predict, open_clip's text tower."""

    packages = ("ultralytics", "open_clip_torch", "tokenizers")

    def __init__(self, yolo: YOLOWorld, tower: torch.nn.Module, size: tuple[int, int], **facts: Any):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(copy.deepcopy(yolo.model).fuse(verbose=False), **facts)  # predict() changes its own model
        self._yolo, self._size = yolo, size
        self._towers = {False: tower.eval()}

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``image`` or ``text``. Batch and number of classes are dynamic."""
        import torch

        if role == NETWORK:
            text_tower.export(self._towers[False], path)
            return
        example = torch.zeros(2, *self._size, 3, dtype=torch.uint8), self._asked(SEVERAL)[None].repeat(2, 1, 1)
        dynamic = {QUERIES: {1: "classes"}}
        export_onnx(graph(copy.deepcopy(self._model), *self._size), example, path, (PIXELS, QUERIES), _FOUND, dynamic)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. ultralytics' own decoding, then the best anchors by score, ties by anchor."""
        import torch

        with torch.inference_mode():
            if role == NETWORK:
                return {EMBEDS: text_tower.embeds(self._tower(double), torch.from_numpy(inputs[IDS])).numpy()}
            model, queries = self.reference(double), torch.from_numpy(inputs[QUERIES])
            model.model[-1].nc = queries.shape[1]
            dtype = torch.float64 if double else torch.float32
            images = torch.from_numpy(inputs[PIXELS]).permute(0, 3, 1, 2).to(dtype) / 255
            output, raw = model(images, txt_feats=queries)
        return detect.best_anchors(output.transpose(1, 2).numpy(), raw["scores"].transpose(1, 2).numpy())

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; without an ``iou_threshold`` ultralytics' own."""
        texts, yolo = parameters["texts"], self._yolo
        yolo.model.txt_feats = self._asked(texts)[None]
        yolo.model.model[-1].nc = len(texts)
        yolo.model.names = dict(enumerate(texts))
        yolo.predictor = None  # as YOLOWorld.set_classes does
        iou = {} if parameters["iou_threshold"] is None else {"iou": parameters["iou_threshold"]}
        (result,) = yolo.predict(
            np.ascontiguousarray(sample[..., ::-1]), imgsz=list(self._size), rect=False,
            conf=parameters["confidence"], max_det=parameters["max_detections"],
            agnostic_nms=parameters["class_agnostic_nms"], device="cpu", save=False, verbose=False, **iou,
        )  # fmt: skip
        return detect.boxes_of(result) | {"image_size": np.array(sample.shape[:2], dtype=np.int32)}

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: the photo, and noise beside it; one text, and texts of any length."""
        if role == NETWORK:
            return text_tower.examples()
        pictures = sample_pictures.photo(), sample_pictures.noise(97, 333)
        pixels = np.stack([resize.letterbox(picture, *self._size)[0] for picture in pictures])
        queries = np.stack([self._asked(SEVERAL).numpy(), self._asked(SEVERAL[::-1]).numpy()])
        return {
            "the photo": {PIXELS: pixels[:1], QUERIES: queries[:1]},
            "the photo and one class": {PIXELS: pixels[:1], QUERIES: queries[:1, :1]},
            "the photo and noise": {PIXELS: pixels, QUERIES: queries},
        }

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`."""
        return [{"texts": [*SEVERAL[:3]], "confidence": 0.1, "iou_threshold": 0.1, "class_agnostic_nms": True}]

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`."""
        return {text_guided_boxes.TOKENIZER: open_clip_vocabulary.tokenizer_json(text_tower.tokenizer())}

    def _asked(self, texts: list[str] | tuple[str, ...]) -> torch.Tensor:
        """``[C,512]`` of the texts."""
        import torch

        with torch.inference_mode():
            return text_tower.embeds(self._towers[False], text_tower.ids(texts)).clone()

    def _tower(self, double: bool) -> torch.nn.Module:
        """The module, or its copy in float64, which is made once."""
        if double not in self._towers:
            self._towers[True] = copy.deepcopy(self._towers[False]).double()
        return self._towers[double]


FAMILY = YOLOWorldFamily()
