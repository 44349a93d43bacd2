"""Small regions go to their largest neighbour, wherever strips begin."""

import numpy as np
import pyogrio
import pytest
import rasterio.features
from class_rasters import ArrayStrips, codes, strip_rows, unhurried, write_classes
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cwsam_geo.vectorization import strips as strips_module
from cwsam_geo.vectorization.coverage.sieve import SievedStrips
from cwsam_geo.vectorization.options import VectorizeOptions
from cwsam_geo.vectorization.vectorize import vectorize

EIGHT = np.ones((3, 3), int)
FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def sieved(array, rows, least, diagonal=False, areas=None):
    areas = np.ones(len(array)) if areas is None else np.asarray(areas, float)
    strips = SievedStrips(ArrayStrips(array, rows), areas, least, diagonal)
    return np.vstack([codes for _, codes in strips.strips()])


def regions(array, diagonal):
    """Number of each pixel's region, and the regions' sizes; 0 for nodata."""
    labels, count = np.zeros(array.shape, int), 0
    for code in np.unique(array[array > 0]):
        found, n = ndimage.label(array == code, EIGHT if diagonal else FOUR)
        labels[found > 0] = found[found > 0] + count
        count += n
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


@unhurried
@given(codes(largest=20), strip_rows, st.integers(1, 60), st.booleans())
def test_the_sieve_leaves_no_small_region_that_has_a_neighbour(array, rows, least, diagonal):
    after = sieved(array, rows, least, diagonal)
    assert ((after == 0) == (array == 0)).all()
    labels, sizes = regions(after, diagonal)
    for number in np.flatnonzero((sizes < least) & (np.arange(len(sizes)) > 0)):
        around = ndimage.binary_dilation(labels == number, FOUR)
        assert set(labels[around]) <= {0, number}


@unhurried
@given(codes(largest=20), strip_rows, st.integers(1, 60), st.booleans())
def test_the_sieve_keeps_large_regions(array, rows, least, diagonal):
    labels, sizes = regions(array, diagonal)
    large = (sizes[labels] >= least) & (array > 0)
    assert (sieved(array, rows, least, diagonal)[large] == array[large]).all()


@unhurried
@given(codes(largest=20), strip_rows, st.integers(1, 60), st.booleans(), st.booleans())
def test_the_sieve_does_not_depend_on_the_strips(array, rows, least, diagonal, uneven):
    areas = 1 + np.sin(np.arange(len(array)) / 3) / 2 if uneven else None
    at_once = sieved(array, len(array), least, diagonal, areas)
    assert (sieved(array, rows, least, diagonal, areas) == at_once).all()


def test_the_largest_neighbour_wins():
    array = np.array(
        [
            [1, 1, 1, 2, 2],
            [1, 1, 1, 2, 2],
            [1, 1, 3, 2, 2],
            [4, 4, 4, 2, 2],
            [4, 4, 4, 2, 2],
        ],
        np.uint8,
    )
    after = sieved(array, 2, 3)
    assert after[2, 2] == 2
    after[2, 2] = 3
    assert (after == array).all()


def test_of_equal_neighbours_the_first_wins():
    array = np.array([[2, 2, 2], [3, 1, 3], [4, 4, 4]], np.uint8)
    assert sieved(array, 1, 2)[1].tolist() == [2, 2, 2]


def test_nodata_is_no_neighbour_and_is_not_eaten():
    array = np.zeros((9, 9), np.uint8)
    array[4, 4] = 1
    array[0, :3] = 2, 3, 3
    expected = array.copy()
    expected[0, 0] = 3
    assert (sieved(array, 4, 50) == expected).all()


def test_a_region_across_strips_is_measured_whole():
    array = np.ones((40, 10), np.uint8)
    array[:, 5] = 2
    assert (sieved(array, 3, 40) == array).all()
    assert (sieved(array, 3, 41) == 1).all()


def test_speckle_of_speckle_settles():
    rng = np.random.default_rng(1)
    array = rng.integers(1, 5, (120, 120)).astype(np.uint8)
    _, sizes = regions(sieved(array, 50, 200), False)
    assert sizes[1:].min() >= 200


@pytest.mark.parametrize("rows", [5, 64])
def test_min_area_is_in_square_metres(tmp_path, monkeypatch, rows):
    array = np.ones((64, 64), np.uint8)
    array[10:20, 10:20] = 2
    array[30:33, 30:33] = 3
    raster = write_classes(tmp_path / "classes.tif", array, nodata=255)
    monkeypatch.setattr(strips_module, "STRIP_PIXELS", rows * 64)
    vectorize(raster, tmp_path / "a.gpkg", VectorizeOptions(min_area=901))
    frame = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer=0)
    assert sorted(frame.class_id) == [1, 2]
    assert frame.geometry.area.sum() == 64 * 64 * 100
    vectorize(raster, tmp_path / "b.gpkg", VectorizeOptions(min_area=900))
    frame = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer=0)
    assert sorted(frame.class_id) == [1, 2, 3]


def test_sieved_polygons_are_as_large_as_asked(tmp_path):
    rng = np.random.default_rng(2)
    array = ndimage.median_filter(rng.integers(0, 4, (150, 150)), 3).astype(np.uint8)
    array[:40, :40] = 255
    raster = write_classes(tmp_path / "classes.tif", array, nodata=255)
    vectorize(raster, tmp_path / "out.gpkg", VectorizeOptions(min_area=3000))
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer=0)
    assert frame.area_m2.min() >= 3000
    assert frame.geometry.area.sum() == (array != 255).sum() * 100
    burned = rasterio.features.rasterize(
        ((g, 1) for g in frame.geometry), array.shape, transform=rasterio.open(raster).transform
    )
    assert ((burned == 1) == (array != 255)).all()
