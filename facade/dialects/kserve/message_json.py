"""Triton's messages in the JSON that its HTTP server writes."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def told(message: Message) -> dict[str, Any]:
    """Every field that always has a value, zeros too, and integers of 64 bits as numbers: protobuf's own JSON leaves
    the zeros out and writes these as strings, and clients such as perf_analyzer read neither."""
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(fields, message.DESCRIPTOR)


def _with_numbers(fields: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    return {name: _value(value, descriptor.fields_by_name[name]) for name, value in fields.items()}


def _value(value: Any, field: FieldDescriptor) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {key: _value(one, kind.fields_by_name["value"]) for key, one in value.items()}
    if isinstance(value, list):
        return [_value(one, field) for one in value]
    if kind is not None:
        return _with_numbers(value, kind)
    return int(value) if field.cpp_type in _LONG else value
