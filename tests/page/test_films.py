"""Videos on the page, for models that are asked about each frame by itself."""

from __future__ import annotations

import ast
import base64
import io
import subprocess
import sys

from PIL import Image

FACE, SHAPES, CLASSES, WORDS = "mediapipe-face-detection", "yolov8n-seg-640", "resnet18", "tests/small-owl/1"
FRAMES = 6
ENDED = "The video ends here."


def drawn(page) -> int:
    """How many pixels of the canvas something is drawn on."""
    return page.evaluate(
        """() => {
            const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
            const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, i) => i % 4 === 3 && value).length;
        }"""
    )


def test_a_video_is_played_through_a_detector_and_each_object_keeps_its_number(visit, film):
    here = visit(FACE)
    page, before = here.page, len(here.questions())
    assert page.locator("#follow").is_hidden() and page.locator("#seen").is_hidden(), "a picture has no next frame"
    page.set_input_files("#file", film)
    page.locator("#status", has_text=f"{ENDED} Found: 1 face.").wait_for()
    here.settled()
    sent = [question.post_data_json["image"]["value"] for question in here.questions()[before:]]
    assert len(sent) == len(set(sent)) == FRAMES, "each frame once"
    assert {Image.open(io.BytesIO(base64.b64decode(one))).size for one in sent} == {(320, 240)}
    ((name, _, box),) = here.rows()
    assert name == "face #0" and int(box.split(",")[0]) < 150, "the face has moved to the left"
    assert drawn(page) and page.evaluate("document.getElementById('seen').value") == 1
    assert page.inner_text("#time").startswith(f"{FRAMES} frames, ")

    page.click("#follow")
    page.locator("#status", has_not_text=ENDED).wait_for()
    page.locator("#status", has_text=ENDED).wait_for()
    here.settled()
    again = [question.post_data_json["image"]["value"] for question in here.questions()[before + FRAMES :]]
    assert [sent.index(one) if one in sent else -1 for one in again] == list(range(FRAMES)), "from the beginning"


def test_a_dropped_video_is_played_through_a_segmenter_and_its_shapes_are_drawn(visit, film):
    here = visit(SHAPES)
    held = here.page.evaluate_handle(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
            return transfer;
        }""",
        [film.name, base64.b64encode(film.read_bytes()).decode()],
    )
    here.page.dispatch_event("#stage", "drop", {"dataTransfer": held})
    here.page.locator("#status", has_text=ENDED).wait_for()
    here.settled()
    assert here.rows() and all("#" in name for name, *_ in here.rows()) and drawn(here.page)


def held(page, path):
    """The third question to ``path`` from now on, once it was asked: it waits until it is let through."""
    asked = []

    def all_but_the_third(route):
        asked.append(route)
        if len(asked) != 3:
            route.continue_()

    def wait():
        while len(asked) < 3:
            page.wait_for_timeout(20)
        return asked[2]

    page.route(f"**{path}", all_but_the_third)
    return wait


def test_a_video_that_is_stopped_goes_on_with_the_frame_that_was_given_up(visit, film):
    here = visit(FACE)
    page, before = here.page, len(here.questions())
    third = held(page, "/infer/keypoints_detection")
    page.set_input_files("#file", film)
    third()
    page.click("#stop")
    assert here.status() == "Stopped." and page.inner_text("#picture-name").startswith("film-0.1s.jpg")
    page.click("#follow")
    page.locator("#status", has_text=ENDED).wait_for()
    here.settled()
    sent = [question.post_data_json["image"]["value"] for question in here.questions()[before:]]
    assert sent[2] == sent[3] and len(set(sent)) == FRAMES and len(sent) == FRAMES + 1


def test_what_is_looked_for_may_change_while_a_video_plays(visit, film):
    here = visit(WORDS)
    with here.page.expect_response(lambda response: response.request.method == "POST"):
        here.page.fill("#classes", "a rocket")
    here.settled()
    before, third = len(here.questions()), held(here.page, "/owlv2/infer")
    here.page.set_input_files("#file", film)
    waiting = third()
    here.page.fill("#classes", "a glove")
    waiting.continue_()
    here.page.locator("#status", has_text=ENDED).wait_for()
    here.settled()
    told = [question.post_data_json["text"] for question in here.questions()[before:]]
    assert told == [["a rocket"]] * 3 + [["a glove"]] * 3


def test_a_model_that_answers_no_video_offers_none(visit, film):
    here = visit(CLASSES)
    assert here.page.locator("#or-video").is_hidden() and here.page.get_attribute("#file", "accept") == "image/*"
    here.page.set_input_files("#file", film)
    here.page.locator("#error", has_text="cannot show film.mp4 as a picture").wait_for()


def test_the_lines_answer_every_frame_of_the_file(visit, film):
    here = visit(FACE)
    here.page.set_input_files("#file", film)
    here.page.locator("#status", has_text=ENDED).wait_for()
    here.page.click("#sample")
    here.page.locator("#picture-name", has_text="astronaut.png").wait_for()
    here.settled()
    assert here.page.locator("#curl").is_visible()
    here.page.set_input_files("#file", film)
    here.page.locator("#status", has_text=ENDED).wait_for()
    here.settled()
    assert here.page.locator("#curl").is_hidden(), "curl reads no video"
    program = here.page.inner_text("#python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=film.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert told and all([one["class"] for one in answer["predictions"]] == ["face"] for answer in told)


def test_a_broken_video_is_said_to_be_none_and_the_picture_stays(visit):
    here = visit(FACE)
    name = here.page.inner_text("#picture-name")
    here.page.set_input_files("#file", {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"no video"})
    here.page.locator("#error", has_text="cannot play film.mp4 as a video").wait_for()
    assert here.page.inner_text("#picture-name") == name and here.page.locator("#follow").is_hidden()
