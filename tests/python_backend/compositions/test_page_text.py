"""The composition of a page: what it asks its two networks, and what it makes of their answers."""

import io

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidPicture
from tritonvision.python_backend.compositions import page_text
from tritonvision.tasks import resolve

VOCABULARY = "abcdefghijklmnopqrstuvwxyz"


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


class Networks:
    """A detector that takes dark for text, and a recogniser that tells words apart by how red they are."""

    def __init__(self):
        self.batches = []

    def __call__(self, role, inputs, outputs):
        pixels = inputs["pixels"]
        if role == "detector":
            assert pixels.shape == (1, 256, 256, 3) and outputs == ["probabilities"]
            dark = (pixels[0].max(axis=2) < 128) & (pixels[0].max(axis=2) > 0)  # the padding is black
            return {"probabilities": dark[None].astype(np.float32) * 0.8}
        assert role == "recogniser" and outputs == ["logits"] and pixels.shape[1:] == (32, 128, 3)
        self.batches.append(len(pixels))
        logits = np.zeros((len(pixels), 4, 27), np.float32)
        for sample, picture in zip(logits, pixels, strict=True):
            red = picture[..., 0][picture.max(axis=2) < 128]
            sample[1, int(red[red > 0].min()) // 10] = 5
            sample[[0, 2, 3], 26] = 5
        return {"logits": logits}


def page(*words, size=(200, 240)):
    """White, with dark words (left, top, width, height, letter)."""
    picture = np.full((*size, 3), 255, np.uint8)
    for left, top, width, height, letter in words:
        picture[top : top + height, left : left + width] = (10 * VOCABULARY.index(letter) + 5, 1, 1)
    return picture


def answer(networks, picture, image=None, **given):
    options = {"page": (256, 256), "word": [32, 128], "assets": {"vocabulary.txt": VOCABULARY.encode()}}
    composition = page_text.Composition(networks, options)
    return composition.answer({"image": image or png(picture)}, resolve(page_text.TASK.parameters, given))


def test_words_are_read_where_they_stand():
    picture = page((20, 20, 30, 10, "b"), (62, 20, 30, 10, "c"), (20, 80, 40, 10, "d"))
    found = answer(Networks(), picture)
    assert found["texts"].tolist() == [b"b c\nd", b"b c", b"b", b"c", b"d", b"d"]
    assert found["class_ids"].tolist() == [0, 1, 2, 2, 1, 2] and found["parents"].tolist() == [-1, 0, 1, 1, 0, 4]
    assert found["text"].tolist() == [b"b c\n\nd"] and found["image_size"].tolist() == [200, 240]
    left, top, right, bottom = found["boxes"][2]
    assert 10 <= left <= 20 and 10 <= top <= 20 and 50 <= right <= 62 and 30 <= bottom <= 40
    assert (found["scores"] > 0.8).all()


def test_words_are_read_eight_at_a_time():
    networks = Networks()
    answer(networks, page(*((10 + 55 * x, 10 + 35 * y, 30, 10, "k") for x in range(4) for y in range(5))))
    assert networks.batches == [8, 8, 4]


def test_a_wide_word_is_read_in_pieces_and_is_one_word():
    networks = Networks()
    found = answer(networks, page((5, 90, 230, 3, "f")))
    assert sum(networks.batches) > 1
    assert (found["class_ids"] == 2).sum() == 1 and set(found["texts"][2].decode()) == {"f"}


def test_a_page_without_words_asks_the_recogniser_nothing():
    networks = Networks()
    found = answer(networks, page())
    assert networks.batches == [] and found["boxes"].shape == (0, 4) and found["text"].tolist() == [b""]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_pictures_are_pages_too(size):
    assert answer(Networks(), page(size=size))["image_size"].tolist() == list(size)


def test_the_pictures_orientation_counts_unless_it_is_left_alone():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by ninety degrees
    Image.fromarray(page(size=(100, 60))).save(stream, "JPEG", exif=exif)
    assert answer(Networks(), None, stream.getvalue())["image_size"].tolist() == [60, 100]
    assert answer(Networks(), None, stream.getvalue(), auto_orient=False)["image_size"].tolist() == [100, 60]


def test_what_is_no_picture_is_refused():
    with pytest.raises(InvalidPicture):
        answer(Networks(), None, b"no picture")


def test_turned_words_have_corners_and_are_read_the_right_way_up():
    class Turned(Networks):
        def __call__(self, role, inputs, outputs):
            if role != "crop-orientation":
                return super().__call__(role, inputs, outputs)
            assert inputs["pixels"].shape[1:] == (256, 256, 3) and outputs == ["logits"]
            self.turned += len(inputs["pixels"])
            return {"logits": np.tile(np.array([[0, 0, 9, 0]], np.float32), (len(inputs["pixels"]), 1))}

    networks, options = Turned(), {"page": (256, 256), "word": [32, 128], "turned": True}
    networks.turned = 0
    options["assets"] = {"vocabulary.txt": VOCABULARY.encode()}
    composition = page_text.Composition(networks, options)

    def found(picture):
        return composition.answer({"image": png(picture)}, resolve(page_text.TASK.parameters, {}))

    page_of_two = found(page((20, 20, 30, 10, "b"), (20, 80, 40, 10, "d")))
    assert networks.turned == 2 and page_of_two["texts"].tolist() == [b"b\nd", b"b", b"b", b"d", b"d"]
    word = page_of_two["polygons"][2]  # upside down: its upper left corner is the lower right one of the page's
    assert word[0].sum() == word.sum(axis=1).max()
    empty = found(np.full((60, 60, 3), 255, np.uint8))
    assert empty["polygons"].shape == (0, 4, 2) and empty["boxes"].shape == (0, 4) and empty["text"].tolist() == [b""]
