import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwsam_geo.core.pixel_size import PixelSizes

SIDE = st.floats(0.1, 1000)


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1))
def test_the_range_holds_all_sizes_and_comes_back_from_json(sizes):
    found = PixelSizes.of([*sizes, None])
    assert found is not None
    for size in sizes:
        assert found.nearest(size) == pytest.approx(size, rel=1e-3)
    assert PixelSizes.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_no_known_size_is_no_range():
    assert PixelSizes.of([]) is None
    assert PixelSizes.of([None, None]) is None


@pytest.mark.parametrize(
    "value",
    [None, 10, "10 m", [10, 10], [[10], [10]], [[1, 2], [3, 0]], [[1, 2], [3, -4]], {"a": 1},
     [[1, 2], [3, math.inf]], [[1, 2], ["x", 4]], [[1, 2], [3, None]]],
)  # fmt: skip
def test_what_is_no_range_is_not_known(value):
    assert PixelSizes.from_json(value) is None


def test_sizes_in_words():
    assert str(PixelSizes.of([(10.001, 10)])) == "10 x 10 m"
    assert str(PixelSizes.of([(5, 10), (10, 10)])) == "5 to 10 x 10 m"
