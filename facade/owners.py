"""The dialect that answers for a path, by the owner that :mod:`addresses` gives it."""

from __future__ import annotations

from tritonvision.facade.addresses import owner_of
from tritonvision.facade.dialects import huggingface, openai, roboflow
from tritonvision.facade.replies import Dialect

_DIALECTS: dict[str, Dialect] = {dialect.NAME: dialect for dialect in (roboflow, huggingface, openai)}


def dialect_of(path: str) -> Dialect:
    """The dialect whose clients call ``path``."""
    return _DIALECTS[owner_of(path)]
