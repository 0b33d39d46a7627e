"""Open vocabulary: each picture and each text is encoded once; texts and examples find what is like them."""

import io

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge
from tritonvision.python_backend.compositions.open_vocabulary import TASK, Composition
from tritonvision.python_backend.images import padded_square, total
from tritonvision.python_backend.runtime.encoding_cache import SharedCache
from tritonvision.python_backend.vocabulary import example_queries, text_encodings
from tritonvision.tasks import resolve

HEIGHT, WIDTH, SIDE, CONTEXT = 60, 100, 32, 16
WORDS = ("red", "green", "blue", "cat")
AXES = np.eye(8, dtype=np.float32)
# Quarters of the padded square, and the whole of it.
BOXES = np.float32([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1], [0, 0, 1, 1]])


def vocabulary():
    """A word is a token; ids from 3."""
    words = {word: index for index, word in enumerate(("!", "<s>", "</s>", *WORDS, "<unk>"))}
    file = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    file.normalizer = tokenizers.normalizers.Lowercase()
    file.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return file.to_str().encode()


class Networks:
    """Stand-ins that remember what they were asked: a text is the axis of its first word, and of the five boxes of a
    picture the first three are that of the colour there, where it is bright, and all else is alike.
    """

    def __init__(self):
        self.asked = []

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, {name: value.copy() for name, value in inputs.items()}))
        if role == "text":
            return {"query_embeds": AXES[inputs["input_ids"][:, 1] - 3]}
        pixels = inputs["pixels"][0]
        embeds = np.tile(AXES[7] + 0.1 * AXES[6], (5, 1))
        for index, box in enumerate(BOXES[:3]):
            left, top, right, bottom = (box * SIDE).astype(int)
            mean = pixels[top:bottom, left:right].mean((0, 1))
            if mean.max() > 0.1:
                embeds[index] = 3 * AXES[mean.argmax()] + 0.1 * AXES[6]
        found = {
            "boxes": BOXES, "class_embeds": embeds.astype(np.float32), "shift": np.full(5, -0.5, np.float32),
            "scale": np.float32([40, 20, 10, 10, 10]),
        }  # fmt: skip
        return {name: found[name][None] for name in outputs}

    @property
    def roles(self):
        return [role for role, _ in self.asked]


def png(*colours, height=HEIGHT, width=WIDTH):
    """Upper left and upper right in one of the colours (0 red, 1 green, 2 blue) each, the rest black."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(colours):
        if colour is not None:
            pixels[: max(width, height) // 2, index * width // 2 : (index + 1) * width // 2, colour] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def make(networks, tmp_path):
    def make(model="m"):
        options = {"side": SIDE, "context": CONTEXT, "model": model, "assets": {"tokenizer.json": vocabulary()}}
        return Composition(networks, options, SharedCache(tmp_path / "cache"))

    return make


@pytest.fixture
def composition(make):
    return make()


def ask(composition, image=None, examples=None, **given_):
    sample = {"image": image or png(0, 1)}
    if examples is not None:
        sample["examples"] = np.array(examples, dtype=object)
    return composition.answer(sample, resolve(TASK.parameters, given_))


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def test_texts_find_their_boxes_in_pixels_of_the_picture(composition):
    found = ask(composition, texts=["green", "Red"])
    assert found["class_ids"].tolist() == [1, 0]
    # fractions of a square as wide as the picture; what lies in the padding is cut off
    np.testing.assert_allclose(found["boxes"], [[0, 0, 50, 50], [50, 0, 100, 50]], atol=1e-4)
    cosine = 3 / np.hypot(3, 0.1)
    np.testing.assert_allclose(found["scores"], sigmoid((cosine - 0.5) * np.array([40, 20])), rtol=1e-4)
    assert found["image_size"].tolist() == [HEIGHT, WIDTH]
    tall = ask(composition, png(0, None, height=100, width=60), texts=["red"])
    np.testing.assert_allclose(tall["boxes"], [[0, 0, 50, 50]], atol=1e-4)


def test_the_same_picture_with_other_texts_asks_the_text_network_only(composition, networks):
    ask(composition, texts=["red"])
    ask(composition, texts=["green"])
    assert sorted(networks.roles) == ["image", "text", "text"]


def test_a_text_that_was_asked_before_costs_no_network(composition, networks):
    first = ask(composition, texts=["red", "green"])
    again = ask(composition, texts=["green", " RED", "green"])  # the tokens of both are the same
    assert sorted(networks.roles) == ["image", "text"]
    assert first["class_ids"].tolist() == [0, 1]
    assert again["class_ids"].tolist() == [1, 0]


def test_new_texts_go_together_but_no_more_than_a_batch_holds(composition, networks):
    texts = [" ".join(["red"] * count) for count in range(1, 12)]
    ask(composition, texts=[*texts, *texts])
    assert [len(inputs["input_ids"]) for role, inputs in networks.asked if role == "text"] == [8, 3]


def test_texts_are_forgotten_in_the_order_they_were_asked(composition, networks, monkeypatch):
    monkeypatch.setattr(text_encodings, "_KEPT", 2)
    for texts in (["red"], ["green"], ["red"], ["blue"], ["red"], ["green"]):
        ask(composition, texts=texts)
    words = [int(inputs["input_ids"][0, 1]) - 3 for role, inputs in networks.asked if role == "text"]
    assert [WORDS[word] for word in words] == ["red", "green", "blue", "green"]


def test_a_picture_is_encoded_once_for_all_processes_and_anew_for_another_model(make, networks):
    for composition in (make(), make(), make("another")):
        ask(composition, texts=["red"])
    assert networks.roles.count("image") == 2


def test_the_network_reads_start_text_end_and_zeros(composition, networks):
    ask(composition, texts=["blue cat"])
    ((_, inputs),) = [asked for asked in networks.asked if asked[0] == "text"]
    assert inputs["input_ids"].tolist() == [[1, 5, 6, 2, *[0] * 12]] and inputs["input_ids"].dtype == np.int64
    assert networks.asked[1][1]["pixels"].dtype == np.float32
    assert networks.asked[1][1]["pixels"].shape == (1, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (None, "names no classes"),
        (["red", " "], "class 1 is empty"),
        (["cat"] * 10_000, "1000 classes, not 10000"),
        (["red", "cat " * 15], "class 1 is longer than 14 tokens"),
        (["cat" * 100_000], "class 0 is longer than 14 tokens"),
    ],
)
def test_texts_that_cannot_be_asked_are_refused_before_any_network(composition, networks, texts, sentence):
    with pytest.raises(InvalidParameter, match=sentence) as refused:
        ask(composition, texts=texts)
    assert refused.value.hint
    assert networks.asked == []


def test_a_text_of_as_many_tokens_as_there_are_is_asked(composition):
    ask(composition, texts=["cat " * 14])


def test_what_is_no_picture_is_refused(composition):
    with pytest.raises(InvalidPicture):
        ask(composition, b"nothing", texts=["red"])


# ---- examples --------------------------------------------------------------------------------------------------------

UPPER_LEFT, UPPER_RIGHT = [0, 0, 50, 50], [50, 0, 100, 50]


def test_examples_find_what_is_like_them(composition):
    found = ask(
        composition, png(2, 0), [png(0, 1), png(None, 2)], confidence=0.9, example_boxes=[UPPER_LEFT, UPPER_RIGHT],
        example_pictures=[0, 1], example_classes=[3, 1],
    )  # fmt: skip
    assert found["class_ids"].tolist() == [1, 3]
    np.testing.assert_allclose(found["boxes"], [UPPER_LEFT, UPPER_RIGHT], atol=1e-4)
    np.testing.assert_allclose(found["scores"], sigmoid(0.5 * np.array([40, 20])), rtol=1e-5)


def test_several_examples_of_a_class_count_as_the_one_that_is_most_alike(composition):
    boxes, pictures = [UPPER_LEFT, UPPER_RIGHT], [png(0, 1)]
    found = ask(composition, png(1, 0), pictures, confidence=0.9, example_boxes=boxes)
    assert found["class_ids"].tolist() == [0, 0]


def test_what_is_more_like_a_negative_example_is_not_found(composition):
    def found(classes, negatives):
        return ask(
            composition, png(1, 0), [png(0, 1)], confidence=0.9, example_classes=classes, example_negatives=negatives,
            example_boxes=[UPPER_LEFT, UPPER_RIGHT, UPPER_RIGHT],
        )  # fmt: skip

    assert len(found([0, 0, 0], None)["scores"]) == 2
    np.testing.assert_allclose(found([0, 0, 0], [0, 1, 1])["boxes"], [UPPER_RIGHT], atol=1e-4)
    assert found([0, 1, 0], [0, 0, 1])["class_ids"].tolist() == [1, 0]  # of one class, it says nothing of another


def test_a_picture_that_shows_several_examples_and_is_searched_is_encoded_once(composition, networks):
    ask(composition, png(0, 1), [png(0, 1)], example_boxes=[UPPER_LEFT, UPPER_RIGHT])
    ask(composition, png(0, 1), [png(0, 1)], example_boxes=[UPPER_LEFT])
    assert networks.roles == ["image"]


def test_a_picture_that_no_box_is_in_is_not_encoded(composition, networks):
    ask(composition, png(0, 1), [png(0, 1), b"nothing"], example_boxes=[UPPER_LEFT])
    assert networks.roles == ["image"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"example_boxes": None}, "without their boxes"),
        ({"example_boxes": []}, "without their boxes"),
        ({"examples": None}, "without their pictures"),
        ({"examples": None, "example_boxes": None, "example_classes": [0]}, "without their boxes"),
        ({"texts": ["red"]}, "not as both"),
        ({"example_pictures": [0]}, "2 example boxes, but 1 'example_pictures'"),
        ({"example_classes": [0, 1, 2]}, "2 example boxes, but 3 'example_classes'"),
        ({"example_negatives": []}, "2 example boxes, but 0 'example_negatives'"),
        ({"example_pictures": [0, 1]}, "of 1 pictures none is 1"),
        ({"example_classes": [0, 1000]}, "less than 1000"),
        ({"example_negatives": [0, 2]}, "must be 1"),
        ({"example_negatives": [1, 1]}, "what the classes are not"),
        ({"example_boxes": [UPPER_LEFT] * 1001}, "1000 boxes"),
        ({"examples": [png(0, 1)] * 33}, "32 pictures"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused_before_any_network(composition, networks, change, sentence):
    asked = {"examples": [png(0, 1)], "example_boxes": [UPPER_LEFT, UPPER_RIGHT], **change}
    with pytest.raises(InvalidParameter, match=sentence):
        ask(composition, **asked)
    assert networks.asked == []


def test_the_headers_of_all_pictures_are_read_before_the_first_is_encoded(composition, networks, monkeypatch):
    boxes = {"example_boxes": [UPPER_LEFT, UPPER_LEFT], "example_pictures": [0, 1]}
    with pytest.raises(InvalidPicture):
        ask(composition, png(0, 1), [png(0, 1), b"nothing"], **boxes)
    monkeypatch.setattr(total, "MOST_PIXELS", 3 * HEIGHT * WIDTH - 1)
    with pytest.raises(PictureTooLarge, match="together"):
        ask(composition, png(0, 1), [png(0, 1), png(1, 0)], **boxes)
    assert networks.asked == []
    monkeypatch.setattr(total, "MOST_PIXELS", 3 * HEIGHT * WIDTH)
    ask(composition, png(0, 1), [png(0, 1), png(1, 0)], **boxes)


@pytest.mark.parametrize("box", [[100, 0, 150, 50], [0, -9, 50, 0], [50, 0, 50, 50], [50, 50, 0, 0], [0, 61, 50, 90]])
def test_an_example_that_is_not_in_its_picture_is_refused(composition, box):
    with pytest.raises(InvalidParameter, match="no area in its picture of 100 x 60 pixels"):
        ask(composition, examples=[png(0, 1)], example_boxes=[box])


def test_what_of_an_example_reaches_over_its_picture_is_cut_off():
    boxes, embeds = np.float32([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]]), AXES[:2]
    over, inside = ([49, -900, 150, 50], [49, 0, 100, 50])
    shown = [example_queries.shown_by(box, (60, 100), boxes, embeds).tolist() for box in (over, inside)]
    assert shown[0] == shown[1] == AXES[1].tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), wide=st.booleans())
def test_an_example_stands_for_one_of_the_boxes_that_overlap_it_nearly_best(seed, count, wide):
    rng = np.random.default_rng(seed)
    centre, extent = rng.uniform(0, 1, (count, 2)), rng.uniform(0.01, 0.6 if wide else 0.05, (count, 2))
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1).astype(np.float32)
    embeds = rng.normal(size=(count, 4)).astype(np.float32)
    corners = np.sort(rng.uniform(0, 1, (2, 2)), axis=0) * [200, 100] + [[0, 0], [1e-3, 1e-3]]
    box = np.clip(corners, 0, [200, 100]).reshape(-1).tolist()
    found = example_queries.shown_by(box, (100, 200), boxes, embeds)

    scaled = boxes.astype(np.float64) * 200
    overlap = np.maximum(np.minimum(scaled[:, 2:], box[2:]) - np.maximum(scaled[:, :2], box[:2]), 0).prod(1)
    area = (scaled[:, 2:] - scaled[:, :2]).prod(1) + (box[2] - box[0]) * (box[3] - box[1])
    iou = overlap / (area - overlap)
    (row,) = np.flatnonzero((embeds == found).all(axis=1))
    if iou.max() > 1e-6:
        assert iou[row] >= 0.8 * iou.max() - 1e-4
        likeness = embeds @ embeds.mean(axis=0)
        surely_near = iou >= 0.8 * iou.max() + 1e-4
        assert likeness[row] <= likeness[surely_near].min(initial=np.inf) + 1e-5


def test_where_no_box_overlaps_an_example_the_nearest_stands_for_it():
    boxes = np.float32([[0.8, 0.8, 0.9, 0.9], [0.25, 0.25, 0.35, 0.35], [0.6, 0.1, 0.7, 0.2]])
    embeds = np.float32([[1, 0], [0, 1], [1, 1]])
    assert example_queries.shown_by([0, 0, 20, 20], (100, 100), boxes, embeds).tolist() == [0, 1]


# ---- pixels ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), side=st.integers(1, 64), value=st.integers(0, 255))
def test_a_picture_of_one_colour_keeps_it_and_the_rest_is_black(height, width, side, value):
    found = padded_square.resize(np.full((height, width, 3), value, np.uint8), side)
    assert found.shape == (side, side, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= value / 255 + 1e-6
    factor = max(height, width) / side
    smeared = 2 * factor + 3  # pixels of the picture that the blur and a sample reach
    for axis, length in ((0, height), (1, width)):
        at = (np.arange(side) + 0.5) * factor
        assert not found.take(np.flatnonzero(at > length + smeared), axis=axis).any()
    inside = [np.flatnonzero((np.arange(side) + 0.5) * factor < length - smeared) for length in (height, width)]
    np.testing.assert_allclose(found[np.ix_(*inside)], value / 255, atol=1e-5)


def test_only_what_is_not_black_is_blurred(monkeypatch):
    """A strip of a picture would have a square of gigabytes."""
    sizes = []
    blur = padded_square.cv2.sepFilter2D
    monkeypatch.setattr(
        padded_square.cv2, "sepFilter2D", lambda frame, *a, **k: sizes.append(frame.shape) or blur(frame, *a, **k)
    )
    strip = np.random.default_rng(0).integers(0, 255, (2, 6000, 3), dtype=np.uint8)
    found = padded_square.resize(strip, 64)
    assert sizes[0][0] < 300 and sizes[0][1] == 6000
    assert found.shape == (64, 64, 3)


def test_the_frame_that_is_blurred_ends_where_it_does_not_matter():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (40, 200, 3), dtype=np.uint8)
    square = np.zeros((200, 200, 3), np.uint8)
    square[:40] = picture
    np.testing.assert_array_equal(padded_square.resize(picture, 32), padded_square.resize(square, 32))
