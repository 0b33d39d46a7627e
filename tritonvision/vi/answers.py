"""Vi's results, under the names of its documentation and those of its published package."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tritonvision import grounding
from tritonvision.grounding.grounded import Box, Point
from tritonvision.grounding.located import Convention, located
from tritonvision.grounding.schema import SCALE
from tritonvision.grounding.tolerant_json import objects
from tritonvision.vi.questions import FREEFORM, GENERIC, GROUNDING, VQA, Question

# Of a run whose answers are JSON, where the text stands in it.
_IN_JSON = {VQA: ("vqa", "answer"), FREEFORM: ("freeform", "caption")}


@dataclass(frozen=True)
class GroundedPhrase:
    """A phrase with one of its boxes.

    Attributes:
        phrase: what is there.
        bbox: [x_min, y_min, x_max, y_max], fractions of the picture, 0 to 1.
        bboxes: all boxes of the phrase, likewise.
        grounding: all boxes of the phrase in whole numbers from 0 to 1024.
    """

    phrase: str
    bbox: list[float]
    bboxes: list[list[float]]
    grounding: list[list[int]]


@dataclass(frozen=True)
class Result:
    """An answer about one picture.

    Attributes:
        task_type: of :data:`tritonvision.vi.questions.TASKS`.
        prompt: what was asked.
        caption: the answer, for people to read.
        raw_output: what the model wrote, whole.
        thinking: what it thought before, or None.
        usage: tokens of the prompt, pictures included, and of the answer.
        finish_reason: ``stop``, or ``length`` where the limit of tokens cut it.
    """

    task_type: str
    prompt: str
    caption: str
    raw_output: str
    thinking: str | None = None
    usage: tuple[int, int] = (0, 0)
    finish_reason: str = ""

    @property
    def result(self) -> Any:
        """The same under the names of the published package: ``caption``."""
        return SimpleNamespace(caption=self.caption)

    def to_dict(self) -> dict[str, Any]:
        """JSON, as the REST routes answer it."""
        return {
            "task_type": self.task_type, "prompt": self.prompt, "caption": self.caption,
            "raw_output": self.raw_output, "thinking": self.thinking,
            "usage": {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1]},
            "finish_reason": self.finish_reason,
        }  # fmt: skip


@dataclass(frozen=True)
class VQAResult(Result):
    """The answer to a question."""

    @property
    def result(self) -> Any:
        """The same under the names of the published package: ``answer``."""
        return SimpleNamespace(answer=self.caption)


@dataclass(frozen=True)
class GenericResult(Result):
    """An answer by a JSON schema of the caller's: ``caption`` is its JSON."""

    @property
    def result(self) -> Any:
        """The same, as the published package names it."""
        return self.caption


@dataclass(frozen=True)
class GroundingResult(Result):
    """A caption, and where its phrases are in the picture.

    Attributes:
        grounded_phrases: one for each box, those of one phrase one after the other; empty where nothing was found.
    """

    grounded_phrases: list[GroundedPhrase] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """The same under the names of the published package: ``sentence``, and ``groundings``, one a phrase."""
        once = {id(one.grounding): one for one in self.grounded_phrases}
        groundings = [SimpleNamespace(phrase=one.phrase, grounding=one.grounding) for one in once.values()]
        return SimpleNamespace(sentence=self.caption, groundings=groundings)

    def to_dict(self) -> dict[str, Any]:
        """JSON, as the REST routes answer it."""
        phrases = [{"phrase": one.phrase, "bbox": one.bbox} for one in self.grounded_phrases]
        return super().to_dict() | {"grounded_phrases": phrases}


def answer(
    question: Question, text: str, size: tuple[int, int], convention: str,
    pixels: tuple[int, int, int] | None = None, usage: tuple[int, int] = (0, 0), finish_reason: str = "",
) -> Result:  # fmt: skip
    """The result of what a model wrote. Never fails on a text.

    Args:
        size: (height, width) of the picture as it is shown, in pixels.
        convention, pixels: in which the model writes places, as its manifest has them (``grounding``,
            ``grounding_pixels``).
    """
    thinking, said = grounding.split(text)
    rest: dict[str, Any] = {
        "raw_output": text, "thinking": thinking, "usage": usage, "finish_reason": finish_reason,
    }  # fmt: skip
    if question.task == GROUNDING:
        found = located(Convention(convention, pixels), question.messages, size[::-1], said)
        caption = grounding.caption(said, found)
        return GroundingResult(question.task, question.prompt, caption, **rest, grounded_phrases=_phrases(found))
    kind = {VQA: VQAResult, GENERIC: GenericResult}.get(question.task, Result)
    return kind(question.task, question.prompt, _told(question.task, said), **rest)


def _told(task: str, said: str) -> str:
    """The answer alone, out of the JSON that runs write."""
    outer, inner = _IN_JSON.get(task, ("", ""))
    if outer and f'"{outer}"' in said:
        for found in objects(said):
            inside = found.get(outer)
            if isinstance(inside, dict) and isinstance(inside.get(inner), str):
                return inside[inner].strip()
    return said.strip()


def _phrases(found: list[grounding.Grounded]) -> list[GroundedPhrase]:
    phrases = []
    for place in found:
        listed = [list(box) for box in place.boxes or tuple(map(_around, place.polygons))]
        whole = [[round(value * SCALE) for value in box] for box in listed]
        phrases += [GroundedPhrase(place.phrase, box, listed, whole) for box in listed]
    return phrases


def _around(polygon: tuple[Point, ...]) -> Box:
    across, down = zip(*polygon, strict=True)
    return min(across), min(down), max(across), max(down)
