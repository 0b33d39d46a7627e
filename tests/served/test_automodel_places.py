"""AutoModel in other places: packages of the user's, a Triton whose repository is elsewhere, a server with a key."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from tritonvision import AutoModel, results
from tritonvision.errors import InvalidParameter, NotSupported, ServerUnavailable, Unauthorized, UnknownModel
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"
# A model in the peer's form: boxes of what is brighter than a grey, which its weights hold.
MODEL = '''
import json
from pathlib import Path

import numpy as np

from tritonvision.results import Detections


class Bright:
    class_names = ["bright", "dark"]

    def __init__(self, grey):
        self.grey = grey

    @classmethod
    def from_pretrained(cls, model_name_or_path, **kwargs):
        return cls(json.loads((Path(model_name_or_path) / "weights.json").read_text()))

    def infer(self, images, confidence=0.4, **kwargs):
        rows, columns = np.nonzero(images.min(axis=2) > self.grey)
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float32)
        return [Detections(box, np.zeros(1, np.int32), np.array([0.75], np.float32))]
'''


@pytest.fixture(scope="module", autouse=True)
def home(repository, tmp_path_factory):
    """A repository with the face model, which packages may be imported into; its server is gone with the module."""
    root = tmp_path_factory.mktemp("home") / "repository"
    shutil.copytree(repository, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONVISION_REPOSITORY", str(root))
        patch.delenv("TRITONVISION_SERVER", raising=False)
        yield root
    AutoModel.close()


@pytest.fixture
def package(tmp_path):
    """``my_custom_model`` of the document: its facts, its code, its weights."""
    folder = tmp_path / "my_custom_model"
    folder.mkdir()
    config = {"model_module": "model.py", "model_class": "Bright", "task_type": "object-detection"}
    (folder / "model_config.json").write_text(json.dumps(config))
    (folder / "model.py").write_text(MODEL)
    (folder / "weights.json").write_text("100")
    return folder


def picture() -> np.ndarray:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = 150
    return image


def test_a_package_of_code_is_loaded_as_printed_and_asked_like_any_model(package, home):
    model = AutoModel.from_pretrained(
        str(package),
        allow_local_code_packages=True
    )  # fmt: skip
    (found,) = model(picture())
    assert isinstance(found, results.Detections) and found.xyxy.tolist() == [[30, 10, 50, 20]]
    assert model.class_names == ["bright", "dark"] and model.model_id.startswith("local/my_custom_model/")
    assert Repository(home).get(model.model_id).weights == "user" and model.backend == "custom"
    with pytest.raises(NotSupported) as caught:
        AutoModel.from_pretrained(package, allow_local_code_packages=True, backend="onnx")
    assert "published as custom" in caught.value.message


def test_a_package_that_has_changed_is_loaded_anew(package):
    assert len(AutoModel.from_pretrained(package, allow_local_code_packages=True)(picture())[0]) == 1
    changed = picture()
    changed[0, 0] = 255
    (package / "weights.json").write_text("200")
    (found,) = AutoModel.from_pretrained(package, allow_local_code_packages=True)(changed)
    assert found.xyxy.tolist() == [[0, 0, 1, 1]]


def test_code_runs_only_where_that_is_allowed(package, home):
    before = sorted(home.iterdir())
    (package / "model.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InvalidParameter):
        AutoModel.from_pretrained(package)
    assert sorted(home.iterdir()) == before


def test_a_model_of_a_closed_server_raises_and_the_next_one_starts_a_server(photo):
    model = AutoModel.from_pretrained(FACE)
    assert len(model(photo)[1][0]) == 1
    AutoModel.close()
    AutoModel.close()
    with pytest.raises(ServerUnavailable) as caught:
        model(photo)
    assert "from_pretrained" in caught.value.hint
    assert len(AutoModel.from_pretrained(FACE)(photo)[1][0]) == 1


def test_many_threads_share_one_server_and_get_their_own_answers(photo):
    whole = cv2.imdecode(np.frombuffer(photo, np.uint8), 1)
    shifts = [0, 8, 16, 24, 32, 40, 48, 56]

    def left_edge(shift: int) -> float:
        model = AutoModel.from_pretrained(FACE)
        return float(model(np.ascontiguousarray(whole[:, shift:]))[1][0].xyxy[0, 0])

    with ThreadPoolExecutor(8) as pool:
        edges = np.array(list(pool.map(left_edge, shifts)))
    assert np.abs(edges + shifts - edges[0]).max() < 8, "each answer is about its own picture"


# ---- a Triton of somebody else's -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(repository, tmp_path_factory):
    """A tritonserver that lets whoever reaches it load and look; nothing is loaded."""
    server = Embedded(Settings(repository=repository, log_dir=tmp_path_factory.mktemp("log")))
    server.start()
    yield server
    server.stop()


def test_a_triton_with_another_repository_describes_its_models_itself(foreign, tmp_path, monkeypatch, photo):
    monkeypatch.setenv("TRITONVISION_REPOSITORY", str(tmp_path))
    model = AutoModel.from_pretrained(FACE, server=f"grpc://{foreign.address}")
    points, faces = model(photo)
    assert (model.task, model.weights, model.class_names) == ("keypoint-detection", "official", ["face"])
    assert len(faces[0]) == 1 and points[0].xy.shape == (1, 6, 2)
    with pytest.raises(UnknownModel):
        AutoModel.from_pretrained("resnet18", server=f"grpc://{foreign.address}")


# ---- a server with a key ---------------------------------------------------------------------------------------------


def test_the_key_of_a_server_comes_from_the_call_or_the_settings(serve_with, monkeypatch, photo):
    with serve_with("--api-key", "secret") as url:
        for key in (None, "wrong"):
            with pytest.raises(Unauthorized):
                AutoModel.from_pretrained(FACE, api_key=key, server=url)
        model = AutoModel.from_pretrained(FACE, "roboflow", "secret", server=url)
        monkeypatch.setenv("TRITONVISION_API_KEY", "secret")
        monkeypatch.setenv("TRITONVISION_SERVER", url)
        for asked in (model, AutoModel.from_pretrained(FACE)):
            assert len(asked(cv2.imdecode(np.frombuffer(photo, np.uint8), 1))[1][0]) == 1
