"""Depth Anything V3, small to large, of one picture: its any-view networks, of which the depth is served.

Cameras, rays, Gaussian splats and the depth of several views together are not served. Small and base are the authors'
``DA3-SMALL`` and ``DA3-BASE``, large is ``DA3-LARGE-1.1``. The reference is the authors' network without the parts that
a single view does not use, rebuilt with their names: their package cannot be installed beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import DENSE_MAP
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, NoSignal, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules.normalise import IMAGENET, normalised, normalising
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

    from tritonvision.exporters.families.depth_anything_v3.network import DepthNet, Size

PATCH, SIDE = 14, 504
_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "width": 384, "depth": 12, "heads": 6, "taken": (5, 7, 9, 11), "start": 4, "features": 64,
        "channels": (48, 96, 192, 384),
    },
    "base": {
        "width": 768, "depth": 12, "heads": 12, "taken": (5, 7, 9, 11), "start": 4, "features": 128,
        "channels": (96, 192, 384, 768),
    },
    "large": {
        "width": 1024, "depth": 24, "heads": 16, "taken": (11, 15, 19, 23), "start": 8, "features": 256,
        "channels": (256, 512, 1024, 1024),
    },
}  # fmt: skip
_REPOSITORIES = {"small": "DA3-SMALL", "base": "DA3-BASE", "large": "DA3-LARGE-1.1"}
# Of a checkpoint, what does not take part in the depth of one view: cameras, splats, and the head's rays.
_UNUSED = ("cam_enc.", "cam_dec.", "gs_head.", "gs_adapter.", "head.scratch.output_conv1_aux.",
           "head.scratch.output_conv2_aux.", *(f"head.scratch.refinenet{i}_aux." for i in range(1, 5)))  # fmt: skip
_COARSE = 4  # random patch kernels are enlarged from this many values a side
_EXAMPLE = (2, 5 * PATCH, 7 * PATCH, 3)  # traced at a small size, which must not become a constant


class DepthAnythingV3(TorchFamily):
    """Relative depth (larger is farther, no unit) by a Dinov2 backbone with rotated positions and a DPT head."""

    name = "Depth Anything V3"
    head = DENSE_MAP
    map_meaning = "depth"
    activation_memory = 0.46  # where float32 rounds too much, its reference runs in float64, too
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it sees means nothing."
    tolerance = Tolerance({"map": 1e-3}, {"map": 4e-4})
    reference_pipeline = ReferencePipeline(
        "depth-anything-3", "0.1.1",
        "InputProcessor()([picture], process_res=504, process_res_method='upper_bound_resize'); DepthAnything3Net in "
        "float32; its depth resized bicubic to the picture",
    )  # fmt: skip
    license_notice = "The released large weights are CC-BY-NC-4.0: not for commercial use (small and base: Apache-2.0)."

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of the authors' input processor; the pixels' size follows the picture."""
        return Resize("bounded", *entry.fixed_size, (("multiple", PATCH),))

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """The larger networks run in one process, because each process holds the weights."""
        return (Chain(self.resize(entry), self.head, instances=2 if _size(entry) == "small" else 1),)

    def random_network(self, entry: Entry, weights: Weights) -> DepthNetwork:
        """See :meth:`Family.random_network`."""
        return DepthNetwork(_random(entry, weights.seed))

    def official_network(self, entry: Entry, weights: Weights) -> DepthNetwork:
        """See :meth:`Family.official_network`."""
        source = f"depth-anything/{_REPOSITORIES[_size(entry)]}"
        return _of_file(entry, files.hub_file(source, "model.safetensors"), source)

    def network_from_file(self, entry: Entry, weights: Weights) -> DepthNetwork:
        """See :meth:`Family.network_from_file`."""
        path = files.user_file(weights, checkpoints.SUFFIXES)
        return _of_file(entry, path, path.name)


class DepthNetwork(TorchNetwork):
    """One network: the rebuilt module is the reference; the reference pipeline adds the authors' steps."""

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. Batch, height and width are dynamic; both sides must be multiples of 14."""
        import torch

        sides = {1: "height", 2: "width"}
        export_onnx(
            _graph(self._model), torch.zeros(_EXAMPLE, dtype=torch.uint8), path, ("pixels",), ("map",),
            {"pixels": sides, "map": sides},
        )  # fmt: skip

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        with torch.inference_mode():
            return {"map": self.reference(double)(normalised(inputs["pixels"], IMAGENET, double)).numpy()}

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; the map's values, where the head kind gives 16 bits over their range."""
        import torch

        with torch.inference_mode():
            depth = self._model(normalised(_processed(sample)[None], IMAGENET))
            found = torch.nn.functional.interpolate(depth[None], sample.shape[:2], mode="bicubic", align_corners=False)
        return {"map": found[0, 0].numpy()}


def _processed(picture: np.ndarray) -> np.ndarray:
    """The pixels of the authors' input processor: its two resizings, written once more.

    The longer side becomes 504, then each side its nearest multiple of 14, the larger of two as near; OpenCV's area
    filter where the picture shrinks, cubic where it grows.
    """
    h, w = picture.shape[:2]
    scale = SIDE / max(h, w)
    if scale != 1:
        size = max(1, round(w * scale)), max(1, round(h * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    h, w = picture.shape[:2]
    new_w, new_h = (max(1, (side + PATCH // 2) // PATCH * PATCH) for side in (w, h))
    if (new_h, new_w) == (h, w):
        return picture
    grows = new_w > w or new_h > h
    return cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def _size(entry: Entry) -> str:
    """``small``, ``base`` or ``large``."""
    return entry.id.rpartition("-")[2]


def _facts(entry: Entry) -> Size:
    from tritonvision.exporters.families.depth_anything_v3.network import Size

    return Size(**_SIZES[_size(entry)])


def _create(entry: Entry) -> DepthNet:
    from tritonvision.exporters.families.depth_anything_v3.network import DepthNet

    return DepthNet(_facts(entry)).eval()


def _of_file(entry: Entry, path: Path, source: str) -> DepthNetwork:
    """The network with the tensors of a checkpoint. Raises ExportFailed."""
    found, network = checkpoints.read(path), _create(entry)
    tensors = checkpoints.unwrapped(found.tensors, network.state_dict().keys())
    own = {name: value for name, value in tensors.items() if not name.startswith(_UNUSED)}
    hint = f"Their names and sizes must be those of depth-anything/{_REPOSITORIES[_size(entry)]}."
    checkpoints.load_into(network, own, entry.id, hint)
    return DepthNetwork(network, source=source, sha256=files.sha256(path), notes=found.notes)


def _graph(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to the map, with mean and std inside."""
    from torch import nn

    return nn.Sequential(normalising(IMAGENET), network)


def _random(entry: Entry, seed: int) -> torch.nn.Module:
    """The true architecture with random weights whose map varies over a picture and between pictures.

    The patch kernels are made smooth, as trained ones are: noisy kernels would amplify what two resizings differ by.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        network = _create(entry)
    transformers_weights.redraw(network, seed)
    kernel = network.backbone.pretrained.patch_embed.proj.weight
    with torch.no_grad():
        coarse = kernel[..., :_COARSE, :_COARSE] * (_COARSE / PATCH)
        kernel.copy_(torch.nn.functional.interpolate(coarse, size=PATCH, mode="bicubic"))
    images = normalised(calibrate.structured_pictures(3, 12 * PATCH, 16 * PATCH, seed), IMAGENET)
    last = network.head.scratch.output_conv2[2]
    (rows,) = calibrate.inputs_of([last], network, images)
    calibrate.standardise(last, rows, 0.5, torch.tensor([1.0, 0.0], dtype=torch.float64))
    with torch.inference_mode():
        maps = network(images)
    if not (maps.std(dim=(1, 2)).min() > 0.3 and (maps[0] - maps[1]).abs().mean() > 0.3):
        raise NoSignal()
    return network


FAMILY = DepthAnythingV3()
