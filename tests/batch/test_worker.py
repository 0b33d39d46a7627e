"""A worker's patience: what is a picture's fault is a row, what is the server's stops the batch and loses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tritonvision.batch import parts, worker
from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job, begin
from tritonvision.engine.facts import Facts
from tritonvision.errors import DeadlineExceeded, InvalidPicture, Overloaded, ServerUnavailable, SetupError
from tritonvision.settings import Settings

FACTS = Facts("clip/ViT-B-32", "embedding", fingerprint="0123", precision="fp32")
VECTOR = np.ones((1, 4), np.float32)


@pytest.fixture
def batch(tmp_path, photo, monkeypatch):
    """``batch(ask, count)``: the rows of a shard, as ``(name, status)``, or the error of the worker."""
    monkeypatch.setattr(worker, "_TRIES", 2)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(worker, "_sleep", nap)

    def run(ask, count=30, at_once=8):
        (tmp_path / "in").mkdir(exist_ok=True)
        for number in range(count):
            (tmp_path / "in" / f"{number:03}.png").write_bytes(photo + bytes([number]))
        job = Job(FACTS.id, "0123", "embedding", {}, "", str(tmp_path / "in"), None, count)
        folder = Folder(str(tmp_path / "out"))
        plan = begin(folder, job)
        server = worker.Server(Settings(), at_once=at_once)

        async def main():
            one = worker.Worker(job, folder, server, ask, FACTS)
            return await one.run(0, plan.names(0))

        asyncio.run(main())
        table = parquet.read_table(tmp_path / "out" / parts.name_of(0)).to_pylist()
        return [(Path(row["picture"]).stem, row["status"]) for row in table]

    run.naps, run.out = naps, tmp_path / "out"
    return run


def test_rows_are_in_the_order_of_the_pictures_whatever_comes_back_first(batch):
    async def ask(picture):
        for _ in range(30 - picture[-1]):
            await asyncio.sleep(0)
        return VECTOR

    assert batch(ask) == [(f"{number:03}", "ok") for number in range(30)]


def test_no_more_pictures_are_under_way_than_were_asked_for(batch):
    under_way, most, full = 0, 0, asyncio.Event()

    async def ask(picture):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        await full.wait()  # the first ones stay until there are three
        await asyncio.to_thread(lambda: None)
        under_way -= 1
        return VECTOR

    batch(ask, at_once=3)
    assert most == 3


def test_a_picture_that_cannot_be_read_is_a_row_and_the_others_are_answered(batch):
    async def ask(picture):
        if picture[-1] == 7:
            raise InvalidPicture("No picture.")
        return VECTOR

    assert [name for name, status in batch(ask) if status != "ok"] == ["007"]


def test_room_is_waited_for_as_long_as_the_server_says(batch):
    refused = set()

    async def ask(picture):
        if picture not in refused:
            refused.add(picture)
            raise Overloaded(retry_after=3)
        return VECTOR

    assert {status for _, status in batch(ask)} == {"ok"} and batch.naps.count(3) == 30


def test_a_picture_that_the_server_never_answers_is_a_row_in_the_end(batch):
    async def ask(picture):
        if picture[-1] in (3, 20):
            raise DeadlineExceeded
        return VECTOR

    assert [name for name, status in batch(ask) if status == "deadline_exceeded"] == ["003", "020"]


def test_a_server_that_answers_nothing_any_more_ends_the_batch_and_writes_nothing(batch):
    async def ask(picture):
        if picture[-1] > 4:
            raise ServerUnavailable("It is gone.")
        return VECTOR

    with pytest.raises(ServerUnavailable, match="after one another") as caught:
        batch(ask)
    assert "goes on" in caught.value.hint
    assert not (batch.out / parts.name_of(0)).exists()


def test_a_worker_with_another_model_refuses_to_work(tmp_path):
    job = Job(FACTS.id, "4567", "embedding", {}, "", "", None, 1)
    with pytest.raises(SetupError, match="another one"):
        worker.Worker(job, Folder(str(tmp_path)), worker.Server(Settings()), None, FACTS)
