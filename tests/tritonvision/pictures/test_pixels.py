"""A picture is one array, whoever reads it: the size in an answer, the pixels of a model, a drawing, and AutoModel.

The quarters of the picture have colours of their own, so that a wrong turn, a lost channel or another scale is seen.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tritonvision.client.images import read_images
from tritonvision.errors import InvalidPicture
from tritonvision.facade.rendering.annotated import annotated
from tritonvision.pictures import decode, read_header, shown_size, turned
from tritonvision.publication import Manifest
from tritonvision.results import Detections
from tritonvision.settings import Settings

HERE = Path(__file__).parent
WIDTH, HEIGHT = 64, 48
QUARTERS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
QUARTERS[:24, :32], QUARTERS[:24, 32:] = (220, 30, 30), (30, 200, 30)
QUARTERS[24:, :32], QUARTERS[24:, 32:] = (30, 30, 220), (230, 230, 230)
GREY16 = cv2.cvtColor(QUARTERS, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
# How a picture is shown, by EXIF's numbers, in words of numpy.
TURNS = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}  # fmt: skip
MODES = {
    "JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"), "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}  # fmt: skip
TABLE = [(kind, mode, turn) for kind, modes in MODES.items() for mode in modes for turn in TURNS]
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
MANIFEST = Manifest(
    id="a/b", family="f", task="object-detection", head="h", weights="random", source="seed 0", sha256="0",
    license="Apache-2.0", precision="fp32", labels=("cat",), input_size=(64, 64), steps=(),
)  # fmt: skip


def image_of(mode: str) -> Image.Image:
    """The quarters in a mode of Pillow's; alpha is half of everything."""
    if mode == "I;16":
        return Image.fromarray(GREY16)
    image = Image.fromarray(QUARTERS)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.new("L", image.size, 127))
    return image.convert(mode, palette=Image.Palette.ADAPTIVE)


def file_of(kind: str, mode: str = "RGB", orientation: int | None = None, **options) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        options["exif"] = exif
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "AVIF":
        options["subsampling"] = "4:4:4"
    stream = io.BytesIO()
    image_of(mode).save(stream, kind, **options)
    return stream.getvalue()


def by_automodel(image: object, **options: bool) -> np.ndarray:
    (picture,) = read_images(image, Settings(), **options)
    return decode(picture, **options)


@pytest.mark.parametrize(("kind", "mode", "orientation"), TABLE)
def test_size_model_drawing_and_automodel_agree(kind, mode, orientation, tmp_path):
    data, plain = file_of(kind, mode, orientation), decode(file_of(kind, mode))
    path = tmp_path / "picture"
    path.write_bytes(data)
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, TURNS[orientation](plain))
    assert shown_size(data) == pixels.shape[1::-1]
    drawn = np.array(Image.open(io.BytesIO(annotated(data, NOTHING, MANIFEST))))
    assert drawn.shape == pixels.shape and np.abs(drawn.astype(int) - pixels).mean() < 9  # it is a JPEG
    # a PIL image from memory: from a disk Pillow 13 maps raw TIFF files, and those that lie get rows of a wrong length
    for image in (path, str(path), data, Image.open(io.BytesIO(data))):
        found = by_automodel(image)
        np.testing.assert_allclose(found, pixels, atol=1 if mode == "CMYK" else 0)  # Pillow rounds inks otherwise


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_without_the_turn_all_agree_too(kind, orientation, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(file_of(kind, "RGB", orientation))
    data = path.read_bytes()
    pixels = decode(data, auto_orient=False)
    assert shown_size(data, auto_orient=False) == pixels.shape[1::-1]
    turn = 1 if kind in ("JPEG", "PNG", "WEBP") else orientation  # of the others it is a part
    np.testing.assert_array_equal(pixels, TURNS[turn](decode(file_of(kind))))
    for image in (path, Image.open(path)):
        np.testing.assert_array_equal(by_automodel(image, auto_orient=False), pixels)


PLAIN = [(kind, mode) for kind, modes in MODES.items() for mode in modes if mode in ("L", "RGB", "RGBA", "I;16")]


@pytest.mark.parametrize(("kind", "mode"), PLAIN)
def test_pixels_are_what_was_written(kind, mode):
    grey = mode in ("L", "I;16")
    wanted = np.repeat((GREY16 >> 8).astype(np.uint8)[..., None], 3, axis=2) if grey else QUARTERS
    found = decode(file_of(kind, mode)).astype(int)
    inside = np.s_[8:16, 8:24]  # of a quarter: lossy files smear its edges
    assert np.abs(found[inside] - wanted[inside]).max() <= (6 if kind in ("JPEG", "AVIF") else 1)


@pytest.mark.parametrize("name", ["turned", "mirrored"])
def test_a_heic_is_shown_as_its_boxes_say(name):
    pytest.importorskip("pi_heif")
    data = (HERE / f"{name}.heic").read_bytes()
    wanted = TURNS[{"turned": 6, "mirrored": 5}[name]](QUARTERS)
    for turn in (True, False):
        found = decode(data, turn)
        assert found.shape[1::-1] == shown_size(data, turn) == (HEIGHT, WIDTH)
        assert np.abs(found.astype(int) - wanted).mean() < 3
    np.testing.assert_array_equal(by_automodel(data), decode(data))


def test_a_heic_without_its_reader_is_refused_with_what_to_do(monkeypatch):
    from tritonvision.pictures import heif

    monkeypatch.setattr(heif, "_decodable", lambda kind: False)
    with pytest.raises(InvalidPicture, match="does not read HEIC") as caught:
        read_header((HERE / "turned.heic").read_bytes())
    assert "tritonvision[heic]" in caught.value.hint


@pytest.mark.parametrize("orientation", TURNS)
def test_arrays_are_turned_by_the_same_numbers(orientation):
    np.testing.assert_array_equal(turned(QUARTERS, orientation), TURNS[orientation](QUARTERS))


@pytest.mark.parametrize("photograph", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}], ids=str)
def test_a_plain_jpeg_is_what_opencv_reads(photo, photograph):
    stream = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").save(stream, "JPEG", **photograph)
    wanted = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode(stream.getvalue()), wanted)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"mode": "L"}, {"mode": "CMYK"}], ids=str
)
def test_a_jpeg_whole_or_damaged_is_what_opencv_makes_of_it(options, photo):
    options = dict(options)
    image = Image.open(io.BytesIO(photo)).convert(options.pop("mode", "RGB")).resize((200, 160))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    whole, noise = stream.getvalue(), np.random.default_rng(7)
    damaged = [whole, *(whole[: int(end)] for end in noise.integers(len(whole) // 2, len(whole), 10))]
    for _ in range(30):
        changed = bytearray(whole)
        for place in noise.integers(len(whole) // 2, len(whole), 3):
            changed[place] = noise.integers(256)
        damaged.append(bytes(changed))
    for data in damaged:
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if expected is None:
            with pytest.raises(InvalidPicture):
                decode(data)
        else:
            np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_of_several_frames_the_first_is_the_picture(kind):
    stream = io.BytesIO()
    image_of("RGB").save(
        stream, kind, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT), "black")] * 2,
        **({"lossless": True} if kind == "WEBP" else {}),
    )  # fmt: skip
    assert shown_size(stream.getvalue()) == (WIDTH, HEIGHT)
    assert np.abs(decode(stream.getvalue()).astype(int) - QUARTERS).mean() < 3


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_grey_tiff_may_count_from_white(photometric, depth):
    grey = (GREY16 >> 16 - depth).astype(np.uint8 if depth == 8 else np.uint16)
    image = Image.fromarray(grey)
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    entry = data.index(struct.pack("<HHIH", 262, 3, 1, 1)) + 8
    data[entry] = photometric
    wanted = GREY16 >> 8 if photometric else 255 - (GREY16 >> 8)
    np.testing.assert_array_equal(decode(bytes(data))[..., 0], wanted)
    np.testing.assert_array_equal(by_automodel(Image.open(io.BytesIO(data)))[..., 0], wanted)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's, of the PIL images
@pytest.mark.parametrize("block", [b"II*\0", b"garbage", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40], ids=str)
def test_a_damaged_exif_block_is_ignored(block, tmp_path):
    png, good = file_of("PNG"), Image.Exif().tobytes().removeprefix(b"Exif\0\0")
    files = {
        "PNG": png[:33] + chunk(b"eXIf", block) + png[33:],
        "JPEG": file_of("JPEG", exif=b"Exif\0\0" + block),
        "WEBP": file_of("WEBP", exif=b"Exif\0\0" + block),
        "AVIF": file_of("AVIF", exif=b"Exif\0\0" + good).replace(good, block[:14].ljust(14, b"\xff")),
    }
    assert good not in files["AVIF"]
    for kind, data in files.items():
        (tmp_path / kind).write_bytes(data)
        wanted = decode(file_of(kind))
        np.testing.assert_array_equal(decode(data), wanted)
        assert annotated(data, NOTHING, MANIFEST)
        np.testing.assert_array_equal(by_automodel(tmp_path / kind), wanted)
        if kind != "AVIF":  # Pillow refuses it itself
            np.testing.assert_array_equal(by_automodel(Image.open(tmp_path / kind)), wanted)


def test_stray_bytes_in_a_jpeg_leave_its_pixels_alone():
    data = file_of("JPEG")
    np.testing.assert_array_equal(decode(data[:20] + b"\0\1\2" + data[20:]), decode(data))


def test_tables_of_a_tiff_that_claim_gigabytes_are_not_read():
    stream = io.BytesIO()
    image_of("RGB").save(stream, "TIFF", tiffinfo={34665: 0x7F7F7F7F})
    data = stream.getvalue()
    table = struct.pack("<H", 2000) + struct.pack("<HHII", 700, 1, len(data), 0) * 2000
    data = data.replace(struct.pack("<I", 0x7F7F7F7F), struct.pack("<I", len(data))) + table
    np.testing.assert_array_equal(decode(data), QUARTERS)  # by the reader that does not look there


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_of_unknown_range_is_refused(mode):
    with pytest.raises(InvalidPicture, match="floats or 32-bit") as caught:
        by_automodel(Image.fromarray(GREY16.astype(np.int32)).convert(mode))
    assert "8 bits" in caught.value.hint


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pixels_that_are_missing_are_a_refusal(kind):
    data = file_of(kind)
    with pytest.raises(InvalidPicture):
        decode(data[: len(data) * 2 // 3])


def test_a_frame_of_another_size_than_the_header_tells_is_refused():
    data = bytearray(file_of("WEBP", exif=b"Exif\0\0II*\0"))
    assert data[12:16] == b"VP8X"
    data[24:27] = (WIDTH + 9).to_bytes(3, "little")
    with pytest.raises(InvalidPicture):
        decode(bytes(data))
