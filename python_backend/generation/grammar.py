"""Answers that follow a JSON schema: which tokens may come next, as llguidance computes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tokenizers

from tritonvision.errors import InvalidParameter, NotSupported

_LONGEST_REASON = 160
# Between two parts of the JSON there may be a space. Any amount of it, as JSON has it, lets an answer never end.
_WRITTEN: Any = {"whitespace_flexible": True, "whitespace_pattern": "[ ]?"}


class Grammars:
    """Makes grammars of schemas over one vocabulary, which is read when the first schema comes.

    Args:
        vocabulary: number of logits.
        end_ids: tokens that end an answer; those that the tokenizer lacks are left out.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, vocabulary: int, end_ids: Sequence[int]):
        self._tokenizer, self._vocabulary, self._end_ids = tokenizer, vocabulary, end_ids

    def of(self, schema: Mapping[str, Any]) -> Grammar:
        """The grammar of answers that are JSON of ``schema``, at its beginning.

        Raises:
            InvalidParameter: it is no JSON schema, has a keyword that is not understood, or is too complex.
            NotSupported: llguidance is not installed.
        """
        numbered, ids = self._read
        from llguidance import LLMatcher, LLParserLimits

        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_WRITTEN)
        matcher = LLMatcher(numbered, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        if matcher.is_error():
            raise InvalidParameter(
                f"No answer can be written by this schema: {_reason(matcher)}",
                hint="Send a JSON schema (draft 2020-12) as 'schema', in OpenAI's form as response_format.json_schema.",
            )
        return Grammar(matcher, ids, self._vocabulary)

    @cached_property
    def _read(self) -> tuple[Any, np.ndarray]:
        """llguidance's tokenizer, and int64 ``[n]``, the id of each of its tokens here.

        It numbers tokens without gaps, while a tokenizer may leave ids out.
        """
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise NotSupported(
                "Answers by a schema need the package 'llguidance', which the server lacks.",
                hint="Get it with: pip install 'tritonvision[schema]'",
            ) from error
        ids = np.array(sorted(set(self._tokenizer.get_vocab(True).values())), dtype=np.int64)
        number = {int(id): n for n, id in enumerate(ids)}
        spec = json.loads(self._tokenizer.to_str())
        spec["post_processor"] = spec["truncation"] = spec["padding"] = None  # they name ids, and only texts are read
        spec["pre_tokenizer"], spec["normalizer"] = (_as_it_is(spec[part]) for part in ("pre_tokenizer", "normalizer"))
        if isinstance(spec["model"]["vocab"], dict):  # a list has no gaps
            spec["model"]["vocab"] = {token: number[id] for token, id in spec["model"]["vocab"].items()}
        for token in spec["added_tokens"]:
            token["id"] = number[token["id"]]
        ends = [number[id] for id in self._end_ids if id in number]
        return LLTokenizer(json.dumps(spec), eos_token=ends, slices=LLTokenizer.json_slices()), ids


class Grammar:
    """What one answer may be, from what it is so far.

    Args:
        matcher: of llguidance.
        ids: of its tokens.
        vocabulary: number of logits.
    """

    def __init__(self, matcher: Any, ids: np.ndarray, vocabulary: int):
        self._matcher, self._ids, self._vocabulary = matcher, ids, vocabulary

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, bool ``[V]``; after a whole answer those that end it.

        Raises:
            InvalidParameter: the schema is too complex to go on.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise InvalidParameter(
                f"The answer cannot be continued by this schema: {_reason(self._matcher)}",
                hint="Make the schema simpler: fewer alternatives, shorter patterns.",
            )
        found = np.zeros(self._vocabulary, dtype=bool)
        allowed = self._ids[np.unpackbits(bits, count=len(self._ids), bitorder="little").view(bool)]
        found[allowed[allowed < self._vocabulary]] = True
        return found

    def take(self, token: int) -> None:
        """Go on behind ``token``, one of those that are allowed."""
        self._matcher.consume_token(int(np.searchsorted(self._ids, token)))

    def after(self, token: int) -> Grammar:
        """The same behind ``token``, one of those that are allowed."""
        other = Grammar(self._matcher.deep_copy(), self._ids, self._vocabulary)
        other.take(token)
        return other


class Branches:
    """What each of several texts may go on with that a search follows at once: :data:`beams.Allowed`.

    Args:
        grammar: of all of them, at its beginning.
        end_ids: tokens that end a text.
    """

    def __init__(self, grammar: Grammar, end_ids: Sequence[int]):
        self._begin, self._end_ids = grammar, end_ids
        self._known: dict[tuple[int, ...], tuple[Grammar, np.ndarray]] = {}

    def __call__(self, texts: np.ndarray) -> np.ndarray:
        """Which tokens may come next, bool ``[n,V]``, of texts int64 ``[n,length]``, each a token longer than one of
        the call before: of one that is whole, or took what it must not, none.
        """
        written = [tuple(text) for text in texts.tolist()]
        self._known = {text: known for text in {*written} if (known := self._go_on(text)) is not None}
        nothing = np.zeros_like(self._begin.allowed())
        return np.stack([self._known[text][1] if text in self._known else nothing for text in written])

    def _go_on(self, text: tuple[int, ...]) -> tuple[Grammar, np.ndarray] | None:
        """Of one text its grammar and what that allows."""
        if not text:
            return self._begin, self._begin.allowed()
        before, allowed = self._known.get(text[:-1], (None, None))
        token = text[-1]
        if before is None or allowed is None or token in self._end_ids or not allowed[token : token + 1].any():
            return None
        found = before.after(token)
        return found, found.allowed()


def _as_it_is(part: Any) -> Any:
    """A part of a tokenizer without the space that it puts before a text: an answer goes on, and does not begin one."""
    if isinstance(part, list):
        return [_as_it_is(one) for one in part if not (isinstance(one, dict) and one.get("type") == "Prepend")]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    never = {"add_prefix_space": False, "prepend_scheme": "never"}
    return {name: never.get(name, _as_it_is(value)) for name, value in part.items()}


def _reason(matcher: Any) -> str:
    """The first line of what llguidance says, with a full stop."""
    first = matcher.get_error().strip().splitlines()[0][:_LONGEST_REASON].rstrip(" .:")
    return f"{first}."
