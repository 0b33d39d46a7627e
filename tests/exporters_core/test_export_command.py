"""``tritonvision export`` as a person or a script meets it."""

import json
import subprocess
import sys

import pytest
from command_line import run_here

from tritonvision import machine
from tritonvision.cli.publishing import read_labels
from tritonvision.errors import InvalidParameter

FACE = "mediapipe-face-detection"


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tritonvision", "export", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_publishes_and_says_so_in_one_line_and_does_nothing_twice(tmp_path):
    first = run(FACE, "--engine", "onnxruntime", "--repository", str(tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"{FACE} is published (official weights): 12 answers equal the reference's within")
    assert first.stdout.count("\n") == 1
    second = run(FACE, "--repository", str(tmp_path))
    assert (second.returncode, second.stderr) == (0, "")
    assert "published already (official weights: mediapipe" in second.stdout and "--force" in second.stdout
    for asked, code, sentence in (
        ((FACE, "--weights", "random"), 2, "of other weights: mediapipe"),
        ((FACE, "--weights", "nowhere.pt"), 1, "no such weights"),
        (("resnet18", "--as", FACE), 2, "(MediaPipe Face)"),
    ):
        other = run(*asked, "--repository", str(tmp_path))
        assert other.returncode == code and sentence in other.stderr and not other.stdout


def test_by_itself_it_says_what_serves_where_another_engine_was_tried(tmp_path):
    done = run(FACE, "--repository", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    first, *more = done.stdout.splitlines()
    assert first.startswith(f"{FACE} is published")
    tried = not machine.why_not("openvino", "bf16")
    assert len(more) == tried
    for line in more:
        assert line.startswith(("Note: It is served as it was exported", f"openvino-bf16 of {FACE} passed the gate"))


def test_json_gives_manifests_and_nothing_else(tmp_path):
    for fresh in (True, False):
        done = run(FACE, "--json", "--repository", str(tmp_path))
        (manifest,) = json.loads(done.stdout)
        assert manifest["fresh"] is fresh
        assert manifest["id"] == FACE and manifest["parity"]["pipeline_pixels"] < 0.1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["yolov99"], 2, "No model is called 'yolov99'."),
        ([FACE, "--as", "../x"], 2, "cannot be a model id"),
        ([FACE, FACE, "--as", "a/1"], 2, "--as names one model"),
        ([FACE, "--weights", "nowhere.tflite"], 1, "There is no such weights file."),
        ([FACE, "--weights", "random"], 1, "no random variant"),
        ([FACE, "--labels", "nowhere.txt"], 2, "The file of labels cannot be read."),
        (["qwen2.5-vl-72b"], 1, "too many for a graph"),
        (["smolvlm-256m", "--engine", "vllm", "--weights", ".", "--precision", "int8"], 2, "--precision has no"),
        (["smolvlm-256m", "--engine", "vllm", "--weights", ".", "--as", "../x"], 2, "cannot be a model id"),
        (["--engine", "vllm", "--weights", "."], 2, "Behind vLLM one model is named, by its id."),
    ],
)
def test_errors_are_one_line_and_a_hint(tmp_path, arguments, code, sentence):
    done = run_here("export", *arguments, "--repository", tmp_path, folder=tmp_path)
    assert done.returncode == code
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: ") and sentence in error
    assert hint.startswith("Hint: ")
    assert not list(tmp_path.iterdir())


def test_a_repository_that_cannot_be_written_is_a_matter_of_setup(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(FACE, "--repository", str(tmp_path / "file"))
    assert done.returncode == 3
    assert "cannot be written" in done.stderr.splitlines()[0]


def test_help_shows_examples_and_exit_codes():
    done = run("--help")
    assert done.returncode == 0
    for text in ("tritonvision export mediapipe-face-detection", "--weights", "--multi-label", "Exit codes"):
        assert text in done.stdout


def test_labels_are_lines(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcat\r\n dog \r\n\r\n", encoding="utf-8")
    assert read_labels(path) == ("cat", "dog")
    for text, sentence in (("", "is empty"), ("\n\n", "is empty"), ("cat\n\ndog\n", "has an empty line")):
        path.write_text(text)
        with pytest.raises(InvalidParameter, match=sentence):
            read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidParameter, match="cannot be read"):
        read_labels(path)
