"""Objects pointed at on the page and followed through a video, and the vectors of embedders that read no texts."""

from __future__ import annotations

import ast
import base64
import io
import json
import subprocess
import sys

from PIL import Image

TRACKS, PICTURES_ALONE = "tests/small-tracks/1", "tests/small-dinov3/1"
FRAMES = 6  # of the film but the one that it ends with


def sent_by(page):
    """Messages on WebSockets, as they are sent: a growing list."""
    messages = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda text: messages.append(json.loads(text))))
    return messages


def test_what_is_pointed_at_is_followed_through_a_video_and_corrected_on_the_way(visit, film):
    here = visit(TRACKS)
    page, sent = here.page, sent_by(here.page)
    assert page.locator("#follow").is_hidden(), "a picture has no next frame"
    page.set_input_files("#file", film)
    page.locator("#picture-name", has_text="film-0.0s.jpg, 320 × 240").wait_for()
    page.fill("#prompt", "120, 90\nbox 60, 40, 220, 200")
    page.locator("#status", has_text="Frame 0: 1 of 1 object in sight.").wait_for()
    page.fill("#object", "3")
    page.keyboard.press("Tab")
    assert page.input_value("#prompt") == "", "those were about another object"
    page.fill("#prompt", "30, 200")
    page.locator("#status", has_text="Frame 0: ").filter(has_text="of 2 objects").wait_for()
    page.click("#follow")
    page.locator("#status", has_text=f"The video ends here. Frame {FRAMES - 1}: ").wait_for()
    here.settled()
    assert f"{FRAMES - 1} frames" in page.inner_text("#time")
    page.fill("#prompt", "not 10, 10")
    page.locator("#status", has_text=f"Frame {FRAMES - 1}: ").filter(has_not_text="ends here").wait_for()

    first, other, *others, correction = sent
    assert first["points"] == [[120, 90]] and first["boxes"] == [[60, 40, 220, 200]] and first["box_objects"] == [0]
    assert other["points"] == [[30, 200]] and other["point_objects"] == [3] and "image" not in other
    assert len(others) == FRAMES - 1 and all({*message} == {"image", "mask_format"} for message in others)
    size = Image.open(io.BytesIO(base64.b64decode(others[-1]["image"]))).size
    assert size == (320, 240) and len({message["image"] for message in others}) == FRAMES - 1
    assert correction["point_labels"] == [0] and "image" not in correction


def test_who_follows_while_the_prompt_is_still_being_asked_waits_for_its_answer(visit, film):
    here = visit(TRACKS)
    page, sent = here.page, []

    def late(socket):
        server = socket.connect_to_server()
        socket.on_message(lambda text: (sent.append(json.loads(text)), server.send(text)))
        # longer than a change of the prompt waits before it is asked
        server.on_message(lambda text: (page.wait_for_timeout(400 if len(sent) == 1 else 0), socket.send(text)))

    page.route_web_socket("**/streams/**", late)
    page.set_input_files("#file", film)
    page.locator("#picture-name", has_text="film-0.0s.jpg").wait_for()
    page.fill("#prompt", "120, 90")
    page.click("#follow")
    page.locator("#status", has_text=f"The video ends here. Frame {FRAMES - 1}: ").wait_for()
    assert len(sent) == FRAMES and "points" in sent[0] and not any("points" in one for one in sent[1:])


def test_the_lines_follow_through_the_file(visit, film):
    here = visit(TRACKS)
    here.page.set_input_files("#file", film)
    here.page.locator("#picture-name", has_text="film-0.0s.jpg").wait_for()
    here.page.fill("#prompt", "120, 90")
    here.settled()
    assert here.page.locator("#curl").is_hidden(), "curl opens no WebSocket"
    command = [sys.executable, "-c", here.page.inner_text("#python")]
    done = subprocess.run(command, cwd=film.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert [answer["frame"] for answer in told] == list(range(FRAMES + 1))
    assert all([one["object_id"] for one in answer["objects"]] == [0] for answer in told)


def test_a_stream_that_the_server_ended_says_why_and_the_next_prompt_begins_another(visit, film):
    here = visit(TRACKS)
    page, sent = here.page, []

    def through(socket):
        server = socket.connect_to_server()
        sent.append([])

        def message(text):
            if len(sent) == 1 and sent[0]:
                return socket.close(code=1008, reason="Nothing was sent for 60 seconds.")
            sent[-1].append(json.loads(text))
            server.send(text)

        socket.on_message(message)

    page.route_web_socket("**/streams/**", through)
    page.set_input_files("#file", film)
    page.locator("#picture-name", has_text="film-0.0s.jpg").wait_for()
    page.fill("#prompt", "120, 90")
    page.locator("#status", has_text="Frame 0: ").wait_for()
    page.fill("#prompt", "120, 91")
    page.locator("#error", has_text="Nothing was sent for 60 seconds.").wait_for()
    page.fill("#prompt", "120, 92")
    page.locator("#status", has_text="Frame 0: ").wait_for()
    here.settled()
    assert "image" in sent[1][0] and page.locator("#error").is_hidden()


def test_a_video_that_is_none_is_said_to_be_none(visit, tmp_path):
    here = visit(TRACKS)
    here.page.set_input_files("#file", {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"no video"})
    here.page.locator("#error", has_text="cannot play film.mp4 as a video").wait_for()


def test_an_embedder_that_reads_no_texts_is_asked_for_a_vector(visit):
    here = visit(PICTURES_ALONE)
    here.ask()
    assert here.status() == "A vector of 384 numbers." and here.page.locator("#texts").is_hidden()
