"""What Triton lets its clients do to it is not to be had through the facade: memory, logs, traces, loads of its own."""

from __future__ import annotations

import pytest

PATHS = (
    "v2/systemsharedmemory/status", "v2/systemsharedmemory/region/mine/register", "v2/systemsharedmemory/unregister",
    "v2/cudasharedmemory/status", "v2/cudasharedmemory/region/mine/register",
    "v2/repository/models/yolov8n-640/load", "v2/repository/models/yolov8n-640/unload", "v2/trace/setting",
    "v2/models/yolov8n-640/trace/setting", "v2/logging", "invocations", "api/status",
)  # fmt: skip


@pytest.mark.attack("shared memory of others")
@pytest.mark.parametrize("path", PATHS)
def test_no_route_passes_it_on(house, path):
    given = {"key": "/triton_python_backend_shm_region_1", "offset": 0, "byte_size": 64, "log_file": "/tmp/x"}
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = house.client.request(method, f"/{path}", json=given if method != "GET" else None)
        assert answer.status_code in (404, 405), f"{method} {answer.status_code} {answer.text[:200]}"
    assert house.engine.loaded() == []


@pytest.mark.attack("shared memory of others")
def test_an_inference_over_v2_names_no_shared_memory(house):
    tensor = {
        "name": "image", "shape": [1, 1], "datatype": "BYTES",
        "parameters": {"shared_memory_region": "mine", "shared_memory_byte_size": 64},
    }  # fmt: skip
    answer = house.client.post("/v2/models/yolov8n-640/infer", json={"inputs": [tensor]})
    assert answer.status_code in (400, 404, 405, 422), answer.text[:200]
