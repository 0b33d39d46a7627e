"""Disconnecting cancels the work for every task of the Hugging Face dialect, and releases everything."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

TEXT = {"messages": [{"role": "user", "content": "What is it?"}]}
QUESTIONS = {
    "object detection": ("yolov8n-640", {}),
    "key points": ("mediapipe-face-detection", {}),
    "classification": ("resnet18", {}),
    "instance segmentation": ("yolov8n-seg-640", {}),
    "depth estimation": ("depth-anything-v2-small", {}),
    "features of a picture": ("clip/ViT-B-32", {}),
    "features of a text": ("clip/ViT-B-32", {"inputs": "a cat"}),
    "zero-shot classification": ("clip/ViT-B-32", {"parameters": {"candidate_labels": ["a cat", "a dog"]}}),
    "zero-shot detection": ("grounding-dino-tiny", {"parameters": {"candidate_labels": ["a cat", "a dog"]}}),
    "a page": ("doctr-db_resnet50", {}),
    "a line": ("trocr-base-printed", {}),
    "a description": ("smolvlm-256m", {}),
    "a question": ("smolvlm-256m", {"question": "What is it?"}),
    "masks": ("sam-vit_b", {}),
    "masks as events": ("sam-vit_b", {}),
    "a chat": ("smolvlm-256m/v1/chat/completions", TEXT),
    "a chat in pieces": ("smolvlm-256m/v1/chat/completions", {**TEXT, "stream": True}),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_disconnecting_cancels_the_work(whole_house, picture, name, hold):
    house, (model, more) = whole_house, QUESTIONS[name]
    app, path = house.client.app, f"/models/{model}"
    content = json.dumps({"inputs": base64.b64encode(picture).decode(), **more}).encode()
    headers = [(b"x-wait-for-model", b"1"), (b"content-type", b"application/json")]
    if name.endswith("events"):
        headers.append((b"accept", b"text/event-stream"))

    async def main():
        await house.engine.load(model.partition("/v1/")[0])
        held = hold(house.engine)
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        sent = []

        async def receive():
            if messages:
                return messages.pop()
            await held.reached.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": headers, "app": app,
        }  # fmt: skip
        async with asyncio.timeout(10):
            await app(scope, receive, send)
        streams = name in ("masks as events", "a chat in pieces")
        assert sent[0]["status"] == (200 if streams else 499)
        assert not any(b"[DONE]" in message.get("body", b"") for message in sent)

    asyncio.run(main())
    assert house.engine.cancelled == 1
    admission = app.state.service.admission
    assert admission.pictures == admission.bytes == 0 and len(app.state.responses) == 0
