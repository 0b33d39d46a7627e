"""CLIP as OpenAI released it: an image encoder and a text encoder, whose embeddings can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.exporters.contract import ReferencePipeline, Tolerance
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.open_clip_towers import OpenClipFamily, project, scale_of, some_tokens
from tritonvision.exporters.modules.normalise import normalised
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

_OF_AN_ARCHIVE = ("input_resolution", "context_length", "vocab_size")  # not tensors of the network


class CLIP(OpenClipFamily):
    """open_clip's networks with OpenAI's activation: bicubic, centre crop, OpenAI's mean and std; 77 tokens."""

    name = "CLIP"
    tag = "openai"
    tolerance = Tolerance({"embeddings": 2e-5})
    reference_pipeline = ReferencePipeline(
        "open_clip_torch", "3.3.0",
        "create_model(name, force_quick_gelu=True); encode_image(image_transform(size, is_train=False)(image)), "
        "encode_text(get_tokenizer(name)(text)), neither normalised",
    )  # fmt: skip

    def open_clip_name(self, entry: Entry) -> str:
        """``clip/ViT-L-14-336px`` is open_clip's ``ViT-L-14-336``."""
        return entry.id.removeprefix("clip/").removesuffix("px")

    def arguments(self) -> dict[str, Any]:
        """OpenAI's activation."""
        return {"force_quick_gelu": True}

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of open_clip's transform."""
        return Resize("crop", *entry.fixed_size, (("interpolation", "bicubic"), ("percent", 100)))

    def own(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """OpenAI's archives hold three numbers beside the tensors."""
        return {name: value for name, value in state.items() if name not in _OF_AN_ARCHIVE}

    def random(self, entry: Entry, seed: int) -> torch.nn.Module:
        """See :meth:`OpenClipFamily.random`."""
        return _random(entry, seed)


def _random(entry: Entry, seed: int) -> torch.nn.Module:
    """The true architecture with random weights whose embeddings differ between pictures and between texts.

    Without training the embeddings of all pictures are nearly equal: the mean direction is projected out of each
    projection.
    """
    import torch

    pictures = calibrate.structured_pictures(8, *entry.fixed_size, seed)
    tokens = torch.from_numpy(some_tokens(16, seed))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = FAMILY.create(entry)
        transformers_weights.redraw(network, seed)
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d) and ".layer" in name and name.endswith("bn3"):
                layer.weight.mul_(0.15)  # otherwise rounding errors grow with depth, see families.resnet
        images = normalised(pictures, scale_of(network))
        calibrate.settle(network, lambda: network.encode_image(images))
        visual = network.visual
        if hasattr(visual, "proj"):
            rows = _without(visual, "proj", None, lambda: network.encode_image(images))
            project(visual.proj.T, rows)
        else:
            width = visual.attnpool.c_proj.in_features
            through = torch.nn.Linear(width, width, bias=False)
            through.weight.copy_(torch.eye(width))
            rows = _without(visual.attnpool, "c_proj", through, lambda: network.encode_image(images))
            project(visual.attnpool.c_proj.weight, rows)
        rows = _without(network, "text_projection", None, lambda: network.encode_text(tokens))
        project(network.text_projection.T, rows)
    return network


def _without(owner: torch.nn.Module, name: str, instead: Any, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What ``encode`` gives while the projection ``name`` of ``owner`` is replaced by the identity."""
    projection = getattr(owner, name)
    setattr(owner, name, instead)
    rows = encode()
    setattr(owner, name, projection)
    return rows


FAMILY = CLIP()
