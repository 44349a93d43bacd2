"""Scale bars and coordinates."""

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.pictures.marks import nice_below, scale_bar, ticks_of
from cwsam_geo.rendering.frame import frame_of

WGS84 = CRS.from_epsg(4326)


def frame(transform, crs, shape=(200, 300)):
    return frame_of(SceneGrid(*shape, transform, crs), "s", 5000)


@given(st.floats(1e-6, 1e12))
def test_a_scale_bar_is_1_2_or_5_times_a_power_of_ten(value):
    nice = nice_below(value)
    assert value / 2.6 < nice <= value * (1 + 1e-8)
    assert round(nice / 10 ** math.floor(math.log10(nice) + 1e-9), 6) in (1, 2, 5)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(10, 0, 500000, 0, -10, 5600000), CRS.from_epsg(32633)),
        (Affine(1e-4, 0, 15, 0, -1e-4, 78), WGS84),
        (Affine(20, 0, -900000, 0, -20, -1000000), CRS.from_epsg(3413)),
        (Affine(30, 0, 1_500_000, 0, -30, 9_000_000), CRS.from_epsg(3857)),
        (Affine(33, 0, 2_000_000, 0, -33, 600_000), CRS.from_epsg(2263)),  # US feet
    ],
)
def test_a_scale_bar_is_as_long_on_the_ground_as_it_says(transform, crs):
    f = frame(transform, crs)
    bar = scale_bar(f, 100)
    assert 40 <= bar.pixels <= 100
    number, unit = bar.text.split()[:2]
    metres = float(number) * {"m": 1, "km": 1000}[unit]
    middle = f.grid.width / 2, f.grid.height / 2
    x, y = f.location.to_map(
        np.array([middle[0] - bar.pixels / 2, middle[0] + bar.pixels / 2]),
        np.array([middle[1], middle[1]]),
    )
    lon, lat = pyproj.Transformer.from_crs(crs.to_wkt(), 4326, always_xy=True).transform(x, y)
    assert pyproj.Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2] == pytest.approx(
        metres, rel=0.01
    )


def test_a_scale_bar_says_where_it_holds_if_the_scale_changes():
    far_north = frame(Affine(0.01, 0, 15, 0, -0.01, 80), WGS84)
    assert scale_bar(far_north, 100).text.endswith("in the middle")
    equator = frame(Affine(0.01, 0, 15, 0, -0.01, 1), WGS84)
    assert not scale_bar(equator, 100).text.endswith("in the middle")


def test_without_georeferencing_the_bar_counts_pixels():
    assert scale_bar(frame(Affine.identity(), None), 120).text == "100 px"


def place(text):
    number, side = text.split("°")
    return float(number) * (-1 if side in ("W", "S") else 1)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(10, 0, 300000, 0, -10, 6600000), CRS.from_epsg(32633)),
        (Affine(1e-3, 0, -70, 0, -1e-3, -33), WGS84),
        (Affine(500, 0, -900000, 0, -500, -1000000), CRS.from_epsg(3413)),
    ],
)
def test_a_tick_stands_where_its_coordinate_is(transform, crs):
    f = frame(transform, crs)
    ticks = ticks_of(f, "degrees", 5, 4)
    assert 2 <= len(ticks.bottom) <= 11
    assert 2 <= len(ticks.left) <= 9
    to_degrees = pyproj.Transformer.from_crs(crs.to_wkt(), 4326, always_xy=True)
    for tick in ticks.bottom:
        x, y = f.location.to_map(np.array([tick.at]), np.array([float(f.grid.height)]))
        assert to_degrees.transform(x, y)[0][0] == pytest.approx(place(tick.text), abs=1e-4)
    for tick in ticks.left:
        x, y = f.location.to_map(np.array([0.0]), np.array([tick.at]))
        assert to_degrees.transform(x, y)[1][0] == pytest.approx(place(tick.text), abs=1e-4)


def test_ticks_across_the_antimeridian():
    ticks = ticks_of(frame(Affine(1e-3, 0, 179.9, 0, -1e-3, 10), WGS84), "degrees", 4, 4)
    texts = [t.text for t in ticks.bottom]
    assert texts == ["179.9°E", "180.0°", "179.9°W"]


def test_coordinates_of_the_crs_and_none():
    f = frame(Affine(10, 0, 500000, 0, -10, 5600000), CRS.from_epsg(32633))
    texts = [t.text for t in ticks_of(f, "map", 4, 3).bottom]
    assert texts == ["500000", "501000", "502000"]
    assert ticks_of(f, "none", 4, 4).bottom == ()
