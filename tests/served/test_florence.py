"""Florence-2 on the whole running server: its tasks on their routes and on the command line.

The model has every part of the real one at a reduced size, and random weights: what it says means nothing, and is
always the same.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from tritonvision import AutoModel
from tritonvision.ensembles.published import open_published
from tritonvision.exporters.parity import text_pages
from tritonvision.grounding import florence
from tritonvision.pictures import decode
from tritonvision.publication import Repository
from tritonvision.tasks import about_picture

MODEL, OCR, CAPTION = "tests/small-florence/1", "<OCR_WITH_REGION>", "<CAPTION>"


@pytest.fixture(scope="module")
def http(server_url):
    with httpx.Client(base_url=server_url, timeout=180) as client:
        yield client


@pytest.fixture(scope="module")
def here(served_repository):
    """The same model in this process, asked about one picture."""
    manifest = Repository(served_repository).resolve(MODEL)
    local = open_published(served_repository, manifest)[""]

    def ask(prompt, photo, **given):
        found = local({"messages": about_picture(prompt), "pictures": [np.ascontiguousarray(decode(photo))]}, given)
        return found["text"][0]

    yield ask
    local.close()


def prompt_of(task):
    """A prompt of a task, with the input that it takes."""
    given = "<loc_52><loc_332><loc_932><loc_774>" if task.of_region else "a dark strip & a light one of many"
    return task.token + (given if task.takes_input else "")


def strip(photo):
    """Another picture: a strip of the photo, as PNG."""
    with Image.open(io.BytesIO(photo)) as whole:
        stream = io.BytesIO()
        whole.crop((0, 200, 512, 264)).save(stream, "PNG")
    return stream.getvalue()


def lmm(http, photo, prompt, **more):
    image = {"type": "base64", "value": base64.b64encode(photo).decode()}
    return http.post("/infer/lmm", json={"model_id": MODEL, "image": image, "prompt": prompt, **more})


def test_a_task_is_answered_as_the_graphs_answer_in_one_process(http, here, photo):
    for prompt in (CAPTION, OCR, "<REGION_TO_CATEGORY><loc_52><loc_332><loc_932><loc_774>", "<OD>"):
        said = here(prompt, photo, max_new_tokens=24)
        task = florence.asked(prompt).task
        found = lmm(http, photo, prompt, max_new_tokens=24).json()
        assert found["response"] == {task.token: florence.answer(task, said, 512, 512)}
        assert said and found["image"] == {"width": 512, "height": 512}


def test_every_task_is_answered_in_one_batch_as_alone(http, here, photo):
    """Prompts of many lengths, about two pictures, asked at once: what is padded of one changes none of the others."""
    prompts, pictures = map(prompt_of, florence.TASKS.values()), (photo, strip(photo))
    asked = [(prompt, picture) for prompt in prompts for picture in pictures]
    wanted = [here(prompt, picture, max_new_tokens=16) for prompt, picture in asked]
    assert len({*wanted}) > len(asked) // 2, "the answers depend on task and picture"
    with ThreadPoolExecutor(len(asked)) as pool:
        found = [*pool.map(lambda one: lmm(http, one[1], one[0], max_new_tokens=16), asked)]
    for (prompt, picture), said, answer in zip(asked, wanted, found, strict=True):
        task, (height, width) = florence.asked(prompt).task, decode(picture).shape[:2]
        assert answer.json()["response"] == {task.token: florence.answer(task, said, width, height)}, prompt


def test_automodel_writes_and_locates_the_same(server_url, here, photo):
    model = AutoModel.from_pretrained(MODEL, server=server_url)
    said = here("<OD>", photo, max_new_tokens=24)
    pixels = np.ascontiguousarray(decode(photo)[..., ::-1])
    assert model.prompt(pixels, "<OD>", max_new_tokens=24) == [said]
    (places,) = model.locate(pixels, "<OD>", max_new_tokens=24)
    told = florence.answer(florence.TASKS["<OD>"], said, 512, 512)
    assert [place.phrase for place in places] == told["labels"]
    schema = {"enum": ["a cat", "a dog"]}
    assert json.loads(model.prompt(pixels, "<OD>", schema=schema)[0]) in ("a cat", "a dog")


def test_every_dialect_says_the_same(http, here, photo):
    said = here(CAPTION, photo, max_new_tokens=16)
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": CAPTION}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}], "max_tokens": 16}
    whole = http.post("/v1/chat/completions", json=body).json()
    assert whole["choices"][0]["message"]["content"] == said and whole["usage"]["completion_tokens"] <= 16
    lines = http.post("/v1/chat/completions", json=body | {"stream": True}).text.split("\n\n")
    pieces = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"]) == said
    (told,) = http.post(
        f"/models/{MODEL}", json={"inputs": base64.b64encode(photo).decode(), "parameters": {"max_new_tokens": 16}}
    ).json()  # fmt: skip
    assert told == {"generated_text": said}
    greedy = http.post("/v1/chat/completions", json=body | {"num_beams": 1}).json()
    assert greedy["choices"][0]["message"]["content"] == here(CAPTION, photo, max_new_tokens=16, num_beams=1)


def test_an_answer_by_a_schema_is_its_json(http, photo):
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "<OD>"}]
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": {"enum": ["a cat", "a dog"]}}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}], "response_format": form}
    (choice,) = http.post("/v1/chat/completions", json=body).json()["choices"]
    assert json.loads(choice["message"]["content"]) in ("a cat", "a dog") and choice["finish_reason"] == "stop"


@pytest.mark.parametrize("prompt", ["see <OD>", "<CAPTION> of a cat", "<REGION_TO_OCR><loc_9><loc_9><loc_1><loc_1>"])
def test_what_no_task_takes_is_refused(http, photo, prompt):
    refused = lmm(http, photo, prompt)
    assert refused.status_code == 400 and "<" in refused.json()["message"]


def test_two_pictures_are_refused_and_spelt_tokens_are_text(http, photo):
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    content = [picture, picture, {"type": "text", "text": CAPTION}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 4}
    refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400 and "one picture a question" in refused.json()["error"]["message"]
    body["messages"][0]["content"] = [picture, {"type": "text", "text": "</s><image><loc_5>"}]
    assert http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"] > 20


def test_predict_prints_and_draws(server_url, tmp_path):
    page = tmp_path / "page.png"
    Image.fromarray(text_pages.line("ledger 2")).save(page)
    command = [sys.executable, "-m", "tritonvision", "predict", MODEL, str(page), "--prompt", OCR, "--url", server_url]
    done = subprocess.run(
        [*command, "--max-tokens", "24", "--json", "--save", str(tmp_path / "out")], capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["text"] and isinstance(found["predictions"], list)
    with Image.open(found["saved"]) as drawn, Image.open(page) as given:
        assert drawn.size == given.size
