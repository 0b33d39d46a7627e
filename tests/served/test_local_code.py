"""Packages with code of their own, in a real tritonserver: what they answer, where they run, and how they fail."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from tritonvision.engine.engine import Engine
from tritonvision.errors import BrokenModel, InvalidParameter, TritonVisionError
from tritonvision.exporters.packages import import_package
from tritonvision.results import ClassificationPrediction, Detections, InstanceDetections
from tritonvision.server import Embedded
from tritonvision.settings import Settings

BRIGHT = """
from collections import namedtuple

import numpy as np

Found = namedtuple("Found", "xyxy class_id confidence")


class Bright:
    class_names = ["dark", "bright"]

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        assert open(folder + "/class_names.txt").read()
        return cls()

    def __call__(self, image, confidence=0.0):
        assert isinstance(image, np.ndarray) and image.dtype == np.uint8
        height, width = image.shape[:2]
        blue = float(image[..., 0].mean() / 255)
        found = Found(
            np.array([[0, 0, width / 2, height], [1, 2, 3, 4]]), np.array([1, 0]), np.array([blue, confidence])
        )
        return [found]
"""
OTHERS = {
    "classes": """
from types import SimpleNamespace


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def infer(self, image):
        return SimpleNamespace(class_id=[[1]], confidence=[[0.25, 0.75]])
""",
    "masks": """
import numpy as np
import supervision as sv


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image, **settings):
        mask = np.zeros((1, *image.shape[:2]), bool)
        mask[0, 10:20, 30:50] = True
        box, score, kind = np.array([[30.0, 10, 50, 20]]), np.array([0.5]), np.array([0])
        return sv.Detections(box, mask=mask, confidence=score, class_id=kind)
""",
    "text": """
class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        return f"{image.shape[1]} by {image.shape[0]} ü"
""",
    "embedding": """
import numpy as np


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        return np.arange(5)[None]
""",
    "unloadable": """
class Model:
    @classmethod
    def from_pretrained(cls, folder):
        raise RuntimeError("secret")
""",
    "dying": """
import os


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        os._exit(3)
""",
    "raising": """
class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        raise KeyError("secret")
""",
    "odd": """
class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        return {"boxes": []}
""",
    "elsewhere": """
import sys

import only_here


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        import numpy

        return f"{only_here.ANSWER} {sys.prefix} {numpy.__version__}"
""",
}
LETTERS = """
class Model:
    @classmethod
    def from_pretrained(cls, folder):
        print("каска")
        cls.names = open(folder + "/names.txt").read()
        return cls()

    def __call__(self, image):
        return self.names
"""
TASKS = {
    "classes": "classification", "masks": "instance-segmentation", "text": "text-only-ocr",
    "embedding": "embedding", "elsewhere": "text-only-ocr",
}  # fmt: skip


def package(folder: Path, code: str, names: str = "dark\nbright\n", config: str = "{}") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    (folder / "class_names.txt").write_text(names)
    (folder / "model_config.json").write_text(config)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def packages(tmp_path_factory, root) -> Path:
    """Folders of packages, each imported as ``mine/NAME``; one has an environment of its own with a module in it."""
    home = tmp_path_factory.mktemp("packages")
    environment = home / "environment"
    venv.create(environment, symlinks=True, with_pip=False)
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "only_here.py").write_text("ANSWER = 42\n")
    package(home / "bright", BRIGHT)
    for name, code in OTHERS.items():
        keys = {"task_type": TASKS.get(name, "object-detection")}
        if name == "elsewhere":
            keys["python_environment"] = str(environment)
        package(home / name, code, config=str(keys).replace("'", '"'))
    for name in ("bright", *OTHERS):
        import_package(home / name, f"mine/{name}", root, allow_code=True)
    letters = package(home / "юникод", LETTERS, config='{"task_type": "text-only-ocr"}')
    (letters / "names.txt").write_text("каска, жилет", encoding="utf-8")
    import_package(letters, "mine/letters", root, allow_code=True)
    return home


@pytest.fixture(scope="module")
def server(root, packages, tmp_path_factory):
    settings = Settings(repository=root, log_dir=tmp_path_factory.mktemp("log"))
    server = Embedded(settings)
    server.start()
    yield server, settings
    server.stop()


@pytest.fixture
def ask(server, photo):
    """``ask(id, picture, **settings)``: the result about one picture."""

    def ask(name, picture=photo, **parameters):
        async def infer():
            engine = Engine(server[1], server[0])
            await engine.start()
            try:
                _, results = await engine.infer(name, [picture], parameters)
            finally:
                await engine.close()
            return results[0]

        return asyncio.run(infer())

    return ask


def npy(picture: np.ndarray) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, picture, allow_pickle=False)
    return stream.getvalue()


def test_boxes_are_a_function_of_the_picture_which_comes_as_opencv_has_it(ask):
    blue = np.zeros((40, 60, 3), np.uint8)
    blue[..., 2] = 204  # the last channel of RGB is the first of BGR
    found = ask("mine/bright", npy(blue))
    assert type(found) is Detections
    assert found.confidence.tolist() == pytest.approx([0.8, 0.0]) and found.class_id.tolist() == [1, 0]
    assert found.xyxy[0].tolist() == [0, 0, 30, 40]
    assert found.image_metadata["height"] == 40


def test_a_setting_reaches_the_code_only_when_it_was_given(ask):
    assert ask("mine/bright").confidence.min() == 0
    assert ask("mine/bright", confidence=0.125).confidence.min() == 0.125
    assert len(ask("mine/bright", max_detections=1).xyxy) == 1, "what the code does not take is done for it"
    with pytest.raises(InvalidParameter, match="Unknown parameter"):
        ask("mine/bright", colour="red")


def test_each_task_comes_back_as_its_own_type(ask):
    classes = ask("mine/classes")
    assert type(classes) is ClassificationPrediction and classes.confidence.tolist() == [[0.25, 0.75]]
    assert classes.class_id.tolist() == [1]
    masks = ask("mine/masks", confidence=0.1)
    assert type(masks) is InstanceDetections
    dense = masks.to_supervision().mask
    assert dense.shape == (1, 512, 512) and dense.sum() == 200 and dense[0, 10:20, 30:50].all()
    assert ask("mine/text") == "512 by 512 ü"
    assert ask("mine/embedding").tolist() == [[0, 1, 2, 3, 4]]


def test_the_code_runs_in_the_environment_that_the_package_names(ask, packages):
    answer, prefix, numpy = ask("mine/elsewhere").split()
    assert answer == "42" and Path(prefix) == packages / "environment"
    assert numpy == np.__version__, "what the environment lacks comes from the server's own"


def test_the_code_reads_utf_8_and_lies_in_a_folder_of_any_name(ask):
    assert ask("mine/letters") == "каска, жилет"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("unloadable", "The package's code could not be loaded: RuntimeError."),
        ("dying", "The inference server could not load or unload the model."),
        ("raising", "The model failed on this input."),
        ("odd", "The package's model answered a 'dict', which its task does not know."),
    ],
)
def test_a_failing_package_is_reported_in_a_sentence_and_others_still_answer(ask, name, sentence):
    for _ in range(2):
        with pytest.raises(TritonVisionError) as caught:
            ask(f"mine/{name}")
        assert caught.value.message == sentence
        assert ask("mine/text") == "512 by 512 ü"


def test_a_lost_process_of_a_package_is_replaced(ask, server):
    assert ask("mine/elsewhere")
    (stub,) = [stub for stub in server[0].processes() if stub.model == "mine__elsewhere"]
    os.kill(stub.pid, signal.SIGKILL)
    assert ask("mine/elsewhere").startswith("42 ")
    assert [s.pid for s in server[0].processes() if s.model == "mine__elsewhere"] != [stub.pid]


def test_changes_to_a_package_are_served_after_it_is_imported_again(ask, packages, root):
    before = ask("mine/bright").xyxy[0, 2]
    code = BRIGHT.replace("width / 2", "width / 4")
    package(packages / "bright", code)
    _, fresh = import_package(packages / "bright", "mine/bright", root, allow_code=True)
    assert fresh
    assert ask("mine/bright").xyxy[0, 2] == before / 2
    assert import_package(packages / "bright", "mine/bright", root, allow_code=True)[1] is False


def test_code_that_answers_otherwise_than_at_its_import_is_not_served(ask, packages, root):
    """Its files are the same; what they read elsewhere is not: here a number beside the folder."""
    (packages / "share").write_text("0.5")
    code = BRIGHT.replace("width / 2", f"width * float(open({str(packages / 'share')!r}).read())")
    import_package(package(packages / "drifting", code), "mine/drifting", root, allow_code=True)
    (packages / "share").write_text("0.9")
    with pytest.raises(BrokenModel, match="'mine/drifting' does not answer as it did .*: its answer differs"):
        ask("mine/drifting")
    (packages / "share").write_text("0.5")
    assert ask("mine/drifting").xyxy[0].tolist() == [0, 0, 256, 512]


def test_the_folder_of_a_served_package_is_not_touched_but_for_compiled_code(packages):
    names = {path.name for path in (packages / "text").iterdir()}
    assert names - {"__pycache__"} == {"model.py", "class_names.txt", "model_config.json"}


def test_importing_code_needs_nothing_of_the_exporters(packages, tmp_path):
    program = f"""
import sys
from tritonvision.cli import app
app(["import", {str(packages / "text")!r}, "--as", "a/1", "--allow-local-code", "--repository", {str(tmp_path)!r}],
    standalone_mode=False)
print({{"torch", "onnx", "onnxslim", "onnxruntime"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "a/1 is published" in done.stdout and done.stdout.endswith("set()\n")
