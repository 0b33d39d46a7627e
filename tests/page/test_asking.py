"""What a person does on the page, done by a real browser on a real server."""

from __future__ import annotations

import base64
import io
import json

import pytest
import requests
from PIL import Image

from tritonvision.pictures import shown_size

FACE, BOXES, SHAPES, CLASSES, TOWERS, DEPTH, SAM, GAZE, PAGES, WORDS, WRITER, LINE, FINDER, TASKS = (
    "mediapipe-face-detection", "yolov8n-640", "yolov8n-seg-640", "resnet18", "clip/RN50", "depth-anything-v2-small",
    "sam-vit_b", "l2cs-gaze", "doctr-db_mobilenet_v3", "tests/small-owl/1", "tests/small-vlm/1", "tests/small-line/1",
    "tests/small-moondream/1", "tests/small-florence/1",
)  # fmt: skip


def drawn(page, x: float, y: float, reach: int = 4) -> bool:
    """Whether something is drawn within ``reach`` pixels of a place in the picture."""
    return page.evaluate(
        """([x, y, reach]) => {
            const canvas = document.getElementById("canvas"), picture = document.getElementById("picture");
            const scale = canvas.width / picture.naturalWidth, side = 2 * reach * scale;
            const found = canvas.getContext("2d").getImageData((x - reach) * scale, (y - reach) * scale, side, side);
            return found.data.some((value, i) => i % 4 === 3 && value > 0);
        }""",
        [x, y, reach],
    )


def at(page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a pixel of the sample is shown."""
    page.locator("#canvas").scroll_into_view_if_needed()
    frame = page.locator("#canvas").bounding_box()
    return frame["x"] + x / 512 * frame["width"], frame["y"] + y / 512 * frame["height"]


def post(server: str, path: str, **body) -> dict:
    answer = requests.post(f"{server}{path}", json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()


def b64(data: bytes) -> dict[str, str]:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


# ---- every kind of model ---------------------------------------------------------------------------------------------


def test_a_face_is_drawn_on_the_sample_and_told_in_words_and_in_a_table(visit):
    here = visit(FACE)
    here.ask()
    assert here.status() == "Found: 1 face."
    ((name, score, box),) = here.rows()
    assert name == "face" and float(score) == pytest.approx(0.92, abs=0.01) and box == "178, 83 · 95 × 95"
    assert drawn(here.page, 178, 130) and drawn(here.page, 202, 105), "the frame, and the right eye"
    assert not drawn(here.page, 400, 400)
    assert here.page.locator("#legend li").all_inner_texts()[0] == "right-eye"
    assert "in the server" in here.page.inner_text("#time")


def test_shapes_are_filled(visit):
    here = visit(SHAPES)
    here.ask()
    assert here.rows() and here.status().startswith(f"{len(here.rows())} found")


def test_the_best_classes_are_bars(visit, server_url, photo):
    here = visit(CLASSES)
    here.ask()
    best = post(server_url, "/infer/classification", model_id=CLASSES, image=b64(photo), confidence=0)["predictions"]
    assert here.page.locator(".bars .name").all_inner_texts() == [one["class"] for one in best[:12]]
    assert here.page.inner_text("#warning") == "Random weights: answers mean nothing."


def test_depth_is_shown_in_colours_with_what_they_mean(visit):
    here = visit(DEPTH)
    here.ask()
    assert here.page.locator("#scale").is_visible() and drawn(here.page, 400, 400)


def test_where_a_face_looks_is_an_arrow(visit):
    here = visit(GAZE)
    here.ask()
    assert here.status() == "Found: 1 face." and here.rows()[0][0].endswith("°")
    assert drawn(here.page, 225, 130, 2), "the arrow begins in the middle of the face, where no frame is"


def test_words_of_a_page_are_boxed_and_told(visit):
    here = visit(PAGES)
    here.ask()
    assert here.status() == f"{len(here.rows())} words read."


def test_the_text_of_a_line_is_told(visit):
    here = visit(LINE)
    here.ask()
    assert here.page.inner_text("#results .text")


def test_classes_in_ones_own_words(visit):
    here = visit(WORDS)
    here.page.fill("#classes", "a rocket\n a glove ")
    here.settled()
    here.ask()
    assert here.body()["text"] == ["a rocket", "a glove"]
    assert here.rows() and {row[0] for row in here.rows()} <= {"a rocket", "a glove"}


def test_texts_are_compared_with_the_picture(visit, server_url, photo):
    here = visit(TOWERS)
    here.page.fill("#texts", "a helmet, a boat")
    here.settled()
    here.ask()
    answer = post(
        server_url, "/clip/compare", model_id=TOWERS, subject=b64(photo), subject_type="image",
        prompt=["a helmet", "a boat"], prompt_type="text",
    )  # fmt: skip
    told = dict(zip(
        here.page.locator(".bars .name").all_inner_texts(), here.page.locator(".bars .value").all_inner_texts(),
        strict=True,
    ))  # fmt: skip
    wanted = dict(zip(["a helmet", "a boat"], answer["similarity"], strict=True))
    assert {name: float(value) for name, value in told.items()} == pytest.approx(wanted, abs=6e-4)
    here.page.fill("#texts", "")
    here.page.locator("dl").wait_for()
    assert here.status() == "A vector of 1024 numbers."


# ---- clicks on the picture -------------------------------------------------------------------------------------------


@pytest.fixture
def encoded(server_url, photo) -> None:
    """SAM knows the sample: a prompt costs its small network only, and no deadline is near."""
    for _ in range(5):
        if requests.post(f"{server_url}/sam/embed_image", json={"model_id": SAM, "image": b64(photo)}, timeout=60).ok:
            return
    pytest.fail("SAM did not encode the sample")


def test_clicks_a_drag_and_typed_points_select_by_sam(visit, encoded):
    here = visit(SAM)
    page = here.page
    with page.expect_response("**/sam/segment_image"):
        page.mouse.click(*at(page, 220, 140))
    here.settled()
    assert here.body()["point_coords"] == [pytest.approx([220, 140], abs=1)] and here.body()["point_labels"] == [1]
    assert here.status().startswith("1 mask") and drawn(page, 220, 140)

    with page.expect_response("**/sam/segment_image"):
        page.mouse.click(*at(page, 60, 300), button="right")
    with page.expect_response("**/sam/segment_image"):
        page.keyboard.down("Shift")
        page.mouse.click(*at(page, 450, 60))
        page.keyboard.up("Shift")
    here.settled()
    assert here.body()["point_labels"] == [1, 0, 0]

    with page.expect_response("**/sam/segment_image"):
        page.mouse.move(*at(page, 300, 300))
        page.mouse.down()
        page.mouse.move(*at(page, 120, 60), steps=4)
        page.mouse.up()
    here.settled()
    assert here.body()["box"] == pytest.approx([120, 60, 300, 300], abs=1)
    assert page.input_value("#prompt").splitlines()[1].startswith("not "), "clicks are written where they can be edited"

    with page.expect_response("**/sam/segment_image"):
        page.fill("#prompt", "200, 100\nnot 10.5, 20")
    here.settled()
    assert here.body()["point_coords"] == [[200, 100], [10.5, 20]] and "box" not in here.body()
    page.fill("#prompt", "a face")
    page.click("#ask")
    assert "“a face” is no point" in here.status()


# ---- answers that are written ----------------------------------------------------------------------------------------


def test_an_answer_streams_in_and_can_be_stopped(visit, server_url):
    here = visit(WRITER)
    page = here.page
    page.fill("#question", "Where is it?")
    page.get_by_label("Most tokens").fill("400")
    page.keyboard.press("Tab")
    assert not here.questions(), "a model that writes is asked when told to"
    # pressed by the page itself as soon as there is a word: the small model is quick
    page.evaluate(
        """() => new MutationObserver((_, observer) => {
            if (!document.getElementById("said").textContent) return;
            observer.disconnect();
            const button = document.getElementById("stop");
            document.title = button.checkVisibility() ? "seen" : "hidden";
            button.click();
        }).observe(document.getElementById("said"), { childList: true })"""
    )
    page.click("#ask")
    page.locator("#status", has_text="Stopped.").wait_for()
    here.settled()
    assert page.title() == "seen", "the button is there while the answer is being written"
    said = page.evaluate("document.getElementById('said').textContent")
    sent = here.body()
    whole = post(server_url, "/v1/chat/completions", **{**sent, "stream": False})["choices"][0]["message"]["content"]
    assert said and whole.startswith(said) and len(said) < len(whole) / 2
    assert sent["stream"] is True and sent["max_tokens"] == 400
    assert sent["messages"][0]["content"][0] == {"type": "text", "text": "Where is it?"}


def test_a_short_answer_ends_by_itself(visit):
    here = visit(WRITER)
    here.page.get_by_label("Most tokens").fill("5")
    here.page.press("#question", "Enter")
    here.page.locator("#status", has_text="Written").wait_for()
    assert here.page.locator("#stop").is_hidden() and "first words after" in here.page.inner_text("#time")


def test_the_places_that_a_text_names_are_drawn_and_listed(visit, server_url):
    here = visit(FINDER)
    here.page.get_by_label("Most tokens").fill("12")
    for question, kind in (("detect: person", "boxes"), ("point: face", "points")):
        name = question.split()[1]
        here.page.fill("#question", question)
        here.ask()
        sent = here.body()
        message = post(server_url, "/v1/chat/completions", **{**sent, "stream": False})["choices"][0]["message"]
        (place,) = message["places"]
        assert sent["places"] is True and here.page.inner_text("#said") == message["content"]
        rows = here.rows()
        assert len(rows) == len(place[kind]) >= 3 and {told for told, _ in rows} == {name}
        assert here.status() == f"Written. Found: {len(rows)} {name}."
        x, y = (side * 512 for side in place[kind][0][:2])
        assert drawn(here.page, min(max(x, 5), 507), min(max(y, 5), 507), 5)


def test_a_task_of_florence_is_written_and_its_places_are_listed(visit, server_url):
    here = visit(TASKS)
    here.page.get_by_label("Most tokens").fill("24")
    here.page.fill("#question", "<OCR_WITH_REGION>")
    here.ask()
    message = post(server_url, "/v1/chat/completions", **{**here.body(), "stream": False})["choices"][0]["message"]
    assert here.page.inner_text("#said") == message["content"] != ""
    assert len(here.rows()) == sum(len(place["polygons"]) for place in message["places"])


# ---- asking again ----------------------------------------------------------------------------------------------------


def slide(page, *values: float) -> None:
    """Move the slider through ``values`` in one go."""
    page.locator("#settings input[type=range]").evaluate(
        """(slider, values) => {
            for (const value of values) {
                slider.value = value;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }
        }""",
        values,
    )


def test_moving_the_threshold_asks_again_with_the_last_value(visit, server_url, photo):
    here = visit(BOXES)
    here.ask()
    before = len(here.questions())
    with here.page.expect_response("**/infer/object_detection"):
        slide(here.page, 0.42, 0.44, 0.46, 0.5)
    here.settled()
    answer = post(server_url, "/infer/object_detection", model_id=BOXES, image=b64(photo), confidence=0.5)
    assert len(here.rows()) == len(answer["predictions"])
    assert here.body()["confidence"] == 0.5
    assert len(here.questions()) == before + 1, "moves in one go are one question"


def test_a_late_answer_never_replaces_a_newer_one(visit):
    here = visit(BOXES)
    here.ask()
    held = []

    def hold_the_first(route):
        held.append(route) if not held else route.continue_()

    here.page.route("**/infer/object_detection", hold_the_first)
    with here.page.expect_request("**/infer/object_detection"):
        slide(here.page, 0.1)
    with here.page.expect_response("**/infer/object_detection"):
        slide(here.page, 0.6)
    here.settled()
    newer = here.rows()
    assert held[0].request.failure == "net::ERR_ABORTED", "the older question was given up"
    assert newer and all(float(row[1]) > 0.6 for row in newer)


def test_while_a_model_is_loading_the_page_says_so_and_asks_again(visit):
    here = visit(FACE)
    told = json.dumps({"message": "'it' is being exported."})
    turned_away = []

    def busy_once(route):
        if turned_away:
            route.continue_()
        else:
            turned_away.append(route)
            route.fulfill(status=503, headers={"Retry-After": "1"}, body=told, content_type="application/json")

    here.page.route("**/infer/keypoints_detection", busy_once)
    here.page.click("#ask")
    here.page.get_by_text("'it' is being exported. Asking again in 1 s.").first.wait_for()
    here.page.get_by_text("Found: 1 face.").first.wait_for()


def test_the_servers_own_sentence_is_shown(visit):
    here = visit(TOWERS)
    here.page.fill("#texts", "\n".join("abcdefghi"))
    here.settled()
    here.ask()
    assert here.page.inner_text("#error") == "A request compares with 1 to 8 prompts, not 9."


# ---- pictures and models ---------------------------------------------------------------------------------------------


def a_picture(size=(90, 60), **more) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, "#808080").save(stream, "JPEG", **more)
    return stream.getvalue()


def test_a_chosen_picture_is_the_one_that_is_sent(visit):
    here, exif = visit(FACE), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = a_picture(exif=exif)
    with here.page.expect_response("**/infer/keypoints_detection"):
        here.page.set_input_files("#file", {"name": "grey.jpg", "mimeType": "image/jpeg", "buffer": data})
    here.settled()
    assert here.body()["image"] == b64(data)
    assert here.page.inner_text("#picture-name") == "grey.jpg, 60 × 90", "as it is shown, and as boxes are counted"
    assert here.status() == "Nothing over the threshold."


def test_a_picture_that_browsers_do_not_turn_is_asked_about_as_it_is_shown(visit):
    here, exif, stream = visit(FACE), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60), "#808080").save(stream, "WEBP", exif=exif)
    with here.page.expect_response("**/infer/keypoints_detection"):
        here.page.set_input_files("#file", {"name": "grey.webp", "mimeType": "image/webp", "buffer": stream.getvalue()})
    here.settled()
    width, height = shown_size(base64.b64decode(here.body()["image"]["value"]))
    assert here.page.inner_text("#picture-name") == f"grey.webp, {width} × {height}"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(visit, way):
    here, data = visit(FACE), a_picture()
    with here.page.expect_response("**/infer/keypoints_detection"):
        here.page.evaluate(
            """([way, text]) => {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), held = new DataTransfer();
                held.items.add(new File([bytes], "grey.jpg", { type: "image/jpeg" }));
                const how = { bubbles: true, cancelable: true };
                if (way === "drop") document.getElementById("stage").dispatchEvent(new DragEvent("drop", { ...how, dataTransfer: held }));
                else document.dispatchEvent(new ClipboardEvent("paste", { ...how, clipboardData: held }));
            }""",  # noqa: E501
            [way, base64.b64encode(data).decode()],
        )
    here.settled()
    assert here.body()["image"] == b64(data)


def test_what_is_no_picture_is_said_to_be_none(visit):
    here = visit(FACE)
    here.ask()
    asked = len(here.questions())
    here.page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    here.page.locator("#error:visible").wait_for()
    assert "cannot show notes.png" in here.page.inner_text("#error")
    assert len(here.questions()) == asked


def test_what_is_not_published_is_found_and_shows_the_command_that_publishes_it(visit):
    here = visit(FACE)
    here.page.fill("#search", "coco/36")  # an alias
    here.page.press("#search", "Enter")
    here.page.get_by_role("heading", name="rfdetr-base", exact=True).wait_for()
    assert here.page.inner_text("#publish-command") == "tritonvision export rfdetr-base"
    here.page.fill("#search", "nobody has this name")
    assert here.page.inner_text("#none") == "No model is called that."
