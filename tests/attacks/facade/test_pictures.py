"""Files that are several things at once, or that cost a decoder more than they have bytes."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tritonvision.errors import InvalidPicture, TritonVisionError
from tritonvision.pictures import decode, read_header

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
HTML = b"<html><script>alert(1)</script></html>"


def encoded(kind: str, pixels: np.ndarray = PIXELS, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("../../etc/cron.d/x", "* * * * * root reboot")
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def in_png(*chunks: bytes) -> bytes:
    whole = encoded("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def in_jpeg(segment: bytes) -> bytes:
    whole = encoded("JPEG")
    return whole[:2] + b"\xff\xfe" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]


# ---- polyglots -------------------------------------------------------------------------------------------------------

POLYGLOTS = {
    "JPEG and archive": ("JPEG", encoded("JPEG") + archive()),
    "JPEG and page": ("JPEG", in_jpeg(HTML)),
    "JPEG and PNG": ("JPEG", encoded("JPEG") + encoded("PNG", PIXELS[:4])),
    "JPEG that begins as a PDF": ("JPEG", in_jpeg(b"%PDF-1.7\n")),
    "PNG and page": ("PNG", in_png(chunk(b"tEXt", b"Comment\0" + HTML))),
    "PNG and archive": ("PNG", encoded("PNG") + archive()),
    "PNG and JPEG": ("PNG", encoded("PNG") + encoded("JPEG", PIXELS[:4])),
    "GIF and script": ("GIF", encoded("GIF") + b"*/=1;alert(1)//"),
    "WEBP and archive": ("WEBP", encoded("WEBP") + archive()),
    "BMP and page": ("BMP", encoded("BMP") + HTML),
    "TIFF and archive": ("TIFF", encoded("TIFF") + archive()),
}  # fmt: skip


@pytest.mark.attack("files of two kinds")
@pytest.mark.parametrize("name", POLYGLOTS)
def test_a_file_is_what_its_first_bytes_say_to_header_and_decoder_alike(name):
    kind, data = POLYGLOTS[name]
    header = read_header(data)
    assert (header.format, header.width, header.height) == (kind, 40, 24)
    assert decode(data).shape == (24, 40, 3)


@pytest.mark.attack("files of two kinds")
@pytest.mark.parametrize("data", [
    archive() + encoded("PNG"), HTML + encoded("JPEG"), b"%PDF-1.7\n" + encoded("JPEG"), b"\n" + encoded("GIF"),
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", b"%!PS-Adobe EPSF\n(x) run",
    b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://127.0.0.1/)'", b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd",
    b"P6 9 9 255\n" + bytes(243), b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    b"\x76\x2f\x31\x01" + bytes(99), b"8BPS\0\1" + bytes(99),
], ids="ZIP HTML PDF GIF SVG EPS MVG M3U PPM JPEG-2000 EXR PSD".split())  # fmt: skip
def test_formats_that_fetch_run_or_are_not_needed_are_no_pictures(data):
    with pytest.raises(InvalidPicture):
        read_header(data)
    with pytest.raises(InvalidPicture):
        decode(data)


# ---- bombs -----------------------------------------------------------------------------------------------------------


def of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there ``count`` times more."""
    whole = encoded("JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    table = whole.rindex(b"\xff\xc4", 0, last)
    return whole[:-2] + whole[table:-2] * count + whole[-2:]


@pytest.mark.attack("pictures that cost more than their bytes")
def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded():
    assert read_header(of_scans(5)).format == "JPEG"
    with pytest.raises(InvalidPicture, match="too many scans"):
        read_header(of_scans(5000))


def zipped(kind: bytes) -> bytes:
    """A PNG with a compressed text or colour profile of 50 MB."""
    data = zlib.compress(bytes(50 * 2**20), 9)
    begin = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    return in_png(chunk(kind, begin + data))


def animated(kind: str, frames: int) -> bytes:
    others = [Image.fromarray(PIXELS + np.uint8(n % 250)) for n in range(1, frames)]
    return encoded(kind, save_all=True, append_images=others)


def kilobytes(field: str) -> int:
    """``VmRSS`` or ``VmHWM``, the most, of this process."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


BOMBS = {
    "a text of 50 MB in a PNG": lambda: zipped(b"zTXt"), "an international one": lambda: zipped(b"iTXt"),
    "a colour profile of 50 MB": lambda: zipped(b"iCCP"), "300 frames of a GIF": lambda: animated("GIF", 300),
    "300 frames of a PNG": lambda: animated("PNG", 300), "100 frames of a WEBP": lambda: animated("WEBP", 100),
    "a GIF whose frames grow": lambda: encoded("GIF")[:6] + struct.pack("<HH", 1, 1) + encoded("GIF")[10:],
    "a TIFF of 200 pages": lambda: animated("TIFF", 200),
}  # fmt: skip


@pytest.mark.attack("pictures that cost more than their bytes")
@pytest.mark.parametrize("name", BOMBS)
def test_what_lies_in_a_file_beside_its_first_picture_costs_nothing(name):
    data = BOMBS[name]()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    try:
        assert decode(data).shape[2] == 3
    except TritonVisionError:
        pass
    grown = kilobytes("VmHWM") - before
    assert grown < 20_000, f"{grown // 1024} MB more for {len(data)} bytes"


# ---- unusual pixels --------------------------------------------------------------------------------------------------


def unusual() -> dict[str, bytes]:
    palette, grey = Image.fromarray(PIXELS).quantize(7), Image.fromarray(PIXELS).convert("L")
    found = {}
    for name, image, kind, options in (
        ("a palette", palette, "PNG", {}), ("a palette with a clear colour", palette, "PNG", {"transparency": 3}),
        ("a palette of alphas", palette, "PNG", {"transparency": bytes(range(7))}),
        ("two bits", palette, "PNG", {"bits": 2}),
        ("one bit", Image.fromarray(PIXELS).convert("1"), "PNG", {}),
        ("one bit of a TIFF", grey.convert("1"), "TIFF", {}),
        ("one bit in group 4", grey.convert("1"), "TIFF", {"compression": "group4"}),
        ("16 bits", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG", {}),
        ("CMYK", Image.fromarray(PIXELS).convert("CMYK"), "JPEG", {}),
        ("CMYK in a TIFF", grey.convert("CMYK"), "TIFF", {}),
        ("Lab", Image.fromarray(PIXELS).convert("LAB"), "TIFF", {}), ("YCbCr", grey.convert("YCbCr"), "JPEG", {}),
        ("grey with alpha", grey.convert("LA"), "PNG", {}), ("alpha in a WEBP", grey.convert("RGBA"), "WEBP", {}),
        ("a palette in a GIF", palette, "GIF", {}), ("a palette in a BMP", palette, "BMP", {}),
        ("a lossless WEBP", Image.fromarray(PIXELS), "WEBP", {"lossless": True}),
        ("an interlaced GIF", palette, "GIF", {"interlace": True}),
    ):  # fmt: skip
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()
    if features.check("avif"):
        found["alpha in an AVIF"] = encoded("AVIF", np.dstack([PIXELS, PIXELS[..., :1]]))
    return found


@pytest.mark.attack("unusual pixels")
@pytest.mark.parametrize(("name", "data"), unusual().items(), ids=unusual())
def test_every_kind_of_pixels_is_an_rgb_picture(name, data):
    pixels = decode(data)
    assert pixels.shape == (24, 40, 3) and pixels.dtype == np.uint8
    assert read_header(data).shown() == (40, 24)
