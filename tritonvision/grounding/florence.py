"""Florence-2's tasks: the prompts that their tokens stand for, and its answers read as boxes, outlines and lines.

An answer has a phrase and behind it its places, each corner two of a thousand steps, ``<loc_0>`` to ``<loc_999>``: step
n stands for (n + 0.5) / 1000 of the side. What the steps of a place are (corners of boxes, of an outline, of a line of
text) depends on the task, so it is read by the task that was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.grounding.grounded import Box, Grounded, Point

NAME = "florence"  # of the convention
STEPS = 1000
# What an answer consists of.
TEXT, BOXES, PHRASES, PROPOSALS, OUTLINES, EITHER, LINES = (
    "text", "boxes", "phrases", "proposals", "outlines", "boxes or outlines", "lines of text"
)  # fmt: skip
_FIRST = re.compile(r"\s*(<[A-Z_]+>)")
_STEP = re.compile(r"<loc_([0-9]{1,3})>")
_REGION = re.compile(r"(?:<loc_[0-9]{1,3}>){4}")
_RUN, _RUN_OF_OUTLINES = re.compile(r"(?:<loc_[0-9]{1,3}>){4,}"), re.compile(r"(?:<(?:loc_[0-9]{1,3}|sep|/?poly)>){4,}")
_ENDS = re.compile(r"</?s>|<pad>")
# Words that are no phrase of a caption: the authors leave them out.
_NO_PHRASES = frozenset((
    "it I me mine you your yours he him his she her hers they them their theirs one oneself we us our ours its myself "
    "yourself himself herself itself ourselves yourselves themselves this that these those who whom whose which what "
    "all another any anybody anyone anything each everybody everyone everything few many nobody none several some "
    "somebody someone something image images the a an lots"
).split()) | {"each other", "one another", "the image", "a group", "other objects", "a set"}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        token: what a prompt begins with.
        prompt: what the network reads instead; ``{}`` is where the input goes.
        form: what the answer consists of.
        of_region: whether the input is a region, four steps, instead of a text.
    """

    token: str
    prompt: str
    form: str = TEXT
    of_region: bool = False

    @property
    def takes_input(self) -> bool:
        """Whether something follows the token."""
        return "{}" in self.prompt


TASKS: dict[str, Task] = {
    task.token: task
    for task in (
        Task("<CAPTION>", "What does the image describe?"),
        Task("<DETAILED_CAPTION>", "Describe in detail what is shown in the image."),
        Task("<MORE_DETAILED_CAPTION>", "Describe with a paragraph what is shown in the image."),
        Task("<OD>", "Locate the objects with category name in the image.", BOXES),
        Task("<DENSE_REGION_CAPTION>", "Locate the objects in the image, with their descriptions.", BOXES),
        Task("<REGION_PROPOSAL>", "Locate the region proposals in the image.", PROPOSALS),
        Task("<OCR>", "What is the text in the image?"),
        Task("<OCR_WITH_REGION>", "What is the text in the image, with regions?", LINES),
        Task("<CAPTION_TO_PHRASE_GROUNDING>", "Locate the phrases in the caption: {}", PHRASES),
        Task("<REFERRING_EXPRESSION_SEGMENTATION>", "Locate {} in the image with mask", OUTLINES),
        Task("<REGION_TO_SEGMENTATION>", "What is the polygon mask of region {}", OUTLINES, of_region=True),
        Task("<OPEN_VOCABULARY_DETECTION>", "Locate {} in the image.", EITHER),
        Task("<REGION_TO_CATEGORY>", "What is the region {}?", of_region=True),
        Task("<REGION_TO_DESCRIPTION>", "What does the region {} describe?", of_region=True),
        Task("<REGION_TO_OCR>", "What text is in the region {}?", of_region=True),
    )
}
_IN_THE_MIDDLE = re.compile("|".join(map(re.escape, TASKS)))


@dataclass(frozen=True)
class Asked:
    """A prompt as the network reads it: ``before``, the steps of a region, ``after``.

    Attributes:
        task: None where the prompt begins with no task's token; then it is read as it stands.
    """

    task: Task | None
    before: str
    region: tuple[int, ...] = ()
    after: str = ""


def asked(prompt: str) -> Asked:
    """What a prompt asks.

    Raises:
        InvalidParameter: a token of a task stands elsewhere than at the beginning, has an input that it does not take,
            lacks its input, or the input should be a region and is none.
    """
    found = _FIRST.match(prompt)
    task = TASKS.get(found[1]) if found else None
    given = prompt[found.end() :].strip() if found and task else prompt
    other = _IN_THE_MIDDLE.search(given)
    if other:
        raise InvalidParameter(
            f"{other[0]} stands in the middle of the prompt.",
            hint="A prompt begins with the token of one task and has no other; ask one task after another.",
        )
    if task is None:
        return Asked(None, prompt)
    if bool(given) != task.takes_input:
        what = "a region" if task.of_region else "a text"
        raise InvalidParameter(
            f"{task.token} needs {what} behind it." if task.takes_input else f"Nothing may follow {task.token}.",
            hint=f"Send {_example(task)}",
        )
    if not task.of_region:
        return Asked(task, task.prompt.format(given) if task.takes_input else task.prompt)
    before, _, after = task.prompt.partition("{}")
    return Asked(task, before, _region(task, given), after)


def answer(task: Task, text: str, width: int, height: int) -> Any:
    """The answer in the form of the authors' ``post_process_generation``, in whole pixels of the picture.

    A text, or lists that belong together: ``bboxes`` (left, top, right, bottom) and ``labels``; ``quad_boxes`` (x, y of
    four corners) and ``labels``; ``polygons`` (of each label its outlines, x, y, x, y ...) and ``labels``; of
    ``<OPEN_VOCABULARY_DETECTION>`` ``bboxes``, ``bboxes_labels``, ``polygons``, ``polygons_labels``.
    """
    if task.form == TEXT:
        return _ENDS.sub("", text).strip()
    form, places = _form(task, text), list(_places(task, text))
    shapes = [[_pixels(steps, width, height) for steps in place.steps] for place in places]
    labels = [place.phrase if form in (OUTLINES, LINES) else _ascii(place.phrase) for place in places]
    boxes = [box for found in shapes for box in found]
    of_boxes = [label for label, found in zip(labels, shapes, strict=True) for _ in found]
    if form == LINES:
        return {"quad_boxes": boxes, "labels": of_boxes}
    if task.form == EITHER:
        outlined = form == OUTLINES
        return {
            "bboxes": [] if outlined else boxes, "bboxes_labels": [] if outlined else of_boxes,
            "polygons": shapes if outlined else [], "polygons_labels": labels if outlined else [],
        }  # fmt: skip
    return {"polygons": shapes, "labels": labels} if form == OUTLINES else {"bboxes": boxes, "labels": of_boxes}


def read(text: str, width: int, height: int, task: Task = TASKS["<CAPTION_TO_PHRASE_GROUNDING>"]) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`; an answer to ``task``, of which phrases with boxes are the default.

    Lines of text have an outline of four corners and the box around it; outlines have the box around all of one phrase.
    """
    if task.form == TEXT:
        return []
    form, found = _form(task, text), []
    for place in _places(task, text):
        if form in (OUTLINES, LINES):
            outlines = tuple(_corners(steps) for steps in place.steps if len(steps) >= 6)
            if outlines:
                found.append(Grounded(place.phrase, (_around(outlines),), outlines, start_end=place.span))
            continue
        listed = (_around((_corners(steps),)) for steps in place.steps)
        boxes = tuple(dict.fromkeys(box for box in listed if box[0] < box[2] and box[1] < box[3]))
        if boxes:
            found.append(Grounded(place.phrase, boxes, start_end=place.span))
    return found


# ---- within ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    phrase: str
    steps: list[tuple[int, ...]]  # of each box, outline or line
    span: tuple[int, int]


def _form(task: Task, text: str) -> str:
    if task.form != EITHER:
        return task.form
    return OUTLINES if "<poly>" in text else BOXES


def _places(task: Task, text: str) -> Iterator[_Place]:
    """Runs of steps with the phrase before each; without a phrase where the task has none."""
    form = _form(task, text)
    named = task.form not in (PROPOSALS, OUTLINES)
    for run in (_RUN_OF_OUTLINES if form == OUTLINES else _RUN).finditer(text):
        begin = max(text.rfind(">", 0, run.start()), text.rfind("<", 0, run.start())) + 1 if named else run.start()
        phrase = text[begin : run.start()]
        if named and not phrase or form == PHRASES and phrase.strip() in _NO_PHRASES:
            continue
        if form == OUTLINES:
            for part in _outlined(run[0]):
                # of an outline the steps behind the last mark of its part are left
                ends = [_steps(outline.rpartition("poly>")[2]) for outline in part.split("<sep>")]
                even = [found[: len(found) // 2 * 2] for found in ends if found]
                if even:
                    yield _Place(phrase.strip(), even, (begin, run.end()))
            continue
        steps, size = _steps(run[0]), 8 if form == LINES else 4
        groups = [steps[at : at + size] for at in range(0, len(steps) - size + 1, size)]
        if groups:
            yield _Place(phrase.strip(), groups[:1] if form == LINES else groups, (begin, run.end()))


def _outlined(run: str) -> list[str]:
    """The parts of a run that stand in ``<poly>..</poly>``; all of it where none does."""
    pieces = [piece.partition("<poly>") for piece in run.split("</poly>")[:-1]]
    return [inside for _, opened, inside in pieces if opened] or [run]


def _steps(run: str) -> tuple[int, ...]:
    return tuple(map(int, _STEP.findall(run)))


def _pixels(steps: tuple[int, ...], width: int, height: int) -> list[int]:
    """Whole pixels, in the authors' arithmetic: float32, cut."""
    sides = np.resize(np.array([width / STEPS, height / STEPS], dtype=np.float32), len(steps))
    return ((np.array(steps, dtype=np.float32) + np.float32(0.5)) * sides).astype(np.int64).tolist()


def _corners(steps: tuple[int, ...]) -> tuple[Point, ...]:
    values = [(step + 0.5) / STEPS for step in steps]
    return tuple(zip(values[::2], values[1::2], strict=True))


def _around(outlines: tuple[tuple[Point, ...], ...]) -> Box:
    xs, ys = ([point[axis] for outline in outlines for point in outline] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _ascii(phrase: str) -> str:
    return phrase.encode("ascii", "ignore").decode()


def _region(task: Task, given: str) -> tuple[int, ...]:
    steps = _steps(given) if _REGION.fullmatch(given) else ()
    if not steps or steps[0] > steps[2] or steps[1] > steps[3]:
        raise InvalidParameter(
            f"What follows {task.token} is no region.",
            hint=f"Send left, top, right and bottom in thousandths of the picture: {_example(task)}",
        )
    return steps


def _example(task: Task) -> str:
    if not task.takes_input:
        return f"{task.token} alone."
    return task.token + ("<loc_100><loc_200><loc_500><loc_800>" if task.of_region else "a red car")
