"""DINOv3, vision transformers trained without labels: a vector of each picture, or its classes by a linear probe.

The released weights have no classes. With ``--head FILE``, a last layer that was trained on their features, the model
classifies, and has its features beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, with_features
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES, EMBEDDINGS
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Network, ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_processors as processors
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import class_scores, probe
from tritonvision.exporters.modules.normalise import MEAN, STD, Scale, unit_normalised, unit_normalising
from tritonvision.publication import FEATURES

if TYPE_CHECKING:
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

PATCH, REGISTERS = 16, 4
_LARGE = 200  # million parameters from which the network runs in one process only
# The config.json of each, as far as it differs from the library's defaults, and the name of its repository.
_CONFIGS: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "giant": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
        "use_gated_mlp": True, "hidden_act": "silu",
    },
}  # fmt: skip
_REPOSITORIES = {"small": "vits16", "base": "vitb16", "large": "vitl16", "giant": "vith16plus"}


class DINOv3(TransformersFamily):
    """transformers' network and image processor: stretched in float32, antialiased, ImageNet mean and std."""

    name = "DINOv3"
    class_name = "DINOv3ViTModel"
    sometimes_beside = ("preprocessor_config.json",)
    head = EMBEDDINGS
    tolerance = Tolerance({"embeddings": 2e-5, "logits": 1e-4, "scores": 1e-5}, {"embeddings": 2e-4})
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0", "DINOv3ViTModel(**DINOv3ViTImageProcessor()(picture)).pooler_output; then the probe"
    )
    refusals = Refusals(multi_label="", head="")
    random_note = "Random weights, calibrated only to carry signal: what it sees means nothing."
    license_notice = (
        "The released weights are under Meta's DINOv3 License, and gated: ask for access on their page on the hub, and "
        "log in there."
    )

    def resize(self, entry: Entry) -> Resize:
        """In float32: the library scales to 0..1 before it resizes, and rounding to uint8 would change the vectors."""
        return _resize(*entry.fixed_size)

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """Its vectors; larger networks run in one process, because each process holds the weights."""
        return (_chain(entry, self.resize(entry), None),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`. The id ``giant`` means the next size after large."""
        return f"facebook/dinov3-{_REPOSITORIES[_size(entry)]}-pretrain-lvd1689m"

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> DINOv3ViTConfig:
        """See :meth:`TransformersFamily.config_of`."""
        return _config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> DinoNetwork:
        """See :meth:`Family.random_network`."""
        from transformers import DINOv3ViTModel

        backbone = transformers_weights.random(DINOv3ViTModel, _config(entry), weights.seed)
        return _network(entry, weights, backbone, _processor(entry), self.resize(entry))

    def official_network(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.official_network`."""
        network = super().official_network(entry, weights)
        if entry.upstream_exists is False:
            note = f"No DINOv3 is called {_size(entry)}: these are the weights of ViT-H+, the size after large."
            network.notes = (note, *network.notes)
        return network

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> DinoNetwork:
        """See :meth:`TransformersFamily.network`. The weights' own image processor decides about the pictures' size."""
        ours, theirs = _config(entry), loaded.module.config
        if any(getattr(theirs, name) != getattr(ours, name) for name in _CONFIGS["giant"]):
            raise ExportFailed(f"The weights are not those of {entry.id}, but of another size.")
        processor = processors.beside(weights, _processor(entry), ("size", "image_mean", "image_std"))
        height, width = processors.sides(processor, ("height", "width"))
        if height % PATCH or width % PATCH:
            raise ExportFailed(
                f"The weights' own image processor makes {height} x {width} pixels, which are no multiples of {PATCH}."
            )
        notes, resize = loaded.notes, _resize(height, width)
        if resize != self.resize(entry):
            notes += (f"Its pictures are stretched to {height} x {width}, as its processor says.",)
        return _network(entry, weights, loaded.module, processor, resize, **loaded.facts | {"notes": notes})


class DinoNetwork(TorchNetwork):
    """One network: transformers' module and the probe, if there is one; the reference pipeline adds the processor."""

    packages = ("transformers",)

    def __init__(self, network: torch.nn.Module, processor: DINOv3ViTImageProcessor, **facts: Any):
        """``network`` is made by :func:`_reader`; ``facts`` are the attributes of :class:`Network`."""
        super().__init__(network, **facts)
        self._processor = processor

    @property
    def _scale(self) -> Scale:
        return tuple(self._processor.image_mean), tuple(self._processor.image_std)

    @property
    def _activation(self) -> str:
        return "sigmoid" if self.multi_label else "softmax"

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`. The batch axis is dynamic, height and width are not."""
        import torch

        chain = self.entry_points[0]
        assert isinstance(chain, Chain)
        height, width = chain.size or (PATCH, PATCH)
        outputs = tuple(tensor.name for tensor in chain.net.outputs)
        graph = _graph(self._model, self._scale, self.multi_label)
        export_onnx(graph, torch.zeros(2, height, width, 3), path, ("pixels",), outputs)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        return self._answer(unit_normalised(inputs["pixels"], self._scale, double), double)

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        images = self._processor(images=sample, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        answer = {name: value[0] for name, value in self._answer(images).items()}
        if role == FEATURES or "logits" not in answer:
            return {"embeddings": answer["embeddings"]}
        return class_scores.answer(answer["logits"], answer["scores"], parameters)

    def _answer(self, images: torch.Tensor, double: bool = False) -> Tensors:
        import torch

        with torch.inference_mode():
            features, logits = self.reference(double)(images)
        found = {"embeddings": features.numpy()}
        if logits is None:
            return found
        scores = class_scores.activated(logits.numpy(), self._activation)
        return {"logits": logits.numpy(), "scores": scores} | found


def _size(entry: Entry) -> str:
    """``small``, ``base``, ``large`` or ``giant``."""
    return entry.id.rpartition("-")[2]


def _resize(height: int, width: int) -> Resize:
    return Resize("stretch", height, width, (("encoding", "float32"), ("filter", "antialiased")))


def _chain(entry: Entry, resize: Resize, layer: probe.Probe | None) -> Chain:
    instances = 1 if (entry.params_m or 0) > _LARGE else 2
    return Chain(resize, EMBEDDINGS if layer is None else CLASSES, instances=instances)


def _config(entry: Entry) -> DINOv3ViTConfig:
    from transformers import DINOv3ViTConfig

    return DINOv3ViTConfig(patch_size=PATCH, num_register_tokens=REGISTERS, **_CONFIGS[_size(entry)])


def _processor(entry: Entry) -> DINOv3ViTImageProcessor:
    """The image processor of the released weights."""
    from transformers import DINOv3ViTImageProcessor

    height, width = entry.fixed_size
    return DINOv3ViTImageProcessor(
        size={"height": height, "width": width}, image_mean=list(MEAN), image_std=list(STD)
    )  # fmt: skip


def _network(
    entry: Entry, weights: Weights, backbone: torch.nn.Module, processor: DINOv3ViTImageProcessor, resize: Resize,
    **facts: Any,
) -> DinoNetwork:  # fmt: skip
    """The network of a backbone, with the probe that the user brings. Raises ExportFailed."""
    if weights.head is None:
        if weights.labels is not None or weights.multi_label:
            raise ExportFailed(
                f"'{entry.id}' knows no classes without a head.", hint="Bring a linear probe with --head FILE."
            )
        points = (_chain(entry, resize, None),)
        return DinoNetwork(_reader(backbone, None), processor, entry_points=points, **facts)
    width = backbone.config.hidden_size
    found = probe.read(weights, (width, 2 * width), entry.id)
    multi_label = weights.multi_label or len(found.labels) == 1  # the softmax of a single class is 1 for every picture
    notes = (*facts.pop("notes", ()), f"Its last layer is {found.source}.", *found.notes)
    return DinoNetwork(
        _reader(backbone, found.layer), processor, labels=found.labels, multi_label=multi_label, notes=notes,
        entry_points=with_features(_chain(entry, resize, found)), **facts,
    )  # fmt: skip


def _reader(backbone: torch.nn.Module, layer: torch.nn.Linear | None) -> torch.nn.Module:
    """Normalised ``[B,3,H,W]`` to the features ``[B,D]`` and, with a layer, the logits ``[B,C]``, else None.

    The features are the library's ``pooler_output``; a layer of twice that width reads the mean of the patches, too,
    as Meta's own classifiers do.
    """
    from torch import nn

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.layer = backbone, layer

        def forward(self, images):
            import torch

            seen = self.backbone(images)
            features = seen.pooler_output
            if self.layer is not None and self.layer.in_features != features.shape[1]:
                patches = seen.last_hidden_state[:, 1 + self.backbone.config.num_register_tokens :]
                features = torch.cat((features, patches.mean(1)), dim=1)
            return features, None if self.layer is None else self.layer(features)

    return Reader()


def _graph(reader: torch.nn.Module, scale: Scale, multi_label: bool) -> torch.nn.Module:
    """float32 ``[B,H,W,3]`` RGB in 0..1 to logits, scores and embeddings, or to embeddings alone."""
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.reader, self.normalising = reader, unit_normalising(scale)

        def forward(self, pixels):
            features, logits = self.reader(self.normalising(pixels))
            if logits is None:
                return features
            return logits, logits.sigmoid() if multi_label else logits.softmax(1), features

    return Graph()


FAMILY = DINOv3()
