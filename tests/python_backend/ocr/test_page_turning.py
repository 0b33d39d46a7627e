"""A page at an angle: its words tell how far it is turned, and are brought back from where it was put straight."""

import cv2
import numpy as np
import pytest

from tritonvision.python_backend.ocr import page_turning


def probabilities(angle):
    """Of a page with six long lines, turned counter-clockwise by ``angle`` degrees."""
    found = np.zeros((400, 400), np.float32)
    for top in range(100, 280, 30):
        found[top : top + 10, 80:320] = 0.9
    return cv2.warpAffine(found, cv2.getRotationMatrix2D((200, 200), angle, 1.0), (400, 400))


@pytest.mark.parametrize("angle", [0, 4, -11, 25])
def test_lines_tell_the_angle(angle):
    assert page_turning.angle_of(probabilities(angle), 0) == pytest.approx(-angle, abs=1)


def test_the_network_tells_which_side_is_up():
    assert page_turning.angle_of(probabilities(180 - 7), 180) == pytest.approx(-173, abs=1)
    assert page_turning.angle_of(np.zeros((50, 50), np.float32), 90) == 90


@pytest.mark.parametrize("angle", [0, 8, -35, 90])
def test_what_is_put_straight_comes_back_to_its_place(angle):
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[40:44, 60:64] = 255
    straight = page_turning.straightened(picture, angle)
    height, width = straight.picture.shape[:2]
    rows, columns = np.nonzero(straight.picture[..., 0] > 100)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    back = straight.back(np.array([left / width, top / height, right / width, bottom / height]))
    np.testing.assert_allclose((back[:2] + back[2:]) / 2 * (200, 120), (62, 42), atol=1.5)
    polygon = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) / (width, height)
    np.testing.assert_allclose(straight.back(polygon).mean(axis=0) * (200, 120), (62, 42), atol=1.5)
