"""The JSON body of a request as a model of its fields."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from tritonvision.facade.context import service_of
from tritonvision.facade.inputs.json_body import read_json


async def read_body(request: Request, model: type[BaseModel]) -> Any:
    """The JSON body as ``model``; null is absent.

    Raises:
        RequestValidationError: it does not fit.
        InvalidParameter, PictureTooLarge: it, or a list in it, is too long.
    """
    try:
        body = await read_json(request)
    except ValueError as error:
        problem = {"type": "json_invalid", "loc": ("body",), "msg": "The body is not valid JSON."}
        raise RequestValidationError([problem]) from error
    if not isinstance(body, dict):
        problem = {"type": "dict_type", "loc": ("body",), "msg": "The body must be a JSON object."}
        raise RequestValidationError([problem])
    given = {name: value for name, value in body.items() if value is not None}
    try:
        return model.model_validate(given, context=service_of(request).settings)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([p | {"loc": ("body", *p["loc"])} for p in problems]) from None
