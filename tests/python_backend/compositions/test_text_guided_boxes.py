"""Text-guided boxes: texts are encoded once, guide the detector, and its candidates are treated as dense boxes."""

import numpy as np
import pytest
import tokenizers

from tritonvision.ensembles.in_process import npy
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.compositions import text_guided_boxes
from tritonvision.python_backend.compositions.text_guided_boxes import TASK, Composition
from tritonvision.tasks import resolve

HEIGHT, WIDTH = 64, 96
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 96, 3), dtype=np.uint8)  # 16 rows of padding above and below
WORDS = ("red", "green", "blue")
# Candidates in network pixels: the first two overlap by 0.6, the third has another class, the fourth is elsewhere.
BOXES = np.float32([[0, 20, 40, 40], [10, 20, 50, 40], [0, 20, 40, 40], [60, 10, 120, 40]])
SCORES, CLASSES = np.float32([0.9, 0.8, 0.7, 0.3]), np.int32([0, 0, 1, 1])


def vocabulary():
    words = {word: index for index, word in enumerate(("!", "<s>", "</s>", *WORDS, "<unk>"))}
    file = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    file.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return file.to_str().encode()


class Networks:
    """Stand-ins: a text is its second token, and the detector says the candidates above of any picture."""

    def __init__(self):
        self.asked = []

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, {name: value.copy() for name, value in inputs.items()}))
        if role == "text":
            return {"query_embeds": np.float32(inputs["input_ids"][:, 1:2]) * np.ones((1, 4), np.float32)}
        return {"boxes": BOXES[None], "scores": SCORES[None], "class_ids": CLASSES[None]}

    def of(self, role):
        return [inputs for name, inputs in self.asked if name == role]


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def ask(networks):
    options = {"height": HEIGHT, "width": WIDTH, "assets": {"tokenizer.json": vocabulary()}}
    composition = Composition(networks, options)
    return lambda **given: composition.answer({"image": npy(PICTURE)}, resolve(TASK.parameters, given))


def test_candidates_are_suppressed_within_their_class_and_mapped_to_the_picture(ask):
    found = ask(texts=["red", "green"], iou_threshold=0.5)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.3]) and found["class_ids"].tolist() == [0, 1, 1]
    assert found["boxes"].tolist() == [[0, 4, 40, 24], [0, 4, 40, 24], [60, 0, 96, 24]]
    assert found["image_size"].tolist() == [32, 96] and found["class_ids"].dtype == np.int32


@pytest.mark.parametrize(("given", "scores"), [
    ({}, [0.9, 0.8, 0.7, 0.3]),  # the authors' 0.7 lets all of them be
    ({"iou_threshold": 0.5, "class_agnostic_nms": True}, [0.9, 0.3]),
    ({"confidence": 0.75}, [0.9, 0.8]), ({"max_detections": 1}, [0.9]),
])  # fmt: skip
def test_the_settings_of_the_task(ask, given, scores):
    assert ask(texts=["red", "green"], **given)["scores"].tolist() == pytest.approx(scores)


def test_without_an_overlap_it_is_the_authors(ask, monkeypatch):
    monkeypatch.setattr(text_guided_boxes, "IOU_THRESHOLD", 0.5)
    assert ask(texts=["red", "green"])["scores"].tolist() == pytest.approx([0.9, 0.7, 0.3])


def test_the_detector_reads_the_embeddings_of_the_texts_in_their_order_and_each_text_is_encoded_once(ask, networks):
    ask(texts=["blue", "red"])
    ask(texts=["red", "green", "blue", "red"])
    assert [len(inputs["input_ids"]) for inputs in networks.of("text")] == [2, 1]
    assert networks.of("text")[0]["input_ids"].shape == (2, 77)
    seen = [inputs["queries"][0, :, 0].tolist() for inputs in networks.of("image")]
    assert seen == [[5, 3], [3, 4, 5, 3]]
    assert networks.of("image")[0]["pixels"].shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("given", "sentence"), [
    ({}, "names no classes"), ({"texts": ["red", " "]}, "class 1 is empty"),
    ({"texts": ["red", "red " * 76]}, "class 1 is longer than 75 tokens"), ({"texts": ["red"] * 1001}, "1000 classes"),
    ({"texts": ["red"], "example_boxes": [[0, 0, 1, 1]]}, "reads texts, not examples"),
])  # fmt: skip
def test_what_it_cannot_look_for_is_refused(ask, networks, given, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        ask(**given)
    assert not networks.of("image")
