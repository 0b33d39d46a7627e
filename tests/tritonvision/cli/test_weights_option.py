"""``tritonvision export`` with weights that lie elsewhere, describe themselves, or whose id nobody says."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import weight_servers
from weight_servers import Repository

from tritonvision.cli import weights_option
from tritonvision.cli.export import export
from tritonvision.errors import InvalidParameter
from tritonvision.exporters.families.mediapipe_face import FILE

FACE = "mediapipe-face-detection"
GRAPH = """<ir_version: 8, opset_import: ["": 17]>
    colours (float[1,3,32,32] images) => (float[1,2] scores) <float[3,2] weights = {9,0,0,9,3,5}>
    { mean = ReduceMean<axes=[2,3], keepdims=0>(images)  scores = MatMul(mean, weights) }"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A package of weights: the mean colour decides between two classes."""
    folder = tmp_path_factory.mktemp("package")
    onnx.save(onnx.parser.parse_model(GRAPH), folder / "weights.onnx")
    (folder / "class_names.txt").write_text("warm\ncold\n")
    network = {
        "training_input_size": {"height": 32, "width": 32}, "color_mode": "rgb", "resize_mode": "stretch",
        "scaling_factor": 255,
    }  # fmt: skip
    config = {"network_input": network, "post_processing": {"type": "softmax", "fused": False}}
    (folder / "inference_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def run(tmp_path):
    """``run(*arguments, **environment)``: an export into a repository, with folders of its own for all it keeps."""

    def started(*arguments, command="export", **environment):
        own = {"TRITONVISION_ACCEPTED_LICENSES": str(tmp_path / "accepted.json"), "HF_HOME": str(tmp_path / "hub")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ROBOFLOW_"))}
        return subprocess.run(
            [sys.executable, "-m", "tritonvision", command, *map(str, arguments),
             "--repository", str(tmp_path / "repository")],
            env=kept | own | environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return started


def manifest(tmp_path, model_id):
    return json.loads((tmp_path / "repository" / model_id.replace("/", "__") / "manifest.json").read_text())


def assert_one_line_and_a_hint(done, code, sentence):
    assert done.returncode == code, done.stderr
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: ") and sentence in error and hint.startswith("Hint: ")


def test_weights_of_the_hub_are_published_with_their_commit_and_licence_once_that_is_accepted(run, tmp_path):
    faces = Repository({"face.tflite": FILE.fetch()}, {"license": "cc-by-nc-4.0"})
    with weight_servers.hub({"somebody/faces": faces}) as server:
        line = (FACE, "--weights", "hf:somebody/faces:face.tflite", "--as", "faces/2", "--engine", "onnxruntime")
        refused = run(*line, HF_ENDPOINT=server.url)
        assert_one_line_and_a_hint(refused, 2, "'cc-by-nc-4.0': they are not for commercial use")
        assert "--accept-license" in refused.stderr and not (tmp_path / "repository").exists()
        done = run(*line, "--accept-license", HF_ENDPOINT=server.url)
        assert done.returncode == 0, done.stderr
        about = manifest(tmp_path, "faces/2")
        assert about["source"] == f"somebody/faces@{weight_servers.COMMIT}:face.tflite"
        assert (about["license"], about["weights"]) == ("cc-by-nc-4.0", "user")
        again = run(*line, "--force", HF_ENDPOINT=server.url)
        assert again.returncode == 0, again.stderr


def test_a_graph_on_the_hub_is_imported(run, tmp_path, package):
    graph = Repository({"best.onnx": (package / "weights.onnx").read_bytes()}, {"license": "mit"})
    with weight_servers.hub({"somebody/colours": graph}) as server:
        refused = run(FACE, "--weights", "hf:somebody/colours", "--as", "colours/1", HF_ENDPOINT=server.url)
        assert_one_line_and_a_hint(refused, 1, "An ONNX file is a graph already")
        assert "tritonvision import hf:somebody/colours --as" in refused.stderr
        options = ("--resize", "stretch", "--normalize", "0-1", "--kind", "classification", "--as", "colours/1")
        done = run("hf:somebody/colours", *options, command="import", HF_ENDPOINT=server.url)
        assert done.returncode == 0, done.stderr
    assert manifest(tmp_path, "colours/1")["task"] == "classification"


def test_a_project_of_roboflow_is_published_under_its_own_id_and_not_fetched_twice(run, tmp_path, package):
    files = {path.name: path.read_bytes() for path in package.iterdir()}
    with weight_servers.roboflow("colours/3", "secret", files) as server:
        where = {"TRITONVISION_ROBOFLOW_URL": server.url, "HOME": str(tmp_path)}
        server.task = "classification"
        assert_one_line_and_a_hint(run("colours/3", "--weights", "roboflow", **where), 2, "those who name a key")
        wrong = run("colours/3", "--weights", "roboflow", "--api-key", "wrong", **where)
        assert_one_line_and_a_hint(wrong, 1, "Roboflow refuses the key for 'colours/3' (401).")
        done = run("colours/3", "--weights", "roboflow", ROBOFLOW_API_KEY="secret", **where)
        assert done.returncode == 0, done.stderr
        assert "colours/3 is published (user weights)" in done.stdout
        asked = len(server.ranges)
        again = run("colours/3", "--weights", "roboflow", ROBOFLOW_API_KEY="secret", **where)
        assert "published already" in again.stdout and len(server.ranges) == asked
    assert manifest(tmp_path, "colours/3")["labels"] == ["warm", "cold"]


def test_a_package_is_weights_that_say_themselves_what_they_are(run, tmp_path, package):
    done = run("--weights", package, "--as", "colours/1", "--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["id"], told["labels"], told["fresh"]) == ("colours/1", ["warm", "cold"], True)
    with_id = run("yolov8n-640", "--weights", package, "--as", "colours/2")
    assert_one_line_and_a_hint(with_id, 2, "A package describes itself, so it has no id of the catalogue.")


def test_a_package_of_code_is_not_run_by_an_export(run, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "model.py").write_text("raise SystemExit('it ran')")
    (folder / "model_config.json").write_text("{}")
    done = run("--weights", folder, "--as", "mine/1")
    assert_one_line_and_a_hint(done, 2, "brings Python code of its own")
    assert "tritonvision import" in done.stderr and "it ran" not in done.stderr


def test_a_family_and_weights_are_enough(run, tmp_path):
    (tmp_path / "face.tflite").write_bytes(FILE.fetch())
    done = run(
        "--family",
        "mediapipe-face",
        "--weights",
        tmp_path / "face.tflite",
        "--as",
        "faces/3",
        "--engine",
        "onnxruntime",
    )
    assert done.returncode == 0, done.stderr
    assert manifest(tmp_path, "faces/3")["family"] == "MediaPipe Face"
    again = run("--family", "mediapipe-face", "--weights", tmp_path / "face.tflite", "--as", "faces/3")
    assert again.returncode == 0 and "published already" in again.stdout


@pytest.mark.parametrize(("said", "remembered"), [("n", False), ("y", True)])
def test_a_person_at_a_terminal_is_asked_about_a_licence_and_the_answer_is_kept(tmp_path, said, remembered):
    ours, theirs = pty.openpty()
    kept = tmp_path / "accepted.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "tritonvision", "export", "depth-anything-v2-base", "--repository", str(tmp_path / "r")],
        env=os.environ | {"TRITONVISION_ACCEPTED_LICENSES": str(kept)}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, f"{said}\n".encode())
    with contextlib.suppress(OSError):  # the terminal ends with the process
        while part := os.read(ours, 4096):
            seen += part
    os.close(ours)
    assert process.wait() == (3 if remembered else 2), seen  # 3: this environment has no torch
    assert b"they are not for commercial use. Do you accept it?" in seen.replace(b"\r\n", b" ").replace(b"  ", b" ")
    assert kept.is_file() == remembered and (not remembered or "CC-BY-NC-4.0" in json.loads(kept.read_text()))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "Which model? Neither an id nor --family is given."),
        ({"weights": "roboflow"}, "Which project of Roboflow?"),
        ({"weights": "best.pt", "family": "yolov8"}, "Weights of yours need an id of their own."),
        ({"family": "yolov8", "as_id": "a/1"}, "--family is for weights of yours whose id is not known."),
        ({"model_ids": ["resnet18"], "family": "resnet", "weights": "b.pt", "as_id": "a/1"}, "--family is for weights"),
        ({"family": "yolov99", "weights": "best.pt", "as_id": "a/1"}, "No family is called 'yolov99'."),
        ({"model_ids": ["yolov8n-640"], "weights": "hf:no such thing"}, "names no weights on the hub"),
        ({"model_ids": ["helmets/3"], "weights": "roboflow", "size": "640"}, "A project of Roboflow describes itself"),
        ({"model_ids": ["depth-anything-v2-base"]}, "is 'CC-BY-NC-4.0': they are not for commercial use."),
    ],
)
def test_a_wrong_command_line_is_a_sentence_and_a_hint(monkeypatch, tmp_path, given, sentence):
    monkeypatch.setenv("TRITONVISION_ACCEPTED_LICENSES", str(tmp_path / "accepted.json"))
    with pytest.raises(InvalidParameter) as caught:
        export(**given, repository=tmp_path / "repository")
    assert sentence in caught.value.message and caught.value.hint and not (tmp_path / "repository").exists()


@pytest.mark.parametrize("text", ["reco_arch", "=parseq", "reco_arch=", ""])
def test_an_option_that_is_no_pair_is_refused(text):
    with pytest.raises(InvalidParameter, match="is not NAME=VALUE"):
        export(["doctr-db_resnet50"], weights="random", option=[text])


def test_an_option_that_no_family_has_is_refused_before_anything_is_built():
    with pytest.raises(InvalidParameter, match="has no option 'colour'"):
        export([FACE], option=["colour=red"], repository=Path("/nowhere"))


def test_a_run_s_task_is_one_that_vimodel_asks():
    assert weights_option.read("folder", 0, None, False, None, task="phrase-grounding").asked_as == "phrase-grounding"
    with pytest.raises(InvalidParameter, match="--task 'detection' is no task of a run"):
        weights_option.read("folder", 0, None, False, None, task="detection")


@pytest.mark.parametrize("options", [{"task": "vqa"}, {"base": "folder"}])
def test_a_package_describes_itself(tmp_path, options):
    (tmp_path / "model_config.json").write_text("{}")
    weights = weights_option.read(str(tmp_path), 0, None, False, None, **options)
    with pytest.raises(InvalidParameter, match="--base and --task are not for it"):
        weights_option.targets([], str(tmp_path), weights, None, "my-run")
