"""Coordinates that a page computes, against pyproj and GDAL."""

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.warp import transform

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.io.geolocation import locate
from cwsam_geo.pages.placement import north_is_up, pixel_sides, placement

UTM = CRS.from_epsg(32633)
TILTED = tuple(
    GroundControlPoint(row=r, col=c, x=10 - c / 9000 + r / 40000, y=50 + r / 11000 + c / 50000)
    for r in np.linspace(0, 900, 5)
    for c in np.linspace(0, 1300, 6)
)
DEGREES = CRS.from_epsg(4326)
GRIDS = {
    "UTM": SceneGrid(16700, 26000, Affine(10, 0, 3e5, 0, -10, 5.6e6), UTM),
    "rotated": SceneGrid(900, 1300, Affine(6, 7, 3e5, 7, -6, 5.6e6), UTM),
    "polar": SceneGrid(900, 1300, Affine(40, 0, -2e4, 0, -40, 3e4), CRS.from_epsg(3413)),
    "antimeridian": SceneGrid(
        900, 1300, Affine(100, 0, 7.2e5, 0, -100, 8e6), CRS.from_epsg(32760)
    ),
    "degrees": SceneGrid(900, 1300, Affine(1e-3, 0, 10, 0, -1e-3, 60), DEGREES),
    "control points": SceneGrid(
        900, 1300, Affine.identity(), None, gcps=TILTED, gcp_crs=DEGREES
    ),
}  # fmt: skip


def between(knots, grid, cols, rows):
    """As the page's script interpolates."""
    knots = np.array(knots)
    v, u = rows / grid.height * (len(knots) - 1), cols / grid.width * (len(knots[0]) - 1)
    i = np.clip(v.astype(int), 0, len(knots) - 2)
    j = np.clip(u.astype(int), 0, len(knots[0]) - 2)
    t, s = v - i, u - j
    upper = knots[i, j] * (1 - s) + knots[i, j + 1] * s
    return upper * (1 - t) + (knots[i + 1, j] * (1 - s) + knots[i + 1, j + 1] * s) * t


@pytest.mark.parametrize("case", [c for c in GRIDS if c not in ("degrees", "polar")])
def test_longitude_and_latitude_are_within_a_tenth_of_a_pixel(case):
    grid = GRIDS[case]
    location = locate(grid, case)
    place = placement(location)
    rng = np.random.default_rng(0)
    cols, rows = rng.uniform(0, grid.width, 500), rng.uniform(0, grid.height, 500)
    x, y = location.to_map(cols, rows)
    lon, lat = (np.array(v) for v in transform(location.crs, "EPSG:4326", x.tolist(), y.tolist()))
    found = (between(place[k], grid, cols, rows) for k in ("lon", "lat"))
    off_lon, off_lat = (a - b for a, b in zip(found, (lon, lat), strict=True))
    metres = 111_195 * np.hypot(((off_lon + 180) % 360 - 180) * np.cos(np.radians(lat)), off_lat)
    assert place["about"] is False
    assert metres.max() <= 0.15 * min(pixel_sides(location))


def test_degrees_need_no_knots_and_are_drawn_as_they_are_on_the_ground():
    place = placement(locate(GRIDS["degrees"], "degrees"))
    assert (place["degrees"], place["lon"]) == (True, None)
    assert place["aspect"] == pytest.approx(0.51, abs=0.01)


def test_around_a_pole_no_wrong_coordinates_are_told():
    place = placement(locate(GRIDS["polar"], "polar"))
    assert place["lon"] is None or place["about"]


def test_without_georeferencing_pixels_are_all_there_is():
    place = placement(locate(SceneGrid(9, 13, Affine.identity(), None), "plain"))
    assert {k for k, v in place.items() if v} == {"aspect", "digits"}
    assert place["aspect"] == 1


@pytest.mark.parametrize(
    ("case", "expected"),
    [("UTM", True), ("degrees", True), ("antimeridian", True), ("rotated", False),
     ("control points", False)],
)  # fmt: skip
def test_north_is_up_where_the_page_may_say_so(case, expected):
    assert north_is_up(locate(GRIDS[case], case)) == expected


def test_north_is_not_up_far_from_the_meridian_of_a_polar_map_nor_without_a_place():
    polar = CRS.from_epsg(3413)  # north is up at 45 degrees west
    for x, y, expected in ((0, -2e6, True), (2e6, 0, False), (0, 2e6, False)):
        grid = SceneGrid(100, 100, Affine(40, 0, x, 0, -40, y), polar)
        assert north_is_up(locate(grid, "polar")) == expected
    assert not north_is_up(locate(SceneGrid(9, 9, Affine.identity(), None), "none"))
