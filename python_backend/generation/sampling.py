"""From logits to the next token: penalty, temperature, top-k and top-p in the order of ``transformers``, in numpy.

What a schema excludes has the logit -inf before all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision.errors import TritonVisionError
from tritonvision.python_backend.generation.grammar import Grammar

# How many of the likeliest tokens are sorted first: nearly always they hold all of top-p, and sorting all is slow.
_HEAD = 512


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        settings: ``temperature`` (0 takes the likeliest), ``top_k`` (0 is off), ``top_p``, ``repetition_penalty``,
            ``seed`` (None draws one).
        prompt_ids: (S,) tokens before the answer; the penalty looks at them too, as in ``transformers``.
        vocabulary: number of logits.
        grammar: of the answer; None lets it be anything.

    Attributes:
        logits: float32 (V,), what the network computed for the last token, before anything was done to it.
    """

    def __init__(
        self, settings: Mapping[str, Any], prompt_ids: np.ndarray, vocabulary: int, grammar: Grammar | None = None
    ):
        self.logits = np.zeros(0, dtype=np.float32)
        self._grammar = grammar
        self._temperature = float(settings["temperature"])
        self._top_k = int(settings["top_k"])
        self._top_p = float(settings["top_p"])
        self._penalty = float(settings["repetition_penalty"])
        self._random = np.random.default_rng(settings["seed"])
        self._seen = np.zeros(vocabulary, dtype=bool)
        self._seen[prompt_ids[(prompt_ids >= 0) & (prompt_ids < vocabulary)]] = True

    def __call__(self, logits: np.ndarray) -> int:
        """The next token of ``logits`` float32 (V,); what is behind them is no word.

        Raises:
            TritonVisionError: a logit is NaN, or none is finite.
            InvalidParameter: the schema is too complex to go on.
        """
        self.logits = logits = checked(logits)[: len(self._seen)]
        if self._grammar is not None:
            logits = checked(np.where(self._grammar.allowed(), logits, np.float32(-np.inf)))
        if self._temperature == 0:
            token = int(self._penalized(logits).argmax())
        else:
            tokens, probabilities = self.distribution(logits)
            levels = probabilities.cumsum()
            token = int(tokens[np.searchsorted(levels, self._random.random() * levels[-1], side="right")])
        self._seen[token] = True
        if self._grammar is not None:
            self._grammar.take(token)
        return token

    def likelihoods(self, token: int, most: int) -> tuple[float, list[tuple[int, float]]]:
        """The log probability of ``token`` by :attr:`logits`, and the ``most`` likeliest tokens with theirs."""
        exact = self.logits.astype(np.float64)
        exact -= exact.max()
        exact -= np.log(np.exp(exact).sum())
        best = np.argpartition(-exact, most - 1)[:most] if 0 < most < len(exact) else np.arange(min(most, len(exact)))
        best = best[np.argsort(-exact[best], kind="stable")]
        return float(exact[token]), [(int(one), float(exact[one])) for one in best]

    def distribution(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The distribution to draw from: tokens (n,), likeliest first, and their probabilities (n,) float64."""
        scores = self._penalized(logits) / np.float32(self._temperature or 1.0)
        kept = np.arange(len(scores))
        if 0 < self._top_k < len(scores):
            # ties with the last one stay, as in transformers
            kept = np.flatnonzero(scores >= np.partition(scores, -self._top_k)[-self._top_k])
        probabilities = np.exp(scores[kept].astype(np.float64) - float(scores.max()))
        probabilities /= probabilities.sum()
        order = self._nucleus(probabilities)
        probabilities = probabilities[order]
        return kept[order], probabilities / probabilities.sum()

    def _penalized(self, logits: np.ndarray) -> np.ndarray:
        """The repetition penalty: logits of earlier tokens divided by it when positive, multiplied when negative."""
        if self._penalty == 1:
            return logits
        punished = np.where(logits > 0, logits / np.float32(self._penalty), logits * np.float32(self._penalty))
        return np.where(self._seen, punished, logits)

    def _nucleus(self, probabilities: np.ndarray) -> np.ndarray:
        """Positions of the smallest set that holds ``top_p`` of the probability, likeliest first; one at least."""
        count = len(probabilities)
        for size in (min(_HEAD, count), count):
            head = np.argpartition(-probabilities, size - 1)[:size] if size < count else np.arange(count)
            head = head[np.argsort(-probabilities[head], kind="stable")]
            before = probabilities[head].cumsum() - probabilities[head]  # cumulative, without the token itself
            inside = int((before < self._top_p).sum()) if self._top_p < 1 else count
            if inside < size or size == count:
                return head[: max(inside, 1)]
        raise AssertionError("the second round sorts everything")


def checked(logits: np.ndarray) -> np.ndarray:
    """``logits`` ``[..., V]``, of which single ones may be -inf: tokens that are excluded.

    Raises:
        TritonVisionError: a row has a NaN or no finite number.
    """
    if not np.isfinite(logits.max(axis=-1)).all():  # the maximum of values with a NaN is NaN
        raise TritonVisionError("The network computed logits that are not numbers.")
    return logits
