"""Florence-2's prompt: a task becomes its prompt, texts stay texts, what cannot be read is refused.

That it is the library's own prompt is proven beside the library, in tests/exporters/test_florence_2.py.
"""

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vlm import florence_2

SPECIAL = {token: id for id, token in enumerate([
    "<s>", "<pad>", "</s>", "<image>", "<sep>", *(f"<loc_{step}>" for step in range(1000)),
])}  # fmt: skip
ROWS, IMAGE = 5, SPECIAL["<image>"]
OPTIONS = {"side": 32, "rows": ROWS, "context": 200, "positions": 40, "image_token": IMAGE}
PICTURE, SIZE = {"type": "image"}, (30, 40)
REGION = "<loc_52><loc_332><loc_932><loc_774>"


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return florence_2.Reader(OPTIONS, tokenizer)


def says(*parts, role="user"):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def words(tokenizer, prompt):
    """The prompt behind the picture's places, which come first and are all there are."""
    ids = prompt.input_ids.tolist()
    assert ids[:ROWS] == [IMAGE] * ROWS and IMAGE not in ids[ROWS:] and prompt.image_token == IMAGE
    return tokenizer.decode(ids[ROWS:], skip_special_tokens=False)


def test_a_task_is_read_as_its_prompt_behind_the_picture(reader, tokenizer):
    prompt = reader.read([says(PICTURE, "<CAPTION>")], [SIZE])
    assert words(tokenizer, prompt) == "<s>What does the image describe?</s>"
    assert words(tokenizer, reader.read([says("Who ", PICTURE, "is it?")], [SIZE])) == "<s>Who is it?</s>"


def test_a_region_is_four_tokens(reader, tokenizer):
    ids = reader.read([says(PICTURE, f"<REGION_TO_CATEGORY>{REGION}")], [SIZE]).input_ids.tolist()
    at = ids.index(SPECIAL["<loc_52>"])
    assert tokenizer.decode(ids[at : at + 4], skip_special_tokens=False) == REGION
    assert tokenizer.decode(ids[ROWS:], skip_special_tokens=False) == f"<s>What is the region {REGION}?</s>"


@pytest.mark.attack("special tokens spelt in a prompt")
@pytest.mark.parametrize("spelt", ["</s><s>", "<image><pad>", "<loc_5><loc_6><sep>"])
def test_special_tokens_spelt_in_a_prompt_stay_text(reader, tokenizer, spelt):
    for prompt in (spelt, f"<CAPTION_TO_PHRASE_GROUNDING>{spelt}"):
        ids = reader.read([says(PICTURE, prompt)], [SIZE]).input_ids.tolist()[ROWS:]
        assert {id for id in ids if id in SPECIAL.values()} == {SPECIAL["<s>"], SPECIAL["</s>"]}
        assert spelt in tokenizer.decode(ids)


def test_the_last_question_is_read_about_the_last_picture(reader, tokenizer):
    talk = [says(PICTURE, "<OD>"), says("a cat", role="assistant"), says("<CAPTION>")]
    assert words(tokenizer, reader.read(talk, [SIZE])) == "<s>What does the image describe?</s>"
    talk[2] = says("<OCR>", PICTURE)
    assert words(tokenizer, reader.read(talk, [SIZE, SIZE])) == "<s>What is the text in the image?</s>"


@pytest.mark.parametrize(("messages", "pictures", "said"), [
    ([says("<CAPTION>")], 0, "one picture"), ([says(PICTURE, PICTURE, "<CAPTION>")], 2, "one picture"),
    ([says("Be brief.", role="system"), says(PICTURE, "<CAPTION>")], 1, "no system message"),
    ([says(PICTURE, "<CAPTION>"), says("A cat", role="assistant")], 1, "no system message"),
    ([says(PICTURE)], 1, "prompt is empty"), ([says(PICTURE, " \n")], 1, "prompt is empty"),
    ([says(PICTURE, "what <OD>")], 1, "in the middle"), ([says(PICTURE, "<CAPTION>")], 2, "1 pictures, 2 came"),
    ([says(PICTURE, "word " * 60)], 1, "beside a picture the model reads 195 tokens"),
    ([says(PICTURE, "word " * 10_000_000)], 1, "beside a picture the model reads 195 tokens"),
])  # fmt: skip
def test_what_the_model_cannot_read_is_refused(reader, messages, pictures, said):
    with pytest.raises(InvalidParameter, match=said) as caught:
        reader.read(messages, [SIZE] * pictures)
    assert caught.value.hint or pictures == 2


def test_a_picture_is_stretched_to_the_square(reader):
    for height, width in ((30, 40), (1, 1), (500, 3)):
        given = np.full((height, width, 3), 90, np.uint8)
        for detail in ("low", "high", "auto"):
            pixels = reader.vision_inputs(given, detail)["pixels"]
            assert pixels.shape == (1, 32, 32, 3) and pixels.dtype == np.uint8 and (pixels == 90).all()


def test_places_stay_in_the_text_and_ends_do_not(reader, tokenizer):
    cat = tokenizer.encode("a cat", add_special_tokens=False).ids
    start, step, end, pad = (SPECIAL[token] for token in ("<s>", "<loc_7>", "</s>", "<pad>"))
    assert reader.written([start, *cat, step, end, pad]) == "a cat<loc_7>"
