"""Reports of maps, written and taken apart again."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from class_rasters import NORTH_UP, UTM, write_classes
from pages import Page, embedded, names_of
from rasterio.control import GroundControlPoint
from scene_rasters import write

from cwsam_geo import ReportOptions, report_map
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_areas import PixelAreas
from cwsam_geo.map_report.options import ReportScene
from cwsam_geo.pages import map_view
from cwsam_geo.pages.layers import ScenePictures, raster_grid
from cwsam_geo.scene.source import open_source

EVIL = "<script>alert(1)</script>"
LEGEND = {1: ("water", "#3366ff"), 2: ("woods", "#227722"), 7: (EVIL, "#ff8800")}


@pytest.fixture
def codes():
    rng = np.random.default_rng(3)
    coarse = rng.choice(np.array([1, 2, 7, 255], np.uint8), (20, 24))
    noise = rng.random((300, 360)) < 0.03
    return np.where(noise, 2, np.kron(coarse, np.ones((15, 15), np.uint8))).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, codes):
    rng = np.random.default_rng(4)
    write_classes(tmp_path / "map.tif", codes, LEGEND, nodata=255)
    percent = np.where(codes == 255, 255, rng.integers(34, 101, codes.shape)).astype(np.uint8)
    write_classes(tmp_path / "confidence.tif", percent, nodata=255)
    vv = rng.normal(-12, 2, codes.shape).astype(np.float32)
    write(
        tmp_path / "scene.tif",
        np.stack([vv, vv - 6]),
        ("VV", "VH"),
        transform=NORTH_UP,
        crs=UTM,
    )
    return tmp_path


def made(folder, name="map.tif", **options):
    report_map(folder / name, folder / "report.html", ReportOptions(**options, overwrite=True))
    return Page(folder / "report.html")


def test_the_embedded_classes_and_confidences_are_those_of_the_rasters(folder, codes):
    page = made(folder, confidence=folder / "confidence.tif")
    names = {code: name for code, (name, _) in LEGEND.items()} | {255: ""}
    assert (names_of(page.layer("classes")) == np.vectorize(names.get)(codes)).all()
    with rasterio.open(folder / "confidence.tif") as file:
        assert (embedded(page.layer("confidence")) == file.read(1)).all()
    assert page.map["place"]["transform"] == list(NORTH_UP)[:6]
    # Coarser levels halve the resolution down to what fits a small screen.
    assert [level["width"] for level in page.layer("classes")["levels"]] == [360, 180]


def test_what_confidence_means_depends_on_whether_it_was_calibrated(folder):
    percent = folder / "confidence.tif"
    assert "Nobody has checked how often it is right" in made(folder, confidence=percent).text
    with rasterio.open(folder / "map.tif", "r+") as file:
        file.update_tags(CWSAM_GEO_SETTINGS=json.dumps({"temperature": 0.6}))
    page = made(folder, confidence=percent)
    assert "about 80 of 100 pixels that have 80 % are right" in page.text
    assert "Nobody has checked" not in page.text


def test_paper_has_a_key_for_every_picture_and_says_its_size(folder):
    page = made(folder, confidence=folder / "confidence.tif")
    key = page.source[page.source.index('<div class="legends">') :]
    assert key.index("Classes:") < key.index("Confidence:") < key.index("linear-gradient")
    assert "Each picture shows 3.6 x 3 km; north is up." in page.text


def test_nothing_is_fetched_and_text_of_files_is_never_code(folder):
    page = made(folder, confidence=folder / "confidence.tif", title=f"{EVIL} & co")
    assert page.fetched == []
    assert "url(" not in page.style
    assert page.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert [values.get("type") for values, _ in page.scripts] == ["application/json", None]
    assert page.source.count("alert(1)") > 3
    assert f"{EVIL} & co" in page.texts
    assert any(EVIL in text for text in page.texts[1:])
    assert "sourceMappingURL" not in page.source
    # The licence travels with the library.
    assert "Redistribution and use in source and binary forms" in page.text


def test_areas_and_confidences_are_counted_on_every_pixel(folder, codes):
    page = made(folder, confidence=folder / "confidence.tif")
    with rasterio.open(folder / "confidence.tif") as file:
        percent = file.read(1)
    areas = PixelAreas(locate(raster_grid(folder / "map.tif"), "map"))
    square = areas.of(raster_grid(folder / "map.tif").window)
    total = square[codes != 255].sum()
    cells = page.texts
    for code, (name, _) in LEGEND.items():
        at = next(i for i, t in enumerate(cells) if t == name and "," in cells[i + 1])
        pixels, area, share, mean = cells[at + 1 : at + 5]
        assert pixels == f"{(codes == code).sum():,}"
        assert float(area) == pytest.approx(square[codes == code].sum() / 1e6, rel=5e-3)
        assert share == f"{100 * square[codes == code].sum() / total:.1f} %"
        assert mean == f"{percent[codes == code].mean():.1f} %"


def test_a_large_map_is_shown_coarser_within_the_budget(folder, monkeypatch):
    rng = np.random.default_rng(0)
    noise = rng.choice(np.array([1, 2, 7], np.uint8), (1500, 1800))
    write_classes(folder / "noise.tif", noise, LEGEND, nodata=255)
    monkeypatch.setattr(map_view, "_CHARACTERS", 400_000)
    page = made(folder, "noise.tif")
    layer = page.layer("classes")
    size = sum(len(json.dumps(level["chunks"])) for level in layer["levels"])
    assert size < 400_000
    assert layer["levels"][0]["width"] < 1800
    assert "Classes: shown at 1 : " in page.text
    assert page.map["width"] == 1800


GCPS = [
    GroundControlPoint(row=r, col=c, x=11 + (c + 0.2 * r) / 5000, y=48 - (r - 0.1 * c) / 5000)
    for r in (0, 30, 60)
    for c in (0, 40, 80)
]
ODD = {
    "one pixel": {"codes": np.array([[1]], np.uint8)},
    "a strip of one line": {"codes": np.ones((1, 700), np.uint8)},
    "one pixel wide": {"codes": np.full((700, 1), 2, np.uint8)},
    "nodata only": {"codes": np.full((60, 80), 255, np.uint8)},
    "no georeferencing": {"crs": None, "transform": None},
    "rotated": {"transform": Affine(8, 5, 4e5, 5, -8, 5e6)},
    "control points": {"transform": None, "crs": "EPSG:4326", "gcps": GCPS},
    "degrees at 60 north": {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 20, 0, -1e-4, 60)},
    "across the antimeridian": {
        "crs": "EPSG:4326",
        "transform": Affine(1e-3, 0, 179.97, 0, -1e-3, -17),
    },
    "floats with NaN": {"codes": np.where(np.eye(60, 80) > 0, np.nan, 2).astype(np.float32)},
    "codes of CORINE": {"codes": np.full((60, 80), 312, np.int16), "legend": None},
    "a plane of a local CRS": {"crs": 'LOCAL_CS["site",UNIT["metre",1]]'},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_maps_have_reports_too(tmp_path, case):
    options = {"legend": LEGEND, "nodata": 255} | ODD[case]
    codes = options.pop("codes", np.tile(np.array([1, 2], np.uint8), (60, 40)))
    if codes.dtype != np.uint8:
        options.pop("nodata")
    write_classes(tmp_path / "map.tif", codes, **options)
    page = made(tmp_path)
    assert (page.map["height"], page.map["width"]) == codes.shape
    assert names_of(page.layer("classes")).shape == codes.shape
    place = page.map["place"]
    if case == "degrees at 60 north":
        assert place["aspect"] == pytest.approx(0.5, abs=0.01)
    if case == "control points":
        assert place["transform"] is None
        assert place["lon"][0][0] == pytest.approx(11, abs=1e-4)
        assert place["lat"][-1][0] == pytest.approx(48 - 60 / 5000, abs=1e-4)
    if case == "no georeferencing":
        assert (place["lon"], place["transform"], place["crs"]) == (None, None, None)


def test_the_scene_of_which_a_map_is_a_part_lies_under_it(folder, codes):
    part = codes[40:140, 100:250]
    place = NORTH_UP * Affine.translation(100, 40)
    write_classes(folder / "part.tif", part, LEGEND, nodata=255, transform=place)
    with open_source([folder / "scene.tif"]) as source:
        whole = ScenePictures(source, raster_grid(folder / "map.tif"))
        of_part = ScenePictures(source, raster_grid(folder / "part.tif"))
        of_part.stretch = whole.stretch
        assert (of_part.read(150) == whole.read(360)[40:140, 100:250]).all()
        tile = of_part.of(Window(10, 20, 30, 40))
        assert (tile == of_part.read(150)[10:40, 20:60]).all()
    page = made(folder, "part.tif", scene=ReportScene([folder / "scene.tif"]))
    assert [layer["id"] for layer in page.map["layers"]] == ["scene", "classes"]
    assert "Scene: red: VV" in page.text


def test_a_scene_in_another_crs_is_laid_over_the_map(folder):
    with open_source([folder / "scene.tif"]) as source:
        grid = raster_grid(folder / "map.tif")
        expected = ScenePictures(source, grid).read(360)
    degrees = folder / "degrees.tif"
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    with rasterio.open(folder / "map.tif") as file:
        transform, width, height = calculate_default_transform(
            file.crs, "EPSG:4326", file.width, file.height, *file.bounds
        )
        warped = np.full((height, width), 255, np.uint8)
        reproject(
            file.read(1), warped, src_transform=file.transform, src_crs=file.crs,
            dst_transform=transform, dst_crs="EPSG:4326", dst_nodata=255, src_nodata=255,
            resampling=Resampling.nearest,
        )  # fmt: skip
    write_classes(degrees, warped, LEGEND, nodata=255, crs="EPSG:4326", transform=transform)
    with open_source([folder / "scene.tif"]) as source:
        picture = ScenePictures(source, raster_grid(degrees)).read(max(width, height))
    assert picture.shape[:2] == warped.shape
    assert 0.9 < (picture[..., 3] > 0).mean() <= 1
    assert abs(picture[picture[..., 3] > 0].mean() - expected.mean()) < 3


def test_outlines_are_those_of_the_polygons_and_simplified_where_they_are_many(folder, monkeypatch):
    x, y = NORTH_UP * (20.25, 30)
    square = shapely.box(x, y - 100, x + 200, y)
    specks = [shapely.box(x + 15 * i, y - 400, x + 15 * i + 2, y - 398) for i in range(40)]
    geopandas.GeoDataFrame(geometry=[square, *specks], crs=UTM).to_file(folder / "areas.gpkg")
    page = made(folder, vectors=folder / "areas.gpkg")
    layer = page.layer("outlines")
    corners = np.cumsum(np.reshape(layer["rings"][0], (-1, 2)), axis=0) / layer["scale"]
    assert {tuple(c) for c in corners} == {(20.25, 30), (40.25, 30), (40.25, 40), (20.25, 40)}
    assert len(layer["rings"]) == 41
    monkeypatch.setattr("cwsam_geo.pages.outlines._MOST_CORNERS", 100)
    page = made(folder, vectors=folder / "areas.gpkg")
    assert len(page.layer("outlines")["rings"]) == 1
    assert "40 small polygons are left out" in page.text


def test_accuracy_and_the_worst_tiles_are_shown_with_a_reference(folder, codes):
    truth = codes.copy()
    truth[:20, :30] = np.where(codes[:20, :30] == 2, 1, 2)
    write_classes(folder / "truth.tif", truth, LEGEND, nodata=255)
    page = made(folder, reference=folder / "truth.tif", scene=ReportScene([folder / "scene.tif"]))
    compared = (truth != 255) & (codes != 255)
    differs = embedded(page.layer("differences"))
    expected = np.where(compared, (truth != codes).astype(np.uint8), 255)
    names = np.array(["same class", "another class"])
    shown = names_of(page.layer("differences"))
    assert (shown[compared] == names[expected[compared]]).all()
    assert (differs[~compared] == 255).all()
    assert "Accuracy, compared with the raster truth.tif" in page.text
    wrong = compared & (truth != codes)
    share = wrong[:256, :256].sum() / compared[:256, :256].sum()
    assert f"{100 * share:.1f} % of the compared pixels differ" in page.text
    assert ("img", "Scene of tile 1") in [(t, v.get("alt")) for t, v in page.tags]


def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(folder, codes):
    write_classes(folder / "small.tif", codes[:100], nodata=255)
    for options, error, message in (
        ({"confidence": folder / "small.tif"}, SceneError, "small.tif: is not on the grid of"),
        ({"confidence": folder / "none.tif"}, SceneError, "no such file"),
        ({"model": "no-such-model"}, Exception, "no-such-model"),
    ):
        with pytest.raises(error, match=message):
            made(folder, **options)
    assert not (folder / "report.html").exists()
    with pytest.raises(UsageError, match="is an input too"):
        report_map(folder / "map.tif", folder / "map.tif", ReportOptions(overwrite=True))
    made(folder)
    with pytest.raises(UsageError, match="exists already; pass --overwrite"):
        report_map(folder / "map.tif", folder / "report.html")
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_the_warnings_of_the_run_stand_in_the_map_and_in_its_report(folder):
    with rasterio.open(folder / "map.tif", "r+") as file:
        file.update_tags(
            CWSAM_GEO_WARNINGS=json.dumps(["the scene is <strange>"]),
            CWSAM_GEO_VERSION="0.1.0",
            CWSAM_GEO_MODEL=json.dumps({"file": "gone.safetensors", "sha256": "ab12"}),
            CWSAM_GEO_SETTINGS=json.dumps({"units": "db", "tta": False, "bands": {"VV": 1}}),
        )
    page = made(folder)
    assert "the scene is <strange>" in page.texts
    assert "the model's file was not found" in page.text
    assert "Bands VV: 1" in page.text
