"""Counts in sentences."""

import pytest

from cwsam_geo.core.counting import how_many, were


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "epoch", "1 epoch"),
        (0, "epoch", "0 epochs"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (3, "pass", "3 passes"),
        (1234, "validation tile", "1,234 validation tiles"),
    ],
)
def test_nouns_fit_their_number(number, noun, text):
    assert how_many(number, noun) == text


def test_verbs_fit_their_number():
    assert [were(n) for n in (0, 1, 2)] == ["were", "was", "were"]
