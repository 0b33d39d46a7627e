"""Perception Encoder (PE-Core): an image encoder and a text encoder, whose embeddings of length 1 can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.exporters.contract import ReferencePipeline, Tolerance
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.open_clip_towers import OpenClipFamily, project, scale_of, some_tokens
from tritonvision.exporters.modules.normalise import normalised
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

# open_clip's name and the tokens of a text, by the last part of the id.
_SIZES = {"B16-224": ("PE-Core-B-16", 32), "L14-336": ("PE-Core-L-14-336", 32), "G14-448": ("PE-Core-bigG-14-448", 72)}
_SCALE = (0.5, 0.5, 0.5)  # mean and std of the pixels of the released weights


class PerceptionEncoder(OpenClipFamily):
    """open_clip's networks: stretched, bilinear, mean and std 0.5; 32 tokens, 72 of G14; normalised."""

    name = "Perception Encoder"
    tag = "meta"
    unit = True
    tolerance = Tolerance({"embeddings": 5e-6})
    reference_pipeline = ReferencePipeline(
        "open_clip_torch", "3.3.0",
        "create_model_and_transforms(name, pretrained='meta'); encode_image(transform(image), normalize=True), "
        "encode_text(get_tokenizer(name)(text), normalize=True)",
    )  # fmt: skip

    def open_clip_name(self, entry: Entry) -> str:
        """``perception-encoder/PE-Core-G14-448`` is open_clip's ``PE-Core-bigG-14-448``."""
        return _SIZES[_size(entry)][0]

    def context(self, entry: Entry) -> int:
        """See :meth:`OpenClipFamily.context`."""
        return _SIZES[_size(entry)][1]

    def resize(self, entry: Entry) -> Resize:
        """The uint8 part of open_clip's transform: both sides to their size, whatever the aspect."""
        return Resize("stretch", *entry.fixed_size, (("filter", "antialiased"),))

    def create(self, entry: Entry) -> torch.nn.Module:
        """See :meth:`OpenClipFamily.create`. Without its weights open_clip assumes CLIP's preprocessing."""
        network = super().create(entry)
        network.visual.preprocess_cfg |= {
            "mean": _SCALE, "std": _SCALE, "interpolation": "bilinear", "resize_mode": "squash",
        }  # fmt: skip
        return network

    def converted(self, state: dict[str, torch.Tensor], network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """See :meth:`OpenClipFamily.converted`: timm knows Meta's names of the image encoder; the text's only lack
        open_clip's prefix.
        """
        if "visual.conv1.weight" not in state:
            return state
        from timm.models.eva import checkpoint_filter_fn

        seen = {name: value for name, value in state.items() if name.startswith("visual.")}
        pictures = checkpoint_filter_fn(seen, network.visual.trunk)
        texts = {name: value for name, value in state.items() if name not in seen}
        scale = {name: texts.pop(name) for name in ("logit_scale",) if name in texts}
        return (
            {f"visual.trunk.{name}": value for name, value in pictures.items()}
            | {f"text.{name}": value for name, value in texts.items()} | scale
        )  # fmt: skip

    def random(self, entry: Entry, seed: int) -> torch.nn.Module:
        """See :meth:`OpenClipFamily.random`."""
        import torch

        pictures = calibrate.structured_pictures(8, *entry.fixed_size, seed)
        tokens = torch.from_numpy(some_tokens(16, seed, self.context(entry)))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            network = self.create(entry)
            transformers_weights.redraw(network, seed)
            images = normalised(pictures, scale_of(network))
            last = network.visual.trunk.head
            (rows,) = calibrate.inputs_of([last], network.visual, images)
            project(last.weight, rows)
            last.bias.zero_()
            kernel, text = network.text.text_projection, network.text
            text.text_projection = None
            rows = text(tokens)
            text.text_projection = kernel
            project(kernel.T, rows)
        return network


def _size(entry: Entry) -> str:
    return entry.id.rpartition("PE-Core-")[2]


FAMILY = PerceptionEncoder()
