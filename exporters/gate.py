"""The parity gate: nothing is published that does not compute what its reference computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from tritonvision.catalog import Entry
from tritonvision.ensembles.heads import CLASSES
from tritonvision.ensembles.local import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters import compare, fixtures
from tritonvision.exporters.family import Family, Network
from tritonvision.tasks import resolve

# The settings under which whole pipelines are compared: as people ask, and down to what hardly anybody asks for.
_DETECTION_SETTINGS = (
    {"confidence": 0.25},
    {"confidence": 0.001, "iou_threshold": 0.7, "max_candidates": 30_000},
)
_RANDOM_BOXES = range(10, 61)  # so many must survive on the photo at the default settings
_SIGNAL = 1000  # times its tolerance: how far a classifier's answers to two pictures must be apart
_FLOAT64_FACTOR = 3

# What onnxruntime raises when a graph cannot be loaded or run.
_ORT_ERRORS = (
    ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NoSuchFile, ort.NotImplemented,
    ort.RuntimeException, RuntimeError, ValueError,
)  # fmt: skip


@contextmanager
def _refusing_what_cannot_run() -> Iterator[None]:
    try:
        yield
    except _ORT_ERRORS as error:
        raise ExportFailed("onnxruntime cannot run the exported graph.") from error


@dataclass(frozen=True)
class Gate:
    """One export before its judges.

    Attributes:
        graph: the ONNX file.
        weights: ``official``, ``random`` or ``user``.
    """

    family: Family
    entry: Entry
    network: Network
    graph: Path
    weights: str

    def check(self) -> dict[str, float]:
        """Compare graph with network and pipeline with oracle.

        Returns:
            The largest differences: ``tensor_<name>`` of each canonical tensor, ``pipeline_pixels`` and
            ``pipeline_scores`` of the public answers, and ``pipeline_answers``, how many of them were compared.

        Raises:
            ExportFailed: something differs by more than the family allows; the sentence says what, and by how much.
        """
        with _refusing_what_cannot_run():
            pipeline = LocalPipeline(self.graph, self.family.resize(self.entry), self.family.head)
        return self._check_tensors(pipeline) | self._check_pipeline(pipeline)

    def _check_tensors(self, pipeline: LocalPipeline) -> dict[str, float]:
        photo, _ = pipeline.resize(fixtures.photo())
        noise = fixtures.noise(*photo.shape[:2])
        batches = {"the photo": photo[None], "noise": noise[None], "a batch of both": np.stack([photo, noise])}
        worst: dict[str, float] = {}
        for what, pixels in batches.items():
            for name, difference in self._differences(pipeline, pixels, what).items():
                worst[f"tensor_{name}"] = max(worst.get(f"tensor_{name}", 0.0), difference)
        return worst

    def _differences(self, pipeline: LocalPipeline, pixels: np.ndarray, what: str) -> dict[str, float]:
        """Differences on one batch, each within its tolerance or within three times float32's own error."""
        head, allowed = self.family.head, self.family.tolerance.tensors
        with _refusing_what_cannot_run():
            graph = pipeline.tensors(pixels)
        reference = self.network.tensors(pixels)
        found = compare.tensor_differences(head, graph, reference, allowed)
        over = [name for name, difference in found.items() if not difference <= allowed[name]]
        if over:
            exact = self.network.tensors(pixels, double=True)
            own = compare.tensor_differences(head, reference, exact, allowed)
            ours = compare.tensor_differences(head, graph, exact, allowed)
            for name in over:
                if not ours[name] <= _FLOAT64_FACTOR * own[name]:
                    raise ExportFailed(
                        f"On {what}, '{name}' of the graph differs from the reference network by {found[name]:.3g}, "
                        f"allowed are {allowed[name]:g} (float32 itself is off by {own[name]:.3g})."
                    )
        return found

    def _check_pipeline(self, pipeline: LocalPipeline) -> dict[str, float]:
        cases = [(picture, parameters, wanted) for picture, parameters, wanted in self.network.golden()]
        if not cases:
            cases = self._ask_oracle()
        if self.family.head.name == CLASSES.name:
            self._demand_differing_answers(pipeline)
            compared = [self._compare_classes(pipeline(p, given), wanted, given) for p, given, wanted in cases]
        else:
            self._demand_detections(pipeline, cases)
            compared = [self._compare_detections(pipeline(p, given), wanted, given) for p, given, wanted in cases]
        allowed = self.family.tolerance
        figures = {
            "pipeline_answers": float(sum(count for count, _, _, _ in compared)),
            "pipeline_pixels": float(np.max([pixels for _, _, pixels, _ in compared])),  # of numpy: NaN wins
            "pipeline_scores": float(np.max([scores for _, _, _, scores in compared])),
        }
        missing = sum(missing for _, missing, _, _ in compared)
        if missing:
            raise ExportFailed(f"The pipeline and {self.family.oracle.package} disagree about {missing} answers.")
        for name, limit in (("pixels", allowed.pipeline_pixels), ("scores", allowed.pipeline_scores)):
            if not figures[f"pipeline_{name}"] <= limit:
                raise ExportFailed(
                    f"The pipeline's {name} differ from {self.family.oracle.package}'s by "
                    f"{figures[f'pipeline_{name}']:.3g}, allowed are {limit:g}."
                )
        return figures

    def _ask_oracle(self) -> list[tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]]:
        views = fixtures.views()
        pictures = [views[name] for name in ("photo", "odd-220x316", "wide-512x260", "no-face-noise-333x97")]
        cases = []
        for given in ({},) if self.family.head.name == CLASSES.name else _DETECTION_SETTINGS:
            settings = resolve(self.family.head.task.parameters, given)
            for picture in pictures:
                answer = self.network.predict(picture, settings)
                if answer is None:
                    raise ExportFailed(f"The {self.family.name} family has neither an oracle nor recorded answers.")
                cases.append((picture, dict(given), answer))
        return cases

    def _demand_differing_answers(self, pipeline: LocalPipeline) -> None:
        """A classifier that answers every picture alike would pass any comparison."""
        pixels = [pipeline.resize(picture)[0] for picture in (fixtures.photo(), fixtures.noise(300, 400))]
        photo, noise = pipeline.tensors(np.stack(pixels))["logits"]
        apart = float(np.abs(photo - noise).max())
        if not apart >= _SIGNAL * self.family.tolerance.tensors["logits"]:
            raise ExportFailed(f"The network tells the photo and noise apart by {apart:.3g} only; that proves nothing.")

    def _demand_detections(self, pipeline: LocalPipeline, cases: list) -> None:
        """No boxes, or boxes everywhere, would compare as equal."""
        if not any(len(wanted["scores"]) for _, _, wanted in cases):
            raise ExportFailed("The network finds nothing on the test pictures; that proves nothing.")
        count = len(pipeline(fixtures.photo())["scores"])
        if self.weights == "random" and count not in _RANDOM_BOXES:
            raise ExportFailed(
                f"The random network finds {count} boxes on the photo, not {_RANDOM_BOXES[0]} to {_RANDOM_BOXES[-1]}.",
                hint="Try another --seed.",
            )

    def _compare_detections(
        self, got: compare.Tensors, wanted: compare.Tensors, given: Mapping[str, Any]
    ) -> tuple[int, int, float, float]:
        settings = resolve(self.family.head.task.parameters, given)
        within = self.family.tolerance.pipeline_scores
        most = settings["max_detections"]
        return len(wanted["scores"]), *compare.detections(got, wanted, settings["confidence"], within, most)

    def _compare_classes(
        self, got: compare.Tensors, wanted: compare.Tensors, given: Mapping[str, Any]
    ) -> tuple[int, int, float, float]:
        within = self.family.tolerance.pipeline_scores
        threshold = resolve(self.family.head.task.parameters, given)["confidence"]
        differing = np.setxor1d(got["class_ids"], wanted["class_ids"])
        missing = int((np.abs(wanted["scores"][differing] - threshold) > within).sum())
        return len(wanted["scores"]), missing, 0.0, float(np.abs(got["scores"] - wanted["scores"]).max())
