"""Turned pages and words, blocks, and letters until an end are processed as by docTR's own code."""

import torch  # isort: skip

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import text_pages
from tritonvision.python_backend.ocr import ctc, page_layout, page_turning, text_pixels, text_regions, turned

torch_env.import_torchvision()

from doctr.datasets import VOCABS  # noqa: E402
from doctr.models._utils import estimate_orientation, rectify_crops, rectify_loc_preds  # noqa: E402
from doctr.models.builder import DocumentBuilder  # noqa: E402
from doctr.models.detection._utils import _remove_padding  # noqa: E402
from doctr.models.detection.differentiable_binarization.base import DBPostProcessor  # noqa: E402
from doctr.models.predictor.base import _OCRPredictor  # noqa: E402
from doctr.models.recognition.parseq.pytorch import PARSeqPostProcessor  # noqa: E402
from doctr.models.recognition.sar.pytorch import SARPostProcessor  # noqa: E402
from doctr.models.recognition.vitstr.pytorch import ViTSTRPostProcessor  # noqa: E402
from doctr.utils.geometry import extract_rcrops, order_points, straighten_page  # noqa: E402

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)


def turned_words(rng, count, angle=None):
    """Corners of words in rows, all turned by about one angle; float64 ``[n, 4, 2]`` fractions."""
    angle = rng.uniform(-60, 60) if angle is None else angle
    found = []
    for _ in range(count):
        centre, size = rng.uniform(0.1, 0.9, 2), rng.uniform((0.03, 0.02), (0.2, 0.05))
        spread = rng.normal(0, 2) if rng.uniform() < 0.8 else -angle
        found.append(cv2.boxPoints((centre.tolist(), size.tolist(), angle + spread)))
    return np.array([order_points(box) for box in found], np.float64).reshape(-1, 4, 2).clip(0, 1)


@quick
@given(seeds, st.integers(1, 900), st.integers(1, 900))
def test_turned_regions_are_docs_polygons_without_the_padding(seed, height, width):
    rng = np.random.default_rng(seed)
    probabilities = np.zeros((96, 128), np.float32)
    for _ in range(int(rng.integers(0, 9))):
        centre, size = rng.uniform((0, 0), (128, 96)).tolist(), rng.uniform(1, 50, 2).tolist()
        box = cv2.boxPoints((centre, size, rng.uniform(0, 90)))
        cv2.fillPoly(probabilities, [box.astype(np.int32)], float(rng.uniform(0, 1)))
    probabilities *= rng.uniform(0.8, 1, probabilities.shape).astype(np.float32)
    (expected,) = DBPostProcessor(assume_straight_pages=False)(probabilities[None, ..., None])[0]
    boxes = text_regions.find_turned(probabilities)
    np.testing.assert_array_equal(boxes, expected[:, :4])
    page = np.zeros((height, width, 3), np.uint8)
    (unpadded,) = _remove_padding([page], [{"words": expected}], True, True, False)
    np.testing.assert_array_equal(text_regions.unpadded(boxes, height, width), unpadded["words"][:, :4])


@quick
@given(seeds, st.integers(1, 90), st.integers(1, 200))
def test_turned_crops_are_docs(seed, height, width):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    polygons = turned_words(rng, 6)
    crops, kept = text_pixels.turned_crops(picture, polygons)
    expected = extract_rcrops(picture, polygons)
    assert kept.tolist() == [crop.size > 0 for crop in expected]
    for got, want in zip(crops, [crop for crop in expected if crop.size], strict=True):
        np.testing.assert_array_equal(got, want)


def test_upside_down_words_are_turned_as_docs_turns_them():
    rng = np.random.default_rng(0)
    crops, boxes = [rng.integers(0, 256, (3, 5, 3), np.uint8) for _ in range(4)], turned_words(rng, 4)
    for turn, want in enumerate(rectify_crops(crops, [0, 1, 2, 3])):
        np.testing.assert_array_equal(np.rot90(crops[turn], -turn), want)
    rolled = np.array([np.roll(box, turn, axis=0) for turn, box in enumerate(boxes)])
    np.testing.assert_array_equal(rolled, rectify_loc_preds(boxes, [0, 1, 2, 3]))


@settings(deadline=None, max_examples=150)
@given(seeds, st.booleans(), st.booleans())
def test_turned_pages_are_built_and_rendered_as_docs_builds_and_renders_them(seed, divided, straight):
    rng = np.random.default_rng(seed)
    angle = rng.choice([0.0, 0.5, 4.0, -12.0, 30.0, -44.9, 50.0, 80.0])
    boxes = turned_words(rng, int(rng.integers(0, 25)), angle)
    if straight:
        boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)
    shape = tuple(int(v) for v in rng.integers(50, 3000, 2))
    letters = ["ab", "c", "", " ", "שלום", "12"]
    texts = [(str(rng.choice(letters)), float(rng.uniform())) for _ in boxes]
    words = [page_layout.Word(*text, box) for text, box in zip(texts, boxes, strict=True)]
    found = page_layout.page(words, shape, divided)
    (page,) = DocumentBuilder(resolve_blocks=divided)(
        [np.zeros((*shape, 3), np.uint8)], [boxes], [np.ones(len(boxes))], [texts], [shape],
        [[{"value": 0, "confidence": None}] * len(boxes)],
    ).pages  # fmt: skip
    places = [e for b in page.blocks for e in (b, *(x for line in b.lines for x in (line, *line.words)))]
    want = np.array([place.geometry for place in places], np.float64).reshape(len(places), -1, 2) if places else None
    assert [text.decode() for text in found["texts"]] == [place.render() for place in places]
    assert found["text"][0].decode() == page.render()
    if places:
        points = want * (shape[1], shape[0])
        got = found["boxes"].reshape(-1, 2, 2) if straight else found["polygons"]
        np.testing.assert_allclose(got, points, rtol=1e-6, atol=1e-3)


def test_lines_far_from_each_other_are_blocks_and_those_that_chains_join_are_one():
    rows = [(0.1, 0.1), (0.1, 0.14), (0.1, 0.18), (0.6, 0.8), (0.6, 0.84)]
    words = [page_layout.Word("x", 1.0, (left, top, left + 0.2, top + 0.03)) for left, top in rows]
    found = page_layout.page(words, (1000, 800), divided=True)
    assert found["class_ids"].tolist() == [0, 1, 2, 1, 2, 1, 2, 0, 1, 2, 1, 2]
    assert found["parents"].tolist() == [-1, 0, 1, 0, 3, 0, 5, -1, 7, 8, 7, 10]
    assert (page_layout.page(words, (1000, 800))["class_ids"] == 0).sum() == 1


def bitmap_of(angle):
    """Where words are on a page that was turned, as a detector would mark them."""
    page, words = text_pages.page_and_words(2)
    mask = np.zeros(page.shape[:2], np.float32)
    for left, top, right, bottom in (word.box for word in words):
        mask[top:bottom, left:right] = 0.9
    centre = (mask.shape[1] / 2, mask.shape[0] / 2)
    return cv2.warpAffine(mask, cv2.getRotationMatrix2D(centre, angle, 0.7), mask.shape[::-1])


@pytest.mark.parametrize("general", [0, -90, 180, 90])
@pytest.mark.parametrize("angle", [0, 3, -7, 30, 44, 90, -90, 120, 180])
def test_the_angle_of_a_page_is_docs(angle, general):
    probabilities = bitmap_of(angle)
    marked = ((probabilities > 0.3).astype(np.uint8) * 255)[..., None]
    assert page_turning.angle_of(probabilities, general) == estimate_orientation(marked, (general, 0.9))


def test_a_page_without_words_has_the_angle_that_the_network_tells():
    assert page_turning.angle_of(np.zeros((64, 64), np.float32), 180) == 180
    assert page_turning.angle_of(bitmap_of(-7), 0) in (6, 7, 8)


@pytest.mark.parametrize("angle", [0, 7, -33, 90, -90, 180])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (50, 50)])
def test_a_page_is_put_straight_and_its_words_are_brought_back_as_by_docs(angle, shape):
    rng = np.random.default_rng(abs(angle))
    picture = rng.integers(0, 256, (*shape, 3), np.uint8)
    want, inverse = straighten_page(picture, angle)
    got = page_turning.straightened(picture, angle)
    np.testing.assert_array_equal(got.picture, want)
    np.testing.assert_array_equal(got.inverse, inverse)
    for geometry in (*turned_words(rng, 5), np.array([0.2, 0.3, 0.6, 0.5])):
        one = Element(tuple(map(tuple, geometry.reshape(-1, 2).tolist())))
        _OCRPredictor._remap_geometry(one, inverse, want.shape[1], want.shape[0], *shape)
        np.testing.assert_allclose(got.back(geometry).reshape(-1, 2), np.array(one.geometry), atol=1e-12)


class Element:
    """What has a geometry that docTR moves."""

    def __init__(self, geometry):
        self.geometry = geometry


@quick
@given(seeds)
def test_corners_are_ordered_as_docs(seed):
    box = np.random.default_rng(seed).uniform(0, 1, (4, 2))
    hull = cv2.boxPoints(cv2.minAreaRect(box.astype(np.float32)))
    np.testing.assert_array_equal(turned.ordered(hull), order_points(hull))


@quick
@given(seeds)
def test_letters_until_the_end_are_docs(seed):
    vocabulary = VOCABS["english"]
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (4, 33, len(vocabulary) + 1)).astype(np.float32)
    logits[np.arange(4), rng.integers(0, 33, 4), -1] += 20
    logits[3, :, -1] = -50  # no end
    tensor = torch.from_numpy(logits)
    for processor, decode in (
        (ViTSTRPostProcessor, ctc.decode_until_end), (PARSeqPostProcessor, ctc.decode_until_end),
        (SARPostProcessor, ctc.decode_until_end_surely),
    ):  # fmt: skip
        expected = processor(vocabulary)(tensor)
        found = [decode(sample, vocabulary) for sample in logits]
        assert [text for text, _ in found] == [text for text, _ in expected]
        np.testing.assert_allclose([sure for _, sure in found], [sure for _, sure in expected], rtol=1e-5)
