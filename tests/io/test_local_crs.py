"""A local CRS (an engineer's grid) cannot be transformed: what needs it to be is one clear line."""

import json
import os

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from class_rasters import write_classes
from doubles import legend
from models import random_bundle
from rasterio.crs import CRS

from cwsam_geo.cli.main import main
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import EvaluateOptions
from cwsam_geo.vectorization.options import VectorizeOptions
from cwsam_geo.vectorization.vectorize import vectorize

pytestmark = pytest.mark.filterwarnings("ignore:'crs' was", "ignore:More than one layer")

LOCAL = CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')
FEET = CRS.from_wkt('LOCAL_CS["site grid in feet",UNIT["foot",0.3048]]')
UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 400_000, 0, -10, 5_500_000)
LEGEND = {1: ("water", "#0000ff"), 2: ("land", "#00aa00")}


def halves(size=40):
    array = np.ones((size, size), np.uint8)
    array[:, size // 2 :] = 2
    return array


def frame(path, shapes, crs, **columns):
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs).to_file(path)
    return path


def box(left, top, right, bottom):
    """A rectangle of pixels on the map."""
    return shapely.box(*(NORTH_UP * (left, bottom)), *(NORTH_UP * (right, top)))


@pytest.fixture
def local(tmp_path):
    return write_classes(tmp_path / "local.tif", halves(), LEGEND, crs=LOCAL)


@pytest.mark.parametrize("suffix", ["gpkg", "fgb", "parquet"])
@pytest.mark.parametrize(("crs", "metres"), [(LOCAL, 1), (FEET, 0.3048)])
def test_polygons_in_its_own_coordinates(tmp_path, suffix, crs, metres):
    raster = write_classes(tmp_path / "map.tif", halves(), LEGEND, crs=crs)
    output = tmp_path / f"out.{suffix}"
    vectorize(raster, output, VectorizeOptions(min_area=2, simplify=1))
    read = geopandas.read_parquet if suffix == "parquet" else geopandas.read_file
    found = read(output)
    assert "site grid" in found.crs.name
    assert set(found.area_m2.round(6)) == {round(40 * 20 * 100 * metres**2, 6)}


@pytest.mark.parametrize(("name", "t_srs"), [("out.geojson", None), ("out.gpkg", "EPSG:4326")])
def test_polygons_elsewhere_are_refused(tmp_path, local, name, t_srs):
    with pytest.raises(UsageError, match=r"local\.tif: .*site grid.*EPSG:4326.*\.gpkg"):
        vectorize(local, tmp_path / name, VectorizeOptions(t_srs=t_srs))
    assert os.listdir(tmp_path) == ["local.tif"]


@pytest.mark.parametrize("crs", [LOCAL, None])
def test_the_map_is_compared_with_what_has_its_crs(tmp_path, crs):
    local = write_classes(tmp_path / "local.tif", halves(), LEGEND, crs=crs)
    finer = NORTH_UP * Affine.translation(-3, -3) * Affine.scale(0.5)
    other = write_classes(tmp_path / "o.tif", halves(80), LEGEND, crs=crs, transform=finer)
    result = evaluate(local, other)
    assert result.coverage["compared"] == 37 * 37
    assert result.counts.tolist() == [[37 * 17, 0], [37 * 3, 37 * 17]]
    shapes = [box(0, 0, 18, 40), box(18, 0, 40, 40)]
    polygons = frame(tmp_path / "polygons.gpkg", shapes, crs, kind=["water", "land"])
    assert evaluate(local, polygons).counts.tolist() == [[720, 0], [80, 800]]


def test_areas_of_a_sample_are_those_of_the_plane(tmp_path):
    local = write_classes(tmp_path / "local.tif", halves(), LEGEND, crs=FEET)
    shapes = [box(c, c, c + 1, c + 1).centroid for c in range(40)]
    points = frame(tmp_path / "points.gpkg", shapes, FEET, kind=["water"] * 20 + ["land"] * 20)
    sample = evaluate(local, points).sample
    assert sample.unit == "m2"
    np.testing.assert_allclose(sample.mapped, 40 * 20 * 100 * 0.3048**2)


def test_what_has_another_crs_is_refused(tmp_path, local):
    both = "(?=.*site grid)(?=.*EPSG:32633)(?=.*local.tif)"
    utm = write_classes(tmp_path / "utm.tif", halves(), LEGEND, crs=UTM)
    polygons = frame(tmp_path / "utm.gpkg", [box(0, 0, 9, 9)], UTM, kind=["water"])
    area = EvaluateOptions(aoi=polygons)
    for a, b, options in (
        (local, utm, None),
        (utm, local, None),
        (local, polygons, None),
        (local, local, area),
    ):
        with pytest.raises(UsageError, match=both) as error:
            evaluate(a, b, options)
        assert "cannot be read" not in str(error.value)


@pytest.fixture
def scene(tmp_path):
    values = np.random.default_rng(0).normal(-15, 3, (2, 90, 90)).astype(np.float32)
    path = write_classes(tmp_path / "scene.tif", values, crs=LOCAL)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("VV", "VH")
    random_bundle(legend(2)).save(tmp_path / "m.safetensors")
    return path


def predict(capfd, scene, *more):
    model, output = scene.parent / "m.safetensors", scene.parent / "map.tif"
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in ("predict", scene, "-m", model, "-o", output, "-q", *more)])
    return stopped.value.code or 0, capfd.readouterr().err


def test_a_scene_is_mapped_and_cut(tmp_path, capfd, scene):
    aoi = frame(tmp_path / "aoi.gpkg", [box(10, 20, 40, 60)], LOCAL)
    code, err = predict(capfd, scene, "--aoi", aoi, "--vectors", tmp_path / "map.fgb")
    assert (code, err) == (0, "")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (40, 30)
        assert file.crs == LOCAL
        assert (file.read() != 255).all()
    assert "site grid" in geopandas.read_file(tmp_path / "map.fgb").crs.name


def test_a_scene_is_not_cut_by_an_area_that_cannot_be_placed(tmp_path, capfd, scene):
    aoi = frame(tmp_path / "aoi.gpkg", [box(10, 20, 40, 60)], UTM)
    code, err = predict(capfd, scene, "--aoi", aoi)
    assert code == 2
    assert err.count("\n") == 1
    for words in ("aoi.gpkg", "EPSG:32633", "scene.tif", "site grid", "local"):
        assert words in err
    assert "cannot be read" not in err


def test_polygons_that_cannot_be_are_refused_before_the_scene_is_mapped(tmp_path, capfd, scene):
    code, err = predict(capfd, scene, "--vectors", tmp_path / "map.geojson")
    assert code == 2
    assert err.count("\n") == 1
    assert "site grid" in err
    assert "EPSG:4326" in err
    assert not (tmp_path / "map.tif").exists()


def test_info_names_it(capfd, scene):
    with pytest.raises(SystemExit):
        main(["info", str(scene), "--json"])
    assert "site grid" in json.loads(capfd.readouterr().out)["crs"]
