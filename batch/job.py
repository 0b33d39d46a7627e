"""What a batch is: the same question to the same model about the same pictures, written down before it begins."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonvision.batch import sources
from tritonvision.batch.folder import Folder, extra_missing
from tritonvision.errors import InvalidParameter

# Names that begin with an underscore are passed over by what reads a folder of Parquet files.
JOB, PLAN, SUMMARY = "_job.json", "_plan.parquet", "_summary.json"
_ROWS_OF_A_PLAN = 4096  # a row group holds whole shards


@dataclass(frozen=True)
class Job:
    """One batch.

    Attributes:
        model, model_hash: public id, and the fingerprint of what answers (see ``Manifest.fingerprint``).
        task: of the model.
        settings: of the task, complete.
        prompt: what a model that writes is asked, else empty.
        source, column: see :func:`tritonvision.batch.sources.groups`.
        shard: most pictures of a part.
    """

    model: str
    model_hash: str
    task: str
    settings: Mapping[str, Any]
    prompt: str
    source: str
    column: str | None
    shard: int

    def to_json(self) -> bytes:
        """The text of its file."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"


def begin(folder: Folder, job: Job) -> Plan:
    """The plan of ``job`` in ``folder``: made by the first run, read by all that follow, which go on with it.

    Raises:
        InvalidParameter: the folder holds another job, or the source no picture. SetupError: either cannot be read.
    """
    known = folder.read(JOB)
    if known is None:
        if any(name.endswith(sources.PARQUET) and name != PLAN for name in folder.names()):  # a plan alone: killed here
            raise InvalidParameter(f"{folder.address} holds Parquet files of something else.", hint=_ANOTHER)
        folder.write(PLAN, _planned(job))
        folder.write(JOB, job.to_json())  # the last: a job that is there has its plan
    else:
        _check_same(folder.address, json.loads(known), json.loads(job.to_json()))
    return Plan(folder)


_ANOTHER = "Choose another --out."


def _check_same(address: str, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differ = [name for name in asked if known.get(name) != asked[name]]
    if differ == ["model_hash"]:
        raise InvalidParameter(
            f"'{asked['model']}' has been published anew since {address} was begun.",
            hint="Answers of two models do not go into one table: choose another --out.",
        )
    if differ:
        named = ", ".join(differ)
        raise InvalidParameter(f"{address} holds another batch: it differs in {named}.", hint=_ANOTHER)


def _planned(job: Job) -> bytes:
    """The pictures of all shards as a Parquet file: ``shard`` and ``picture``, shards in order."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise extra_missing("pyarrow") from error
    schema = pyarrow.schema([("shard", pyarrow.int32()), ("picture", pyarrow.string())])
    shards = enumerate(sources.cut(sources.groups(job.source, job.column), job.shard))
    stream, count = io.BytesIO(), 0
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        while several := list(itertools.islice(shards, max(_ROWS_OF_A_PLAN // job.shard, 1))):
            rows = [(number, name) for number, names in several for name in names]
            numbers, names = zip(*rows, strict=True)
            writer.write_table(pyarrow.table([numbers, names], schema), row_group_size=len(rows))
            count += len(rows)
    if not count:
        raise InvalidParameter(f"There is no picture at '{job.source}'.")
    return stream.getvalue()


class Plan:
    """The shards of the batch in ``folder``.

    Attributes:
        sizes: how many pictures each shard has, by its number.
    """

    def __init__(self, folder: Folder):
        from pyarrow import parquet

        with folder.open(PLAN) as opened:
            self._file = parquet.ParquetFile(io.BytesIO(opened.read()))
        numbers = self._file.read(columns=["shard"]).column(0).to_numpy()
        counts = dict(zip(*_counted(numbers), strict=True))
        self.sizes = [counts[number] for number in range(len(counts))]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def pictures(self) -> int:
        """How many pictures all shards have."""
        return sum(self.sizes)

    def names(self, shard: int) -> list[str]:
        """The pictures of a shard, in order."""
        metadata = self._file.metadata
        for group in range(self._file.num_row_groups):
            statistics = metadata.row_group(group).column(0).statistics
            if statistics.min <= shard <= statistics.max:
                table = self._file.read_row_group(group)
                of_it = table.column("shard").to_numpy() == shard
                return table.column("picture").filter(of_it).to_pylist()
        raise AssertionError("every shard is in one row group")


def _counted(numbers: Any) -> tuple[list[int], list[int]]:
    import numpy as np

    found, counts = np.unique(numbers, return_counts=True)
    return found.tolist(), counts.tolist()
