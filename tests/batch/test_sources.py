"""What a batch takes for pictures: folders, patterns, lists, Parquet, stores; in an order that stays."""

from __future__ import annotations

import functools
import http.server
import threading

import pyarrow
import pytest
from pyarrow import parquet

from tritonvision.batch import sources
from tritonvision.errors import InvalidParameter, InvalidPicture, SetupError
from tritonvision.settings import Settings

fsspec = pytest.importorskip("fsspec")


def names_of(source, column=None) -> list[list[str]]:
    return [list(group) for group in sources.groups(str(source), column)]


def read(names, column=None) -> list[bytes | str]:
    """The bytes of each picture, or the sentence of what is wrong with it."""
    found = []
    for get in sources.read_pictures(names, Settings(), column):
        try:
            found.append(get())
        except InvalidPicture as error:
            found.append(error.message)
    return found


@pytest.fixture
def folder(tmp_path, photo):
    """Four pictures, one of them below, and what is none."""
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "deep/c.png", "ü #1.png"):
        (tmp_path / name).write_bytes(photo)
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def test_a_folder_is_its_pictures_and_those_below_it_by_path(folder, photo):
    expected = [str(folder / name) for name in ("a.JPG", "b.png", "deep/c.png", "ü #1.png")]
    assert names_of(folder) == [expected]
    assert read(expected) == [photo] * 4


def test_a_pattern_is_what_matches_it(folder):
    assert names_of(folder / "*.png") == [[str(folder / "b.png"), str(folder / "ü #1.png")]]


def test_a_list_names_a_picture_a_line_from_its_own_folder(folder, photo):
    (folder / "list.txt").write_text(f"b.png\n\n  deep/c.png \n{folder}/a.JPG\nmissing.png\nb.png\n", encoding="utf-8")
    (names,) = names_of(folder / "list.txt")
    assert names == [str(folder / n) for n in ("b.png", "deep/c.png", "a.JPG", "missing.png", "b.png")]
    found = read(names)
    assert found[:3] == [photo] * 3 and "no file" in found[3] and found[4] == photo


def test_a_url_is_fetched_and_what_does_not_answer_is_an_error_of_that_picture(folder, photo, monkeypatch):
    monkeypatch.setattr(sources, "_PAUSE", 0.0)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        found = read([f"{base}/b.png", f"{base}/none.png"])
        server.shutdown()
    assert found[0] == photo and "404" in found[1]


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_pictures_in_parquet_are_read_from_their_rows_and_no_shard_crosses_a_row_group(tmp_path, photo, kind):
    pictures = [photo + bytes([i]) for i in range(7)]  # a PNG's end may be followed by anything
    values = pictures if kind == "bytes" else [{"bytes": one, "path": None} for one in pictures]
    parquet.write_table(pyarrow.table({"label": range(7), "image": values}), tmp_path / "a.parquet", row_group_size=4)
    groups = names_of(tmp_path / "a.parquet")
    assert groups == [[f"{tmp_path}/a.parquet#{row}" for row in rows] for rows in (range(4), range(4, 7))]
    shards = list(sources.cut(groups, 3))
    assert [len(shard) for shard in shards] == [3, 1, 3]
    assert [read(shard) for shard in shards] == [pictures[:3], pictures[3:4], pictures[4:]]


def test_paths_in_parquet_are_read_like_a_list(folder, photo):
    table = pyarrow.table({"id": [1, 2, 3], "where": ["b.png", str(folder / "a.JPG"), None]})
    (folder / "tables").mkdir()
    parquet.write_table(table, folder / "tables" / "a.parquet")
    with pytest.raises(InvalidParameter, match="column"):
        names_of(folder / "tables" / "a.parquet")
    (names,) = names_of(folder / "tables", "where")
    assert names[:2] == [f"{folder}/tables/b.png", str(folder / "a.JPG")]
    assert read(names)[1] == photo


def test_a_row_without_a_picture_is_an_error_of_that_row(tmp_path, photo):
    parquet.write_table(pyarrow.table({"image": [photo, None, b"no picture"]}), tmp_path / "a.parquet")
    found = read(names_of(tmp_path / "a.parquet")[0])
    assert found[0] == photo and "no picture" in found[1] and isinstance(found[2], str)


def test_a_store_is_read_by_the_addresses_that_it_gives(photo):
    store = fsspec.filesystem("memory")
    for name in ("/pictures/a.png", "/pictures/b/c.png"):
        store.pipe_file(name, photo)
    (names,) = names_of("memory://pictures")
    assert names == ["memory:///pictures/a.png", "memory:///pictures/b/c.png"]
    assert read(names) == [photo, photo]


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.png", "nosuchstore://bucket"])
def test_a_source_without_pictures_is_a_sentence(tmp_path, source):
    with pytest.raises(InvalidParameter):
        names_of(source if "://" in source else tmp_path / source)


def test_a_folder_of_both_kinds_has_to_be_named_more_exactly(folder, photo):
    parquet.write_table(pyarrow.table({"image": [photo]}), folder / "a.parquet")
    with pytest.raises(InvalidParameter, match="pictures and Parquet"):
        names_of(folder)
    assert names_of(folder / "*.parquet") == [[f"{folder}/a.parquet#0"]]


def test_a_pattern_that_matches_lists_and_pictures_has_to_be_narrower(folder):
    (folder / "list.txt").write_text("b.png")
    with pytest.raises(InvalidParameter, match="lists and pictures"):
        names_of(folder / "[bl]*")


def test_a_list_that_is_no_text_is_a_sentence(tmp_path):
    (tmp_path / "list.txt").write_bytes("ü.png".encode("latin-1"))
    with pytest.raises(InvalidParameter, match="UTF-8"):
        names_of(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["list.txt", "a.parquet"])
def test_a_file_that_a_store_does_not_give_is_a_sentence(monkeypatch, name):
    store = fsspec.filesystem("memory")
    store.pipe_file(f"/closed/{name}", b"")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(store), "_open", refuse)
    with pytest.raises(SetupError, match="Permission denied"):
        names_of(f"memory://closed/{name}")


def test_a_file_that_only_ends_like_parquet_is_a_sentence(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no table at all, whatever it is called")
    with pytest.raises(InvalidParameter, match="Parquet"):
        names_of(tmp_path / "a.parquet")
