import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tritonvision.errors import InvalidPicture, PictureTooLarge, TritonVisionError
from tritonvision.pictures import FORMATS, Header, read_header

RANDOM = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def encode(picture: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def png_declaring(width: int, height: int) -> bytes:
    """A PNG whose header names a size and whose pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_tells_its_size(kind):
    assert read_header(encode(RANDOM, kind)) == Header(kind, 30, 20)


@pytest.mark.parametrize("kind", ["L", "RGBA", "CMYK", "P", "1"])
def test_every_colour_mode_tells_its_size(kind):
    stream = io.BytesIO()
    Image.fromarray(RANDOM).convert(kind).save(stream, "TIFF")
    assert read_header(stream.getvalue()) == Header("TIFF", 30, 20)


def test_an_array_tells_its_size():
    assert read_header(npy(RANDOM)) == Header("NPY", 30, 20)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello, I am a text", b"\x00" * 100, b"<svg xmlns='x'/>", b"%PDF-1.7", b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff",
        png_declaring(0, 5), png_declaring(5, 0),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(InvalidPicture):
        read_header(data)


@pytest.mark.parametrize(
    "array",
    [
        RANDOM.astype(np.float32), RANDOM[..., 0], RANDOM[..., :2], RANDOM[None], np.zeros((0, 5, 3), np.uint8),
        np.array([{"a": 1}], dtype=object), np.array(["text"]),
    ],
    ids=["float", "grey", "two channels", "batch", "no rows", "objects", "text"],
)  # fmt: skip
def test_an_array_that_is_no_rgb_picture_is_refused(array):
    with pytest.raises(InvalidPicture):
        read_header(npy(array))


def test_an_array_whose_bytes_do_not_match_its_shape_is_refused():
    with pytest.raises(InvalidPicture, match="match"):
        read_header(npy(RANDOM)[:-1])
    with pytest.raises(InvalidPicture, match="match"):
        read_header(npy(RANDOM) + b"x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_refused(kind, keep):
    data = encode(np.kron(RANDOM, np.ones((8, 8, 1), np.uint8)), kind)
    with pytest.raises(InvalidPicture):
        read_header(data[: int(len(data) * keep)])


def test_a_jpeg_with_a_thumbnail_does_not_pass_as_whole_when_only_the_thumbnail_is():
    thumbnail = encode(RANDOM, "JPEG")
    block = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    data = encode(np.kron(RANDOM, np.ones((8, 8, 1), np.uint8)), "JPEG", exif=block)
    assert read_header(data) == Header("JPEG", 240, 160)
    with pytest.raises(InvalidPicture, match="cut short"):
        read_header(data[: int(len(data) * 0.8)])


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    assert read_header(encode(RANDOM, "JPEG") + b"\0" * 100).width == 30


def test_a_picture_over_the_limit_is_refused_from_its_header_without_memory_for_its_pixels():
    bomb = png_declaring(60_000, 60_000)
    tracemalloc.start()
    with pytest.raises(PictureTooLarge, match="60000 x 60000"):
        read_header(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_the_limit_is_the_callers_and_reaching_it_is_allowed():
    assert read_header(encode(RANDOM, "PNG"), max_pixels=600).height == 20
    with pytest.raises(PictureTooLarge):
        read_header(encode(RANDOM, "PNG"), max_pixels=599)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0",
                                                  b"BM", b"RIFF\x10\0\0\0WEBPVP8 ", b"\x93NUMPY\x01\0"]))  # fmt: skip
def test_no_bytes_whatever_raise_anything_but_our_errors(data, start):
    try:
        assert read_header(start + data).width > 0
    except TritonVisionError:
        pass


@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(FORMATS))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(position, value, kind):
    data = bytearray(encode(RANDOM, kind))
    data[position % len(data)] = value
    try:
        read_header(bytes(data))
    except TritonVisionError:
        pass
