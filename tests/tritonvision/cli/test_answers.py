"""A text reads the same whether it is shown while it is written or at its end."""

import pytest

from tritonvision.cli.answers import TextAsItComes, lines

PIECES = {
    "one line": ["A", " ma", "n."],
    "space around": [" ", "\n", " A man", " .", " \n"],
    "several lines": ["First", ".\nSe", "cond.\n", "\n", "Third."],
    "control characters": ["a\x1b[2J", "b\u2028c", "\x85d"],
}


def shown(pieces, after: int) -> str:
    """What stands on the screen when the first ``after`` pieces came before it was this picture's turn."""
    screen = []
    text = TextAsItComes("photo.jpg", screen.append)
    for count, piece in enumerate(pieces):
        if count == after:
            text.show()
        text.add(piece)
    text.show()
    return "".join(screen)


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("after", [0, 2, 9])
def test_the_text_is_the_same_in_pieces_and_whole(pieces, after):
    whole = "\n".join(lines("photo.jpg", [{"text": "".join(pieces)}]))
    assert [line.rstrip() for line in shown(pieces, after).split("\n")] == whole.split("\n")


def test_each_piece_is_shown_as_soon_as_it_comes():
    screen = []
    text = TextAsItComes("p", screen.append)
    text.show()
    text.add("A ")
    assert screen == ["p: A"]
    text.add("man")
    assert screen == ["p: A", " man"]


def test_nothing_is_shown_of_an_answer_of_nothing():
    assert shown(["", " ", "\n"], 0) == ""
    assert list(lines("p", [{"text": " \n"}])) == ["p: no text"]


def test_a_page_is_its_words_below_their_number():
    page = {"text": "Dear Sir\n\nYours", "words": [{}, {}, {}]}
    assert list(lines("p", [page])) == ["p: 3 words", "  Dear Sir", "", "  Yours"]
    assert list(lines("p", [{"text": "", "words": []}])) == ["p: no text"]
