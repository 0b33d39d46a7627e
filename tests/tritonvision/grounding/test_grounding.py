"""What texts say of places: the schema, captions, and that no text is a failure."""

import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.grounding import Grounded, caption, parse
from tritonvision.grounding.grounded import box, boxes, numbers, point

TEXT = (
    'Here it is: {"phrase_grounding":{"sentence":"A cat on a mat.","groundings":['
    '{"phrase":"A cat","grounding":[[0,256,512,1024],[512,0,1024,256]]},{"phrase":"a mat","grounding":[[0,0,1024,512]]}'
    "]}} That is all."
)
FOUND = [
    Grounded("A cat", ((0.0, 0.25, 0.5, 1.0), (0.5, 0.0, 1.0, 0.25))),
    Grounded("a mat", ((0.0, 0.0, 1.0, 0.5),)),
]


@pytest.mark.parametrize("convention", ["", "vi"])
def test_the_schema_is_read_in_thousandths_and_a_bit(convention):
    assert parse(convention, TEXT, 640, 480) == FOUND
    assert caption(TEXT, FOUND) == "A cat on a mat."


def test_of_a_cut_text_the_complete_groundings_are_read():
    cut = TEXT[: TEXT.index("[[0,0,1024,512]]") + 7]
    assert parse("vi", cut, 640, 480) == FOUND[:1]
    assert caption(cut, FOUND[:1]) == "A cat"


def test_single_quotes_and_a_comma_too_many_are_read():
    loose = "It's this: {'groundings': [{'phrase': 'the dog\\'s \"bed\"', 'grounding': [0, 0, '512', 512,],},]}"
    assert parse("vi", loose, 9, 9) == [Grounded("the dog's \"bed\"", ((0.0, 0.0, 0.5, 0.5),))]


def test_what_is_no_place_is_left_out():
    bad = [0, 0, 0, 9], [1, 2, 3], "box", [float("nan"), 0, 1, 1], [True, 0, 9, 9], None, ["a", 0, 1, 1]
    listed = [*bad, [9, 9, 0, 0]]
    assert boxes(listed, 9, 9) == ((0.0, 0.0, 1.0, 1.0),)
    assert box([-5, 2, 99, 4], 10, 10) == (0.0, 0.2, 1.0, 0.4)
    assert box([0, 0, 1, 1], 0, 10) is None and box([11, 0, 12, 5], 10, 10) is None
    assert point(["5", 20], 10, 10) == (0.5, 1.0) and point([1, 2, 3], 10, 10) is None
    assert numbers(["1" * 400, 0], 2) is None and numbers([10**400, 0], 2) is None


@pytest.mark.parametrize("text", [
    "", "{", "[" * 5000, '{"a":' * 5000, '{"phrase_grounding":' * 3000, '"groundings"' + "{'" * 3000,
    '{"groundings": 3}', '{"phrase_grounding": []}', '{"groundings": [{"phrase": 1, "grounding": {}}]}',
    '{"groundings": [{"phrase": "x", "grounding": [[1e999, 0, 1, 1]]}]}', "1" * 9000 + '{"groundings": [' + "9" * 9000,
    "\ud800",
])  # fmt: skip
def test_no_text_is_a_failure(text):
    assert parse("vi", text, 640, 480) == []
    assert isinstance(caption(text, []), str)


def test_a_caption_has_phrases_in_place_of_tags():
    text = "I see <ref>a cat</ref><box>[[1,2,3,4]]</box> and  more."
    found = [Grounded("a cat", ((0.0, 0.0, 1.0, 1.0),), start_end=(6, text.index(" and")))]
    assert caption(text, found) == "I see a cat and more."
    listed = [Grounded("a cat"), Grounded("a dog"), Grounded("a cat")]
    assert caption('[{"bbox_2d": [1,2,3,4]}]', listed) == "a cat, a dog"
    assert caption(" Nothing  here. ", []) == "Nothing here."


def test_an_unknown_convention_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="no grounding convention 'qwen9'"):
        parse("qwen9", "", 1, 1)
