"""What people hear of an answer: its words as they come, and places in place of how a model writes them."""

import pytest

from tritonvision.cli.told import Told
from tritonvision.grounding.grounded import Grounded
from tritonvision.results import Delta
from tritonvision.tasks import about_picture

CAT = Grounded("cat", boxes=((0.25, 0.5, 0.5, 0.75),))
NOSE = Grounded("nose", points=((0.25, 0.5),))
BOX = '{"bbox_2d": [250, 500, 500, 750], "label": "cat"}'


def heard(grounding, prompt, *texts, places=None):
    words: list[str] = []
    told = Told(grounding, about_picture(prompt), words.append)
    for text in texts:
        told.add(Delta(text, (), "", (1, 1)))
    told.add(Delta("", (), "stop", (1, 2), places=places))
    assert told.said == "".join(texts)
    return "".join(words), told.rest(lambda: (400, 200))


@pytest.mark.parametrize(("grounding", "prompt", "texts", "places", "want"), [
    ("", "look", ("a ", BOX), None, ("a " + BOX, "")),
    ("qwen3", "look", (BOX[:3], BOX[3:]), (CAT,), ("", "cat: box 100.0, 100.0 to 200.0, 150.0")),
    ("qwen3", "look", ("I see ", BOX), (CAT,), ("I see " + BOX, "\ncat: box 100.0, 100.0 to 200.0, 150.0")),
    ("qwen3", "look", ("{", " 3 }"), (), ("", "{ 3 }")),
    ("moondream", "point: nose", ("[[",), (NOSE, CAT),
     ("", "nose: at 100.0, 100.0\ncat: box 100.0, 100.0 to 200.0, 150.0")),
    ("florence", "<OD>", ("cat", "<loc_1>"), (CAT,), ("", "cat: box 100.0, 100.0 to 200.0, 150.0")),
    ("florence", "<OD>", ("cat",), (), ("", "nothing found")),
    ("florence", "<CAPTION>", ("a cat",), (), ("a cat", "")),
])  # fmt: skip
def test_words_come_at_once_and_places_in_lines_at_the_end(grounding, prompt, texts, places, want):
    assert heard(grounding, prompt, *texts, places=places) == want
