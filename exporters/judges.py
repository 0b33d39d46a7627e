"""How the answers of each kind are judged: what is asked, what is signal, how far two answers are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters import compare, fixtures
from tritonvision.exporters.boxes_judge import Boxes
from tritonvision.exporters.chat_judge import Chat
from tritonvision.exporters.family import Tensors
from tritonvision.exporters.judge import SIGNAL, Answer, Case, Judge, largest
from tritonvision.exporters.line_judge import LineText
from tritonvision.exporters.open_vocabulary_judge import OpenVocabulary
from tritonvision.exporters.page_judge import PageText


class Masks(Boxes):
    """Detections with masks; random ones have to cover something, and not everything."""

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Empty masks, and masks that fill their boxes, would compare as equal."""
        super().demand_signal(answer, cases)
        photo = answer(fixtures.photo())
        areas = (photo["boxes"][:, 2:] - photo["boxes"][:, :2]).prod(1)
        share = float((mask_areas(photo["masks"], fixtures.photo().shape[:2]) / np.maximum(areas, 1)).mean())
        if self.weights == "random" and not 0.05 <= share <= 0.95:
            raise ExportFailed(f"The random masks fill {share:.0%} of their boxes.", hint="Try another --seed.")


class Classes(Judge):
    """Scores of classes."""

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """A classifier that answers every picture alike would pass any comparison."""
        photo, noise = (answer(p, {"function": "none"})["scores"] for p in (fixtures.photo(), fixtures.noise(300, 400)))
        apart = float(np.abs(photo - noise).max())
        if not apart >= SIGNAL * self.tolerance.tensors["logits"]:
            raise ExportFailed(f"The network tells the photo and noise apart by {apart:.3g} only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Every score; what reaches the threshold as a set, but for what lies on it."""
        threshold, within = self.resolved(case.given)["confidence"], self.tolerance.answer("scores")
        differing = np.setxor1d(got["class_ids"], case.wanted["class_ids"])
        missing = int((np.abs(case.wanted["scores"][differing] - threshold) > within).sum())
        return len(case.wanted["scores"]), missing, {"scores": largest(got["scores"] - case.wanted["scores"])}


class Embeddings(Judge):
    """Vectors; their differences count in units of their spread over the samples."""

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Vectors that hardly differ between samples would compare as equal."""
        vectors = np.stack([case.wanted["embeddings"] for case in cases])
        self._spread = float(vectors.std(0).mean())
        if not self._spread >= SIGNAL * self.tolerance.tensors["embeddings"]:
            raise ExportFailed(f"The embeddings spread by {self._spread:.3g} only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Element by element."""
        return 1, 0, {"embeddings": largest(got["embeddings"] - case.wanted["embeddings"]) / self._spread}


class Map(Judge):
    """Dense maps of the picture's own size; differences relative to the largest value."""

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """A flat map would compare as equal."""
        varied = min(float(case.wanted["map"].std() / np.abs(case.wanted["map"]).max()) for case in cases)
        if not varied >= 0.01:
            raise ExportFailed(f"The map varies by {varied:.3g} of its largest value only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Pixel by pixel."""
        low, high = (float(v) for v in got["range"])
        values, wanted = low + got["map"] * ((high - low) / 65535), case.wanted["map"]
        if values.shape != wanted.shape:
            return wanted.size, wanted.size, {}
        return wanted.size, 0, {"map": largest(values - wanted) / max(float(np.abs(wanted).max()), 1e-30)}


class Prompts(Judge):
    """Masks that prompts select in the photo."""

    def samples(self) -> list[Any]:
        """One picture: the encoder takes seconds."""
        return [fixtures.photo()]

    def cases(self) -> list[Case]:
        """The family's own questions."""
        self.settings = self.network.questions()
        return super().cases()

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Masks of nothing or of everything, or the same for every prompt, would compare as equal."""
        size = fixtures.photo().shape[:2]
        shares = [mask_areas(case.wanted["masks"], size) / (size[0] * size[1]) for case in cases]
        if not all(((0.05 <= share) & (share <= 0.95)).any() for share in shares):
            raise ExportFailed("Masks cover nothing or everything; that proves nothing.", hint="Try another --seed.")
        if len({bytes(case.wanted["masks"][0]) for case in cases}) < 2:
            raise ExportFailed("Every prompt selects the same; that proves nothing.", hint="Try another --seed.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Proposal by proposal."""
        size = np.array(case.sample.shape[:2])
        if len(got["masks"]) != len(case.wanted["masks"]):
            return len(case.wanted["masks"]), len(case.wanted["masks"]), {}
        pairs = zip(got["masks"], case.wanted["masks"], strict=True)
        figures = {"masks": max(compare.mask_difference(a, b, size) for a, b in pairs)}
        return len(got["masks"]), 0, figures | {"scores": largest(got["scores"] - case.wanted["scores"])}


class Gaze(Judge):
    """Faces and the angles of their gaze."""

    def samples(self) -> list[Any]:
        """One face, three, and none."""
        views = fixtures.views()
        return [views[name] for name in ("photo", "three-faces-749x300", "odd-220x316", "no-face-noise-333x97")]

    def cases(self) -> list[Case]:
        """With a detector and without."""
        self.settings = self.network.questions()
        return super().cases()

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Faces that all look the same way would compare as equal."""
        angles = np.degrees(np.concatenate([case.wanted["yaw"] for case in cases]))
        if len(angles) < 3 or not np.ptp(angles) >= SIGNAL * self.tolerance.answer("degrees"):
            raise ExportFailed("All faces look the same way; that proves nothing.", hint="Try another --seed.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Face by face, in the order of the detector."""
        count = len(case.wanted["yaw"])
        if len(got["yaw"]) != count:
            return count, max(count, 1), {}
        if not count:
            return 0, 0, {}
        angles = max(largest(np.degrees(got[name] - case.wanted[name])) for name in ("yaw", "pitch"))
        return count, 0, {"pixels": largest(got["boxes"] - case.wanted["boxes"]), "degrees": angles}


JUDGES: dict[str, type[Judge]] = {
    "dense-boxes": Boxes, "keypoints": Boxes, "query-boxes": Boxes, "prototype-masks": Masks, "classes": Classes,
    "embeddings": Embeddings, "dense-map": Map, "promptable-masks": Prompts, "gaze": Gaze,
    "line-text": LineText, "chat": Chat, "phrase-grounding": OpenVocabulary, "open-vocabulary": OpenVocabulary,
    "page-text": PageText,
}  # fmt: skip


def mask_areas(masks: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """Pixels of each mask of a picture of ``size`` (height, width), COCO run lengths."""
    from pycocotools import mask

    return np.asarray(mask.area([{"size": list(size), "counts": counts} for counts in masks]), dtype=np.float64)
