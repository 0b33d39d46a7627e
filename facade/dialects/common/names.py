"""Names of models as requests give them."""

from __future__ import annotations

from tritonvision import catalog
from tritonvision.errors import InvalidParameter, UnknownModel


def possible(name: str) -> str:
    """``name``, if it can be a model's. Raises InvalidParameter."""
    try:
        return catalog.check_id(name)
    except UnknownModel as error:
        raise InvalidParameter(error.message, hint=error.hint) from None
