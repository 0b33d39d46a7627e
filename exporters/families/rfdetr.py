"""RF-DETR nano to large; the reference is the authors' package, both its network and its ``predict``."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import QUERY_BOXES
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Family, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import rfdetr_models
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.modules import proposals, query_networks
from tritonvision.exporters.modules.normalise import MEAN, STD
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from rfdetr import RFDETR

_SELECTED = 300  # query and class pairs that predict() keeps
_NEARNESS = 0.1


class RFDetr(Family):
    """``rfdetr-<size>``: stretched in float32 to a square, ImageNet mean and std, 300 best pairs of query and class."""

    name = "RFDetr"
    head = QUERY_BOXES
    tolerance = Tolerance({"boxes": 1e-4, "scores": 1e-4, "class_ids": 0}, {"pixels": 0.05, "scores": 1e-4})
    reference_pipeline = ReferencePipeline(
        "rfdetr", "1.11.2", "RFDETRNano(pretrain_weights=path).predict(rgb, threshold=)"
    )
    fp32_layers = ("bbox_embed", "ref_point_head")

    def resize(self, entry: Entry) -> Resize:
        """In float32: the package scales to 0..1 before it resizes, and rounding to uint8 would change the scores."""
        return Resize("stretch", *entry.fixed_size, (("encoding", "float32"),))

    def random_network(self, entry: Entry, weights: Weights) -> RFDetrNetwork:
        """See :meth:`Family.random_network`."""
        with rfdetr_models.quiet():
            return _random(_size(entry), entry, weights)

    def official_network(self, entry: Entry, weights: Weights) -> RFDetrNetwork:
        """See :meth:`Family.official_network`."""
        with rfdetr_models.quiet():
            path = rfdetr_models.official(_size(entry))
        return self._of_file(entry, path, weights, released=True)

    def network_from_file(self, entry: Entry, weights: Weights) -> RFDetrNetwork:
        """See :meth:`Family.network_from_file`."""
        return self._of_file(entry, files.user_file(weights, checkpoints.SUFFIXES), weights, released=False)

    def _of_file(self, entry: Entry, path: Path, weights: Weights, released: bool) -> RFDetrNetwork:
        with rfdetr_models.quiet():
            detector, classes = rfdetr_models.load(_size(entry), path, entry.id, released)
        labels, notes = files.labels_of(weights, classes.names, classes.named)
        side = detector.model.resolution
        points: tuple[Chain, ...] = ()
        if (side, side) != entry.input_size:
            points = (Chain(Resize("stretch", side, side, (("encoding", "float32"),)), self.head),)
            notes += (f"Its pictures have {side} x {side} pixels, as the weights were trained.",)
        return RFDetrNetwork(
            detector, classes.columns, labels=labels, source=path.name, sha256=files.sha256(path), notes=notes,
            entry_points=points,
        )  # fmt: skip


def _size(entry: Entry) -> str:
    """``nano``, ``small``, ``medium``, ``base`` or ``large``."""
    return entry.id.removeprefix("rfdetr-")


class RFDetrNetwork(TorchNetwork):
    """One detector: the package's network is the reference, its ``predict`` the reference pipeline."""

    packages = ("rfdetr",)

    def __init__(self, detector: RFDETR, columns: tuple[int, ...], **facts: Any):
        """``columns`` of the class logits by class id; ``facts`` are the attributes of :class:`Network`."""
        super().__init__(detector.model.model, **facts)
        self._detector = detector
        self._columns = columns
        self._ranking: proposals.GraphRanking | None = None

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        size = self._detector.model.resolution
        outputs = tuple(tensor.name for tensor in QUERY_BOXES.tensors)
        with rfdetr_models.quiet():
            graph = _graph(self._model, self._columns)
            export_onnx(graph, torch.zeros(2, size, size, 3), path, ("pixels",), outputs)
        self._ranking = proposals.GraphRanking(path)

    def _ranked(self, model: torch.nn.Module, pixels: np.ndarray) -> AbstractContextManager[None]:
        """After an export, the reference ranks its proposals by the scores of the graph, see :mod:`proposals`."""
        scores = self._ranking({"pixels": pixels}) if self._ranking else None
        return proposals.ranked_by(model.transformer.enc_out_class_embed[0], scores)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. The package's own forward pass, not the one it exports."""
        import torch

        model, dtype = self.reference(double), torch.float64 if double else torch.float32
        with torch.inference_mode(), self._ranked(model, inputs["pixels"]):
            found = model(_images(inputs["pixels"], dtype))
        scores = found["pred_logits"].sigmoid().numpy()[:, :, list(self._columns)]
        corners, classes = query_networks.corners(found["pred_boxes"].numpy()), len(self._columns)
        pairs = scores.reshape(len(scores), -1)
        order = np.argsort(-pairs, axis=1, kind="stable")[:, :_SELECTED]
        return {
            "boxes": np.take_along_axis(corners, (order // classes)[..., None], axis=1),
            "scores": np.take_along_axis(pairs, order, axis=1),
            "class_ids": (order % classes).astype(np.int32),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Columns that stand for no class are left out of the package's answer."""
        side = self._detector.model.resolution
        pixels, _ = resize.stretch(sample, side, side, "float32")
        with rfdetr_models.quiet(), self._ranked(self._model, pixels[None]):
            found = self._detector.predict(np.ascontiguousarray(sample), threshold=parameters["confidence"])
        return query_networks.answer(found.xyxy, found.confidence, found.class_id, self._columns, parameters)


def _images(pixels: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """``[B,H,W,3]`` in 0..1 to normalised ``[B,3,H,W]``."""
    import torch

    images = torch.from_numpy(pixels).to(dtype)
    mean, std = (torch.tensor(values, dtype=dtype) for values in (MEAN, STD))
    return ((images - mean) / std).permute(0, 3, 1, 2)


def _graph(model: torch.nn.Module, columns: tuple[int, ...]) -> torch.nn.Module:
    """float32 ``[B,H,W,3]`` RGB in 0..1 to the canonical tensors of query boxes; ``model`` stays unchanged.

    The best pairs of query and class are chosen by score as ``predict`` does it, among the columns that have a name.
    """
    import torch
    from torch import nn

    network = copy.deepcopy(model)
    network.export()  # the package's switch to a forward pass without masks

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor(MEAN))
            self.register_buffer("std", torch.tensor(STD))
            self.register_buffer("columns", torch.tensor(columns))

        def forward(self, pixels):
            boxes, logits = self.network(((pixels - self.mean) / self.std).permute(0, 3, 1, 2))
            pairs = logits.index_select(2, self.columns).sigmoid().flatten(1)
            scores, best = pairs.topk(min(_SELECTED, boxes.shape[1] * len(columns)), dim=1)
            queries = torch.div(best, len(columns), rounding_mode="floor")
            boxes = boxes.gather(1, queries[:, :, None].repeat(1, 1, 4))
            half = boxes[..., 2:] / 2
            corners = torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], 2)
            return corners, scores, (best - queries * len(columns)).int()

    return Graph().eval()


def _random(size: str, entry: Entry, weights: Weights) -> RFDetrNetwork:
    """The true architecture with random weights that find some thirty things on the photo."""
    import torch

    coco = query_networks.coco_columns()
    labels = weights.labels or tuple(coco.values())
    columns = tuple(range(len(labels))) if weights.labels else tuple(coco)
    model = rfdetr_models.random(size, max(columns) + 1 + bool(weights.labels), weights.seed).eval()
    _calibrate(model, columns, entry, weights.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"  # saved, because the reference pipeline reads a checkpoint
        torch.save({"model": model.state_dict(), "args": {"class_names": list(labels)}}, path)
        detector, _ = rfdetr_models.load(size, path, entry.id)
    return RFDetrNetwork(detector, columns, labels=labels)


def _calibrate(model: torch.nn.Module, columns: tuple[int, ...], entry: Entry, seed: int) -> None:
    """Standardise both class heads on structured pictures, then shift the scores until the photo has its boxes.

    Before that the decoder's sampling offsets are scaled down: the features of a random network are not smooth, so
    rounding errors of the sampling points would grow from layer to layer.
    """
    import torch

    with torch.no_grad():
        for layer in model.transformer.decoder.layers:
            layer.cross_attn.sampling_offsets.weight *= _NEARNESS
    photo = FAMILY.resize(entry)(sample_pictures.photo())[0]
    structured = calibrate.structured_pictures(4, *entry.fixed_size, seed).astype(np.float32) / 255
    images = _images(np.concatenate([photo[None], structured]), torch.float32)
    unnamed = torch.ones(len(model.class_embed.bias), dtype=torch.bool)
    unnamed[list(columns)] = False
    generator = torch.Generator().manual_seed(seed)
    # the first head ranks the proposals; the second gets -14, where the sigmoid loses no digits of its argument
    for head, spread, mean in ((model.transformer.enc_out_class_embed[0], 1.0, -4), (model.class_embed, 1.5, -14)):
        (states,) = query_networks.seen_by([head], lambda: model(images))
        states = states[-1] if head is model.class_embed else states  # of the last layer
        bias = mean + 0.3 * torch.randn(len(unnamed), generator=generator, dtype=torch.float64)
        bias = bias.masked_fill(unnamed, query_networks.UNNAMED)
        calibrate.standardise(head, states.flatten(0, 1), spread, bias)
    with torch.no_grad():
        logits = model.class_embed(states[0].float())[:, list(columns)].numpy()
        classes = np.broadcast_to(np.arange(len(columns)), logits.shape).ravel()
        level = query_networks.cut(logits.ravel(), classes, len(columns))
        model.class_embed.bias[~unnamed] += query_networks.logit(0.4) - level


FAMILY = RFDetr()
