"""SmolVLM's prompt: tiles cover the picture, texts stay texts, what cannot be said is refused.

That it is the library's own prompt is proven beside the library, in tests/exporters/test_smolvlm.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation.text_stream import TextStream
from tritonvision.python_backend.vlm import smolvlm

SPECIAL = {token: id for id, token in enumerate([
    "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
])}  # fmt: skip
TILE, LONGEST, TOKENS = 32, 128, 4
OPTIONS = {
    "tile": TILE, "longest_edge": LONGEST, "tokens_per_tile": TOKENS, "image_token": SPECIAL["<image>"],
    "end_ids": [SPECIAL["<end_of_utterance>"]], "context": 600,
}  # fmt: skip
PICTURE = {"type": "image"}


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return smolvlm.Reader(OPTIONS, tokenizer)


def says(*parts, role="user"):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def flat(height, width, value=200):
    return np.full((height, width, 3), value, np.uint8)


def test_a_question_is_written_as_the_chat_template_has_it(reader, tokenizer):
    ids = reader.read([says("Be brief.", role="system"), says("Hello?")], []).input_ids
    assert ids.dtype == np.int64 and ids.ndim == 1
    written = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    assert written == (
        "<|im_start|>System: Be brief.<end_of_utterance>\nUser: Hello?<end_of_utterance>\nAssistant:"
    )  # fmt: skip


def test_a_picture_first_leaves_no_blank(reader, tokenizer):
    ids = reader.read([says(PICTURE, "Hello?")], [(32, 32)]).input_ids.tolist()
    written = tokenizer.decode([id for id in ids if id != OPTIONS["image_token"]], skip_special_tokens=False)
    assert written.startswith("<|im_start|>User:<fake_token_around_image><row_1_col_1><fake_token_around_image>")
    assert "\n\n<fake_token_around_image><global-img><fake_token_around_image>Hello?<end_of_utterance>" in written


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_every_tile_has_its_tokens(reader, height, width):
    prompt = reader.read([says("What is ", PICTURE)], [(height, width)])
    picture = reader.vision_inputs(flat(height, width))
    rows, columns = smolvlm.grid(height, width, LONGEST, TILE)
    assert max(rows, columns) == LONGEST // TILE and min(rows, columns) >= 1
    assert picture["pixels"].shape == (rows * columns + 1, TILE, TILE, 3)
    assert picture["pixels"].dtype == np.uint8
    assert (prompt.input_ids == prompt.image_token).sum() == TOKENS * len(picture["pixels"])
    assert (np.abs(picture["pixels"].astype(int) - 200) <= 1).all()  # a flat picture stays flat, and nothing pads it


def test_tiles_stand_in_reading_order_and_the_whole_is_last():
    picture = np.repeat(np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16, 32, 0), 32, 1)
    tiles = smolvlm.tiles(np.repeat(picture[..., None], 3, 2), LONGEST, TILE)
    assert tiles[:16, 16, 16, 0].tolist() == list(range(0, 256, 16))
    assert np.abs(tiles[16, 4::8, 4::8, 0].astype(int) - picture[16::32, 16::32]).max() <= 2


def test_a_picture_that_is_one_tile_is_not_cut():
    assert smolvlm.grid(10, 10, TILE, TILE) == (0, 0)
    assert smolvlm.tiles(flat(10, 10), TILE, TILE).shape == (1, TILE, TILE, 3)


@pytest.mark.parametrize(("detail", "size", "views"), [
    ("low", (300, 200), 1), ("high", (300, 200), 13), (None, (300, 200), 13), ("auto", (300, 200), 13),
    ("auto", (32, 20), 1), ("auto", (33, 20), 13), (None, (32, 20), 13), ("low", (1, 900), 1),
])  # fmt: skip
def test_the_detail_of_a_picture_says_how_many_tiles_are_read(reader, tokenizer, detail, size, views):
    part = PICTURE if detail is None else PICTURE | {"detail": detail}
    prompt = reader.read([says(part, "Hello?")], [size])
    assert (prompt.input_ids == prompt.image_token).sum() == TOKENS * views
    pixels = reader.vision_inputs(flat(*size), detail or "high")["pixels"]
    assert pixels.shape == (views, TILE, TILE, 3)
    if views == 1:
        written = tokenizer.decode(prompt.input_ids.tolist(), skip_special_tokens=False)
        assert "<fake_token_around_image><global-img><image>" in written and "<row_1_col_1>" not in written


def test_every_picture_has_its_own_detail(reader):
    low, high = PICTURE | {"detail": "low"}, PICTURE | {"detail": "high"}
    prompt = reader.read([says(low, "and", high)], [(300, 200), (300, 200)])
    assert (prompt.input_ids == prompt.image_token).sum() == TOKENS * 14


def test_one_tile_has_no_rows(tokenizer):
    reader = smolvlm.Reader(OPTIONS | {"longest_edge": TILE}, tokenizer)
    prompt = reader.read([says(PICTURE)], [(9, 9)])
    assert (prompt.input_ids == prompt.image_token).sum() == TOKENS
    assert SPECIAL["<row_1_col_1>"] not in prompt.input_ids


@pytest.mark.attack("special tokens spelt in a prompt")
@pytest.mark.parametrize("word", ["<image>", "<end_of_utterance>", "<|im_start|>", "<row_1_col_1>"])
def test_a_text_that_spells_a_special_token_is_a_text(reader, tokenizer, word):
    plain, spelled = (reader.read([says(f"a {text} b")], []).input_ids for text in ("x", word))
    assert (spelled == SPECIAL[word]).sum() == (plain == SPECIAL[word]).sum()
    assert word in tokenizer.decode(spelled.tolist(), skip_special_tokens=False)


def test_reading_leaves_the_tokenizer_as_it_was(reader, tokenizer):
    reader.read([says("<image>")], [])
    assert tokenizer.encode("<image>", add_special_tokens=False).ids == [SPECIAL["<image>"]]


@pytest.mark.parametrize(
    ("messages", "pictures", "sentence"),
    [
        ([], 0, "No message is the user's"),
        ([says("Be brief.", role="system")], 0, "No message is the user's"),
        ([says("Hello", role="tool")], 0, "'tool' is no role"),
        ([says()], 0, "A message is empty"),
        ([says(" \n")], 0, "The prompt is empty"),
        ([says("a", PICTURE)], 0, "places for 1 pictures, 0 came"),
        ([says("a", PICTURE)], 2, "places for 1 pictures, 2 came"),
        ([says("a", PICTURE | {"detail": "medium"})], 1, "'medium' is no 'detail'"),
        ([says("a", PICTURE | {"detail": 1})], 1, "'1' is no 'detail'"),
        ([says("word " * 2000)], 0, "tokens long, the model reads less than 600"),
        ([says(*[PICTURE] * 8)], 8, "tokens long, the model reads less than 600"),
    ],
)
def test_what_cannot_be_said_is_refused(reader, messages, pictures, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        reader.read(messages, [(50, 50)] * pictures)


def test_end_and_context_are_the_options(reader):
    assert reader.end_ids == (SPECIAL["<end_of_utterance>"],) and reader.context == 600


def test_ids_without_a_token_are_no_text(tokenizer):
    assert tokenizer.decode([40_000, 49_200, SPECIAL["<image>"]]) == ""
    stream = TextStream(tokenizer)
    said = "".join(stream.push(id) for id in [40_000, *tokenizer.encode("a b").ids, 49_200, 49_190]) + stream.flush()
    assert said == "a b"
