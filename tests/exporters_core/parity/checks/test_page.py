"""The judge of pages: what it takes for signal, and that it sees every way in which two pages can differ."""

import numpy as np
import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.families.doctr import FAMILY, POINT
from tritonvision.exporters.parity.checks.base import Case
from tritonvision.exporters.parity.checks.page import PageText
from tritonvision.python_backend.ocr import page_layout
from tritonvision.python_backend.ocr.page_layout import Word

SIZE = (100, 100)


def page(*texts):
    """One line of words."""
    words = [Word(text, 0.9, (0.01 * n, 0.1, 0.01 * n + 0.008, 0.12)) for n, text in enumerate(texts)]
    return {**page_layout.page(words, SIZE), "image_size": np.array(SIZE, np.int32)}


def parity_check(weights="random"):
    return PageText(POINT, None, FAMILY.tolerance, weights)


def cases(*pages):
    return [Case(None, {}, wanted) for wanted in pages]


MANY = page(*(f"word{n}" for n in range(25)))


def test_the_pictures_are_three_printed_pages_an_empty_one_and_a_pixel():
    samples = parity_check().samples()
    assert len(samples) == 5 and all(sample.std() > 10 for sample in samples[:3])
    assert all((sample == 255).all() for sample in samples[3:]) and samples[4].shape == (1, 1, 3)


def test_enough_different_words_are_signal():
    parity_check().demand_signal(None, cases(MANY, MANY, MANY))


@pytest.mark.parametrize("poor", [page(*"abcdefghij"), page(*["same"] * 30), page(*([""] * 30))])
def test_random_networks_must_read_much_and_different_things_on_every_printed_page(poor):
    for pages in ((poor, MANY, MANY), (MANY, MANY, poor)):
        with pytest.raises(ExportFailed, match="different"):
            parity_check().demand_signal(None, cases(*pages))


def test_other_weights_must_find_a_word_at_all():
    parity_check("user").demand_signal(None, cases(page("a"), page(), page()))
    with pytest.raises(ExportFailed, match="no word"):
        parity_check("user").demand_signal(None, cases(page(), MANY, MANY))


def test_a_page_is_like_itself():
    count, missing, figures = parity_check().compare(MANY, cases(MANY)[0])
    assert count == 27 and missing == 0 and figures == {"words": 0, "pixels": 0, "scores": 0}
    assert parity_check().compare(page(), cases(page())[0]) == (0, 0, {"words": 0})


def test_every_difference_is_seen():
    (case,) = cases(MANY)
    moved = MANY | {"boxes": MANY["boxes"] + np.float32(0.5)}
    assert parity_check().compare(moved, case)[2]["pixels"] == pytest.approx(0.5)
    unsure = MANY | {"scores": MANY["scores"] - np.float32(0.1)}
    assert parity_check().compare(unsure, case)[2]["scores"] == pytest.approx(0.1)
    misread = page("ward0", *(f"word{n}" for n in range(1, 25)))
    assert parity_check().compare(misread, case)[2]["words"] == 4  # the word, its line, its block, the whole
    assert parity_check().compare(MANY | {"text": np.array([b""], object)}, case)[2]["words"] == 1
    assert parity_check().compare(page("a"), case)[1] == 27 and parity_check().compare(MANY, cases(page())[0])[1] == 1
