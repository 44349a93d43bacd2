"""Rasters embedded in a page: what is packed comes out again."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pages import embedded

from cwsam_geo.pages.pyramid import (
    code_levels,
    halved_codes,
    halved_means,
    percent_levels,
    picture_levels,
)

CODES = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from((1, 2, 255)),
)


def reader(array):
    """Reads an array with at most so many cells along its longer side: every n-th cell."""

    def read(size):
        step = -(-max(array.shape[:2]) // size)
        return array[::step, ::step]

    return read


def layer(levels):
    return {"nodata": 255, "levels": [level.to_dict() for level in levels]}


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (600, 1), (257, 513)])
@pytest.mark.parametrize("levels_of", [code_levels, percent_levels])
def test_the_finest_level_is_the_raster_where_the_budget_allows(shape, levels_of):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 101, shape, np.uint8)
    levels = levels_of(reader(array), shape, 10**7)
    assert (embedded(layer(levels)) == array).all()
    assert levels[0].cell == (1, 1)
    assert max(levels[-1].shape) <= 256
    for finer, coarser in itertools.pairwise(levels):
        assert coarser.shape == tuple(-(-n // 2) for n in finer.shape)
        assert coarser.cell == tuple(2 * c for c in finer.cell)


def test_the_budget_bounds_the_levels_and_finer_ones_are_taken_if_they_fit():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 101, (1400, 2100), np.uint8)
    widths = []
    for budget in (30_000, 300_000, 3_000_000, 30_000_000):
        levels = percent_levels(reader(noise), noise.shape, budget)
        assert sum(level.size for level in levels) <= budget
        widths.append(levels[0].shape[1])
    assert widths == sorted(widths)
    assert len(set(widths)) == 4 or widths[-1] == 2100


def test_nodata_and_plain_areas_take_no_room():
    empty = np.full((1000, 1000), 255, np.uint8)
    (level, *_) = code_levels(reader(empty), empty.shape, 1000)
    assert {c for row in level.chunks for c in row} == {None}
    (level, *_) = code_levels(reader(empty * 0 + 7), empty.shape, 1000)
    assert {c for row in level.chunks for c in row} == {7}


@given(CODES)
def test_a_coarser_cell_has_a_most_frequent_code(codes):
    halved = halved_codes(codes)
    for i, j in np.ndindex(halved.shape):
        four = codes[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        values, counts = np.unique(four, return_counts=True)
        if four.size == 4:
            assert halved[i, j] in values[counts == counts.max()]
        assert halved[i, j] in values


@given(CODES)
def test_a_coarser_cell_has_the_mean_of_what_has_data(values):
    halved = halved_means(values)
    even = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge")
    for i, j in np.ndindex(halved.shape):
        four = even[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        known = four[four != 255]
        assert halved[i, j] == (np.rint(known.mean()) if known.size else 255)


def test_a_picture_without_data_is_left_out():
    picture = np.zeros((40, 700, 4), np.uint8)
    picture[:, 600:] = (200, 100, 50, 255)
    (level, *_) = picture_levels(reader(picture), picture.shape[:2], 10**6)
    assert level.chunks[0][0] is None
    assert level.chunks[0][1].startswith("data:image/")
