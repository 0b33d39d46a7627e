"""YOLACT: instances whose masks are sums of prototypes; the reference pipeline is its authors' own, rewritten here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CROPPED_MASKS
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.yolact import authors, synthetic
from tritonvision.exporters.families.yolact.graph import CANDIDATES, SCALE, graph
from tritonvision.exporters.families.yolact.network import ANCHORS, Predictions, network
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules import query_networks

if TYPE_CHECKING:
    import torch

# Blocks of each stage of the ResNet, and what the authors call the released file.
_BLOCKS = {"yolact-resnet50": (3, 4, 6, 3), "yolact-resnet101": (3, 4, 23, 3)}
_FILES = {"yolact-resnet50": "yolact_resnet50_54_800000.pth", "yolact-resnet101": "yolact_base_54_800000.pth"}
# Tensors of the authors' files that only a training needs, or that older versions of their code left over.
_UNUSED = re.compile(r"semantic_seg_conv\.|backbone\.layer\d|fpn\.downsample_layers\.[2-9]")
_CLASSES = "prediction_layers.0.conf_layer.weight"


class YOLACT(TorchFamily):
    """The networks of dbolya/yolact with a ResNet, at 550 pixels; YOLACT++ has other convolutions and is not read."""

    name = "YOLACT"
    head = CROPPED_MASKS
    refusals = Refusals()
    activation_memory = 0.4  # of a backbone that is wide at a stride of 4
    # torch's bilinear resize places its samples in float32, so its pixels are off by up to 0.006 grey levels
    tolerance = Tolerance(
        {"boxes": 1e-3, "scores": 1e-5, "class_ids": 0, "coefficients": 1e-4, "prototypes": 1e-3},
        answers={"scores": 1e-3},
        causes={"masks": "one pixel of a mask of a hundred; so far none differed at all"},
    )
    reference_pipeline = ReferencePipeline(
        "torch", "2.13.0",
        "the steps of dbolya/yolact's eval.py, which no package holds: FastBaseTransform, the network, Detect with "
        "fast_nms, postprocess; corners are not cut to whole pixels",
    )  # fmt: skip

    def resize(self, entry: Entry) -> Resize:
        """Each axis by itself, as floats."""
        return Resize("stretch", *entry.fixed_size, (("encoding", "float32"),))

    def random_network(self, entry: Entry, weights: Weights) -> YOLACTNetwork:
        """See :meth:`Family.random_network`."""
        labels = weights.labels or query_networks.coco_names()
        module = synthetic.random(_BLOCKS[entry.id], len(labels), entry.fixed_size, weights.seed)
        return YOLACTNetwork(module, entry.fixed_size, labels=labels)

    def official_network(self, entry: Entry, weights: Weights) -> YOLACTNetwork:
        """The released weights cannot be fetched by a program. Raises ExportFailed."""
        file = _FILES[entry.id]
        raise ExportFailed(
            f"The official weights {file} lie on a drive that only people can fetch them from.",
            hint=f"Fetch {file} from the page of dbolya/yolact and name it with --weights PATH; or --weights random.",
        )

    def network_from_file(self, entry: Entry, weights: Weights) -> YOLACTNetwork:
        """See :meth:`Family.network_from_file`. The file has no class names: other ones than COCO's are the user's."""
        path = files.user_file(weights, checkpoints.SUFFIXES)
        found = checkpoints.read(path)
        classes, module = _loaded(entry, found.tensors)
        own = query_networks.coco_names()
        if weights.labels is None and classes != len(own):
            raise ExportFailed(
                f"The weights are for {classes} classes, whose names the file does not hold.",
                hint=f"--labels FILE names all {classes}, one a line in the order of the class ids.",
            )
        labels = weights.labels or own
        if len(labels) != classes:
            raise ExportFailed(
                f"The labels name {len(labels)} classes, and the head of the network has {classes}.",
                hint=f"--labels FILE names all {classes}, one a line in the order of the class ids.",
            )
        return YOLACTNetwork(
            module, entry.fixed_size, labels=labels, source=path.name, sha256=files.sha256(path), notes=found.notes
        )


def _loaded(entry: Entry, tensors: Mapping[str, torch.Tensor]) -> tuple[int, torch.nn.Module]:
    """The number of classes, and the network with these tensors. Raises ExportFailed."""
    kept = {name: value for name, value in tensors.items() if not _UNUSED.match(name)}
    names = network(_BLOCKS[entry.id], 1).state_dict().keys()
    kept = {name: v for name, v in checkpoints.unwrapped(kept, names).items() if not _UNUSED.match(name)}
    rows = kept.get(_CLASSES)
    classes = max(len(rows) // ANCHORS - 1, 1) if rows is not None and rows.ndim == 4 else 1
    module = network(_BLOCKS[entry.id], classes)
    hint = f"Their names and sizes must be those of the authors' {_FILES[entry.id]}; YOLACT++ is another network."
    checkpoints.load_into(module, kept, entry.id, hint)
    return classes, module


class YOLACTNetwork(TorchNetwork):
    """One network; the reference pipeline is :mod:`.authors`.

    Attributes:
        candidates: pairs of anchor and class that the graph gives, at most.
    """

    packages = ("torchvision",)
    candidates = CANDIDATES

    def __init__(self, module: torch.nn.Module, size: tuple[int, int], **facts: Any):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(module, **facts)
        self._size = size

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        names = tuple(tensor.name for tensor in CROPPED_MASKS.tensors)
        made = graph(self._model, *self._size, self.candidates)
        export_onnx(made, torch.zeros(2, *self._size, 3), path, ("pixels",), names)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. The best pairs of anchor and class, ties by anchor."""
        import torch

        dtype = torch.float64 if double else torch.float32
        mean, std = (torch.tensor(values, dtype=dtype) for values in SCALE)
        images = ((torch.from_numpy(inputs["pixels"]).to(dtype) - mean) / std).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = self.reference(double)(images)
            samples = [self._best(Predictions(*(part[i : i + 1] for part in found))) for i in range(len(images))]
        rows = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
        return rows | {"prototypes": found.proto.numpy()}

    def _best(self, found: Predictions) -> Tensors:
        """The candidates of one picture, batch axis first."""
        scores = found.conf[0].softmax(1)[:, 1:].numpy()
        order = np.argsort(-scores.reshape(-1), kind="stable")[: self.candidates]
        anchors, class_ids = np.divmod(order, scores.shape[1])
        height, width = self._size
        boxes = authors.decoded(found.loc[0], self._size).numpy()[anchors] * [width, height, width, height]
        return {
            "boxes": boxes.astype(found.loc.numpy().dtype)[None], "scores": scores.reshape(-1)[order][None],
            "class_ids": class_ids.astype(np.int32)[None], "coefficients": found.mask[0].numpy()[anchors][None],
        }  # fmt: skip

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Masks are always run lengths, whichever ``mask_format`` is asked for."""
        import torch

        with torch.inference_mode():
            found = self._model(authors.pixels(np.asarray(sample), self._size))
            return authors.answer(found, self._size, (sample.shape[0], sample.shape[1]), parameters)


FAMILY = YOLACT()
