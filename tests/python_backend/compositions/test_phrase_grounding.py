"""Phrase grounding: how classes become a caption, and how the scores of its tokens become boxes of classes."""

import string

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from tritonvision.ensembles.in_process import npy
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.compositions import phrase_grounding
from tritonvision.tasks import resolve

SPECIAL_TOKENS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
WORDS = "a red cup the dog house fire hydrant person".split()


def vocabulary():
    """The text of a ``tokenizer.json`` as BERT's: these words, all others letter by letter."""
    letters = [*string.ascii_lowercase, *string.digits]
    known = sorted({*WORDS, *letters, *(f"##{letter}" for letter in letters), *string.punctuation} - {".", "?"})
    numbered = SPECIAL_TOKENS | {".": 1012, "?": 1029} | {token: 1996 + i for i, token in enumerate(known)}
    made = tokenizers.Tokenizer(models.WordPiece(numbered, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = [(token, SPECIAL_TOKENS[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.add_special_tokens(list(SPECIAL_TOKENS))
    return made.to_str().encode()


VOCABULARY = vocabulary()
TOKENIZER = tokenizers.Tokenizer.from_str(VOCABULARY.decode())
RGB = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
QUERIES = 900
SPECIALS = (101, 102, 1012, 1029)


class Network:
    """A network whose query ``i`` has score ``best[i][token]`` at some tokens and 0.01 at all others."""

    def __init__(self, best=()):
        self.best = best
        self.asked = []

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, inputs, list(outputs)))
        scores = np.full((1, QUERIES, inputs["input_ids"].shape[1]), 0.01, np.float32)
        boxes = np.tile(np.float32([0.25, 0.25, 0.5, 0.75]), (1, QUERIES, 1))
        for query, tokens in enumerate(self.best):
            boxes[0, query] = [0.1 * query, 0.2, 0.1 * query + 0.1, 1.2]
            for token, score in tokens.items():
                scores[0, query, token] = score
        return {"boxes": boxes, "token_scores": scores}


def ask(texts, best=(), network=None, picture=RGB, **parameters):
    network = network or Network(best)
    options = {"shortest": 240, "longest": 400, "assets": {"tokenizer.json": VOCABULARY}}
    composition = phrase_grounding.Composition(network, options)
    given = resolve(phrase_grounding.TASK.parameters, {"texts": texts, **parameters})
    return composition.answer({"image": npy(picture)}, given)


def tokens(texts):
    caption = phrase_grounding.caption(TOKENIZER, texts)
    return caption, [TOKENIZER.id_to_token(i) for i in caption.ids]


def test_classes_are_one_caption_with_a_dot_behind_each():
    caption, names = tokens(["A red cup", "dog"])
    assert names == ["[CLS]", "a", "red", "cup", ".", "dog", ".", "[SEP]"]
    assert [span.tolist() for span in caption.spans] == [[1, 2, 3], [5]]
    assert caption.ids[[0, 4, 6, 7]].tolist() == [101, 1012, 1012, 102]


def test_case_blanks_and_a_closing_dot_make_no_difference():
    plain, _ = tokens(["red cup", "the dog"])
    other, _ = tokens(["  Red CUP ", "The dog. "])
    assert plain.ids.tolist() == other.ids.tolist()


def test_equal_texts_and_texts_in_texts_keep_their_own_places():
    caption, names = tokens(["dog", "dog house", "dog"])
    assert [[names[i] for i in span] for span in caption.spans] == [["dog"], ["dog", "house"], ["dog"]]
    assert len({int(i) for span in caption.spans for i in span}) == 4


def test_words_of_a_class_see_each_other_and_no_other_class():
    caption, _ = tokens(["a red cup", "dog"])
    seen = [np.flatnonzero(row).tolist() for row in caption.mask]
    assert seen == [[0], *[[1, 2, 3, 4]] * 4, [5, 6], [5, 6], [7]]
    assert caption.positions.tolist() == [0, 0, 1, 2, 3, 0, 1, 0]
    assert caption.mask.dtype == np.uint8


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SPECIALS, 7, 2000, 30521]), min_size=1, max_size=40))
def test_phrases_are_blocks_that_special_tokens_close(ids):
    mask, positions = phrase_grounding.phrases(ids)
    assert mask.diagonal().all()
    assert (mask == mask.T).all()
    for row in range(len(ids)):
        block = np.flatnonzero(mask[row])
        assert (np.diff(block) == 1).all()
        if len(block) > 1:
            assert ids[block[-1]] in SPECIALS
            assert not set(np.array(ids)[block[:-1]].tolist()) & set(SPECIALS)
            assert positions[block].tolist() == list(range(len(block)))


def test_a_class_scores_what_its_best_word_scores():
    # tokens: [CLS] a red cup . dog . [SEP]
    answer = ask(["a red cup", "dog"], [{2: 0.5, 3: 0.7, 5: 0.6}, {5: 0.9}, {1: 0.3}])
    assert answer["class_ids"].tolist() == [1, 0, 0]
    np.testing.assert_allclose(answer["scores"], [0.9, 0.7, 0.3], atol=1e-6)


def test_dots_start_and_end_are_no_words():
    answer = ask(["a red cup", "dog"], [{0: 0.9, 4: 0.9, 6: 0.9, 7: 0.9}])
    assert len(answer["scores"]) == 0
    assert answer["boxes"].shape == (0, 4)


def test_of_equal_texts_the_first_is_named():
    assert ask(["person", "dog", "dog"], [{3: 0.8, 5: 0.8}])["class_ids"].tolist() == [1]


def test_boxes_are_pixels_of_the_picture_and_clipped_to_it():
    answer = ask(["dog"], [{}, {1: 0.9}])
    np.testing.assert_allclose(answer["boxes"], [[16, 24, 32, 120]], rtol=1e-5)
    assert answer["image_size"].tolist() == [120, 160]


def test_confidence_and_text_threshold_are_both_heard():
    best = [{1: 0.2}, {1: 0.4}, {1: 0.6}]
    assert len(ask(["dog"], best, confidence=0.1, text_threshold=0.1)["scores"]) == 3
    assert len(ask(["dog"], best, confidence=0.1, text_threshold=0.5)["scores"]) == 1
    assert len(ask(["dog"], best, confidence=0.3, text_threshold=0.0)["scores"]) == 2


def test_without_a_text_threshold_confidence_alone_decides():
    network = Network([{1: 0.2}])
    options = {"shortest": 240, "longest": 400, "assets": {"tokenizer.json": VOCABULARY}}
    given = resolve(phrase_grounding.TASK.parameters, {"texts": ["dog"], "confidence": 0.1}) | {"text_threshold": None}
    answer = phrase_grounding.Composition(network, options).answer({"image": npy(RGB)}, given)
    assert len(answer["scores"]) == 1


def test_the_network_sees_the_picture_at_the_processors_size():
    network = Network()
    ask(["dog"], network=network)
    ((role, inputs, outputs),) = network.asked
    assert (role, outputs) == ("", ["boxes", "token_scores"])
    assert inputs["pixels"].shape == (1, 240, 320, 3)
    assert inputs["valid_size"].tolist() == [[240, 320]]
    assert {name: value.dtype.name for name, value in inputs.items()} == {
        "pixels": "uint8", "valid_size": "int32", "input_ids": "int64", "text_token_mask": "uint8",
        "position_ids": "int64",
    }  # fmt: skip


@pytest.mark.parametrize(("shape", "valid"), [((20, 200, 3), (40, 400)), ((300, 10, 3), (400, 13)), ((1, 1, 3), None)])
def test_strips_get_a_rest_that_does_not_count(shape, valid):
    network = Network()
    ask(["dog"], network=network, picture=np.full(shape, 9, np.uint8))
    inputs = network.asked[0][1]
    height, width = inputs["valid_size"][0]
    assert min(inputs["pixels"].shape[1:3]) >= 224
    assert valid is None or (height, width) == valid
    assert not inputs["pixels"][0, height:].any()
    assert not inputs["pixels"][0, :, width:].any()


def test_captions_are_kept_by_their_texts():
    options = {"shortest": 240, "longest": 400, "assets": {"tokenizer.json": VOCABULARY}}
    composition = phrase_grounding.Composition(Network(), options)
    first = composition._caption(["dog", "red cup"])
    assert composition._caption(["dog", "red cup"]) is first
    assert composition._caption(["red cup", "dog"]) is not first
    for number in range(100):
        composition._caption([f"dog {number}"])
    assert len(composition._captions) == 64
    assert composition._caption(["dog", "red cup"]) is not first


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (None, "no classes"),
        ([], "no classes"),
        (["dog", " "], "class 1 is empty"),
        (["dog", "..."], "class 1 has no word"),
        (["?"], "class 0 has no word"),
        (["\u0301"], "class 0 has no word"),  # an accent on nothing
        (["dog"] * 10_000, "127 classes, not 10000"),
        (["a red cup"] * 100, "longer than 256 tokens"),
        (["x" * 1_000_000], "longer than 256 tokens"),
    ],
)
def test_classes_that_cannot_be_looked_for_are_refused(texts, sentence):
    network = Network()
    with pytest.raises(InvalidParameter, match=sentence) as refused:
        ask(texts, network=network)
    assert refused.value.hint
    assert not network.asked


def test_127_classes_of_one_word_fit():
    assert len(phrase_grounding.caption(TOKENIZER, ["dog"] * 127).ids) == 256


def test_examples_are_refused():
    with pytest.raises(InvalidParameter, match="not examples"):
        ask(["dog"], example_boxes=[[0, 0, 10, 10]])
