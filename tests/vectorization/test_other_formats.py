"""Shapefiles and KML: what these formats cannot hold is handled and said."""

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from affine import Affine
from class_rasters import NORTH_UP, write_classes

from cwsam_geo import EvaluateOptions, VectorizeOptions, evaluate, vectorize
from cwsam_geo.errors import UsageError
from cwsam_geo.io.vector_file import VectorLayer

LEGEND = {0: ("water", "#0000ff"), 1: ("Gebäude & Straßen", "#ff0000")}
SHAPEFILE = ["out.cpg", "out.dbf", "out.prj", "out.shp", "out.shx"]


def scene():
    array = (np.indices((60, 60)).sum(0) // 20 % 2).astype(np.uint8)
    array[25:35, 25:33] = 0
    array[:8, :9] = 255
    return array


def raster(tmp_path, **profile):
    (tmp_path / "in").mkdir()
    return write_classes(tmp_path / "in" / "classes.tif", scene(), LEGEND, nodata=255, **profile)


def burned(frame, codes):
    return rasterio.features.rasterize(
        zip(frame.geometry, codes, strict=True), (60, 60), 255, transform=NORTH_UP, dtype="uint8"
    )


@pytest.mark.parametrize("dissolve", [False, True])
def test_a_shapefile_holds_the_polygons_and_all_columns(tmp_path, dissolve):
    path = raster(tmp_path)
    confidence = write_classes(tmp_path / "in" / "c.tif", np.full((60, 60), 80, np.uint8))
    said = []
    options = VectorizeOptions(confidence=confidence, dissolve=dissolve)
    result = vectorize(path, tmp_path / "out.shp", options, on_event=said.append)
    frame = geopandas.read_file(tmp_path / "out.shp")
    assert list(frame.columns) == ["class_id", "class_name", "area_m2", "mean_conf", "geometry"]
    assert len(frame) == result.count
    assert frame.crs.to_epsg() == 32633
    assert (burned(frame, frame.class_id) == scene()).all()
    assert set(frame.class_name) == {name for name, _ in LEGEND.values()}
    assert set(frame.mean_conf) == {80}
    (warning,) = [e["text"] for e in said if e["event"] == "warning"]
    assert "at most 10 characters" in warning
    assert "mean_conf" in warning
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", *SHAPEFILE]


def test_a_shapefile_is_replaced_with_all_its_files(tmp_path):
    path = raster(tmp_path)
    output = tmp_path / "out.shp"
    vectorize(path, output, VectorizeOptions(classes=("water",)))
    (tmp_path / "out.qix").write_bytes(b"an old index")
    with pytest.raises(UsageError, match="--overwrite"):
        vectorize(path, output)
    output.unlink()
    with pytest.raises(UsageError, match=r"out\.\w+: would be a part of the new out\.shp"):
        vectorize(path, output)
    vectorize(path, output, VectorizeOptions(overwrite=True))
    frame = geopandas.read_file(output)
    assert (burned(frame, frame.class_id) == scene()).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", *SHAPEFILE]


def test_a_failure_leaves_the_earlier_shapefile(tmp_path):
    path = raster(tmp_path)
    vectorize(path, tmp_path / "out.shp")
    before = {p.name: p.read_bytes() for p in tmp_path.glob("out.*")}
    broken = write_classes(tmp_path / "in" / "broken.tif", scene() + np.float32(0.5))
    with pytest.raises(Exception, match="not whole numbers"):
        vectorize(broken, tmp_path / "out.shp", VectorizeOptions(overwrite=True))
    assert {p.name: p.read_bytes() for p in tmp_path.glob("out.*")} == before
    assert not list(tmp_path.glob(".*"))


def test_what_a_shapefile_cannot_do_is_said(tmp_path):
    path = raster(tmp_path)
    with pytest.raises(UsageError, match="leave out --layer"):
        vectorize(path, tmp_path / "out.shp", VectorizeOptions(layer="x"))
    (tmp_path / "link.shp").symlink_to(tmp_path / "elsewhere.shp")
    with pytest.raises(UsageError, match=r"symbolic link.*elsewhere\.shp"):
        vectorize(path, tmp_path / "link.shp", VectorizeOptions(overwrite=True))


def test_kml_is_in_degrees_with_names_and_columns(tmp_path):
    path = raster(tmp_path)
    result = vectorize(path, tmp_path / "out.kml")
    frame = geopandas.read_file(tmp_path / "out.kml")
    assert frame.crs.to_epsg() == 4326
    assert len(frame) == result.count
    assert set(frame.Name) == {name for name, _ in LEGEND.values()}
    assert (frame.Name == frame.class_name).all()
    assert frame.area_m2.astype(float).sum() == pytest.approx(
        sum(c.area for c in result.classes), rel=1e-6
    )
    moved = frame.to_crs(32633)
    assert (burned(moved, moved.class_id.astype(int)) == scene()).all()
    for column in ("class_id", "class_name", "Name"):
        options = EvaluateOptions(layer=VectorLayer(column))
        assert evaluate(path, tmp_path / "out.kml", options).scores.overall_accuracy == 1


def test_kml_is_cut_at_the_date_line_and_needs_a_crs(tmp_path):
    transform = Affine(1000, 0, 100_000, 0, -1000, 1_000_000)
    array = np.ones((100, 200), np.uint8)
    path = write_classes(tmp_path / "a.tif", array, crs="EPSG:32601", transform=transform)
    vectorize(path, tmp_path / "out.kml")
    west, _, east, _ = pyogrio.read_info(tmp_path / "out.kml", force_total_bounds=True)[
        "total_bounds"
    ]
    assert (west, east) == (-180, 180)
    assert shapely.is_valid(geopandas.read_file(tmp_path / "out.kml").geometry.values).all()
    plain = write_classes(tmp_path / "b.tif", array, crs=None)
    with pytest.raises(UsageError, match="no CRS, but KML needs"):
        vectorize(plain, tmp_path / "b.kml")
    with pytest.raises(UsageError, match="KML is always in WGS84"):
        vectorize(path, tmp_path / "b.kml", VectorizeOptions(t_srs="EPSG:3857"))
