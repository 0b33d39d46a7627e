import math

import pytest

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.tasks import CLASSIFICATION, OBJECT_DETECTION, TASKS, Parameter, resolve


def test_every_default_is_a_value_that_the_parameter_accepts():
    for task in TASKS.values():
        for parameter in task.parameters:
            assert parameter.default is None or parameter.check(parameter.default) == parameter.default


def test_nothing_given_means_the_documented_defaults():
    assert resolve(OBJECT_DETECTION.parameters, {}) == {
        "auto_orient": True, "confidence": 0.4, "iou_threshold": 0.3, "max_detections": 300, "max_candidates": 3000,
        "classes": None, "class_agnostic_nms": False,
    }  # fmt: skip


def test_none_means_the_default_and_given_values_take_their_own_type():
    resolved = resolve(OBJECT_DETECTION.parameters, {"confidence": 1, "max_detections": 5.0, "iou_threshold": None})
    assert resolved["confidence"] == 1.0 and type(resolved["confidence"]) is float
    assert resolved["max_detections"] == 5 and type(resolved["max_detections"]) is int
    assert resolved["iou_threshold"] == 0.3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", -0.001), ("confidence", 1.001), ("confidence", "0.5"), ("confidence", True),
        ("confidence", math.nan), ("confidence", math.inf), ("confidence", [0.5]),
        ("max_detections", 0), ("max_detections", 2.5), ("max_detections", 10_001), ("max_detections", math.nan),
        ("classes", 3), ("classes", [-1]), ("classes", [1.0]), ("classes", [True]), ("classes", ["car"]),
        ("class_agnostic_nms", 1), ("class_agnostic_nms", "yes"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_or_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(InvalidParameter, match=f"'{name}'"):
        resolve(OBJECT_DETECTION.parameters, {name: value})


def test_the_choice_of_activation_is_one_of_the_contract():
    for function in ("softmax", "sigmoid", "none"):
        assert resolve(CLASSIFICATION.parameters, {"function": function})["function"] == function
    with pytest.raises(InvalidParameter, match="softmax or sigmoid or none"):
        resolve(CLASSIFICATION.parameters, {"function": "relu"})


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidParameter, match="'conf'") as caught:
        resolve(CLASSIFICATION.parameters, {"conf": 0.5})
    assert "confidence" in caught.value.hint
    with pytest.raises(InvalidParameter) as caught:
        resolve(CLASSIFICATION.parameters, {"x" * 9000: 1})
    assert len(caught.value.message) < 100


def test_a_task_is_found_under_the_name_the_catalogue_uses():
    from tritonvision import catalog

    assert {name for name in TASKS} <= {entry.task for entry in catalog.entries().values()}
    assert all(name == task.name for name, task in TASKS.items())


def test_a_parameter_without_bounds_takes_any_number():
    assert Parameter("temperature", "float", 1.0).check(-1e9) == -1e9
    assert tasks.AUTO_ORIENT.check(False) is False


@pytest.mark.parametrize(("detail", "size", "low"), [
    ("low", (9000, 10), True), ("high", (10, 10), False), ("auto", (512, 512), True), ("auto", (513, 10), False),
    ("auto", (10, 513), False),
])  # fmt: skip
def test_a_picture_left_to_its_size_is_one_view_where_it_fits_into_one(detail, size, low):
    assert tasks.is_low(detail, size, 512) is low
