"""How the text of a line is compared: token by token, on lines of text and on the photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures, text_pages
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck

LINES = ("Total amount due: 1,204.50", "the quick brown fox")
DISTINCT = 8  # so many different tokens a long greedy answer of random weights must have


class LineText(ParityCheck):
    """Texts that a decoder writes, greedily and with beams."""

    figures = frozenset({"tokens", "words"})
    golden_format = "PNG"

    def samples(self) -> list[Any]:
        """Two lines, and a picture that is none."""
        return [*map(text_pages.line, LINES), sample_pictures.photo()]

    def cases(self) -> list[Case]:
        """The family's own questions."""
        self.settings = self.network.questions()
        return super().cases()

    def golden_sample(self) -> Any:
        """A line."""
        return text_pages.line(LINES[0])

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """A short greedy text."""
        return {"max_new_tokens": 8, "num_beams": 1}

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when the decoder repeats one token, or answers two pictures with the same text."""
        answers = [case.wanted["token_ids"].tolist() for case in cases]
        distinct = max(len(set(ids)) for ids in answers)
        if self.weights == "random" and distinct < DISTINCT:
            raise NoSignal(f"The random network writes {distinct} different tokens.")
        for given in self.settings:
            asked = [ids for ids, case in zip(answers, cases, strict=True) if case.given == given]
            if len({tuple(ids) for ids in asked}) < len(asked):
                raise NoSignal("The network reads the same in different pictures; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """``tokens``: how many are not where the reference has them; ``words``: whether the text is another."""
        ours, theirs = got["token_ids"].tolist(), case.wanted["token_ids"].tolist()
        differing = sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))
        other = got["text"].tolist() != case.wanted["text"].tolist()
        return len(theirs), 0, {"tokens": float(differing), "words": float(other)}
