"""What the tritonserver does with requests that only its own client could send it: the facade has no route for them.

It is older than many fixes, so each of these is a kind of request that a bulletin names; none may end it, and none may
reach a file or memory outside its folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from walled import CONFIG, MODEL_PY, PROBE, Walled

from tritonvision.errors import TritonVisionError
from tritonvision.server import stubs
from tritonvision.server.control import Control

NAMES = (
    "../probe", "../../etc/passwd", "/etc/passwd", "probe/../probe", "probe\x00", "a" * 300, "ｐｒｏｂｅ", "probe;id",
    "$(id)", "`id`", "..", ".", "", "probe\n",
)  # fmt: skip


def asked(walled: Walled, **changed: object) -> str:
    """How the server answers a request to the probe whose one input is not what it says."""
    request = pb.ModelInferRequest(model_name=PROBE)
    told = {"datatype": "BYTES", "shape": (1,)} | changed
    raw = told.pop("raw", b"\x08\x00\x00\x00told = 1")
    request.inputs.add(name="code", **told)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return answer_of(walled, request)


def answer_of(walled: Walled, request: pb.ModelInferRequest) -> str:
    """The name of the status of an inference."""
    try:
        walled.stub.ModelInfer(request, timeout=5)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_is_a_path_or_a_command_loads_and_asks_nothing(walled: Walled, name: str):
    control = Control(walled.server.address)
    if name.rstrip("\0") == PROBE:  # Triton reads up to the NUL: it is the model itself
        control.load(name, timeout=5)
    else:
        with pytest.raises(TritonVisionError):
            control.load(name, timeout=5)
    control.close()
    assert answer_of(walled, pb.ModelInferRequest(model_name=name)) in ("NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE")
    index = walled.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=5)
    assert [model.name for model in index.models] == [PROBE]
    assert walled.unharmed()


@pytest.mark.attack("numbers out of range")
@pytest.mark.parametrize(
    "changed",
    [
        {"shape": (-1,)}, {"shape": (2**62, 2**62)}, {"shape": (2**63 - 1,)}, {"shape": (0,), "raw": b""},
        {"shape": (1,) * 10_000}, {"shape": (2,)}, {"raw": b"\xff\xff\xff\xff"}, {"raw": b"\xff\xff\xff\x7fabc"},
        {"raw": b"\x01"}, {"raw": b""}, {"raw": None}, {"datatype": "FP32"}, {"datatype": "none"},
        {"datatype": "FP64", "shape": (2**61 + 1,)},
    ],
    ids=range(14),
)  # fmt: skip
def test_a_tensor_whose_header_lies_is_refused(walled: Walled, changed: dict[str, object]):
    assert asked(walled, **changed) in ("INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
    assert walled.unharmed()


@pytest.mark.attack("numbers out of range")
def test_a_hundred_thousand_inputs_outputs_or_parameters_do_not_end_it(walled: Walled):
    request = pb.ModelInferRequest(model_name=PROBE)
    for n in range(100_000):
        request.inputs.add(name=f"i{n}", datatype="BYTES", shape=(1,))
        request.outputs.add(name=f"o{n}")
        request.parameters[f"p{n}"].int64_param = n
    assert answer_of(walled, request) != "OK"
    assert walled.unharmed()


@pytest.mark.attack("JSON nested deeply")
def test_a_config_that_is_nested_deep_is_refused(walled: Walled):
    control = Control(walled.server.address)
    for config in ("[" * 100_000, '{"a":' * 100_000, '{"name": 1e308}', "\xff"):
        with pytest.raises(TritonVisionError):
            control.load(PROBE, config, timeout=5)
    control.close()
    assert walled.unharmed()


@pytest.mark.attack("code that a request brings")
@pytest.mark.parametrize("path", ["1/model.py", "../../escaped/model.py", "/tmp/escaped/model.py", "1/../../escaped"])
def test_a_load_cannot_bring_files_of_its_own(walled: Walled, path: str):
    config = {"name": "brought", "backend": "python", "max_batch_size": 0,
              "input": [{"name": "code", "data_type": "TYPE_STRING", "dims": [-1]}],
              "output": [{"name": "told", "data_type": "TYPE_STRING", "dims": [-1]}]}  # fmt: skip
    request = pb.RepositoryModelLoadRequest(model_name="brought")
    request.parameters["config"].string_param = json.dumps(config)
    request.parameters[f"file:{path}"].bytes_param = MODEL_PY.encode()
    before = set(os.listdir("/tmp"))
    with pytest.raises(grpc.RpcError):
        walled.stub.RepositoryModelLoad(request, timeout=10)
    assert not [name for name in set(os.listdir("/tmp")) - before if name.startswith(("folder", "escaped"))]
    assert walled.unharmed()


@pytest.mark.attack("code that a request brings")
def test_its_log_and_trace_settings_write_no_file_elsewhere(walled: Walled, tmp_path: Path):
    log, trace = pb.LogSettingsRequest(), pb.TraceSettingRequest()
    log.settings["log_file"].string_param = str(tmp_path / "log")
    trace.settings["trace_file"].value.append(str(tmp_path / "trace"))
    trace.settings["trace_level"].value.append("TIMESTAMPS")
    trace.settings["trace_rate"].value.append("1")
    for call, request in ((walled.stub.LogSettings, log), (walled.stub.TraceSetting, trace)):
        try:
            call(request, timeout=5)
        except grpc.RpcError:
            continue
    assert walled.unharmed()
    assert os.listdir(tmp_path) == []


@pytest.mark.attack("shared memory of others")
def test_memory_that_a_client_registers_is_never_that_of_another_process(walled: Walled):
    (region, *_) = (stub.region for stub in stubs.of_server(walled.server.pid).values())
    tries = ((region, 0, 2**40), (f"/{region}", 2**63, 64), ("/../etc/passwd", 0, 64), ("x" * 300, 0, 1))
    for key, offset, size in tries:
        request = pb.SystemSharedMemoryRegisterRequest(name="mine", key=key, offset=offset, byte_size=size)
        try:
            walled.stub.SystemSharedMemoryRegister(request, timeout=5)
        except grpc.RpcError:
            continue
        asking = pb.ModelInferRequest(model_name=PROBE)
        one = asking.inputs.add(name="code", datatype="BYTES", shape=(1,))
        one.parameters["shared_memory_region"].string_param = "mine"
        one.parameters["shared_memory_byte_size"].int64_param = 64
        assert answer_of(walled, asking) != "OK"
        walled.stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="mine"), timeout=5)
    assert walled.unharmed()


def test_the_probe_obeys_so_that_these_tests_can_fail(walled: Walled):
    assert CONFIG and walled.inside("told = 6 * 7") == "42"
