"""Labels of YOLO's kind mean the same as COCO's, wherever the pictures lie; what cannot be read is refused."""

import cv2
import numpy as np
import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.precision import labelled

LABELS = ("cat", "dog")
PICTURE = np.full((20, 40, 3), 90, np.uint8)  # 40 wide
BOX = "1 0.5 0.5 0.5 0.4\n"  # a dog: left 10, top 6, 20 x 8 pixels
LAYOUTS = {
    "beside the pictures": ("a.png", "a.txt", None),
    "images and labels": ("images/a.png", "labels/a.txt", None),
    "splits within images": ("images/val/a.png", "labels/val/a.txt", "path: .\nval: images/val\nnames: {0: c, 1: dog}"),
    "Roboflow's": ("valid/images/a.png", "valid/labels/a.txt", "val: ../valid/images\nnc: 2\nnames: ['cat', 'dog']"),
    "several folders": ("two/images/a.png", "two/labels/a.txt", "val: [one/images, two/images]\nnames: [cat, dog]"),
}  # fmt: skip


def put(folder, picture, label, described=None, text=BOX):
    for name in (picture, label):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / picture), PICTURE)
    (folder / label).write_text(text)
    if described is not None:
        (folder / "data.yaml").write_text(described)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_box_in_pixels(tmp_path, layout):
    found = labelled.coco(put(tmp_path, *LAYOUTS[layout]), LABELS)
    (row,) = found.truth.dataset["annotations"]
    assert np.allclose(row["bbox"], [10, 6, 20, 8]) and found.categories[1] == row["category_id"]
    assert found.picture(found.images[0]).shape == PICTURE.shape


def test_classes_are_found_by_name_and_those_of_the_model_are_meant_where_none_are_named(tmp_path):
    named = put(tmp_path / "a", "a.png", "a.txt", "names: [dog, cat]\ntrain: .")
    assert labelled.coco(named, LABELS).categories == {1: 0, 0: 1}
    listed = put(tmp_path / "b", "a.png", "a.txt")
    (listed / "classes.txt").write_text("horse\ndog\n")
    assert labelled.coco(listed, LABELS).categories == {1: 1}
    assert labelled.coco(put(tmp_path / "c", "a.png", "a.txt"), LABELS).categories == {0: 0, 1: 1}


def test_an_outline_is_a_mask_and_a_box_has_none(tmp_path):
    folder = put(tmp_path, "a.png", "a.txt", text="0 0.25 0.3 0.75 0.3 0.75 0.7\n")
    (row,) = labelled.coco(folder, LABELS, masks=True).truth.dataset["annotations"]
    assert np.allclose(row["segmentation"], [[10, 6, 30, 6, 30, 14]]) and np.allclose(row["bbox"], [10, 6, 20, 8])
    (tmp_path / "a.txt").write_text(BOX)
    with pytest.raises(ExportFailed, match="boxes without masks"):
        labelled.coco(folder, LABELS, masks=True)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
def test_of_labels_with_key_points_the_boxes_are_read(tmp_path, shape):
    points = [0.1, 0.2, 2, 0.9, 0.8, 1][: shape[0] * shape[1]]
    line = f"{BOX.strip()} {' '.join(map(str, points))}\n"
    described = f"kpt_shape: {list(shape)}\nnames: [cat, dog]\nval: ."
    (row,) = labelled.coco(put(tmp_path, "a.png", "a.txt", described, line), LABELS).truth.dataset["annotations"]
    assert np.allclose(row["bbox"], [10, 6, 20, 8])


def test_a_right_answer_has_a_precision_of_100_and_a_picture_without_labels_counts(tmp_path):
    folder = put(tmp_path, "images/a.png", "labels/a.txt")
    cv2.imwrite(str(folder / "images" / "nothing.png"), PICTURE)
    found = labelled.coco(folder, LABELS)
    right = {
        "boxes": np.array([[10, 6, 30, 14]], np.float32), "scores": np.ones(1, np.float32), "class_ids": np.array([1]),
    }  # fmt: skip
    first, second = found.images
    nothing = {name: value[:0] for name, value in right.items()}
    assert found.mean_precision([(first, right), (second, nothing)]) == pytest.approx((100, 100))
    wrong = right | {"scores": np.full(1, 2, np.float32)}
    assert found.mean_precision([(first, right), (second, wrong)])[0] < 60
    assert len(found.limited(1).images) == 1


@pytest.mark.parametrize(
    ("text", "described", "sentence"),
    [
        ("1 0.5 0.5 0.5\n", None, "Line 1 of the labels 'a.txt' cannot be read"),
        (BOX + "dog 0.5 0.5 0.5 0.5", None, "Line 2"),
        ("2 0.5 0.5 0.5 0.5", None, "Line 1"),
        ("1 20 6 10 8", None, "Line 1"),
        ("1 0.1 0.1 0.2 0.2 0.3", None, "Line 1"),
        ("\n", None, "name no object"),
        (BOX, "names: [cat", "cannot be read as YAML"),
        (BOX, "- cat", "is no description of labels"),
        (BOX, "kpt_shape: 17\nnames: [cat, dog]", "'kpt_shape' cannot be read"),
        (BOX, "val: nowhere\nnames: [cat, dog]", "None of the folders that the description"),
        (BOX, "names: [bee, ant]", "None of the classes"),
        (BOX, "!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, text, described, sentence):
    with pytest.raises(ExportFailed, match=sentence):
        labelled.coco(put(tmp_path, "a.png", "a.txt", described, text), LABELS)
