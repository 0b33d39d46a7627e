"""What reads prompts or writes text, on the whole running server: named boxes, pages and lines.

Detectors and line reader are small models with every part of the real ones, the page reader is the real architecture;
weights are random or fitted on rendered pages, so what they say means nothing and is always the same.
"""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from tritonvision.exporters.parity import text_pages

OWL, DINO, LINE, PAGE = "tests/small-owl/1", "tests/small-dino/1", "tests/small-line/1", "doctr-db_mobilenet_v3"
WORLD = "tests/small-world/1"
NAMES = ["a cat", "an astronaut", "a red cup"]


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=180) as client:
        yield client


def png(picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def image(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def answer(http: httpx.Client, route: str, body: dict):
    found = http.post(route, json=body)
    assert found.status_code == 200, found.text
    return found.json()


def boxes(found) -> list[tuple]:
    return [(p["class"], round(p["confidence"], 5), p["x"], p["y"]) for p in found["predictions"]]


# ---- named boxes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "model", "least"), [
    ("/owlv2/infer", OWL, "confidence"), ("/grounding_dino/infer", DINO, "box_threshold"),
    ("/yolo_world/infer", WORLD, "confidence"),
])  # fmt: skip
def test_boxes_have_the_names_that_the_request_gave(http, photo, route, model, least):
    body = {"model_id": model, "image": image(photo), "text": NAMES, least: 0.05, "text_threshold": 0.0}
    found = answer(http, route, body)
    assert found["predictions"] and found["image"] == {"width": 512, "height": 512}
    for prediction in found["predictions"]:
        assert NAMES[prediction["class_id"]] == prediction["class"]
    assert boxes(answer(http, route, body)) == boxes(found)


@pytest.mark.parametrize(("route", "model"), [
    ("/owlv2/infer", OWL), ("/grounding_dino/infer", DINO), ("/yolo_world/infer", WORLD),
])  # fmt: skip
@pytest.mark.parametrize(("text", "says"), [
    ([], ""), (["cat"] * 10_000, "512"), (["  "], "name"), (["word " * 400], "token"),
])  # fmt: skip
def test_no_text_too_many_and_too_long_ones_are_refused_and_the_next_is_answered(http, photo, route, model, text, says):
    refused = http.post(route, json={"model_id": model, "image": image(photo), "text": text})
    assert refused.status_code in (400, 422) and says in refused.text and "Traceback" not in refused.text
    answer(http, route, {"model_id": model, "image": image(photo), "text": ["a cat"]})


def test_classes_of_requests_at_once_do_not_mix(http, photo):
    """Several at once, of different numbers of classes, are answered as each alone."""

    def ask(names):
        body = {"model_id": WORLD, "image": image(photo), "text": names, "confidence": 0.05}
        return boxes(answer(http, "/yolo_world/infer", body))

    lists = [NAMES, NAMES[:2], NAMES[1:], ["a flag"]] * 2
    alone = [ask(names) for names in lists]
    with ThreadPoolExecutor(len(lists)) as pool:
        assert list(pool.map(ask, lists)) == alone
    assert len({tuple(found) for found in alone}) == 4


def test_examples_find_what_they_show(http, photo):
    boxed = {"x": 225, "y": 130, "w": 95, "h": 95, "cls": "face"}
    lesson = {"image": image(photo), "boxes": [boxed, {**boxed, "x": 60, "y": 400, "cls": "cloth"}]}
    body = {"model_id": OWL, "image": image(photo), "training_data": [lesson], "confidence": 0.0}
    found = answer(http, "/owlv2/infer", body)
    assert {p["class"] for p in found["predictions"]} == {"cloth", "face"}
    outside = {**lesson, "boxes": [{**boxed, "x": 5000}]}
    refused = http.post("/owlv2/infer", json={**body, "training_data": [outside]})
    assert refused.status_code == 400 and "picture" in refused.json()["message"]


def test_a_detector_that_reads_captions_takes_no_examples(http, photo):
    lesson = {"image": image(photo), "boxes": [{"x": 100, "y": 100, "w": 50, "h": 50, "cls": "it"}]}
    refused = http.post("/owlv2/infer", json={"model_id": DINO, "image": image(photo), "training_data": [lesson]})
    assert refused.status_code == 400 and "does not take" in refused.json()["message"]


# ---- text ------------------------------------------------------------------------------------------------------------


def test_a_page_has_words_in_lines_in_blocks(http):
    page = text_pages.page(seed=0)
    found = answer(http, "/doctr/ocr", {"model_id": PAGE, "image": image(png(page)), "generate_bounding_boxes": True})
    kinds = [p["class"] for p in found["predictions"]]
    assert kinds.count("word") >= 20 and kinds.count("line") >= 3 and kinds.count("block") == 1
    by_id = {p["detection_id"]: p for p in found["predictions"]}
    for region in found["predictions"]:
        inside = by_id.get(region.get("parent_id"))
        assert (inside is None) == (region["class"] == "block")
        if inside is not None:
            assert region["text"] in inside["text"]
            assert abs(region["x"] - inside["x"]) <= inside["width"] / 2
    assert all(word["text"] in found["result"] for word in found["predictions"] if word["class"] == "word")


def test_several_pages_are_answered_in_order_and_a_blank_one_has_no_text(http):
    page, blank = text_pages.page(seed=0), text_pages.page(seed=0) * 0 + 255
    blank = blank[: min(blank.shape[:2]), : min(blank.shape[:2])]
    first, second = answer(http, "/doctr/ocr", {"model_id": PAGE, "image": [image(png(page)), image(png(blank))]})
    assert len(first["result"].split()) >= 20 and second["result"] == ""


def test_a_line_is_read_the_same_way_twice_and_another_one_otherwise(http):
    lines = [png(text_pages.line(text)) for text in ("Total 4.20", "Nothing else matters")]
    first, again, other = (
        answer(http, "/ocr/trocr", {"model_id": LINE, "image": image(line)})["result"]
        for line in (lines[0], lines[0], lines[1])
    )
    assert first == again != other


def test_beams_and_length_are_the_callers_choice(http):
    body = {"model_id": LINE, "image": image(png(text_pages.line("Total 4.20")))}
    short, long = (answer(http, "/ocr/trocr", {**body, "max_new_tokens": n})["result"] for n in (3, 30))
    assert len(short) < len(long) and long.startswith(short)
    answer(http, "/ocr/trocr", {**body, "num_beams": 4})
    refused = http.post("/ocr/trocr", json={**body, "max_new_tokens": 100_000})
    assert refused.status_code == 400 and "max_new_tokens" in refused.json()["message"]


@pytest.mark.parametrize(("route", "model"), [("/doctr/ocr", PAGE), ("/ocr/trocr", LINE)])
def test_a_picture_of_one_pixel_is_read_and_bytes_of_no_picture_are_refused(http, route, model):
    pixel = png(text_pages.page(seed=0)[:1, :1])
    assert "result" in answer(http, route, {"model_id": model, "image": image(pixel)})
    refused = http.post(route, json={"model_id": model, "image": image(b"no picture")})
    assert refused.status_code == 400 and refused.json()["message"].startswith("Could not load input image.")


@pytest.mark.parametrize("route", ["/doctr/ocr", "/ocr/trocr", "/grounding_dino/infer", "/owlv2/infer", "/infer/lmm"])
def test_a_model_of_another_task_is_refused(http, photo, route):
    body = {"model_id": "yolov8n-640", "image": image(photo), "text": ["cat"], "prompt": "what"}
    refused = http.post(route, json=body)
    assert refused.status_code == 400 and "object-detection" in refused.json()["message"]
