"""A bare ONNX file says what it is, or the caller does; what neither says is asked for."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_files import BY_ULTRALYTICS, COCO3, PREPARED, SIDE, classifier, described, final, queries, yolo
from PIL import Image

from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages.onnx_file import OnnxFile
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.exporters.parity import sample_pictures

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
