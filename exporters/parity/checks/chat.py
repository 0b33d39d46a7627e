"""How models that write are compared: token by token and word by word, about pictures and without any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck

TOKENS = 24  # of an answer
_DISTINCT = 8  # so many different ones of them are no loop
_SAMPLED = {"max_new_tokens": TOKENS, "temperature": 1.0, "top_p": 0.95, "top_k": 100}
PICTURE = {"type": "image"}


class Chat(ParityCheck):
    """Answers to a question about the photo, about two pictures, about none, and in a conversation; or to those that
    the network can be asked.
    """

    figures = frozenset({"tokens", "words"})
    settings: Sequence[Mapping[str, Any]] = ({"max_new_tokens": TOKENS},)

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.settings = [asked for asked in self.network.questions() if asked] or self.settings

    def samples(self) -> list[dict[str, Any]]:
        """Conversations with their pictures. All but the photo are strips, of which few tiles are made."""
        own = self.network.conversations()
        if own:
            return own
        photo = sample_pictures.photo()
        strip, other = photo[200:264], photo[300:420, ::-1]
        return [
            sample([photo], says("user", PICTURE, "What is in this picture?")),
            sample([strip, other], says("user", "Here are two: ", PICTURE, " and ", PICTURE, "Which is larger?")),
            sample([], says("system", "Answer in 3 words."), says("user", "Who are you?")),
            sample(
                [strip], says("user", PICTURE, "Describe it."), says("assistant", "It is a strip of a photograph."),
                says("user", "Which colours has it?"),
            ),
        ]  # fmt: skip

    def golden_sample(self) -> Any:
        """A question about a strip of the photo, of which few tiles are made; or the network's own last one."""
        own = self.network.conversations()
        if own:
            return own[-1]
        return sample([sample_pictures.photo()[200:264]], says("user", PICTURE, "Which colours has it?"))

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """A short greedy answer."""
        return {"max_new_tokens": 8}

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when an answer of random weights has few different tokens, or does not change with the picture
        or the seed: trained ones may answer everything with one word. Raise ExportFailed when a seed does not hold.
        """
        about, talk = cases[0], next(case for case in reversed(cases) if case.sample["pictures"])
        silent = next((case for case in cases if not case.sample["pictures"]), about)
        if self.weights == "random":
            distinct = len(set(about.wanted["token_ids"].tolist()))
            if distinct < _DISTINCT:
                raise NoSignal(f"The answer has {distinct} different tokens; that proves nothing.")
            inverted = {**talk.sample, "pictures": [255 - picture for picture in talk.sample["pictures"]]}
            if np.array_equal(answer(inverted, talk.given)["token_ids"], talk.wanted["token_ids"]):
                raise NoSignal("The answers do not depend on the picture; that proves nothing.")
        first, again, another = (
            answer(silent.sample, _SAMPLED | {"seed": seed})["token_ids"].tolist() for seed in (1, 1, 2)
        )
        if first != again:
            raise ExportFailed("Sampling with the same seed gives two different answers.")
        if self.weights == "random" and first == another:
            raise NoSignal("Sampling with another seed gives the same answer.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Token by token and word by word; why the answer ended, and the tokens read and written, must agree."""
        ids, words = (
            _differing(read(got), read(case.wanted))
            for read in (lambda found: found["token_ids"].tolist(), lambda found: found["text"][0].split())
        )
        missing = sum(got[name].tolist() != case.wanted[name].tolist() for name in ("finish_reason", "usage"))
        return len(case.wanted["token_ids"]), missing, {"tokens": float(ids), "words": float(words)}


def sample(pictures: Sequence[np.ndarray], *messages: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation with its pictures, RGB uint8 ``[h,w,3]``, as :meth:`Network.conversations` lists them."""
    return {"messages": list(messages), "pictures": [np.ascontiguousarray(picture) for picture in pictures]}


def says(role: str, *parts: str | Mapping[str, str]) -> dict[str, Any]:
    """One message: of texts, and :data:`PICTURE` where a picture is."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else dict(part) for part in parts]
    return {"role": role, "content": content}


def _differing(got: Sequence[Any], wanted: Sequence[Any]) -> int:
    """Places where two sequences differ, those that one of them lacks included."""
    same = sum(a == b for a, b in zip(got, wanted, strict=False))
    return max(len(got), len(wanted)) - same
