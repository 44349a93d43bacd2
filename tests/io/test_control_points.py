"""Splines through control points: there and back, at 180 degrees, at a pole, with some left out."""

import re
import zipfile

import numpy as np
import pytest
from affine import Affine
from placed_scenes import Swath
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import GCPTransformer

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import SceneError
from cwsam_geo.io.control_points import ControlPoints, leave_one_out
from cwsam_geo.io.geolocation import locate
from cwsam_geo.scene.sentinel1.tables import control_points

DEGREES = CRS.from_epsg(4326)
SHAPE = (900, 1400)
PLACES = {"47 N": (15, 47), "180 W": (-179.99, 62), "180 E": (179.98, -70), "pole": (30, 89.98)}


def spread(rng, n=2000, beyond=0):
    low, high = -beyond, np.array(SHAPE[::-1]) + beyond
    return rng.uniform(low, high, (n, 2)).T


@pytest.mark.parametrize("place", PLACES)
def test_pixels_lie_where_the_points_say(place):
    swath = Swath(SHAPE, PLACES[place])
    points = ControlPoints(swath.points(15, 10), DEGREES)
    cols, rows = spread(np.random.default_rng(0))
    lon, lat = points.to_map(cols, rows)
    true_cols, true_rows = swath.pixels(lon, lat)
    assert np.abs(np.stack([true_cols - cols, true_rows - rows])).max() < 0.05


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("relief", [0, 30])
def test_a_place_has_the_pixel_that_lies_there(place, relief):
    swath = Swath(SHAPE, PLACES[place], relief=relief)
    points = ControlPoints(swath.points(15, 10), DEGREES)
    cols, rows = spread(np.random.default_rng(1), beyond=20)
    lon, lat = points.to_map(cols, rows)
    for turn in (0, 360):  # the same meridian
        back = np.stack(points.to_pixels(lon + turn, lat))
        assert np.abs(back - [cols, rows]).max() < 1e-3


@pytest.mark.parametrize("place", PLACES)
def test_no_place_far_away_has_a_pixel_in_the_scene(place):
    """Splines of the opposite direction fold: gdalwarp -tps shows such ghosts at the poles."""
    swath = Swath(SHAPE, PLACES[place], relief=30)
    points = ControlPoints(swath.points(15, 10), DEGREES)
    cols, rows = spread(np.random.default_rng(2), 20_000, beyond=6000)
    lon, lat = swath.degrees(cols, rows)
    found = np.stack(points.to_pixels(lon, lat))
    inside = ((found >= 0) & (found <= [[SHAPE[1]], [SHAPE[0]]])).all(axis=0)
    # Relief displaces by 30 pixels, and splines overshoot a little.
    near = np.hypot(*(found - [cols, rows])) < 100
    assert inside.sum() > 50
    assert near[inside].all()


def test_longitudes_do_not_jump():
    points = ControlPoints(Swath(SHAPE, (180.0, 10)).points(), DEGREES)
    lon, _ = points.to_map(*spread(np.random.default_rng(3)))
    assert np.ptp(lon) < 0.5


def test_points_that_go_on_beyond_180_keep_their_longitudes():
    swath = Swath(SHAPE, (180.0, 10))
    going_on = [GroundControlPoint(p.row, p.col, p.x % 360, p.y, 0.0) for p in swath.points()]
    lon, _ = ControlPoints(going_on, DEGREES).to_map(np.array([0.0, 1400.0]), np.array([5.0, 5.0]))
    assert (np.abs(lon - 180) < 0.5).all()
    assert lon.max() > 180


def test_each_point_that_is_left_out_as_gdals_splines_through_the_others_have_it():
    swath = Swath(SHAPE, relief=20)
    points = swath.points(6, 4)
    places = 1e5 * np.array([(p.x, p.y) for p in points])
    values = np.array([(p.col, p.row) for p in points])
    points = [
        GroundControlPoint(p.row, p.col, x, y) for p, (x, y) in zip(points, places, strict=True)
    ]
    found = leave_one_out(places, values)
    for i, point in enumerate(points):
        others = GCPTransformer(points[:i] + points[i + 1 :], tps=True)
        row, col = others.rowcol([point.x], [point.y], op=lambda value: value)
        assert np.allclose(found[i], [point.col - col[0], point.row - row[0]], atol=1e-5)


def test_what_is_left_out_of_a_flat_scene_lies_where_the_others_say():
    flat = ControlPoints(Swath(SHAPE).points(15, 10), DEGREES).left_out()
    hills = ControlPoints(Swath(SHAPE, relief=20).points(15, 10), DEGREES).left_out()
    assert flat.points == hills.points == 13 * 8  # those on the border do not count
    assert flat.rms_pixels <= flat.largest_pixels < 0.2
    assert 5 < hills.rms_pixels < 40
    assert hills.rms == pytest.approx(10 * hills.rms_pixels, rel=0.02)  # pixels of 10 m


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_few_points_cannot_be_left_out(number):
    few = Swath(SHAPE).points(3, 3)[::2][:number]
    assert ControlPoints(few, DEGREES).left_out() is None


def test_points_on_a_line_place_nothing():
    line = tuple(p for p in Swath(SHAPE).points(9, 3) if p.row == 0)
    grid = SceneGrid(*SHAPE, Affine.identity(), None, gcps=line, gcp_crs=DEGREES)
    with pytest.raises(SceneError, match=r"scene.tif: its 9 control points do not say where"):
        locate(grid, "scene.tif")


def test_no_points_are_no_pixels():
    points = ControlPoints(Swath(SHAPE).points(), DEGREES)
    none = np.zeros((0,))
    assert points.to_pixels(none, none)[0].shape == (0,)
    assert points.to_map(none, none)[0].shape == (0,)


REAL = {
    "180 degrees": "S1A_IW_GRDH_1SDV_20260606T181903_20260606T181928_064852_082C02_1C0B",
    "Arctic": "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15",
}


@pytest.mark.parametrize("name", REAL)
def test_points_at_sea_of_real_products_lie_where_the_others_say(shared_data, name):
    """Each is left out of the splines, and the ground around it is flat: less than a pixel."""
    folder = shared_data / "formats" / "safe_metadata"
    points = np.array(control_points(annotation(folder, REAL[name])), object)
    cols, rows = (np.unique([getattr(p, axis) for p in points]) for axis in ("col", "row"))
    heights = np.full((len(rows), len(cols)), np.nan)
    where = [(np.searchsorted(rows, p.row), np.searchsorted(cols, p.col)) for p in points]
    for (i, j), point in zip(where, points, strict=True):
        heights[i, j] = point.z
    at_sea = [
        k
        for k, (i, j) in enumerate(where)
        if 2 <= i < len(rows) - 2
        and 2 <= j < len(cols) - 2
        and np.ptp(heights[i - 2 : i + 3, j - 2 : j + 3]) < 1
    ]
    assert len(at_sea) > 50
    apart = []
    for k in at_sea[::16]:
        others = ControlPoints(np.delete(points, k), DEGREES)
        col, row = others.to_pixels(np.array([points[k].x]), np.array([points[k].y]))
        apart.append(np.hypot(col[0] - points[k].col, row[0] - points[k].row))
    assert max(apart) < 1
    assert np.sqrt(np.mean(np.square(apart))) < 0.4


def annotation(folder, name):
    """GDAL's path of a product's first annotation, in a folder or a zip archive."""
    if (folder / name).is_dir():
        return str(next((folder / name / "annotation").glob("*.xml")))
    archive = folder / f"{name}.zip"
    if not archive.exists():
        pytest.skip(f"{name} is not here")
    with zipfile.ZipFile(archive) as members:
        inside = next(n for n in members.namelist() if re.search(r"annotation/[^/]*vv[^/]*xml$", n))
    return f"/vsizip/{archive}/{inside}"
