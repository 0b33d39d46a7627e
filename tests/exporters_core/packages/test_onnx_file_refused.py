"""A bare ONNX file that cannot be imported is named for what it is; and imports on the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run_here
from onnx import TensorProto, helper, numpy_helper
from onnx_files import BY_ULTRALYTICS, ID, PREPARED, SIDE, classifier, described, yolo

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.onnx_file import OnnxFile
from tritonvision.exporters.packages.options import FileOptions

# ---- what cannot be imported ---------------------------------------------------------------------------------------


def outputs(path, *shapes, names=None):
    """A graph of one constant for each output."""
    nodes, values = [], []
    for index, shape in enumerate(shapes):
        name = names[index] if names else f"o{index}"
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]))
        constant = numpy_helper.from_array(np.full((1, *shape), 0.5 + 0.1 * index, np.float32))
        nodes.append(helper.make_node("Constant", [], [name], value=constant))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], values), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("shapes", "labels", "sentence"),
    [
        ([(300, 6)], None, "are as wide as final boxes, but their scores"),
        ([(300, 6)], ("a", "b"), "are as wide as final boxes, but their scores .* no whole numbers under 2"),
        ([(300, 38), (32, 16, 16)], None, "are as wide as final boxes"),
        ([(25200, 6)], None, "are rows of YOLOv5 with a column of objectness"),
        ([(25200, 85)], None, "are rows of YOLOv5 with a column of objectness"),
        ([(300, 4), (300, 91), (300, 16, 16)], None, "are boxes, logits and masks of a DETR"),
        ([(7,)], ("a", "b"), "are 7 scores, and there are 2 class names"),
        ([(300, 4), (300, 3)], tuple("abcdefg"), "are boxes and 3 columns of logits, and there are 7 class names"),
        ([(20, 4), (20, 4)], None, "Both outputs of best.onnx are 4 wide"),
        ([(3, 5, 7, 9)], None, "are of no kind that is known"),
    ],
)
def test_what_a_graph_is_instead_is_said(file, shapes, labels, sentence):
    outputs(file, *shapes)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        described(file, labels=labels, **PREPARED)
    assert caught.value.hint


@pytest.mark.parametrize("task", ["pose", "obb", "semantic"])
def test_other_tasks_of_ultralytics_are_named(file, task):
    yolo(file, metadata=BY_ULTRALYTICS | {"task": task})
    with pytest.raises(ExportFailed, match=f"best.onnx is a network of ultralytics for '{task}'"):
        described(file)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resize": "crop-0-bicubic"}, "--resize 'crop-0-bicubic' is not known"),
        ({"normalize": "0-2"}, "--normalize '0-2' is not known"),
        ({"normalize": "1,2/3,4"}, "--normalize '1,2/3,4' is not known"),
        ({"normalize": "0,0,0/1,0,1"}, "--normalize '0,0,0/1,0,1' is not known"),
        ({"normalize": "0,0,nan/1,1,1"}, "is not known"),
    ],
)
def test_options_that_cannot_be_are_refused(file, options, sentence):
    classifier(file)
    with pytest.raises(InvalidParameter, match=sentence):
        described(file, **(PREPARED | options))


@pytest.mark.parametrize("text", ["", "not a graph", "\x08\x08\x12\x00"])
def test_what_is_no_graph_is_said_to_be_none(file, tmp_path, text):
    file.write_text(text)
    with pytest.raises(ExportFailed, match="best.onnx"):
        import_package(file, ID, tmp_path / "repository")
    assert not (tmp_path / "repository").exists() or not list((tmp_path / "repository").iterdir())


def test_small_weights_in_a_file_of_their_own_are_read_and_belong_to_the_digest(file, tmp_path):
    yolo(file, metadata=BY_ULTRALYTICS, save_as_external_data=True, location="best.onnx.data", size_threshold=0)
    before = OnnxFile.of(file, FileOptions()).digest
    assert described(file).names[0] == "person"
    data = tmp_path / "best.onnx.data"
    data.write_bytes(data.read_bytes()[:-4] + bytes(4))
    assert OnnxFile.of(file, FileOptions()).digest != before
    data.unlink()
    with pytest.raises(ExportFailed, match="best.onnx names a file of weights that is not"):
        described(file)


def test_what_has_not_changed_is_not_published_again_and_other_options_are_a_change(file, tmp_path):
    yolo(file, metadata=BY_ULTRALYTICS)
    root = tmp_path / "repository"
    first, fresh = import_package(file, ID, root)
    assert fresh and import_package(file, ID, root) == (first, False)
    second, fresh = import_package(file, ID, root, options=FileOptions(labels=tuple("abc")))
    assert fresh and second.labels == tuple("abc")


# ---- on the command line -------------------------------------------------------------------------------------------


def run(*arguments):
    command = [sys.executable, "-m", "tritonvision", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_one_command_publishes_a_file(file, tmp_path):
    yolo(file, metadata=BY_ULTRALYTICS)
    done = run("import", file, "--as", ID, "--repository", tmp_path / "repository")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{ID} is published (user weights): ")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence", "hint"),
    [
        (["best.pt"], 2, "A checkpoint is no graph yet", "tritonvision export MODEL_ID --weights best.pt"),
        (["nowhere.onnx"], 2, "There is no such file or folder.", ".onnx"),
        (["folder"], 1, "The folder holds no package.", "'other.onnx'"),
        (["best.onnx", "--size", "12y"], 2, "--size '12y' is no size.", "480x640"),
        (["best.onnx", "--task", "pose"], 2, "--task 'pose' is not known.", "object-detection"),
        (["best.onnx", "--task", "classification"], 1, "The description says 'classification'", "task"),
        (["package", "--size", "64"], 2, "A package describes itself", ".onnx"),
    ],
)
def test_errors_are_one_line_and_a_hint(file, tmp_path, arguments, code, sentence, hint):
    yolo(file, metadata=BY_ULTRALYTICS)
    Path(tmp_path / "best.pt").write_bytes(b"PK")
    for folder, name in (("folder", "other.onnx"), ("package", "weights.onnx")):
        (tmp_path / folder).mkdir()
        yolo(tmp_path / folder / name)
    done = run_here("import", *arguments, "--as", ID, "--repository", tmp_path / "repository", folder=tmp_path)
    assert done.returncode == code, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: ") and sentence in first and second.startswith("Hint: ") and hint in second


def test_export_sends_an_onnx_file_to_import(file, tmp_path):
    yolo(file)
    done = run("export", "yolov8n-640", "--weights", file, "--repository", tmp_path / "repository")
    assert done.returncode == 1
    assert "An ONNX file is a graph already" in done.stderr and "tritonvision import best.onnx --as" in done.stderr
