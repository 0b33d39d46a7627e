"""Every form of a picture becomes encoded bytes, or a refusal."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.errors import InvalidPicture
from tritonvision.facade.inputs import from_base64


@given(st.binary(min_size=1, max_size=200))
def test_base64_comes_back_however_it_is_written(data):
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
def test_nothing_is_refused(text):
    with pytest.raises(InvalidPicture):
        from_base64(text)
