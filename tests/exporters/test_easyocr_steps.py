"""Maps, regions, lines and letters are processed as by easyocr's own code."""

import torch  # isort: skip

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import sample_pictures, text_pages
from tritonvision.python_backend.ocr import craft_boxes, craft_lines, ctc, grey_lines
from tritonvision.python_backend.ocr.craft_lines import Upright

torch_env.import_torchvision()

from easyocr import craft_utils, imgproc, recognition, utils  # noqa: E402

quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 10_000)


def painted(seed, height=160, width=224):
    """Maps as CRAFT draws them: soft letters in rows at some angle, links between them, and spots that are neither."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((height, width, 2), np.float32)
    for _ in range(int(rng.integers(1, 9))):
        angle, size = rng.uniform(-0.5, 0.5) * rng.integers(0, 2), rng.uniform(2, 7)
        start, step = rng.uniform((0, 0), (width, height)), np.array([math.cos(angle), math.sin(angle)]) * size * 1.8
        for i in range(int(rng.integers(1, 10))):
            for channel, place in ((0, start + i * step), (1, start + (i + 0.5) * step)):
                x, y = (int(v) for v in place)
                layer = np.zeros((height, width), np.float32)
                cv2.circle(layer, (x, y), round(size * (1.2 - 0.4 * channel)), float(rng.uniform(0.3, 1.1)), -1)
                maps[..., channel] = np.maximum(maps[..., channel], layer)
    return cv2.GaussianBlur(maps, (5, 5), 0) + rng.uniform(0, 0.05, maps.shape).astype(np.float32)


def readers_regions(maps, factor):
    text, link = np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
    boxes, _, _ = craft_utils.getDetBoxes(text, link, 0.7, 0.4, 0.4)
    boxes = craft_utils.adjustResultCoordinates(boxes, 1 / factor, 1 / factor)
    return [np.array(box).astype(np.int32).reshape(-1) for box in boxes]


@quick
@given(seeds, st.sampled_from([1.0, 0.5, 2560 / 3001]))
def test_regions_of_maps_are_easyocrs(seed, factor):
    maps = painted(seed)
    want = readers_regions(maps, factor)
    np.testing.assert_array_equal(craft_boxes.find(maps, factor), np.array(want, np.int32).reshape(-1, 4, 2))


def test_painted_maps_hold_regions_of_every_kind():
    found = [craft_boxes.find(painted(seed), 1.0) for seed in range(40)]
    lines = [craft_lines.group(boxes) for boxes in found]
    assert sum(map(len, found)) > 100 and any(not len(boxes) for boxes in found[1:] + [np.zeros(0)])
    assert sum(len(level) for level, _ in lines) > 30 and sum(len(turned) for _, turned in lines) > 30


@quick
@given(seeds)
def test_regions_are_joined_to_easyocrs_lines(seed):
    rng = np.random.default_rng(seed)
    quads = []
    for _ in range(int(rng.integers(0, 25))):
        x, y, w, h = rng.integers((0, 0, 5, 8), (600, 400, 200, 60))
        tilt = int(w * rng.choice([0, 0, 0.05, 0.09, 0.11, -0.3, 0.6]))
        quads.append([[x, y], [x + w, y + tilt], [x + w - tilt // 3, y + h + tilt], [x, y + h]])
    quads = np.array(quads, np.int32).reshape(-1, 4, 2)
    level, turned = utils.group_text_box(list(quads.reshape(-1, 8)), 0.1, 0.5, 0.5, 0.5, 0.1, True)
    level = [box for box in level if max(box[1] - box[0], box[3] - box[2]) > 20]
    turned = [q for q in turned if max(utils.diff([c[0] for c in q]), utils.diff([c[1] for c in q])) > 20]
    got_level, got_turned = craft_lines.group(quads)
    assert [list(box) for box in got_level] == level
    np.testing.assert_array_equal(np.array(got_turned).reshape(-1, 4, 2), np.array(turned).reshape(-1, 4, 2))


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (32, 64), (33, 65), (1, 1), (9, 700)])
def test_a_page_reaches_the_detector_as_easyocr_brings_it_there(shape):
    picture = sample_pictures.noise(*shape)
    for longest in (2560, 96):
        got, factor = craft_boxes.fit(picture, longest)
        want, ratio, _ = imgproc.resize_aspect_ratio(picture, longest, cv2.INTER_LINEAR)
        assert factor == ratio
        np.testing.assert_array_equal(got, want)


def test_a_picture_so_thin_that_easyocr_fails_on_it_is_one_pixel_thin():
    pixels, factor = craft_boxes.fit(sample_pictures.noise(1, 900), 96)
    assert pixels.shape == (32, 96, 3) and factor == 96 / 900


GREY = cv2.cvtColor(text_pages.photographed(text_pages.page(3), 1), cv2.COLOR_RGB2GRAY)
BOXES = [(60, 400, 40, 95), (-20, 300, 100, 160), (500, 950, 200, 240), (100, 130, 300, 700), (10, 40, 10, 31)]
QUADS = [
    [(80.5, 300.2), (420.1, 360.7), (410.9, 420.3), (70.2, 361.1)], [(300, 500), (340, 480), (520, 800), (480, 820)],
    [(-5, 20), (60, -8), (66, 30), (2, 60)],
]  # fmt: skip


@pytest.mark.parametrize("box", [*BOXES, *QUADS], ids=str)
@pytest.mark.parametrize("contrast", [0, 0.5])
def test_a_line_reaches_the_recogniser_as_easyocr_brings_it_there(box, contrast):
    level, turned = ([list(box)], []) if isinstance(box[0], int) else ([], [box])
    ((corners, crop),), wide = utils.get_image_list(level, turned, GREY, model_height=64)
    collate = recognition.AlignCollate(imgH=64, imgW=int(wide), keep_ratio_with_pad=True, adjust_contrast=contrast)
    want = collate([recognition.ListDataset([crop])[0]])[0, 0].numpy()
    if level:
        line = grey_lines.upright(GREY, Upright(*box))
    else:
        line = grey_lines.turned(GREY, np.array(box, np.float64))
    np.testing.assert_array_equal(line.corners, np.array(corners, np.float64))
    pixels = grey_lines.stretched(line.pixels) if contrast else line.pixels
    got = grey_lines.padded(pixels, line.width)
    assert got.shape == (64, wide)
    np.testing.assert_allclose((got / 255 - 0.5) / 0.5, want, rtol=0, atol=1e-6)


def test_contrast_is_stretched_where_there_is_little_and_nowhere_else():
    flat = (GREY[40:95, 60:400] // 4 + 90).astype(np.uint8)
    assert np.ptp(grey_lines.stretched(flat)) > 2 * np.ptp(flat)
    sharp = np.where(flat > 130, 255, 0).astype(np.uint8)
    assert grey_lines.stretched(sharp) is sharp


def test_boxes_beside_the_page_and_quads_without_area_hold_no_line():
    assert grey_lines.upright(GREY, Upright(2000, 2100, 10, 60)) is None
    assert grey_lines.upright(GREY, Upright(10, 60, -90, -10)) is None
    assert grey_lines.turned(GREY, np.array([(5, 5), (5.2, 9), (5.2, 9), (5, 5)], np.float64)) is None


@quick
@given(seeds)
def test_letters_are_easyocrs(seed):
    rng = np.random.default_rng(seed)
    characters, ignored = "abcdefgh ß漢", [2, 7]
    logits = rng.normal(0, 3, (3, int(rng.integers(1, 40)), len(characters) + 1)).astype(np.float32)
    logits[0, :, 0] += 30  # blanks alone
    logits[1] = np.repeat(logits[1], 2, axis=0)[: logits.shape[1]]  # letters twice
    converter = utils.CTCLabelConverter(characters)
    with torch.no_grad():
        want = recognition.recognizer_predict(
            Saying(logits), converter, [torch.zeros(3, 1, 64, 64)], 10, ignored, {}
        )  # fmt: skip
    allowed = np.ones(len(characters) + 1, bool)
    allowed[ignored] = False
    for steps, (text, confidence) in zip(logits, want, strict=True):
        got = ctc.decode_allowed(steps, characters, allowed)
        assert got[0] == text and got[1] == pytest.approx(float(confidence), rel=1e-4, abs=1e-7)


class Saying(torch.nn.Module):
    """A recogniser that answers the same to everything."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, pixels, text):
        return self.logits
