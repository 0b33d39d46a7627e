"""Paths that no dialect owns: Roboflow's legacy route takes those of two segments; the others have no route.

The caller may be a client of the legacy route, or one that forgot ``/models`` before a model's id. So an error has the
keys of both: ``message``, which Roboflow's clients read, and ``error``, which Hugging Face's do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tritonvision.errors import TritonVisionError
from tritonvision.facade.dialects.huggingface import errors as huggingface
from tritonvision.facade.dialects.roboflow import errors as roboflow
from tritonvision.facade.dialects.roboflow.dialect import ROBOFLOW


class _Errors:
    """As :class:`tritonvision.facade.dialects.base.Errors` asks for."""

    def error_body(self, error: TritonVisionError) -> dict[str, Any]:
        """``{"message", "error"}``."""
        return huggingface.error_body(error) | roboflow.error_body(error)

    def http_error_body(self, status: int, sentence: str) -> dict[str, Any]:
        """``{"message", "error"}``."""
        return huggingface.http_error_body(status, sentence) | roboflow.http_error_body(status, sentence)

    def invalid(self, problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Roboflow's status, ``{"detail", "error"}``."""
        status, body = roboflow.invalid(problems)
        return status, huggingface.invalid(problems)[1] | body


UNOWNED = replace(ROBOFLOW, errors=_Errors())
