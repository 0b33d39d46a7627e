"""Qwen's prompts: pictures of any size, positions of three axes, texts stay texts, what cannot be said is refused.

That they are the library's own is proven beside the library, in tests/exporters/test_qwen_vl.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vlm import qwen_vl

SPECIAL = {token: id for id, token in enumerate([
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
])}  # fmt: skip
OPTIONS = {
    "patch": 4, "merge": 2, "window": 4, "table": 0, "deep": 0, "min_pixels": 256, "max_pixels": 9216,
    "image_token": SPECIAL["<|image_pad|>"], "end_ids": [2, 0], "context": 600, "system": "You help.",
    "only_users_show": False,
}  # fmt: skip
THIRD = OPTIONS | {"window": 0, "table": 8, "deep": 2, "system": "", "only_users_show": True}
PICTURE = {"type": "image"}


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture(scope="module", params=[OPTIONS, THIRD], ids=["qwen2.5", "qwen3"])
def options(request):
    return request.param


@pytest.fixture(scope="module")
def reader(options, tokenizer):
    return qwen_vl.Reader(options, tokenizer)


def says(*parts, role="user"):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def written(tokenizer, ids):
    return tokenizer.decode([id for id in ids.tolist() if id != SPECIAL["<|image_pad|>"]], skip_special_tokens=False)


def test_a_question_is_written_as_the_chat_template_has_it(reader, tokenizer, options):
    begin = "<|im_start|>system\nYou help.<|im_end|>\n" if options["system"] else ""
    ids = reader.read([says("Look: ", PICTURE, "What?")], [(16, 16)]).input_ids
    assert ids.dtype == np.int64 and ids.ndim == 1 and (ids == SPECIAL["<|image_pad|>"]).sum() == 4
    assert written(tokenizer, ids) == (
        f"{begin}<|im_start|>user\nLook: <|vision_start|><|vision_end|>What?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_message_takes_the_place_of_the_default(reader, tokenizer):
    ids = reader.read([says("Be brief.", role="system"), says("Hello?")], []).input_ids
    assert written(tokenizer, ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n"
    )


@settings(max_examples=60, deadline=None)
@given(height=st.integers(11, 2000), width=st.integers(11, 2000))
def test_a_picture_has_as_many_tokens_as_units_within_the_bounds(reader, options, height, width):
    prompt = reader.read([says(PICTURE)], [(height, width)])
    inputs = reader.vision_inputs(np.full((height, width, 3), 200, np.uint8))
    count = int((prompt.input_ids == prompt.image_token).sum())
    pixels, places = inputs["pixels"], inputs["position_ids"]
    real = places[..., 0] >= 0
    assert real.sum() == 4 * count and pixels.shape[:-1] == places.shape[:-1] and pixels.dtype == np.uint8
    assert (np.abs(pixels[real].astype(int) - 200) <= 1).all()
    rows, columns = places[real].max(0) + 1
    assert options["min_pixels"] <= 64 * count
    assert 64 * count <= options["max_pixels"] or min(rows, columns) == 2, "a narrow picture keeps one row of units"
    assert rows * columns == 4 * count and len(np.unique(places[real], axis=0)) == 4 * count
    units = prompt.position_ids[1:, prompt.input_ids == prompt.image_token]
    assert (units.max(1) - units.min(1) + 1).tolist() == [rows // 2, columns // 2]


def test_the_patches_of_a_unit_follow_one_another():
    picture = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24, 1).repeat(3, 2)
    inputs = qwen_vl.vision_inputs(picture, THIRD)
    places = inputs["position_ids"][0]
    assert places[:8].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]
    for pixels, (row, column) in zip(inputs["pixels"][0], places, strict=True):
        patch = picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        np.testing.assert_array_equal(pixels.reshape(4, 4, 3), patch)


def test_windows_hold_neighbours_and_the_order_finds_each_unit():
    picture = np.random.default_rng(0).integers(0, 256, (5 * 8, 9 * 8, 3), dtype=np.uint8)
    inputs, plain = qwen_vl.vision_inputs(picture, OPTIONS), qwen_vl.vision_inputs(picture, OPTIONS | {"window": 0})
    assert inputs["pixels"].shape == (1, 6, 64, 48) and inputs["order"].shape == (1, 45)
    for name in ("pixels", "position_ids"):
        units = inputs[name].reshape(-1, 4, inputs[name].shape[-1])[inputs["order"][0]]
        np.testing.assert_array_equal(units.reshape(plain[name][0].shape), plain[name][0])
    for places in inputs["position_ids"][0]:
        inside = places[places[:, 0] >= 0]
        assert len(inside) and ((inside // 8) == inside[0] // 8).all(), "a window is 8 patches wide"


def test_learned_positions_are_weighted_by_their_distance():
    ids, weights = qwen_vl.between(3, 8, 8)
    assert ids.shape == weights.shape == (3, 8, 4) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)
    rows, columns = ((weights * part).sum(-1) for part in np.divmod(ids, 8))
    np.testing.assert_allclose(rows, np.repeat([[0], [3.5], [7]], 8, 1), atol=1e-5)
    np.testing.assert_allclose(columns, np.tile(np.arange(8), (3, 1)), atol=1e-5)
    assert qwen_vl.between(1, 1, 8)[0].tolist() == [[[0, 1, 8, 9]]]


def test_positions_go_on_after_the_longer_side_of_a_picture():
    ids = np.array([7, 5, 5, 5, 5, 5, 5, 8, 9, 5, 5, 7])
    found = qwen_vl.positions(ids, 5, [(2, 3), (2, 1)])
    assert found.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5, 6, 6, 8],
        [0, 1, 1, 1, 2, 2, 2, 4, 5, 6, 7, 8],
        [0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 6, 8],
    ]
    assert qwen_vl.positions(ids, 5, []) is None


def test_a_picture_of_low_detail_is_read_with_fewer_pixels(tokenizer):
    reader = qwen_vl.Reader(OPTIONS | {"max_pixels": 1_003_520, "context": 20_000}, tokenizer)
    counts = {}
    for detail in ("low", "high", "auto"):
        prompt = reader.read([says(PICTURE | {"detail": detail}, "What?")], [(1000, 1400)])
        inputs = reader.vision_inputs(np.zeros((1000, 1400, 3), np.uint8), detail)
        counts[detail] = int((prompt.input_ids == prompt.image_token).sum())
        assert inputs["order"].shape == (1, counts[detail])
    assert 64 * counts["low"] <= 512 * 512 < 64 * counts["high"] == 64 * counts["auto"]


def test_the_rows_of_a_deep_stack_are_injected_where_the_pictures_are(tokenizer):
    assert qwen_vl.Reader(OPTIONS, tokenizer).read([says(PICTURE)], [(9, 9)]).injections == {
        "inputs_embeds": "image_embeds"
    }
    assert qwen_vl.Reader(THIRD, tokenizer).read([says(PICTURE)], [(9, 9)]).injections == {
        "inputs_embeds": "image_embeds", "deepstack.0.embeds": "deepstack.0.embeds",
        "deepstack.1.embeds": "deepstack.1.embeds",
    }  # fmt: skip


@pytest.mark.attack("special tokens spelt in a prompt")
@pytest.mark.parametrize("word", ["<|image_pad|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>"])
def test_a_text_that_spells_a_special_token_is_a_text(reader, tokenizer, word):
    plain, spelled = (reader.read([says(f"a {text} b")], []).input_ids for text in ("x", word))
    assert (spelled == SPECIAL[word]).sum() == (plain == SPECIAL[word]).sum()
    assert word in tokenizer.decode(spelled.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize(
    ("messages", "sizes", "sentence"),
    [
        ([], [], "No message is the user's"),
        ([says("Hello", role="tool")], [], "'tool' is no role"),
        ([says()], [], "A message is empty"),
        ([says(" \n")], [], "The prompt is empty"),
        ([says("a", PICTURE)], [], "places for 1 pictures, 0 came"),
        ([says("word " * 2000)], [], "tokens long, the model reads less than 600"),
        ([says(*[PICTURE] * 8)], [(96, 96)] * 8, "tokens long, the model reads less than 600"),
        ([says(PICTURE)], [(1, 201)], "201 x 1 pixels is too narrow"),
    ],
)
def test_what_cannot_be_said_is_refused(reader, messages, sizes, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        reader.read(messages, sizes)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([says("a"), says("b", role="system")], "a system message at the beginning"),
        ([says(PICTURE, role="system"), says("a")], "pictures in the messages of the user only"),
        ([says("a"), says(PICTURE, role="assistant"), says("b")], "pictures in the messages of the user only"),
    ],
)
def test_what_qwen3s_template_would_leave_out_is_refused(tokenizer, messages, sentence):
    sizes = [(9, 9)] * any(PICTURE in message["content"] for message in messages)
    with pytest.raises(InvalidParameter, match=sentence):
        qwen_vl.Reader(THIRD, tokenizer).read(messages, sizes)
    qwen_vl.Reader(OPTIONS, tokenizer).read(messages, sizes)
