"""Whatever a caller calls a picture becomes its bytes, the same pixels from every form, or a sentence says why not."""

from __future__ import annotations

import http.server
import io
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image

from tritonvision.client.images import read_images
from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge
from tritonvision.pictures import NPY_MAGIC, decode
from tritonvision.settings import Settings

SETTINGS = Settings()
BGR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGB = BGR[..., ::-1]


def pixels(picture: bytes) -> np.ndarray:
    return decode(picture)


def only(image, **more) -> np.ndarray:
    (picture,) = read_images(image, SETTINGS, **more)
    return pixels(picture)


def test_a_picture_that_was_taken_for_a_path_is_told_in_one_line():
    for text in ("data:image/png;base64," + "A" * 400_000, "/".join(["far"] * 1000)):
        with pytest.raises(InvalidPicture) as caught:
            read_images(text, SETTINGS)
        assert len(caught.value.message) < 300


def png(array: np.ndarray = RGB) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


# ---- arrays ----------------------------------------------------------------------------------------------------------


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


@given(arrays.arrays(np.uint8, SHAPES), st.sampled_from(["rgb", "bgr"]))
def test_arrays_keep_every_pixel_and_travel_in_rgb(array, order):
    expected = array if order == "rgb" else array[..., ::-1]
    np.testing.assert_array_equal(only(array, color_format=order), expected)


def test_arrays_are_bgr_unless_the_caller_says_otherwise():
    np.testing.assert_array_equal(only(BGR), RGB)


def test_views_and_fortran_order_are_read_as_they_are_indexed():
    np.testing.assert_array_equal(only(BGR[::2, ::-1]), RGB[::2, ::-1])
    np.testing.assert_array_equal(only(np.asfortranarray(BGR)), RGB)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays_are_the_same_in_every_channel(shape):
    grey = BGR[..., 0].reshape(shape)
    np.testing.assert_array_equal(only(grey), np.repeat(BGR[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (BGR / 255, "float64"), (BGR.astype(np.float32), "float32"), (BGR.astype(np.int64), "int64"),
        (BGR > 9, "bool"), (np.zeros((5, 7, 4), np.uint8), "5 x 7 x 4"),
        (np.zeros((2, 5, 7, 3), np.uint8), "2 x 5 x 7"), (np.zeros(5, np.uint8), "shape 5"),
        (np.zeros((0, 7, 3), np.uint8), "no pixels"),
    ],
)  # fmt: skip
def test_an_array_that_is_no_picture_is_refused_with_what_it_is(array, told):
    with pytest.raises(InvalidPicture) as caught:
        read_images(array, SETTINGS)
    assert told in caught.value.message


def test_another_order_of_colours_is_refused():
    with pytest.raises(InvalidParameter):
        read_images(BGR, SETTINGS, color_format="yuv")


# ---- PIL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16"])
def test_every_mode_of_pil_is_a_picture_and_read_as_its_file_would_be(mode):
    source = Image.fromarray(RGB)
    if mode == "I;16":
        image = Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.merge("LAB", source.split())
    else:
        image = source.convert(mode)
    assert image.mode == mode
    found = only(image)
    assert found.shape == (5, 7, 3)
    if mode == "RGB":
        np.testing.assert_array_equal(found, RGB)
    elif mode == "I;16":
        np.testing.assert_array_equal(found, np.repeat(RGB[..., :1], 3, axis=2))
    elif mode not in ("LAB", "HSV", "CMYK", "YCbCr"):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        np.testing.assert_array_equal(found, only(stream.getvalue()))


def test_a_pil_image_is_turned_as_its_exif_says_unless_that_is_turned_off():
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(RGB).save(stream, "PNG", exif=exif)
    image = Image.open(io.BytesIO(stream.getvalue()))
    assert only(image).shape == only(stream.getvalue()).shape == (7, 5, 3)
    np.testing.assert_array_equal(only(image), only(stream.getvalue()))
    (raw,) = read_images(image, SETTINGS, auto_orient=False)
    np.testing.assert_array_equal(pixels(raw), RGB)


def test_a_pil_image_whose_file_is_cut_short_is_refused():
    with pytest.raises(InvalidPicture):
        read_images(Image.open(io.BytesIO(png(np.zeros((300, 300, 3), np.uint8))[:200])), SETTINGS)


# ---- files, bytes, addresses -----------------------------------------------------------------------------------------


def test_files_and_bytes_travel_as_they_are(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    for image in (path, str(path), png(), bytearray(png()), memoryview(png())):
        assert read_images(image, SETTINGS) == [png()]


@pytest.mark.parametrize("name", ["nothing.png", ".", "with\0null"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InvalidPicture) as caught:
        read_images(str(tmp_path / name), SETTINGS)
    assert "file" in caught.value.message


def test_bytes_that_are_no_picture_or_an_array_are_refused():
    stream = io.BytesIO()
    np.save(stream, BGR)
    assert stream.getvalue().startswith(NPY_MAGIC)
    for data in (b"", b"no picture", stream.getvalue(), png()[:-20]):
        with pytest.raises(InvalidPicture):
            read_images(data, SETTINGS)


@pytest.mark.parametrize("image", [None, 7, object(), {"image": 1}, [[1, 2], [3, 4]]])
def test_what_is_no_picture_at_all_is_told_what_is(image):
    with pytest.raises(InvalidPicture) as caught:
        read_images(image, SETTINGS)
    assert "PIL" in caught.value.hint


def test_lists_keep_their_order_and_an_empty_one_is_refused():
    found = read_images([BGR, png(), Image.fromarray(RGB)], SETTINGS)
    for picture in found:
        np.testing.assert_array_equal(pixels(picture), RGB)
    assert len(read_images((BGR,), SETTINGS)) == 1
    with pytest.raises(InvalidPicture):
        read_images([], SETTINGS)


def test_of_several_pictures_the_bad_one_is_named():
    with pytest.raises(InvalidPicture, match="^Picture 2 of 3: The bytes are not a picture"):
        read_images([png(), b"no picture", png()], SETTINGS)
    with pytest.raises(InvalidPicture, match="^The bytes are not a picture"):
        read_images([b"no picture"], SETTINGS)
    with pytest.raises(PictureTooLarge, match="^Picture 1 of 2: "):
        read_images([png(), png()], Settings(max_pixels=34))


def test_the_limits_hold_for_every_form(tmp_path):
    small = Settings(max_pixels=34, max_body_bytes=1 << 20)
    for image in (BGR, png(), Image.fromarray(RGB)):
        with pytest.raises(PictureTooLarge):
            read_images(image, small)
    path = tmp_path / "large.png"
    path.write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(PictureTooLarge):
        read_images(path, small)
    with pytest.raises(PictureTooLarge):  # a file without a size, as a device or a pipe is
        read_images("/proc/self/maps", Settings(max_body_bytes=1024))


class Site(http.server.BaseHTTPRequestHandler):
    """``/photo`` is a picture, ``/moved`` leads to it, ``/round`` to itself, ``/endless`` does not end."""

    def do_GET(self):
        if self.path in ("/moved", "/round"):
            self.send_response(302)
            self.send_header("Location", "/photo" if self.path == "/moved" else "/round")
            self.end_headers()
        elif self.path == "/photo":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"\0" * 65536)
            except OSError:
                pass
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_address_is_fetched_and_followed(site):
    assert read_images([f"{site}/photo", f"{site}/moved"], SETTINGS) == [png(), png()]


@pytest.mark.parametrize("path", ["/nothing", "/round"])
def test_an_address_without_a_picture_is_refused(site, path):
    with pytest.raises(InvalidPicture):
        read_images(site + path, SETTINGS)


def test_nobody_there_is_said_in_a_sentence():
    with pytest.raises(InvalidPicture):
        read_images("http://127.0.0.1:9/photo.png", SETTINGS)
    with pytest.raises(InvalidPicture):
        read_images("http://[::1", SETTINGS)


def test_what_does_not_end_is_given_up_at_the_limit(site):
    with pytest.raises(PictureTooLarge):
        read_images(f"{site}/endless", Settings(max_body_bytes=1 << 20))


def test_opencv_and_pil_read_the_same_file_as_the_same_picture(photo, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(photo)
    np.testing.assert_array_equal(only(cv2.imread(str(path))), decode(photo))
    np.testing.assert_array_equal(only(Image.open(path)), decode(photo))
