"""A variant asked the golden questions of its model before it is published: each load will ask them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision import golden
from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.variants import timing
from tritonvision.golden import ANSWER, Figures, Golden, Question
from tritonvision.pictures import decode
from tritonvision.publication import Manifest
from tritonvision.variants import Variant


def ask(repository: Path, manifest: Manifest, opened: timing.Opened, variant: Variant) -> dict[str, dict[str, float]]:
    """How far a variant's answers to the golden questions are from those of the model as it was exported.

    Args:
        opened: the variant in this process, its entry points by role.

    Returns:
        Figures of :func:`tritonvision.differences.agreement` by role; none of a variant in fp32, which has the bars of
        the parity gate, of models that write, and of models without golden questions.

    Raises:
        ExportFailed: an answer is past its bars, so no load would let the variant serve.
    """
    questions, exact = golden.read(repository, manifest), variant.precision == "fp32"
    found = {}
    for question in questions.questions if questions else ():
        local = opened.get(question.role)
        if questions is None or local is None or isinstance(local, LocalChat):
            continue
        figures = _answer(local, questions, question, exact)
        if not figures.passed:
            raise ExportFailed(
                f"{variant.name} does not answer the golden question as fp32 does: {figures.why}.",
                hint="The fp32 model stays as it is. Another precision may do.",
            )
        if not exact:
            found[question.role] = {key: round(float(value), 6) for key, value in figures.found.items()}
    return found


def _answer(
    local: LocalPipeline | LocalComposition, questions: Golden, question: Question, exact: bool
) -> Figures:  # fmt: skip
    stage = next(stage for stage in question.stages if stage.name == ANSWER)
    asked, wanted = questions.load(stage)
    given = json.loads(asked["parameters"].reshape(-1)[0])
    sample: Any
    if "text" in asked:
        sample, size = asked["text"].reshape(-1)[0].decode(), {}
    else:
        data = asked["image"].reshape(-1)[0]
        picture = decode(data)
        sample = {"image": data} if isinstance(local, LocalComposition) else picture
        size = {"image_size": np.array(picture.shape[:2], np.int32)}
    answered: Mapping[str, np.ndarray] = size | local(sample, given)
    return stage.compare({name: np.asarray(value)[None] for name, value in answered.items()}, wanted, exact)
