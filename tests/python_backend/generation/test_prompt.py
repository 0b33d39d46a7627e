"""What every family asks of a conversation: how much of each picture is read."""

import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation import prompt


def says(*content):
    return {"role": "user", "content": list(content)}


def test_the_details_of_a_conversation_stand_in_the_order_of_its_pictures():
    words = {"type": "text", "text": "x"}
    low, plain, auto = {"type": "image", "detail": "low"}, {"type": "image"}, {"type": "image", "detail": "auto"}
    messages = [says(low, words, plain), says(auto)]
    assert prompt.details(messages) == ["low", "high", "auto"]
    assert prompt.details([says(words)]) == []


@pytest.mark.parametrize("detail", ["LOW", "", 0, False, ["low"]])
def test_an_unknown_detail_is_refused_with_those_that_are_known(detail):
    with pytest.raises(InvalidParameter, match="no 'detail' of a picture") as caught:
        prompt.check([says({"type": "image", "detail": detail})], 1)
    assert "low, high, auto" in caught.value.hint
