"""Folders of labelled pictures: what is read, and what is refused in which words."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.precision import labelled, pictures

LABELS = ("cat", "dog")
PICTURE = np.full((20, 30, 3), 90, np.uint8)


def put(path, picture=PICTURE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


def labels(**changed):
    return {
        "images": [{"id": 5, "file_name": "train/a.png", "width": 30, "height": 20}],
        "annotations": [{"image_id": 5, "category_id": 2, "bbox": [1, 2, 10, 10]}],
        "categories": [{"id": 2, "name": "dog"}, {"id": 9, "name": "horse"}],
        **changed,
    }


def test_coco_is_read_wherever_the_pictures_lie_and_classes_are_found_by_name(tmp_path):
    put(tmp_path / "images" / "a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(labels()))
    found = labelled.coco(tmp_path, LABELS)
    assert found.categories == {1: 2} and found.names == LABELS
    assert found.picture(found.images[0]).shape == PICTURE.shape


def test_a_model_without_classes_of_its_own_takes_those_of_the_labels(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "labels.json").write_text(json.dumps(labels()))
    assert labelled.coco(tmp_path, ()).names == ("dog", "horse")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no JSON", "is not of COCO's format"),
        ("[]", "is not of COCO's format"),
        (json.dumps({"images": []}), "is not of COCO's format"),
        (json.dumps(labels(annotations=[])), "is not of COCO's format"),
        (json.dumps(labels(annotations=[{"image_id": 5, "category_id": 2, "bbox": [1, 2]}])), "is not of COCO's"),
        (json.dumps(labels(annotations=[{"image_id": 6, "category_id": 2, "bbox": [1, 2, 3, 4]}])), "not of COCO's"),
        (json.dumps(labels(images=[{"id": 5, "file_name": "b.png", "width": 3, "height": 2}])), "'b.png' of the"),
        (json.dumps(labels(categories=[{"id": 2, "name": "horse"}])), "None of the classes"),
    ],
)  # fmt: skip
def test_labels_of_another_format_are_refused_in_one_sentence(tmp_path, text, sentence):
    put(tmp_path / "a.png")
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        labelled.coco(tmp_path, LABELS)
    assert str(tmp_path) not in caught.value.message


def test_of_two_pictures_with_one_name_the_labels_mean_the_one_in_their_folder(tmp_path):
    put(tmp_path / "test" / "a.png"), put(tmp_path / "train" / "a.png")
    (tmp_path / "labels.json").write_text(json.dumps(labels()))
    assert labelled.coco(tmp_path, LABELS).paths[5].parent.name == "train"


def test_boxes_without_masks_are_no_labels_of_masks(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "labels.json").write_text(json.dumps(labels()))
    with pytest.raises(ExportFailed, match="have boxes without masks"):
        labelled.coco(tmp_path, LABELS, masks=True)


def test_a_picture_of_another_size_than_its_labels_tell_is_refused(tmp_path):
    put(tmp_path / "a.png", PICTURE[:10])
    (tmp_path / "labels.json").write_text(json.dumps(labels()))
    found = labelled.coco(tmp_path, LABELS)
    with pytest.raises(ExportFailed, match="'a.png' has 30 x 10 pixels, in the labels 30 x 20"):
        found.picture(found.images[0])


def test_a_folder_without_labels_says_what_it_should_hold(tmp_path):
    put(tmp_path / "a.png")
    with pytest.raises(ExportFailed, match="must hold one JSON file of labels, and holds 0") as caught:
        labelled.coco(tmp_path, LABELS)
    assert "COCO" in caught.value.hint


@pytest.mark.parametrize("read", [
    lambda folder: labelled.coco(folder, LABELS), lambda folder: labelled.class_folders(folder, LABELS),
    labelled.depth_pairs, labelled.transcripts, pictures.of_folder,
])  # fmt: skip
def test_a_folder_without_pictures_and_one_that_is_none_are_refused(tmp_path, read):
    with pytest.raises(ExportFailed, match="holds no pictures"):
        read(tmp_path)
    with pytest.raises(ExportFailed, match="'nowhere' is not a folder"):
        read(tmp_path / "nowhere")


def test_a_class_is_what_its_folder_is_called(tmp_path):
    put(tmp_path / "Dog" / "deep" / "a.png")
    put(tmp_path / "cat" / "b.png")
    assert sorted(label for _, label in labelled.class_folders(tmp_path, LABELS)) == [0, 1]


@pytest.mark.parametrize("place", ["a.png", "horse/a.png"])
def test_a_picture_of_no_class_is_refused(tmp_path, place):
    put(tmp_path / place)
    with pytest.raises(ExportFailed, match="is not in a folder that is called as a class") as caught:
        labelled.class_folders(tmp_path, LABELS)
    assert "cat, dog" in caught.value.hint


def test_depth_is_read_from_numpy_and_from_a_grey_png_of_16_bits(tmp_path):
    truth = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    put(tmp_path / "a.jpg"), put(tmp_path / "b.jpg")
    np.save(tmp_path / "a.npy", truth.astype(np.float64))
    cv2.imwrite(str(tmp_path / "b.depth.png"), truth)
    pairs = labelled.depth_pairs(tmp_path)
    assert [picture.name for picture, _ in pairs] == ["a.jpg", "b.jpg"]
    for _, path in pairs:
        assert np.array_equal(labelled.depth(path, (20, 30)), truth.astype(np.float32))


def test_depth_that_is_missing_or_of_another_size_is_refused(tmp_path):
    put(tmp_path / "a.jpg")
    with pytest.raises(ExportFailed, match="'a.jpg' in .* has no depth beside it"):
        labelled.depth_pairs(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    with pytest.raises(ExportFailed, match="not a map of numbers of its picture's size, 30 x 20"):
        labelled.depth(tmp_path / "a.npy", (20, 30))
    np.save(tmp_path / "a.npy", np.array([[0, -1, np.nan]] * 2))
    with pytest.raises(ExportFailed, match="'a.npy' tells no distance"):
        labelled.depth(tmp_path / "a.npy", (2, 3))
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(ExportFailed, match="'a.npy' cannot be read"):
        labelled.depth(tmp_path / "a.npy", (20, 30))


def test_text_lies_beside_its_picture(tmp_path):
    put(tmp_path / "a.png")
    with pytest.raises(ExportFailed, match="has no 'a.txt' beside it"):
        labelled.transcripts(tmp_path)
    (tmp_path / "a.txt").write_text("two words")
    assert labelled.transcripts(tmp_path) == [(tmp_path / "a.png", "two words")]


def test_a_damaged_picture_is_named(tmp_path):
    put(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    found = pictures.of_folder(tmp_path)
    assert len(found) == 2 and found[1].shape == PICTURE.shape
    with pytest.raises(ExportFailed, match="'bad.png' cannot be read"):
        found[0]


def test_half_of_the_pictures_calibrate_and_the_other_half_judges():
    assert pictures.halves([1, 2, 3]) == ([1, 3], [2])
    assert pictures.halves([1]) == ([1], [1])
    assert pictures.some(list(range(10)), 3) == [0, 3, 6] and pictures.some([1, 2], 3) == [1, 2]


def test_the_drawn_pictures_are_forty_and_the_same_every_time():
    first = pictures.structured()
    pictures.structured.cache_clear()
    again = pictures.structured()
    assert len(first) == 40 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
