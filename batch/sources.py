"""The pictures of a batch: listed once, in an order that stays, and read by their names.

A name is a path, an address that fsspec knows, a URL, or ``FILE.parquet#ROW``, a picture within a Parquet file.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

from tritonvision.batch.folder import extra_missing, is_local, store_of
from tritonvision.client.images import read_images
from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge, SetupError
from tritonvision.pictures import ENDINGS
from tritonvision.settings import Settings

PARQUET = ".parquet"
_LISTS = (".txt", ".lst")
_IN_PARQUET = re.compile(r"(?P<file>.+\.parquet)#(?P<row>\d+)")
_COLUMNS = ("image", "picture", "bytes", "path", "url", "image_url", "file", "file_name")
_URL = ("http://", "https://")
_TRIES, _PAUSE = 3, 1.0  # of a picture that lies on another machine
_ROWS = 64  # of a Parquet file that are in memory at once

_T = TypeVar("_T")


def groups(source: str, column: str | None = None) -> Iterator[Iterator[str]]:
    """The names of all pictures of ``source``, in groups that no shard crosses: a row group of a Parquet file with
    pictures in it is one, anything else is one altogether.

    Args:
        source: a folder (pictures in it and below, by path), a pattern, a text file with a path, address or URL a line
            (relative ones from the list's folder), or a Parquet file or folder of them, with pictures or their paths.
        column: of a Parquet file; the first whose name tells, when None.

    Raises:
        InvalidParameter: there is no picture, or no column of pictures. SetupError: it cannot be read. Both come while
            the groups are taken, or the names of one.
    """
    for group in _readable(source, _groups(source, column)):
        yield _readable(source, group)


def _readable(source: str, some: Iterator[_T]) -> Iterator[_T]:
    try:
        yield from some
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"A list in '{source}' is not text in UTF-8.") from error
    except OSError as error:
        raise SetupError(f"{source} cannot be read: {error.strerror or type(error).__name__}.") from error


def _groups(source: str, column: str | None) -> Iterator[Iterator[str]]:
    store, path = store_of(source)
    found = _files(store, path)
    if not found:
        raise InvalidParameter(f"There is no picture at '{source}'.", hint="Give a folder, a list, or Parquet files.")
    tables = [file for file in found if file.endswith(PARQUET)]
    lists = [file for file in found if file.endswith(_LISTS)]
    if tables and len(tables) < len(found):
        raise InvalidParameter(
            f"'{source}' holds pictures and Parquet files.", hint=f"Name one of the two, e.g. '{source}/*{PARQUET}'."
        )
    if lists and len(lists) < len(found):
        raise InvalidParameter(f"'{source}' matches lists and pictures.", hint="Name one of the two.")
    if tables:
        for table in tables:
            yield from _in_parquet(store, table, column)
    elif lists:
        for file in lists:
            yield _listed(store, file)
    else:
        yield (_named(store, file) for file in found)


def read_pictures(names: Sequence[str], settings: Settings, column: str | None) -> Iterator[Callable[[], bytes]]:
    """For each name, in order, a function that gives its bytes; those of Parquet files are read by this iterator, a few
    rows ahead, all others by the function, which may be called in any thread.

    The function raises InvalidPicture or PictureTooLarge for what cannot be read. The iterator raises SetupError.
    """
    for file, those in itertools.groupby(names, _parquet_of):
        if file is None:
            for name in those:
                yield partial(_read, name, settings)
        else:
            rows = [int(name.rpartition("#")[2]) for name in those]
            for data in _rows(file, rows, column):
                yield partial(_checked, data, settings)


def _parquet_of(name: str) -> str | None:
    found = _IN_PARQUET.fullmatch(name)
    return found["file"] if found else None


# ---- listing ---------------------------------------------------------------------------------------------------------


def _files(store: Any, path: str) -> list[str]:
    """A pattern's matches, a folder's pictures or Parquet files with those below it, or the file itself; sorted."""
    if any(sign in path for sign in "*?[") and not store.exists(path):
        return sorted(str(match) for match in store.glob(path) if store.isfile(match))
    if not store.isdir(path):
        return [path] if store.exists(path) else []
    wanted = (*ENDINGS, PARQUET)
    return sorted(file for file in store.find(path) if PurePosixPath(file).suffix.lower() in wanted)


def _named(store: Any, path: str) -> str:
    """The address of a file of ``store``."""
    return path if is_local(store) else store.unstrip_protocol(path)


def _listed(store: Any, path: str) -> Iterator[str]:
    folder = _named(store, path).rpartition("/")[0]
    with store.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if name := line.strip():
                yield name if "://" in name or name.startswith("/") else f"{folder}/{name}"


def _parquet(file: Any) -> Any:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise extra_missing("pyarrow") from error
    try:
        return parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InvalidParameter("The source ends like a Parquet file and is none.") from error


def _column(schema: Any, wanted: str | None) -> tuple[str, bool]:
    """The column with pictures and whether it holds them, not their paths. Raises InvalidParameter."""
    from pyarrow import types

    def kind(field: Any) -> bool | None:
        if types.is_struct(field.type):  # as Hugging Face's datasets have it
            return True if "bytes" in {inner.name for inner in field.type} else None
        if types.is_binary(field.type) or types.is_large_binary(field.type):
            return True
        return False if types.is_string(field.type) or types.is_large_string(field.type) else None

    names = [wanted] if wanted is not None else _COLUMNS
    for name in names:
        if name in schema.names and (holds := kind(schema.field(name))) is not None:
            return name, holds
    told = f"the column '{wanted}'" if wanted else "a column called like pictures or their paths"
    raise InvalidParameter(
        f"The Parquet file lacks {told}, of bytes or of text.",
        hint=f"Name it with --column; there are: {', '.join(schema.names)}.",
    )


def _in_parquet(store: Any, path: str, column: str | None) -> Iterator[Iterator[str]]:
    with store.open(path, "rb") as opened:
        file = _parquet(opened)
        name, holds = _column(file.schema_arrow, column)
        if not holds:
            yield _paths(file, name, _named(store, path).rpartition("/")[0])
            return
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            yield _numbered(_named(store, path), range(first, first + rows))
            first += rows


def _numbered(address: str, rows: range) -> Iterator[str]:
    return (f"{address}#{row}" for row in rows)


def _paths(file: Any, column: str, folder: str) -> Iterator[str]:
    for batch in file.iter_batches(columns=[column]):
        for name in batch.column(0).to_pylist():
            yield name if name and ("://" in name or name.startswith("/")) else f"{folder}/{name or ''}"


# ---- reading ---------------------------------------------------------------------------------------------------------


def _rows(address: str, rows: Sequence[int], column: str | None) -> Iterator[bytes | None]:
    """The pictures in these rows, which ascend; None where a row has none. Only their row groups are read."""
    store, path = store_of(address)
    try:
        with store.open(path, "rb") as opened:
            file = _parquet(opened)
            name, _ = _column(file.schema_arrow, column)
            wanted, first = iter(rows), 0
            row = next(wanted, None)
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                if row is not None and row < end:
                    for number, value in enumerate(_values(file, group, name), first):
                        if number == row:
                            yield value
                            row = next(wanted, None)
                            if row is None:
                                return
                first = end
    except OSError as error:
        raise SetupError(f"{address} cannot be read: {error.strerror or type(error).__name__}.") from error


def _values(file: Any, group: int, column: str) -> Iterator[bytes | None]:
    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column]):
        for value in batch.column(0):
            found = value.as_py()
            yield found["bytes"] if isinstance(found, dict) else found


def _checked(data: bytes | None, settings: Settings) -> bytes:
    if data is None:
        raise InvalidPicture("The row holds no picture.")
    return read_images(data, settings)[0]


def _read(name: str, settings: Settings) -> bytes:
    """The bytes of a picture that lies anywhere; what is on another machine is asked for several times."""
    if "://" not in name:
        return read_images(name, settings)[0]
    for attempt in range(_TRIES):
        try:
            return read_images(name if name.lower().startswith(_URL) else _fetched(name, settings), settings)[0]
        except InvalidPicture:
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _fetched(address: str, settings: Settings) -> bytes:
    try:
        store, path = store_of(address)
        if store.size(path) > settings.max_body_bytes:
            raise PictureTooLarge(f"The picture is larger than {settings.max_body_bytes >> 20} MB.")
        return store.cat_file(path)
    except (OSError, InvalidParameter) as error:
        raise InvalidPicture("The picture cannot be read from its address.") from error


def cut(named: Iterable[Iterable[str]], size: int) -> Iterator[list[str]]:
    """Shards of at most ``size`` names, none of which crosses a group."""
    for group in named:
        names = iter(group)
        while shard := list(itertools.islice(names, size)):
            yield shard
