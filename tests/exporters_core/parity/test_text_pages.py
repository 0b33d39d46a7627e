"""Printed pages that readers are measured on: the same every time, legible, and where they say their words stand."""

import numpy as np
import pytest

from tritonvision.exporters.parity import text_pages


@pytest.mark.parametrize("seed", range(4))
def test_every_word_is_ink_inside_its_box_and_paper_around_all(seed):
    page, words = text_pages.page_and_words(seed)
    assert page.shape == (860, 720, 3) and page.dtype == np.uint8 and 40 <= len(words) <= 60
    ink = page.min(axis=2) < 128
    for word in words:
        left, top, right, bottom = word.box
        assert 0 < left < right < 720 and 0 < top < bottom < 860
        assert ink[top:bottom, left:right].mean() > 0.05, word
        ink[top - 1 : bottom + 1, left - 1 : right + 1] = False
    assert not ink.any()


def test_a_seed_is_a_page():
    assert (text_pages.page(3) == text_pages.page(3)).all() and (text_pages.page(3) != text_pages.page(4)).any()


def test_turned_and_photographed_pages_keep_their_ink():
    page = text_pages.page()
    turned, photo = text_pages.turned(page), text_pages.photographed(page)
    assert turned.shape == page.shape and photo.shape == (946, 900, 3)
    assert (turned != page).mean() > 0.02 and turned[0, 0].min() > 240
    assert (photo == text_pages.photographed(page)).all() and (photo != text_pages.photographed(page, 1)).any()
    assert photo[:20, :20].mean() < 80 < photo[400:420, 600:620].mean() < 245  # table, lit paper
    middle = photo[150:600, 150:750].mean(axis=2)
    assert (middle < 90).mean() > 0.03


def test_a_line_is_as_wide_as_its_text():
    short, long = text_pages.line("one"), text_pages.line("one and a half", 60)
    assert short.shape[0] == 80 and long.shape[0] == 120 and long.shape[1] > short.shape[1]
    assert short[0].min() > 240 and short.min() < 60
