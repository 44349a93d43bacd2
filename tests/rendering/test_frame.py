"""Frames are upright, and square on the ground."""

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.rendering.frame import frame_of, picked

UTM33 = CRS.from_epsg(32633)
WGS84 = CRS.from_epsg(4326)


def grid(height, width, transform, crs=UTM33, **more):
    return SceneGrid(height, width, transform, crs, **more)


def test_an_upright_grid_of_square_pixels_is_its_own_frame():
    scene = grid(200, 300, Affine(10, 0, 500000, 0, -10, 5600000))
    frame = frame_of(scene, "s", 1000)
    assert frame.grid.transform == scene.transform
    assert (frame.grid.height, frame.grid.width) == (200, 300)
    assert frame.metres_per_pixel == pytest.approx(10, rel=1e-3)
    values = np.arange(60000).reshape(200, 300)
    laid, inside = frame.lay(values, scene, "s")
    assert inside.all()
    np.testing.assert_array_equal(laid, values)


@pytest.mark.parametrize("latitude", [0, 45, -60, 78, 85])
def test_a_pixel_in_degrees_is_square_on_the_ground(latitude):
    scene = grid(100, 400, Affine(0.001, 0, 10, 0, -0.001, latitude + 0.05), WGS84)
    frame = frame_of(scene, "s", 2000)
    t = frame.grid.transform
    geod = pyproj.Geod(ellps="WGS84")
    x, y = t * (frame.grid.width / 2, frame.grid.height / 2)
    across = geod.inv(x - t.a / 2, y, x + t.a / 2, y)[2]
    down = geod.inv(x, y - t.e / 2, x, y + t.e / 2)[2]
    assert across == pytest.approx(down, rel=0.02)
    assert frame.metres_per_pixel == pytest.approx(down, rel=1e-3)
    assert frame.north == pytest.approx(0, abs=1e-6)
    # Rows above and below the middle have another scale: a scale bar has to say so far north.
    assert (frame.uneven > 1.01) == (latitude in (85,))


def test_a_rotated_grid_is_turned_upright():
    angle = 30
    transform = (
        Affine.translation(400000, 5600000) @ Affine.rotation(-angle) @ Affine.scale(20, -20)
    )
    scene = grid(100, 100, transform)
    frame = frame_of(scene, "s", 500)
    values = np.ones((100, 100), np.uint8)
    laid, inside = frame.lay(values, scene, "s")
    # The square covers this share of its bounding square.
    share = 1 / (math.cos(math.radians(angle)) + math.sin(math.radians(angle))) ** 2
    assert inside.mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_array_equal(laid > 0, inside)
    assert not inside[0, 0]


def test_true_north_differs_from_the_top_far_from_the_central_meridian():
    # At 17 degrees east, two degrees from the central meridian of zone 33, and 60 degrees north
    x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(17, 60)
    frame = frame_of(grid(10, 10, Affine(10, 0, x, 0, -10, y)), "s", 10)
    # Meridian convergence: grid north lies east of true north by atan(tan(dlon) sin(lat)).
    convergence = math.degrees(math.atan(math.tan(math.radians(2)) * math.sin(math.radians(60))))
    assert frame.north == pytest.approx(-convergence, abs=0.01)


def test_control_points_place_a_scene_on_its_frame():
    points = [
        GroundControlPoint(row=r, col=c, x=20 + 0.001 * c - 0.0002 * r, y=70 - 0.0004 * r)
        for r in (0, 50, 100)
        for c in (0, 50, 100)
    ]
    scene = SceneGrid(100, 100, Affine.identity(), None, gcps=tuple(points), gcp_crs=WGS84)
    frame = frame_of(scene, "s", 400)
    assert frame.grid.crs == WGS84
    assert frame.metres_per_pixel == pytest.approx(38, rel=0.05)  # 0.001 degrees at 70 north
    rows, cols, inside = picked(scene, frame.grid, "s")
    x, y = frame.grid.transform * (0.5, 0.5)
    place = np.argwhere(inside & (rows == 50) & (cols == 50))[0]
    x, y = frame.grid.transform * (place[1] + 0.5, place[0] + 0.5)
    assert x == pytest.approx(20 + 0.001 * 50.5 - 0.0002 * 50.5, abs=0.001)
    assert y == pytest.approx(70 - 0.0004 * 50.5, abs=0.001)


def test_without_georeferencing_pixels_are_the_coordinates():
    frame = frame_of(grid(40, 80, Affine.identity(), None), "s", 20)
    assert (frame.grid.height, frame.grid.width) == (10, 20)
    assert frame.metres_per_pixel is None
    assert frame.north is None


def test_a_scene_of_one_pixel_has_a_frame():
    frame = frame_of(grid(1, 1, Affine(10, 0, 500000, 0, -10, 5600000)), "s", 500)
    assert (frame.grid.height, frame.grid.width) == (1, 1)
    assert frame.metres_per_pixel == pytest.approx(10, rel=1e-3)
