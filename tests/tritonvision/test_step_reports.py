"""Steps tell of requests through a pipe: whole lines, never waiting, of our requests alone."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from tritonvision import heartbeat
from tritonvision.stages import Stage
from tritonvision.step_reports import Pipe, Teller, new_id, parse


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def pipe(folder):
    pipe = Pipe(folder)
    yield pipe
    pipe.close()


def test_what_a_step_tells_is_read_as_a_stage(pipe):
    one, other = new_id(), new_id()
    teller = Teller()
    teller.tell(one, "pre--square-128", 5, 9)
    teller.tell(other, "net--resnet18", 10, 30)
    assert [parse(line) for line in pipe.read().splitlines()] == [
        (one, Stage("pre", 5, 9, "pre--square-128")), (other, Stage("network", 10, 30, "net--resnet18")),
    ]  # fmt: skip
    assert pipe.read() == b""


def test_lines_of_several_processes_do_not_mix(pipe, folder):
    program = (
        "from tritonvision.step_reports import Teller, new_id\n"
        "teller = Teller()\n"
        "for _ in range(2000): teller.tell(new_id(), 'net--' + 'x' * 100, 1, 2)\n"
    )
    told = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(60) for process in told] == [0, 0]
    lines = pipe.read().splitlines()
    assert len(lines) == 4000 and all(map(parse, lines))


def test_a_pipe_that_nobody_empties_costs_lines_and_no_waiting(pipe):
    teller = Teller()
    for _ in range(50_000):
        teller.tell(new_id(), "net--" + "x" * 200, 1, 2)
    assert 100 < len(pipe.read().splitlines()) < 50_000
    teller.tell(request := new_id(), "net--x", 1, 2)
    assert parse(pipe.read().strip()) == (request, Stage("network", 1, 2, "net--x"))


@pytest.mark.parametrize(
    "request_id", ["", "tv", "of somebody else", "tv0123456789abcde\n", "tv0123 56789abcdef", "9" * 18]
)
def test_of_requests_with_other_ids_nothing_is_told(pipe, request_id):
    Teller().tell(request_id, "net--x", 1, 2)
    assert pipe.read() == b""


def test_without_a_pipe_or_after_its_reader_has_gone_a_step_goes_on(folder, monkeypatch):
    Teller().tell(new_id(), "net--x", 1, 2)
    pipe = Pipe(folder)
    teller = Teller()
    pipe.close()
    teller.tell(new_id(), "net--x", 1, 2)
    assert pipe.read() == b""
    monkeypatch.delenv(heartbeat.FOLDER_VARIABLE)
    Teller().tell(new_id(), "net--x", 1, 2)


def test_no_other_user_can_write_into_it(pipe, folder):
    assert stat.S_IMODE((folder / "steps").stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [b"", b"a b", b"a b c d", b"a net--x 1 2 3", b"\xff net--x 1 2"])
def test_what_is_no_such_line_is_none(line):
    assert parse(line) is None
