import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from cwsam_geo.core.grid import SceneGrid, Window, same_grid

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 5e5, 0, -10, 6e6)
ROTATED = Affine(-0.03, 2.5, 593124.1, 2.5, 0.03, 5749208.2)

windows = st.builds(
    Window, st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 60), st.integers(0, 60)
)


def pixels(w):
    return {(r, c) for r in range(w.row, w.bottom) for c in range(w.col, w.right)}


@given(windows, windows)
def test_intersection_is_that_of_the_sets_of_pixels(a, b):
    common = a.intersect(b)
    assert pixels(common) == pixels(a) & pixels(b)
    assert common.empty == (not pixels(common))


@given(windows, windows)
def test_within_and_shift_undo_each_other(a, outer):
    assert a.within(outer).shift(outer.row, outer.col) == a


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_a_cropped_grid_keeps_every_pixel_where_it_is(transform):
    grid = SceneGrid(100, 200, transform, UTM)
    part = grid.crop(Window(30, 40, 10, 20))
    assert (part.height, part.width) == (10, 20)
    assert part.transform * (3, 4) == pytest.approx(grid.transform * (43, 34))


def test_a_window_from_the_first_pixel_keeps_the_transform_to_the_last_bit():
    assert SceneGrid(100, 200, ROTATED, UTM).crop(Window(0, 0, 7, 8)).transform == ROTATED


def test_rational_polynomials_move_with_the_window():
    names = ("height", "lat", "long", "line", "samp")
    offsets = {f"{n}_off": 50.0 for n in names} | {f"{n}_scale": 100.0 for n in names}
    kinds = ("line_num", "line_den", "samp_num", "samp_den")
    rpcs = RPC(**offsets, **{f"{k}_coeff": 20 * [0.1] for k in kinds})
    part = SceneGrid(100, 200, Affine.identity(), None, rpcs=rpcs).crop(Window(30, 40, 10, 20))
    assert (part.rpcs.line_off, part.rpcs.samp_off, part.rpcs.lat_off) == (20, 10, 50)
    assert part.rpcs.line_num_coeff == rpcs.line_num_coeff


def test_control_points_move_with_a_crop():
    points = (GroundControlPoint(row=30, col=50, x=1.5, y=2.5, id="a"),)
    grid = SceneGrid(100, 200, Affine.identity(), None, gcps=points, gcp_crs=UTM)
    moved = grid.crop(Window(10, 20, 50, 50)).gcps[0]
    assert (moved.row, moved.col, moved.x, moved.y) == (20, 30, 1.5, 2.5)


def test_rounding_does_not_make_another_grid_but_a_pixel_does():
    grid = SceneGrid(512, 512, Affine(8.98e-05, 0, -1.6, 0, -8.98e-05, 10.3), CRS.from_epsg(4326))
    rounded = Affine(8.98e-05 + 1e-18, 0, -1.6, 0, -8.98e-05, 10.3)
    assert same_grid(grid, SceneGrid(512, 512, rounded, grid.crs))
    shifted = grid.transform * Affine.translation(0.5, 0)
    assert not same_grid(grid, SceneGrid(512, 512, shifted, grid.crs))
    assert not same_grid(grid, SceneGrid(512, 513, grid.transform, grid.crs))
    assert not same_grid(grid, SceneGrid(512, 512, grid.transform, UTM))
    assert not same_grid(grid, SceneGrid(512, 512, grid.transform, None))


def pointed(shift=0.0, count=4, crs=4326):
    """A grid with control points of 1e-4 degrees a pixel, moved by some pixels."""
    places = [(r, c) for r in (0, 512) for c in (0, 512)][:count]
    points = [
        GroundControlPoint(r, c, 11 + 1e-4 * (c + shift), 48 - 1e-4 * r, 400 + shift)
        for r, c in places
    ]
    crs = CRS.from_epsg(crs)
    return SceneGrid(512, 512, Affine.identity(), None, gcps=tuple(points), gcp_crs=crs)


def test_control_points_are_of_one_grid_where_they_agree_but_for_rounding():
    assert same_grid(pointed(), pointed())
    assert same_grid(pointed(), pointed(shift=1e-4))
    assert not same_grid(pointed(), pointed(shift=0.5))
    assert not same_grid(pointed(), pointed(count=3))
    assert not same_grid(pointed(), pointed(crs=4258))
    # What has no place at all contradicts nothing.
    assert same_grid(pointed(), SceneGrid(512, 512, Affine.identity(), None))


def test_a_grid_of_nothing_cannot_be_made():
    with pytest.raises(ValueError):
        SceneGrid(0, 5, NORTH_UP, UTM)
