"""EasyOCR: CRAFT finds regions of text, a recogniser of one script reads them."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Option, ReferencePipeline, Refusals, Tensors, Tolerance, Weights
from tritonvision.exporters.families.easyocr import networks, packs, synthetic
from tritonvision.exporters.families.easyocr.packs import Pack
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.parity import text_pages
from tritonvision.python_backend.compositions import region_text
from tritonvision.python_backend.ocr import grey_lines, page_layout
from tritonvision.python_backend.ocr.craft_lines import Upright

if TYPE_CHECKING:
    import torch

DETECTOR, RECOGNISER = "detector", "recogniser"
CRAFT = "craft_mlt_25k.pth"  # the released detector, one for all packs
VOCABULARY = "vocabulary.txt"  # beside a user's weights: the characters, where they are not the pack's
LONGEST = 2560  # pixels; easyocr makes larger pictures smaller
# The pack behind each id, by the names that easyocr gives them.
PACKS = {"easyocr-en": "english_g2", "easyocr-multi": "latin_g2"}
_WIDTHS = (64, 512, 16384)  # pixels of a line: the shortest, a usual one, the longest
_ROLES = {DETECTOR: ("maps", {1: "height", 2: "width"}), RECOGNISER: ("logits", {1: "steps"})}


def point(longest: int = LONGEST) -> Composition:
    """The entry point of detectors that see pictures of up to ``longest`` pixels."""
    sides = ((32, 1024, -(-longest // 32) * 32),) * 2
    return Composition(
        name="page-text",
        version=1,
        task=region_text.TASK,
        nets=(
            # one process: a run on a large page takes gigabytes
            Net(DETECTOR, (Tensor("pixels", "UINT8", (-1, -1, 3), bounds=sides),),
                (Tensor("maps", "FP32", (-1, -1, 2)),), 1),
            Net(RECOGNISER, (Tensor("pixels", "UINT8", (grey_lines.HEIGHT, -1), bounds=(_WIDTHS,)),),
                (Tensor("logits", "FP32", (-1, -1)),)),
        ),
        outputs=(
            Tensor("boxes", "FP32", (-1, 4)), Tensor("polygons", "FP32", (-1, 4, 2)), Tensor("scores", "FP32", (-1,)),
            Tensor("class_ids", "INT32", (-1,)), Tensor("texts", "STRING", (-1,)), Tensor("parents", "INT32", (-1,)),
            Tensor("text", "STRING", (1,)), IMAGE_SIZE,
        ),
        options=(("longest", longest),),
        module="region-text",
    )  # fmt: skip


class EasyOCR(TorchFamily):
    """easyocr's ``Reader.readtext`` with its default options, but for weights in int8."""

    name = "EasyOCR"
    refusals = Refusals(
        labels=f"knows three classes: {', '.join(page_layout.LABELS)}", own_labels=page_layout.LABELS
    )  # fmt: skip
    choices = (
        Option("recog_network", "", packs.NAMES, "the pack: a recogniser of one script"),
        Option("lang_list", "", (), "codes of languages, parted by commas: other characters of the pack are not read"),
        Option("canvas_size", str(LONGEST), (), "pixels of the longest side that the detector sees, 64 to 2560"),
    )
    working_memory = 1_800_000_000  # the detector sees whole pages
    random_note = "Random weights, their last layers fitted only to carry signal: what is read means nothing."
    tolerance = Tolerance(
        tensors={"maps": 1e-4, "logits": 2e-4}, answers={"pixels": 1.0, "scores": 4e-6},
        causes={"pixels": "corners are whole pixels: a map's last digit moves one by a pixel; so far none was moved"},
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "easyocr", "1.7.2", "Reader(languages, gpu=False, quantize=False, recog_network=pack).readtext(file)"
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """Regions, then their text."""
        return (point(),)

    def architecture(self, entry: Entry) -> str:
        """The detector and the pack."""
        return f"CRAFT and {PACKS[entry.id]}"

    def check(self, entry: Entry, weights: Weights) -> None:
        """See :meth:`Family.check`."""
        super().check(entry, weights)
        self._choice(entry, weights)

    def _choice(self, entry: Entry, weights: Weights) -> tuple[str, tuple[str, ...], int]:
        """Name of the pack, languages (empty: all of it), longest side. Raises InvalidParameter."""
        given = self.chosen(entry, weights)
        name = given["recog_network"] or PACKS[entry.id]
        return name, packs.languages(name, given["lang_list"]), packs.longest(given["canvas_size"], LONGEST)

    def random_network(self, entry: Entry, weights: Weights) -> EasyOCRNetwork:
        """See :meth:`Family.random_network`."""
        name, languages, longest = self._choice(entry, weights)
        pack = packs.find(name, languages)
        return EasyOCRNetwork(*_random(pack, weights.seed), pack, longest)

    def official_network(self, entry: Entry, weights: Weights) -> EasyOCRNetwork:
        """See :meth:`Family.official_network`."""
        name, languages, longest = self._choice(entry, weights)
        pack = packs.find(name, languages)
        return _of_files(packs.download_detector(), packs.download(pack), pack, longest)

    def network_from_file(self, entry: Entry, weights: Weights) -> EasyOCRNetwork:
        """Two files in a folder, and the characters where they are not the pack's."""
        name, languages, longest = self._choice(entry, weights)
        pack = packs.find(name, languages)
        detector, recogniser, characters = _user_files(weights.path, pack)
        own = pack if characters is None else pack.with_characters(characters)
        return _of_files(detector, recogniser, own, longest)


class EasyOCRNetwork(TorchNetwork):
    """CRAFT and a recogniser; the reference pipeline is easyocr's own reader with the same two modules."""

    packages = ("easyocr",)

    def __init__(
        self, detector: torch.nn.Module, recogniser: torch.nn.Module, pack: Pack, longest: int = LONGEST, **facts: Any
    ):
        """``facts`` are the attributes of :class:`Network`."""
        from torch import nn

        modules = nn.ModuleDict({DETECTOR: detector, RECOGNISER: recogniser})
        super().__init__(modules, page_layout.LABELS, entry_points=(point(longest),), **facts)
        self.pack, self._longest = pack, longest

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: RGB uint8 ``[B,H,W,3]`` to two maps, or grey ``[B,64,W]`` to logits."""
        import torch

        output, axes = _ROLES[role]
        shape = (2, 64, 96, 3) if role == DETECTOR else (2, grey_lines.HEIGHT, 128)
        wide = {1: "high", 2: "wide"} if role == DETECTOR else {2: "wide"}
        graph = (networks.detector if role == DETECTOR else networks.recogniser)(self._model[role])
        example = torch.zeros(*shape, dtype=torch.uint8)
        export_onnx(graph, example, path, ("pixels",), (output,), {"pixels": wide, output: axes})

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`: easyocr's arithmetic of pixels and its own forward pass."""
        import torch

        network, pixels = self.reference(double)[role], torch.from_numpy(inputs["pixels"])
        pixels = pixels.double() if double else pixels.float()
        with torch.inference_mode():
            if role == DETECTOR:
                found = network(networks.normalised(pixels))[0]
            else:
                found = network((pixels / 255 - 0.5).div(0.5)[:, None], None)
        return {_ROLES[role][0]: found.numpy()}

    @cached_property
    def _reader(self) -> Any:
        from easyocr import Reader, detection, utils

        with tempfile.TemporaryDirectory() as nothing, packs.same_path():
            reader = Reader(
                list(self.pack.languages), gpu=False, model_storage_directory=nothing, user_network_directory=nothing,
                recog_network=self.pack.name, download_enabled=False, detector=False, recognizer=False, verbose=False,
                quantize=False,
            )  # fmt: skip
        if reader.character != self.pack.characters:
            reader.character = reader.lang_char = self.pack.characters  # a user's own, all of which are read
        reader.get_textbox = detection.get_textbox
        reader.detector, reader.recognizer = self._model[DETECTOR], self._model[RECOGNISER]
        reader.converter = utils.CTCLabelConverter(self.pack.characters)
        return reader

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`: what ``readtext`` does of a file. Of arrays it exchanges red and blue."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no accelerator for what it pins in memory
            level, turned = self._reader.detect(sample, canvas_size=self._longest, reformat=False)
            grey = cv2.cvtColor(sample, cv2.COLOR_RGB2GRAY)
            found = self._reader.recognize(grey, level[0], turned[0], reformat=False)
        polygons = np.array([corners for corners, _, _ in found], np.float32).reshape(-1, 4, 2)
        texts = [text for _, text, _ in found]
        return {
            "boxes": np.concatenate([polygons.min(axis=1), polygons.max(axis=1)], axis=1),
            "polygons": polygons,
            "scores": np.array([confidence for _, _, confidence in found], np.float32),
            "class_ids": np.full(len(found), page_layout.LINE, np.int32),
            "texts": np.array([text.encode() for text in texts], object),
            "parents": np.full(len(found), -1, np.int32),
            "text": np.array(["\n".join(texts).encode()], object),
            "image_size": np.array(sample.shape[:2], np.int32),
        }

    def examples(self, role: str) -> dict[str, Tensors]:
        """A part of a page, and of another size with noise; a word, and longer ones in one batch."""
        page, words = text_pages.page_and_words(5)
        rng = np.random.default_rng(0)
        if role == DETECTOR:
            noise = rng.integers(0, 256, (96, 160, 3), np.uint8)
            part, other = page[60:252, 60:284], page[200:296, 60:220]
            return {"print": {"pixels": part[None].copy()}, "print and noise": {"pixels": np.stack([other, noise])}}
        grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
        cut = []
        for word in words[:4]:
            left, top, right, bottom = word.box
            line = grey_lines.upright(grey, Upright(left - 4, right + 4, top - 4, bottom + 4))
            assert line is not None, "words stand on the page"
            cut.append(line)
        wide = max(line.width for line in cut)
        several = np.stack([grey_lines.padded(line.pixels, wide) for line in cut])
        noise = rng.integers(0, 256, (1, *several.shape[1:]), np.uint8)
        alone = grey_lines.padded(cut[0].pixels, cut[0].width)[None]
        return {"a word": {"pixels": alone}, "words and noise": {"pixels": np.concatenate([several, noise])}}

    def assets(self, role: str) -> dict[str, bytes]:
        """The characters that the recogniser knows, and those of other languages, which are not read."""
        found = {"characters": self.pack.characters, "ignored": self.pack.ignored}
        return {region_text.CHARACTERS: json.dumps(found, ensure_ascii=False).encode()}


def _random(pack: Pack, seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both networks, drawn from the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        detector, recogniser = networks.craft(), networks.reader(pack)
    synthetic.detector(detector, seed)
    synthetic.recogniser(recogniser, pack.characters, seed)
    return detector, recogniser


def _of_files(detector: Path, recogniser: Path, pack: Pack, longest: int) -> EasyOCRNetwork:
    """Both networks with their weights. Raises ExportFailed when these are not of these architectures."""
    digest = hashlib.sha256((files.sha256(detector) + files.sha256(recogniser)).encode()).hexdigest()
    return EasyOCRNetwork(
        _load(networks.craft(), detector, "CRAFT"), _load_reader(pack, recogniser), pack, longest,
        source=f"{detector.name} and {recogniser.name}", sha256=digest,
    )  # fmt: skip


def _load(network: torch.nn.Module, path: Path, what: str) -> torch.nn.Module:
    state = checkpoints.unwrapped(checkpoints.read(path).tensors, network.state_dict().keys())
    checkpoints.load_into(network, state, what, "Their names and shapes must be easyocr's.")
    return network


def _load_reader(pack: Pack, path: Path) -> torch.nn.Module:
    """The recogniser. Raises ExportFailed, also when it knows another number of characters."""
    network = networks.reader(pack)
    state = checkpoints.unwrapped(checkpoints.read(path).tensors, network.state_dict().keys())
    last = state.get("Prediction.weight")
    if last is not None and len(last) != len(pack.characters) + 1:
        raise ExportFailed(
            f"The recogniser knows {len(last) - 1} characters, its vocabulary names {len(pack.characters)}.",
            hint=f"Write its characters in their order into {VOCABULARY} beside the weights.",
        )
    checkpoints.load_into(network, state, pack.name, "Their names and shapes must be easyocr's.")
    return network


def _user_files(folder: Path | None, pack: Pack) -> tuple[Path, Path, str | None]:
    """The two files of a folder, and the characters in it. Raises ExportFailed."""
    hint = f"Put {CRAFT} and {pack.file}, as easyocr publishes them, into one folder and name that."
    if folder is None or not folder.is_dir():
        raise ExportFailed("These weights are two files in a folder.", hint=hint)
    for name in (CRAFT, pack.file):
        if not (folder / name).is_file():
            raise ExportFailed(f"The weights folder holds no {name}.", hint=hint)
    characters = folder / VOCABULARY
    try:
        text = characters.read_text("utf-8").strip("\r\n") if characters.is_file() else None
    except UnicodeDecodeError as error:
        raise ExportFailed(f"{VOCABULARY} is not UTF-8.") from error
    return folder / CRAFT, folder / pack.file, text


FAMILY = EasyOCR()
