"""CLIP as OpenAI released it: an image encoder and a text encoder, whose embeddings can be compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, TextPreprocess
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import open_clip_vocabulary, transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules.normalise import Scale, normalised, normalising
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch

TEXT = "text"
CONTEXT = 77
_LARGE = 200  # million parameters from which each encoder runs in one process only
_OF_AN_ARCHIVE = ("input_resolution", "context_length", "vocab_size")  # not tensors of the network
# For random networks: the standard deviation of embeddings over pictures, and the gain of attention, which averages
# over all tokens and so reduces the differences between pictures. Both were found by trial.
_SPREAD = 0.05
_ATTENTION = 8


class CLIP(TorchFamily):
    """open_clip's networks with OpenAI's activation: bicubic, centre crop, OpenAI's mean and std; 77 tokens."""

    name = "CLIP"
    head = EMBEDDINGS
    tolerance = Tolerance({"embeddings": 2e-5})
    reference_pipeline = ReferencePipeline(
        "open_clip_torch", "3.3.0",
        "create_model(name, force_quick_gelu=True); encode_image(image_transform(size, is_train=False)(image)), "
        "encode_text(get_tokenizer(name)(text)), neither normalised",
    )  # fmt: skip
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it says of pictures and texts means nothing."

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """Pictures, and texts under the role ``text``."""
        instances = 1 if (entry.params_m or 0) > _LARGE else 2
        pixels = Resize("crop", *entry.fixed_size, (("interpolation", "bicubic"), ("percent", 100)))
        return (
            Chain(pixels, EMBEDDINGS, instances=instances),
            Chain(TextPreprocess("clip", CONTEXT), EMBEDDINGS, role=TEXT, instances=instances),
        )

    def random_network(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.random_network`."""
        return Towers(_random(entry, weights.seed), entry.fixed_size)

    def official_network(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.official_network`."""
        from open_clip.pretrained import get_pretrained_cfg

        source = get_pretrained_cfg(_name(entry), "openai")["hf_hub"].rstrip("/")
        return _of_file(entry, files.hub_file(source, "open_clip_model.safetensors"), source)

    def network_from_file(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.network_from_file`."""
        path = files.user_file(weights, checkpoints.SUFFIXES)
        return _of_file(entry, path, path.name)


class Towers(TorchNetwork):
    """Both encoders: open_clip's module is the reference; the reference pipeline adds its transform and tokenizer."""

    packages = ("open_clip_torch", "tokenizers")

    def __init__(self, network: torch.nn.Module, size: tuple[int, int], **facts: Any):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(network, **facts)
        self._size = size

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`."""
        import torch

        if role == TEXT:
            name, example = "input_ids", torch.from_numpy(_some_tokens(2, seed=0))
        else:
            name, example = "pixels", torch.zeros(2, *self._size, 3, dtype=torch.uint8)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its one operator has no counterpart in ONNX
        try:
            export_onnx(_graph(self._model, role), example, path, (name,), ("embeddings",))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        network = self.reference(double)
        with torch.inference_mode():
            if role == TEXT:
                return {"embeddings": network.encode_text(torch.from_numpy(inputs["input_ids"])).numpy()}
            images = normalised(inputs["pixels"], _scale(network), double)
            return {"embeddings": network.encode_image(images).numpy()}

    def predict(self, sample: np.ndarray | str, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        import torch

        with torch.inference_mode():
            if role == TEXT:
                return {"embeddings": self._model.encode_text(_tokenizer()(sample))[0].numpy()}
            image = self._transform(Image.fromarray(np.asarray(sample)))[None]
            return {"embeddings": self._model.encode_image(image)[0].numpy()}

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`."""
        return {"tokenizer.json": open_clip_vocabulary.tokenizer_json(_tokenizer())} if role == TEXT else {}

    @cached_property
    def _transform(self):
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self._model.visual.preprocess_cfg), is_train=False)


def _name(entry: Entry) -> str:
    """``clip/ViT-L-14-336px`` is open_clip's ``ViT-L-14-336``."""
    return entry.id.removeprefix("clip/").removesuffix("px")


def _tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


def _create(entry: Entry) -> torch.nn.Module:
    import open_clip

    with _quiet():
        return open_clip.create_model(_name(entry), pretrained=None, force_quick_gelu=True).eval()


def _of_file(entry: Entry, path: Path, source: str) -> Towers:
    """Both encoders from a checkpoint. Raises ExportFailed."""
    found = checkpoints.read(path)
    network = _load(entry, found.tensors)
    return Towers(network, entry.fixed_size, source=source, sha256=files.sha256(path), notes=found.notes)


def _load(entry: Entry, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """open_clip's network with ``state``. Raises ExportFailed."""
    network = _create(entry)
    state = checkpoints.unwrapped(state, network.state_dict().keys())
    whole = {name: value for name, value in state.items() if name not in _OF_AN_ARCHIVE}
    hint = f"Their names and sizes must be those of open_clip's {_name(entry)}."
    checkpoints.load_into(network, whole, entry.id, hint)
    return network


def _scale(network: torch.nn.Module) -> Scale:
    config = network.visual.preprocess_cfg
    return config["mean"], config["std"]


def _graph(network: torch.nn.Module, role: str) -> torch.nn.Module:
    """One encoder: uint8 ``[B,H,W,3]`` RGB, or int64 ``[B,77]`` ids, to float32 ``[B,D]``."""
    from torch import nn

    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.normalising = network.visual, normalising(_scale(network))

        def forward(self, pixels):
            return self.visual(self.normalising(pixels))

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, input_ids):
            return self.network.encode_text(input_ids)

    return Texts() if role == TEXT else Pictures()


# ---- random weights --------------------------------------------------------------------------------------------------


def _random(entry: Entry, seed: int) -> torch.nn.Module:
    """The true architecture with random weights whose embeddings differ between pictures and between texts.

    Without training the embeddings of all pictures are nearly equal: the mean direction is projected out of each
    projection.
    """
    import torch

    pictures = calibrate.structured_pictures(8, *entry.fixed_size, seed)
    tokens = torch.from_numpy(_some_tokens(16, seed))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = _create(entry)
        transformers_weights.redraw(network, seed)
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.MultiheadAttention):
                layer.in_proj_weight.mul_(layer.embed_dim**-0.5)  # a kernel, which redraw takes for a table by its name
                layer.out_proj.weight.mul_(_ATTENTION)
            elif isinstance(layer, torch.nn.BatchNorm2d) and ".layer" in name and name.endswith("bn3"):
                layer.weight.mul_(0.15)  # otherwise rounding errors grow with depth, see families.resnet
        images = normalised(pictures, _scale(network))
        transformers_weights.settle(network, lambda: network.encode_image(images))
        visual = network.visual
        if hasattr(visual, "proj"):
            rows = _without(visual, "proj", None, lambda: network.encode_image(images))
            _project(visual.proj.T, rows)
        else:
            width = visual.attnpool.c_proj.in_features
            through = torch.nn.Linear(width, width, bias=False)
            through.weight.copy_(torch.eye(width))
            rows = _without(visual.attnpool, "c_proj", through, lambda: network.encode_image(images))
            _project(visual.attnpool.c_proj.weight, rows)
        rows = _without(network, "text_projection", None, lambda: network.encode_text(tokens))
        _project(network.text_projection.T, rows)
    return network


def _without(owner: torch.nn.Module, name: str, instead: Any, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What ``encode`` gives while the projection ``name`` of ``owner`` is replaced by the identity."""
    projection = getattr(owner, name)
    setattr(owner, name, instead)
    rows = encode()
    setattr(owner, name, projection)
    return rows


def _project(kernel: torch.Tensor, rows: torch.Tensor) -> None:
    """Change ``kernel [C_out,C_in]`` so that over ``rows [n,C_in]`` each output has the mean 0 and the std _SPREAD."""
    rows, drawn = rows.double(), kernel.double()
    mean = rows.mean(0)
    blind = drawn - (drawn @ mean).outer(mean) / mean.square().sum()
    kernel.copy_(blind * (_SPREAD / (rows @ blind.T).std(0))[:, None])


def _some_tokens(count: int, seed: int) -> np.ndarray:
    """int64 ``[count,77]``: start, up to 20 random words, end, zeros."""
    rng = np.random.default_rng(seed)
    start, end = _tokenizer().all_special_ids
    tokens = np.zeros((count, CONTEXT), dtype=np.int64)
    for row in tokens:
        words = rng.integers(0, start, rng.integers(0, 21))
        row[: len(words) + 2] = start, *words, end
    return tokens


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning, to the root logger, that weights are random until they are loaded."""
    root, nobody = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(nobody)  # or the first warning installs a handler for good
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(nobody)


FAMILY = CLIP()
