"""More models than may be loaded at once: everybody is answered, the limit holds, and it is seen who is there."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

ASKED = {
    "mediapipe-face-detection": "keypoints_detection", "yolov8n-640": "object_detection",
    "resnet18": "classification",
}  # fmt: skip


@pytest.fixture(scope="module")
def bounded(serve_with):
    """A server that keeps two models."""
    with serve_with("--max-loaded", "2") as url:
        yield url


def ask(url: str, model: str, photo: bytes) -> httpx.Response:
    image = {"type": "base64", "value": base64.b64encode(photo).decode()}
    return httpx.post(f"{url}/infer/{ASKED[model]}", json={"model_id": model, "image": image}, timeout=90)


def registry(url: str) -> dict:
    return httpx.get(f"{url}/model/registry", timeout=10).json()


def loaded(url: str) -> set[str]:
    return {row["model_id"] for row in registry(url)["models"]} & ASKED.keys()


def test_the_least_recently_used_model_is_evicted_and_loaded_again_on_request(bounded, photo):
    face, detector, classifier = ASKED
    for model in (face, detector, face, classifier):
        assert ask(bounded, model, photo).status_code == 200
    assert loaded(bounded) == {face, classifier}
    assert ask(bounded, detector, photo).status_code == 200
    assert loaded(bounded) == {classifier, detector}
    seen = registry(bounded)
    assert seen["max_loaded"] == 2 and seen["evicted"] == 2
    assert seen["memory_bytes"] == sum({row["memory_bytes"] for row in seen["models"]})
    assert "tritonvision_evicted_models 2.0" in httpx.get(f"{bounded}/metrics", timeout=10).text


@pytest.mark.slow
def test_under_load_every_request_is_answered_and_the_limit_holds(bounded, photo):
    over, done = [], threading.Event()

    def watch():
        while not done.wait(0.05):
            if len(loaded(bounded)) > 2:
                over.append(loaded(bounded))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda i: ask(bounded, list(ASKED)[i % 3], photo), range(18)))
    finally:
        done.set()
        watcher.join()
    assert [answer.status_code for answer in answers] == [200] * 18
    assert not over
