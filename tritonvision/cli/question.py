"""What a person asks about a picture on the command line, beside the picture: thresholds, points, a box, texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonvision import tasks
from tritonvision.errors import InvalidParameter

_TOKENS = "max_new_tokens"
_PROMPTED = tasks.PROMPTABLE.name, tasks.TRACKING.name
_NAMED, _COMPARED, _WRITTEN = tasks.OPEN_VOCABULARY.name, tasks.EMBEDDING.name, tasks.VLM.name


@dataclass(frozen=True)
class Question:
    """One question, the same for every picture of a command.

    Attributes:
        confidence: lowest score that counts, or None for the task's own.
        points: (x, y, label) each, pixels; label 1 on the object, 0 off it.
        box: left, top, right, bottom, pixels.
        texts: that a picture is compared with; the classes to look for; or the question, one text.
        max_tokens: of an answer that is written, or None for the task's own.
        schema: JSON schema of an answer that is written, or None for any text.
    """

    confidence: float | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    texts: tuple[str, ...] = ()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None

    def check(self, model_id: str, task: str) -> None:
        """Raise InvalidParameter unless a model of ``task`` can be asked this."""
        prompted = bool(self.points or self.box)
        if task in _PROMPTED and not prompted:
            raise InvalidParameter(
                f"'{model_id}' has to be shown what is meant.", hint="Add --point X,Y or --box LEFT,TOP,RIGHT,BOTTOM."
            )
        if prompted and task not in _PROMPTED:
            raise InvalidParameter(f"'{model_id}' does {task}, which takes no --point and no --box.")
        if task == _NAMED and not self.texts:
            raise InvalidParameter(
                f"'{model_id}' has to be told what to look for.", hint='Add --text "a cat", once for each class.'
            )
        if task == _WRITTEN and not self.texts:
            raise InvalidParameter(
                f"'{model_id}' has to be asked something.",
                hint=f'Add --text "What is this?", or talk with it: tritonvision chat {model_id} IMAGE',
            )
        if task == _WRITTEN and len(self.texts) > 1:
            raise InvalidParameter(
                f"'{model_id}' is asked one --text.", hint=f"Talk with it: tritonvision chat {model_id} IMAGE"
            )
        if self.texts and task not in (_NAMED, _COMPARED, _WRITTEN):
            raise InvalidParameter(f"'{model_id}' does {task}, which takes no --text.")
        if not all(text.strip() for text in self.texts):
            raise InvalidParameter("A --text is empty.")
        if self.max_tokens is not None and _TOKENS not in _settings_of(task):
            raise InvalidParameter(f"'{model_id}' does {task}, which takes no --max-tokens.")
        if self.schema is not None and task != _WRITTEN:
            raise InvalidParameter(f"'{model_id}' does {task}, which takes no --schema.")

    def parameters(self, task: str) -> dict[str, Any]:
        """Settings of the task; what is not asked keeps its default."""
        known = _settings_of(task)
        given: dict[str, Any] = {}
        if self.confidence is not None and "confidence" in known:
            given["confidence"] = self.confidence
        if self.points:
            given["points"] = [[x, y] for x, y, _ in self.points]
            given["point_labels"] = [label for _, _, label in self.points]
        if self.box is not None:
            given |= {"box": list(self.box)} if "box" in known else {"boxes": [list(self.box)]}
        if self.texts and "texts" in known:
            given["texts"] = list(self.texts)
        if self.max_tokens is not None:
            given[_TOKENS] = self.max_tokens
        if self.schema is not None:
            given["schema"] = self.schema
        return given


def _settings_of(task: str) -> set[str]:
    return {parameter.name for parameter in tasks.TASKS[task].parameters}


def ask(
    confidence: float | None, points: Sequence[str] | None, box: str | None, texts: Sequence[str] | None,
    max_tokens: int | None = None, schema: dict[str, Any] | None = None,
) -> Question:  # fmt: skip
    """The question of these options. Raises InvalidParameter for what cannot be read."""
    return Question(
        confidence,
        tuple(_point(text) for text in points or ()),
        None if box is None else _box(box),
        tuple(texts or ()),
        max_tokens,
        schema,
    )


def _point(text: str) -> tuple[float, float, int]:
    values = _numbers(text, "--point", "X,Y in pixels, or X,Y,0 for what is not meant")
    if len(values) == 2:
        return values[0], values[1], 1
    if len(values) == 3 and values[2] in (0, 1):
        return values[0], values[1], int(values[2])
    raise InvalidParameter(f"--point {text} is no point.", hint="X,Y in pixels, or X,Y,0 for what is not meant.")


def _box(text: str) -> tuple[float, float, float, float]:
    values = _numbers(text, "--box", "LEFT,TOP,RIGHT,BOTTOM in pixels")
    if len(values) != 4 or not (values[0] < values[2] and values[1] < values[3]):
        raise InvalidParameter(f"--box {text} is no box.", hint="LEFT,TOP,RIGHT,BOTTOM in pixels.")
    return values[0], values[1], values[2], values[3]


def _numbers(text: str, option: str, wanted: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidParameter(f"{option} {text[:40]} cannot be read.", hint=f"{wanted}.") from error
