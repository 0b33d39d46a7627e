"""What a dialect declares; routing, the owners of errors, open paths and the description derive from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import APIRouter

from tritonvision.errors import TritonVisionError
from tritonvision.facade.dialects.operations import Operation


class Errors(Protocol):
    """What a dialect says when it cannot answer: a module ``errors.py``. Each function returns a response's body."""

    def error_body(self, error: TritonVisionError) -> dict[str, Any]:
        """The body for an error of the tree."""

    def http_error_body(self, status: int, sentence: str) -> dict[str, Any]:
        """The body for what the web framework refused: an unknown route, a wrong method."""

    def invalid(self, problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Status and body for a request that does not fit its schema; ``problems`` as pydantic lists them."""


@dataclass(frozen=True)
class Dialect:
    """One vendor's HTTP contract.

    Attributes:
        name: in metrics and logs.
        prefixes: first segments of paths whose errors are told in this dialect's words.
        routers: in the order in which they are tried.
        errors: how errors are told.
        error_type: the type of an error's body, for the description.
        operations: what the description says of each route, by method and path.
        reserved: further first segments that are no project of the legacy route.
        open_paths: reachable without a key.
        health_paths: whose 503 is an answer, not a refusal.
        last: makes the router that would swallow the paths of others, given every reserved segment; tried last.
    """

    name: str
    prefixes: tuple[str, ...]
    routers: tuple[APIRouter, ...]
    errors: Errors
    error_type: Any
    operations: Mapping[tuple[str, str], Operation] = field(default_factory=dict)
    reserved: tuple[str, ...] = ()
    open_paths: frozenset[str] = frozenset()
    health_paths: frozenset[str] = frozenset()
    last: Callable[[Collection[str]], APIRouter] | None = None
