"""What vectorize writes, opened again by other tools; georeferencing, areas, errors, command."""

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyarrow.parquet
import pyogrio
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from class_rasters import NORTH_UP, write_classes
from click.testing import CliRunner
from disks import small_disk
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from cwsam_geo.cli.vectorize import command
from cwsam_geo.errors import CwsamGeoError, OutputError, SceneError, UsageError
from cwsam_geo.vectorization.options import VectorizeOptions
from cwsam_geo.vectorization.vectorize import vectorize

LEGEND = {0: ("water", "#0000ff"), 1: ("trees", "#00aa00"), 2: ("Gebäude & Straßen", "#ff0000")}
SUFFIXES = ("gpkg", "fgb", "parquet", "geojson")


def scene(size=60):
    """Three classes in stripes with an island and a nodata corner."""
    rows, cols = np.mgrid[:size, :size]
    array = ((rows + cols // 2) // 20 % 3).astype(np.uint8)
    array[25:35, 25:33] = 0
    array[:8, :9] = 255
    return array


def opened(path):
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path)


def made(tmp_path, array=None, options=None, suffix="gpkg", **profile):
    """The frame, the result and the warnings of one run."""
    array = scene() if array is None else array
    settings = {"nodata": 255, "legend": LEGEND, **profile}
    raster = write_classes(tmp_path / "classes.tif", array, **settings)
    said = []
    output = tmp_path / f"out.{suffix}"
    options = dataclasses.replace(options or VectorizeOptions(), overwrite=True)
    result = vectorize(raster, output, options, said.append)
    return opened(output), result, [e["text"] for e in said if e["event"] == "warning"]


pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore:More than one layer"
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("multi", [False, True])
def test_every_format_opens_with_crs_types_and_count(tmp_path, suffix, multi):
    options = VectorizeOptions(connectivity=8 if multi else 4)
    frame, result, said = made(tmp_path, options=options, suffix=suffix)
    assert said == []
    assert len(frame) == result.count > 5
    assert frame.crs.to_epsg() == (4326 if suffix == "geojson" else 32633)
    columns = [c for c in frame.columns if c not in ("bbox", "geometry")]
    assert columns == ["class_id", "class_name", "area_m2"]
    assert frame.class_id.dtype == np.int32
    assert frame.area_m2.dtype == np.float64
    assert set(frame.class_name) == {name for name, _ in LEGEND.values()}
    assert set(frame.geom_type) == {"MultiPolygon" if multi else "Polygon"}
    assert frame.geometry.is_valid.all()
    parts = shapely.get_parts(frame.geometry.values)
    assert shapely.coverage_is_valid(parts)
    assert shapely.is_ccw(shapely.get_exterior_ring(parts)).all()
    assert frame.area_m2.sum() == pytest.approx(true_area(frame), rel=1e-5)
    assert frame.area_m2.sum() == pytest.approx((scene() != 255).sum() * 100, rel=1e-3)


def true_area(frame):
    """Area of all polygons on the ellipsoid."""
    return frame.to_crs("EPSG:6933").area.sum()


def test_formats_hold_the_same_polygons(tmp_path):
    texts = []
    for suffix in SUFFIXES:
        frame, *_ = made(tmp_path, suffix=suffix)
        moved = shapely.set_precision(frame.to_crs(32633).geometry.values, 1)
        # GeoJSON's long edges have more vertices, so that they bend as the map does.
        texts.append(sorted(g.wkt for g in shapely.normalize(shapely.simplify(moved, 0.5))))
    assert texts[0] == texts[1] == texts[2]
    areas = [sorted(round(shapely.from_wkt(t).area) for t in some) for some in texts]
    assert areas[0] == areas[3]


def test_geopackage_has_a_style_that_qgis_finds(tmp_path):
    made(tmp_path)
    with sqlite3.connect(tmp_path / "out.gpkg") as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
        tables = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        (index,) = database.execute("SELECT count(*) FROM rtree_out_geom").fetchone()
    assert tables == {"out": "features", "layer_styles": "attributes"}
    assert index > 5
    ((layer, column, default, text),) = rows
    assert (layer, column, default) == ("out", "geom", 1)
    root = ElementTree.fromstring(text)
    assert root.find("renderer-v2").attrib["attr"] == "class_id"
    shown = [
        (c.attrib["value"], c.attrib["label"], c.attrib["symbol"]) for c in root.iter("category")
    ]
    assert shown == [(str(v), name, str(i)) for i, (v, (name, _)) in enumerate(LEGEND.items())]
    colors = [o.attrib["value"] for o in root.iter("Option") if o.attrib.get("name") == "color"]
    assert colors == ["0,0,255,255", "0,170,0,255", "255,0,0,255"]


def test_parquet_says_geoparquet_1_1_and_reads_by_box(tmp_path):
    frame, *_ = made(tmp_path, suffix="parquet")
    path = tmp_path / "out.parquet"
    geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert pyproj.CRS.from_json_dict(column["crs"]).to_epsg() == 32633
    boxes = pyarrow.parquet.read_table(path)["bbox"].to_pylist()
    assert [tuple(b.values()) for b in boxes] == [tuple(b) for b in frame.bounds.to_numpy()]
    box = (400_000, 5_499_400, 400_100, 5_499_500)
    some = geopandas.read_parquet(path, bbox=box)
    assert len(some) == frame.intersects(shapely.box(*box)).sum() < len(frame)


def test_geojson_is_as_the_rfc_wants(tmp_path):
    made(tmp_path, suffix="geojson")
    document = json.loads((tmp_path / "out.geojson").read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    assert "crs" not in document
    first = document["features"][0]
    assert first["type"] == "Feature"
    assert set(first["properties"]) == {"class_id", "class_name", "area_m2"}
    for ring in first["geometry"]["coordinates"]:
        assert ring[0] == ring[-1]
        assert all(13 < x < 14 and 49 < y < 50 for x, y in ring)


def test_geojson_is_cut_at_the_date_line(tmp_path):
    # UTM zone 1 near its western edge: the scene lies on both sides of 180 degrees.
    transform = Affine(1000, 0, 100_000, 0, -1000, 1_000_000)
    array = np.ones((100, 200), np.uint8)
    frame, _, _ = made(tmp_path, array, suffix="geojson", crs="EPSG:32601", transform=transform)
    west, _, east, _ = frame.total_bounds
    assert (west, east) == (-180, 180)
    assert frame.geom_type[0] == "MultiPolygon"
    widths = [p.bounds[2] - p.bounds[0] for p in frame.geometry[0].geoms]
    assert max(widths) < 3
    assert frame.geometry.is_valid.all()


def test_rotated_and_mirrored_rasters(tmp_path):
    for transform in (
        Affine.translation(4e5, 5e6) * Affine.rotation(30) * Affine.scale(10, -20),
        Affine(10, 0, 4e5, 0, 10, 5e6),
    ):
        frame, *_ = made(tmp_path, transform=transform)
        assert frame.geometry.is_valid.all()
        assert shapely.is_ccw(shapely.get_exterior_ring(frame.geometry.values)).all()
        assert frame.area_m2.sum() == pytest.approx(true_area(frame), rel=1e-5)
        burned = rasterio.features.rasterize(
            ((g, v) for g, v in zip(frame.geometry, frame.class_id, strict=True)),
            (60, 60),
            fill=255,
            transform=transform,
            dtype="uint8",
        )
        assert (burned == scene()).all()


def test_without_crs_areas_are_pixels(tmp_path):
    for suffix in SUFFIXES:
        frame, result, said = made(tmp_path, suffix=suffix, crs=None, transform=None)
        assert frame.crs is None or suffix == "geojson"  # which readers take for WGS84
        assert list(frame.columns[:3]) == ["class_id", "class_name", "area"]
        assert frame["area"].sum() == (scene() != 255).sum()
        assert frame.total_bounds.tolist() == [0, 0, 60, 60]
        assert result.area_unit is None
        assert "no CRS" in said[0]
        assert ("misplace" in said[0]) == (suffix == "geojson")


def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path):
    transform = Affine(0.001, 0, 24, 0, -0.0005, 60)
    frame, *_ = made(tmp_path, crs="EPSG:4326", transform=transform)
    geod = pyproj.Geod(ellps="WGS84")
    for shape, area in zip(frame.geometry, frame.area_m2, strict=True):
        # Geodesics, which Geod goes along, leave the parallels between far vertices.
        dense = shapely.segmentize(shape, 0.001)
        assert area == pytest.approx(abs(geod.geometry_area_perimeter(dense)[0]), rel=1e-6)
    simplified, *_ = made(
        tmp_path, options=VectorizeOptions(simplify=80), crs="EPSG:4326", transform=transform
    )
    assert simplified.area_m2.sum() == pytest.approx(frame.area_m2.sum(), rel=1e-3)
    for shape, area in zip(simplified.geometry, simplified.area_m2, strict=True):
        dense = shapely.segmentize(shape, 0.001)
        assert area == pytest.approx(abs(geod.geometry_area_perimeter(dense)[0]), rel=1e-4)


def test_areas_in_web_mercator_and_feet(tmp_path):
    frame, *_ = made(tmp_path, crs="EPSG:3857", transform=Affine(20, 0, 2e6, 0, -20, 8.4e6))
    true = frame.to_crs("ESRI:54034").area.sum()
    assert frame.area_m2.sum() == pytest.approx(true, rel=1e-6)
    feet, *_ = made(tmp_path, crs="EPSG:2263", transform=Affine(10, 0, 9e5, 0, -10, 2e5))
    ellipsoid = pyproj.CRS("EPSG:2263").ellipsoid
    equal_area = f"+proj=cea +a={ellipsoid.semi_major_metre} +b={ellipsoid.semi_minor_metre}"
    assert feet.area_m2.sum() == pytest.approx(feet.to_crs(equal_area).area.sum(), rel=1e-6)


def test_another_crs(tmp_path):
    frame, *_ = made(tmp_path, options=VectorizeOptions(t_srs="EPSG:3035"))
    plain, *_ = made(tmp_path)
    assert frame.crs.to_epsg() == 3035
    assert shapely.coverage_is_valid(frame.geometry.values)
    assert frame.area_m2.sum() == pytest.approx(plain.area_m2.sum())
    apart = shapely.hausdorff_distance(
        plain.to_crs(3035).union_all().boundary, frame.union_all().boundary
    )
    assert apart < 0.1


def test_long_edges_bend_with_the_map(tmp_path):
    array = np.ones((2000, 2000), np.uint8)
    transform = Affine(100, 0, 4e5, 0, -100, 7e6)
    frame, *_ = made(
        tmp_path, array, VectorizeOptions(t_srs="EPSG:4326"), crs="EPSG:32633", transform=transform
    )
    north = [y for _, y in frame.to_crs(32633).get_coordinates().itertuples(index=False)]
    edge = shapely.segmentize(frame.geometry[0], 0.01)
    back = geopandas.GeoSeries([edge], crs=4326).to_crs(32633).total_bounds
    assert max(north) - 7e6 < 0.01
    assert abs(back[3] - 7e6) < 10


def test_control_points_are_followed(tmp_path):
    def place(col, row):
        x, y = col / 60, row / 60
        return 20 + 0.6 * x + 0.05 * y + 0.01 * x * y, 50 - 0.4 * y + 0.03 * x + 0.01 * x * x

    points = [
        GroundControlPoint(row=r, col=c, x=place(c, r)[0], y=place(c, r)[1])
        for r in range(0, 61, 12)
        for c in range(0, 61, 12)
    ]
    raster = write_classes(
        tmp_path / "classes.tif", scene(), LEGEND, nodata=255, crs=None, transform=None
    )
    with rasterio.open(raster, "r+") as dataset:
        dataset.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    vectorize(raster, tmp_path / "out.gpkg")
    frame = opened(tmp_path / "out.gpkg")
    assert frame.crs.to_epsg() == 4326
    assert shapely.coverage_is_valid(frame.geometry.values)
    corners = frame.get_coordinates().to_numpy()
    for col, row in ((60, 60), (0, 60), (60, 0), (25, 25)):
        assert np.hypot(*(corners - place(col, row)).T).min() < 5e-4
    geod = pyproj.Geod(ellps="WGS84")
    whole = abs(geod.geometry_area_perimeter(shapely.segmentize(frame.union_all(), 0.01))[0])
    assert frame.area_m2.sum() == pytest.approx(whole, rel=1e-3)


def test_classes_by_name_and_number(tmp_path):
    for classes in (("trees", "2"), ("1", "Gebäude & Straßen")):
        frame, result, _ = made(tmp_path, options=VectorizeOptions(classes=classes))
        assert sorted(set(frame.class_id)) == [1, 2]
        assert [c.name for c in result.classes] == ["trees", "Gebäude & Straßen"]
    with pytest.raises(UsageError, match="0 water, 1 trees"):
        made(tmp_path, options=VectorizeOptions(classes=("forest",)))
    with pytest.raises(UsageError, match="takes numbers"):
        made(tmp_path, options=VectorizeOptions(classes=("forest",)), legend=None)


def test_a_class_that_does_not_occur_is_remarked(tmp_path):
    array = np.where(scene() == 2, 1, scene()).astype(np.uint8)
    frame, _, said = made(tmp_path, array, VectorizeOptions(classes=("2",)))
    assert len(frame) == 0
    assert "no pixel of Gebäude" in said[0]


def test_dissolve_gives_one_feature_a_class(tmp_path):
    plain, *_ = made(tmp_path)
    for suffix in SUFFIXES:
        frame, result, _ = made(tmp_path, options=VectorizeOptions(dissolve=True), suffix=suffix)
        assert frame.class_id.tolist() == [0, 1, 2]
        assert set(frame.geom_type) == {"MultiPolygon"}
        assert frame.geometry.is_valid.all()
        assert result.count == 3
        areas = plain.groupby("class_id").area_m2.sum()
        assert frame.area_m2.to_numpy() == pytest.approx(areas.to_numpy())
        counts = shapely.get_num_geometries(frame.geometry.values)
        assert counts.tolist() == plain.groupby("class_id").size().tolist()


@pytest.mark.parametrize("dissolve", [False, True])
def test_mean_confidence(tmp_path, dissolve):
    percent = np.full((60, 60), 80, np.uint8)
    percent[scene() == 1] = 60
    percent[scene() == 2] = 255
    confidence = write_classes(tmp_path / "confidence.tif", percent, nodata=255)
    options = VectorizeOptions(confidence=confidence, dissolve=dissolve)
    frame, *_ = made(tmp_path, options=options, suffix="parquet" if dissolve else "gpkg")
    for value, mean in zip(frame.class_id, frame.mean_confidence, strict=True):
        assert np.isnan(mean) if value == 2 else mean == {0: 80, 1: 60}[value]


def test_confidence_on_another_grid_is_refused(tmp_path):
    other = write_classes(tmp_path / "other.tif", np.ones((50, 60), np.float32))
    with pytest.raises(SceneError, match=r"other\.tif: is not on the grid of .*classes\.tif"):
        made(tmp_path, options=VectorizeOptions(confidence=other))


def test_only_one_value_a_pixel_is_a_confidence(tmp_path):
    two = np.full((2, 60, 60), 80, np.uint8)
    both = write_classes(tmp_path / "probs.tif", two, nodata=255)
    with pytest.raises(SceneError, match=r"probs\.tif: has 2 bands.*--confidence"):
        made(tmp_path, options=VectorizeOptions(confidence=both))
    assert not list(tmp_path.glob("out.*"))
    codes = write_classes(tmp_path / "codes.tif", scene(), nodata=255)
    with rasterio.open(codes, "r+") as raster:
        raster.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(SceneError, match=r"codes\.tif: holds classes.*--confidence"):
        made(tmp_path, options=VectorizeOptions(confidence=codes))
    alpha = write_classes(tmp_path / "alpha.tif", two)
    with rasterio.open(alpha, "r+") as raster:
        raster.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    frame, *_ = made(tmp_path, options=VectorizeOptions(confidence=alpha))
    assert set(frame.mean_confidence) == {80}


def test_names_and_colours_without_a_legend(tmp_path):
    raster = write_classes(tmp_path / "palette.tif", scene(), nodata=255)
    with rasterio.open(raster, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255), 1: (4, 5, 6, 255), 2: (7, 8, 9, 255)})
    vectorize(raster, tmp_path / "palette.gpkg")
    assert set(opened(tmp_path / "palette.gpkg").class_name) == {"class 0", "class 1", "class 2"}
    with sqlite3.connect(tmp_path / "palette.gpkg") as database:
        (text,) = database.execute("SELECT styleQML FROM layer_styles").fetchone()
    assert "4,5,6,255" in text
    frame, *_ = made(tmp_path, scene().astype(np.int16) - 5, nodata=250, legend=None)
    assert set(frame.class_name) == {"class -5", "class -4", "class -3"}


def test_own_rasters_without_declared_nodata(tmp_path):
    frame, *_ = made(tmp_path, nodata=None)
    assert 255 not in set(frame.class_id)
    frame, *_ = made(tmp_path, nodata=None, legend=None)
    assert 255 in set(frame.class_id)


@pytest.mark.parametrize(
    ("array", "profile", "error", "words"),
    [
        (scene() + np.float32(0.5), {}, SceneError, "not whole numbers"),
        (np.stack([scene()] * 3), {}, SceneError, "has 3 bands"),
        (np.stack([scene()] * 4).astype(np.int16), {}, SceneError, "has 4 bands.*--band"),
        (scene(), {"suffix": "dxf"}, UsageError, "unknown suffix '.dxf'.*.gpkg, .fgb"),
        (scene(), {"options": VectorizeOptions(t_srs="EPSG:1")}, UsageError, "is no CRS"),
        (scene(), {"options": VectorizeOptions(t_srs="EPSG:5773")}, UsageError, "CRS of a map"),
        (scene(), {"options": VectorizeOptions(t_srs="EPSG:4978")}, UsageError, "CRS of a map"),
        (scene(), {"options": VectorizeOptions(t_srs="ESRI:104903")}, UsageError, "choose another"),
        (
            scene(),
            {"options": VectorizeOptions(t_srs="EPSG:4326"), "crs": None},
            UsageError,
            "has no CRS",
        ),
        (
            scene(),
            {"options": VectorizeOptions(t_srs="EPSG:3857"), "suffix": "geojson"},
            UsageError,
            "always in WGS84",
        ),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, array, profile, error, words):
    with pytest.raises(error, match=words):
        made(tmp_path, array, **profile)
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_raster_leaves_no_output(tmp_path, suffix):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 3, (600, 600)).astype(np.uint8)
    raster = write_classes(tmp_path / "classes.tif", array, compress="deflate", tiled=False)
    content = raster.read_bytes()
    raster.write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError, match=r"classes\.tif"):
        vectorize(raster, tmp_path / f"out.{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == ["classes.tif"]


def test_nothing_is_overwritten_unasked(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", scene())
    output = tmp_path / "out.gpkg"
    output.write_text("precious")
    with pytest.raises(UsageError, match="--overwrite"):
        vectorize(raster, output)
    assert output.read_text() == "precious"
    vectorize(raster, output, VectorizeOptions(overwrite=True))
    assert len(opened(output)) > 5
    with pytest.raises(CwsamGeoError):
        vectorize(output, output, VectorizeOptions(overwrite=True))
    with pytest.raises(OutputError):
        vectorize(raster, tmp_path / "nowhere" / "out.gpkg")


def test_what_a_program_left_beside_an_earlier_geopackage_does_not_spoil_the_new_one(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", scene(), nodata=255)
    output, copy = tmp_path / "out.gpkg", tmp_path / "copy.gpkg"
    vectorize(raster, output)
    with contextlib.closing(sqlite3.connect(output)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("DELETE FROM 'out'")
        database.commit()
        # As it lies there when the program that wrote is killed.
        for ending in ("-wal", "-shm"):
            shutil.copy(f"{output}{ending}", f"{copy}{ending}")
        shutil.copy(output, copy)
    assert Path(f"{copy}-wal").stat().st_size
    vectorize(raster, copy, VectorizeOptions(layer="out", overwrite=True))
    assert len(opened(copy)) > 5
    assert not list(tmp_path.glob("copy.gpkg-*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_link_keeps_leading_to_the_polygons(tmp_path, suffix):
    raster = write_classes(tmp_path / "classes.tif", scene(), nodata=255)
    real, link = tmp_path / f"real.{suffix}", tmp_path / f"link.{suffix}"
    link.symlink_to(real.name)
    vectorize(raster, link)
    count = len(opened(real))
    vectorize(raster, link, VectorizeOptions(classes=("1",), overwrite=True))
    assert link.is_symlink()
    assert 0 < len(opened(real)) < count


@pytest.mark.parametrize("kilobytes", [16, 1024, 4000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line_and_leaves_the_earlier_output(tmp_path, capfd, suffix, kilobytes):
    noise = np.random.default_rng(0).integers(0, 4, (700, 700)).astype(np.uint8)
    raster = write_classes(tmp_path / "classes.tif", noise)
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        output = disk / f"out.{suffix}"
        output.write_text("earlier")
        with pytest.raises(OutputError, match=rf"out\.{suffix}: the disk is full.*write elsewhere"):
            vectorize(raster, output, VectorizeOptions(overwrite=True))
        assert output.read_text() == "earlier"
        assert os.listdir(disk) == [output.name]
    assert not capfd.readouterr().err


def test_a_geopackage_without_room_for_its_index_is_not_put_in_place(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4, (200, 200)).astype(np.uint8)
    raster = write_classes(tmp_path / "classes.tif", noise)
    vectorize(raster, tmp_path / "out.gpkg")
    size = (tmp_path / "out.gpkg").stat().st_size
    with small_disk(tmp_path / "disk", size * 8 // 10240) as disk:
        with pytest.raises(OutputError, match=r"out\.gpkg: the disk is full"):
            vectorize(raster, disk / "out.gpkg")
        assert not os.listdir(disk)


def test_an_interrupt_reaches_the_caller(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", scene())

    def stop(event):
        if event["event"] == "progress":
            raise KeyboardInterrupt

    for suffix in SUFFIXES:
        with pytest.raises(KeyboardInterrupt):
            vectorize(raster, tmp_path / f"out.{suffix}", on_event=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["classes.tif"]


def test_layer_name_and_odd_paths(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", scene())
    output = tmp_path / "land cover [1] ü.v2.gpkg"
    vectorize(raster, output)
    assert pyogrio.list_layers(output)[0, 0] == "land cover [1] ü.v2"
    vectorize(raster, output, VectorizeOptions(layer="my 'layer'", overwrite=True))
    assert pyogrio.list_layers(output)[0, 0] == "my 'layer'"


def test_command_prints_events_as_json(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", scene(), LEGEND, nodata=255)
    arguments = [str(raster), "-o", str(tmp_path / "out.gpkg"), "--json", "--min-area", "500"]
    arguments += ["--simplify", "15", "--smooth", "--classes", "water, trees", "--layer", "cover"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "done"
    frame = opened(tmp_path / "out.gpkg")
    assert events[-1]["polygons"] == len(frame)
    assert set(frame.class_name) == {"water", "trees"}


def test_command_line(tmp_path):
    write_classes(tmp_path / "classes.tif", scene(), LEGEND, nodata=255)
    call = [sys.executable, "-m", "cwsam_geo.cli.main", "vectorize", "classes.tif", "-o"]
    good = subprocess.run(
        [*call, "out.gpkg", "--dissolve"], cwd=tmp_path, capture_output=True, text=True
    )
    assert good.returncode == 0, good.stderr
    assert good.stdout == ""
    assert "out.gpkg: 3 polygons (water 1, trees 1, " in good.stderr
    bad = subprocess.run([*call, "out.dxf"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert ".parquet" in bad.stderr


def test_north_up_is_what_the_tests_think():
    assert (NORTH_UP * (0, 0)) == (400_000, 5_500_000)
