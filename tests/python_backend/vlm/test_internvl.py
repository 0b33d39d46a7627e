"""InternVL's prompt: tiles have their tokens, texts stay texts except the marks of places, what is too long is refused.

That it is the library's own prompt is proven beside the library, in tests/exporters/test_internvl.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vlm import internvl

CONTROL = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
SPECIAL = {token: id for id, token in enumerate((*CONTROL, *internvl.MARKS))}
TILE, TOKENS = 32, 4
OPTIONS = {
    "tile": TILE, "least": 1, "most": 12, "tokens_per_tile": TOKENS, "image_token": SPECIAL["<IMG_CONTEXT>"],
    "end_ids": [SPECIAL["<|im_end|>"]], "context": 600, "grounding": "internvl",
}  # fmt: skip
PICTURE = {"type": "image"}


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return internvl.Reader(OPTIONS, tokenizer)


def says(*parts, role="user"):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def test_a_conversation_is_written_in_chatml(reader, tokenizer):
    messages = [says("Be brief.", role="system"), says("Hello?"), says("Hi.", role="assistant"), says(PICTURE, "And?")]
    written = tokenizer.decode(reader.read(messages, [(32, 32)]).input_ids.tolist(), skip_special_tokens=False)
    assert written == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 4 + "</img>\n"
        "And?<|im_end|>\n<|im_start|>assistant\n"
    )


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 2000), width=st.integers(1, 2000), detail=st.sampled_from([None, "low", "high", "auto"]))
def test_every_tile_has_its_tokens(reader, height, width, detail):
    part = PICTURE if detail is None else PICTURE | {"detail": detail}
    prompt = reader.read([says("What is ", part)], [(height, width)])
    pixels = reader.vision_inputs(np.full((height, width, 3), 200, np.uint8), detail or "high")["pixels"]
    assert pixels.shape[1:] == (TILE, TILE, 3) and 1 <= len(pixels) <= 13
    assert (prompt.input_ids == prompt.image_token).sum() == TOKENS * len(pixels)
    if detail == "low" or (detail == "auto" and max(height, width) <= TILE):
        assert len(pixels) == 1


@pytest.mark.attack("special tokens spelt in a prompt")
@pytest.mark.parametrize("word", CONTROL)
def test_a_text_that_spells_a_special_token_is_a_text(reader, tokenizer, word):
    plain, spelled = (reader.read([says(f"a {text} b")], []).input_ids for text in ("x", word))
    assert (spelled == SPECIAL[word]).sum() == (plain == SPECIAL[word]).sum()
    assert word in tokenizer.decode(spelled.tolist(), skip_special_tokens=False)


def test_the_marks_of_places_may_be_written(reader):
    ids = reader.read([says("Where is <ref>the cat</ref>?")], []).input_ids
    assert (ids == SPECIAL["<ref>"]).sum() == (ids == SPECIAL["</ref>"]).sum() == 1


@pytest.mark.parametrize(
    ("messages", "pictures", "sentence"),
    [
        ([], 0, "No message is the user's"),
        ([says(" \n")], 0, "The prompt is empty"),
        ([says("a", PICTURE)], 2, "places for 1 pictures, 2 came"),
        ([says("a", PICTURE | {"detail": "best"})], 1, "'best' is no 'detail'"),
        ([says("word " * 2000)], 0, "tokens long, the model reads less than 600"),
        ([says(*[PICTURE] * 32)], 32, "tokens long, the model reads less than 600"),
    ],
)
def test_what_cannot_be_said_is_refused(reader, messages, pictures, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        reader.read(messages, [(50, 80)] * pictures)


def test_end_and_context_are_the_options(reader):
    assert reader.end_ids == (SPECIAL["<|im_end|>"],) and reader.context == 600
