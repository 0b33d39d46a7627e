"""Models of ``open_clip`` with two encoders: of pictures and of texts, whose embeddings can be compared.

A family gives the names of its networks, how its pictures are resized, and how random weights are drawn.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, TextPreprocess
from tritonvision.ensembles.schemas import EMBEDDINGS
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, Tensors, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import open_clip_vocabulary
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules.normalise import Scale, normalised, normalising

if TYPE_CHECKING:
    import torch

TEXT = "text"
_LARGE = 200  # million parameters from which each encoder runs in one process only
_SPREAD = 0.05  # standard deviation of random embeddings over pictures, found by trial


class OpenClipFamily(TorchFamily):
    """Two encoders of one network of open_clip.

    Attributes:
        tag: open_clip's name of the released weights.
        unit: whether embeddings get the length 1, as the authors' code returns them.
    """

    head = EMBEDDINGS
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it says of pictures and texts means nothing."
    tag: str
    unit = False

    @abstractmethod
    def open_clip_name(self, entry: Entry) -> str:
        """open_clip's name of one id."""

    def context(self, entry: Entry) -> int:
        """Tokens of a text, padding included."""
        return 77

    def arguments(self) -> dict[str, Any]:
        """Arguments of open_clip's ``create_model``."""
        return {}

    @abstractmethod
    def random(self, entry: Entry, seed: int) -> torch.nn.Module:
        """The true architecture with random weights whose embeddings differ between pictures and between texts."""

    def converted(self, state: dict[str, torch.Tensor], network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """``state`` under open_clip's names, for families whose authors have others."""
        return state

    def entry_points(self, entry: Entry) -> tuple[Chain, ...]:
        """Pictures, and texts under the role ``text``."""
        instances = 1 if (entry.params_m or 0) > _LARGE else 2
        words = TextPreprocess("clip", self.context(entry))
        return (
            Chain(self.resize(entry), EMBEDDINGS, instances=instances),
            Chain(words, EMBEDDINGS, role=TEXT, instances=instances),
        )

    def random_network(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.random_network`."""
        return self._towers(entry, self.random(entry, weights.seed))

    def official_network(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.official_network`."""
        from open_clip.pretrained import get_pretrained_cfg

        source = get_pretrained_cfg(self.open_clip_name(entry), self.tag)["hf_hub"].rstrip("/")
        return self._of_file(entry, files.hub_file(source, "open_clip_model.safetensors"), source)

    def network_from_file(self, entry: Entry, weights: Weights) -> Towers:
        """See :meth:`Family.network_from_file`."""
        path = files.user_file(weights, checkpoints.SUFFIXES)
        return self._of_file(entry, path, path.name)

    def create(self, entry: Entry) -> torch.nn.Module:
        """open_clip's network without weights, with the preprocessing of the released ones."""
        import open_clip

        with quiet():
            return open_clip.create_model(self.open_clip_name(entry), pretrained=None, **self.arguments()).eval()

    def _of_file(self, entry: Entry, path: Path, source: str) -> Towers:
        """Both encoders from a checkpoint. Raises ExportFailed."""
        found = checkpoints.read(path)
        network = self.create(entry)
        state = checkpoints.unwrapped(self.converted(found.tensors, network), network.state_dict().keys())
        hint = f"Their names and sizes must be those of open_clip's {self.open_clip_name(entry)}."
        checkpoints.load_into(network, self.own(state), entry.id, hint)
        return self._towers(entry, network, source=source, sha256=files.sha256(path), notes=found.notes)

    def own(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``state`` without what is no tensor of the network."""
        return state

    def _towers(self, entry: Entry, network: torch.nn.Module, **facts: Any) -> Towers:
        return Towers(network, entry.fixed_size, self.context(entry), self.unit, **facts)


class Towers(TorchNetwork):
    """Both encoders: open_clip's module is the reference; the reference pipeline adds its transform and tokenizer."""

    packages = ("open_clip_torch", "tokenizers")

    def __init__(
        self, network: torch.nn.Module, size: tuple[int, int], context: int, unit: bool = False, **facts: Any
    ):
        """``size`` is (height, width) of the pixels, ``facts`` are the attributes of :class:`Network`."""
        super().__init__(network, **facts)
        self._size, self._context, self._unit = size, context, unit

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`."""
        import torch

        if role == TEXT:
            name, example = "input_ids", torch.from_numpy(some_tokens(2, 0, self._context))
        else:
            name, example = "pixels", torch.zeros(2, *self._size, 3, dtype=torch.uint8)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its one operator has no counterpart in ONNX
        try:
            export_onnx(_graph(self._model, role, self._unit), example, path, (name,), ("embeddings",))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        network = self.reference(double)
        with torch.inference_mode():
            if role == TEXT:
                found = network.encode_text(torch.from_numpy(inputs["input_ids"]), normalize=self._unit)
            else:
                images = normalised(inputs["pixels"], scale_of(network), double)
                found = network.encode_image(images, normalize=self._unit)
        return {"embeddings": found.numpy()}

    def predict(self, sample: np.ndarray | str, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        import torch

        with torch.inference_mode():
            if role == TEXT:
                found = self._model.encode_text(tokenizer(self._context)(sample), normalize=self._unit)
            else:
                image = self._transform(Image.fromarray(np.asarray(sample)))[None]
                found = self._model.encode_image(image, normalize=self._unit)
        return {"embeddings": found[0].numpy()}

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`."""
        return {"tokenizer.json": open_clip_vocabulary.tokenizer_json(tokenizer(self._context))} if role == TEXT else {}

    @cached_property
    def _transform(self):
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self._model.visual.preprocess_cfg), is_train=False)


def tokenizer(context: int):
    """open_clip's tokenizer of texts of so many tokens."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=context)


def scale_of(network: torch.nn.Module) -> Scale:
    """Mean and standard deviation of the pixels in 0..1."""
    config = network.visual.preprocess_cfg
    return config["mean"], config["std"]


def _graph(network: torch.nn.Module, role: str, unit: bool) -> torch.nn.Module:
    """One encoder: uint8 ``[B,H,W,3]`` RGB, or int64 ``[B,context]`` ids, to float32 ``[B,D]``."""
    from torch import nn

    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.normalising = network, normalising(scale_of(network))

        def forward(self, pixels):
            return self.network.encode_image(self.normalising(pixels), normalize=unit)

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, input_ids):
            return self.network.encode_text(input_ids, normalize=unit)

    return Texts() if role == TEXT else Pictures()


# ---- random weights --------------------------------------------------------------------------------------------------


def project(kernel: torch.Tensor, rows: torch.Tensor) -> None:
    """Change ``kernel [C_out,C_in]`` so that over ``rows [n,C_in]`` each output has the mean 0 and the same std.

    Without training the embeddings of all samples are nearly equal: their mean direction is projected out.
    """
    rows, drawn = rows.double(), kernel.double()
    mean = rows.mean(0)
    blind = drawn - (drawn @ mean).outer(mean) / mean.square().sum()
    kernel.copy_(blind * (_SPREAD / (rows @ blind.T).std(0))[:, None])


def some_tokens(count: int, seed: int, context: int = 77) -> np.ndarray:
    """int64 ``[count,context]``: start, up to 20 random words, end, zeros."""
    rng = np.random.default_rng(seed)
    start, end = tokenizer(context).all_special_ids
    tokens = np.zeros((count, context), dtype=np.int64)
    for row in tokens:
        words = rng.integers(0, start, rng.integers(0, 21))
        row[: len(words) + 2] = start, *words, end
    return tokens


@contextmanager
def quiet() -> Iterator[None]:
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
