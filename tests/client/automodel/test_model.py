"""What AutoModel refuses before any server is started or asked, and what it tells without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tritonvision
from tritonvision import AutoModel
from tritonvision.client.automodel import model
from tritonvision.errors import (
    ExportFailed,
    InvalidParameter,
    NotSupported,
    ServerUnavailable,
    UnknownModel,
)


@pytest.fixture(autouse=True)
def no_server_is_started(monkeypatch, tmp_path):
    """Nothing is published, and nothing is exported or started."""
    monkeypatch.setenv("TRITONVISION_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.delenv("TRITONVISION_SERVER", raising=False)
    yield
    assert model._SERVERS._embedded is None
    AutoModel.close()


def test_importing_the_package_imports_neither_grpc_nor_numpy():
    program = "import sys, tritonvision; print({'grpc', 'numpy', 'httpx', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError):
        tritonvision.AutoModle  # noqa: B018


@pytest.mark.parametrize("server", ["localhost:9001", "ftp://there:1", "grpc://there", "grpc://a:1/b", "http:/there"])
def test_an_address_that_is_none_is_refused(server):
    with pytest.raises(InvalidParameter) as caught:
        AutoModel.from_pretrained("resnet18", server=server)
    assert "http://" in caught.value.hint and "grpc://" in caught.value.hint


@pytest.mark.parametrize("name", ["nobody/1", "a b", "../there", "/nowhere/at/all", "./here", "a/b/c/d", ""])
def test_a_name_that_nobody_has_is_unknown_and_nothing_starts(name):
    with pytest.raises((UnknownModel, InvalidParameter)):
        AutoModel.from_pretrained(name)


@pytest.mark.parametrize("more", [{"backend": "cuda"}, {"backend": ["onnx", "coreml"]}, {"no_such_keyword": 1}])
def test_a_wrong_keyword_is_refused_before_the_model_is_looked_for(more):
    with pytest.raises(InvalidParameter):
        AutoModel.from_pretrained("nobody/1", **more)


@pytest.mark.parametrize("backend", ["trt", "tensorrt", "torch", "hugging-face", "mediapipe", ["trt", "torch"]])
def test_nothing_is_exported_for_a_backend_that_no_export_makes(backend):
    with pytest.raises(NotSupported) as caught:
        AutoModel.from_pretrained("resnet18", backend=backend, device="cuda")
    assert "onnx" in caught.value.message


def test_a_folder_with_code_is_refused_without_the_flag(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.py").write_text("raise SystemExit")
    for path in (tmp_path / "package", str(tmp_path / "package")):
        with pytest.raises(InvalidParameter) as caught:
            AutoModel.from_pretrained(path)
        assert "'package'" in caught.value.message and "allow_local_code_packages=True" in caught.value.hint


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "grpc://127.0.0.1:9"])
def test_a_folder_is_not_sent_to_another_server(tmp_path, server):
    with pytest.raises(NotSupported) as caught:
        AutoModel.from_pretrained(tmp_path, server=server, allow_local_code_packages=True)
    assert server in caught.value.message


def test_a_folder_wins_over_a_model_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "resnet18" / "model.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameter) as caught:
        AutoModel.from_pretrained("resnet18")
    assert "package" in caught.value.message


def test_a_file_of_weights_is_told_how_it_is_published(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(NotSupported) as caught:
        AutoModel.from_pretrained(tmp_path / "best.pt")
    assert "export" in caught.value.hint and "best.pt" in caught.value.hint


@pytest.mark.parametrize("setting", [True, False], ids=["setting", "argument"])
def test_a_server_that_does_not_answer_is_told(monkeypatch, setting):
    at = "http://127.0.0.1:9"
    if setting:
        monkeypatch.setenv("TRITONVISION_SERVER", at)
    with pytest.raises(ServerUnavailable) as caught:
        AutoModel.from_pretrained("resnet18", server=None if setting else at)
    assert at in caught.value.message


def test_a_triton_that_does_not_tell_what_a_model_is_is_named():
    with pytest.raises(UnknownModel) as caught:
        AutoModel.from_pretrained("resnet18", server="grpc://127.0.0.1:9")
    assert "127.0.0.1:9" in caught.value.message and "TRITONVISION_REPOSITORY" in caught.value.hint


def test_a_model_that_is_not_published_is_listed_and_described(capsys):
    assert AutoModel.list_models(published_only=True) == []
    listed = {entry.id: entry for entry in AutoModel.list_models()}
    assert len(listed) == 160 and not listed["resnet18"].published and listed["resnet18"].weights == ""
    described = AutoModel.describe_model("coco/3")
    assert (described.id, described.family, described.published) == ("yolov8n-640", "YOLOv8", False)
    assert "AGPL-3.0" in capsys.readouterr().out
    with pytest.raises(UnknownModel):
        AutoModel.describe("nobody/1")


def test_an_onnx_file_is_imported_in_the_words_of_the_import(tmp_path):
    (tmp_path / "best.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportFailed, match="best.onnx is not a valid ONNX graph"):
        AutoModel.from_pretrained(tmp_path / "best.onnx")
    with pytest.raises(NotSupported, match="'best.onnx' lies on this machine"):
        AutoModel.from_pretrained(tmp_path / "best.onnx", server="http://127.0.0.1:1")
