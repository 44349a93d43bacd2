"""Samples of points from tables and archives, and strata that are not the map's classes."""

import zipfile

import geopandas
import numpy as np
import pandas
import pytest
from affine import Affine
from shapely import box
from training_scenes import LEGEND, UTM, write_raster

from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions
from cwsam_geo.io import reference
from cwsam_geo.io.vector_file import VectorLayer

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
SHAPE = (60, 80)
AREA = 100 / 0.9996**2  # of a pixel at the central meridian, in square metres of ground


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def mapped(rng):
    return np.kron(rng.choice([1, 2, 4], (6, 8)), np.ones((10, 10), int)).astype(np.uint8)


@pytest.fixture
def map_file(tmp_path, mapped):
    path = tmp_path / "map.tif"
    return write_raster(path, mapped, PLACE, UTM, nodata=255)


def options(**more):
    return EvaluateOptions(legend=LEGEND, **more)


def points(rows, cols, **columns):
    x, y = PLACE * (np.asarray(cols) + 0.5, np.asarray(rows) + 0.5)
    return geopandas.GeoDataFrame(columns, geometry=geopandas.points_from_xy(x, y), crs=UTM)


@pytest.fixture
def sample(rng, mapped):
    rows, cols = rng.integers(0, SHAPE[0], 200), rng.integers(0, SHAPE[1], 200)
    kind = np.where(rng.random(200) < 0.8, mapped[rows, cols], 1)
    return points(rows, cols, kind=kind)


@pytest.mark.parametrize("form", ["lon,lat", "x;y", "wkt"])
def test_points_of_a_table_count_as_those_of_a_vector_file(tmp_path, map_file, sample, form):
    sample.to_file(tmp_path / "points.gpkg")
    expected = evaluate(map_file, tmp_path / "points.gpkg", options())
    table = sample.drop(columns="geometry")
    if form == "lon,lat":
        degrees = sample.to_crs("EPSG:4326").geometry
        table = table.assign(lon=degrees.x, lat=degrees.y)
    elif form == "x;y":
        table = table.assign(x=sample.geometry.x, y=sample.geometry.y)
    else:
        table = table.assign(wkt=sample.geometry.to_wkt())
    path = tmp_path / "points.csv"
    table.to_csv(path, index=False, sep=";" if ";" in form else ",")
    result = evaluate(map_file, path, options())
    assert (result.counts == expected.counts).all()
    assert (
        result.sample.estimates.area.value.tolist() == expected.sample.estimates.area.value.tolist()
    )
    assert any("points.csv" in remark for remark in result.remarks) == (form != "lon,lat")


def test_polygons_of_a_table(tmp_path, map_file, sample):
    shapes = sample.set_geometry(sample.buffer(40)).head(20)
    shapes.to_file(tmp_path / "p.gpkg")
    shapes.assign(wkt=shapes.geometry.to_wkt()).drop(columns="geometry").to_csv(
        tmp_path / "p.csv", index=False
    )
    a, b = (evaluate(map_file, tmp_path / f"p.{s}", options()) for s in ("gpkg", "csv"))
    assert a.kind == b.kind == "polygons"
    assert (a.counts == b.counts).all()


def zipped(path, *files, folder=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, folder + file.name)
            archive.writestr(f"__MACOSX/{folder}._{file.name}", b"x")
        archive.writestr("readme.txt", "about")
    return path


@pytest.mark.parametrize("folder", ["", "data 2024/shapes/"])
@pytest.mark.parametrize("suffix", ["shp", "gpkg", "geojson", "csv", "parquet"])
def test_archives_are_read_without_unpacking(tmp_path, map_file, sample, suffix, folder):
    parts = tmp_path / "parts"
    parts.mkdir()
    file = parts / f"points.{suffix}"
    if suffix == "csv":
        degrees = sample.to_crs("EPSG:4326").geometry
        sample.drop(columns="geometry").assign(lon=degrees.x, lat=degrees.y).to_csv(
            file, index=False
        )
    elif suffix == "parquet":
        sample.to_parquet(file)
    else:
        sample.to_file(file)
    expected = evaluate(map_file, file, options())
    path = zipped(tmp_path / "points (1).zip", *sorted(parts.iterdir()), folder=folder)
    result = evaluate(map_file, path, options())
    assert (result.counts == expected.counts).all()
    aoi = evaluate(map_file, map_file, options(aoi=zipped_area(tmp_path, folder)))
    assert aoi.coverage["compared"] == 30 * 20


def zipped_area(tmp_path, folder):
    corner = points([0], [0]).buffer(1).total_bounds
    left, top = corner[0] - 4, corner[3] + 4
    area = geopandas.GeoSeries.from_wkt(
        [f"POLYGON (({left} {top}, {left + 300} {top}, {left + 300} {top - 200}, "
         f"{left} {top - 200}, {left} {top}))"], crs=UTM,
    )  # fmt: skip
    shapes = tmp_path / "area"
    shapes.mkdir(exist_ok=True)
    area.to_file(shapes / "area.shp")
    return zipped(tmp_path / "area.zip", *sorted(shapes.iterdir()), folder=folder)


def test_an_archive_with_several_shapefiles_asks_which(tmp_path, map_file, sample):
    parts = tmp_path / "parts"
    parts.mkdir()
    sample.to_file(parts / "points.shp")
    sample.head(50).to_file(parts / "others.shp")
    path = zipped(tmp_path / "all.zip", *sorted(parts.iterdir()))
    with pytest.raises(
        UsageError, match=r"2 vector files; choose one with --layer: others, points"
    ):
        evaluate(map_file, path, options())
    result = evaluate(map_file, path, options(layer=VectorLayer(layer="others")))
    assert result.counts.sum() == 50


def test_what_an_archive_lacks_is_one_line(tmp_path, map_file, sample):
    sample.to_file(tmp_path / "points.shp")
    whole = [tmp_path / f"points.{s}" for s in ("shp", "shx", "dbf", "prj")]
    path = zipped(tmp_path / "a.zip", *whole)
    with pytest.raises(UsageError, match=r"a\.zip: has no layer 'b'; it has: points"):
        evaluate(map_file, path, options(layer=VectorLayer(layer="b")))
    zipped(path, whole[0])
    with pytest.raises(UsageError, match=r"a\.zip: .*its \.shx file is missing"):
        evaluate(map_file, path, options())
    path.write_bytes(zipped(tmp_path / "b.zip", *whole).read_bytes()[:500])
    with pytest.raises(UsageError, match=r"a\.zip: is not a complete zip archive"):
        evaluate(map_file, path, options())


def test_a_file_that_is_no_vector_file_is_one_line_with_what_to_give(tmp_path, map_file):
    path = tmp_path / "points.gpkg"
    path.write_bytes(b"no GeoPackage")
    with pytest.raises(UsageError, match=r"points\.gpkg: is not a vector file .*; give a GeoPa"):
        evaluate(map_file, path, options())


@pytest.mark.parametrize(
    ("suffix", "driver"),
    [("gml", "GML"), ("sqlite", "SQLite"), ("tab", "MapInfo File"), ("kmz", "KML")],
)
def test_further_formats(tmp_path, map_file, sample, suffix, driver):
    written = tmp_path / f"p.{suffix}"
    if suffix == "kmz":
        table = sample.to_crs("EPSG:4326").rename(columns={"kind": "Name"}).astype({"Name": str})
        table.to_file(tmp_path / "doc.kml", driver=driver)
        zipped(written, tmp_path / "doc.kml")
    else:
        sample.to_file(written, driver=driver)
    layer = VectorLayer("Name") if suffix == "kmz" else VectorLayer()
    result = evaluate(map_file, written, options(layer=layer))
    assert result.counts.sum() == len(sample)


def test_strata_of_what_is_no_sample_are_refused(tmp_path, map_file, sample):
    shapes = sample.set_geometry(sample.buffer(40)).assign(stratum="a")
    shapes.to_file(tmp_path / "p.gpkg")
    layer = VectorLayer("kind", stratum="stratum")
    with pytest.raises(UsageError, match="--stratum is for samples of points"):
        evaluate(map_file, tmp_path / "p.gpkg", options(layer=layer, stratum_sizes={"a": 1}))


def test_an_archive_of_rasters_is_not_taken_for_a_vector_file(tmp_path, map_file, sample):
    sample.to_file(tmp_path / "footprint.geojson")
    path = zipped(tmp_path / "map.zip", map_file, tmp_path / "footprint.geojson")
    result = evaluate(map_file, path, EvaluateOptions())
    assert result.scores.overall_accuracy == 1
    assert result.counts.sum() > len(sample)  # pixels, not points


# Strata


def stehman(table, sizes, of):
    """Stratified estimate of a proportion: the weighted mean of the strata's means."""
    total = sum(sizes.values())
    return sum(size / total * of[table.stratum == name].mean() for name, size in sizes.items())


@pytest.fixture
def drawn_by_others(rng, mapped):
    """60 points in the left quarter, 60 in the rest: not in proportion, and not by classes."""
    truth = np.where(rng.random(SHAPE) < 0.7, mapped, 4)
    rows = rng.integers(0, SHAPE[0], 120)
    cols = np.concatenate([rng.integers(0, 20, 60), rng.integers(20, 80, 60)])
    strata = np.where(cols < 20, "coast", "Inland")
    return points(rows, cols, kind=truth[rows, cols], stratum=strata), rows, cols


def test_strata_of_a_column_weight_the_points(tmp_path, mapped, map_file, drawn_by_others):
    table, rows, cols = drawn_by_others
    path = tmp_path / "points.gpkg"
    table.to_file(path)
    sizes = {"coast": 300.0, "inland": 900.0}
    layer = VectorLayer("kind", stratum="stratum")
    result = evaluate(map_file, path, options(layer=layer, stratum_sizes=sizes))
    by_name = {"coast": 300.0, "Inland": 900.0}
    estimates, at = result.sample.estimates, mapped[rows, cols]
    kind = table.kind.to_numpy()
    assert float(estimates.overall.value) == pytest.approx(stehman(table, by_name, kind == at))
    for i, code in enumerate((1, 2, 4)):
        assert estimates.area.value[i] == pytest.approx(stehman(table, by_name, kind == code))
        hit = stehman(table, by_name, (kind == code) & (at == code))
        assert estimates.users.value[i] == pytest.approx(hit / stehman(table, by_name, at == code))
    # Equation 25 of Stehman (2014) for a proportion.
    variance = 0.0
    for name, size in by_name.items():
        right = (kind == at)[table.stratum == name]
        variance += (size / 1200) ** 2 * right.var(ddof=1) / len(right)
    assert float(estimates.overall.error) == pytest.approx(np.sqrt(variance))
    # The strata share the mapped area.
    assert result.sample.total == pytest.approx(mapped.size * AREA, rel=1e-5)
    assert [s.name for s in result.sample.strata] == ["coast", "inland"]
    assert result.sample.strata[0].area == pytest.approx(mapped.size / 4 * AREA, rel=1e-5)
    report = result.to_dict()
    assert report["settings"]["stratum"] == "stratum"
    assert report["settings"]["stratum_sizes"] == sizes
    assert not any("biased" in r for r in result.remarks)


def test_a_column_of_strata_that_is_not_used_is_told(tmp_path, mapped, map_file, drawn_by_others):
    table, rows, cols = drawn_by_others
    path = tmp_path / "points.gpkg"
    table.to_file(path)
    result = evaluate(map_file, path, options(layer=VectorLayer("kind")))
    (remark,) = [r for r in result.remarks if "biased" in r]
    assert "its column 'stratum' differs from the map's classes" in remark
    assert "--stratum stratum" in remark
    # Strata that are the map's classes under other names bias nothing.
    table.assign(stratum=np.array(["", "a", "b", "", "c"])[mapped[rows, cols]]).to_file(path)
    result = evaluate(map_file, path, options(layer=VectorLayer("kind")))
    assert not any("biased" in r for r in result.remarks)


@pytest.mark.parametrize(
    ("layer", "sizes", "words"),
    [
        (
            {"stratum": "stratum"},
            {},
            r"'stratum' without a size: .*coast \(60\).*NAME=SIZE",
        ),
        (
            {"stratum": "stratum"},
            {"coast": 1},
            r"a size: Inland \(60\); sizes are given for",
        ),
        ({"stratum": "zone"}, {"a": 1}, "has no column 'zone'; it has: kind, stratum"),
        ({}, {"a": 1}, "--stratum-size needs --stratum"),
        ({"stratum": "stratum"}, {"a": 0}, "--stratum-size a=0: a size is a number above 0"),
        ({"stratum": "stratum"}, {"a": float("nan")}, "a size is a number above 0"),
    ],
)
def test_strata_that_cannot_be_used_are_one_line(
    tmp_path, map_file, drawn_by_others, layer, sizes, words
):
    drawn_by_others[0].to_file(tmp_path / "points.gpkg")
    with pytest.raises(UsageError, match=words):
        evaluate(
            map_file,
            tmp_path / "points.gpkg",
            options(layer=VectorLayer(**layer), stratum_sizes=sizes),
        )


def test_strata_without_points_and_points_without_strata(tmp_path, map_file, drawn_by_others):
    table, _, _ = drawn_by_others
    path = tmp_path / "points.gpkg"
    table.to_file(path)
    sizes = {"coast": 300, "inland": 900, "lake": 400}
    layer = VectorLayer(stratum="stratum")  # the other column holds the classes
    result = evaluate(map_file, path, options(layer=layer, stratum_sizes=sizes))
    assert any("no point lies in the stratum lake (25.00% of the map)" in r for r in result.remarks)
    assert result.sample.share_without_points == pytest.approx(0.25)
    table.loc[3, "stratum"] = None
    table.to_file(path)
    with pytest.raises(UsageError, match="1 point without a stratum in the column"):
        evaluate(map_file, path, options(layer=layer, stratum_sizes=sizes))


def test_points_off_the_map_make_the_sizes_doubtful(tmp_path, map_file, drawn_by_others):
    table, _, _ = drawn_by_others
    outside = points([-1], [3], kind=[1], stratum=["coast"])
    path = tmp_path / "points.gpkg"
    pandas.concat([table, outside]).to_file(path)
    sizes = {"coast": 300, "inland": 900}
    layer = VectorLayer("kind", stratum="stratum")
    result = evaluate(map_file, path, options(layer=layer, stratum_sizes=sizes))
    assert any("1 point outside the map or on its nodata was left out" in r for r in result.remarks)


def test_where_polygons_overlap_the_later_counts_and_it_is_told(tmp_path, map_file):
    def patch(left, top, right, bottom):
        (x0, y0), (x1, y1) = PLACE * (left, top), PLACE * (right, bottom)
        return box(x0, y1, x1, y0)

    frame = geopandas.GeoDataFrame(
        {"c": ["water", "trees", "trees"]},
        geometry=[patch(0, 0, 40, 60), patch(30, 0, 80, 60), patch(50, 0, 60, 10)],
        crs=UTM,
    )
    frame.to_file(tmp_path / "truth.gpkg")
    result = evaluate(map_file, tmp_path / "truth.gpkg", options())
    assert result.counts[0].sum() == 30 * 60
    (remark,) = result.remarks
    assert "polygons of different classes overlap on 600 pixels; the one that is later" in remark
    frame.iloc[:1].to_file(tmp_path / "truth.gpkg")
    assert evaluate(map_file, tmp_path / "truth.gpkg", options()).remarks == ()


@pytest.mark.parametrize("few", [0, 64])
def test_overlaps_are_resolved_as_in_the_order_of_the_file(
    tmp_path, rng, map_file, monkeypatch, few
):
    """Also where three classes overlap, and where there are too many classes to count overlaps."""
    monkeypatch.setattr(reference, "_FEW_CLASSES", few)
    expected, depth = np.zeros(SHAPE, int), np.zeros((5, *SHAPE), bool)
    shapes, kinds = [], rng.choice([1, 2, 4], 30)
    for kind in kinds:
        left, top = rng.integers(0, 60), rng.integers(0, 40)
        right, bottom = left + rng.integers(1, 20), top + rng.integers(1, 20)
        expected[top:bottom, left:right] = kind
        depth[kind, top:bottom, left:right] = True
        (x0, y0), (x1, y1) = PLACE * (left, top), PLACE * (right, bottom)
        shapes.append(box(x0, y1, x1, y0))
    geopandas.GeoDataFrame({"c": kinds}, geometry=shapes, crs=UTM).to_file(tmp_path / "t.gpkg")
    result = evaluate(map_file, tmp_path / "t.gpkg", options())
    assert result.counts.sum(1).tolist() == [(expected == c).sum() for c in (1, 2, 4)]
    disputed = (depth.sum(0) > 1).sum()
    assert disputed
    told = [r for r in result.remarks if "different classes" in r]
    assert [f"overlap on {disputed} pixels" in r for r in told] == [True] * bool(few)


def test_settings_are_told_in_the_report(tmp_path, map_file, sample):
    sample.to_file(tmp_path / "points.gpkg")
    report = evaluate(map_file, tmp_path / "points.gpkg", options(mapping=ClassMapping())).to_dict()
    assert report["settings"]["stratum"] is None
