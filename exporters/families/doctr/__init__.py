"""docTR: a DB detector that finds words on a page, and a CRNN that reads them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.doctr import synthetic
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.parity import text_pages
from tritonvision.python_backend.compositions import page_text
from tritonvision.python_backend.ocr import page_layout, text_pixels

if TYPE_CHECKING:
    import torch

PAGE, WORD = (1024, 1024), (32, 128)  # height, width of what detector and recogniser read
DETECTOR, RECOGNISER = "detector", "recogniser"
# The two architectures of docTR behind each id; an id names the detector only, and in short form.
ARCHITECTURES = {
    "doctr-db_mobilenet_v3": ("db_mobilenet_v3_large", "crnn_mobilenet_v3_small"),
    "doctr-db_resnet50": ("db_resnet50", "crnn_vgg16_bn"),
}
_SUFFIXES = (".pt", ".pth", ".safetensors")
POINT = Composition(
    name="page-text",
    version=1,
    task=page_text.TASK,
    nets=(
        Net(DETECTOR, (Tensor("pixels", "UINT8", (*PAGE, 3)),), (Tensor("probabilities", "FP32", PAGE),)),
        Net(RECOGNISER, (Tensor("pixels", "UINT8", (*WORD, 3)),), (Tensor("logits", "FP32", (WORD[1] // 4, -1)),)),
    ),
    outputs=(
        Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)),
        Tensor("texts", "STRING", (-1,)), Tensor("parents", "INT32", (-1,)), Tensor("text", "STRING", (1,)), IMAGE_SIZE,
    ),
    options=(("page", PAGE), ("word", WORD)),
    size=PAGE,
)  # fmt: skip


class DocTR(TorchFamily):
    """docTR's ``ocr_predictor`` of straight pages with its default options."""

    name = "DocTR"
    refusals = Refusals(
        labels=f"knows three classes: {', '.join(page_layout.LABELS)}", own_labels=page_layout.LABELS
    )  # fmt: skip
    random_note = "Random weights, their last layers fitted only to carry signal: what is read means nothing."
    tolerance = Tolerance(
        tensors={"probabilities": 1e-4, "logits": 1e-3}, answers={"pixels": 1e-3, "scores": 1e-4},
        causes={"pixels": "float32 has no finer places on pages of ten thousand pixels; so far none differed at all"},
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "python-doctr", "1.1.0", "doctr.models.ocr_predictor(det_arch, reco_arch)([page])"
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """Words, then their text."""
        return (POINT,)

    def architecture(self, entry: Entry) -> str:
        """The names of both networks."""
        return " and ".join(ARCHITECTURES[entry.id])

    def random_network(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """See :meth:`Family.random_network`."""
        return DocTRNetwork(*_random(*ARCHITECTURES[entry.id], weights.seed))

    def official_network(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """See :meth:`Family.official_network`."""
        detector, recogniser = ARCHITECTURES[entry.id]
        return _of_files(entry, _Files(_download(detector), _download(recogniser)))

    def network_from_file(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """Two files in a folder."""
        return _of_files(entry, _user_files(weights.path, *ARCHITECTURES[entry.id]))


class DocTRNetwork(TorchNetwork):
    """A detector and a recogniser; the reference pipeline is docTR's own predictor with the same two modules."""

    packages = ("python-doctr",)

    def __init__(self, detector: torch.nn.Module, recogniser: torch.nn.Module, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        from torch import nn

        super().__init__(nn.ModuleDict({DETECTOR: detector, RECOGNISER: recogniser}), page_layout.LABELS, **facts)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: uint8 ``[B,h,w,3]`` RGB to the probability of text or to logits."""
        import torch

        example = torch.zeros(2, *(PAGE if role == DETECTOR else WORD), 3, dtype=torch.uint8)
        export_onnx(_graph(self._model[role]), example, path, ("pixels",), (_output(role),))

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`: docTR's preprocessing and its own forward pass."""
        import torch

        network = self.reference(double)[role]
        with torch.inference_mode():
            images = _prepared(network, inputs["pixels"], double)
            found = network(images, return_model_output=True)["out_map"].numpy()
        return {_output(role): found[:, 0] if role == DETECTOR else found}

    @cached_property
    def _predictor(self) -> torch.nn.Module:
        from doctr.models import ocr_predictor

        return ocr_predictor(self._model[DETECTOR], self._model[RECOGNISER], pretrained=False)

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Lines and blocks, to which docTR gives no confidence, get their words' mean."""
        (page,) = self._predictor([sample]).pages
        rows: list[tuple[Any, int, int, list[Any]]] = []  # element, class, parent, its words
        for block in page.blocks:
            first = len(rows)
            rows.append((block, page_layout.BLOCK, -1, [word for line in block.lines for word in line.words]))
            for line in block.lines:
                rows.append((line, page_layout.LINE, first, line.words))
                parent = len(rows) - 1
                rows.extend((word, page_layout.WORD, parent, [word]) for word in line.words)
        height, width = sample.shape[:2]
        corners = np.array([row[0].geometry for row in rows], np.float64).reshape(-1, 2, 2) * (width, height)
        return {
            "boxes": corners.reshape(-1, 4).astype(np.float32),
            "scores": np.array([np.mean([word.confidence for word in row[3]]) for row in rows], np.float32),
            "class_ids": np.array([row[1] for row in rows], np.int32),
            "texts": np.array([row[0].render().encode() for row in rows], object),
            "parents": np.array([row[2] for row in rows], np.int32),
            "text": np.array([page.render().encode()], object),
            "image_size": np.array([height, width], np.int32),
        }

    def examples(self, role: str) -> dict[str, Tensors]:
        """A page or a word; a page or some words, and noise, in one batch."""
        size = PAGE if role == DETECTOR else WORD
        page, words = text_pages.page_and_words(5)
        if role == DETECTOR:
            pictures = [page]
        else:
            pictures = [page[top:bottom, left:right] for left, top, right, bottom in (word.box for word in words[:7])]
        printed = np.stack([text_pixels.fit(picture, *size, centred=role == DETECTOR) for picture in pictures])
        noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        return {"print": {"pixels": printed[:1]}, "print and noise": {"pixels": np.concatenate([printed, noise])}}

    def assets(self, role: str) -> dict[str, bytes]:
        """The characters that the recogniser can read."""
        return {page_text.VOCABULARY: self._model[RECOGNISER].vocab.encode()}


@dataclass(frozen=True)
class _Files:
    """Paths of the weights, and the recogniser's characters where they are not docTR's own."""

    detector: Path
    recogniser: Path
    vocabulary: str | None = None

    @property
    def sha256(self) -> str:
        """Of both files' hashes."""
        return hashlib.sha256((files.sha256(self.detector) + files.sha256(self.recogniser)).encode()).hexdigest()


def _of_files(entry: Entry, found: _Files) -> DocTRNetwork:
    """Both networks with their weights. Raises ExportFailed when these are not of these architectures."""
    detector, recogniser = ARCHITECTURES[entry.id]
    return DocTRNetwork(
        _load(detector, found.detector), _load(recogniser, found.recogniser, found.vocabulary),
        source=f"{found.detector.name} and {found.recogniser.name}", sha256=found.sha256,
    )  # fmt: skip


def _output(role: str) -> str:
    return "probabilities" if role == DETECTOR else "logits"


def _module(architecture: str, **options: Any) -> torch.nn.Module:
    """docTR's network of that name, without any download."""
    from doctr.models import detection, recognition

    factory = getattr(detection if architecture.startswith("db_") else recognition, architecture)
    return factory(pretrained=False, pretrained_backbone=False, **options).eval()


def _statistics(network: torch.nn.Module, double: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std of values in 0..1, ``[3,1,1]``."""
    import torch

    dtype = torch.float64 if double else torch.float32
    return tuple(torch.tensor(network.cfg[name], dtype=dtype).view(3, 1, 1) for name in ("mean", "std"))


def _prepared(network: torch.nn.Module, pixels: np.ndarray, double: bool = False) -> torch.Tensor:
    """uint8 ``[B,h,w,3]`` RGB to what the network reads, by the arithmetic of docTR's preprocessor."""
    import torch

    mean, std = _statistics(network, double)
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).to(mean.dtype).div(255) - mean) / std


def _graph(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,h,w,3]`` RGB to probabilities ``[B,h,w]`` of a detector, logits ``[B,steps,V+1]`` of a recogniser."""
    import torch
    from doctr.models.detection import DBNet

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = copy.copy(network)
            self.network.exportable = True  # logits only; the original, which the predictor uses, stays unchanged
            mean, std = _statistics(network)
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)
            self.detects = isinstance(network, DBNet)

        def forward(self, pixels):
            logits = self.network((pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)["logits"]
            return logits.sigmoid()[:, 0] if self.detects else logits

    return Graph()


def _random(detector: str, recogniser: str, seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both networks, drawn from the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        networks = _module(detector), _module(recogniser)
    for network, draw in zip(networks, (synthetic.detector, synthetic.recogniser), strict=True):
        network.exportable = True  # while it is fitted: nothing is decoded
        draw(network, partial(_prepared, network), seed)
        network.exportable = False
    return networks


def _download(architecture: str) -> Path:
    """The official weights by docTR's own downloader and from its cache. Raises ExportFailed."""
    from doctr.utils.data import download_from_url

    url = _module(architecture).cfg["url"]
    try:
        return Path(download_from_url(url, cache_subdir="models"))
    except (OSError, ValueError) as error:  # no network; a file that is not what its name promises
        raise files.unavailable(f"{architecture}.pt") from error


def _user_files(folder: Path | None, detector: str, recogniser: str) -> _Files:
    """The two files of a folder. Raises ExportFailed."""
    hint = f"Put {detector}.pt and {recogniser}.pt, as docTR publishes them, into one folder and name that."
    if folder is None or not folder.is_dir():
        raise ExportFailed("These weights are two files in a folder.", hint=hint)
    found = []
    for architecture in (detector, recogniser):
        named = [path for path in sorted(folder.glob(f"{architecture}*")) if path.suffix in _SUFFIXES]
        if len(named) != 1:
            raise ExportFailed(f"The weights folder holds {len(named)} files of {architecture}, not one.", hint=hint)
        found += named
    characters = folder / page_text.VOCABULARY
    try:
        return _Files(found[0], found[1], characters.read_text("utf-8").strip("\n") if characters.is_file() else None)
    except UnicodeDecodeError as error:
        raise ExportFailed(f"{page_text.VOCABULARY} is not UTF-8.") from error


def _load(architecture: str, path: Path, vocabulary: str | None = None) -> torch.nn.Module:
    """The network with the weights of a file. Raises ExportFailed when they are of another architecture."""
    network = _module(architecture, **({} if vocabulary is None else {"vocab": vocabulary}))
    state = checkpoints.unwrapped(checkpoints.read(path).tensors, network.state_dict().keys())
    characters = state.get("linear.weight")
    if hasattr(network, "vocab") and characters is not None and len(characters) != len(network.vocab) + 1:
        raise ExportFailed(
            f"The recogniser knows {len(characters) - 1} characters, its vocabulary names {len(network.vocab)}.",
            hint=f"Write its characters in their order into {page_text.VOCABULARY} beside the weights.",
        )
    checkpoints.load_into(network, state, architecture, "Their names and shapes must be docTR's.")
    return network


FAMILY = DocTR()
