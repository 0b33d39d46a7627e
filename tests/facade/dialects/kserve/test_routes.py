"""KServe's v2 protocol over HTTP: tensors in JSON and behind it, what is refused, and who may ask what."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tritonvision import errors
from tritonvision.facade.dialects.kserve.routes import JSON_LENGTH, PROTOBUF

DETECTOR = "/v2/models/yolov8n-640"
INFER = f"{DETECTOR}/infer"


def in_base64(picture: bytes) -> dict:
    return {
        "name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [base64.b64encode(picture).decode()],
        "parameters": {"content_type": "base64"},
    }  # fmt: skip


def behind(told: dict, *parts: bytes) -> dict:
    """The arguments of a request with binary data behind its JSON."""
    head = json.dumps(told).encode()
    return {"content": head + b"".join(parts), "headers": {JSON_LENGTH: str(len(head))}}


def binary(picture: bytes, **more) -> dict:
    raw = struct.pack("<I", len(picture)) + picture
    image = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    return behind({"inputs": [image], **more}, raw)


def test_a_picture_in_json_reaches_the_model_as_it_is_and_the_outputs_come_back_in_json(house, picture):
    answer = house.client.post(INFER, json={"id": "q7", "inputs": [in_base64(picture)]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "id": "q7", "model_name": "yolov8n-640", "model_version": "1", "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.5]},
            {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["cat"]},
        ],
    }  # fmt: skip
    ((model, role, message),) = house.engine.forwarding.asked
    assert (model, role) == ("yolov8n-640", "") and message.raw_input_contents[0][4:] == picture
    assert house.client.app.state.service.admission.pictures == 0


def test_binary_data_stand_behind_the_json_both_ways(house, picture):
    answer = house.client.post(INFER, **binary(picture, parameters={"binary_data_output": True}))
    length = int(answer.headers[JSON_LENGTH])
    told, raw = json.loads(answer.content[:length]), answer.content[length:]
    assert [output["parameters"]["binary_data_size"] for output in told["outputs"]] == [8, 7]
    assert np.frombuffer(raw[:8], np.float32).tolist() == [0.75, 0.5] and raw[8:] == b"\x03\0\0\0cat"
    assert answer.headers["content-type"] == "application/octet-stream"
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "label"}]
    mixed = house.client.post(INFER, **binary(picture, outputs=wanted))
    told = json.loads(mixed.content[: int(mixed.headers[JSON_LENGTH])])
    assert told["outputs"][0]["parameters"] == {"binary_data_size": 8} and told["outputs"][1]["data"] == ["cat"]


def test_numbers_reach_the_model_in_their_types(house):
    tensors = [
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, 4]]},
        {"name": "b", "shape": [3], "datatype": "INT8", "data": [-128, 0, 127]},
        {"name": "c", "shape": [1], "datatype": "BOOL", "data": [True]},
        {"name": "d", "shape": [0], "datatype": "UINT16", "data": []},
        {"name": "e", "shape": [2], "datatype": "BYTES", "data": ["Größe", ""]},
    ]
    assert house.client.post(INFER, json={"inputs": tensors}).status_code == 200
    message = house.engine.forwarding.asked[0][2]
    assert np.frombuffer(message.raw_input_contents[0], np.float32).tolist() == [1, 2.5, 3, 4]
    assert list(message.raw_input_contents[1:4]) == [b"\x80\0\x7f", b"\x01", b""]
    assert message.raw_input_contents[4] == b"\x07\0\0\0" + "Größe".encode() + b"\0\0\0\0"


@pytest.mark.parametrize("tensor", [
    {"datatype": "INT8", "data": [128]}, {"datatype": "INT8", "data": [1.5]}, {"datatype": "UINT8", "data": [-1]},
    {"datatype": "FP32", "data": ["1"]}, {"datatype": "FP32", "data": [True]}, {"datatype": "BOOL", "data": [1]},
    {"datatype": "FP32", "data": [1, 2]}, {"datatype": "FP32", "data": [[1], [1, 2]]},
    {"datatype": "BF16", "data": [1]},
    {"datatype": "BYTES", "data": [1]}, {"datatype": "BYTES", "data": ["a", "b"]}, {"datatype": "FP32"},
    {"datatype": "BYTES", "data": ["%%%"], "parameters": {"content_type": "base64"}},
    {"datatype": "FP64", "shape": [-1], "data": [1]}, {"datatype": "FP64", "shape": [2**40], "data": [1]},
    {"datatype": "STRING", "data": ["a"]}, {"datatype": "FP32", "data": [10**400]},
    {"datatype": "FP32", "parameters": {"binary_data_size": 4}},
    {"datatype": "FP32", "parameters": {"binary_data_size": -4}},
    {"datatype": "FP32", "data": [1], "parameters": {"binary_data_size": 4}},
    {"datatype": "FP32", "data": [1], "parameters": {"shared_memory_region": "x"}},
], ids=lambda tensor: json.dumps(tensor)[:60])  # fmt: skip
def test_what_is_no_tensor_is_refused_and_never_reaches_a_model(house, tensor):
    answer = house.client.post(INFER, json={"inputs": [{"name": "x", "shape": [1], **tensor}]})
    assert answer.status_code == 400 and answer.json().keys() == {"error"}, answer.text
    assert not house.engine.forwarding.asked


def test_lists_in_lists_are_refused_however_deep(house):
    nested = "[" * 800 + '"a"' + "]" * 800
    body = f'{{"inputs": [{{"name": "x", "shape": [1], "datatype": "BYTES", "data": {nested}}}]}}'
    assert house.client.post(INFER, content=body).status_code == 400


def test_the_pictures_are_looked_at_as_on_every_other_route(house_with, picture):
    house = house_with(max_pixels=100)
    assert house.client.post(INFER, **binary(picture)).status_code == 413
    assert house.client.post(INFER, **binary(b"no picture")).status_code == 400
    array = b"\x93NUMPY" + bytes(100)
    assert house.client.post(INFER, **binary(array)).status_code == 400
    assert not house.engine.forwarding.asked


def test_more_pictures_than_a_request_may_hold_are_refused(house_with, picture):
    house = house_with(max_batch=1)
    two = in_base64(picture) | {"shape": [2, 1]}
    two["data"] *= 2
    assert house.client.post(INFER, json={"inputs": [two]}).status_code == 400


@pytest.mark.parametrize("change", [
    {"length": "x"}, {"length": "-1"}, {"length": "99999"}, {"length": "5"}, {"extra": b"more"},
    {"length": "0" * 18 + "9" * 5000},
])  # fmt: skip
def test_a_length_that_does_not_fit_the_body_is_refused(house, picture, change):
    given = binary(picture)
    given["content"] += change.get("extra", b"")
    given["headers"][JSON_LENGTH] = change.get("length", given["headers"][JSON_LENGTH])
    assert house.client.post(INFER, **given).status_code == 400


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_sequences_of_other_callers_cannot_be_entered(house, picture, name):
    answer = house.client.post(INFER, json={"inputs": [in_base64(picture)], "parameters": {name: 1}})
    assert answer.status_code == 400 and "Sequences are not taken here." in answer.json()["error"]


def test_parameters_that_nobody_needs_do_not_reach_the_inference_server(house, picture):
    body = {"inputs": [in_base64(picture)], "parameters": {"priority": 1, "timeout": 5, "x": "y"}}
    assert house.client.post(INFER, json=body).status_code == 200
    assert not house.engine.forwarding.asked[0][2].parameters


@pytest.mark.parametrize("model, found", [
    ("yolov8n-640", ("yolov8n-640", "")), ("yolov8n-640/versions/1", ("yolov8n-640", "")),
    ("mine__weather__1", ("mine/weather/1", "")), ("clip__ViT-B-32--text", ("clip/ViT-B-32", "text")),
    ("resnet18--features", ("resnet18", "features")),
])  # fmt: skip
def test_models_go_by_their_names_in_triton(house, picture, model, found):
    assert house.client.post(f"/v2/models/{model}/infer", json={"inputs": [in_base64(picture)]}).status_code == 200
    assert house.engine.forwarding.asked[0][:2] == found
    for path in ("", "/ready", "/config", "/stats"):
        assert house.client.get(f"/v2/models/{model}{path}").status_code == 200, path


@pytest.mark.parametrize("model", [
    "net--yolov8n-640", "pre--letterbox-640", "post--dense-boxes", "yolov8n-640--text", "nobody",
    "yolov8n-640/versions/2",
])  # fmt: skip
def test_networks_steps_and_other_versions_are_not_there(house, picture, model):
    answer = house.client.post(f"/v2/models/{model}/infer", json={"inputs": [in_base64(picture)]})
    assert answer.status_code == 404 and answer.json().keys() == {"error"}
    assert house.client.get(f"/v2/models/{model}").status_code == 404


@pytest.mark.parametrize("path", [
    "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status", "/v2/repository/models/yolov8n-640/load",
    "/v2/repository/models/yolov8n-640/unload", "/v2/trace/setting", "/v2/logging",
    "/v2/systemsharedmemory/region/x/register",
])  # fmt: skip
def test_what_triton_offers_its_operator_is_not_served(house, path):
    for method in ("GET", "POST"):
        assert house.client.request(method, path, json={}).status_code == 404
    assert not house.engine.loaded()


def test_the_server_tells_how_it_is(house):
    assert house.client.get("/v2").json()["name"] == "tritonvision"
    for path, told in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        assert house.client.get(path).json() == told
    house.engine.is_ready = house.engine.is_live = False
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert house.client.get(path).status_code == 503
    assert house.client.get(f"{DETECTOR}/ready").status_code == 400


def test_every_published_entry_point_is_listed_with_whether_it_is_loaded(house):
    house.client.post("/model/add", json={"model_id": "yolov8n-640"})
    listed = {row["name"]: row["state"] for row in house.client.post("/v2/repository/index").json()}
    assert listed["yolov8n-640"] == "READY" and listed["resnet18--features"] == "UNAVAILABLE"


def test_a_key_opens_the_routes_and_only_its_models(house_with, picture):
    house = house_with(api_key="right", keys=[])
    body = {"inputs": [in_base64(picture)]}
    assert house.client.post(INFER, json=body).status_code == 401
    assert house.client.post(INFER, json=body, headers={"authorization": "Bearer right"}).status_code == 200
    assert house.client.get(DETECTOR).status_code == 401 and house.client.get("/v2/health/live").status_code == 200


def test_triton_s_messages_are_taken_and_given_as_they_are(house, picture):
    message = pb.ModelInferRequest(id="7")
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.raw_input_contents.append(struct.pack("<I", len(picture)) + picture)
    headers = {"content-type": PROTOBUF, "accept": PROTOBUF}
    answer = house.client.post(INFER, content=message.SerializeToString(), headers=headers)
    found = pb.ModelInferResponse.FromString(answer.content)
    assert found.id == "7" and [output.name for output in found.outputs] == ["scores", "label"]
    assert house.client.post(INFER, content=b"\xff\xff", headers=headers).status_code == 400


def test_a_failure_has_the_status_of_its_error(house, picture):
    house.engine.failure = errors.ServerUnavailable()
    assert house.client.post(INFER, json={"inputs": [in_base64(picture)]}).status_code == 502
