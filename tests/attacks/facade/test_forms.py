"""Forms of very many parts, of none, or of parts that do not end; names of files that lead somewhere."""

from __future__ import annotations

import pytest

BOUNDARY = "part"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(head: bytes, data: bytes = b"x") -> bytes:
    return b"--part\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def field(name: bytes, data: bytes = b"x") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', data)


def upload(data: bytes, name: bytes = b"a.jpg", more: bytes = b"") -> bytes:
    return part(b'Content-Disposition: form-data; name="file"; filename="' + name + b'"' + more, data)


END = b"--part--\r\n"
FORMS = {
    "100,000 parts": field(b"a") * 100_000 + END,
    "100,000 files": upload(b"x") * 100_000 + END,
    "a part of a megabyte of headers": part(b"x: " + b"y" * 2**20) + END,
    "100,000 headers of a part": part(b"x: y\r\n" * 100_000 + b"x: y") + END,
    "a name of a megabyte": field(b"a" * 2**20) + END,
    "a part without a name": part(b"Content-Disposition: form-data") + END,
    "a part without a disposition": part(b"Content-Type: image/jpeg") + END,
    "a coding of parts": upload(b"eA==", more=b"\r\nContent-Transfer-Encoding: base64") + END,
    "an unknown set of letters": field(b"_charset_", b"utf-99") + upload(b"x") + END,
    "no end": upload(b"x" * 1000),
    "nothing but the end": END,
    "nothing": b"",
    "another boundary": upload(b"x").replace(b"--part", b"--other") + b"--other--\r\n",
    "half boundaries": b"\r\n--par" * 50_000 + END,
    "a form within": part(b"Content-Type: multipart/mixed; boundary=inner", b"--inner\r\n\r\n--inner--") + END,
}  # fmt: skip
TYPES = ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 9000,
         "multipart/form-data; boundary=\"", "multipart/form-data; boundary=part; boundary=other",
         "multipart/form-data; charset=utf-99; boundary=part"]  # fmt: skip


def post(house, body: bytes, content_type: str = TYPE):
    return house.client.post("/coco/3", content=body, headers={"content-type": content_type})


@pytest.mark.attack("malformed forms")
@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_form_is_refused(shared_house, name):
    answer = post(shared_house, FORMS[name])
    assert answer.status_code in (400, 413), answer.text[:300]
    assert "Internal" not in answer.text and len(answer.content) < 5000


@pytest.mark.attack("malformed forms")
@pytest.mark.parametrize("content_type", TYPES, ids=lambda text: text[20:50])
def test_a_form_of_an_odd_type_is_refused_or_read(shared_house, picture, content_type):
    answer = post(shared_house, upload(picture) + END, content_type)
    assert answer.status_code in (200, 400) and "Internal" not in answer.text


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", [b"../../etc/cron.d/x", b"/etc/passwd", b"a\\..\\b", b"a" * 1000, b"\xff\xfe", b""])
def test_the_name_of_an_uploaded_file_means_nothing(shared_house, picture, name):
    answer = post(shared_house, upload(picture, name) + END)
    assert answer.status_code == 200 or name == b"" and answer.status_code == 400
    assert b"etc" not in answer.content
