"""Every spelling that callers bring means the setting, the backend or nothing, and what nobody knows is refused."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tritonvision import AutoModel, tasks
from tritonvision.client.automodel.keywords import (
    BACKENDS,
    WITHOUT_MEANING,
    check_peer,
    choose_backend,
    settings_for,
)
from tritonvision.client.prompts import each_prompt
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, NotSupported

DETECTOR = Facts("yolov8n-640", "object-detection", labels=("cat", "dog", "cat"))
FINDER = Facts("owlv2-base-patch14", "open-vocabulary-object-detection")


# ---- keywords --------------------------------------------------------------------------------------------------------


def test_keywords_of_the_peer_without_a_meaning_are_accepted_and_others_are_not():
    check_peer(["device", "verbose", "quantization", "batch_size", "model_package_id", "onnx_execution_providers"])
    with pytest.raises(InvalidParameter) as caught:
        check_peer(["devcie"])
    assert "devcie" in caught.value.message and "api_key" in caught.value.hint


def test_no_keyword_of_our_own_is_among_those_without_a_meaning():
    own = set(inspect.signature(AutoModel.from_pretrained).parameters) - {"peer"}
    assert not own & WITHOUT_MEANING and {"backend", "server", "api_key", "allow_local_code_packages"} <= own


# ---- backends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx", "ONNX", " Onnx ", ["trt", "onnx"], ("torch", "onnx"), None, []])
def test_the_first_backend_that_is_published_is_taken(name):
    assert choose_backend(name, ("onnx",), "m") == "onnx"


def test_without_a_name_the_best_published_one_is_taken():
    assert choose_backend(None, ("trt", "onnx"), "m") == "trt"
    assert choose_backend(["onnx", "trt"], ("trt", "onnx"), "m") == "onnx"


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"onnx"}))
def test_an_unpublished_backend_is_refused_with_the_published_ones(name):
    for spelt in (name, name.upper(), name.replace("-", "_")):
        with pytest.raises(NotSupported) as caught:
            choose_backend(spelt, ("onnx",), "rfdetr-nano")
        assert "published as onnx" in caught.value.message and "backend out" in caught.value.hint
        assert ("variants add rfdetr-nano --engine tensorrt" in caught.value.hint) == (BACKENDS[name] == "trt")


@pytest.mark.parametrize("name", ["hf", "cuda", " ", "onnxruntime", ["onnx", "vllm"]])
def test_a_name_that_is_no_backend_is_refused_with_those_that_are(name):
    with pytest.raises(InvalidParameter) as caught:
        choose_backend(name, ("onnx",), "m")
    for known in ("onnx", "trt", "tensorrt", "torch", "torch-script", "hugging-face", "mediapipe", "ultralytics"):
        assert known in caught.value.hint


# ---- settings --------------------------------------------------------------------------------------------------------


def test_a_call_without_settings_has_every_default_of_the_task():
    for task in tasks.TASKS.values():
        more = {"classes": ["a cat"]} if task is tasks.OPEN_VOCABULARY else {}
        found = settings_for(Facts("m", task.name), more)
        assert found == tasks.resolve(task.parameters, {"texts": ["a cat"]} if more else {})


@pytest.mark.parametrize("word", ["default", "best"])
def test_the_best_and_the_default_confidence_are_the_default(word):
    assert settings_for(DETECTOR, {"confidence": word}) == settings_for(DETECTOR, {})


def test_older_spellings_and_numbers_of_numpy_mean_the_same():
    older = settings_for(DETECTOR, {"conf_thresh": np.float32(0.5), "iou_thresh": 0.7, "max_detections": np.int64(5)})
    assert older == settings_for(DETECTOR, {"confidence": 0.5, "iou_threshold": 0.7, "max_detections": 5})
    with pytest.raises(InvalidParameter):
        settings_for(DETECTOR, {"conf_thresh": 0.5, "confidence": 0.4})


@pytest.mark.parametrize(
    "wrong", [{"confidnce": 0.5}, {"confidence": 1.5}, {"confidence": "high"}, {"max_detections": 0}]
)  # fmt: skip
def test_a_setting_that_is_unknown_or_does_not_fit_is_refused(wrong):
    with pytest.raises(InvalidParameter):
        settings_for(DETECTOR, wrong)


def test_classes_are_kept_by_id_or_by_name():
    assert settings_for(DETECTOR, {"classes": [1]})["classes"] == [1]
    assert settings_for(DETECTOR, {"classes": ["dog"]})["classes"] == [1]
    assert settings_for(DETECTOR, {"class_filter": ["cat"]})["classes"] == [0, 2], "two classes have that name"
    assert settings_for(DETECTOR, {"class_filter": "dog"})["classes"] == [1]
    assert settings_for(DETECTOR, {"class_filter": [1, "cat"]})["classes"] == [1, 0, 2]
    assert settings_for(DETECTOR, {"class_filter": []})["classes"] == settings_for(DETECTOR, {"classes": []})["classes"]
    assert settings_for(DETECTOR, {"class_filter": None})["classes"] is None
    with pytest.raises(InvalidParameter) as caught:
        settings_for(DETECTOR, {"class_filter": ["bird"]})
    assert "bird" in caught.value.message and "cat, dog" in caught.value.hint
    for wrong in ({"class_filter": ["dog"], "classes": [0]}, {"classes": [-1]}, {"class_filter": 1}):
        with pytest.raises(InvalidParameter):
            settings_for(DETECTOR, wrong)


def test_what_is_looked_for_is_named_in_the_call():
    assert settings_for(FINDER, {"classes": ["a cat", "a dog"]})["texts"] == ["a cat", "a dog"]
    assert settings_for(FINDER, {"classes": "a cat"})["texts"] == ["a cat"]
    for wrong in ({}, {"classes": []}, {"classes": [1]}, {"classes": [" "]}):
        with pytest.raises(InvalidParameter):
            settings_for(FINDER, wrong)


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_one_prompt_counts_for_every_picture():
    found = each_prompt({"points": [[1, 2]], "point_labels": [1], "multimask": False}, 3)
    assert found == [{"points": [[1, 2]], "point_labels": [1], "multimask": False}] * 3


def test_prompts_one_level_deeper_go_to_their_pictures():
    found = each_prompt({"points": [[[1, 2]], [[3, 4]]], "box": [0, 0, 9, 9]}, 2)
    assert found == [{"points": [[1, 2]], "box": [0, 0, 9, 9]}, {"points": [[3, 4]], "box": [0, 0, 9, 9]}]


def test_several_boxes_of_one_picture_are_a_prompt_each():
    assert each_prompt({"box": [[0, 0, 1, 1], [2, 2, 3, 3]]}, 1) == [{"box": [0, 0, 1, 1]}, {"box": [2, 2, 3, 3]}]
    assert each_prompt({"points": [[[1, 2]]]}, 1) == [{"points": [[1, 2]]}]


@pytest.mark.parametrize("given", [{}, {"point_labels": [1]}, {"box": [[0, 0, 1, 1]] * 3}])
def test_no_prompt_or_another_number_of_them_is_refused(given):
    with pytest.raises(InvalidParameter):
        each_prompt(given, 2)
