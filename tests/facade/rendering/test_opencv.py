"""OpenCV and Pillow come with the first answer that needs them."""

import base64
import subprocess
import sys

import cv2
import numpy as np

from tritonvision.facade.rendering.opencv import jpeg, outlines, png


def test_a_facade_that_draws_nothing_has_neither_opencv_nor_pillow_in_memory():
    program = (
        "import sys, tritonvision.facade.run, tritonvision.facade.app, tritonvision.engine.engine\n"
        "print([name for name in ('cv2', 'PIL', 'supervision', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_each_part_of_a_mask_has_its_outline():
    mask = np.zeros((20, 30), bool)
    mask[2:6, 3:9] = mask[10:15, 20:25] = True
    corners = {(tuple(outline.min(axis=0)), tuple(outline.max(axis=0))) for outline in outlines(mask)}
    assert corners == {((3, 2), (8, 5)), ((20, 10), (24, 14))}


def test_an_empty_mask_has_no_outline():
    assert not outlines(np.zeros((4, 4), bool))


def test_pixels_are_read_back_from_png_and_nearly_from_jpeg():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    kept = cv2.imdecode(np.frombuffer(base64.b64decode(png(grey)), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (kept == grey).all()
    near = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg(grey, 95)), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.abs(near.astype(int) - grey).max() < 8
