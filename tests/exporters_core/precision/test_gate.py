"""What passes the precision gate, what does not, and in which words."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask

from tritonvision import tasks
from tritonvision.errors import ExportFailed
from tritonvision.exporters.precision import gate
from tritonvision.exporters.precision.measures.registry import MEASURES

LABELS = ("disc", "box")


class Point:
    """As much of an entry point as the gate looks at."""

    def __init__(self, schema, task, role=""):
        self.name, self.task, self.role = schema, task, role


BOXES, CLASSES = Point("dense-boxes", tasks.OBJECT_DETECTION), Point("classes", tasks.CLASSIFICATION)


def check(base, candidate, points, name="The reduced precision", **options):
    """What the gate says of one candidate."""
    return gate.Gate(base, points, **options).check(candidate, name)


@pytest.fixture(scope="module")
def pictures():
    """Grey levels that a stand-in network can tell apart."""
    return [np.full((60, 80, 3), 10 * level, np.uint8) for level in range(24)]


def detector(shift=0.0, scale=1.0):
    """Finds two boxes in each picture; ``shift`` pixels beside where they are."""

    def answer(picture, given):
        boxes = np.array([[5, 5, 25, 25], [40, 10, 70, 50]], np.float32) + np.float32(shift)
        scores = np.array([0.9, 0.8], np.float32) * np.float32(scale)
        return {"boxes": boxes, "scores": scores, "class_ids": np.array([0, 1], np.int32)}

    return answer


def classifier(wrong=()):
    """Every other grey level is class 0, but for the levels ``wrong``."""

    def answer(picture, given):
        level = int(picture[0, 0, 0]) // 10
        scores = np.array([0.9, 0.1]) if (level % 2 == 0) != (level in wrong) else np.array([0.1, 0.9])
        return {"scores": scores}

    return answer


def test_what_fp32_answers_as_well_passes_and_the_figures_say_so(pictures):
    result = check({"": detector()}, {"": detector(0.5)}, [BOXES], pictures=pictures)
    assert result.shown == "agreement" and result.figures == {"matched": 1.0}


def test_what_differs_is_refused_with_figure_and_bar(pictures):
    with pytest.raises(gate.Imprecise) as caught:
        check({"": detector()}, {"": detector(6)}, [BOXES], pictures=pictures, name="openvino-int8")
    assert caught.value.message == (
        "openvino-int8 does not do what fp32 does: Of the detections over 0.4, the share that fp32 and this precision "
        "both find is 0, and must be at least 0.99."
    )
    assert "--calibrate" in caught.value.hint and caught.value.code == "export_failed"


def test_too_few_answers_prove_nothing(pictures):
    with pytest.raises(ExportFailed, match="4 answers to compare, at least 10") as caught:
        check({"": detector()}, {"": detector()}, [BOXES], pictures=pictures[:1])
    assert not isinstance(caught.value, gate.Imprecise) and "--gate-data" in caught.value.hint


def test_figures_of_further_entry_points_carry_their_role(pictures):
    points = [CLASSES, Point("classes", tasks.CLASSIFICATION, "other")]
    answers = {"": classifier(), "other": classifier()}
    assert check(answers, answers, points, pictures=pictures).figures == {"top1": 1.0, "other_top1": 1.0}


def test_fp32_is_asked_once_whoever_comes(pictures):
    asked = []

    def base(picture, given):
        asked.append(picture)
        return classifier()(picture, given)

    tested = gate.Gate({"": base}, [CLASSES], pictures=pictures)
    tested.check({"": classifier()})
    with pytest.raises(gate.Imprecise):
        tested.check({"": classifier(wrong=range(5))})
    assert len(asked) == MEASURES["classes"].most


@pytest.fixture
def coco(tmp_path):
    """Ten pictures with the boxes that the stand-in detector finds, in COCO's format."""
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((60, 80, 3), number, np.uint8))
    boxes = [(7, [5, 5, 20, 20]), (3, [40, 10, 30, 40])]
    labels = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in range(10)],
        "annotations": [{"image_id": n, "category_id": c, "bbox": box} for n in range(10) for c, box in boxes],
        "categories": [{"id": 7, "name": "Disc"}, {"id": 3, "name": "box"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return tmp_path


def labelled(candidate, point, folder, base):
    return check({"": base}, {"": candidate}, [point], labelled=folder, labels=LABELS)


def test_map_over_labels_may_be_half_a_point_lower(coco):
    result = labelled(detector(scale=0.5), BOXES, coco, detector())
    assert result.shown == "labelled"
    assert result.figures == {"map": pytest.approx(100), "map_fp32": pytest.approx(100)}
    with pytest.raises(gate.Imprecise, match=r"The mAP is \d+\.\d\d %, that of fp32 100\.00 %: at most 0\.5 points"):
        labelled(detector(2), BOXES, coco, detector())


def test_labels_of_another_format_are_refused_before_anybody_is_asked(tmp_path):
    folders(tmp_path, 4)
    with pytest.raises(ExportFailed, match="must hold one JSON file of labels, and holds 0"):
        gate.Gate({"": None}, [BOXES], tmp_path, labels=LABELS).prepare()


def test_labels_that_fp32_knows_nothing_of_prove_nothing(coco):
    with pytest.raises(ExportFailed, match="mAP of the fp32 model over the labelled pictures is 0 %: that proves"):
        labelled(detector(), BOXES, coco, detector(30))


def test_masks_are_judged_by_an_map_of_their_own(coco):
    labels = json.loads((coco / "labels.json").read_text())
    for row in labels["annotations"]:
        left, top, width, height = row["bbox"]
        right, bottom = left + width, top + height
        row["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
    (coco / "labels.json").write_text(json.dumps(labels))

    def segmenter(shrink):
        def answer(picture, given):
            masks = np.zeros((60, 80, 2), np.uint8, order="F")
            masks[5 : 25 - shrink, 5:25, 0] = masks[10 : 50 - shrink, 40:70, 1] = 1
            return detector()(picture, given) | {"masks": np.array([m["counts"] for m in mask.encode(masks)], object)}

        return answer

    point = Point("prototype-masks", tasks.INSTANCE_SEGMENTATION)
    assert labelled(segmenter(0), point, coco, segmenter(0)).figures["mask_map"] == pytest.approx(100)
    with pytest.raises(gate.Imprecise, match=r"The mAP of masks is \d+\.\d\d %") as caught:
        labelled(segmenter(5), point, coco, segmenter(0))
    assert [finding.passes for finding in caught.value.findings] == [True, False]


def folders(root, count):
    for number in range(count):
        folder = root / LABELS[number % 2]
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), np.full((20, 20, 3), 10 * number, np.uint8))


def test_one_picture_of_twenty_four_is_more_than_half_a_point(tmp_path):
    folders(tmp_path, 24)
    assert labelled(classifier(), CLASSES, tmp_path, classifier()).figures == {"top1": 100.0, "top1_fp32": 100.0}
    with pytest.raises(gate.Imprecise, match=r"best class is 95\.83 %"):
        labelled(classifier(wrong=(3,)), CLASSES, tmp_path, classifier())
    better = labelled(classifier(), CLASSES, tmp_path, classifier(wrong=(3,)))
    assert better.figures["top1"] > better.figures["top1_fp32"]


def depths(root):
    rng = np.random.default_rng(0)
    for number in range(3):
        near = rng.uniform(1, 5, (20, 30)).astype(np.float32)
        near[0, 0] = np.nan
        cv2.imwrite(str(root / f"{number}.png"), np.full((20, 30, 3), number, np.uint8))
        np.save(root / f"{number}.npy", near)


def mapper(root, error=0.0):
    """Answers the inverse of the true depth, in a scale and with an offset of its own."""

    def answer(picture, given):
        truth = np.nan_to_num(np.load(root / f"{picture[0, 0, 0]}.npy"), nan=1)
        noise = 1 + error * np.random.default_rng(0).standard_normal(truth.shape)
        values = 7 + 3 / (truth * noise)
        low, high = values.min(), values.max()
        return {"map": ((values - low) / (high - low) * 65535).astype(np.uint16), "range": np.array([low, high])}

    return answer


def test_error_of_depth_is_measured_after_the_best_scale_and_may_grow_by_half_a_percent(tmp_path):
    depths(tmp_path)
    point, base = Point("dense-map", tasks.DEPTH_ESTIMATION), {"": mapper(tmp_path)}
    tested = gate.Gate(base, [point], tmp_path, map_meaning="inverse-depth")
    assert tested.check({"": mapper(tmp_path, 0.002)}).figures["absrel_fp32"] < 0.1
    with pytest.raises(gate.Imprecise, match="mean error of depth"):
        tested.check({"": mapper(tmp_path, 0.02)})


def test_without_labels_for_its_task_a_folder_is_one_of_pictures(tmp_path):
    folders(tmp_path, 24)

    def embedder(picture, given):
        level = float(picture[0, 0, 0])
        return {"embeddings": np.array([np.cos(level / 100), np.sin(level / 100)])}

    point = Point("embeddings", tasks.EMBEDDING)
    result = check({"": embedder}, {"": embedder}, [point], labelled=tmp_path)
    assert result.shown == "agreement" and result.figures["cosine"] == pytest.approx(1)
