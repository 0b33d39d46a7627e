"""Depth Anything V2, small to large; the reference is transformers' network with its DPT image processor.

One graph serves every aspect ratio: pictures keep theirs, each side is a multiple of 14. Tracing the library's code
would make the size of the last enlargement a constant, and a cubic ``Resize`` would interpolate the position
embeddings; here both are computed from the pixels' height and width in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import DENSE_MAP
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NO_CLASSES, NoSignal, ReferencePipeline, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_processors as processors
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import bicubic
from tritonvision.exporters.modules.normalise import IMAGENET, MEAN, STD, Scale, normalised, normalising
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch
    from transformers import DepthAnythingConfig, DPTImageProcessorPil

    from tritonvision.exporters.libraries.transformers_weights import Loaded

PATCH, SIDE = 14, 518
# The preprocessor_config.json of the released repositories; resample 3 is bicubic.
PROCESSOR = {
    "size": {"height": SIDE, "width": SIDE}, "keep_aspect_ratio": True, "ensure_multiple_of": PATCH, "resample": 3,
    "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_pad": False,
    "image_mean": list(MEAN), "image_std": list(STD),
}  # fmt: skip
# The config.json of each, as far as it differs from the next: the backbone (Dinov2), and the neck's channels.
_BACKBONES = {
    "small": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "out_indices": [3, 6, 9, 12]},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "out_indices": [3, 6, 9, 12]},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "out_indices": [5, 12, 18, 24]},
}
_NECKS = {
    "small": {"neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64},
    "base": {"neck_hidden_sizes": [96, 192, 384, 768], "fusion_hidden_size": 128},
    "large": {"neck_hidden_sizes": [256, 512, 1024, 1024], "fusion_hidden_size": 256},
}
_COARSE = 4  # random patch kernels are enlarged from this many values a side
_EXAMPLE = (2, 5 * PATCH, 7 * PATCH, 3)  # traced at a small size, which must not become a constant


class DepthAnythingV2(TransformersFamily):
    """Relative inverse depth (larger is nearer, no unit) by a Dinov2 backbone and a DPT head."""

    name = "Depth Anything V2"
    class_name = "DepthAnythingForDepthEstimation"
    head = DENSE_MAP
    map_meaning = "inverse-depth"
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it sees means nothing."
    tolerance = Tolerance({"map": 1e-3}, {"map": 4e-4})
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "DPTImageProcessorPil(**PROCESSOR), network, processor.post_process_depth_estimation(answer, target_sizes)",
    )  # fmt: skip
    license_notice = "The official base and large weights are CC-BY-NC-4.0: not for commercial use (small: Apache-2.0)."

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of the processor; the pixels' size follows the picture."""
        return Resize("multiple", *entry.fixed_size, (("multiple", PATCH),))

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """The larger networks run in one process, because each process holds the weights."""
        return (Chain(self.resize(entry), self.head, instances=2 if _size(entry) == "small" else 1),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"depth-anything/Depth-Anything-V2-{_size(entry).capitalize()}-hf"

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> DepthAnythingConfig:
        """See :meth:`TransformersFamily.config_of`."""
        return _config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> DepthNetwork:
        """See :meth:`Family.random_network`."""
        return DepthNetwork(_random(entry, weights.seed), _processor())

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> DepthNetwork:
        """See :meth:`TransformersFamily.network`. The weights decide whether depth is metric, and about the size."""
        if loaded.module.config.neck_hidden_sizes != _config(entry).neck_hidden_sizes:
            raise ExportFailed(f"The weights are not those of {entry.id}, but of another size.")
        processor = processors.beside(weights, _processor(), ("size", "image_mean", "image_std"))
        resize = Resize("multiple", *processors.sides(processor, ("height", "width")), (("multiple", PATCH),))
        points: tuple[Chain, ...] = ()
        notes = loaded.notes
        if resize != self.resize(entry):
            points = (replace(self.entry_points(entry)[0], pre=resize),)
            notes += (f"Its pictures are resized by {resize.height} x {resize.width}, as its processor says.",)
        metric = loaded.module.config.depth_estimation_type == "metric"
        if metric:
            notes += (f"Its depth is metric: metres up to {loaded.module.config.max_depth:g}, larger is farther.",)
        facts = loaded.facts | {"notes": notes, "map_meaning": "depth" if metric else ""}
        return DepthNetwork(loaded.module, processor, entry_points=points, **facts)


class DepthNetwork(TorchNetwork):
    """One network: transformers' module is the reference; the reference pipeline adds the processor."""

    packages = ("transformers",)

    def __init__(self, network: torch.nn.Module, processor: DPTImageProcessorPil, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        super().__init__(network, **facts)
        self._processor = processor

    @property
    def _scale(self) -> Scale:
        return tuple(self._processor.image_mean), tuple(self._processor.image_std)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. Batch, height and width are dynamic; both sides must be multiples of 14."""
        import torch

        sides = {1: "height", 2: "width"}
        with _open_to_every_size(self._model):
            export_onnx(
                _graph(self._model, self._scale), torch.zeros(_EXAMPLE, dtype=torch.uint8), path, ("pixels",),
                ("map",), {"pixels": sides, "map": sides},
            )  # fmt: skip

    def tensors(
        self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = ""
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """See :meth:`Network.tensors`."""
        import torch

        images = normalised(inputs["pixels"], self._scale, double)
        with torch.inference_mode():
            depth = self.reference(double)(images).predicted_depth
        return {"map": depth.numpy()}

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> dict[str, np.ndarray]:
        """See :meth:`Network.predict`; the map's values, where the head kind gives 16 bits over their range."""
        import torch

        size = sample.shape[:2]
        inputs = self._processor(images=sample, return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            answer = self._model(**inputs)
        (found,) = self._processor.post_process_depth_estimation(answer, target_sizes=[size])
        # reshaped because the library's squeeze() removes a side of one pixel
        return {"map": found["predicted_depth"].numpy().reshape(size)}


def _processor() -> DPTImageProcessorPil:
    """The image processor of the released weights."""
    # with Pillow, as when the weights were released; torchvision's is a grey level off in one value of 200
    from transformers import DPTImageProcessorPil

    return DPTImageProcessorPil(**PROCESSOR)


def _size(entry: Entry) -> str:
    """``small``, ``base`` or ``large``."""
    return entry.id.rpartition("-")[2]


def _config(entry: Entry) -> DepthAnythingConfig:
    from transformers import DepthAnythingConfig, Dinov2Config

    size = _size(entry)
    backbone = Dinov2Config(
        image_size=SIDE, patch_size=PATCH, reshape_hidden_states=False, apply_layernorm=True, **_BACKBONES[size]
    )  # fmt: skip
    return DepthAnythingConfig(
        backbone_config=backbone, patch_size=PATCH, reassemble_hidden_size=backbone.hidden_size,
        reassemble_factors=[4, 2, 1, 0.5], head_hidden_size=32, depth_estimation_type="relative", **_NECKS[size],
    )  # fmt: skip


# ---- the graph -------------------------------------------------------------------------------------------------------


def _graph(network: torch.nn.Module, scale: Scale) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to the map, with mean and std inside."""
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.normalising = network, normalising(scale)

        def forward(self, pixels):
            return self.network(self.normalising(pixels)).predicted_depth

    return Graph()


@contextmanager
def _open_to_every_size(network: torch.nn.Module) -> Iterator[None]:
    """A context in which ``network`` computes the same by operations whose trace holds for every height and width."""
    embeddings, head = network.backbone.embeddings, network.head
    embeddings.interpolate_pos_encoding = partial(_positions, embeddings)
    head.forward = partial(_head, head)
    try:
        yield
    finally:
        del embeddings.interpolate_pos_encoding, head.forward  # the classes' own come back


def _positions(embeddings: torch.nn.Module, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``Dinov2Embeddings.interpolate_pos_encoding``: bicubic resizing of the square table as two matrix products."""
    import torch

    table, side = embeddings.position_embeddings, embeddings.config.image_size // PATCH
    patches = table[0, 1:].reshape(side, side, embeddings.config.hidden_size)
    rows, columns = (
        bicubic.weights(count, side, (count, side), table.dtype) for count in (height // PATCH, width // PATCH)
    )
    resized = columns @ torch.einsum("ha,abd->hbd", rows, patches)
    return torch.cat((table[:, :1], resized.reshape(1, -1, embeddings.config.hidden_size)), dim=1)


def _head(head: torch.nn.Module, features: list[torch.Tensor], rows: int, columns: int) -> torch.Tensor:
    """``DepthAnythingDepthEstimationHead.forward`` without the ``int()`` that would make the traced size a constant."""
    from torch.nn.functional import interpolate

    size = (rows * head.patch_size, columns * head.patch_size)
    depth = interpolate(head.conv1(features[head.head_in_index]), size, mode="bilinear", align_corners=True)
    depth = head.conv3(head.activation1(head.conv2(depth)))
    return (head.activation2(depth) * head.max_depth).squeeze(1)


# ---- random weights --------------------------------------------------------------------------------------------------


def _random(entry: Entry, seed: int) -> torch.nn.Module:
    """The true architecture with random weights whose map varies over a picture and between pictures.

    The patch kernels are made smooth, as trained ones are: two libraries' resizing differs by a grey level in one pixel
    of two hundred, and noisy kernels would amplify that. The last layer is standardised so that the final ReLU sets
    a small part of the map to zero, as it does for the sky in photographs.
    """
    import torch
    from transformers import DepthAnythingForDepthEstimation

    network = transformers_weights.random(DepthAnythingForDepthEstimation, _config(entry), seed)
    kernel = network.backbone.embeddings.patch_embeddings.projection.weight
    with torch.no_grad():
        coarse = kernel[..., :_COARSE, :_COARSE] * (_COARSE / PATCH)
        kernel.copy_(torch.nn.functional.interpolate(coarse, size=PATCH, mode="bicubic"))
    pictures = calibrate.structured_pictures(3, 12 * PATCH, 16 * PATCH, seed)
    images = normalised(pictures, IMAGENET)
    (rows,) = calibrate.inputs_of([network.head.conv3], network, images)
    calibrate.standardise(network.head.conv3, rows, 3.0, torch.tensor([5.0], dtype=torch.float64))
    with torch.inference_mode():
        maps = network(images).predicted_depth
    flat = (maps == 0).float().mean()
    apart = (maps[0] - maps[1]).abs().mean()
    if not (0.001 < flat < 0.3 and maps.std(dim=(1, 2)).min() > 0.5 and apart > 0.5):
        raise NoSignal()
    return network


FAMILY = DepthAnythingV2()
