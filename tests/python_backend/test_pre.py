"""The pre step: pictures of one request to pixels and the way back."""

import io

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.python_backend import pre
from tritonvision.python_backend.images.resize import Geometry


def png(width, height, value=200, orientation=None):
    stream, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.new("RGB", (width, height), (value, 0, 0)).save(stream, "PNG", exif=exif)
    return stream.getvalue()


def images(*pictures):
    found = np.empty((len(pictures), 1), dtype=object)
    found[:, 0] = pictures
    return found


@pytest.fixture
def step(triton, tmp_path):
    def open_step(rule="letterbox", height=32, width=32):
        made = pre.TritonPythonModel()
        options = f'{{"rule": "{rule}", "height": {height}, "width": {width}}}'
        made.initialize(triton.args(tmp_path, {"resize": options}))
        return made

    return open_step


def test_a_batch_has_its_pixels_and_its_geometries(step):
    found = step().answer({"image": images(png(64, 32), png(16, 32))}, [])
    assert found["pixels"].shape == (2, 32, 32, 3) and found["pixels"].dtype == np.uint8
    assert found["geometry"].shape == (2, 6) and found["geometry"].dtype == np.float64
    first, second = (Geometry.from_array(row) for row in found["geometry"])
    assert (first.width, first.height, first.gain_x) == (64, 32, 0.5)
    assert (second.width, second.height, second.gain_x) == (16, 32, 1)
    assert "valid_size" not in found


def test_an_empty_sample_stands_for_the_picture_before_it_with_a_region_of_its_own(step, triton, monkeypatch):
    decoded = []
    monkeypatch.setattr(pre, "decode", lambda data, orient: decoded.append(data) or np.zeros((40, 80, 3), np.uint8))
    parameters = triton.texts({}, {"region": [20, 10, 20, 10]}, {"region": [40, 20, 8, 8]})
    found = step().answer({"image": images(b"picture", b"", b""), "parameters": parameters}, [])
    assert decoded == [b"picture"]
    whole, left, middle = (Geometry.from_array(row) for row in found["geometry"])
    assert {(g.width, g.height) for g in (whole, left, middle)} == {(80, 40)}
    corners = left.to_picture(np.float32([[0, 8], [32, 24]]))
    np.testing.assert_allclose(corners, [[10, 5], [30, 15]], atol=0.01)


def test_the_same_picture_is_decoded_again_where_it_lies_otherwise(step, triton):
    parameters = triton.texts({}, {"auto_orient": False})
    found = step().answer({"image": images(png(64, 32, orientation=6), b""), "parameters": parameters}, [])
    assert [Geometry.from_array(row).width for row in found["geometry"]] == [32, 64]


def test_pixels_that_follow_the_picture_are_padded_where_the_network_masks_them(step):
    found = step("shortest", 32, 64).answer({"image": images(png(64, 32), png(32, 48))}, [])
    assert found["pixels"].shape == (2, 48, 64, 3)
    assert found["valid_size"].tolist() == [[32, 64], [48, 32]] and found["valid_size"].dtype == np.int32
    assert (found["pixels"][0, :32, :, 0] == 200).all() and (found["pixels"][0, 32:] == 0).all()
    assert (found["pixels"][1, :, :32, 0] == 200).all() and (found["pixels"][1, :, 32:] == 0).all()


def test_pixels_that_follow_the_picture_are_refused_where_it_does_not(step):
    one = step("multiple", 28, 28)
    assert len(one.answer({"image": images(png(56, 28), png(56, 28))}, [])["pixels"]) == 2
    with pytest.raises(InvalidParameter, match="must have one shape"):
        one.answer({"image": images(png(56, 28), png(28, 56))}, [])


def test_a_picture_that_is_none_is_refused(step):
    with pytest.raises(InvalidPicture):
        step().answer({"image": images(b"")}, [])
