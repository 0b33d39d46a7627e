"""What the bytes of a picture say is read from them alone, in bounded work, wherever a file may have put it."""

import io
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tritonvision.errors import InvalidPicture, PictureTooLarge, TritonVisionError
from tritonvision.pictures import FORMATS, MAX_PIXELS, Header, exif_orientation, read_header, shown_size
from tritonvision.pictures.parts import Parts

HERE = Path(__file__).parent
WRITABLE = [kind for kind in FORMATS if kind != "HEIC"]  # Pillow writes all the others
RANDOM = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def encode(picture: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_declaring(width: int, height: int) -> bytes:
    """A PNG whose header names a size and whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JPEG, PNG = encode(RANDOM, "JPEG"), encode(RANDOM, "PNG")


@pytest.mark.parametrize("kind", WRITABLE)
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


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"IEND"])
def test_a_chunk_larger_than_the_file_is_refused_before_memory_is_allocated(name):
    data = bytearray(PNG[:33] + chunk(b"tEXt", b"a\0b") + PNG[33:])
    at = data.index(name) - 4
    data[at : at + 4] = b"\xff\0\0\0"
    with pytest.raises(InvalidPicture, match="cut short"):
        read_header(bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_bytes_after_the_end_do_no_harm(kind):
    assert read_header(encode(RANDOM, kind) + b"\0" * 100).width == 30


@pytest.mark.attack("pictures that cost more than their bytes")
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
                                                  b"BM", b"RIFF\x10\0\0\0WEBPVP8 ", b"\x93NUMPY\x01\0",
                                                  b"\0\0\0\x10ftypheic\0\0\0\0\0\0\0\x40meta"]))  # fmt: skip
def test_no_bytes_whatever_raise_anything_but_our_errors(data, start):
    try:
        assert read_header(start + data).width > 0
    except TritonVisionError:
        pass


@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(WRITABLE))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(position, value, kind):
    data = bytearray(encode(RANDOM, kind))
    data[position % len(data)] = value
    try:
        read_header(bytes(data))
    except TritonVisionError:
        pass


# ---- orientation -----------------------------------------------------------------------------------------------------


def exif(orientation: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """An EXIF block with one tag: the orientation, as a number of the ``kind`` 3 (16 bits) or 4 (32 bits)."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    table = struct.pack(order + "HHHI", 1, 0x0112, kind, count) + value + b"\0\0\0\0"
    return b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + table


XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
BROKEN_EXIF = [b"Exif\0\0", b"Exif\0\0garbage, and no table", exif(6)[:20], exif(6)[:14] + b"\xff\xff\xff\x7f"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_block_tells_the_orientation_in_either_order_of_bytes(orientation, kind, order):
    assert exif_orientation(exif(orientation, order, kind)) == orientation
    assert exif_orientation(exif(orientation, order, kind).removeprefix(b"Exif\0\0")) == orientation


@pytest.mark.parametrize("block", [*BROKEN_EXIF, b"", exif(0), exif(9), exif(6, count=2), b"Exif\0\0" + b"\xff" * 99])
def test_a_damaged_exif_block_tells_nothing(block):
    assert exif_orientation(block) == 1


def jpeg_with(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def webp_with(block: bytes) -> bytes:
    return encode(RANDOM, "WEBP", exif=block)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(segment(0xE1, exif(6))),
        jpeg_with(XMP, segment(0xE1, exif(6))),
        jpeg_with(segment(0xED, b"Photoshop 3.0"), XMP, segment(0xE2, b"ICC_PROFILE"), segment(0xE1, exif(6))),
        jpeg_with(segment(0xE1, exif(6)), segment(0xE1, exif(3))),  # of two blocks the first
        PNG[:33] + chunk(b"eXIf", exif(6)[6:]) + PNG[33:],
        PNG[:-12] + chunk(b"eXIf", exif(6)[6:]) + PNG[-12:],  # after the pixels
        PNG[:33] + chunk(b"eXIf", exif(6)) + PNG[33:],
        webp_with(exif(6)),
        webp_with(exif(6)[6:]),
        encode(RANDOM, "TIFF", tiffinfo={0x0112: 6}),
        encode(RANDOM, "AVIF", exif=exif(6)),
        (HERE / "turned.heic").read_bytes(),
    ],
    ids=["JPEG", "XMP first", "much first", "two blocks", "PNG", "PNG, at the end", "PNG, prefixed", "WEBP, prefixed",
         "WEBP", "TIFF", "AVIF", "HEIC"],
)  # fmt: skip
def test_the_orientation_is_found_wherever_it_stands(data):
    header = read_header(data)
    assert header.orientation == 6
    assert shown_size(data) == (header.height, header.width)


@pytest.mark.parametrize("block", BROKEN_EXIF)
def test_a_picture_with_a_damaged_exif_block_is_a_picture(block):
    for data in (jpeg_with(segment(0xE1, block)), PNG[:33] + chunk(b"eXIf", block[6:]) + PNG[33:], webp_with(block)):
        assert read_header(data).turn() == 1


def test_only_the_turn_that_a_format_leaves_to_the_reader_can_be_turned_off():
    for kind in ("JPEG", "PNG", "WEBP"):
        assert Header(kind, 30, 20, 6).shown(auto_orient=False) == (30, 20)
    for kind in ("TIFF", "AVIF", "HEIC"):
        assert Header(kind, 30, 20, 6).shown(auto_orient=False) == (20, 30)


def test_a_cut_box_counts_in_the_size_of_a_heic():
    assert read_header((HERE / "odd.heic").read_bytes()) == Header("HEIC", 63, 47)


@pytest.mark.parametrize(
    "stray", [JPEG[:20] + b"\0\1\2" + JPEG[20:], JPEG[:20] + b"\xff\xff\xff" + JPEG[20:], jpeg_with(b"ab", XMP, b"cd")]
)
def test_stray_bytes_between_the_segments_of_a_jpeg_are_passed_over(stray):
    assert read_header(stray) == Header("JPEG", 30, 20)


# ---- numbers that are no pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint32, np.float64, np.int16])
def test_a_tiff_of_unknown_range_is_refused(kind):
    with pytest.raises(InvalidPicture, match="TIFF holds floats") as caught:
        read_header(tiff(RANDOM[..., 0].astype(kind)))
    assert "8 bits" in caught.value.hint


def tiff(array: np.ndarray, **more: int) -> bytes:
    """A grey TIFF of one strip as the array has its numbers; ``more``: tag_N = value."""
    sample_format = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    tags = {256: array.shape[1], 257: array.shape[0], 258: array.itemsize * 8, 259: 1, 262: 1, 273: 8,
            277: 1, 278: array.shape[0], 279: array.nbytes, 339: sample_format}  # fmt: skip
    tags |= {int(name.removeprefix("tag_")): value for name, value in more.items()}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<I", 8 + array.nbytes)
    return head + array.tobytes() + struct.pack("<H", len(tags)) + table + b"\0\0\0\0"


def test_a_big_tiff_is_read_as_a_small_one():
    stream = io.BytesIO()
    Image.fromarray(RANDOM).save(stream, "TIFF", big_tiff=True)
    assert stream.getvalue()[2] == 43 and read_header(stream.getvalue()) == Header("TIFF", 30, 20)


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_an_offset_of_64_bits_is_damage_wherever_a_big_tiff_has_one(offset):
    far = struct.pack("<Q", offset)
    table = struct.pack("<QHHQ", 1, 256, 16, 2) + far + bytes(8)
    for data in (b"II+\0\x08\0\0\0" + far, b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + table):
        with pytest.raises(InvalidPicture):
            read_header(data)
        assert exif_orientation(data) == 1


# ---- bounded work ----------------------------------------------------------------------------------------------------

SOF, SOS = segment(0xC0, b"\x08\0\x10\0\x10\x01\x01\x11\0"), segment(0xDA, b"\x01\x01\0\0\x3f\0")
MANY = 2 << 20


def heic_with(boxes: bytes) -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + boxes


def heic_with_associations() -> bytes:
    entries = b"\0\5\0" * (MANY // 3)
    properties = b"\0\0\0\x08ipco" + struct.pack(">I4sII", 16 + len(entries), b"ipma", 0, 0xFFFFFFFF) + entries
    meta = b"\0\0\0\0" + b"\0\0\0\x0epitm\0\0\0\0\0\1" + struct.pack(">I4s", 8 + len(properties), b"iprp")
    return heic_with(struct.pack(">I4s", 8 + len(meta + properties), b"meta") + meta + properties)


HOSTILE = {
    "JPEG segments": JPEG[:2] + b"\xff\xe1\0\2" * (MANY // 4),
    "JPEG fill bytes": JPEG[:2] + b"\xff" * MANY,
    "JPEG stuffed bytes": JPEG[:2] + b"\xff\0" * (MANY // 2),
    "JPEG without an end": JPEG[:2] + SOF + SOS + b"\xd9" * MANY,
    "PNG chunks": PNG[:33] + chunk(b"tEXt", b"") * (MANY // 12),
    "TIFF tags": (b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 256, 1, MANY, 0) * 65535).ljust(MANY, b"\0"),
    "BigTIFF tags": b"II+\0\x08\0\0\0\x10" + b"\0" * 7 + b"\xff" * MANY,
    "WEBP chunks": encode(RANDOM, "WEBP", exif=exif(1))[:30] + b"ABCD\0\0\0\0" * (MANY // 8),
    "GIF blocks": b"GIF89a\x09\0\x09\0\0\0\0" + b"!\xfe\1a\0" * (MANY // 5),
    "HEIC boxes": heic_with(b"\0\0\0\x08free" * (MANY // 8)),
    "HEIC associations": heic_with_associations(),
}


def lines_run(data: bytes) -> int:
    """Lines of Python that reading the header runs; a refusal is fine."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read_header(data)
    except TritonVisionError:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.attack("pictures that cost more than their bytes")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_nothing_but_parts_costs_bounded_work_and_little_memory(name):
    data = HOSTILE[name]
    assert len(data) > 1 << 20
    tracemalloc.start()
    try:
        assert lines_run(data) < 20 * (2048 + len(data) // 1024)
        assert tracemalloc.get_traced_memory()[1] < len(data)
    finally:
        tracemalloc.stop()


def test_parts_grow_with_the_file():
    few, many = Parts(0), Parts(64 << 20)
    for _ in range(2048):
        few.count()
    with pytest.raises(InvalidPicture, match="too many parts"):
        few.count()
    for _ in range(2048 + 65536):
        many.count()
    with pytest.raises(InvalidPicture, match="too many parts"):
        many.count()


def test_a_large_png_in_the_small_chunks_of_libpng_is_read():
    assert MAX_PIXELS >= 4000 * 4000
    body = b"".join(chunk(b"IDAT", b"\0" * 8192) for _ in range(6000))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4000, 4000, 8, 2, 0, 0, 0))
    assert read_header(head + body + chunk(b"eXIf", exif(8)[6:]) + chunk(b"IEND", b"")) == Header("PNG", 4000, 4000, 8)
