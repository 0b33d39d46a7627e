"""Models that write places, on the real tritonserver: masks beside PaliGemma's text, Moondream2's boxes as its text.

Both have every part at a reduced size and random weights; the PaliGemma among them says codes of masks only.
"""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from tritonvision.engine.engine import Engine
from tritonvision.errors import InvalidParameter
from tritonvision.grounding import parse
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
