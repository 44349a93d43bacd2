import math

import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_size import pixel_size_of

DEGREE = 111_195  # metres of latitude, on a sphere

LOCAL = CRS.from_wkt(
    'ENGCRS["site",EDATUM["corner"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["foot",0.3048]]'
)


def size(transform, crs, shape=(300, 200), **more):
    grid = SceneGrid(*shape, transform, CRS.from_user_input(crs) if crs else None, **more)
    return pixel_size_of(locate(grid, "scene.tif"))


@pytest.mark.parametrize("angle", [0, 30, 90])
@pytest.mark.parametrize("shape", [(300, 200), (1, 1)])
def test_metres_of_utm_are_metres_whatever_the_rotation(angle, shape):
    transform = Affine.translation(5e5, 5.5e6) * Affine.rotation(angle) * Affine.scale(20, -10)
    assert size(transform, 32633, shape) == pytest.approx((20, 10), rel=1e-3)


@pytest.mark.parametrize("latitude", [0, 60])
def test_degrees_of_longitude_become_shorter_towards_the_poles(latitude):
    transform = Affine(1e-4, 0, 15, 0, -1e-4, latitude + 150e-4)
    expected = (1e-4 * DEGREE * math.cos(math.radians(latitude)), 1e-4 * DEGREE)
    assert size(transform, 4326) == pytest.approx(expected, rel=0.01)


def test_metres_of_web_mercator_are_none_on_the_ground():
    # Latitude 60
    transform = Affine(20, 0, 1.5e6, 0, -20, 8_399_738)
    assert size(transform, 3857) == pytest.approx((10, 10), rel=0.01)


def test_control_points_place_pixels_too():
    points = tuple(
        GroundControlPoint(row=r, col=c, x=5e5 + 10 * c, y=5.5e6 - 30 * r)
        for r in (0, 150, 300)
        for c in (0, 100, 200)
    )
    crs = CRS.from_epsg(32633)
    found = size(Affine.identity(), None, gcps=points, gcp_crs=crs)
    assert found == pytest.approx((10, 30), rel=1e-3)


def test_a_local_plane_is_the_ground():
    assert size(Affine.scale(10, -10), LOCAL) == pytest.approx((3.048, 3.048))


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine.scale(10, -10), None),
        (Affine.identity(), 32633),
        (Affine(1, 0, 0, 0, -1, 500), 4326),
    ],
)
def test_what_has_no_place_has_no_size(transform, crs):
    assert size(transform, crs) is None
