"""The JSON of an inference request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
    "BF16",
]  # fmt: skip
MOST_TENSORS, MOST_AXES = 64, 16
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Size = Annotated[int, Field(ge=0, le=2**31)]


class Input(BaseModel):
    """One tensor: its elements in ``data``, or behind the JSON where ``binary_data_size`` of ``parameters`` says so.

    Strings of BYTES are UTF-8, or base64 where ``content_type`` of ``parameters`` is ``base64``.
    """

    name: _Name
    shape: Annotated[list[_Size], Field(max_length=MOST_AXES)]
    datatype: Datatype
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Output(BaseModel):
    """One output that is wanted; with ``binary_data`` in its ``parameters`` behind the JSON."""

    name: _Name
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """A question to a model, as tensors."""

    id: Annotated[str, Field(max_length=200)] = ""
    inputs: Annotated[list[Input], Field(min_length=1, max_length=MOST_TENSORS)]
    outputs: Annotated[list[Output], Field(max_length=MOST_TENSORS)] = []
    parameters: dict[str, Any] = {}
