"""Networks opened by the engine that runs them: the real ONNX Runtime and OpenVINO, on a graph that multiplies."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision.errors import BrokenModel, SetupError
from tritonvision.machine import why_not
from tritonvision.python_backend.runtime import engines, openvino_session
from tritonvision.python_backend.runtime.engines import open_network
from tritonvision.python_backend.runtime.sessions import Sessions, network_files

WEIGHTS = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
BF16 = pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason="this processor does not compute in bf16")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """``product`` = x @ WEIGHTS and ``same`` = x of float32 ``[B,64]``."""
    names = ("x", "product", "same")
    x, product, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 64]) for name in names)
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["product"]), helper.make_node("Identity", ["x"], ["same"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [product, same], [numpy_helper.from_array(WEIGHTS, "weights")]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def own_format(graph):
    """The same network in OpenVINO's own format."""
    openvino.save_model(openvino.Core().read_model(graph), graph.with_suffix(".xml"), compress_to_fp16=False)
    return graph.with_suffix(".xml")


def off_by(found: np.ndarray) -> float:
    """The largest difference from the product in double precision, over its largest value."""
    exact = X.astype(np.float64) @ WEIGHTS
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_gives_the_outputs_that_are_asked_for_in_their_order_for_any_batch(graph, engine):
    network = open_network(graph, engine)
    same, product = network.run(["same", "product"], {"x": X})
    assert same.tolist() == X.tolist() and off_by(product) < 1e-6
    (one,) = network.run(["product"], {"x": X[:1]})
    assert one.shape == (1, 64) and np.allclose(one, product[:1], atol=1e-5)


def test_openvinos_own_format_is_read_with_the_names_of_the_tensors(own_format):
    product, same = open_network(own_format, "openvino", "int8").run(["product", "same"], {"x": X})
    assert off_by(product) < 1e-6 and same.tolist() == X.tolist()


@BF16
def test_bf16_computes_with_eight_bits_and_fp32_does_not_even_where_the_processor_could(graph):
    (bf16,), (fp32,) = (open_network(graph, "openvino", p).run(["product"], {"x": X}) for p in ("bf16", "fp32"))
    assert off_by(fp32) < 1e-6 < 1e-4 < off_by(bf16) < 2**-7


@BF16
def test_a_file_of_int8_may_ask_for_bf16_in_its_other_layers_where_the_processor_can(own_format, monkeypatch):
    model = openvino.Core().read_model(own_format)
    model.set_rt_info("bf16", openvino_session.REST)
    said = own_format.with_name("said.xml")
    openvino.save_model(model, said, compress_to_fp16=False)

    def error(path):
        return off_by(open_network(path, "openvino", "int8").run(["product"], {"x": X})[0])

    assert error(own_format) < 1e-6 < 1e-4 < error(said) < 2**-7
    monkeypatch.setattr(openvino_session, "why_not", lambda engine, precision: "an old processor")
    assert error(said) < 1e-6


def test_an_answer_is_the_callers_and_not_overwritten_by_the_next(graph):
    network = open_network(graph, "openvino")
    (first,) = network.run(["same"], {"x": X})
    network.run(["same"], {"x": X + 1})
    assert first.tolist() == X.tolist() and first.flags.owndata


def test_the_working_memory_of_a_large_picture_is_given_up_where_it_is_asked_for(tmp_path):
    """A network whose steps between hold 64 MB for a picture of 2048 x 2048, and next to nothing for a small one."""
    pixels, total = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", "H", "W", 1]) for n in ("x", "total"))
    nodes = [helper.make_node("Exp", ["x"], ["a"]), helper.make_node("CumSum", ["a", "axis"], ["b"]),
             helper.make_node("ReduceSum", ["b", "axes"], ["total"])]  # fmt: skip
    numbers = [numpy_helper.from_array(np.int64(1), "axis"), numpy_helper.from_array(np.int64([1, 2]), "axes")]
    graph = helper.make_graph(nodes, "g", [pixels], [total], numbers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "g.onnx")
    large, small = (np.zeros((1, side, side, 1), np.float32) for side in (2048, 8))

    def held(release: bool) -> int:
        session = openvino_session.OpenVinoSession(tmp_path / "g.onnx", {"INFERENCE_NUM_THREADS": 1}, release=release)
        session.run(["total"], {"x": small})
        before = private_bytes()
        session.run(["total"], {"x": large})
        return private_bytes() - before

    assert held(release=True) < 2**23 < held(release=False)


def private_bytes() -> int:
    """What this process alone holds."""
    return int(re.search(r"Private_Dirty: +(\d+)", Path("/proc/self/smaps_rollup").read_text())[1]) * 1024


def test_threads_may_share_a_network(graph):
    network, wrong = open_network(graph, "openvino"), []

    def ask(number):
        given = X + number
        for _ in range(50):
            (same,) = network.run(["same"], {"x": given})
            if (same != given).any():
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_threads_of_openvino_are_counted_and_bound_to_no_core(graph):
    properties = open_network(graph, "openvino", threads=1).properties
    assert (properties["INFERENCE_NUM_THREADS"], properties["NUM_STREAMS"]) == (1, 1)
    assert properties["ENABLE_CPU_PINNING"] is False


def test_what_is_no_network_is_a_broken_model(tmp_path):
    path = tmp_path / "model.onnx"
    for data in (b"no graph", b""):
        path.write_bytes(data)
        with pytest.raises(BrokenModel, match="OpenVINO cannot read the network"):
            open_network(path, "openvino")
    with pytest.raises(BrokenModel):
        open_network(tmp_path / "missing.xml", "openvino")


def test_what_the_machine_lacks_is_one_sentence(graph, monkeypatch):
    with pytest.raises(SetupError, match="No network runs on 'abacus'"):
        open_network(graph, "abacus")
    with pytest.raises(SetupError, match="as it was exported, not in bf16"):
        open_network(graph, "onnxruntime", "bf16")
    monkeypatch.setattr(engines, "why_not", lambda engine, precision: "The package 'openvino' is not installed.")
    with pytest.raises(SetupError, match="The package 'openvino' is not installed"):
        open_network(graph, "openvino")


def test_networks_of_one_process_may_run_on_different_engines(own_format):
    config = '{"a": "model.onnx", "b": {"file": "model.xml", "engine": "openvino", "precision": "fp32"}}'
    networks = Sessions(network_files(own_format.parent, config))
    assert type(networks["a"]).__name__ == "InferenceSession" and type(networks["b"]).__name__ == "OpenVinoSession"
    a, b = (networks(role, {"x": X}, ["product"])["product"] for role in "ab")
    assert np.allclose(a, b, atol=1e-5)


def test_a_network_of_openvino_that_answers_no_number_is_refused(graph):
    networks = Sessions({"": {"file": graph, "engine": "openvino"}})
    with pytest.raises(BrokenModel, match="no number"):
        networks("", {"x": np.full((1, 64), np.nan, np.float32)}, ["same"])


_CLOSE_ON_A_THREAD = """
import faulthandler, gc, os, signal, sys, threading
from pathlib import Path
from tritonvision.python_backend.runtime.engines import open_network

faulthandler.enable()  # an alternate signal stack, which OpenVINO replaces with one of its own
networks = [open_network(Path(sys.argv[1]), "openvino") for _ in range(2)]
del networks[0]
gc.collect()
thread = threading.Thread(target=lambda: (networks.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_handled_after_the_last_network_was_closed_on_another_thread(graph):
    ended = subprocess.run([sys.executable, "-c", _CLOSE_ON_A_THREAD, graph], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
