"""The lines that the page offers to copy, run: they send what the page sent, and get what it got."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FACE, BOXES, TOWERS, SAM, WRITER, WORDS = (
    "mediapipe-face-detection", "yolov8n-640", "clip/RN50", "sam-vit_b", "tests/small-vlm/1", "tests/small-dino/1",
)  # fmt: skip


def run(kind: str, lines: str, folder: Path) -> str:
    command = ["bash", "-euc", lines] if kind == "curl" else [sys.executable, "-c", lines]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(kind: str, output: str):
    return json.loads(output) if kind == "curl" else ast.literal_eval(output)


@pytest.mark.parametrize("kind", ["curl", "python"])
def test_the_lines_get_the_answer_that_the_page_got(visit, sample, kind):
    here = visit(FACE)
    with here.page.expect_response("**/infer/keypoints_detection") as got:
        here.page.click("#ask")
    here.settled()
    answer = told(kind, run(kind, here.page.inner_text(f"#{kind}"), sample.parent))
    (mine,), (theirs,) = answer["predictions"], got.value.json()["predictions"]
    assert {**mine, "detection_id": 0} == {**theirs, "detection_id": 0}


@pytest.mark.parametrize("kind", ["curl", "python"])
def test_the_lines_of_a_model_that_writes_get_its_words(visit, sample, kind):
    here = visit(WRITER)
    here.page.get_by_label("Most tokens").fill("12")
    here.page.click("#ask")
    here.page.locator("#status", has_text="Written").wait_for()
    output = run(kind, here.page.inner_text(f"#{kind}"), sample.parent)
    if kind == "curl":
        events = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("data: {")]
        output = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert output.strip() == here.page.evaluate("document.getElementById('said').textContent").strip()


# ---- exactly what was sent -------------------------------------------------------------------------------------------


@pytest.fixture
def recorder():
    """``(url, requests)``: a server that answers nothing and keeps (path, headers, body) of what comes."""
    kept = []

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802  http.server's name
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.append((self.path, self.headers, json.loads(body)))
            streams = self.path.endswith("completions")
            answer = b"data: [DONE]\n\n" if streams else b"{}"
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kept
    server.shutdown()
    server.server_close()


def settings_of_all_kinds(page):
    page.click("#more summary")
    page.get_by_label("Suppress across classes").check()
    page.get_by_label("Most boxes").fill("7")


def odd_texts(page):
    page.fill("#texts", "it's a \"cat\" \\ 100%\n{picture} $HOME `ls` 猫 🐈")


def points_and_a_box(page):
    page.fill("#prompt", "220, 140\nnot 60, 300.5\nbox 10, 20, 200, 240")


def a_question(page):
    page.fill("#question", "What's \"this\"?\nTell me: 100 %\\n")
    page.click("#more summary")
    page.get_by_label("Top k").fill("5")
    page.get_by_label("Seed").fill("3")


def words(page):
    page.fill("#classes", "l'éléphant")


def refuse_questions(route):
    route.fulfill(status=418) if route.request.method == "POST" else route.continue_()


@pytest.mark.parametrize(
    ("model", "change"),
    [(BOXES, settings_of_all_kinds), (TOWERS, odd_texts), (SAM, points_and_a_box), (WRITER, a_question),
     (WORDS, words)],
)  # fmt: skip
def test_the_lines_send_exactly_what_the_page_sends(visit, recorder, tmp_path, photo, server_url, model, change):
    url, kept = recorder
    name = "it's a $(photo) \"1\".png"
    (tmp_path / name).write_bytes(photo)
    here = visit(model)
    here.page.route(lambda url: "/static/" not in url, refuse_questions)
    here.page.set_input_files("#file", tmp_path / name)
    here.page.get_by_text(name).first.wait_for()
    change(here.page)
    here.page.wait_for_timeout(400)
    here.settled()
    here.page.click("#ask")
    here.settled()
    sent = here.questions()[-1]
    for kind in ("curl", "python"):
        run(kind, here.page.inner_text(f"#{kind}").replace(server_url, url), tmp_path)
        path, headers, body = kept.pop()
        assert (path, body) == (sent.url.removeprefix(server_url), sent.post_data_json), kind
        assert headers["Content-Type"] == "application/json"


def test_where_a_file_says_everything_the_curl_line_is_one(visit, sample):
    line = visit(BOXES).page.inner_text("#curl")
    assert "\n" not in line and "-F 'file=@astronaut.png'" in line and "/coco/3" in line
    assert "predictions" in json.loads(run("curl", line, sample.parent))


def test_the_copy_button_copies_them(visit):
    here = visit(FACE)
    here.context.grant_permissions(["clipboard-read", "clipboard-write"])
    here.page.get_by_role("button", name="Copy the curl command").click()
    here.page.get_by_role("button", name="Copied").wait_for()
    assert here.page.evaluate("navigator.clipboard.readText()") == here.page.locator("#curl").text_content()
