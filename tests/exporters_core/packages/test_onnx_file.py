"""A bare ONNX file says what it is, or the caller does; what neither says is asked for, and what cannot be is named."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run_here
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.description import Description
from tritonvision.exporters.packages.onnx_file import OnnxFile
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.exporters.parity import sample_pictures

ID, SIDE, CELLS = "mine/3", 64, 64
COCO3 = "{0: 'person', 1: 'dog', 2: 'traffic light'}"
BY_ULTRALYTICS = {"task": "detect", "names": COCO3, "stride": "32", "imgsz": "[64, 64]"}


def graph(path, text, tensors, metadata=None, **options):
    """Write a graph in ONNX's text form, with its weights by name and what its exporter says of it."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    rng = np.random.default_rng(0)
    for name, value in tensors.items():
        array = rng.normal(0, 0.05, value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path, **options)
    return path


def yolo(path, classes=3, metadata=None, axes=f"1,3,{SIDE},{SIDE}", **options):
    """Boxes around the cells of a grid, scored by what is in them: ``[N, 4 + classes, 64]``."""
    y, x = np.mgrid[:8, :8]
    boxes = np.stack([x * 8 + 4, y * 8 + 4, 10 + x, 12 - y]).reshape(1, 4, CELLS).astype(np.float32)
    text = f"""detector (float[{axes}] images) => (float[N,{4 + classes},A] output0) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(images, kernels)
      flat = Reshape(maps, rows)
      scores = Sigmoid(flat)
      least = ReduceMin<axes=[1], keepdims=1>(scores)
      nothing = Sub(least, least)
      placed = Add(boxes, nothing)
      output0 = Concat<axis=1>(placed, scores)
    }}"""
    tensors = {"kernels": (classes, 3, 8, 8), "rows": np.array([0, classes, -1]), "boxes": boxes}
    return graph(path, text, tensors, metadata, **options)


def final(path, suppressed=False, masks=False, threshold=0.1, metadata=None):
    """As of :func:`yolo`, the 20 best boxes, corners first, each with its score and class: ``[N, 20, 6]``.

    Args:
        suppressed: whether non-maximum suppression with ``threshold`` of the scores is inside; rows of zeros follow.
        masks: whether there are mask coefficients and prototypes.
    """
    y, x = np.mgrid[:8, :8]
    middles = np.stack([x * 8 + 4, y * 8 + 4], -1).reshape(CELLS, 2)
    boxes = np.concatenate([middles - 7, middles + 9], 1).astype(np.float32)
    best = """
      selected = NonMaxSuppression(every, scores, most, overlap, threshold)
      score = GatherND(scores, selected)
      kind = Gather<axis=1>(selected, one)
      place = Gather<axis=1>(selected, two)
      corners = Gather<axis=0>(boxes, place)
      kinds = Cast<to=1>(kind)
      flat_score = Unsqueeze(score, last)
      flat_kind = Unsqueeze(kinds, last)
      found = Concat<axis=1>(corners, flat_score, flat_kind)
      padded = Concat<axis=0>(found, nothing)
      cut = Slice(padded, from, most, from)
      rows = Unsqueeze(cut, from)""" if suppressed else """
      top = ReduceMax<axes=[1], keepdims=0>(scores)
      every_kind = ArgMax<axis=1, keepdims=0>(scores)
      score, place = TopK<axis=1>(top, most)
      kind = GatherElements<axis=1>(every_kind, place)
      corners = Gather<axis=0>(boxes, place)
      kinds = Cast<to=1>(kind)
      wide = Constant<value = int64[1] {2}>()
      flat_score = Unsqueeze(score, wide)
      flat_kind = Unsqueeze(kinds, wide)
      rows = Concat<axis=2>(corners, flat_score, flat_kind)"""  # fmt: skip
    ends = """
      output1 = Conv<kernel_shape=[4,4], strides=[4,4]>(images, small)
      squeezed = ReduceMean<axes=[2,3], keepdims=1>(output1)
      weights = Reshape(squeezed, spread)
      many = Expand(weights, size)
      output0 = Concat<axis=2>(rows, many)""" if masks else "\n      output0 = Identity(rows)"  # fmt: skip
    shape = f"float[N,20,{38 if masks else 6}] output0" + (", float[N,32,16,16] output1" if masks else "")
    text = f"""detector (float[1,3,{SIDE},{SIDE}] images) => ({shape}) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(images, kernels)
      flat = Reshape(maps, three)
      scores = Sigmoid(flat){best}{ends}
    }}"""
    tensors = {
        "kernels": (3, 3, 8, 8), "three": np.array([0, 3, -1]), "boxes": boxes, "most": np.array([20]),
    }  # fmt: skip
    if suppressed:
        tensors |= {
            "every": boxes[None], "overlap": np.float32([0.2]), "threshold": np.float32([threshold]),
            "one": np.array(1), "two": np.array(2), "last": np.array([1]), "from": np.array([0]),
            "nothing": np.zeros((20, 6), np.float32),
        }  # fmt: skip
    if masks:
        tensors |= {"small": (32, 3, 4, 4), "spread": np.array([1, 1, 32]), "size": np.array([1, 20, 32])}
    return graph(path, text, tensors, metadata)


def classifier(path, classes=4, last="Identity", side=SIDE, metadata=None, **options):
    text = f"""classifier (float[N,3,{side},{side}] input0) => (float[N,{classes}] output0) {{
      maps = Conv<kernel_shape=[16,16], strides=[16,16]>(input0, kernels)
      high = Relu(maps)
      pooled = GlobalAveragePool(high)
      flat = Flatten(pooled)
      logits = Gemm(flat, columns, bias)
      output0 = {last}(logits)
    }}"""
    bias = np.linspace(-1, 1, classes, dtype=np.float32)
    columns = np.random.default_rng(1).normal(0, 4, (8, classes)).astype(np.float32)
    tensors = {"kernels": (8, 3, 16, 16), "columns": columns, "bias": bias}
    return graph(path, text, tensors, metadata, **options)


def queries(path, columns=4, names=("dets", "labels"), order=(0, 1)):
    """RF-DETR's outputs: boxes as fractions and logits, a row for each cell."""
    text = f"""detr (float[1,3,{SIDE},{SIDE}] input)
      => ({", ".join(f"float[1,{CELLS},{(4, columns)[i]}] {names[i]}" for i in order)}) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(input, kernels)
      flat = Reshape(maps, rows)
      split = Transpose<perm=[0,2,1]>(flat)
      raw_boxes = Slice(split, zero, four, two)
      {names[1]} = Slice(split, four, all, two)
      {names[0]} = Sigmoid(raw_boxes)
    }}"""
    tensors = {"kernels": (4 + columns, 3, 8, 8), "rows": np.array([1, 4 + columns, CELLS]), "zero": np.array([0])}
    return graph(path, text, tensors | {"four": np.array([4]), "all": np.array([4 + columns]), "two": np.array([2])})


def described(path, **options) -> Description:
    return OnnxFile.of(path, FileOptions(**options)).describe()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "best.onnx"


@pytest.fixture
def published(file, tmp_path):
    """Publishes the file and returns its manifest and the published model, run in this process."""

    def published(**options):
        root = tmp_path / "repository"
        manifest, fresh = import_package(file, ID, root, options=FileOptions(**options))
        assert fresh
        family = PackageFamily(described(file, **options))
        return manifest, LocalPipeline(root / "net--mine__3" / "1" / "model.onnx", family.resize(None), family.head)

    return published


# ---- what a file says of itself ------------------------------------------------------------------------------------


def quantised(path):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(path, path)


def halved(path):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path)), path)


@pytest.mark.parametrize(("spoil", "precision"), [(None, "fp32"), (quantised, "int8"), (halved, "fp16")])
def test_a_file_of_ultralytics_needs_nothing_but_an_id(file, published, spoil, precision):
    yolo(file, metadata=BY_ULTRALYTICS)
    if spoil is not None:
        spoil(file)
        model = onnx.load(file)
        helper.set_model_props(model, BY_ULTRALYTICS)
        onnx.save(model, file)
    manifest, ask = published()
    assert (manifest.task, manifest.head, manifest.precision) == ("object-detection", "dense-boxes", precision)
    assert manifest.labels == ("person", "dog", "traffic light") and manifest.input_size == (SIDE, SIDE)
    assert manifest.source == "best.onnx" and manifest.notes == () and manifest.steps[0] == f"pre--letterbox-{SIDE}"
    found = ask(sample_pictures.photo(), {"confidence": 0.0})
    assert len(found["boxes"])


@pytest.mark.parametrize(
    "names", [COCO3, '{"0": "person", "1": "dog", "2": "traffic light"}', "['person', 'dog', 'traffic light']"]
)
def test_class_names_are_read_in_every_form_that_exporters_write(file, names):
    yolo(file, metadata=BY_ULTRALYTICS | {"names": names})
    assert described(file).names == ("person", "dog", "traffic light")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("{1: 'a', 2: 'b', 3: 'c'}", "The class names of best.onnx are not numbered 0, 1, 2"),
        ("{0: 'a', 1: 'b', 2: ''}", "The class names of best.onnx are not numbered 0, 1, 2"),
        ("__import__('os').getcwd()", "The class names of best.onnx are not numbered 0, 1, 2"),
        ("(" * 5000, "The class names of best.onnx are not numbered 0, 1, 2"),
        ("['a', 'b']", "of no kind that is known for 2 class names"),
    ],
)
def test_class_names_that_do_not_fit_are_refused_by_what_is_wrong_and_the_callers_help(file, names, sentence):
    yolo(file, metadata=BY_ULTRALYTICS | {"names": names})
    with pytest.raises(ExportFailed, match=sentence) as caught:
        described(file)
    assert "--labels" in caught.value.hint
    assert described(file, labels=("x", "y", "z")).names == ("x", "y", "z")


def test_a_graph_for_any_size_takes_the_metadatas_or_the_callers(file):
    yolo(file, metadata=BY_ULTRALYTICS, axes="N,3,H,W")
    assert described(file).graph.size == (64, 64)
    assert described(file, size=(64, 64)).graph.size == (64, 64)
    yolo(file, metadata=BY_ULTRALYTICS | {"imgsz": "x"}, axes="N,3,H,W")
    with pytest.raises(ExportFailed, match="best.onnx takes pictures of any size") as caught:
        described(file)
    assert "--size" in caught.value.hint
    yolo(file, metadata=BY_ULTRALYTICS)
    with pytest.raises(ExportFailed, match=r"takes \[1, 3, 64, 64\], not \[N or 1, 3, 96, 64\]"):
        described(file, size=(96, 64))


def test_a_yolo_without_metadata_is_prepared_as_ultralytics_does_and_says_so(file, published):
    yolo(file)
    manifest, _ = published()
    assert manifest.labels == ("class 0", "class 1", "class 2") and manifest.steps[0] == f"pre--letterbox-{SIDE}"
    assert any("--labels" in note for note in manifest.notes) and any("--resize" in note for note in manifest.notes)
    assert described(file, labels=tuple("abc"), resize="stretch", normalize="0-1").notes == ()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("columns", "names"), [(6, ("a", "b")), (4, ("dets", "labels")), (4, ("pred", "class_logits"))]
)
def test_the_boxes_of_a_detr_are_found_by_width_or_by_name(file, published, columns, names, order):
    queries(file, columns, names, order)
    manifest, ask = published()
    assert manifest.head == "query-boxes" and len(manifest.labels) == columns - 1  # the last stands for no class
    assert manifest.steps[0] == f"pre--stretch-{SIDE}-float32"
    session = OnnxFile.of(file, FileOptions()).describe().graph
    rgb = sample_pictures.photo()
    pixels = (np.asarray(Image.fromarray(rgb)) / np.float32(255)).astype(np.float32)
    import cv2

    values = (cv2.resize(pixels, (SIDE, SIDE)) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    answer = session(values.transpose(2, 0, 1)[None].astype(np.float32))
    best = 1 / (1 + np.exp(-answer[names[1]][0, :, : columns - 1].max()))
    found = ask(rgb, {"confidence": 0.0, "max_detections": 1})
    np.testing.assert_allclose(found["scores"], best, atol=1e-5)


# ---- final boxes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suppressed", [False, True], ids=["end to end", "with its suppression inside"])
def test_final_boxes_are_served_as_the_graph_gives_them(file, published, suppressed):
    final(file, suppressed, metadata=BY_ULTRALYTICS)
    manifest, ask = published()
    assert (manifest.task, manifest.head) == ("object-detection", "dense-boxes")
    assert "post--dense-boxes-final" in manifest.steps
    assert any("suppression is inside" in note for note in manifest.notes) is suppressed
    photo = sample_pictures.photo()
    assert photo.shape[0] == photo.shape[1]
    pixels, _ = published_pixels(file, photo)
    rows = described(file).graph(pixels)["output0"][0]
    rows = rows[rows[:, 4] > 0.1]
    found = ask(photo, {"confidence": 0.1, "iou_threshold": 0.0})
    wanted = rows[:, :4] * (photo.shape[0] / SIDE)
    np.testing.assert_allclose(found["boxes"], wanted.clip(0, photo.shape[0]), atol=1e-3)
    np.testing.assert_allclose(found["scores"], rows[:, 4], atol=1e-6)
    assert found["class_ids"].tolist() == rows[:, 5].astype(int).tolist() and len(rows) > 3
    few = ask(photo, {"confidence": 0.1, "classes": [int(rows[0, 5])], "max_detections": 2})
    assert set(few["class_ids"].tolist()) == {int(rows[0, 5])} and len(few["scores"]) <= 2


def published_pixels(file, picture):
    family = PackageFamily(described(file))
    pixels, geometry = family.resize(None)(picture)
    return (pixels.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32), geometry


def test_final_boxes_with_masks_are_served(file, published):
    final(file, masks=True, metadata=BY_ULTRALYTICS | {"task": "segment"})
    manifest, ask = published()
    assert (manifest.task, manifest.head) == ("instance-segmentation", "prototype-masks")
    assert "post--prototype-masks-final" in manifest.steps
    found = ask(sample_pictures.photo(), {"confidence": 0.0})
    assert len(found["masks"]) == len(found["scores"]) == 20


def test_a_threshold_in_the_graph_that_no_test_picture_reaches_is_no_reason_to_refuse_it(file, published):
    final(file, suppressed=True, threshold=0.999, metadata=BY_ULTRALYTICS)
    manifest, ask = published()
    assert manifest.parity["pipeline_answers"] == 0
    assert len(ask(sample_pictures.photo(), {"confidence": 0.0})["scores"]) == 0


def test_final_boxes_do_not_show_how_many_classes_there_are(file):
    final(file)
    with pytest.raises(ExportFailed, match="best.onnx gives final boxes, which do not show how many classes") as caught:
        described(file)
    assert "--labels FILE" in caught.value.hint
    assert described(file, labels=tuple("abc")).layout.columns == 3


# ---- classifiers ---------------------------------------------------------------------------------------------------

PREPARED = {"resize": "crop-95-bicubic", "normalize": "imagenet"}


def test_a_classifier_of_unknown_make_is_asked_for_its_preparation_and_then_served_so(file, published):
    classifier(file)
    with pytest.raises(ExportFailed, match="how its pictures are prepared: --resize and --normalize missing") as caught:
        described(file)
    assert "--resize crop-87.5-bicubic --normalize imagenet" in caught.value.hint
    with pytest.raises(ExportFailed, match="how its pictures are prepared: --normalize missing"):
        described(file, resize="stretch")
    manifest, ask = published(labels=tuple("abcd"), **PREPARED)
    assert manifest.task == "classification" and manifest.labels == tuple("abcd") and not manifest.multi_label
    picture = Image.fromarray(sample_pictures.photo()).resize((67, 67), Image.Resampling.BICUBIC)
    picture = np.asarray(picture.crop((2, 2, 66, 66)))  # half to even, as torchvision rounds
    values = (picture / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    description = described(file, **PREPARED)
    logits = description.graph(values.transpose(2, 0, 1)[None].astype(np.float32))["output0"][0]
    wanted = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(ask(sample_pictures.photo())["scores"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("last", "classes", "activation"),
    [
        ("Identity", 4, ("softmax", False)), ("Identity", 1, ("sigmoid", False)), ("Sigmoid", 4, ("sigmoid", True)),
        ("Softmax", 4, ("softmax", True)), ("Sigmoid", 1, ("sigmoid", True)),
    ],
)  # fmt: skip
def test_probabilities_are_told_from_logits_and_one_class_gets_a_sigmoid(file, last, classes, activation):
    classifier(file, classes, last)
    post = described(file, **PREPARED).config.post_processing
    assert (post.type, post.fused) == activation


def test_the_softmax_of_one_class_is_refused(file):
    classifier(file, 1, "Softmax")
    with pytest.raises(ExportFailed, match="The softmax of a single class is 1 for every picture"):
        PackageFamily(described(file, **PREPARED))


def test_a_classifier_of_ultralytics_is_cut_as_ultralytics_does(file, published):
    classifier(file, 3, "Softmax", metadata=BY_ULTRALYTICS | {"task": "classify"})
    manifest, _ = published()
    assert manifest.steps[0] == f"pre--crop-{SIDE}-bilinear-100" and manifest.labels[0] == "person"


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
