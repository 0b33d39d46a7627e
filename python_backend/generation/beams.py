"""Greedy, sampled and beam search over encoder-decoders, as ``generate()`` of transformers 5.23 does it, in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.python_backend.generation.sampling import checked
from tritonvision.python_backend.runtime.networks import Call

SEARCH = "search.json"  # the file beside a model: the checkpoint's settings, the fields of Search
MASK = "encoder_attention_mask"  # the input of a decoder that tells what of its keys and values is padding
# Subtracted from the score of an impossible sequence; in float32 the former score is rounded away.
_NEVER = np.float32(-1e9)

# step(ids int64 [n], origins int64 [n]) -> logits float32 [n, V] of the token after: row i continues row ``origins[i]``
# of the step before; at the first step there is none.
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
# allowed(texts int64 [n, length]) -> bool [n, W], W <= V: which tokens may come next; those from W on never do
Allowed = Callable[[np.ndarray], np.ndarray]
# A search turned around: yields what the next step is of, is sent its logits, returns the answer's tokens int64 [n].
Steps = Generator[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Search:
    """Settings of a search; the names in brackets are those of a ``generation_config.json``.

    Attributes:
        start: the token that the decoder begins with (``decoder_start_token_id``).
        ends: the tokens that end a sequence (``eos_token_id``).
        most: tokens of an answer, its end included (``max_new_tokens``; ``max_length`` counts the start, too).
        beams: width of the beam search; 1 is greedy search (``num_beams``).
        length_penalty: a sequence's score is its log probability over its length to this power.
        early_stopping: True stops as soon as ``beams`` sequences have ended; False when no running one is likely to
            become better than they; ``"never"`` when none can.
        no_repeat: n-grams of this length occur at most once; 0 is off (``no_repeat_ngram_size``).
        first: the token every answer begins with, or None (``forced_bos_token_id``).
        last: one of these tokens is forced at the end of an answer of ``most`` tokens; empty is off
            (``forced_eos_token_id``).
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


def read_search(data: bytes) -> dict[str, Any]:
    """The fields of a :class:`Search` out of its file :data:`SEARCH`."""
    fields = json.loads(data)
    return fields | {"ends": tuple(fields["ends"]), "last": tuple(fields["last"])}


def search(step: Step, settings: Search, choose: Callable[[np.ndarray], int] | None = None) -> np.ndarray:
    """The answer's tokens, int64 ``[n]``, without the start token, with the end token if one was generated.

    Args:
        choose: takes the next token of logits ``[V]``, of a search of one beam; None takes the likeliest.

    Raises:
        TritonVisionError: the network computed logits that are no numbers.
    """
    searching = steps(settings, choose)
    try:
        asked = next(searching)
        while True:
            asked = searching.send(step(*asked))
    except StopIteration as ended:
        return ended.value


def steps(
    settings: Search, choose: Callable[[np.ndarray], int] | None = None, allowed: Allowed | None = None
) -> Steps:  # fmt: skip
    """The steps of :func:`search`, for who runs those of several searches together. The first step of a search has one
    row, every other one ``settings.beams``.

    Args:
        allowed: what the answer may be, asked of its tokens behind the start and ``settings.first``; None allows all.
            An answer of ``settings.most`` tokens may be cut off.
    """
    if settings.beams == 1:
        return _one_by_one(settings, choose or (lambda logits: int(logits.argmax())), allowed)
    return _beam_search(settings, allowed)


class Decoder:
    """The network ``decoder`` of some samples, each a picture and a prompt, with its past_key_values: a :data:`Step`.

    Args:
        call: runs the network.
        cross: ``cross.N.key`` and ``cross.N.value`` float32 ``[B,H,E,D]`` of every layer, as the encoder gives them.
            The rows of a step continue the first sample, then as many the second, and so on: those of one sample share
            its keys and values.
        mask: int64 ``[B,E]``, 0 where ``cross`` is padding; None of a graph that has no such input.
    """

    def __init__(self, call: Call, cross: Mapping[str, np.ndarray], mask: np.ndarray | None = None):
        self._call = call
        self._cross = dict(cross)
        self._past = {
            name.replace("cross", "past_key_values"): np.zeros_like(value[:, :, :0]) for name, value in cross.items()
        }
        self._outputs = ["logits", *(name.replace("past_key_values", "present") for name in self._past)]
        if mask is not None:
            self._cross[MASK] = mask

    def only(self, samples: Sequence[int]) -> None:
        """Go on with these samples. The ``origins`` of the next step still count the rows of all."""
        self._cross = {name: value[list(samples)] for name, value in self._cross.items()}

    def __call__(self, ids: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Append ``ids``; see :data:`Step`."""
        rows = len(next(iter(self._past.values())))
        if not np.array_equal(origins, np.arange(rows)):
            self._past = {name: value[origins] for name, value in self._past.items()}
        found = self._call("decoder", {"input_ids": ids[:, None], **self._past, **self._cross}, self._outputs)
        self._past = {name: found[name.replace("past_key_values", "present")] for name in self._past}
        return found["logits"]


def _one_by_one(settings: Search, choose: Callable[[np.ndarray], int], allowed: Allowed | None) -> Steps:
    ids, origins = np.array([[settings.start]], dtype=np.int64), np.zeros(1, dtype=np.int64)
    while ids.shape[1] <= settings.most:
        scores = checked(_constrained(checked((yield ids[:, -1], origins)), ids, settings, allowed))
        ids = np.append(ids, [[choose(scores[0])]], axis=1)
        if ids[0, -1] in settings.ends:
            break
    return ids[0, 1:]


def _beam_search(settings: Search, allowed: Allowed | None) -> Steps:
    """``GenerationMixin._beam_search`` for one picture, score for score in float32.

    Names as there: a *running* beam continues, a *finished* one is an answer. Each step takes the ``candidates`` best
    continuations, enough that ``beams`` of them run on even if all others end; only the best ``beams`` of those that
    end are finished.
    """
    beams, candidates = settings.beams, max(2, 1 + len(settings.ends)) * settings.beams
    running, running_scores = np.full((beams, 1), settings.start, dtype=np.int64), np.full(beams, _NEVER)
    running_scores[0] = 0  # before the first step all beams are equal
    finished = _Finished(beams, running[0])
    logits = np.repeat(checked((yield running[0], np.zeros(1, dtype=np.int64))), beams, axis=0)
    for length in range(1, settings.most + 1):
        totals = _constrained(_log_softmax(logits), running, settings, allowed) + running_scores[:, None]
        best = _top(checked(totals.reshape(-1)), candidates)
        origins, ids = np.divmod(best, totals.shape[1])
        sequences, scores = np.append(running[origins], ids[:, None], axis=1), totals[origins, ids]
        hits_end = np.isin(ids, settings.ends) | (length == settings.most)

        going_on = scores + hits_end * _NEVER
        chosen = _top(going_on, beams)
        finished.add(sequences, scores / np.float32(length**settings.length_penalty), hits_end, settings)
        running, running_scores = sequences[chosen], going_on[chosen]
        if finished.final(running_scores[0], length, settings) or hits_end.all():
            break
        logits = checked((yield running[:, -1], origins[chosen] if length > 1 else np.zeros(beams, dtype=np.int64)))
    return finished.sequences[0][1:]


class _Finished:
    """The best ``beams`` answers of a beam search so far, best first; rows without an answer yet are not ``filled``.

    Args:
        beams: how many.
        start: int64 ``[1]``, the content of rows that are not filled.
    """

    def __init__(self, beams: int, start: np.ndarray):
        self.sequences = [start] * beams
        self._scores, self._filled = np.full(beams, _NEVER), np.zeros(beams, dtype=bool)
        self._improvable = True

    def add(self, sequences: np.ndarray, scores: np.ndarray, hits_end: np.ndarray, settings: Search) -> None:
        """Merge the candidates that ended into the best ``beams`` answers.

        Args:
            sequences: int64 ``[candidates, n]``, best first.
            scores: float32 ``[candidates]``, the length penalty applied.
            hits_end: bool ``[candidates]``, which of them ended.
        """
        beams = len(self.sequences)
        new = hits_end & (np.arange(len(scores)) < beams)
        closed = (self._filled.all() and settings.early_stopping is True) or not self._improvable
        scores = scores + np.float32(closed) * _NEVER
        scores += ~new * _NEVER
        merged, filled = np.append(self._scores, scores), np.append(self._filled, new)
        best = _top(merged, beams)
        self.sequences = [self.sequences[i] if i < beams else sequences[i - beams] for i in best]
        self._scores, self._filled = merged[best], filled[best]

    def final(self, running_score: np.float32, length: int, settings: Search) -> bool:
        """Whether no running beam can replace a finished one any more, by the rule of ``early_stopping``.

        Args:
            running_score: of the best running beam, ``length`` tokens long.
        """
        exhaustive = settings.early_stopping == "never" and settings.length_penalty > 0
        reached = np.float32((settings.most if exhaustive else length) ** settings.length_penalty)
        self._improvable &= bool((running_score / reached > np.where(self._filled, self._scores.min(), _NEVER)).any())
        return not self._improvable or (bool(self._filled.all()) and settings.early_stopping is True)


def _constrained(scores: np.ndarray, ids: np.ndarray, settings: Search, allowed: Allowed | None) -> np.ndarray:
    """``scores`` ``[n, V]`` of what may follow ``ids`` ``[n, length]``, -inf for what must not."""
    length, begun = ids.shape[1], 1 if settings.first is None else 2
    if allowed is not None and length >= begun:
        words = allowed(ids[:, begun:])
        kept = np.full_like(scores, -np.inf)
        kept[:, : words.shape[1]] = np.where(words, scores[:, : words.shape[1]], -np.inf)
        scores = kept
    if settings.no_repeat and length + 1 >= settings.no_repeat:
        scores = scores.copy()
        for row, written in zip(scores, ids.tolist(), strict=True):
            row[_repeating(written, settings.no_repeat)] = -np.inf
    if settings.first is not None and length == 1:
        scores = _only(scores, (settings.first,))
    if settings.last and length == settings.most:
        scores = _only(scores, settings.last)
    return scores


def _repeating(written: list[int], size: int) -> list[int]:
    """The tokens that would complete an n-gram of ``size`` tokens that ``written`` has already."""
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
    """Indices of the ``count`` largest of ``values``, largest first; ties in order of index."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")[:count]
    limit = np.partition(values, -count)[-count]
    above = np.flatnonzero(values > limit)
    level = np.flatnonzero(values == limit)[: count - len(above)]  # of -inf there may be a whole vocabulary
    return np.append(above[np.argsort(-values[above], kind="stable")], level)
