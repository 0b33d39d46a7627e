"""Parts of a batch: whole or absent, once for each picture, whoever dies; and what may go on with what."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import time

import fsspec
import pytest
from pyarrow import parquet

from tritonvision.batch import parts
from tritonvision.batch.folder import Folder
from tritonvision.batch.job import JOB, PLAN, SUMMARY, Job, begin
from tritonvision.errors import InvalidParameter, SetupError


@pytest.fixture
def job(tmp_path, photo):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(10):
        (pictures / f"{number}.png").write_bytes(photo)
    return Job("yolov8n-640", "0123", "object-detection", {"confidence": 0.5}, "", str(pictures), None, 4)


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path / "out"))


def rows(plan, shard) -> list[parts.Row]:
    return [parts.Row(name, parts.OK, "{}") for name in plan.names(shard)]


def test_a_plan_cuts_the_pictures_into_shards_in_their_order(folder, job):
    plan = begin(folder, job)
    assert (len(plan), plan.sizes, plan.pictures) == (3, [4, 4, 2], 10)
    assert [name for shard in range(3) for name in plan.names(shard)] == [f"{job.source}/{n}.png" for n in range(10)]


def test_pictures_that_come_or_go_later_do_not_move_the_others(folder, job, tmp_path, photo):
    before = begin(folder, job).names(1)
    (tmp_path / "pictures" / "00.png").write_bytes(photo)
    assert begin(folder, job).names(1) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [({"settings": {"confidence": 0.1}}, "settings"), ({"model": "resnet18"}, "model"), ({"model_hash": "4"}, "anew")],
)
def test_a_folder_takes_one_batch_alone(folder, job, change, told):
    begin(folder, job)
    with pytest.raises(InvalidParameter, match=told) as caught:
        begin(folder, dataclasses.replace(job, **change))
    assert "--out" in caught.value.hint


def test_a_folder_with_tables_of_something_else_is_left_alone(folder, job, tmp_path):
    (tmp_path / "out" / "mine.parquet").write_bytes(b"")
    with pytest.raises(InvalidParameter, match="something else"):
        begin(folder, job)
    assert os.listdir(tmp_path / "out") == ["mine.parquet"]


def test_a_run_that_was_killed_before_its_job_was_written_is_begun_again(folder, job, tmp_path):
    sizes = begin(folder, job).sizes
    (tmp_path / "out" / JOB).unlink()
    assert begin(folder, job).sizes == sizes


def test_a_folder_that_a_store_does_not_show_before_a_file_lies_in_it_is_empty(job):
    folder = Folder("memory://new")
    fsspec.filesystem("memory").rm("/new", recursive=True)
    assert folder.names() == set() and len(begin(folder, job)) == 3


def test_a_part_holds_a_row_a_picture_with_the_model_that_answered(folder, job, tmp_path):
    plan = begin(folder, job)
    said = [*rows(plan, 0)[:3], parts.Row(plan.names(0)[3], "invalid_picture", error="No picture.")]
    done = parts.write(folder, job, "fp32", 0, said)
    assert (done.pictures, done.failed) == (4, 1)
    table = parquet.read_table(tmp_path / "out" / "part-000000.parquet").to_pylist()
    assert [row["picture"] for row in table] == plan.names(0)
    assert table[0] == {
        "picture": plan.names(0)[0], "status": "ok", "answer": "{}", "error": None, "model": job.model,
        "model_hash": "0123", "precision": "fp32",
    }  # fmt: skip
    assert (table[3]["status"], table[3]["answer"], table[3]["error"]) == ("invalid_picture", None, "No picture.")


def test_only_a_whole_part_of_this_batch_counts(folder, job, tmp_path):
    plan = begin(folder, job)
    for shard in range(3):
        parts.write(folder, job, "fp32", shard, rows(plan, shard))
    assert [one.shard for one in parts.finished(folder, job, plan)] == [0, 1, 2]
    (tmp_path / "out" / "part-000000.parquet").write_bytes(b"PAR1 cut off")
    assert [one.shard for one in parts.finished(folder, job, plan)] == [1, 2]
    whole = (tmp_path / "out" / "part-000001.parquet").read_bytes()
    (tmp_path / "out" / "part-000000.parquet").write_bytes(whole[:-40] + b"\xff" * 32 + whole[-8:])
    assert [one.shard for one in parts.finished(folder, job, plan)] == [1, 2]
    parts.write(folder, job, "fp32", 1, rows(plan, 1)[:3])
    parts.write(folder, dataclasses.replace(job, model_hash="4567"), "fp32", 2, rows(plan, 2))
    parts.write(folder, job, "fp32", 999, rows(plan, 2))
    assert list(parts.finished(folder, job, plan)) == []


def test_the_summary_tells_what_is_done_and_what_is_not(folder, job, tmp_path):
    plan = begin(folder, job)
    done = [parts.write(folder, job, "fp32", 0, rows(plan, 0))]
    summary = parts.summarize(folder, job, plan, done)
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == summary
    assert (summary["pictures"], summary["answered"], summary["complete"]) == (10, 4, False)
    assert summary["files"] == {"part-000000.parquet": 4}


def test_what_reads_a_folder_of_parquet_reads_the_parts_alone(folder, job, tmp_path):
    plan = begin(folder, job)
    for shard in range(3):
        parts.write(folder, job, "fp32", shard, rows(plan, shard))
    assert {JOB, PLAN} <= set(os.listdir(tmp_path / "out"))
    assert parquet.read_table(tmp_path / "out").num_rows == 10


def write_again_and_again(address: str) -> None:
    folder = Folder(address)
    for number in range(10**9):
        folder.write("a.bin", bytes([number % 256]) * 3_000_000)


def test_a_writer_that_is_killed_leaves_a_whole_file_and_the_next_one_tidies_up(tmp_path):
    out = tmp_path / "out"
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(target=write_again_and_again, args=(str(out),))
        process.start()
        end = time.monotonic() + 30
        while not (out / "a.bin").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        data = (out / "a.bin").read_bytes()
        assert len(data) == 3_000_000 and len(set(data)) == 1
        with Folder(str(out)).locked():
            assert os.listdir(out) == ["a.bin"]
        (out / "a.bin").unlink()


def test_one_process_at_a_time_writes_to_a_folder(folder):
    with folder.locked(), pytest.raises(SetupError, match="Another process"), Folder(folder.address).locked():
        pass


def test_a_folder_on_a_store_is_written_and_read_alike(job):
    folder = Folder("memory://out")
    with folder.locked():
        plan = begin(folder, job)
        parts.write(folder, job, "fp32", 1, rows(plan, 1))
    assert [one.shard for one in parts.finished(Folder("memory://out"), job, begin(folder, job))] == [1]
