"""Which engine answers for a model that writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tritonvision.python_backend.generation.answering import Engine
from tritonvision.python_backend.generation.beams import SEARCH
from tritonvision.python_backend.generation.engine import VlmEngine
from tritonvision.python_backend.generation.prefixes import LIMIT
from tritonvision.python_backend.generation.search_engine import SearchEngine
from tritonvision.python_backend.runtime.sessions import Sessions


def open_engine(
    sessions: Sessions, module: str, options: Mapping[str, Any], assets: Mapping[str, bytes],
    working: Callable[[], AbstractContextManager] = nullcontext, model: str = "", kept: int = LIMIT,
) -> Engine:  # fmt: skip
    """The engine of a published model: one that searches where the settings of a search lie beside the model.

    The arguments are those of :class:`VlmEngine` and :class:`SearchEngine`.
    """
    if SEARCH in assets:
        return SearchEngine(sessions, module, options, assets, working, model)
    return VlmEngine(sessions, module, options, assets, working, model, kept)
