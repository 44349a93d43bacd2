"""The map grid of a scene: its CRS, its pixels, and what has no place on a map."""

import numpy as np
import pytest
from affine import Affine
from placed_scenes import Swath
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.geolocation import locate, transformed
from cwsam_geo.io.map_grid import chosen_crs, map_grid, place_crs, window_on_map

UTM = CRS.from_epsg(32633)
DEGREES = CRS.from_epsg(4326)


def placed(swath):
    height, width = swath.shape
    points = tuple(swath.points(9, 7))
    grid = SceneGrid(height, width, Affine.identity(), None, gcps=points, gcp_crs=DEGREES)
    return locate(grid, "scene.tif")


def lying(transform, crs, height=300, width=400):
    return locate(SceneGrid(height, width, transform, crs), "scene.tif")


@pytest.mark.parametrize(
    ("longitude", "latitude", "code"),
    [
        (16.37, 48.2, 32633), (0, 10, 32631), (-0.001, 10, 32630), (179.9, 60, 32660),
        (180, 60, 32601), (-180, 60, 32601), (181, 60, 32601), (-181, 60, 32660),
        (16, -0.1, 32733), (16, 84.1, 5041), (200, -80.5, 5042), (16, 84, 32633),
    ],
)  # fmt: skip
def test_a_place_has_its_zone(longitude, latitude, code):
    assert place_crs(longitude, latitude).to_epsg() == code


@pytest.mark.parametrize("size", [10.0, 40.0, 0.6, 2.5])
@pytest.mark.parametrize(
    "middle", [(15, 47), (-179.999, 65), (179.9, -70), (12, 89.9), (100, -85), (20, 83.9)]
)
def test_the_grid_covers_the_scene_tightly_with_pixels_of_its_size(middle, size):
    location = placed(Swath((500, 700), middle, size))
    crs = chosen_crs("auto", location)
    grid = map_grid(location, crs)
    t = grid.transform
    assert (t.a, t.e, t.b, t.d) == (pytest.approx(size, rel=0.02), -t.a, 0, 0)
    assert t.a == pytest.approx(size, rel=1e-9)
    for origin in (t.c, t.f):
        assert origin / t.a == pytest.approx(round(origin / t.a), abs=1e-6)
    # Corners and edges of the scene, in pixels of the grid
    onto = locate(grid, "map")
    x, y = location.bounds_in(crs)[::2], location.bounds_in(crs)[1::2]
    cols, rows = onto.to_pixels(np.array(x), np.array(y))
    assert -1e-2 <= cols.min() < 1.01
    assert grid.width - 1.01 < cols.max() <= grid.width + 1e-2
    assert -1e-2 <= rows.min() < 1.01
    assert grid.height - 1.01 < rows.max() <= grid.height + 1e-2


def test_a_north_up_scene_keeps_its_grid_in_its_own_crs():
    transform = Affine(7, 0, 500_003, 0, -9, 5_600_001)
    grid = map_grid(lying(transform, UTM), UTM)
    assert (grid.transform, grid.height, grid.width) == (transform, 300, 400)


def test_a_scene_that_is_not_north_up_gets_its_pixel_size():
    turned = (
        Affine.translation(500_003, 5_600_001) * Affine.rotation(30) * Affine.scale(7.25, -7.25)
    )
    assert map_grid(lying(turned, UTM), UTM).transform.a == pytest.approx(7.25)
    south_up = Affine(10, 0, 500_000, 0, 10, 5_600_000)
    grid = map_grid(lying(south_up, UTM), UTM)
    assert grid.transform == Affine(10, 0, 500_000, 0, -10, 5_603_000)
    assert (grid.height, grid.width) == (300, 400)


def test_another_zone_keeps_the_pixel_size_and_degrees_become_round_metres():
    metres = lying(Affine(10, 0, 700_000, 0, -10, 5_600_000), UTM)
    assert map_grid(metres, CRS.from_epsg(32634)).transform.a == 10
    degrees = lying(Affine(1.35e-4, 0, 15, 0, -9e-5, 47), DEGREES)
    assert map_grid(degrees, chosen_crs("auto", degrees)).transform.a == 10
    assert map_grid(metres, DEGREES).transform.a == pytest.approx(1.1e-4, rel=0.1)


def test_a_resolution_is_taken_as_it_is():
    location = placed(Swath((500, 700)))
    grid = map_grid(location, UTM, 33.3)
    assert grid.transform.a == 33.3
    assert grid.width == pytest.approx(10 * 800 / 33.3, rel=0.15)


@pytest.mark.parametrize("resolution", [1e-4, 0.4, 2100, 1e6])
def test_metres_for_degrees_are_noticed(resolution):
    location = placed(Swath((500, 700)))
    with pytest.raises(
        UsageError, match=r"--res .*scene.tif have a side of about 10 in units of EPSG"
    ):
        map_grid(location, UTM, resolution)


@pytest.mark.parametrize(
    ("middle", "crs"),
    [((180, 60), 4326), ((180, 60), 3857), ((0, 89.99), 4326), ((40, 90), 3857)],
)
def test_a_crs_that_is_torn_within_the_scene_is_refused(middle, crs):
    location = placed(Swath((500, 700), middle))
    with pytest.raises(SceneError, match=r"scene.tif: .*; choose another --t-srs, such as auto"):
        map_grid(location, CRS.from_epsg(crs))


@pytest.mark.parametrize(("middle", "crs"), [((0, -89.99), 32733), ((15, 47), 3031)])
def test_a_crs_of_elsewhere_is_the_users_choice(middle, crs):
    grid = map_grid(placed(Swath((500, 700), middle)), CRS.from_epsg(crs))
    assert grid.height * grid.width > 500 * 700


@pytest.mark.parametrize(
    ("transform", "crs", "said"),
    [
        (Affine.identity(), None, "has no georeferencing"),
        (Affine(10, 0, 0, 0, -10, 0), None, "has no CRS"),
        (Affine(10, 0, 0, 0, -10, 0), CRS.from_wkt('LOCAL_CS["p",UNIT["metre",1]]'), "local CRS"),
    ],
)
def test_a_scene_that_lies_nowhere_is_refused(transform, crs, said):
    with pytest.raises(SceneError, match=rf"scene.tif: .*{said}.*--t-srs|scene.tif: .*{said}"):
        chosen_crs("auto", lying(transform, crs))


@pytest.mark.parametrize("text", ["EPSG:1", "nonsense", "", "EPSG:4978"])
def test_what_is_no_crs_of_a_map_is_refused(text):
    with pytest.raises(UsageError, match=r"--t-srs .*auto"):
        chosen_crs(text, placed(Swath((500, 700))))


def test_the_window_of_a_part_covers_it():
    location = placed(Swath((500, 700)))
    onto = locate(map_grid(location, UTM), "map")
    part = Window(100, 300, 80, 90)
    window = window_on_map(location, onto, part)
    cols, rows = np.meshgrid(np.linspace(300, 390, 30), np.linspace(100, 180, 30))
    x, y = onto.to_pixels(*transformed(*location.to_map(cols, rows), DEGREES, UTM))
    assert window.col - 0.01 <= x.min() < window.col + 1.01
    assert window.right - 1.01 < x.max() <= window.right + 0.01
    assert window.row - 0.01 <= y.min() < window.row + 1.01
    assert window.bottom - 1.01 < y.max() <= window.bottom + 0.01
    assert window_on_map(location, onto, location.grid.window) == onto.grid.window
