"""The pictures that exports are measured on."""

import numpy as np

from tritonvision.exporters.parity import sample_pictures


def test_pictures_have_the_sizes_in_their_names():
    for name, picture in sample_pictures.views().items():
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.flags.c_contiguous, name
        if "x" in name.rsplit("-", 1)[-1]:
            width, height = name.rsplit("-", 1)[-1].split("x")
            assert picture.shape[:2] == (int(height), int(width)), name


def test_scaling_to_the_same_size_changes_nothing():
    picture = sample_pictures.photo()
    assert np.array_equal(sample_pictures._scale(picture, *picture.shape[:2]), picture)


def test_scaling_up_and_rotating_look_like_opencv():
    """The same maps; opencv rounds its weights to 1/32, so a few grey levels on edges are its own."""
    import cv2

    picture = sample_pictures.photo()
    larger = cv2.resize(picture, (1100, 1100), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(sample_pictures._scale(picture, 1100, 1100).astype(int) - larger).max() <= 2
    turn = cv2.getRotationMatrix2D((255.5, 255.5), 15, 1)
    rotated = cv2.warpAffine(picture, turn, (512, 512), flags=cv2.INTER_LINEAR).astype(int)
    assert np.abs(sample_pictures._rotate_15(picture).astype(int) - rotated).mean() < 1
