"""Models that write places, on the real tritonserver: masks beside PaliGemma's text, Moondream2's boxes as its text.

Both have every part at a reduced size and random weights; the PaliGemma among them says codes of masks only.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tritonvision import cli
from tritonvision.engine.engine import Engine
from tritonvision.errors import InvalidParameter
from tritonvision.grounding import Grounded, parse
from tritonvision.pictures import decode
from tritonvision.server import Embedded
from tritonvision.settings import Settings

PALIGEMMA, MOONDREAM = "tests/small-paligemma/1", "tests/small-moondream/1"


def asks(text, pictures=1):
    return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def run(served_repository, tmp_path_factory):
    """Runs ``work(ask)`` beside one server; ``ask(model, messages, pictures, most)`` gives the pieces of an answer."""
    settings = Settings(
        repository=served_repository, log_dir=tmp_path_factory.mktemp("log"), export_missing=False
    )  # fmt: skip
    embedded = Embedded(settings)
    embedded.start()

    def run(work):
        async def main():
            engine = Engine(settings, embedded)
            await engine.start()

            async def ask(model, messages, pictures, most):
                return [delta async for delta in engine.chat(model, messages, pictures, {"max_new_tokens": most})]

            try:
                return await work(ask)
            finally:
                await engine.close()

        return asyncio.run(main())

    yield run
    embedded.stop()


def test_the_masks_that_an_answer_spells_come_with_its_end(run, photo):
    async def work(ask):
        return await asyncio.gather(
            ask(PALIGEMMA, asks("segment cat"), [photo], 16), ask(PALIGEMMA, asks("caption en"), [photo], 5)
        )

    segmented, described = run(work)
    assert "".join(delta.text for delta in segmented).count("<seg") == 16
    assert [delta.masks for delta in segmented[:-1]] == [None] * (len(segmented) - 1)
    masks = segmented[-1].masks
    assert masks.shape == (1, 64, 64) and masks.dtype == np.uint8 and 0 < (masks >= 128).mean() < 1
    assert all(delta.masks is None for delta in described)


def test_a_model_of_single_prompts_refuses_the_rest(run):
    async def work(ask):
        with pytest.raises(InvalidParameter, match="about pictures only"):
            await ask(PALIGEMMA, asks("Who are you?", 0), [], 5)

    run(work)


def test_boxes_and_words_of_one_picture_side_by_side(run, photo):
    async def work(ask):
        cases = [asks("detect: person"), asks("What is this?"), asks("point: face")]
        alone = [await ask(MOONDREAM, case, [photo], 12) for case in cases]
        return alone, await asyncio.gather(*(ask(MOONDREAM, case, [photo], 12) for case in cases))

    alone, together = run(work)
    texts = [["".join(delta.text for delta in answer) for answer in answers] for answers in (alone, together)]
    assert texts[0] == texts[1]
    boxes, words, points = texts[0]
    assert len(json.loads(boxes)["objects"]) == 4 and len(json.loads(points)["points"]) == 6
    assert words and not words.startswith("{")
    assert parse("moondream", points, 1, 1)[0].phrase == "face"


@pytest.mark.parametrize(("text", "what"), [("detect: person", "box"), ("point: face", "point")])
def test_places_are_told_by_the_route_and_drawn_by_predict(server_url, photo, tmp_path, text, what):
    """As the text has them, over HTTP: fractions from the route, pixels and a picture from the command line."""
    name, picture = text.split()[1], tmp_path / "photo.png"
    picture.write_bytes(photo)
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    body = {"model": MOONDREAM, "messages": [{"role": "user", "content": content}], "max_tokens": 12, "places": True}
    message = httpx.post(f"{server_url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]["message"]
    (place,) = message["places"]
    (want,) = parse("moondream", message["content"], 1, 1)
    assert Grounded.from_dict(place) == want and place["phrase"] == name

    command = ["predict", MOONDREAM, str(picture), "--text", text, "--max-tokens", "12", "--url", server_url]
    done = CliRunner().invoke(cli.app, [*command, "--json", "--save", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    told = [one[what] for one in found["predictions"]]
    pixels = [[side * 512 for side in shape] for shape in (want.boxes or want.points)]
    assert len(told) == len(pixels) >= 3 and found["text"] == message["content"]
    np.testing.assert_allclose(told, pixels, atol=0.01)
    drawn = decode(Path(found["saved"]).read_bytes())
    before = decode(photo)[..., :3]
    changed = (drawn != before).any(axis=2)
    columns, rows = np.clip(np.array(told)[:, :2].astype(int).T, 0, 511)
    assert changed[rows, columns].all() and changed.mean() < 0.9
