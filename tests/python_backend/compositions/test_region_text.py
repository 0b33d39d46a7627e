"""The composition of a page of regions: what it asks its two networks, and what it makes of their answers."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidPicture
from tritonvision.python_backend.compositions import region_text
from tritonvision.tasks import resolve

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


class Networks:
    """A detector that takes dark for text, and a recogniser that tells lines apart by how dark they are.

    A line of less contrast than ``sharp`` is read with little confidence.
    """

    def __init__(self, sharp=0):
        self.asked, self.sharp = [], sharp

    def __call__(self, role, inputs, outputs):
        pixels = inputs["pixels"]
        self.asked.append((role, pixels.shape))
        if role == "detector":
            assert outputs == ["maps"] and pixels.shape[1] % 32 == pixels.shape[2] % 32 == 0
            grey = pixels[0, ::2, ::2].max(axis=2)
            dark = (grey < 200) & (grey > 0)  # the padding is black
            return {"maps": np.stack([dark, np.zeros_like(dark)], axis=-1)[None].astype(np.float32)}
        assert role == "recogniser" and outputs == ["logits"] and pixels.shape[1] == 64
        logits = np.zeros((len(pixels), 5, 27), np.float32)
        logits[:, [0, 2, 4], 0] = 9
        for sample, picture in zip(logits, pixels, strict=True):
            weak = np.ptp(picture) < self.sharp
            sample[[1, 3], 1 + int(picture.min()) // 10] = 3 if weak else 9
        return {"logits": logits}


def page(*words, size=(200, 240)):
    """White, with words (left, top, width, height, grey, degrees)."""
    sheet = Image.new("L", size[::-1], 255)
    for left, top, width, height, grey, degrees in words:
        word = Image.new("L", (width, height), grey).rotate(degrees, expand=True, fillcolor=255)
        mask = Image.new("L", (width, height), 255).rotate(degrees, expand=True)
        sheet.paste(word, (left, top), mask)
    return np.repeat(np.asarray(sheet)[..., None], 3, axis=2)


def answer(networks, picture, image=None, ignored="", longest=2560, **given):
    characters = json.dumps({"characters": LETTERS, "ignored": ignored}).encode()
    composition = region_text.Composition(networks, {"longest": longest, "assets": {"characters.json": characters}})
    return composition.answer({"image": image or png(picture)}, resolve(region_text.TASK.parameters, given))


def test_level_regions_are_joined_to_lines_and_read_row_by_row():
    picture = page((180, 84, 40, 20, 55, 0), (20, 80, 60, 20, 25, 0), (90, 82, 40, 20, 25, 0), (20, 20, 80, 20, 15, 0))
    networks = Networks()
    found = answer(networks, picture)
    assert found["texts"].tolist() == [b"bb", b"cc", b"ff"] and found["text"].tolist() == [b"bb\ncc\nff"]
    assert found["class_ids"].tolist() == [1, 1, 1] and found["parents"].tolist() == [-1, -1, -1]
    left, top, right, bottom = found["boxes"][1]
    assert 8 <= left <= 20 and 68 <= top <= 80 and 128 <= right <= 142 and 100 <= bottom <= 112
    np.testing.assert_array_equal(found["polygons"][1, [0, 2]].ravel(), found["boxes"][1])
    assert found["image_size"].tolist() == [200, 240] and (found["scores"] > 0.8).all()


def test_lines_of_one_width_are_read_together_each_other_width_by_itself():
    networks = Networks()
    answer(networks, page(*((10, 10 + 45 * row, 90 if row else 200, 20, 15, 0) for row in range(4))))
    widths = [shape for role, shape in networks.asked if role == "recogniser"]
    assert [shape[0] for shape in widths] == [3, 1] and widths[0][2] < widths[1][2]
    assert all(shape[2] % 64 == 0 for shape in widths)


def test_a_turned_region_is_put_upright_and_keeps_its_corners():
    found = answer(Networks(), page((20, 40, 150, 24, 15, 25)))
    assert found["texts"].tolist() == [b"bb"]
    (corners,) = found["polygons"]
    assert corners[0, 1] - corners[1, 1] > 30 and np.ptp(corners[:, 0]) > 120  # rises to the right
    np.testing.assert_allclose(found["boxes"][0], [*corners.min(axis=0), *corners.max(axis=0)])


def test_a_line_read_with_doubt_is_read_again_with_more_contrast():
    networks = Networks(sharp=150)
    found = answer(networks, page((20, 40, 150, 24, 165, 0)))
    assert [role for role, _ in networks.asked].count("recogniser") == 2
    assert found["texts"].tolist() == [b"ff"]  # darker after stretching; of grey 165 it would be q


def test_the_surer_of_two_readings_is_kept():
    class Doubtful(Networks):
        def __call__(self, role, inputs, outputs):
            found = super().__call__(role, inputs, outputs)
            if role == "recogniser":
                found["logits"] *= 0.3 if len(self.asked) == 2 else 0.2
            return found

    networks = Doubtful()
    found = answer(networks, page((20, 40, 150, 24, 165, 0)))
    assert len(networks.asked) == 3 and found["texts"].tolist() == [b"qq"] and found["scores"][0] < 0.1


def test_characters_that_are_not_read_give_way_to_the_next_best():
    found = answer(Networks(), page((20, 40, 150, 24, 15, 0)), ignored="b")
    assert b"b" not in found["texts"][0]


def test_a_page_that_is_too_large_is_seen_smaller_and_answered_in_its_own_pixels():
    networks = Networks()
    found = answer(networks, page((20, 40, 150, 24, 15, 0)), longest=128)
    assert networks.asked[0] == ("detector", (1, 128, 128, 3))
    assert 10 <= found["boxes"][0, 0] <= 22 and 160 <= found["boxes"][0, 2] <= 185


@pytest.mark.parametrize("size", [(1, 1), (64, 300), (1, 900)])
def test_a_page_without_text_is_empty_and_no_line_is_read(size):
    networks = Networks()
    found = answer(networks, np.full((*size, 3), 255, np.uint8), longest=96)
    assert [role for role, _ in networks.asked] == ["detector"]
    assert found["polygons"].shape == (0, 4, 2) and found["boxes"].shape == (0, 4) and found["text"].tolist() == [b""]
    types = {name: value.dtype for name, value in found.items()}
    assert types["polygons"] == types["scores"] == np.float32 and types["class_ids"] == types["parents"] == np.int32


def test_what_is_no_picture_is_refused():
    with pytest.raises(InvalidPicture):
        answer(Networks(), None, image=b"no picture")
