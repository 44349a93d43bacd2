"""Maps on a map grid: where they lie, what they keep, and what is refused."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from doubles import legend
from models import random_bundle
from placed_scenes import Swath, place
from products import Tables, control_points, write_product
from rasterio.crs import CRS
from rasterio.transform import AffineTransformer
from rasterio.warp import Resampling, reproject, transform
from rio_cogeo.cogeo import cog_validate
from scene_rasters import write
from scipy import ndimage
from shapely.geometry import Polygon

from cwsam_geo.areas.class_areas import class_areas
from cwsam_geo.batch.predict_scenes import predict_scenes
from cwsam_geo.batch.run import BatchReports
from cwsam_geo.cli.main import main
from cwsam_geo.errors import CwsamGeoError, SceneError, UsageError
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import EvaluateOptions
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.prediction import journal as journals
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.predict_scene import predict_scene
from cwsam_geo.vectorization.vectorize import vectorize

CLASSES = legend(4, first=1)
SHAPE = (260, 340)
DEGREES, UTM33 = CRS.from_epsg(4326), CRS.from_epsg(32633)
TURNED = Affine.translation(5e5, 5.2e6) * Affine.rotation(23) * Affine.scale(10, -10)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    random_bundle(CLASSES).save(path)
    return path


def values(seed=0):
    rng = np.random.default_rng(seed)
    height, width = SHAPE
    level = rng.normal(-12, 4, (height // 20 + 1, width // 20 + 1)).repeat(20, 0).repeat(20, 1)
    vv = level[:height, :width] + rng.normal(0, 1, SHAPE)
    vv[120:150, 60:200] = np.nan
    return np.stack([vv, vv - 7]).astype("f4")


@pytest.fixture
def swath():
    return Swath(SHAPE)


@pytest.fixture
def scene(tmp_path, swath):
    """A scene with control points only."""
    path = write(tmp_path / "scene.tif", values(), ("VV", "VH"), transform=None, crs=None)
    return place(path, swath)


def predict(scene, output, model, listen=lambda _: None, run=None, more=None, **options):
    events = []

    def told(event):
        events.append(event)
        listen(event)

    outputs = PredictOutputs(
        confidence=output.with_name(f"{output.stem}_c.tif"),
        probabilities=output.with_name(f"{output.stem}_p.tif"),
        overwrite=True,
        **more or {},
    )
    settings = PredictOptions(model=model, precision="fp32", **options)
    summary = predict_scene(scene, output, settings, outputs, told, run=run)
    return summary, events


def layers(output):
    """All bands of class, confidence and probabilities, (bands, h, w), and the profile."""
    found = []
    for end in ("", "_c", "_p"):
        with rasterio.open(output.with_name(f"{output.stem}{end}.tif")) as file:
            found.append(file.read())
            profile = file.profile
    return np.concatenate(found), profile


def centres(profile):
    """Longitudes and latitudes of the pixel centres of a map, (h, w)."""
    shape = profile["height"], profile["width"]
    rows, cols = np.indices(shape).reshape(2, -1)
    x, y = AffineTransformer(profile["transform"]).xy(rows, cols)
    lon, lat = transform(profile["crs"], DEGREES, x, y)
    return np.reshape(lon, shape), np.reshape(lat, shape)


@pytest.mark.parametrize("middle", [(15, 47), (-179.99, 66), (40, 89.98), (10, -85)])
def test_each_pixel_of_the_map_is_the_one_that_lies_there(tmp_path, model, middle):
    swath = Swath(SHAPE, middle)
    path = write(tmp_path / "scene.tif", values(), ("VV", "VH"), transform=None, crs=None)
    place(path, swath)
    predict(path, tmp_path / "plain.tif", model)
    plain, _ = layers(tmp_path / "plain.tif")
    predict(path, tmp_path / "map.tif", model, t_srs="auto")
    laid, profile = layers(tmp_path / "map.tif")
    t = profile["transform"]
    assert (t.a, t.e, t.b, t.d) == (10, -10, 0, 0)
    cols, rows = swath.pixels(*centres(profile))
    inside = (cols >= 0) & (rows >= 0) & (cols < SHAPE[1]) & (rows < SHAPE[0])
    # Where a centre lies on the border of two pixels, either is right.
    sure = np.abs(np.stack([cols, rows]) - np.round([cols, rows])).min(0) > 0.1
    assert (laid[:, sure & ~inside] == 255).all()
    picked = plain[:, rows[inside & sure].astype(int), cols[inside & sure].astype(int)]
    assert (laid[:, inside & sure] == picked).all()
    assert (inside & sure).sum() > 0.5 * SHAPE[0] * SHAPE[1]


def test_targets_lie_where_the_control_points_of_a_product_say(tmp_path):
    """Lakes of known places in a Sentinel-1 product; the bundled model finds them."""
    shape = (520, 620)
    rng = np.random.default_rng(5)
    lakes = [(90, 110), (100, 480), (260, 300), (430, 140), (420, 500)]
    rows, cols = np.indices(shape) + 0.5
    water = np.any([np.hypot(rows - r, cols - c) < 35 for r, c in lakes], axis=0)
    tables = {"VV": Tables(shape), "VH": Tables(shape)}
    bands = {}
    for name, (land, lake) in {"VV": (-9.0, -21.0), "VH": (-15.0, -27.0)}.items():
        sigma = 10 ** (np.where(water, lake, land) / 10) * rng.gamma(4.4, 1 / 4.4, shape)
        bands[name] = tables[name].numbers(sigma)
    product = write_product(tmp_path, bands, tables)
    output = tmp_path / "map.tif"
    settings = PredictOptions(device="cpu", t_srs="auto")
    predict_scene(product, output, settings)
    with rasterio.open(output) as file:
        codes, place_of, crs = file.read(1), file.transform, file.crs
        water_code = next(
            e["code"] for e in json.loads(file.tags()["LEGEND"]) if e["name"] == "water"
        )
    assert crs.to_epsg() == 32632
    found, number = ndimage.label(codes == water_code)
    large = [i for i in range(1, number + 1) if (found == i).sum() > 1000]
    middles = np.array(ndimage.center_of_mass(codes == water_code, found, large)) + 0.5
    # The points of the product are an affine function of pixels.
    first, *_ = control_points(shape)
    lon = [first.x + 1e-4 * c + 2e-5 * r for r, c in lakes]
    lat = [first.y - 9e-5 * r + 2e-5 * c for r, c in lakes]
    there = np.column_stack(transform(DEGREES, crs, lon, lat))
    assert len(middles) == len(lakes)
    for x, y in there:
        col, row = ~place_of * (x, y)
        assert np.hypot(*(middles - [row, col]).T).min() < 0.5


def test_it_is_what_gdalwarp_makes_of_the_map(tmp_path, model, scene):
    """Thin-plate splines, nearest neighbour."""
    predict(scene, tmp_path / "plain.tif", model)
    predict(scene, tmp_path / "map.tif", model, t_srs="EPSG:32633")
    laid, profile = layers(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "plain.tif") as file:
        warped = np.full(laid.shape[1:], 255, np.uint8)
        reproject(
            file.read(1), warped, gcps=file.gcps[0], src_crs=file.gcps[1], src_nodata=255,
            dst_transform=profile["transform"], dst_crs=profile["crs"], dst_nodata=255,
            resampling=Resampling.nearest, SRC_METHOD="GCP_TPS", tolerance=0,
        )  # fmt: skip
    assert (warped == laid[0]).mean() > 0.998


@pytest.mark.parametrize(
    ("given", "t_srs", "res"),
    [
        (Affine(10, 0, 5e5, 0, -10, 5.2e6), "EPSG:32634", None),
        (TURNED, "EPSG:4326", 2e-4),
        (TURNED, "auto", 7),
    ],
)
def test_scenes_with_a_geotransform_as_gdalwarp_makes_them(tmp_path, model, given, t_srs, res):
    path = write(tmp_path / "scene.tif", values(), ("VV", "VH"), transform=given, crs=UTM33)
    predict(path, tmp_path / "plain.tif", model)
    predict(path, tmp_path / "map.tif", model, t_srs=t_srs, res=res)
    laid, profile = layers(tmp_path / "map.tif")
    assert res in (None, profile["transform"].a)
    with rasterio.open(tmp_path / "plain.tif") as file:
        warped = np.full(laid.shape[1:], 255, np.uint8)
        reproject(
            file.read(1), warped, src_transform=file.transform, src_crs=file.crs, src_nodata=255,
            dst_transform=profile["transform"], dst_crs=profile["crs"], dst_nodata=255,
            resampling=Resampling.nearest, tolerance=0,
        )  # fmt: skip
    assert (warped == laid[0]).mean() > 0.998


def test_a_map_that_lies_on_its_grid_already_is_as_without(tmp_path, model):
    path = write(tmp_path / "scene.tif", values(), ("VV", "VH"))
    predict(path, tmp_path / "plain.tif", model)
    predict(path, tmp_path / "map.tif", model, t_srs="EPSG:32633")
    (plain, before), (laid, after) = (layers(tmp_path / f"{n}.tif") for n in ("plain", "map"))
    assert (plain == laid).all()
    assert before["transform"] == after["transform"]


def test_the_map_has_all_that_another_map_has(tmp_path, model, scene):
    output = tmp_path / "map.tif"
    said = predict(scene, output, model, t_srs="auto")[1]
    for end, bands in (("", 1), ("_c", 1), ("_p", 4)):
        path = output.with_name(f"map{end}.tif")
        assert cog_validate(path) == (True, [], [])
        with rasterio.open(path) as file:
            assert (file.count, file.nodata, file.crs) == (bands, 255, UTM33)
            assert not file.gcps[0]
            tags = file.tags()
        position = json.loads(tags["CWSAM_GEO_GEOCODING"])
        assert position["control_points"] == 165
        assert position["crs"] == "EPSG:32633"
        assert 0 < position["left_out"]["rms_pixels"] < 1
        assert position["left_out"]["rms_m"] == pytest.approx(
            10 * position["left_out"]["rms_pixels"], rel=0.1
        )
        assert json.loads(tags["LEGEND"]) == CLASSES.to_list()
    with rasterio.open(output) as file:
        assert file.colormap(1)[1][:3] == tuple(bytes.fromhex(CLASSES.entries[0].color[1:]))
    assert (tmp_path / "map.tif.aux.xml").is_file()
    texts = [e["text"] for e in said if e["event"] == "decision"]
    assert any("EPSG:32633" in t and "px of 10 m" in t for t in texts)
    assert any("165 control points; a point that is left out is off by" in t for t in texts)
    assert not [e for e in said if e["event"] == "warning"]
    # Nothing else is left.
    assert {p.name for p in tmp_path.iterdir()} == {
        "scene.tif", "map.tif", "map.tif.aux.xml", "map.qml", "map_c.tif", "map_p.tif",
    }  # fmt: skip


def test_counts_and_events_are_those_of_the_map(tmp_path, model, scene):
    summary, events = predict(scene, tmp_path / "map.tif", model, t_srs="auto")
    with rasterio.open(tmp_path / "map.tif") as file:
        codes = file.read(1)
    numbers = np.bincount(codes.ravel(), minlength=256)
    assert summary.pixels == {i: n for i, n in enumerate(numbers.tolist()) if n}
    assert sum(events[-1]["pixels"].values()) == codes.size
    laid = [e for e in events if e["event"] == "geocoding"]
    assert laid[-1]["pixels"] == laid[-1]["total"] == codes.size


def test_relief_is_told(tmp_path, model, scene, swath):
    with rasterio.open(scene, "r+") as dataset:
        points = swath.points()
        for i, point in enumerate(points):
            point.z = 400.0 * (i % 3)
        dataset.gcps = points, DEGREES
    said = predict(scene, tmp_path / "map.tif", model, t_srs="auto")[1]
    (text,) = [e["text"] for e in said if e["event"] == "warning"]
    assert "heights from 0 to 800 m" in text
    assert "terrain-corrected" in text
    with rasterio.open(tmp_path / "map.tif") as file:
        assert json.loads(file.tags()["CWSAM_GEO_WARNINGS"]) == [text]


def test_the_map_of_an_area_is_that_part_of_the_whole_map(tmp_path, model, scene, swath):
    edge = [(70, 60), (300, 90), (250, 220), (110, 180)]
    lon, lat = swath.degrees(*np.array(edge, float).T)
    area = tmp_path / "area.gpkg"
    geopandas.GeoDataFrame(geometry=[Polygon(zip(lon, lat, strict=True))], crs=4326).to_file(area)
    predict(scene, tmp_path / "map.tif", model, t_srs="auto")
    predict(scene, tmp_path / "part.tif", model, t_srs="auto", aoi=area)
    (whole, profile), (part, own) = (layers(tmp_path / f"{n}.tif") for n in ("map", "part"))
    col, row = ~profile["transform"] * (own["transform"].c, own["transform"].f)
    assert abs(col - round(col)) < 1e-6 > abs(row - round(row))
    col, row = round(col), round(row)
    same = whole[:, row : row + part.shape[1], col : col + part.shape[2]]
    mapped = part[0] != 255
    assert 0.2 * mapped.size < mapped.sum() < 0.9 * mapped.size
    assert (part[:, mapped] == same[:, mapped]).all()
    # Everything that lies in the polygon is mapped, and nothing else.
    frame = geopandas.read_file(area).to_crs(32633)
    from rasterio.features import geometry_mask

    inside = geometry_mask(frame.geometry, part.shape[1:], own["transform"], invert=True)
    with_data = inside & (same[0] != 255)
    assert (with_data != mapped).mean() < 0.03


def test_a_run_that_stopped_goes_on(tmp_path, model, scene, monkeypatch):
    monkeypatch.setattr(journals, "_SECONDS", 0.0)
    monkeypatch.setattr(journals, "_PAUSE", 1e-9)
    predict(scene, tmp_path / "whole.tif", model, t_srs="auto")

    class StoppedError(Exception):
        pass

    def stop(event):
        if event["event"] == "geocoding":
            raise StoppedError

    output = tmp_path / "map.tif"
    with pytest.raises(StoppedError):
        predict(scene, output, model, stop, t_srs="auto")
    names = {p.name for p in tmp_path.iterdir()}
    # No output, and no rasters in the geometry of the scene; only what the run has finished.
    endings = (".tif", ".tif.aux.xml", ".qml", "_c.tif", "_p.tif")
    assert names == {"scene.tif", ".map.tif.parts", *(f"whole{end}" for end in endings)}
    with pytest.raises(UsageError, match="--resume"):
        predict(scene, output, model, t_srs="auto")
    with pytest.raises(UsageError, match=r"--res was none, now 20"):
        predict(scene, output, model, run=PredictRun(resume=True), t_srs="auto", res=20)
    said = predict(scene, output, model, run=PredictRun(resume=True), t_srs="auto")[1]
    assert any("100 % of the map is finished" in e.get("text", "") for e in said)
    (whole, profile), (resumed, own) = (layers(tmp_path / f"{n}.tif") for n in ("whole", "map"))
    assert (whole == resumed).all()
    assert profile == own
    assert not (tmp_path / ".map.tif.parts").exists()


@pytest.mark.long
def test_processes_make_the_same_map(tmp_path, model, scene):
    predict(scene, tmp_path / "one.tif", model, t_srs="auto")
    predict(scene, tmp_path / "two.tif", model, run=PredictRun(devices="cpu:2"), t_srs="auto")
    (one, profile), (two, own) = (layers(tmp_path / f"{n}.tif") for n in ("one", "two"))
    assert (one == two).mean() > 0.9999  # other threads round otherwise
    assert profile == own


def test_polygons_areas_and_accuracy_are_those_of_the_scenes_geometry(tmp_path, model, scene):
    """Vectorize and evaluate bend maps with control points; both ways lead to the same place."""
    predict(scene, tmp_path / "plain.tif", model)
    predict(
        scene, tmp_path / "map.tif", model, t_srs="auto", more={"vectors": tmp_path / "map.gpkg"}
    )
    vectorize(tmp_path / "plain.tif", tmp_path / "plain.gpkg")
    areas = [
        {c.name: c.km2 for c in class_areas(tmp_path / f"{n}.tif").classes}
        for n in ("plain", "map")
    ]
    frames = [geopandas.read_file(tmp_path / f"{n}.gpkg", layer=n) for n in ("plain", "map")]
    by_polygons = [f.groupby("class_name").area_m2.sum() / 1e6 for f in frames]
    for name, area in areas[0].items():
        assert areas[1][name] == pytest.approx(area, rel=0.02)
        for table in by_polygons:
            assert table[name] == pytest.approx(area, rel=0.02)
    # The polygons of one are the reference of the other, in both directions.
    same = evaluate(
        tmp_path / "map.tif", tmp_path / "plain.gpkg",
        EvaluateOptions(layer=VectorLayer(column="class_id")),
    )  # fmt: skip
    assert same.scores.overall_accuracy > 0.99
    assert same.coverage["compared"] > 0.99 * (layers(tmp_path / "map.tif")[0][0] != 255).sum()
    assert evaluate(tmp_path / "map.tif", tmp_path / "plain.tif").scores.overall_accuracy > 0.999
    # Each pixel of the map is a pixel of the scene, but not the other way round.
    assert evaluate(tmp_path / "plain.tif", tmp_path / "map.tif").scores.overall_accuracy > 0.8


def test_coarse_pixels_take_single_pixels_of_the_scene(tmp_path, model, scene, swath, monkeypatch):
    monkeypatch.setattr("cwsam_geo.prediction.map_warp._MOST_READ", 500)
    predict(scene, tmp_path / "plain.tif", model)
    plain, _ = layers(tmp_path / "plain.tif")
    predict(scene, tmp_path / "map.tif", model, t_srs="auto", res=130)
    laid, profile = layers(tmp_path / "map.tif")
    cols, rows = swath.pixels(*centres(profile))
    inside = (cols >= 0) & (rows >= 0) & (cols < SHAPE[1]) & (rows < SHAPE[0])
    picked = plain[:, rows[inside].astype(int), cols[inside].astype(int)]
    assert (laid[:, inside] == picked).all(axis=0).mean() > 0.98
    assert (laid[0] != 255).sum() > 300


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 5)])
def test_scenes_of_any_shape(tmp_path, model, shape):
    path = write(tmp_path / "scene.tif", values()[:, 20:, 20:][:, : shape[0], : shape[1]],
                 ("VV", "VH"), transform=TURNED, crs=UTM33)  # fmt: skip
    predict(path, tmp_path / "map.tif", model, t_srs="auto")
    laid, _ = layers(tmp_path / "map.tif")
    number = shape[0] * shape[1]
    assert 0.5 * number - 1 < (laid[0] != 255).sum() <= 1.5 * number + 1


def test_a_scene_without_data(tmp_path, model, swath):
    blank = np.full((2, *SHAPE), np.nan, "f4")
    path = write(tmp_path / "scene.tif", blank, ("VV", "VH"), transform=None, crs=None)
    predict(place(path, swath), tmp_path / "map.tif", model, t_srs="auto", units="db")
    assert (layers(tmp_path / "map.tif")[0] == 255).all()


def test_what_cannot_be_laid_on_a_map_is_refused_before_anything_is_read(tmp_path, model, scene):
    bare = write(tmp_path / "bare.tif", values(), ("VV", "VH"), transform=None, crs=None)
    unknown = write(tmp_path / "unknown.tif", values(), ("VV", "VH"), crs=None)
    for path, error, said, options in (
        (bare, SceneError, "bare.tif: has no georeferencing", {}),
        (unknown, SceneError, "unknown.tif: has no CRS", {}),
        (scene, UsageError, "--t-srs EPSG:1: is no CRS", {"t_srs": "EPSG:1"}),
        (scene, UsageError, "--res 1e-05: pixels of .*scene.tif", {"res": 1e-5}),
    ):
        with pytest.raises(error, match=said):
            predict(path, tmp_path / "map.tif", model, **({"t_srs": "auto"} | options))
    with pytest.raises(UsageError, match="--res needs --t-srs"):
        predict(scene, tmp_path / "map.tif", model, res=10)
    with pytest.raises(UsageError, match="above 0"):
        predict(scene, tmp_path / "map.tif", model, t_srs="auto", res=-1)
    computed = []
    with pytest.raises(CwsamGeoError, match="NOSUCH"):
        predict(
            scene, tmp_path / "map.tif", model, computed.append, t_srs="auto",
            more={"creation_options": {"NOSUCH": "1"}},
        )  # fmt: skip
    assert not [e for e in computed if e["event"] == "progress"]
    assert not list(tmp_path.glob("*map*"))
    assert not list(tmp_path.glob(".*"))


def test_the_command_line_says_where_the_map_lies(capfd, tmp_path, model, scene):
    output = tmp_path / "map.tif"
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in ("predict", scene, "-o", output, "-m", model, "--t-srs", "auto",
                               "--res", "20")])  # fmt: skip
    err = capfd.readouterr().err
    assert not stopped.value.code, err
    assert "map grid: EPSG:32633" in err
    assert "px of 20 m" in err
    assert "position: thin-plate splines through 165 control points" in err
    with rasterio.open(output) as file:
        assert file.res == (20, 20)
    for arguments, said in (
        (("info", scene), "predict --t-srs auto: map grid: EPSG:32633"),
        (("info", output), "by thin-plate splines, nearest neighbour"),
    ):
        with pytest.raises(SystemExit):
            main([str(a) for a in arguments])
        assert said in capfd.readouterr().out


def test_a_batch_lays_its_maps_on_the_grid_and_knows_them_again(tmp_path, model, scene):
    settings = PredictOptions(model=model, device="cpu", t_srs="auto")
    near = write(tmp_path / "near.tif", values(1), ("VV", "VH"), transform=None, crs=None)
    place(near, Swath(SHAPE, (15.02, 47.01)))
    reports = BatchReports(mosaic=tmp_path / "mosaic.tif")
    first = predict_scenes(
        [str(scene), str(near)], f"{tmp_path}/maps/{{stem}}.tif", settings, reports=reports
    )
    assert [s.status for s in first.scenes] == ["mapped", "mapped"]
    # Their pixels coincide: the mosaic moves none.
    with rasterio.open(tmp_path / "mosaic.tif") as file:
        assert (file.crs, file.res) == (UTM33, (10, 10))
    again = predict_scenes([str(scene)], f"{tmp_path}/maps/{{stem}}.tif", settings)
    assert [s.status for s in again.scenes] == ["finished"]
    other = PredictOptions(model=model, device="cpu", t_srs="EPSG:3857")
    refused = predict_scenes([str(scene)], f"{tmp_path}/maps/{{stem}}.tif", other)
    assert [s.status for s in refused.scenes] == ["failed"]
    assert "--t-srs was auto, now EPSG:3857" in refused.scenes[0].error
