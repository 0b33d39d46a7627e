"""The text of a line: what the networks are asked, what a caller gets, and what is refused."""

import io
import json

import numpy as np
import pytest
import tokenizers
from PIL import Image
from tokenizers import decoders, models, pre_tokenizers

from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.python_backend.compositions import line_text
from tritonvision.python_backend.compositions.line_text import TASK, Composition, frame
from tritonvision.tasks import resolve

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "Total", "Ġ42", "Ġâ", "Ĥ", "¬"]  # the last three are one euro sign
SIDE, LAYERS, POSITIONS = 32, 2, 40
CHECKPOINT = {
    "start": 2, "ends": [2], "most": 6, "beams": 1, "length_penalty": 1.0, "early_stopping": False, "no_repeat": 0,
    "first": None, "last": [],
}  # fmt: skip


def vocabulary():
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(WORDS)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.add_special_tokens(WORDS[:4])
    return tokenizer.to_str().encode()


class Networks:
    """An encoder that keeps what it saw, and a decoder that writes ``script`` whatever that was."""

    def __init__(self, script):
        self.script = script
        self.asked = []
        self.pixels = None

    def __call__(self, role, inputs, outputs):
        self.asked.append(role)
        if role == "encoder":
            self.pixels = inputs["pixels"]
            return {name: np.zeros((1, 2, 5, 3), np.float32) for name in outputs}
        rows, past = len(inputs["input_ids"]), inputs["past_key_values.0.key"].shape[2]
        logits = np.zeros((rows, len(WORDS)), np.float32)
        logits[:, self.script[past % len(self.script)]] = 9
        present = np.zeros((rows, 2, past + 1, 3), np.float32)
        return {name: logits if name == "logits" else present for name in outputs}


def composition(script, **checkpoint):
    networks = Networks(script)
    assets = {"tokenizer.json": vocabulary(), "search.json": json.dumps(CHECKPOINT | checkpoint).encode()}
    options = {"side": SIDE, "layers": LAYERS, "positions": POSITIONS, "assets": assets}
    return networks, Composition(networks, options)


def png(picture, **options):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", **options)
    return stream.getvalue()


def ask(asked, picture=None, **given):
    image = png(np.full((20, 90, 3), 240, np.uint8)) if picture is None else picture
    return asked.answer({"image": image}, resolve(TASK.parameters, given))


@pytest.mark.parametrize("beams", [1, 3])
def test_the_tokens_are_said_as_text_without_the_special_ones(beams):
    networks, asked = composition([4, 5, 6, 7, 8, 2])
    got = ask(asked, num_beams=beams)
    assert got["token_ids"].tolist() == [4, 5, 6, 7, 8, 2] and got["token_ids"].dtype == np.int64
    assert got["text"].tolist() == ["Total 42 €".encode()]
    assert got["image_size"].tolist() == [20, 90] and got["image_size"].dtype == np.int32
    assert networks.asked.count("encoder") == 1 and networks.asked.count("decoder") == 6


def test_a_network_that_never_ends_is_cut_where_the_checkpoint_or_the_caller_says():
    assert len(ask(composition([4, 5])[1])["token_ids"]) == CHECKPOINT["most"]
    assert len(ask(composition([4, 5])[1], max_new_tokens=11)["token_ids"]) == 11


def test_what_the_checkpoint_wants_holds_unless_the_caller_says_otherwise():
    networks, asked = composition([4], no_repeat=2, beams=2, first=5)
    assert ask(asked, max_new_tokens=2)["token_ids"].tolist() == [5, 4]
    assert ask(asked, max_new_tokens=2, num_beams=1)["token_ids"].tolist() == [5, 4]


def test_the_encoder_sees_the_whole_picture_stretched():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (31, 200, 3), dtype=np.uint8)
    networks, asked = composition([2])
    ask(asked, png(picture))
    assert networks.pixels.shape == (1, SIDE, SIDE, 3) and networks.pixels.dtype == np.uint8
    np.testing.assert_array_equal(networks.pixels[0], frame(picture, SIDE))
    assert np.abs(networks.pixels[0].mean((0, 1)) - picture.mean((0, 1))).max() < 3


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (2000, 1), (40, 40)])
def test_pictures_of_nothing_are_answered(value, size):
    networks, asked = composition([4, 2])
    got = ask(asked, png(np.full((*size, 3), value, np.uint8)))
    assert got["text"][0] == b"Total" and got["image_size"].tolist() == list(size)
    assert (networks.pixels == value).all()


def test_a_silent_network_says_nothing():
    got = ask(composition([2])[1])
    assert got["text"].tolist() == [b""] and got["token_ids"].tolist() == [2]


@pytest.mark.parametrize("data", [b"", b"no picture", png(np.zeros((4, 4, 3), np.uint8))[:40]])
def test_what_is_no_picture_is_refused(data):
    networks, asked = composition([2])
    with pytest.raises(InvalidPicture):
        ask(asked, data)
    assert not networks.asked


def test_more_tokens_than_the_decoder_has_positions_are_refused_before_anything_is_computed():
    networks, asked = composition([4])
    assert len(ask(asked, max_new_tokens=POSITIONS)["token_ids"]) == POSITIONS
    networks.asked.clear()
    with pytest.raises(InvalidParameter, match="at most 40 tokens, not 41") as caught:
        ask(asked, max_new_tokens=POSITIONS + 1)
    assert "max_new_tokens" in caught.value.hint and not networks.asked


@pytest.mark.parametrize(
    "given", [{"max_new_tokens": 513}, {"max_new_tokens": 0}, {"num_beams": 17}, {"num_beams": 0}, {"prompt": "x"}]
)
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(InvalidParameter):
        ask(composition([4])[1], **given)


def test_the_task_is_the_one_of_the_catalogue():
    assert line_text.TASK.name == "text-only-ocr"
