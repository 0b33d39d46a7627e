"""The unmodified client against a server that wants a key, over each of the client's ways to send it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

FACE = "mediapipe-face-detection"
PHOTO = str(Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png")


@pytest.fixture(scope="module")
def locked(serve_with, tmp_path_factory):
    """A server with a key that may do everything, and one, ``asker``, that may ask one model."""
    keys = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    asker = {"name": "asker", "sha256": hashlib.sha256(b"asker").hexdigest(), "models": [FACE]}
    keys.write_text(json.dumps(asker))
    with serve_with("--api-key", "right", "--keys", str(keys)) as url:
        yield url


def client_of(url: str, key: str | None, transport: str) -> InferenceHTTPClient:
    client = InferenceHTTPClient(api_url=url, api_key=key)
    return client.configure(InferenceConfiguration(api_key_transport=transport))


@pytest.mark.parametrize("transport", ["legacy", "both", "header"])
def test_the_right_key_opens_every_route_in_both_modes(locked, transport):
    client = client_of(locked, "right", transport)
    assert len(client.infer(PHOTO, model_id=FACE)["predictions"]) == 1
    with client.use_api_v0():
        assert len(client.infer(PHOTO, model_id="mediapipe/face-detector")["predictions"]) == 1
    assert client.get_server_info().name == "tritonvision"
    assert FACE in {model.model_id for model in client.load_model(FACE).models}


@pytest.mark.parametrize("key", ["wrong", None])
def test_another_key_and_none_are_a_401(locked, key):
    client = client_of(locked, key, "legacy")
    with pytest.raises(HTTPCallErrorError) as caught:
        client.infer(PHOTO, model_id=FACE)
    assert caught.value.status_code == 401 and "right" not in str(caught.value.api_message)


def test_unloading_needs_the_header_since_the_client_sends_no_other_key_there(locked):
    with pytest.raises(HTTPCallErrorError) as caught:
        client_of(locked, "right", "legacy").unload_model(FACE)
    assert caught.value.status_code == 401
    assert client_of(locked, "right", "header").unload_all_models().models == []


def test_a_key_that_may_only_ask_asks_what_is_not_loaded_and_manages_nothing(locked):
    assert client_of(locked, "right", "header").unload_all_models().models == []
    client = client_of(locked, "asker", "header")
    assert len(client.infer(PHOTO, model_id=FACE)["predictions"]) == 1
    for refused in (client.unload_all_models, lambda: client.infer(PHOTO, model_id="yolov8n-640")):
        with pytest.raises(HTTPCallErrorError) as caught:
            refused()
        assert caught.value.status_code == 403
