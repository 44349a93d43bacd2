"""Pixels of one grid that are found in another, by way of knots."""

import numpy as np
import pytest
from affine import Affine
from placed_scenes import Swath
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.io.geolocation import locate, transformed
from cwsam_geo.io.map_grid import map_grid
from cwsam_geo.io.pixel_lookup import TOLERANCE, fitting_step, nearest_pixels

UTM = CRS.from_epsg(32633)


SHAPE = (200, 300)


def pair(relief, resolution=None, shape=SHAPE):
    points = tuple(Swath(shape, relief=relief).points(9, 7))
    grid = SceneGrid(*shape, Affine.identity(), None, gcps=points, gcp_crs=CRS.from_epsg(4326))
    own = locate(grid, "scene")
    return own, locate(map_grid(own, UTM, resolution), "map")


@pytest.mark.parametrize(("relief", "resolution"), [(0, None), (6, None), (3, 70.0), (0, 4.0)])
def test_the_knots_are_close_enough(relief, resolution):
    own, onto = pair(relief, resolution)
    step, error = fitting_step(onto, own)
    assert error <= TOLERANCE
    grid = onto.grid
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = own.to_pixels(*transformed(*onto.to_map(cols, rows), onto.crs, own.crs))
    found_rows, found_cols, inside = nearest_pixels(grid.window, onto, own, step)
    true = (x >= 0) & (y >= 0) & (x < SHAPE[1]) & (y < SHAPE[0])
    # Pixels on a border may go to either side.
    assert (true != inside).mean() < 0.01
    apart = np.maximum(np.abs(found_cols + 0.5 - x[inside]), np.abs(found_rows + 0.5 - y[inside]))
    assert apart.max() <= 0.5 + 4 * TOLERANCE


def test_what_a_pixel_gets_does_not_depend_on_the_window():
    own, onto = pair(5)
    step, _ = fitting_step(onto, own)
    whole_rows, whole_cols, inside = nearest_pixels(onto.grid.window, onto, own, step)
    numbered = np.full((2, *inside.shape), -1)
    numbered[:, inside] = whole_rows, whole_cols
    rng = np.random.default_rng(0)
    for _ in range(20):
        row, col = (int(rng.integers(n - 1)) for n in inside.shape)
        window = Window(row, col, *(int(v) for v in rng.integers(1, 200, 2)))
        window = window.intersect(onto.grid.window)
        rows, cols, some = nearest_pixels(window, onto, own, step)
        assert (some == inside[window.slices]).all()
        assert (np.stack([rows, cols]) == numbered[(slice(None), *window.slices)][:, some]).all()


def test_a_part_of_the_raster():
    own, onto = pair(0)
    part = Window(50, 100, 60, 70)
    rows, cols, inside = nearest_pixels(onto.grid.window, onto, own, 16, part)
    all_rows, all_cols, everywhere = nearest_pixels(onto.grid.window, onto, own, 16)
    there = (all_rows >= 50) & (all_rows < 110) & (all_cols >= 100) & (all_cols < 170)
    assert (rows == all_rows[there]).all()
    assert (cols == all_cols[there]).all()
    assert inside.sum() == there.sum()
    assert (inside <= everywhere).all()
