"""``/infer/lmm``: one picture and one prompt to the generated text."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import pytest
from manifests import FLORENCE, manifest_of, publish
from PIL import Image

from tritonvision import errors

ROUTE, MODEL = "/infer/lmm", "smolvlm-256m"
SAID = "A cat, 猫 🐈."


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def body(picture: bytes, **more) -> dict:
    return {"model_id": MODEL, "image": b64(picture), "prompt": "What is it?", **more}


def ask(house, picture: bytes, route: str = ROUTE, **more) -> dict:
    answer = house.client.post(route, json=body(picture, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, picture: bytes, **more) -> tuple[int, str]:
    answer = house.client.post(ROUTE, json=body(picture, **more))
    return answer.status_code, answer.json().get("message", "")


def test_a_prompt_about_a_picture_is_answered(house, picture):
    answer = ask(house, picture, id="mine")
    assert answer.pop("time") > 0
    assert answer == {"inference_id": "mine", "image": {"width": 40, "height": 30}, "response": SAID}
    ((model, messages, pictures, settings),) = house.engine.chats
    assert (model, pictures) == (MODEL, [picture])
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    assert messages == [{"role": "user", "content": content}]
    assert (settings["temperature"], settings["max_new_tokens"], settings["auto_orient"]) == (0.0, 512, True)


def test_the_path_names_the_model_too(house, picture):
    assert ask(house, picture, f"{ROUTE}/{MODEL}")["response"] == SAID
    assert ask(house, picture, f"{ROUTE}/{MODEL}", model_id=None)["response"] == SAID
    assert ask(house, picture, f"{ROUTE}/pretrained/{MODEL}")["response"] == SAID
    answer = house.client.post(f"{ROUTE}/resnet18", json=body(picture))
    assert answer.status_code == 400 and "different models" in answer.json()["message"]


def test_fields_of_the_contract_reach_the_model(house, picture):
    ask(house, picture, max_new_tokens=9, disable_preproc_auto_orient=True, enable_thinking=False, nobody_knows=1)
    settings = house.engine.chats[0][3]
    assert (settings["max_new_tokens"], settings["auto_orient"]) == (9, False)
    assert ask(house, picture, max_new_tokens=None)["inference_id"]


def test_the_size_is_the_oriented_pictures(house):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "JPEG", exif=exif)
    sizes = [
        ask(house, stream.getvalue(), disable_preproc_auto_orient=off)["image"] for off in (False, True)
    ]  # fmt: skip
    assert sizes == [{"width": 30, "height": 40}, {"width": 40, "height": 30}]


def test_an_array_of_pixels_has_a_size(house):
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.zeros((5, 8, 3), np.uint8))
    image = {"type": "numpy", "value": base64.b64encode(stream.getvalue()).decode()}
    assert ask(house, b"", image=image)["image"] == {"width": 8, "height": 5}


@pytest.mark.parametrize("prompt", [None, ""])
def test_a_picture_without_a_prompt_is_refused(house, picture, prompt):
    assert refusal(house, picture, prompt=prompt) == (400, f"'{MODEL}' needs a 'prompt'.")
    assert house.engine.chats == []


def test_a_prompt_without_a_picture_and_a_request_without_a_model_are_refused(house, picture):
    assert house.client.post(ROUTE, json={"model_id": MODEL, "prompt": "x"}).status_code == 422
    assert refusal(house, picture, image=[b64(picture)])[0] == 400
    assert refusal(house, picture, image=[])[0] == 400
    assert refusal(house, picture, model_id="")[0] == 400


@pytest.mark.parametrize("image", [
    b64(b"no picture"), b64(b""), {"type": "file", "value": "/etc/passwd"}, {"type": "url", "value": "file:///etc/passwd"},
    {"type": "url", "value": "https://127.0.0.1/a.jpg"},
])  # fmt: skip
def test_what_is_no_picture_is_refused(house, picture, image):
    status, message = refusal(house, picture, image=image)
    assert status == 400 and message.startswith("Could not load input image. Cause:")
    assert house.engine.chats == []


def test_an_unknown_model_and_one_of_another_task(house, picture):
    assert refusal(house, picture, model_id="nobody/1")[0] == 404
    status, message = refusal(house, picture, model_id="resnet18")
    assert status == 400 and "classification" in message and "vlm" in message


@pytest.mark.parametrize("more, status", [
    ({"max_new_tokens": 0}, 400), ({"max_new_tokens": 10**9}, 400), ({"max_new_tokens": "many"}, 422),
    ({"prompt": 5}, 422), ({"prompt": ["x"]}, 422),
])  # fmt: skip
def test_settings_out_of_range_or_of_another_type(house, picture, more, status):
    assert refusal(house, picture, **more)[0] == status


@pytest.mark.parametrize("content", [b"", b"{", b"[1,", b"[]"])
def test_malformed_json_is_a_422(house, content):
    answer = house.client.post(ROUTE, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"]


def test_errors_of_the_model_reach_the_caller(house, picture):
    house.engine.failure = errors.InvalidParameter("The prompt is 9000 tokens long; the model reads 8192.")
    assert refusal(house, picture, prompt="long " * 9000) == (400, house.engine.failure.message)
    house.engine.failure, house.engine.late_failure = None, errors.ServerUnavailable("The process is lost.")
    assert refusal(house, picture) == (502, "The process is lost.")
    house.engine.late_failure = RuntimeError("secret")
    assert refusal(house, picture) == (500, "Internal error.")


def test_disconnecting_cancels_the_work(house, picture):
    app = house.client.app

    async def main():
        house.engine.held = asyncio.Event()
        content = json.dumps(body(picture)).encode()
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        sent = []

        async def receive():
            if messages:
                return messages.pop()
            while not house.engine.chats:
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": ROUTE,
            "raw_path": ROUTE.encode(), "query_string": b"", "headers": [], "app": app,
        }  # fmt: skip
        async with asyncio.timeout(5):
            await app(scope, receive, send)
        assert sent[0]["status"] == 499

    asyncio.run(main())
    assert (
        house.engine.cancelled == 1 and app.state.service.admission.pictures == app.state.service.admission.bytes == 0
    )


def test_moondream_finds_the_object_that_the_prompt_names(house_with, tmp_path, picture):
    """The contract answers boxes there, and no text."""
    publish(tmp_path, [manifest_of("moondream2", "vlm", labels=(), grounding="moondream")])
    house = house_with()
    box = {"x_min": 0.25, "y_min": 0.5, "x_max": 0.75, "y_max": 1.2}
    house.engine.pieces = [json.dumps({"object": "red car", "objects": [box]})]
    answer = ask(house, picture, model_id="moondream2", prompt="red car")
    assert house.engine.chats[0][1][0]["content"][-1]["text"] == "detect: red car"
    assert "response" not in answer and answer["image"] == {"width": 40, "height": 30}
    (found,) = answer["predictions"]
    assert found.pop("detection_id")
    assert found == {
        "x": 20, "y": 22.5, "width": 20, "height": 15, "confidence": 1, "class": "red car", "class_id": 0
    }  # fmt: skip
    house.engine.pieces = [json.dumps({"object": "red car", "objects": []})]
    assert ask(house, picture, model_id="moondream2", prompt="red car")["predictions"] == []


# ---- a model that reads tasks ----------------------------------------------------------------------------------------

BOX = "<loc_100><loc_200><loc_500><loc_999>"


@pytest.fixture
def reader(house):
    """Its id; published beside the others."""
    publish(house.engine.repository.root, [FLORENCE])
    return FLORENCE.id


@pytest.mark.parametrize(("prompt", "written", "response"), [
    ("<CAPTION>", "A cat. ", {"<CAPTION>": "A cat."}),
    ("<OD>", f"a cat{BOX}a dog{BOX}", {"<OD>": {"bboxes": [[4, 6, 20, 29]] * 2, "labels": ["a cat", "a dog"]}}),
    (f"<REGION_TO_CATEGORY>{BOX}", "cat", {"<REGION_TO_CATEGORY>": "cat"}),
    (
        "<OCR_WITH_REGION>", f"Hello{BOX}{BOX}",
        {"<OCR_WITH_REGION>": {"quad_boxes": [[4, 6, 20, 29] * 2], "labels": ["Hello"]}},
    ),
    (
        "<REFERRING_EXPRESSION_SEGMENTATION> the cat", f"{BOX}<loc_0><loc_0>",
        {"<REFERRING_EXPRESSION_SEGMENTATION>": {"polygons": [[[4, 6, 20, 29, 0, 0]]], "labels": [""]}},
    ),
    ("What is it?", "A cat. ", "A cat. "),
])  # fmt: skip
def test_the_answer_of_a_task_is_an_object_by_its_token(house, reader, picture, prompt, written, response):
    house.engine.pieces = [written]
    assert ask(house, picture, model_id=reader, prompt=prompt)["response"] == response


@pytest.mark.parametrize("prompt", ["see <OD>", "<OD> a cat", "<REGION_TO_OCR> here", "<CAPTION_TO_PHRASE_GROUNDING>"])
def test_a_prompt_that_is_no_task_s_is_refused_before_the_model_is_asked(house, reader, picture, prompt):
    status, message = refusal(house, picture, model_id=reader, prompt=prompt)
    assert status == 400 and message and not house.engine.chats
    assert ask(house, picture, prompt=prompt)["response"] == SAID, "of another model that is a prompt"
