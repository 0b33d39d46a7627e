"""Pages, words and lines are processed as by docTR's own code."""

import torch  # isort: skip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import text_pages
from tritonvision.python_backend.ocr import ctc, page_layout, reading_order, text_pixels, text_regions

torch_env.import_torchvision()

from doctr.datasets import VOCABS  # noqa: E402
from doctr.models.builder import DocumentBuilder  # noqa: E402
from doctr.models.detection._utils import _remove_padding  # noqa: E402
from doctr.models.detection.differentiable_binarization.base import DBPostProcessor  # noqa: E402
from doctr.models.reading_order import detect_text_direction, resolve_reading_segments  # noqa: E402
from doctr.models.recognition.crnn.pytorch import CTCPostProcessor  # noqa: E402
from doctr.models.recognition.predictor._utils import split_crops  # noqa: E402
from doctr.models.recognition.utils import merge_multi_strings  # noqa: E402
from doctr.transforms import Resize  # noqa: E402
from doctr.utils import Sample  # noqa: E402
from doctr.utils.geometry import extract_crops  # noqa: E402

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)


def docs_resize(picture, size, centred):
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    resized = Resize(size, preserve_aspect_ratio=True, symmetric_pad=centred)(Sample(image=tensor)).image
    return resized.permute(1, 2, 0).numpy()


@quick
@given(st.integers(1, 300), st.integers(4, 300), seeds)
def test_words_are_resized_to_the_same_pixels(height, width, seed):
    """Except for words that become one pixel wide, of which torch repeats the first row in all others."""
    if int(32 / (height / width)) < 2:
        return
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(text_pixels.fit(picture, 32, 128, False), docs_resize(picture, (32, 128), False))


@pytest.mark.parametrize("shape", [(860, 720), (1500, 1100), (300, 420), (512, 512), (1, 1), (2, 3)])
def test_pages_are_resized_to_the_same_pixels(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(text_pixels.fit(picture, 512, 512, True), docs_resize(picture, (512, 512), True))


def test_a_photo_of_a_page_is_resized_to_the_same_pixels():
    photo = text_pages.photographed(text_pages.page())
    np.testing.assert_array_equal(text_pixels.fit(photo, 1024, 1024, True), docs_resize(photo, (1024, 1024), True))


@quick
@given(seeds, st.integers(1, 900), st.integers(1, 900))
def test_regions_are_docs_boxes_without_the_padding(seed, height, width):
    rng = np.random.default_rng(seed)
    probabilities = np.zeros((96, 128), np.float32)
    for _ in range(int(rng.integers(0, 12))):
        y, x, h, w = rng.integers(0, 90), rng.integers(0, 120), rng.integers(1, 30), rng.integers(1, 60)
        probabilities[y : y + h, x : x + w] = rng.uniform(0, 1)
    probabilities *= rng.uniform(0.8, 1, probabilities.shape).astype(np.float32)
    (expected,) = DBPostProcessor()(probabilities[None, ..., None])[0]
    boxes = text_regions.find(probabilities)
    np.testing.assert_array_equal(boxes, expected[:, :4])
    page = np.zeros((height, width, 3), np.uint8)
    (unpadded,) = _remove_padding([page], [{"words": expected}], True, True, True)
    np.testing.assert_array_equal(text_regions.unpadded(boxes, height, width), unpadded["words"][:, :4])


@quick
@given(seeds, st.integers(1, 60), st.integers(1, 400))
def test_crops_and_pieces_are_docs(seed, height, width):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1).reshape(-1, 4)
    crops, _ = text_pixels.crops(picture, corners)
    expected = [crop for crop in extract_crops(picture, corners) if crop.size]
    pieces = [text_pixels.split(crop) for crop in crops]
    wanted, places, _ = split_crops(expected, 8, 6, 0.5)
    flat = [picture for piece in pieces for picture in piece.pictures]
    assert len(flat) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(flat, wanted, strict=True))
    overlaps = [place[2] if isinstance(place, tuple) else 0 for place in places]
    assert [piece.overlap for piece in pieces] == overlaps


@quick
@given(seeds)
def test_words_are_decoded_as_docs_decodes_them(seed):
    vocabulary = VOCABS["french"]
    logits = np.random.default_rng(seed).normal(0, 3, (3, 32, len(vocabulary) + 1)).astype(np.float32)
    logits[:, ::3, -1] += 9
    expected = CTCPostProcessor(vocabulary)(torch.from_numpy(logits))
    found = [ctc.decode(sample, vocabulary) for sample in logits]
    assert [text for text, _ in found] == [text for text, _ in expected]
    np.testing.assert_allclose([sure for _, sure in found], [sure for _, sure in expected], rtol=1e-5)


pieces = st.lists(st.text("abc", max_size=9), min_size=1, max_size=5)


@settings(deadline=None, max_examples=500)
@given(pieces, st.floats(0.05, 0.95))
def test_pieces_are_joined_as_docs_merges_them(texts, last):
    assert ctc.join(texts, 0.5, last) == merge_multi_strings(texts, 0.5, last)


def scattered(seed):
    """Words in curved rows, some far apart, some overlapping: float64 corners, and the shape of their page."""
    rng = np.random.default_rng(seed)
    boxes = []
    for row in range(int(rng.integers(0, 7))):
        left = rng.uniform(0, 0.3)
        for _ in range(int(rng.integers(1, 8))):
            top = 0.1 * row + rng.normal(0, 0.008)
            width, height = rng.uniform(0.01, 0.15), rng.uniform(0.02, 0.05)
            boxes.append((left, top, left + width, top + height))
            left += width + rng.choice([0.005, 0.01, 0.03, 0.2]) * rng.uniform(0.5, 1.5)
    shuffled = rng.permutation(np.array(boxes).reshape(-1, 4))
    return shuffled.clip(0, 1), tuple(int(v) for v in rng.integers(50, 3000, 2)), rng


@settings(deadline=None, max_examples=200)
@given(seeds)
def test_pages_are_built_and_rendered_as_docs_builds_and_renders_them(seed):
    boxes, shape, rng = scattered(seed)
    letters = ["ab", "c", "", " ", "שלום", "12"]
    texts = [(str(rng.choice(letters)), float(rng.uniform())) for _ in boxes]
    words = [page_layout.Word(*text, tuple(box)) for text, box in zip(texts, boxes.tolist(), strict=True)]
    found = page_layout.page(words, shape)
    document = DocumentBuilder()(
        [np.zeros((*shape, 3), np.uint8)], [boxes], [np.ones(len(boxes))], [texts], [shape],
        [[{"value": 0, "confidence": None}] * len(boxes)],
    )  # fmt: skip
    (page,) = document.pages
    lines = [[word.value for word in line.words] for block in page.blocks for line in block.lines]
    rows = np.flatnonzero(found["class_ids"] == page_layout.LINE)
    grouped = [[found["texts"][i].decode() for i in np.flatnonzero(found["parents"] == row)] for row in rows]
    assert grouped == lines
    assert found["text"][0].decode() == page.render()


@settings(deadline=None, max_examples=200)
@given(seeds)
def test_paragraphs_are_docs_segments(seed):
    boxes, _, _ = scattered(seed)
    for name, mirrored in (("ltr", False), ("rtl", True)):
        expected = resolve_reading_segments(boxes, direction=name) if len(boxes) else []
        assert reading_order.paragraphs(boxes, mirrored) == expected


@given(st.lists(st.text("ab1שלם ", max_size=4), max_size=5))
def test_directions_are_docs(texts):
    assert reading_order.runs_right_to_left(texts) == (detect_text_direction(texts) == "rtl")
