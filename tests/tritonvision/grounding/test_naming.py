"""Things are asked for by their names in the words of each family, and found under them."""

from __future__ import annotations

import pytest

from tritonvision.grounding import CONVENTIONS, Grounded, florence, schema
from tritonvision.grounding.naming import named, prompts

BOX = (0.0, 0.0, 0.5, 0.5)
NAMES = ("a red car", "Dog")


def test_every_family_that_writes_places_can_be_asked_and_no_other():
    assert all(prompts(convention, NAMES) for convention in CONVENTIONS if convention != schema.NAME)
    assert prompts("", NAMES) == prompts(schema.NAME, NAMES) == []


@pytest.mark.parametrize(("convention", "texts"), [
    ("paligemma", ["detect a red car ; Dog"]), ("moondream", ["detect: a red car", "detect: Dog"]),
    ("florence", ["<OPEN_VOCABULARY_DETECTION>a red car", "<OPEN_VOCABULARY_DETECTION>Dog"]),
])  # fmt: skip
def test_a_prompt_is_in_the_words_that_the_family_was_trained_on(convention, texts):
    asked = prompts(convention, NAMES)
    assert [text for text, _ in asked] == texts
    assert [name for _, names in asked for name in names] == [*NAMES]


def test_florence_s_prompts_are_its_task_s():
    (first, _), _ = prompts("florence", NAMES)
    assert florence.asked(first).before == "Locate a red car in the image."


def test_places_are_told_under_the_names_that_were_asked_for():
    found = [Grounded("A RED CAR ", (BOX,)), Grounded("cat", (BOX,)), Grounded("dog", (BOX,))]
    assert [place.phrase for place in named(found, NAMES)] == ["a red car", "Dog"]
    assert [place.phrase for place in named(found, ("Dog",))] == ["Dog"] * 3
