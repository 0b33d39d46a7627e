"""Greedy and beam search over an encoder-decoder, as ``generate()`` of transformers 5.23 does them, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# What an impossible sequence's score is lowered by: in float32 it swallows whatever the score was.
_NEVER = np.float32(-1e9)

# step(ids int64 [n], origins int64 [n]) -> logits float32 [n, V] of the token after: each row goes on from row
# ``origins[i]`` of the step before, of which there is none at first.
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
# call(role of a network, inputs, names of outputs) -> outputs; all with a batch axis
Call = Callable[[str, Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Search:
    """How an answer is looked for; the names in brackets are those of a ``generation_config.json``.

    Attributes:
        start: the token that the decoder begins with (``decoder_start_token_id``).
        ends: the tokens that end a sequence (``eos_token_id``).
        most: tokens of an answer, its end included (``max_new_tokens``; ``max_length`` counts the start, too).
        beams: sequences that are followed at once; 1 takes the likeliest token each time (``num_beams``).
        length_penalty: a sequence's score is its log probability over its length to this power.
        early_stopping: True stops as soon as ``beams`` sequences have ended; False when no running one is likely to
            become better than they; ``"never"`` when none can.
        no_repeat: so many tokens in a row occur once at most; 0 is off (``no_repeat_ngram_size``).
        first: the token every answer begins with, or None (``forced_bos_token_id``).
        last: the tokens of which one ends an answer of ``most`` tokens; none is off (``forced_eos_token_id``).
    """

    start: int
    ends: tuple[int, ...]
    most: int
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    no_repeat: int = 0
    first: int | None = None
    last: tuple[int, ...] = ()


def search(step: Step, how: Search) -> np.ndarray:
    """The answer's tokens, int64 ``[n]``, without the start, with the end where one was written."""
    return _greedy(step, how) if how.beams == 1 else _beams(step, how)


class Decoder:
    """The network ``decoder`` of one encoded picture with what it remembers of the tokens so far: a :data:`Step`.

    Args:
        call: asks the network.
        cross: ``cross.N.key`` and ``cross.N.value`` float32 ``[1,H,E,D]`` of every layer, as the encoder gives them.
            All beams read these: the network takes the rows of ``input_ids`` for several continuations of one picture.
    """

    def __init__(self, call: Call, cross: Mapping[str, np.ndarray]):
        self._call = call
        self._cross = dict(cross)
        self._past = {
            name.replace("cross", "past_key_values"): np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for name, value in cross.items()
        }
        self._outputs = ["logits", *(name.replace("past_key_values", "present") for name in self._past)]

    def __call__(self, ids: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Append ``ids``; see :data:`Step`."""
        rows = len(next(iter(self._past.values())))
        if not np.array_equal(origins, np.arange(rows)):
            self._past = {name: value[origins] for name, value in self._past.items()}
        found = self._call("decoder", {"input_ids": ids[:, None], **self._past, **self._cross}, self._outputs)
        self._past = {name: found[name.replace("past_key_values", "present")] for name in self._past}
        return found["logits"]


def _greedy(step: Step, how: Search) -> np.ndarray:
    ids, here = np.array([[how.start]], dtype=np.int64), np.zeros(1, dtype=np.int64)
    while ids.shape[1] <= how.most:
        scores = _constrained(step(ids[:, -1], here), ids, how)
        ids = np.append(ids, [[scores[0].argmax()]], axis=1)
        if ids[0, -1] in how.ends:
            break
    return ids[0, 1:]


def _beams(step: Step, how: Search) -> np.ndarray:
    """The library's ``_beam_search`` for one picture, score for score in float32.

    ``keep`` continuations are looked at in each step, so many that ``beams`` of them run on even if all others end;
    only the best ``beams`` of those that end are answers.
    """
    count, keep = how.beams, max(2, 1 + len(how.ends)) * how.beams
    running = np.full((count, 1), how.start, dtype=np.int64)
    scores = np.full(count, _NEVER, dtype=np.float32)
    scores[0] = 0  # at first all beams are one
    answers, answered = [running[0]] * count, np.full(count, _NEVER, dtype=np.float32)
    complete, improvable = np.zeros(count, dtype=bool), True
    logits = np.repeat(step(running[0], np.zeros(1, dtype=np.int64)), count, axis=0)
    for length in range(1, how.most + 1):
        totals = _constrained(_log_softmax(logits), running, how) + scores[:, None]
        best = _top(totals.reshape(-1), keep)
        origins, ids = np.divmod(best, totals.shape[1])
        values, grown = totals[origins, ids], np.append(running[origins], ids[:, None], axis=1)
        ended = np.isin(ids, how.ends) | (length == how.most)

        going = values + ended * _NEVER
        chosen = _top(going, count)

        reached = values / np.float32(length**how.length_penalty)
        reached += np.float32(complete.all() and how.early_stopping is True) * _NEVER
        reached += np.float32(not improvable) * _NEVER
        new = ended & (np.arange(keep) < count)
        reached += ~new * _NEVER
        merged, marks = np.append(answered, reached), np.append(complete, new)
        ranked = _top(merged, count)
        answers = [answers[i] if i < count else grown[i - count] for i in ranked]
        answered, complete = merged[ranked], marks[ranked]

        running, scores = grown[chosen], going[chosen]
        longest = how.most if how.early_stopping == "never" and how.length_penalty > 0 else length
        hoped = scores[:1] / np.float32(longest**how.length_penalty)
        improvable &= bool((hoped > np.where(complete, answered.min(), _NEVER)).any())
        if not improvable or ended.all() or (complete.all() and how.early_stopping is True):
            break
        logits = step(running[:, -1], origins[chosen] if length > 1 else np.zeros(count, dtype=np.int64))
    return answers[0][1:]


def _constrained(scores: np.ndarray, ids: np.ndarray, how: Search) -> np.ndarray:
    """``scores`` ``[n, V]`` of what may follow ``ids`` ``[n, length]``, -inf for what must not."""
    length = ids.shape[1]
    if how.no_repeat and length + 1 >= how.no_repeat:
        scores = scores.copy()
        for row, written in zip(scores, ids.tolist(), strict=True):
            row[_repeating(written, how.no_repeat)] = -np.inf
    if how.first is not None and length == 1:
        scores = _only(scores, (how.first,))
    if how.last and length == how.most:
        scores = _only(scores, how.last)
    return scores


def _repeating(written: list[int], size: int) -> list[int]:
    """The tokens after which the last ``size`` ones would stand in ``written`` already."""
    before = written[len(written) + 1 - size :]
    return [
        written[start + size - 1]
        for start in range(len(written) + 1 - size)
        if written[start : start + size - 1] == before
    ]


def _only(scores: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
    forced = np.full_like(scores, -np.inf)
    forced[:, list(tokens)] = 0
    return forced


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _top(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest of ``values``, largest first, of equal ones the first first."""
    if count < len(values):
        limit = np.partition(values, -count)[-count]
        candidates = np.flatnonzero(values >= limit)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
