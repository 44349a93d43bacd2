"""Places and their grids."""

import geopandas
import pytest
import shapely

from cwsam_geo.errors import UsageError
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.fetch.places import grid_of_place, places_of


def options(**more):
    return FetchOptions(**({"date": "2024-06-01"} | more))


def only_place(*bounds):
    (place,) = places_of(options(bbox=[bounds]))
    return place


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ((11.2, 47.9, 11.8, 48.3), 32632),
        ((14.9, 50, 15.3, 50.1), 32633),
        ((-70.1, -33.1, -70, -33), 32719),
        ((178, -17.2, 179, -17), 32760),
        ((179.9, 0, -179.5, 1), 32601),
        ((179, 0, 180, 1), 32660),
        ((10, 84.5, 11, 84.6), 3413),
        ((10, -85, 11, -84.9), 3031),
    ],
)
def test_the_zone_is_that_of_the_centre(bounds, code):
    grid = grid_of_place(only_place(*bounds), options(bbox=[bounds]))
    assert grid.crs.to_epsg() == code


def test_pixels_are_whole_multiples_and_hold_the_whole_area():
    bounds = (11.2, 47.9, 11.8, 48.3)
    place = only_place(*bounds)
    for size in (10, 20, 12.5):
        grid = grid_of_place(place, options(bbox=[bounds], resolution=size))
        t = grid.transform
        assert (t.a, t.e) == (size, -size)
        assert t.c % size == 0
        assert t.f % size == 0
        from rasterio.warp import transform_geom

        edge = shapely.geometry.shape(
            transform_geom("EPSG:4326", grid.crs, shapely.geometry.mapping(place.area))
        )
        left, top = t * (0, 0)
        right, bottom = t * (grid.width, grid.height)
        assert shapely.box(left, bottom, right, top).buffer(1e-6).contains(edge)


def test_an_area_across_180_degrees_is_searched_in_two_rectangles():
    place = only_place(179, -17, -179, -16)
    assert place.boxes == [(179, -17, 180, -16), (-180, -17, -179, -16)]
    assert only_place(179, -17, 181, -16).boxes == place.boxes
    assert only_place(-181, -17, -179, -16).boxes == place.boxes
    assert only_place(170, 0, 180, 1).boxes == [(170, 0, 180, 1)]
    assert "179 -17 -179 -16" in place.label


def test_polygons_on_both_sides_of_180_degrees_lie_beside_each_other(tmp_path):
    path = tmp_path / "fiji.geojson"
    parts = [shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179.5, -16)]
    geopandas.GeoDataFrame(geometry=parts, crs="EPSG:4326").to_file(path)
    (place,) = places_of(options(aoi=path))
    assert place.area.bounds == pytest.approx((179, -17, 180.5, -16))


@pytest.mark.parametrize("stem", ["a b/../c", "Zürich", "$(rm)", "..", "CON", "x" * 300])
def test_names_of_files_become_plain_names(stem):
    from cwsam_geo.fetch.places import _names

    for name in _names([stem, stem, "other"]):
        assert name
        assert len(name) <= 50
        assert not set(name) & set('/\\ .:$()*?"<>|')
    assert len(set(_names([stem, stem, "other"]))) == 3


def test_points_are_no_area(tmp_path):
    path = tmp_path / "points.geojson"
    geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs="EPSG:4326").to_file(path)
    with pytest.raises(UsageError, match="area of interest is made of polygons"):
        places_of(options(aoi=path))
