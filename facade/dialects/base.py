"""What a dialect declares; routing, the shape of errors, open paths and the OpenAPI description derive from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import APIRouter

from tritonvision.errors import TritonVisionError
from tritonvision.facade.dialects.operations import Operation


class Errors(Protocol):
    """The error bodies of a dialect: a module ``errors.py``. Each function returns a response's body."""

    def error_body(self, error: TritonVisionError) -> dict[str, Any]:
        """The body for an error of the tree."""

    def http_error_body(self, status: int, sentence: str) -> dict[str, Any]:
        """The body for an unknown route or a wrong method."""

    def invalid(self, problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Status and body for a request that does not fit its schema; ``problems`` as pydantic lists them."""


@dataclass(frozen=True)
class Dialect:
    """One vendor's HTTP contract.

    Attributes:
        name: in metrics and logs.
        prefixes: first segments of the paths whose errors have this dialect's body.
        routers: in the order in which they are matched.
        errors: its error bodies.
        error_type: the type of an error's body, for the description.
        operations: the description of each route, by method and path.
        reserved: further first segments that cannot be a project of the legacy route.
        open_paths: reachable without a key.
        health_paths: whose 503 is an answer, not an error.
        last: makes a router that also matches paths of others, given every reserved segment; matched last.
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
