"""The parts of a batch's answers: a Parquet file a shard, called by the shard's number."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tritonvision.batch.folder import Folder
from tritonvision.batch.job import SUMMARY, Job, Plan

OK = "ok"
_NAME = re.compile(r"part-(\d{6,})\.parquet")
_FOOTER = b"tritonvision"
_READERS = 16


@dataclass(frozen=True)
class Row:
    """What is said about one picture.

    Attributes:
        picture: its name.
        status: ``ok``, or the code of the error.
        answer: see :func:`tritonvision.batch.answers.to_json`; None of an error.
        error: its sentence, else None.
    """

    picture: str
    status: str
    answer: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """A shard that is answered: how many of its pictures have which status."""

    shard: int
    statuses: dict[str, int]

    @property
    def pictures(self) -> int:
        """How many it has."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """How many of them have no answer."""
        return self.pictures - self.statuses.get(OK, 0)


def name_of(shard: int) -> str:
    """The file of a shard, which every worker calls the same: what is written twice replaces itself."""
    return f"part-{shard:06}.parquet"


def write(folder: Folder, job: Job, precision: str, shard: int, rows: Sequence[Row]) -> Done:
    """Write the part of a shard, in one step. Raises SetupError."""
    import pyarrow
    from pyarrow import parquet

    done = Done(shard, dict(Counter(row.status for row in rows)))
    footer = {"job": job.model_hash, **asdict(done)}
    text, names = pyarrow.string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    schema = pyarrow.schema(
        [("picture", text), ("status", names), ("answer", text), ("error", text), ("model", names),
         ("model_hash", names), ("precision", names)],
        metadata={_FOOTER: json.dumps(footer)},
    )  # fmt: skip
    columns = [[getattr(row, name) for row in rows] for name in ("picture", "status", "answer", "error")]
    same = [[value] * len(rows) for value in (job.model, job.model_hash, precision)]
    arrays = [pyarrow.array(values, field.type) for values, field in zip(columns + same, schema, strict=True)]
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), stream, compression="zstd")
    folder.write(name_of(shard), stream.getvalue())
    return done


def finished(folder: Folder, job: Job, plan: Plan) -> Iterator[Done]:
    """The shards that are answered: their file is whole and has a row for each picture. Raises SetupError."""
    numbers = [int(found[1]) for name in folder.names() if (found := _NAME.fullmatch(name))]

    def look(shard: int) -> Done | None:
        done = _footer(folder, job, shard)
        return done if done is not None and done.pictures == plan.sizes[shard] else None

    with ThreadPoolExecutor(_READERS) as pool:
        yield from filter(None, pool.map(look, sorted(number for number in numbers if number < len(plan))))


def _footer(folder: Folder, job: Job, shard: int) -> Done | None:
    from pyarrow import ArrowException, parquet

    try:
        with folder.open(name_of(shard)) as opened:
            file = parquet.ParquetFile(opened)
            told = json.loads(file.schema_arrow.metadata[_FOOTER])
            done = Done(shard, told["statuses"])
            return done if told["job"] == job.model_hash and file.metadata.num_rows == done.pictures else None
    except (ArrowException, OSError, ValueError, KeyError, TypeError):  # damaged: it is answered again
        return None


def summarize(folder: Folder, job: Job, plan: Plan, done: Sequence[Done]) -> dict[str, Any]:
    """Write and return what the folder holds: pictures, how many have which status, and the files of done shards."""
    statuses: Counter[str] = Counter()
    for one in done:
        statuses.update(one.statuses)
    summary = {
        "model": job.model, "model_hash": job.model_hash, "pictures": plan.pictures, "answered": statuses[OK],
        "statuses": dict(statuses), "shards": len(plan), "done": len(done), "complete": len(done) == len(plan),
        "files": {name_of(one.shard): one.pictures for one in sorted(done, key=lambda one: one.shard)},
    }  # fmt: skip
    folder.write(SUMMARY, json.dumps(summary, indent=1).encode() + b"\n")
    return summary
