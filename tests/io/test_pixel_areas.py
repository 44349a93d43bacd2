"""Areas of polygons and of reports: one definition, the ellipsoid's."""

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from class_rasters import codes, unhurried, write_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cwsam_geo import VectorizeOptions, evaluate, vectorize
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_areas import PixelAreas

PLACES = {
    "UTM": ("EPSG:32633", Affine(10, 0, 4e5, 0, -10, 5.5e6)),
    "UTM, far from its meridian": ("EPSG:32633", Affine(5000, 0, 1e5, 0, -5000, 7e6)),
    "rotated": (
        "EPSG:32633",
        Affine.translation(4e5, 5e6) @ Affine.rotation(30) @ Affine.scale(10, -20),
    ),
    "degrees": ("EPSG:4326", Affine(0.001, 0, 24, 0, -0.0005, 60)),
    "the globe": ("EPSG:4326", Affine(12, 0, -180, 0, -9, 90)),
    "rotated degrees": ("EPSG:4326", Affine(0.01, 0.002, 24, 0.003, -0.01, 60)),
    "Mercator": ("EPSG:3857", Affine(50_000, 0, 1e6, 0, -50_000, 8.4e6)),
    "polar": ("EPSG:3995", Affine(40_000, 0, -4e5, 0, -40_000, 4e5)),
    "equal area": ("EPSG:3035", Affine(30_000, 0, 4e6, 0, -30_000, 3e6)),
    "feet": ("EPSG:2263", Affine(1000, 0, 9e5, 0, -1000, 2e5)),
    "a plane": ('LOCAL_CS["site",UNIT["foot",0.3048]]', Affine(3, 0, 5, 0, -3, 6)),
}


def grid(shape, place):
    crs, transform = PLACES[place]
    return SceneGrid(*shape, transform, CRS.from_user_input(crs), 1, "uint8", None, (16, 16))


@settings(unhurried, max_examples=40)
@given(array=codes(20), place=st.sampled_from(list(PLACES)))
def test_polygons_have_the_area_of_their_pixels(tmp_path_factory, array, place):
    folder = tmp_path_factory.mktemp("areas")
    crs, transform = PLACES[place]
    raster = write_classes(folder / "map.tif", array, nodata=0, crs=crs, transform=transform)
    vectorize(raster, folder / "map.parquet")
    frame = geopandas.read_parquet(folder / "map.parquet")
    areas = PixelAreas(locate(grid(array.shape, place), place)).of(Window(0, 0, *array.shape))
    for code, area in frame.groupby("class_id").area_m2.sum().items():
        assert area == pytest.approx(areas[array == code].sum(), rel=1e-6)


@pytest.mark.parametrize("place", [p for p in PLACES if p not in ("a plane", "the globe")])
def test_areas_are_those_of_the_ellipsoid(place):
    shape = (20, 20)
    location = locate(grid(shape, place), place)
    areas = PixelAreas(location)
    crs, transform = PLACES[place]
    # Edges that are straight in the CRS, in parts so short that geodesics follow them
    square = shapely.segmentize(shapely.box(2, 3, 15, 17), 0.05)
    cols, rows = shapely.get_coordinates(square).T
    to_degrees = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform(*(transform @ (cols, rows)))
    ellipsoid = pyproj.CRS(crs).ellipsoid
    geod = pyproj.Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)
    truth = abs(geod.polygon_area_perimeter(lon, lat)[0])
    assert areas.of(Window(3, 2, 14, 13)).sum() == pytest.approx(truth, rel=2e-6)
    ring = np.array([[2, 3], [15, 3], [15, 17], [2, 17], [2, 3]], float)
    assert areas.of_rings(*ring.T, np.array([0, 5])) == pytest.approx(truth, rel=2e-6)


def test_the_globe_has_the_area_of_the_ellipsoid():
    location = locate(grid((20, 30), "the globe"), "the globe")
    areas = PixelAreas(location)
    assert areas.of(location.grid.window).sum() == pytest.approx(510_065_621_724_088, rel=1e-6)
    ring = np.array([[0, 0], [30, 0], [30, 20], [0, 20], [0, 0]], float)
    assert areas.of_rings(*ring.T, np.array([0, 5])) == pytest.approx(5.10065621724088e14, rel=1e-6)


def test_windows_have_the_areas_of_the_whole():
    location = locate(grid((300, 200), "UTM, far from its meridian"), "")
    areas = PixelAreas(location)
    whole = areas.of(location.grid.window)
    part = areas.of(Window(31, 17, 50, 60))
    assert part == pytest.approx(whole[31:81, 17:77], rel=1e-12)
    assert whole[100, 50] == pytest.approx(areas.at(np.array([50.5]), np.array([100.5]))[0])


def test_control_points_give_areas_on_the_ellipsoid():
    def place(col, row):
        return 20 + 0.0002 * col + 1e-9 * col * row, 50 - 0.0001 * row

    points = [
        GroundControlPoint(row=r, col=c, x=place(c, r)[0], y=place(c, r)[1])
        for r in np.linspace(0, 1000, 9)
        for c in np.linspace(0, 1500, 9)
    ]
    shape = SceneGrid(
        1000,
        1500,
        Affine.identity(),
        None,
        1,
        "uint8",
        None,
        (16, 16),
        tuple(points),
        CRS.from_epsg(4326),
    )
    areas = PixelAreas(locate(shape, ""))
    ring = np.array([[0, 0], [1500, 0], [1500, 1000], [0, 1000], [0, 0]], float)
    dense = shapely.get_coordinates(shapely.segmentize(shapely.Polygon(ring), 1))
    truth = abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*place(*dense.T))[0])
    assert areas.of(shape.window).sum() == pytest.approx(truth, rel=1e-4)
    assert areas.of_rings(*ring.T, np.array([0, 5])) == pytest.approx(
        areas.of(shape.window).sum(), rel=1e-6
    )


def test_the_report_and_the_polygons_agree(tmp_path):
    array = np.ones((200, 300), np.uint8)
    array[90:] = 2
    raster = write_classes(tmp_path / "map.tif", array)
    vectorize(raster, tmp_path / "map.gpkg", VectorizeOptions(dissolve=True))
    points = geopandas.GeoDataFrame(
        {"kind": [1, 1, 2, 2]},
        geometry=geopandas.points_from_xy(
            [400_010, 400_100] * 2, [5_499_990] * 2 + [5_498_500] * 2
        ),
        crs="EPSG:32633",
    )
    points.to_file(tmp_path / "points.gpkg")
    frame = geopandas.read_file(tmp_path / "map.gpkg", layer="map")
    mapped = evaluate(raster, tmp_path / "points.gpkg").sample.mapped
    assert frame.sort_values("class_id").area_m2.to_numpy() == pytest.approx(mapped, rel=1e-9)
    with rasterio.open(raster) as file:
        plane = array.size * abs(file.transform.determinant)
    assert 3e-4 < mapped.sum() / plane - 1 < 8e-4  # UTM is shrunk here
