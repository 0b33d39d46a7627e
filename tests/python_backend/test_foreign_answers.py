"""What a package's code answers, told by its attributes: every form in the house's tensors, every oddity a sentence."""

from types import SimpleNamespace as Answer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from tritonvision.errors import InvalidParameter, NotSupported, TritonVisionError
from tritonvision.python_backend.foreign_answers import READERS, to_tensors
from tritonvision.tasks import TASKS, resolve

SIZE = (40, 60)
BOXES = Answer(xyxy=[[0, 0, 10, 10], [5, 5, 90, 30], [1, 1, 2, 2]], class_id=[0, 1, 1], confidence=[0.2, 0.9, 0.5])


class Tensor:
    """As torch's: numpy is two steps away."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.values


def read(answer, task="object-detection", classes=2, **given):
    settings = resolve(TASKS[task].parameters, given)
    unsaid = {name: given.get(name) for name in ("confidence", "classes", "max_detections")}
    return to_tensors(answer, task, SIZE, settings | unsaid, classes)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: [a], lambda a: (a,), lambda a: [[a]]])
def test_boxes_come_best_first_and_inside_the_picture(wrap):
    found = read(wrap(BOXES))
    assert found["scores"].tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert found["class_ids"].tolist() == [1, 1, 0]
    assert found["boxes"][0].tolist() == [5, 5, 60, 30]
    assert {name: value.dtype.name for name, value in found.items()} == {
        "boxes": "float32", "scores": "float32", "class_ids": "int32",
    }  # fmt: skip


def test_tensors_of_torch_are_read_without_torch():
    tensors = Answer(**{name: Tensor(value) for name, value in vars(BOXES).items()})
    for name, value in read(BOXES).items():
        assert np.array_equal(read(tensors)[name], value)


def test_settings_that_the_code_does_not_take_are_applied_to_its_answer():
    assert read(BOXES, confidence=0.5)["scores"].tolist() == pytest.approx([0.9, 0.5])
    assert read(BOXES, classes=2, max_detections=1)["scores"].tolist() == pytest.approx([0.9])
    settings = resolve(TASKS["object-detection"].parameters, {}) | {"confidence": None, "max_detections": None}
    assert to_tensors(BOXES, "object-detection", SIZE, settings | {"classes": [0]}, 2)["class_ids"].tolist() == [0]


def test_a_detector_that_names_no_classes_and_no_scores_is_sure_of_the_first_class():
    found = read(Answer(xyxy=np.ones((2, 4)), class_id=None, confidence=None))
    assert found["class_ids"].tolist() == [0, 0] and found["scores"].tolist() == [1, 1]


def test_nothing_found_is_an_answer():
    found = read(Answer(xyxy=np.empty((0, 4)), class_id=np.empty(0), confidence=np.empty(0)))
    assert found["boxes"].shape == (0, 4) and found["class_ids"].shape == (0,)
    found = read(Answer(xyxy=np.empty((0, 4)), mask=None), "instance-segmentation")
    assert found["masks"].shape == (0,)


@given(arrays(bool, (2, *SIZE)))
def test_pixels_of_masks_become_run_lengths_of_the_same_pixels(pixels):
    answer = Answer(xyxy=np.ones((2, 4)), class_id=[0, 1], confidence=[0.1, 0.9], mask=pixels)
    encoded = read(answer, "instance-segmentation")["masks"]
    for text, wanted in zip(encoded, pixels[::-1], strict=True):  # the better one first
        assert np.array_equal(coco.decode({"size": list(SIZE), "counts": text}), wanted)


def test_masks_of_a_smaller_size_are_enlarged_and_run_lengths_pass():
    small = np.zeros((1, 20, 30), bool)
    small[0, :10] = True
    one = {"xyxy": [[0, 0, 9, 9]], "class_id": [0], "confidence": [1]}
    (text,) = read(Answer(**one, mask=small), "instance-segmentation")["masks"]
    assert coco.decode({"size": list(SIZE), "counts": text})[:20].all()
    lengths = Answer(masks=[text], image_size=SIZE)
    assert read(Answer(**one, mask=lengths), "instance-segmentation")["masks"].tolist() == [text]
    with pytest.raises(NotSupported, match="polygons"):
        read(Answer(**one, mask=lengths), "instance-segmentation", mask_format="polygon")
    assert not len(read(Answer(**one, mask=small), "instance-segmentation", mask_format="none")["masks"])


def test_classes_with_one_label_or_many():
    one = Answer(class_id=[1], confidence=np.array([[0.2, 0.7]]))
    assert read(one, "classification")["class_ids"].tolist() == [1]
    assert read(one, "classification", confidence=0.1)["class_ids"].tolist() == [1, 0]
    many = Answer(class_ids=[0, 1], confidence=[0.6, 0.7])
    assert read(many, "classification")["class_ids"].tolist() == [1, 0]
    with pytest.raises(InvalidParameter, match="function"):
        read(one, "classification", function="softmax")


def test_vectors_maps_and_texts():
    assert read(Tensor([[1, 2, 3]]), "embedding")["embeddings"].tolist() == [1, 2, 3]
    depth = read(np.linspace(0, 1, 40 * 60).reshape(SIZE), "depth-estimation")
    assert depth["map"].shape == SIZE and depth["range"].tolist() == [0, 1]
    assert read(["ü"], "text-only-ocr")["text"].tolist() == ["ü".encode()]


ODD = {
    "a dict": ({"xyxy": []}, "object-detection", "a 'dict'"),
    "two results": ([BOXES, BOXES], "object-detection", "a list of 2"),
    "no list at all": ([], "object-detection", "a list of 0"),
    "None": (None, "embedding", "not finite|a 'NoneType'"),
    "a text for boxes": ("hello", "object-detection", "a 'str'"),
    "boxes for a text": (BOXES, "text-only-ocr", "a 'SimpleNamespace'"),
    "words for numbers": (Answer(xyxy="boxes"), "object-detection", "which its task does not know"),
    "numbers that are none": (Answer(xyxy=[[0, 0, np.nan, 1]]), "object-detection", "not finite"),
    "too few scores": (Answer(xyxy=np.ones((2, 4)), confidence=[1]), "object-detection", "1 values of 'confidence'"),
    "a class without a name": (Answer(xyxy=np.ones((1, 4)), class_id=[2]), "object-detection", "beyond its 2 class"),
    "a negative class": (Answer(xyxy=np.ones((1, 4)), class_id=[-1]), "object-detection", "beyond its 2 class"),
    "no masks": (BOXES, "instance-segmentation", "a 'SimpleNamespace'"),
    "too few masks": (Answer(xyxy=np.ones((2, 4)), mask=np.ones((1, 4, 4))), "instance-segmentation", "do not fit"),
    "too many scores": (Answer(confidence=[1, 2, 3]), "classification", "3 scores for its 2 class names"),
    "a map of three axes": (np.ones((2, 2, 3)), "depth-estimation", "not one of two axes"),
    "boxes of five": (Answer(xyxy=np.ones((1, 5))), "object-detection", "not four numbers"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_a_task_does_not_know_is_one_sentence(name):
    answer, task, sentence = ODD[name]
    with pytest.raises(TritonVisionError, match=sentence) as caught:
        read(answer, task)
    assert "\n" not in caught.value.message


@given(
    st.sampled_from(sorted(READERS)),
    st.recursive(
        st.none() | st.text() | st.floats() | st.integers() | arrays(float, st.integers(0, 5)),
        lambda inner: st.lists(inner, max_size=3) | inner.map(lambda v: Answer(xyxy=v, confidence=v, class_id=v)),
    ),
)
def test_nothing_but_tensors_and_sentences_comes_out(task, answer):
    try:
        found = read(answer, task)
    except TritonVisionError:
        return
    assert all(isinstance(value, np.ndarray) for value in found.values())
