"""The step around a user's own package: how it is loaded, what it is asked, and what its answers become."""

import io
import json
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.python_backend import local_code

CODE = """
from helper import SCORES


class {name}:
    @classmethod
    def from_pretrained(cls, folder):
        made = cls()
        made.folder = folder
        return made

    def __call__(self, image, **settings):
        raise NotImplementedError(SCORES)
"""


def png(width=200, height=100):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = 250
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def images(*pictures):
    found = np.empty((len(pictures), 1), dtype=object)
    found[:, 0] = pictures
    return found


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package; what it leaves in ``sys`` is gone afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(code=CODE.format(name="Model")):
        (tmp_path / "model.py").write_text(code)
        (tmp_path / "helper.py").write_text("SCORES = [0.1, 0.9]")
        return tmp_path

    yield write
    for name in ("helper", local_code._MODULE):
        sys.modules.pop(name, None)


@pytest.fixture
def step(triton, tmp_path, package):
    """A step whose model is ``ask`` of the test, of a package with two classes."""

    def open_step(ask, task="classification"):
        folder = package()
        options = {"directory": str(folder), "module": "model.py", "class": None, "classes": 2}
        made = local_code.TritonPythonModel()
        made.initialize(triton.args(tmp_path, {"task": task, "options": json.dumps(options)}))
        made.package.model, made.package.accepted = ask, local_code.accepted(ask)
        return made

    return open_step


def scores(first, second):
    return SimpleNamespace(confidence=[first, second])


def test_a_package_sees_the_picture_as_opencv_reads_it(step):
    seen = []
    found = step(lambda image: seen.append(image) or scores(0.25, 0.75)).answer({"image": images(png())}, [])
    assert seen[0].shape == (100, 200, 3) and seen[0][0, 0].tolist() == [0, 0, 250]
    assert seen[0].flags.c_contiguous
    assert found["scores"].tolist() == [[0.25, 0.75]] and found["image_size"].tolist() == [[100, 200]]


def test_of_a_region_it_sees_the_part_and_the_size_is_the_pictures(step, triton):
    seen = []
    made = step(lambda image: seen.append(image.shape) or scores(0.25, 0.75))
    parameters = triton.texts({}, {"region": [50, 50, 20, 10]})
    found = made.answer({"image": images(png(), b""), "parameters": parameters}, [])
    assert seen == [(100, 200, 3), (10, 20, 3)]
    assert found["image_size"].tolist() == [[100, 200]] * 2 and found["image_size"].dtype == np.int32


def test_settings_go_to_a_package_that_takes_them_and_are_applied_for_one_that_does_not(step, triton):
    taken = []
    knows = step(lambda image, confidence=0.0: taken.append(confidence) or scores(0.25, 0.75))
    parameters = triton.texts({"confidence": 0.2})
    assert knows.answer({"image": images(png()), "parameters": parameters}, [])["class_ids"].tolist() == [[1]]
    assert taken == [0.2]
    ignorant = step(lambda image: scores(0.25, 0.75))
    assert ignorant.answer({"image": images(png()), "parameters": parameters}, [])["class_ids"].tolist() == [[1, 0]]
    with pytest.raises(InvalidParameter, match="'loudness'"):
        ignorant.answer({"image": images(png()), "parameters": triton.texts({"loudness": 1})}, [])


def test_answers_of_different_length_are_padded(step):
    counts = iter([1, 2])

    def find(image):
        count = next(counts)
        boxes = np.tile([1, 2, 3, 4], (count, 1))
        return SimpleNamespace(xyxy=boxes, confidence=np.full(count, 0.9), class_id=np.zeros(count, int))

    found = step(find, "object-detection").answer({"image": images(png(), png())}, [])
    assert found["class_ids"].tolist() == [[0, -1], [0, 0]] and found["boxes"].shape == (2, 2, 4)


def test_a_fault_of_the_package_is_in_the_log_and_not_in_the_answer(step, triton):
    def fail(image):
        raise KeyError("/home/somebody/secret")

    (response,) = step(fail).execute([triton.Request({"image": images(png())}, ["scores"])])
    assert response.error().message() == "[internal] The model failed on this input."
    assert "KeyError" in triton.log[0]


def test_the_only_class_with_from_pretrained_is_the_model_and_finds_what_lies_beside_it(package):
    folder = package()
    assert local_code.load(folder, "model.py", None).folder == str(folder)
    assert local_code.load(folder, "model.py", "Model").folder == str(folder)


def test_of_two_classes_one_has_to_be_named(package):
    folder = package(CODE.format(name="One") + CODE.format(name="Two"))
    assert type(local_code.load(folder, "model.py", "Two")).__name__ == "Two"
    with pytest.raises(TypeError, match="2 classes"):
        local_code.load(folder, "model.py", None)


@pytest.mark.parametrize("code", ["import nothing_of_that_name", "raise SystemExit(3)", "class A: pass"])
def test_code_that_does_not_load_is_a_sentence_and_its_trace_is_in_the_log(triton, tmp_path, package, code):
    options = {"directory": str(package(code)), "module": "model.py", "class": None, "classes": 2}
    args = triton.args(tmp_path, {"task": "classification", "options": json.dumps(options)})
    sentence = r"^\[internal\] The package's code could not be loaded: \w+.$"
    with pytest.raises(triton.TritonModelException, match=sentence):
        local_code.TritonPythonModel().initialize(args)
    assert "Traceback" in triton.log[0]


def test_the_model_may_be_asked_by_infer(triton, tmp_path, package):
    code = CODE.format(name="Model").replace("__call__(self, image, **settings)", "infer(self, image)")
    options = {"directory": str(package(code)), "module": "model.py", "class": None, "classes": 2}
    made = local_code.TritonPythonModel()
    made.initialize(triton.args(tmp_path, {"task": "classification", "options": json.dumps(options)}))
    assert made.package.accepted == {"image"} and made.package.model.__name__ == "infer"


def test_which_settings_a_call_takes():
    def some(image, confidence, *, iou_threshold=0.5):
        pass

    assert local_code.accepted(some) == {"image", "confidence", "iou_threshold"}
    assert local_code.accepted(lambda image, **more: None) is None
    assert local_code.accepted(print) is None or "image" not in local_code.accepted(print)


def test_what_is_no_answer_is_an_error(step):
    with pytest.raises(TritonVisionError):
        step(lambda image: object()).answer({"image": images(png())}, [])


# ---- folders and files -----------------------------------------------------------------------------------------------


def test_a_folder_with_an_accent_is_reached_where_nobody_watches(tmp_path, monkeypatch):
    """Somebody else's tritonserver has no folder of ours that the link could lie in."""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "Prüfung"
    folder.mkdir()
    reached = local_code._reachable(str(folder))
    assert str(reached).isascii() and reached.resolve() == folder.resolve()
    assert reached.parent.stat().st_mode & 0o077 == 0


def test_a_file_that_python_does_not_import_is_named(tmp_path):
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(ImportError, match="'model.txt' is no file that Python imports"):
        local_code.load(tmp_path, "model.txt", None)
