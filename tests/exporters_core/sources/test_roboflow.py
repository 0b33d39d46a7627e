"""Weights of Roboflow: the ONNX package of a project, from a local server with the API's answers."""

import json

import httpx
import pytest
import weight_servers

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.sources import download, roboflow

FILES = {"weights.onnx": bytes(range(256)) * 2000, "inference_config.json": b"{}", "class_names.txt": b"cap\nhelmet\n"}


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.setattr(roboflow.time, "sleep", lambda _: None)
    with weight_servers.roboflow("helmets/3", "secret", FILES) as server:
        yield server


@pytest.fixture
def fetch(serving, tmp_path):
    return lambda model_id="helmets/3", key="secret": roboflow.fetch(model_id, serving.url, key, tmp_path)


def test_the_package_becomes_a_folder_that_tells_its_task(fetch):
    folder = fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES} == FILES
    assert json.loads((folder / "model_config.json").read_text())["task_type"] == "object-detection"


def test_what_is_there_is_not_fetched_again_and_what_changed_is(serving, fetch):
    folder = fetch()
    count = len(serving.ranges)
    assert fetch() == folder and len(serving.ranges) == count
    (folder / "class_names.txt").write_text("cut")
    assert (fetch() / "class_names.txt").read_bytes() == FILES["class_names.txt"] and len(serving.ranges) == count + 1


def test_a_download_that_stops_in_the_middle_goes_on_where_it_stopped(serving, fetch):
    serving.cut["weights.onnx"] = [200_000, 100_000]
    assert (fetch() / "weights.onnx").read_bytes() == FILES["weights.onnx"]
    first, second, third = serving.ranges[:3]
    assert first == 0 < second < third < len(FILES["weights.onnx"])


def test_a_download_that_always_stops_is_an_error_and_the_next_one_goes_on(serving, fetch, tmp_path):
    serving.cut["weights.onnx"] = [70_000] * download.TRIES
    with pytest.raises(ExportFailed, match=r"download of weights\.onnx stopped in the middle") as caught:
        fetch()
    assert "goes on from there" in caught.value.hint and not list(tmp_path.rglob("weights.onnx"))
    count = len(serving.ranges)
    fetch()
    assert serving.ranges[count] > 200_000


def test_without_a_hash_what_a_stopped_download_left_is_not_gone_on_with(serving, tmp_path):
    (tmp_path / "weights.onnx.part").write_bytes(b"of another file")
    with httpx.Client() as client:
        found = download.download(client, f"{serving.url}/files/weights.onnx", tmp_path / "weights.onnx")
    assert found.read_bytes() == FILES["weights.onnx"] and serving.ranges == [0]


def test_other_bytes_than_announced_are_refused_and_not_kept(serving, fetch, tmp_path):
    serving.files = FILES | {"weights.onnx": b"another file"}
    with pytest.raises(ExportFailed, match="came otherwise than it was announced"):
        fetch()
    assert not list(tmp_path.rglob("weights.onnx*"))


def test_of_several_packages_the_onnx_one_in_fp32_is_taken_from_whatever_page(serving, fetch):
    half = weight_servers.package(serving, FILES, quantization="fp16") | {"packageId": "half"}
    serving.pages = [
        [weight_servers.package(serving, FILES, "trt-model-package-v1"), {"type": "of a later version"}, half],
        [weight_servers.package(serving, FILES)],
    ]
    assert fetch().name == "onnx-model-package-v1-1"


def test_a_package_in_another_form_is_a_sentence(serving, fetch):
    serving.pages = [[weight_servers.package(serving, FILES, quantization={"bits": 8})]]
    with pytest.raises(ExportFailed):
        fetch()


def test_without_an_onnx_package_the_error_names_what_there_is(serving, fetch):
    serving.pages = [[weight_servers.package(serving, FILES, "trt-model-package-v1")]]
    with pytest.raises(ExportFailed, match="no ONNX weights of 'helmets/3', only trt"):
        fetch()


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden"])
def test_no_file_leads_out_of_the_folder(serving, fetch, tmp_path, name):
    serving.pages[0][0]["packageFiles"].append(
        {"fileHandle": name, "downloadUrl": f"{serving.url}/files/class_names.txt"}
    )
    with pytest.raises(ExportFailed, match="is not Roboflow's weights API"):
        fetch()
    assert not list(tmp_path.parent.rglob("evil"))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_files_come_over_http_alone(serving, fetch, address):
    serving.pages[0][0]["packageFiles"][0]["downloadUrl"] = address
    with pytest.raises(ExportFailed, match="is not Roboflow's weights API"):
        fetch()


@pytest.mark.parametrize(
    ("refused", "sentence", "hint"),
    [
        ([(403, {})], r"refuses the key for 'helmets/3' \(403\)", "ROBOFLOW_API_KEY"),
        ([(429, {"Retry-After": "90"})], "gives nothing for now: it answers 429", "in 90 seconds"),
        ([(503, {})] * 9, "gives nothing for now: it answers 503", "later"),
    ],
)
def test_what_the_api_refuses_is_a_sentence_and_a_hint(serving, fetch, refused, sentence, hint):
    serving.refused = refused
    with pytest.raises(ExportFailed, match=sentence) as caught:
        fetch()
    assert hint in caught.value.hint and "secret" not in caught.value.message + caught.value.hint


def test_an_api_that_asks_for_a_moment_gets_it(serving, fetch):
    serving.refused = [(429, {"Retry-After": "1"}), (502, {})]
    assert (fetch() / "weights.onnx").is_file()


def test_a_wrong_key_no_key_and_an_unknown_project_are_told_apart(fetch):
    with pytest.raises(ExportFailed, match=r"refuses the key for 'helmets/3' \(401\)"):
        fetch(key="wrong")
    with pytest.raises(InvalidParameter, match="only to those who name a key"):
        fetch(key=None)
    with pytest.raises(ExportFailed, match="has no 'hats/1' that this key may read"):
        fetch("hats/1")


def test_nobody_at_the_address_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(roboflow.time, "sleep", lambda _: None)
    with pytest.raises(ExportFailed, match="Roboflow cannot be reached"):
        roboflow.fetch("helmets/3", "http://127.0.0.1:9", "secret", tmp_path)
