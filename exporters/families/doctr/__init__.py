"""docTR: a DB detector that finds words on a page, and a network that reads them.

Pages are straight unless its option ``assume_straight_pages`` says otherwise. All its recognisers can be had but
MASTER, whose decoder computes every letter anew for each further one.
"""

from __future__ import annotations

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
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Option, ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.doctr import networks, synthetic
from tritonvision.exporters.families.doctr.networks import ORIENTATIONS
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.parity import text_pages
from tritonvision.python_backend.compositions import page_text
from tritonvision.python_backend.compositions.page_text import CROP, SIDES
from tritonvision.python_backend.compositions.page_text import PAGE as SHEET
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
# Recognisers, and how their steps become letters: keys of ctc.DECODERS.
RECOGNISERS = {
    "crnn_vgg16_bn": "ctc", "crnn_mobilenet_v3_small": "ctc", "crnn_mobilenet_v3_large": "ctc", "viptr_tiny": "ctc",
    "vitstr_small": "until-end", "vitstr_base": "until-end", "parseq": "until-end", "sar_resnet31": "until-end-least",
}  # fmt: skip
_SUFFIXES = (".pt", ".pth", ".safetensors")
_BOOLEAN = ("true", "false")


@dataclass(frozen=True)
class Choice:
    """What docTR's ``ocr_predictor`` is given, by the names that it has there."""

    det_arch: str
    reco_arch: str
    assume_straight_pages: bool = True
    detect_orientation: bool = False
    straighten_pages: bool = False
    resolve_blocks: bool = False

    @property
    def roles(self) -> dict[str, str]:
        """Architectures by the role of their network."""
        orientations = {
            CROP: not self.assume_straight_pages, SHEET: self.detect_orientation or self.straighten_pages,
        }  # fmt: skip
        return {DETECTOR: self.det_arch, RECOGNISER: self.reco_arch} | {
            role: name for role, name in ORIENTATIONS.items() if orientations[role]
        }


def point(choice: Choice) -> Composition:
    """The entry point of a pair of networks and docTR's options."""
    decoding = RECOGNISERS[choice.reco_arch]
    steps = WORD[1] // 4 if choice.reco_arch.startswith("crnn") else -1
    options: dict[str, Any] = {"page": PAGE, "word": WORD}
    options |= {} if decoding == "ctc" else {"decoding": decoding}
    for name, asked in (
        ("turned", not choice.assume_straight_pages), ("orientation", choice.detect_orientation),
        ("straighten", choice.straighten_pages), ("blocks", choice.resolve_blocks),
    ):  # fmt: skip
        options |= {name: True} if asked else {}
    turned = () if choice.assume_straight_pages else (Tensor("polygons", "FP32", (-1, 4, 2)),)
    angle = (Tensor("orientation", "INT32", (1,)),) if choice.detect_orientation else ()
    return Composition(
        name="page-text",
        version=1,
        task=page_text.TASK,
        nets=(
            Net(DETECTOR, (Tensor("pixels", "UINT8", (*PAGE, 3)),), (Tensor("probabilities", "FP32", PAGE),)),
            Net(RECOGNISER, (Tensor("pixels", "UINT8", (*WORD, 3)),), (Tensor("logits", "FP32", (steps, -1)),)),
            *(
                Net(role, (Tensor("pixels", "UINT8", (*SIDES[role], 3)),), (Tensor("logits", "FP32", (4,)),))
                for role in choice.roles if role in SIDES
            ),
        ),
        outputs=(
            Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)),
            Tensor("texts", "STRING", (-1,)), Tensor("parents", "INT32", (-1,)), Tensor("text", "STRING", (1,)),
            *turned, *angle, IMAGE_SIZE,
        ),
        options=tuple(options.items()),
        size=PAGE,
    )  # fmt: skip


POINT = point(Choice("db_mobilenet_v3_large", "crnn_mobilenet_v3_small"))


class DocTR(TorchFamily):
    """docTR's ``ocr_predictor``, by default of straight pages and with the recogniser that the id stands for."""

    name = "DocTR"
    refusals = Refusals(
        labels=f"knows three classes: {', '.join(page_layout.LABELS)}", own_labels=page_layout.LABELS
    )  # fmt: skip
    choices = (
        Option("reco_arch", "", tuple(RECOGNISERS), "the recogniser; by default that of the id"),
        Option("assume_straight_pages", "true", _BOOLEAN, "false: words stand at any angle, and have four corners"),
        Option("detect_orientation", "false", _BOOLEAN, "true: the angle of the page is told"),
        Option("straighten_pages", "false", _BOOLEAN, "true: the page is put straight before it is read"),
        Option("resolve_blocks", "false", _BOOLEAN, "true: lines are divided into blocks"),
    )
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

    def choice(self, entry: Entry, weights: Weights) -> Choice:
        """What docTR's predictor is given. Raises InvalidParameter."""
        detector, recogniser = ARCHITECTURES[entry.id]
        given = self.chosen(entry, weights)
        named = given.pop("reco_arch") or recogniser
        return Choice(detector, named, **{name: value == "true" for name, value in given.items()})

    def random_network(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """See :meth:`Family.random_network`."""
        choice = self.choice(entry, weights)
        return DocTRNetwork(_random(choice, weights.seed), choice)

    def official_network(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """See :meth:`Family.official_network`."""
        choice = self.choice(entry, weights)
        return _of_files(choice, _Files({role: networks.download(name) for role, name in choice.roles.items()}))

    def network_from_file(self, entry: Entry, weights: Weights) -> DocTRNetwork:
        """A file in a folder for each network."""
        choice = self.choice(entry, weights)
        return _of_files(choice, _user_files(weights.path, choice.roles))


class DocTRNetwork(TorchNetwork):
    """A detector, a recogniser, and networks that tell which side is up; the reference pipeline is docTR's own
    predictor with the same modules.
    """

    packages = ("python-doctr",)

    def __init__(self, modules: Mapping[str, torch.nn.Module], choice: Choice, **facts: Any):
        """``modules`` by role; ``facts`` are the attributes of :class:`Network`."""
        from torch import nn

        super().__init__(nn.ModuleDict(modules), page_layout.LABELS, entry_points=(point(choice),), **facts)
        self._choice = choice

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: uint8 ``[B,h,w,3]`` RGB to the probability of text or to logits."""
        import torch

        # a flat picture would let a decoder end at once
        example = torch.randint(0, 256, (2, *_size(role), 3), dtype=torch.uint8)
        export_onnx(networks.graph(self._model[role]), example, path, ("pixels",), (_output(role),))

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`: docTR's preprocessing and its own forward pass."""
        import torch

        network = self.reference(double)[role]
        with torch.inference_mode():
            images = networks.prepared(network, inputs["pixels"], double)
            if role == DETECTOR:
                return {_output(role): network(images, return_model_output=True)["out_map"].numpy()[:, 0]}
            # without the end of a loop when all words of a batch have ended
            found = network(images) if role in SIDES else networks.exportable(network)(images)["logits"]
        return {_output(role): found.numpy()}

    @cached_property
    def _predictor(self) -> torch.nn.Module:
        from doctr.models import classification, ocr_predictor

        given = self._choice
        predictor = ocr_predictor(
            self._model[DETECTOR], self._model[RECOGNISER], pretrained=False,
            assume_straight_pages=given.assume_straight_pages, detect_orientation=given.detect_orientation,
            straighten_pages=given.straighten_pages, resolve_blocks=given.resolve_blocks,
            preserve_original_coords=True, disable_page_orientation=True, disable_crop_orientation=True,
        )  # fmt: skip
        # built without them, because it would download their weights
        predictor._page_orientation_disabled = predictor._crop_orientation_disabled = False
        if CROP in self._model:
            predictor.crop_orientation_predictor = classification.crop_orientation_predictor(self._model[CROP])
        if SHEET in self._model:
            predictor.page_orientation_predictor = classification.page_orientation_predictor(self._model[SHEET])
        return predictor

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
        turned = not self._choice.assume_straight_pages
        corners = np.array([row[0].geometry for row in rows], np.float64)
        corners = corners.reshape(-1, 4 if turned else 2, 2) * (width, height)
        found = {"polygons": corners.astype(np.float32)} if turned else {}
        if self._choice.detect_orientation:
            found["orientation"] = np.array([page.orientation["value"]], np.int32)
        return found | {
            "boxes": np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32),
            "scores": np.array([np.mean([word.confidence for word in row[3]]) for row in rows], np.float32),
            "class_ids": np.array([row[1] for row in rows], np.int32),
            "texts": np.array([row[0].render().encode() for row in rows], object),
            "parents": np.array([row[2] for row in rows], np.int32),
            "text": np.array([page.render().encode()], object),
            "image_size": np.array([height, width], np.int32),
        }

    def examples(self, role: str) -> dict[str, Tensors]:
        """A page or a word; a page or some words, and noise, in one batch."""
        size = _size(role)
        page, words = text_pages.page_and_words(5)
        if role in (DETECTOR, SHEET):
            pictures = [page]
        else:
            pictures = [page[top:bottom, left:right] for left, top, right, bottom in (word.box for word in words[:7])]
        printed = np.stack([text_pixels.fit(picture, *size, centred=role != RECOGNISER) for picture in pictures])
        noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        return {"print": {"pixels": printed[:1]}, "print and noise": {"pixels": np.concatenate([printed, noise])}}

    def assets(self, role: str) -> dict[str, bytes]:
        """The characters that the recogniser can read."""
        return {page_text.VOCABULARY: self._model[RECOGNISER].vocab.encode()}


@dataclass(frozen=True)
class _Files:
    """Paths of the weights by role, and the recogniser's characters where they are not docTR's own."""

    paths: Mapping[str, Path]
    vocabulary: str | None = None

    @property
    def sha256(self) -> str:
        """Of all files' hashes."""
        return hashlib.sha256("".join(files.sha256(path) for path in self.paths.values()).encode()).hexdigest()


def _of_files(choice: Choice, found: _Files) -> DocTRNetwork:
    """The networks with their weights. Raises ExportFailed when these are not of these architectures."""
    modules = {
        role: networks.load(name, found.paths[role], found.vocabulary if role == RECOGNISER else None)
        for role, name in choice.roles.items()
    }
    source = " and ".join(path.name for path in found.paths.values())
    return DocTRNetwork(modules, choice, source=source, sha256=found.sha256)


def _size(role: str) -> tuple[int, int]:
    """Height and width of what a network reads."""
    return {DETECTOR: PAGE, RECOGNISER: WORD, **SIDES}[role]


def _output(role: str) -> str:
    return "probabilities" if role == DETECTOR else "logits"


def _random(choice: Choice, seed: int) -> dict[str, torch.nn.Module]:
    """The networks by role, drawn from the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        modules = {role: networks.module(name) for role, name in choice.roles.items()}
    for role, network in modules.items():
        prepare = partial(networks.prepared, network)
        network.exportable = True  # while it is fitted: nothing is decoded
        if role == DETECTOR:
            synthetic.detector(network, prepare, seed)
        elif choice.reco_arch.startswith("crnn") and role == RECOGNISER:
            synthetic.recogniser(network, prepare, seed)
        else:
            synthetic.redrawn(network, prepare, seed, _size(role))
        network.exportable = False
    return modules


def _user_files(folder: Path | None, roles: Mapping[str, str]) -> _Files:
    """The files of a folder, one for each network. Raises ExportFailed."""
    names = [f"{name}.pt" for name in roles.values()]
    hint = f"Put {', '.join(names[:-1])} and {names[-1]}, as docTR publishes them, into one folder and name that."
    if folder is None or not folder.is_dir():
        count = {2: "two", 3: "three", 4: "four"}[len(names)]
        raise ExportFailed(f"These weights are {count} files in a folder.", hint=hint)
    found = {}
    for role, architecture in roles.items():
        named = [path for path in sorted(folder.glob(f"{architecture}*")) if path.suffix in _SUFFIXES]
        if len(named) != 1:
            raise ExportFailed(f"The weights folder holds {len(named)} files of {architecture}, not one.", hint=hint)
        found[role] = named[0]
    characters = folder / page_text.VOCABULARY
    try:
        return _Files(found, characters.read_text("utf-8").strip("\n") if characters.is_file() else None)
    except UnicodeDecodeError as error:
        raise ExportFailed(f"{page_text.VOCABULARY} is not UTF-8.") from error


FAMILY = DocTR()
