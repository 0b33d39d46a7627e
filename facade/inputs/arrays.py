"""NumPy arrays that clients send, read without executing anything: ``.npy`` bytes, and the guide's pickled array.

Nothing is unpickled. The opcodes are read with :func:`pickletools.genops`, which executes nothing, over a small stack
of our own. The few names an array's pickle may hold become inert records of their arguments; every other name,
persistent ids, extension codes and all opcodes that an array does not need are refused.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.errors import InvalidPicture, PictureTooLarge
from tritonvision.pictures import MAX_PIXELS, NPY_MAGIC, read_npy_header

# An array takes 30 to 50 opcodes, in any protocol; more is no array, and reading it would take time.
_MOST_OPCODES = 128

_ARRAY, _DTYPE, _NDARRAY, _BUFFER, _ENCODE = "array", "dtype", "ndarray", "buffer", "encode"
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy.core.numeric", "_frombuffer"): _BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _BUFFER,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,
}
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES"
    " BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Foreign(Exception):
    """The pickle holds something that is not one plain array."""


@dataclass(frozen=True)
class _Name:
    """A name the pickle may mention; nothing is imported for it."""

    of: str


@dataclass
class _Call:
    """A call the pickle asks for, recorded and not made."""

    of: str
    args: tuple
    state: Any = None


_MARK = object()


def read_array(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture in ``.npy`` bytes or in a pickle of one array, protocols 0 to 5, of NumPy 1 or 2.

    Returns:
        uint8 ``[h, w]``, ``[h, w, 1]`` or ``[h, w, 3]``; it may be a view of ``data``. Channels are as they were sent.

    Raises:
        InvalidPicture: anything but one plain uint8 array of such a shape with as many bytes as the shape says.
        PictureTooLarge: more than ``max_pixels`` pixels.
    """
    shape, fortran, raw = _plain(data) if data.startswith(NPY_MAGIC) else _pickled(data)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise InvalidPicture("The array must have the shape (height, width), (height, width, 1) or (height, width, 3).")
    if math.prod(shape) != len(raw):
        raise InvalidPicture("The array's bytes do not match its shape.")
    if not raw:
        raise InvalidPicture("The array has no pixels.")
    if shape[0] * shape[1] > max_pixels:
        raise PictureTooLarge(
            f"The picture has {shape[1]} x {shape[0]} pixels, over the limit of {max_pixels / 1e6:g} million."
        )
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


def to_npy(picture: np.ndarray) -> bytes:
    """``.npy`` bytes, RGB ``[h, w, 3]``, of a uint8 picture that is grey or BGR."""
    if picture.ndim == 2:
        picture = picture[..., None]
    rgb = picture[..., ::-1] if picture.shape[2] == 3 else np.repeat(picture, 3, axis=2)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(rgb), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _plain(data: bytes) -> tuple[tuple[int, ...], bool, memoryview]:
    """Shape, whether in Fortran order, and bytes of the array in ``.npy`` bytes."""
    header = read_npy_header(data)
    return header.shape, header.fortran, memoryview(data)[header.start :]


# ---- pickles ---------------------------------------------------------------------------------------------------------


def _pickled(data: bytes) -> tuple[tuple[int, ...], bool, bytes | bytearray]:
    """Shape, whether in Fortran order, and bytes of the one array that ``data`` is the pickle of."""
    try:
        shape, dtype, fortran, raw = _array_parts(_walk(data))
        _check_uint8(dtype)
        return _sizes(shape), fortran, _plain_bytes(raw)
    except _Foreign as error:
        raise InvalidPicture("The pickle is not one plain array of type uint8; nothing else is read.") from error
    # what pickletools and the stack raise for bad input
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise InvalidPicture("The bytes are not a pickled array.") from error


def _walk(data: bytes) -> Any:
    """What the pickle leaves on the stack. Raises _Foreign, ValueError, IndexError, KeyError."""
    stack: list[Any] = []
    memo: dict[int | None, Any] = {}
    for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if count >= _MOST_OPCODES:
            raise _Foreign("too long")
        if name == "STOP":
            break
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _PUT:
            memo[arg] = stack[-1]
        elif name in _GET:
            stack.append(memo[arg])
        elif name not in ("PROTO", "FRAME"):
            _step(name, arg, stack)
    (result,) = stack
    return result


def _step(name: str, arg: Any, stack: list[Any]) -> None:
    """One opcode that builds something out of the stack."""
    if name == "MARK":
        stack.append(_MARK)
    elif name in _TUPLES:
        stack.append(_pop(stack, _TUPLES[name]))
    elif name == "TUPLE":
        at = len(stack) - 1 - next(i for i, value in enumerate([*reversed(stack), _MARK]) if value is _MARK)
        stack[at:] = [tuple(stack[at + 1 :])]
    elif name == "GLOBAL":
        stack.append(_named(*arg.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        stack.append(_named(*_pop(stack, 2)))
    elif name == "REDUCE":
        function, args = _pop(stack, 2)
        if not isinstance(function, _Name) or function.of == _NDARRAY or not isinstance(args, tuple):
            raise _Foreign("a call")
        stack.append(_Call(function.of, args))
    elif name == "BUILD":
        target, state = stack[-2], stack.pop()
        if not isinstance(target, _Call) or target.of not in (_ARRAY, _DTYPE) or target.state is not None:
            raise _Foreign("a state")
        target.state = state
    else:
        raise _Foreign(name)


def _pop(stack: list[Any], n: int) -> tuple:
    if len(stack) < n:
        raise _Foreign("an empty stack")
    values = tuple(stack[len(stack) - n :])
    del stack[len(stack) - n :]
    return values


def _named(module: Any, name: Any) -> _Name:
    known = _NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if known is None:
        raise _Foreign("a name")
    return _Name(known)


def _array_parts(value: Any) -> tuple[Any, Any, bool, Any]:
    """Shape, dtype, whether in Fortran order, and bytes of a recorded array, none of them checked yet."""
    if not isinstance(value, _Call):
        raise _Foreign("no array")
    if value.of == _BUFFER and len(value.args) == 4 and value.args[3] in ("C", "F"):
        raw, dtype, shape, order = value.args
        return shape, dtype, order == "F", raw
    # ndarray.__setstate__: (version, shape, dtype, is_fortran, bytes)
    if value.of == _ARRAY and isinstance(value.state, tuple) and len(value.state) == 5:
        made_of = value.args[0] if value.args else None
        if made_of != _Name(_NDARRAY) or value.state[0] != 1 or not isinstance(value.state[3], int):
            raise _Foreign("no plain array")
        _, shape, dtype, fortran, raw = value.state
        return shape, dtype, bool(fortran), raw
    raise _Foreign("no array")


def _check_uint8(dtype: Any) -> None:
    """dtype.__setstate__: (version, byte order, subarray, field names, fields, item size, alignment, flags)."""
    if not isinstance(dtype, _Call) or dtype.of != _DTYPE or dtype.args[:1] not in (("u1",), ("|u1",), ("uint8",)):
        raise _Foreign("another type")
    if dtype.state is not None and (
        not isinstance(dtype.state, tuple) or len(dtype.state) < 5 or dtype.state[2:5] != (None, None, None)
    ):
        raise _Foreign("a composed type")


def _sizes(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 3 or any(type(n) is not int or not 0 <= n < 2**31 for n in shape):
        raise _Foreign("a shape")
    return shape


def _plain_bytes(raw: Any) -> bytes | bytearray:
    """The bytes, as protocols 3 to 5 hold them or as the ``_codecs.encode`` of protocols 0 to 2 spells them."""
    if isinstance(raw, _Call) and raw.of == _ENCODE and len(raw.args) == 2 and raw.args[1] in ("latin1", "latin-1"):
        text = raw.args[0]
        if not isinstance(text, str):
            raise _Foreign("no text")
        return text.encode("latin-1")
    if not isinstance(raw, bytes | bytearray):
        raise _Foreign("no bytes")
    return raw
