"""NVILA's prompt: the one picture is cut, several are seen whole; which patches of three scales are merged.

That it is the author's prompt is proven beside the reference, in tests/exporters/test_nvila.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.python_backend.vlm import nvila

SPECIAL = {token: id for id, token in enumerate(["<|im_start|>", "<|im_end|>", "<image>"])}
TILE, PATCHES = 32, 8
LITE = {
    "tile": TILE, "patches": PATCHES, "shuffle": 3, "scales": 1, "image_token": SPECIAL["<image>"],
    "end_ids": [SPECIAL["<|im_end|>"]], "context": 4000,
}  # fmt: skip
MERGED = LITE | {"shuffle": 2, "scales": 3}
PICTURE = {"type": "image"}


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture(scope="module")
def lite(tokenizer):
    return nvila.Reader(LITE, tokenizer)


@pytest.fixture(scope="module")
def merged(tokenizer):
    return nvila.Reader(MERGED, tokenizer)


def says(*parts, role="user"):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def written(tokenizer, prompt):
    return tokenizer.decode(prompt.input_ids.tolist(), skip_special_tokens=False)


def flat(height, width):
    return np.full((height, width, 3), 200, np.uint8)


def test_a_conversation_without_a_system_message_gets_the_authors(lite, tokenizer):
    text = written(tokenizer, lite.read([says("Hello?")], []))
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "helpful" not in written(tokenizer, lite.read([says("Brief.", role="system"), says("Hello?")], []))


def test_every_tile_of_the_one_picture_ends_a_line_twice_and_a_view_once(lite, tokenizer):
    view = "<image>" * 9 + "\n"
    cut = written(tokenizer, lite.read([says(PICTURE, "And?")], [(32, 64)]))
    assert f"user\n{(view + chr(10)) * 3}And?" in cut
    low = written(tokenizer, lite.read([says(PICTURE | {"detail": "low"}, "And?")], [(32, 64)]))
    assert f"user\n{view}And?" in low
    two = written(tokenizer, lite.read([says(PICTURE, PICTURE, "And?")], [(32, 64)] * 2))
    assert f"user\n{view}{view}And?" in two


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700))
def test_every_tile_has_its_tokens(lite, merged, height, width):
    for reader, each in ((lite, 9), (merged, 16)):
        prompt = reader.read([says(PICTURE)], [(height, width)])
        inputs = reader.vision_inputs(flat(height, width), *prompt.details)
        blocks = len(inputs["pixels"]) if reader is lite else inputs["places"].shape[1]
        assert (prompt.input_ids == prompt.image_token).sum() == each * blocks
        if reader is merged:
            assert inputs["pixels"].shape[1] == 1 + 4 + blocks and 9 <= blocks <= 12
            assert sorted(inputs["order"][0].tolist()) == list(range(each * blocks))


def test_of_several_pictures_each_is_one_view(lite, merged):
    for reader in (lite, merged):
        assert reader.read([says(PICTURE, PICTURE | {"detail": "high"})], [(300, 200)] * 2).details == ("low", "low")
        assert reader.read([says(PICTURE | {"detail": "auto"})], [(300, 200)]).details == ("high",)
        assert reader.read([says(PICTURE | {"detail": "auto"})], [(30, 20)]).details == ("low",)


def test_patches_are_merged_with_those_that_lie_under_them(merged):
    """The mean of the patches that ``places`` names is the interpolation by area, on the author's smaller scales."""
    inputs = merged.vision_inputs(flat(96, 96))
    places = inputs["places"][0]
    assert places.shape == (9, PATCHES**2, 12) and places.max() == 14 * PATCHES**2 - 1
    value = np.arange(14 * PATCHES**2, dtype=float)
    last = value[places[..., 8:]].mean(-1)
    np.testing.assert_array_equal(last, value[5 * 64 :].reshape(9, 64))  # its own tiles, as they are
    first = value[places[..., :4]].mean(-1).reshape(3, 3, 8, 8).swapaxes(1, 2).reshape(24, 24)
    np.testing.assert_array_equal(first, np.repeat(np.repeat(value[:64].reshape(8, 8), 3, 0), 3, 1))


def test_one_view_is_that_of_every_scale(merged):
    inputs = merged.vision_inputs(flat(96, 96), "low")
    assert inputs["pixels"].shape == (1, 1, TILE, TILE, 3) and inputs["order"].tolist() == [list(range(16))]
    assert (inputs["places"][0, 0] == np.arange(64)[:, None]).all()


@pytest.mark.attack("special tokens spelt in a prompt")
@pytest.mark.parametrize("word", SPECIAL)
def test_a_text_that_spells_a_special_token_is_a_text(lite, tokenizer, word):
    plain, spelled = (lite.read([says(f"a {text} b")], []).input_ids for text in ("x", word))
    assert (spelled == SPECIAL[word]).sum() == (plain == SPECIAL[word]).sum()
    assert word in tokenizer.decode(spelled.tolist(), skip_special_tokens=False)
