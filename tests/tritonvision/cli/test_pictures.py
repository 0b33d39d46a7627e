"""What a person may write where a picture belongs."""

import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tritonvision.cli.pictures import pictures_of, read_pictures
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.settings import Settings


def names(*arguments) -> list[str]:
    return [picture.name for picture in pictures_of([str(argument) for argument in arguments])]


@pytest.fixture
def folder(tmp_path, photo):
    """Three pictures, a text, and a folder with another picture."""
    for name in ("b.png", "a.JPG", "c.webp", "notes.txt", "deeper/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(photo)
    return tmp_path


def test_a_file_is_itself_and_a_folder_is_the_pictures_directly_in_it(folder):
    assert names(folder / "b.png") == [str(folder / "b.png")]
    assert names(folder) == [str(folder / name) for name in ("a.JPG", "b.png", "c.webp")]


def test_what_a_phone_takes_is_a_picture_of_the_folder(folder):
    for name in ("IMG_1.HEIC", "IMG_2.avif"):
        (folder / name).write_bytes(b"")
    assert names(folder)[:2] == [str(folder / "IMG_1.HEIC"), str(folder / "IMG_2.avif")]


def test_a_pattern_that_no_shell_expanded_is_the_files_that_match(folder):
    assert names(folder / "*.png") == [str(folder / "b.png")]
    assert names(folder / "**" / "*.png") == [str(folder / "b.png"), str(folder / "deeper" / "d.png")]


def test_a_file_with_the_signs_of_a_pattern_in_its_name_is_that_file(folder, photo):
    (folder / "frame[1].png").write_bytes(photo)
    assert names(folder / "frame[1].png") == [str(folder / "frame[1].png")]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("empty", "no picture in this folder"), ("*.gif", "No file matches"), ("missing.png", "no such file")],
)
def test_what_names_no_picture_is_reported_under_its_name(folder, argument, words):
    (folder / "empty").mkdir()
    (picture,) = pictures_of([str(folder / argument)])
    with pytest.raises(InvalidPicture, match=words):
        picture.read(Settings())
    with pytest.raises(InvalidPicture, match=argument.replace("*", r"\*") + ": "):
        read_pictures([str(folder / argument)], Settings())


def test_an_argument_that_is_too_long_for_a_path_is_a_picture_that_cannot_be_read():
    (picture,) = pictures_of(["A" * 4000])
    with pytest.raises(InvalidPicture, match="cannot be read"):
        picture.read(Settings())


def test_standard_input_is_one_picture(monkeypatch, photo):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(photo)))
    (picture,) = pictures_of(["-"])
    assert picture.stem == "stdin" and picture.read(Settings()) == photo
    with pytest.raises(InvalidParameter, match="twice"):
        pictures_of(["-", "a.png", "-"])


def test_an_address_is_fetched(photo):
    class OnePicture(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photo)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), OnePicture)
    threading.Thread(target=server.serve_forever).start()
    try:
        (picture,) = pictures_of([f"http://127.0.0.1:{server.server_port}/far/astronaut.png?size=1"])
        assert picture.stem == "astronaut" and picture.read(Settings()) == photo
    finally:
        server.shutdown()
        server.server_close()
