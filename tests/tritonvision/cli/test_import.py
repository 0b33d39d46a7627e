"""``tritonvision import`` as a person or a script meets it: sentences, exit codes, and nothing that runs unasked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tritonvision import golden
from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages import import_package
from tritonvision.publication import Repository

CODE = """
from pathlib import Path

(Path(__file__).parent.parent / "it_ran").touch()


class Model:
    class_names = ["a", "b"]

    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        return []
"""


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tritonvision", "import", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def assert_one_line_and_a_hint(done, code, sentence):
    assert done.returncode == code, done.stderr
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: ") and sentence in error and hint.startswith("Hint: ")
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.fixture
def repository(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def code(tmp_path) -> Path:
    """A package that leaves a file beside its folder when its code runs."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "model.py").write_text(CODE)
    return folder


@pytest.fixture
def graph(tmp_path) -> Path:
    """A package of weights: the mean colour decides between two classes."""
    folder = tmp_path / "graph"
    folder.mkdir()
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        colours (float[1,3,32,32] images) => (float[1,2] scores) <float[3,2] weights = {9,0,0,9,3,5}>
        { mean = ReduceMean<axes=[2,3], keepdims=0>(images)  scores = MatMul(mean, weights) }""")
    onnx.save(model, folder / "weights.onnx")
    (folder / "class_names.txt").write_text("warm\ncold\n")
    size = {"height": 32, "width": 32}
    network = {"training_input_size": size, "color_mode": "rgb", "resize_mode": "stretch", "scaling_factor": 255}
    config = {"network_input": network, "post_processing": {"type": "softmax", "fused": False}}
    (folder / "inference_config.json").write_text(json.dumps(config))
    return folder


def test_a_package_of_weights_is_published_with_its_proof_in_one_line_and_not_twice(graph, repository):
    first = run(graph, "--as", "mine/1", "--repository", repository)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("mine/1 is published (user weights): 8 answers equal the reference's within")
    second = run(graph, "--as", "mine/1", "--repository", repository)
    assert (second.returncode, second.stderr) == (0, "")
    assert "published already" in second.stdout and "--force" in second.stdout


def test_code_runs_only_where_it_is_allowed_to(code, repository, tmp_path):
    done = run(code, "--as", "mine/1", "--repository", repository)
    assert_one_line_and_a_hint(done, 2, "brings Python code of its own, which was not allowed to run")
    assert "--allow-local-code" in done.stderr and not repository.exists()
    assert not (tmp_path / "it_ran").exists()
    done = run(code, "--as", "mine/1", "--repository", repository, "--allow-local-code")
    assert done.returncode == 0 and "mine/1 is published (object-detection)." in done.stdout
    assert (tmp_path / "it_ran").exists(), "no file names its classes, so it was asked"
    manifest = json.loads((repository / "mine__1" / "manifest.json").read_text())
    assert manifest["labels"] == ["a", "b"] and manifest["backend"] == "custom"


BOX = """
from itertools import count
from types import SimpleNamespace

TURNS = count(1)


class Model:
    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, image):
        return SimpleNamespace(xyxy=[[1, 2, 30, 40]], confidence=[SCORE], class_id=[0])
"""
NO_GOLDEN = {
    "it raises": ("1 / 0", "The package's code could not be run: ZeroDivisionError: division by zero"),
    "it ends": ("exit()", "The package's code ended early when it was asked about a picture."),
    "it counts": ("1 / next(TURNS)", "Asked twice about one picture, it gave two answers."),
}


def test_code_is_asked_a_golden_question_and_its_answer_is_kept(code, repository):
    (code / "class_names.txt").write_text("x\n")
    (code / "model.py").write_text(BOX.replace("SCORE", "0.75"))
    done = run(code, "--as", "mine/1", "--repository", repository, "--allow-local-code")
    assert done.returncode == 0 and "golden" not in done.stdout
    questions = golden.read(repository, Repository(repository).get("mine/1"))
    ((stage,),) = (question.stages for question in questions.questions)
    asked, answered = questions.load(stage)
    assert asked["image"].shape == asked["parameters"].shape == (1, 1)
    assert answered["boxes"].tolist() == [[[1, 2, 30, 40]]] and answered["scores"].tolist() == [[0.75]]
    assert stage.compare(answered, answered, exact=False).passed
    assert not stage.compare(answered | {"boxes": answered["boxes"] + 9}, answered, exact=False).passed


@pytest.mark.parametrize("name", NO_GOLDEN)
def test_code_that_gives_no_answer_twice_is_published_with_a_note_that_says_why(code, repository, name):
    score, why = NO_GOLDEN[name]
    (code / "class_names.txt").write_text("x\n")
    (code / "model.py").write_text(BOX.replace("SCORE", score))
    manifest, _ = import_package(code, "mine/1", repository, allow_code=True)
    assert manifest.notes[-1] == f"No load asks it a golden question: {why}"
    assert golden.read(repository, manifest) is None


WRONG_CODE = {
    "no class": ({"model_class": "Other"}, CODE, "has no class 'Other'"),
    "no Python": ({}, "def (", "model.py of the package is not valid Python (line 1)"),
    "a module elsewhere": ({"model_module": "../x.py"}, CODE, "'model_module' must be the name of a .py file"),
    "no module": ({"model_module": "other.py"}, CODE, "The package has no other.py"),
    "a task that cannot be": ({"task_type": "vlm"}, CODE, "A package's own code cannot do 'vlm' here."),
    "no environment": ({"python_environment": "nowhere"}, CODE, "'python_environment' names no Python environment."),
    "it raises": ({}, "raise OSError('no camera')", "could not be run: OSError: no camera"),
    "no classes": ({}, CODE.replace("class_names", "names"), "Neither class_names.txt nor the package's model"),
    "two classes": ({}, CODE + CODE.replace("class Model", "class Other"), "has 2 classes with from_pretrained"),
    "it ends": ({}, "import os; os._exit(0)", "ended early when it was asked for its class names"),
}


@pytest.mark.parametrize("name", WRONG_CODE)
def test_what_is_wrong_with_code_is_one_sentence(code, repository, name):
    config, text, sentence = WRONG_CODE[name]
    (code / "model.py").write_text(text)
    (code / "model_config.json").write_text(json.dumps(config))
    with pytest.raises(ExportFailed) as caught:
        import_package(code, "mine/1", repository, allow_code=True)
    assert sentence in caught.value.message and "\n" not in caught.value.message and caught.value.hint
    assert not repository.exists() or not list(repository.iterdir())


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"python": "3.9", "numpy": ""}, "has Python 3.9, and the server's processes are Python 3."),
        ({"python": f"3.{sys.version_info.minor}", "numpy": "2.2.1"}, "has numpy 2.2.1, and the server's processes"),
    ],
)
def test_an_environment_that_the_server_cannot_use_is_refused_and_says_why(code, repository, about, sentence):
    python = code / "environment" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho '{json.dumps(about)}'\n")
    python.chmod(0o755)
    (code / "model_config.json").write_text('{"python_environment": "environment"}')
    with pytest.raises(ExportFailed) as caught:
        import_package(code, "mine/1", repository, allow_code=True)
    assert sentence in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere", "--as", "mine/1"], 2, "There is no such file or folder."),
        ([".", "--as", "../x"], 2, "cannot be a model id"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_a_hint(repository, arguments, code, sentence):
    assert_one_line_and_a_hint(run(*arguments, "--repository", repository), code, sentence)


def test_an_id_is_asked_for(graph, repository):
    done = run(graph, "--repository", repository)
    assert done.returncode == 2 and "--as" in done.stderr


def test_an_empty_folder_is_no_package(tmp_path, repository):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "--as", "mine/1", "--repository", repository)
    assert_one_line_and_a_hint(done, 1, "The folder holds no package.")


def test_a_weights_file_that_cannot_be_run_is_a_failure_and_leaves_nothing(graph, repository):
    (graph / "weights.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    done = run(graph, "--as", "mine/1", "--repository", repository)
    assert_one_line_and_a_hint(done, 1, "weights.onnx is not a valid ONNX graph.")
    assert not repository.exists()
