"""Every form of a picture becomes encoded bytes, or a refusal."""

from __future__ import annotations

import asyncio
import base64
import io
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tritonvision.errors import InvalidPicture
from tritonvision.facade.inputs.pictures import LARGE, Pictures, from_base64
from tritonvision.pictures import decode, shown_size
from tritonvision.settings import Settings


@given(st.binary(min_size=1, max_size=200))
def test_every_spelling_of_base64_is_decoded(data):
    text = base64.b64encode(data).decode()
    for spelling in (
        text, text.encode(), text.rstrip("="), f"data:image/png;base64,{text}",
        f" data:image/x;charset=a;base64,{text}",
        base64.encodebytes(data), text.replace("A", "A\n"), f"\u00e9 {text}", "!" + text,
    ):  # fmt: skip
        assert from_base64(spelling) == data


@given(st.text(max_size=100))
def test_any_text_is_bytes_or_a_refusal(text):
    try:
        assert from_base64(text)
    except InvalidPicture:
        pass


@pytest.mark.parametrize("text", ["", "=", "====", "%%%", "A", "AAAAA", "data:image/png;base64,", "\n\n"])
def test_base64_without_bytes_is_refused(text):
    with pytest.raises(InvalidPicture):
        from_base64(text)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_shown_size_is_the_decoded_pictures(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (7, 4)).save(stream, form, exif=exif)
    for turn in (True, False):
        height, width, _ = decode(stream.getvalue(), turn).shape
        assert shown_size(stream.getvalue(), turn) == (width, height)


def test_pictures_without_orientation_have_a_shown_size_too():
    stream = io.BytesIO()
    np.save(stream, np.zeros((5, 8, 3), np.uint8))
    assert shown_size(stream.getvalue()) == (8, 5)
    for form in ("BMP", "GIF"):
        stream = io.BytesIO()
        Image.new("RGB", (7, 4)).save(stream, form)
        assert shown_size(stream.getvalue()) == (7, 4)
    with pytest.raises(InvalidPicture):
        shown_size(b"no picture")


@given(st.binary(min_size=1, max_size=200))
def test_url_safe_base64_is_read(data):
    text = base64.urlsafe_b64encode(data).decode()
    for spelling in (text, text.rstrip("="), f"data:image/png;base64,{text}", f"{text[:5]}\n{text[5:]}"):
        assert from_base64(spelling) == data


@pytest.mark.parametrize("prefix", ["data:;base64,", "data:application/octet-stream;base64,", "DATA:Image/PNG;BASE64,"])
def test_the_type_in_a_data_url_is_ignored(prefix):
    assert from_base64(f"{prefix}AAEC") == b"\0\1\2"


class Watched(Pictures):
    """Records the thread in which a header was read."""

    def check(self, data: bytes) -> None:
        self.thread = threading.get_ident()
        super().check(data)


@pytest.mark.parametrize(("size", "here"), [(1000, True), (LARGE, False), (4 * LARGE, False)])
def test_the_header_of_a_large_file_is_read_off_the_event_loop(size, here):
    stream = io.BytesIO()
    Image.new("RGB", (7, 4)).save(stream, "JPEG")
    pictures = Watched(Settings(), None)
    assert asyncio.run(pictures.encoded(stream.getvalue().ljust(size, b"\0")))
    assert (pictures.thread == threading.get_ident()) == here
