"""The base of every request's fields, and their description for ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from tritonvision.errors import InvalidParameter


class RequestFields(BaseModel):
    """The fields of a request; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), allow_inf_nan=False)


@dataclass(frozen=True)
class AtMost:
    """Bounds the length of a list before its elements are validated; other values pass.

    ``texts: Annotated[list[str], AtMost("max_texts")]``; every list field of a request has one.

    Args:
        limit: a number, or the name of the setting that holds it.
    """

    limit: int | str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._bounded, handler(source))

    def _bounded(self, value: Any, info: ValidationInfo) -> Any:
        most = getattr(info.context, self.limit) if isinstance(self.limit, str) else self.limit
        if isinstance(value, list) and len(value) > most:
            # not an error of pydantic: it ends the validation at once
            raise InvalidParameter(f"'{info.field_name}' may hold {most} entries, not {len(value)}.")
        return value


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema in ``/docs`` of a body that the route parses itself."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """``schema`` with its references inlined."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}
