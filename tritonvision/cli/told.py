"""An answer as people hear it in a terminal: its words as they come, and the places that it names in place of the marks
and numbers in which a model writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tritonvision.cli.answers import Answer, where
from tritonvision.grounding import florence
from tritonvision.grounding.detections import detections
from tritonvision.grounding.grounded import Grounded
from tritonvision.grounding.located import Convention, asked_task
from tritonvision.results import Delta

_MARKS = ("{", "[", "```", "<loc", "<ref>", "<box>")  # with which places begin as models write them


class Told:
    """One answer.

    Args:
        grounding: the convention of the model's places, as its manifest has it; empty where it writes none, and where
            the answer is JSON of a schema.
        messages: what is answered: behind a task of Florence-2 there are places alone.
        hear: takes the words.

    Attributes:
        said: all of the text so far, as the model wrote it.
        places: that it names; None until the answer has ended, and of several pictures.
    """

    def __init__(self, grounding: str, messages: Sequence[Mapping[str, Any]], hear: Callable[[str], None]):
        task = asked_task(Convention(grounding), messages)
        self._alone = task is not None and task.form != florence.TEXT
        self._hear, self._held = hear, ""
        self._passes = not grounding
        self.said = ""
        self.places: Sequence[Grounded] | None = None

    def add(self, piece: Delta) -> None:
        """The next piece. Words are passed on, unless the text begins as places are written for machines."""
        self.said += piece.text
        self.places = piece.places
        if self._alone:
            return
        if self._passes:
            self._hear(piece.text)
            return
        self._held += piece.text
        begun = self._held.lstrip()
        if begun and not any(mark.startswith(begun) or begun.startswith(mark) for mark in _MARKS):
            self._passes = True
            self._hear(self._held)

    @property
    def of_places(self) -> bool:
        """Whether the whole answer is about places: it names some, or should."""
        return bool(self.places) or self._alone

    def rest(self, size: Callable[[], tuple[int, int]]) -> str:
        """What people are told behind the words once the answer has ended: the places, a line each.

        Args:
            size: gives (width, height) of the picture, pixels; asked where there is a place.
        """
        if not self.of_places:
            return "" if self._passes else self._held
        found = Answer(*detections(self.places, *size())).predictions(None) if self.places else []
        listed = [f"{place['class']}: {where(place)}" for place in found] or ["nothing found"]
        return "\n".join([*([""] if self._passes else []), *listed])
