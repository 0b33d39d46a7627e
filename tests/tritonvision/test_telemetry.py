"""The engines report nothing from a process of ours: they write no file of their reports and open no connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

TREE = Path(__file__).parents[2]
# From here on the kernel kills the process (seccomp(2)) when it opens a socket for the internet, which looking up a
# name does, too. The program is classic BPF: for system call 41, socket(2) on x86-64, it reads the address family.
FORBID_SOCKETS = """
import ctypes, struct
ALLOW, KILL = 0x7FFF0000, 0x80000000
program = b"".join(struct.pack("HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 4, 41), (0x20, 0, 0, 16), (0x15, 1, 0, 2), (0x15, 0, 1, 10), (0x06, 0, 0, KILL),
    (0x06, 0, 0, ALLOW),
))
buffer = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(filter)) == 0
"""
RUN_A_GRAPH = """
from tritonvision.python_backend.runtime import sessions  # a module as any other of ours that needs an engine
from pathlib import Path
network = sessions.Sessions({{"": {{"file": Path({graph!r}), "engine": {engine!r}}}}})
print(network("", {{"x": __import__("numpy").ones((1, 2), "f4")}}, ["y"])["y"].sum())
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    """y = x + x, float32 [1,2]."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    body = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(program: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", FORBID_SOCKETS + program], capture_output=True, text=True, check=False, cwd=TREE,
        env=environment | variables,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_that_runs_leaves_no_file_of_reports_and_opens_no_connection(graph, tmp_path, engine):
    done = run(RUN_A_GRAPH.format(graph=str(graph), engine=engine), tmp_path)
    assert (done.returncode, done.stdout) == (0, "4.0\n"), done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("given, kept", [("", "1"), ("0", "0")])
def test_reports_are_sent_only_where_somebody_asked_for_them(tmp_path, given, kept):
    program = "import os, tritonvision; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(program, tmp_path, ORT_DISABLE_TELEMETRY=given).stdout == f"{kept}\n"


def test_the_installed_onnxruntime_knows_the_variable():
    """A release that called it otherwise would report, a minute after the first test above has ended."""
    import onnxruntime

    (library,) = Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so")
    assert b"ORT_DISABLE_TELEMETRY" in library.read_bytes()


def test_the_installed_openvino_would_report_and_does_without_the_package_that_does(tmp_path):
    done = run("import openvino_telemetry", tmp_path)
    assert done.returncode == 0, done.stderr
    program = "import tritonvision, openvino; from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm)"
    assert "telemetry_stub" in run(program, tmp_path).stdout
    assert list(tmp_path.rglob("*")) == []


def test_the_filter_of_these_tests_sees_a_look_up(tmp_path):
    done = run("import socket; socket.getaddrinfo('example.invalid', 443)", tmp_path)
    assert done.returncode == -signal.SIGSYS
