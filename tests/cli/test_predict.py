"""The predict command, on files, as its user would run it."""

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import weakref

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from doubles import UTM, legend
from models import gray_bundle, random_bundle
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import MultiPolygon, Polygon, box

from cwsam_geo.cli import options as options_cli
from cwsam_geo.cli.main import main
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.errors import UsageError
from cwsam_geo.model.store import load_full
from cwsam_geo.prediction.blend import BLENDS
from cwsam_geo.prediction.options import DEFAULT_MODEL, PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import predict_scene
from cwsam_geo.scene.reading import BORDER_NOISE
from cwsam_geo.scene.units import UNITS_OPTIONS

CLASSES = legend(5, first=3)
TRANSFORM = Affine(10, 0, 5e5, 0, -10, 6e6)
ROTATED = Affine(-0.028569629858371578, 2.4998367499198335, 593124.119663189,
                 2.4998367499198335, 0.028569629858371578, 5749208.249577077)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    random_bundle(CLASSES).save(folder / "s1.safetensors")
    gray_bundle(legend(3), trained=False).save(folder / "gray.safetensors")
    return folder


def scene_values(height=150, width=210, seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(
        np.repeat(rng.normal(-11, 4, (height // 10 + 1, width // 10 + 1)), 10, 0), 10, 1
    )
    vv = level[:height, :width] + rng.normal(0, 1, (height, width))
    return np.stack([vv, vv - 7 + rng.normal(0, 1, (height, width))]).astype(np.float32)


def write_scene(path, values, transform=TRANSFORM, crs=UTM, names=("VV", "VH"), **options):
    values = np.atleast_3d(values.T).T
    profile = {"driver": "GTiff", "count": len(values), "dtype": values.dtype,
               "height": values.shape[1], "width": values.shape[2], "crs": crs}  # fmt: skip
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(path, "w", **(profile | options)) as file:
        file.write(values)
        for i, name in enumerate(names[: len(values)], 1):
            file.set_band_description(i, name)
    return path


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene.tif", scene_values())


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return stopped.value.code or 0, out, err


def predict(capfd, scene, output, models, *more, model="s1"):
    scenes = scene if isinstance(scene, list) else [scene]
    return run(
        capfd, "predict", *scenes, "-o", output, "-m", models / f"{model}.safetensors", *more
    )


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_the_map_is_a_cog_on_the_scenes_grid_with_its_legend(capfd, tmp_path, models):
    values = scene_values(1100, 700)
    values[:, 300:400, 20:50] = np.nan
    values[1, 0, 0] = np.nan  # one band is enough to be nodata
    scene = write_scene(tmp_path / "scene.tif", values, ROTATED)
    output = tmp_path / "map.tif"
    code, out, err = predict(capfd, scene, output, models)
    assert code == 0, err
    assert out == ""
    assert "units: dB" in err
    assert "Warning" not in err
    valid, errors, warnings = cog_validate(output)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(output) as file:
        codes = file.read(1)
        assert tuple(file.transform) == tuple(ROTATED)
        assert file.crs == UTM
        assert file.nodata == 255
        assert file.dtypes == ("uint8",)
        assert file.overviews(1)
        tags = file.tags()
        assert json.loads(tags["LEGEND"]) == CLASSES.to_list()
        assert tags["CWSAM_GEO_INPUT"].endswith("scene.tif")
        assert len(json.loads(tags["CWSAM_GEO_MODEL"])["sha256"]) == 64
        assert json.loads(tags["CWSAM_GEO_SETTINGS"])["units"] == "db"
        assert file.colormap(1)[4][:3] == CLASSES.entries[1].rgb
    np.testing.assert_array_equal(codes == 255, np.isnan(values).any(0))
    assert set(np.unique(codes)) <= {*CLASSES.codes.tolist(), 255}


# In bfloat16 a batch of another size may be multiplied in another order: ties then fall otherwise.
@pytest.mark.parametrize(("precision", "agreement"), [("fp32", 0.9999), ("bf16", 0.999)])
def test_the_result_does_not_depend_on_batches_or_storage(
    capfd, tmp_path, models, scene, precision, agreement
):
    exact = ("--precision", precision)
    predict(capfd, scene, tmp_path / "a.tif", models, "--batch-size", "1", *exact)
    tiled = write_scene(tmp_path / "tiled.tif", scene_values(), tiled=True, blockxsize=64,
                        blockysize=32, compress="deflate", interleave="pixel")  # fmt: skip
    options = ("--batch-size", "3", "--of", "GTiff", *exact)
    predict(capfd, tiled, tmp_path / "b.tif", models, *options)
    assert (read(tmp_path / "a.tif") == read(tmp_path / "b.tif")).mean() > agreement


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 7), (64, 64), (65, 63)])
def test_scenes_of_any_shape(capfd, tmp_path, models, shape):
    scene = write_scene(tmp_path / "scene.tif", scene_values(*shape))
    code, _, err = predict(capfd, scene, tmp_path / "map.tif", models, "--overlap", "32")
    assert code == 0, err
    assert read(tmp_path / "map.tif").shape == shape


def test_units_do_not_change_the_map(capfd, tmp_path, models, scene):
    exact = ("--precision", "fp32")
    predict(capfd, scene, tmp_path / "db.tif", models, *exact)
    power = write_scene(tmp_path / "p.tif", 10 ** (scene_values() / 10))
    amplitude = write_scene(tmp_path / "a.tif", 10 ** (scene_values() / 20))
    code, _, err = predict(capfd, power, tmp_path / "power.tif", models, *exact)
    assert code == 0, err
    assert "units: power" in err
    options = ("--units", "amplitude", *exact)
    predict(capfd, amplitude, tmp_path / "amplitude.tif", models, *options)
    # Complex samples are amplitudes with a phase: either word lets their magnitudes pass.
    phase = np.exp(1j * np.random.default_rng(0).uniform(0, 2 * np.pi, scene_values().shape))
    slc = write_scene(tmp_path / "c.tif", (10 ** (scene_values() / 20) * phase).astype("complex64"))
    for units, said in (("amplitude", "amplitude, squared to power"), ("power", "power")):
        options = ("--units", units, "--overwrite", *exact)
        code, _, err = predict(capfd, slc, tmp_path / "complex.tif", models, *options)
        assert code == 0, err
        assert f"of complex values as --units says: {said}\n" in err
        assert (read(tmp_path / "db.tif") == read(tmp_path / "complex.tif")).mean() > 0.999
    for other in ("power.tif", "amplitude.tif"):
        assert (read(tmp_path / "db.tif") == read(tmp_path / other)).mean() > 0.999


def test_single_band_files_are_the_bands_of_one_scene(capfd, tmp_path, models, scene):
    vv, vh = scene_values()
    nudged = Affine(10, 0, 5e5 + 1e-9, 0, -10, 6e6)
    files = [
        write_scene(tmp_path / "vh.tif", vh, names=()),
        write_scene(tmp_path / "vv.tif", vv, nudged, names=()),
    ]
    predict(capfd, scene, tmp_path / "one.tif", models)
    code, _, err = predict(capfd, files, tmp_path / "two.tif", models)
    assert code == 0, err
    np.testing.assert_array_equal(read(tmp_path / "one.tif"), read(tmp_path / "two.tif"))


def test_confidence_and_probabilities(capfd, tmp_path, models, scene):
    code, _, err = predict(
        capfd, scene, tmp_path / "m.tif", models,
        "--confidence", tmp_path / "c.tif", "--probabilities", tmp_path / "p.tif", "--tta",
    )  # fmt: skip
    assert code == 0, err
    with rasterio.open(tmp_path / "p.tif") as file:
        shares = file.read().astype(int)
        assert file.descriptions == tuple(f"{n} (%)" for n in CLASSES.names)
        assert file.nodata == 255
    confidence = read(tmp_path / "c.tif")
    np.testing.assert_array_equal(confidence, shares.max(0))
    assert np.abs(shares.sum(0) - 100).max() <= len(CLASSES)
    codes = CLASSES.codes[shares.argmax(0)]
    clear = np.sort(shares, 0)[-1] > np.sort(shares, 0)[-2]
    np.testing.assert_array_equal(read(tmp_path / "m.tif")[clear], codes[clear])


def test_bounds_cut_a_part_that_lies_where_it_was(capfd, tmp_path, models, scene):
    west, north = TRANSFORM * (30, 20)
    east, south = TRANSFORM * (110, 90)
    bounds = [west + 3, south + 3, east - 3, north - 3]  # pixels that are touched belong to it
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--bounds", *bounds)
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert (file.height, file.width) == (70, 80)
        assert tuple(file.transform)[:6] == (10, 0, west, 0, -10, north)
        assert (file.read(1) != 255).all()


@pytest.mark.parametrize("rows_and_cols", [(0, 0, 30, 30), (120, 150, 30, 60), (70, 40, 5, 170)])
def test_the_map_of_bounds_and_of_an_area_is_that_part_of_the_whole_map(
    capfd, tmp_path, models, scene, rows_and_cols
):
    row, col, height, width = rows_and_cols
    (west, north), (east, south) = TRANSFORM * (col, row), TRANSFORM * (col + width, row + height)
    triangle = Polygon([(west, north), (east, north), (east, south)])
    geopandas.GeoDataFrame(geometry=[triangle], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    more = {
        "whole": [],
        "bounds": ["--bounds", west, south, east, north],
        "area": ["--aoi", tmp_path / "aoi.gpkg"],
    }
    maps = {}
    for name, options in more.items():
        for layer in ("confidence", "probabilities"):
            options = [*options, f"--{layer}", tmp_path / f"{name}_{layer}.tif"]
        code, _, err = predict(capfd, scene, tmp_path / f"{name}.tif", models, *options)
        assert code == 0, err
        files = sorted(tmp_path.glob(f"{name}*.tif"))
        maps[name] = [rasterio.open(f).read() for f in files]
    inside = ~rasterio.features.geometry_mask(
        [triangle], (height, width), Affine.translation(west, north) * Affine.scale(10, -10)
    )
    for whole, part, area in zip(*maps.values(), strict=True):
        expected = whole[:, row : row + height, col : col + width]
        np.testing.assert_array_equal(part, expected)
        np.testing.assert_array_equal(area, np.where(inside, expected, 255))


def test_a_part_is_stretched_as_the_whole_scene_is(capfd, tmp_path, models):
    """A model of 8-bit amplitude: a dark corner alone would be stretched further."""
    values = np.abs(scene_values()[:1]) * np.linspace(1, 400, 210)[None, None]
    scene = write_scene(tmp_path / "s.tif", values.astype(np.uint16), names=("VV",))
    west, north = TRANSFORM * (0, 0)
    bounds = ["--bounds", west, north - 700, west + 500, north]
    for name, more in (("whole", []), ("part", bounds)):
        output = tmp_path / f"{name}.tif"
        code, _, err = predict(capfd, scene, output, models, *more, model="gray")
        assert code == 0, err
    np.testing.assert_array_equal(
        read(tmp_path / "part.tif"), read(tmp_path / "whole.tif")[:70, :50]
    )


@pytest.mark.parametrize("crs", [UTM, CRS.from_epsg(4326)])
def test_an_area_of_interest_of_any_crs_leaves_the_rest_nodata(capfd, tmp_path, models, scene, crs):
    triangle = Polygon([TRANSFORM * p for p in [(20, 20), (120, 20), (20, 120)]])
    aoi = geopandas.GeoDataFrame(geometry=[triangle], crs=UTM).to_crs(crs)
    aoi.to_file(tmp_path / "aoi.gpkg")
    # QGIS saves styles so; a table is no area.
    style = pd.DataFrame({"styleQML": ["<qgis/>"]})
    pyogrio.write_dataframe(style, tmp_path / "aoi.gpkg", layer="layer_styles")
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", tmp_path / "aoi.gpkg")
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        inside = ~rasterio.features.geometry_mask([triangle], file.shape, file.transform)
        mapped = file.read(1) != 255
        assert file.shape in {(100, 100), (101, 101), (101, 100), (100, 101)}
    assert (mapped != inside).mean() < 0.01


SOUTH_UP = Affine(10, 0, 5e5, 0, 10, 6e6)


@pytest.mark.parametrize("transform", [TRANSFORM, SOUTH_UP, ROTATED])
def test_an_area_covers_the_pixels_whose_centres_it_holds(capfd, tmp_path, models, transform):
    scene = write_scene(tmp_path / "s.tif", scene_values(), transform)
    corners = [
        [(20.3, 30.2), (90.1, 40.7), (60.4, 109.9)],
        [(120.3, 50.2), (139.7, 50.2), (139.7, 70.4), (120.3, 70.4)],
    ]
    parts = [Polygon([transform * p for p in c]) for c in corners]
    aoi = geopandas.GeoDataFrame(geometry=[MultiPolygon(parts)], crs=UTM)
    aoi.to_file(tmp_path / "aoi.gpkg")
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", tmp_path / "aoi.gpkg")
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.shape == (80, 120)
        assert file.transform * (0, 0) == pytest.approx(transform * (20, 30))
        inside = ~rasterio.features.geometry_mask(parts, file.shape, file.transform)
        np.testing.assert_array_equal(file.read(1) != 255, inside)


def test_an_area_larger_than_the_world_of_the_scenes_crs(capfd, tmp_path, models, scene):
    aoi = geopandas.GeoDataFrame(geometry=[box(-180, -90, 180, 90)], crs="EPSG:4326")
    aoi.to_file(tmp_path / "aoi.gpkg")
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", tmp_path / "aoi.gpkg")
    assert code == 0, err
    assert predict(capfd, scene, tmp_path / "all.tif", models)[0] == 0
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), read(tmp_path / "all.tif"))


DEGREE = 1e-4
FIJI = (179.995, 9.985, 180.01, 9.995)
"""Where the areas across the antimeridian lie; their parts meet at 180 degrees."""


def across(kind):
    """An area across the antimeridian as files have it: split (RFC 7946), beyond 180, projected."""
    west, south, east, north = FIJI
    whole = box(*FIJI)
    split = MultiPolygon([box(west, south, 180, north), box(-180, south, east - 360, north)])
    degrees = {"split": split, "east": whole, "west": box(west - 360, south, east - 360, north)}
    if kind in degrees:
        return geopandas.GeoDataFrame(geometry=[degrees[kind]], crs="EPSG:4326")
    if kind == "two features":
        return geopandas.GeoDataFrame(geometry=list(split.geoms), crs="EPSG:4326")
    if kind == "mercator":
        return geopandas.GeoDataFrame(geometry=[split], crs="EPSG:4326").to_crs(3857)
    if kind == "another datum":
        return geopandas.GeoDataFrame(geometry=[split], crs="EPSG:4322")
    # The corners alone would not follow the parallels.
    return geopandas.GeoDataFrame(geometry=[whole.segmentize(1e-3)], crs="EPSG:4326").to_crs(32660)


AREAS = ["split", "two features", "east", "west", "mercator", "another datum", "utm"]


@pytest.mark.parametrize("kind", AREAS)
@pytest.mark.parametrize("edge", [179.99, -180.01])
def test_an_area_across_180_degrees_counts_wherever_the_scene_puts_them(
    capfd, tmp_path, models, kind, edge
):
    transform = Affine(DEGREE, 0, edge, 0, -DEGREE, 10)
    scene = write_scene(tmp_path / "s.tif", scene_values(200, 230), transform, "EPSG:4326")
    across(kind).to_file(tmp_path / "aoi.gpkg")
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", tmp_path / "aoi.gpkg")
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert abs(file.width - 150) <= 3
        assert abs(file.height - 100) <= 1
        shift = edge - 179.99
        area = box(FIJI[0] + shift, FIJI[1], FIJI[2] + shift, FIJI[3])
        inside = ~rasterio.features.geometry_mask([area], file.shape, file.transform)
        mapped = file.read(1) != 255
    if kind == "another datum":
        assert mapped.mean() > 0.95
    else:
        assert (mapped != inside).sum() <= 300
    assert mapped.sum() == pytest.approx(15000, rel=0.03)


@pytest.mark.parametrize("west", [-180, 0])
def test_an_area_of_the_whole_world_holds_180_degrees(capfd, tmp_path, models, west):
    transform = Affine(DEGREE, 0, 179.99, 0, -DEGREE, 10)
    scene = write_scene(tmp_path / "s.tif", scene_values(), transform, "EPSG:4326")
    aoi = geopandas.GeoDataFrame(geometry=[box(west, -90, west + 360, 90)], crs="EPSG:4326")
    aoi.to_file(tmp_path / "aoi.geojson")
    output = tmp_path / "m.tif"
    code, _, err = predict(capfd, scene, output, models, "--aoi", tmp_path / "aoi.geojson")
    assert code == 0, err
    assert (read(output) != 255).all()
    assert read(output).shape == (150, 210)


@pytest.mark.parametrize("zone", [32601, 32660])
def test_an_area_beyond_180_degrees_on_a_scene_of_metres(capfd, tmp_path, models, zone):
    east, north = geopandas.GeoSeries([box(*FIJI)], crs="EPSG:4326").to_crs(zone).total_bounds[:2]
    transform = Affine(10, 0, east, 0, -10, north + 1500)
    scene = write_scene(tmp_path / "s.tif", scene_values(), transform, CRS.from_epsg(zone))
    maps = []
    for kind in ("split", "east", "west"):
        across(kind).to_file(tmp_path / f"{kind}.gpkg")
        output = tmp_path / f"{kind}.tif"
        code, _, err = predict(capfd, scene, output, models, "--aoi", tmp_path / f"{kind}.gpkg")
        assert code == 0, err
        maps.append(read(output) != 255)
    assert maps[0].sum() > 10_000
    for other in maps[1:]:
        assert other.shape == maps[0].shape
        assert (other != maps[0]).sum() <= 9  # parts meet within a pixel


def test_a_scene_of_control_points_can_be_cut_by_an_area(capfd, tmp_path, models):
    points = [GroundControlPoint(row=r, col=c, x=15 + c / 1e4, y=54 - r / 1e4)
              for r in (0, 75, 150) for c in (0, 105, 210)]  # fmt: skip
    scene = write_scene(tmp_path / "s.tif", scene_values(), None, None)
    with rasterio.open(scene, "r+") as file:
        file.gcps = (points, CRS.from_epsg(4326))
    # Not on the edges of pixels: splines are exact at the points only.
    area = box(15.00201, 53.99001, 15.00999, 53.99799)
    aoi = geopandas.GeoDataFrame(geometry=[area], crs="EPSG:4326")
    aoi.to_file(tmp_path / "aoi.gpkg")
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", tmp_path / "aoi.gpkg")
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.shape == (80, 80)
        assert (file.gcps[0][0].row, file.gcps[0][0].col) == (-20, -20)
        assert (file.read(1) != 255).all()


def test_areas_that_cannot_be_used_are_refused(capfd, tmp_path, models, scene):
    table, layers, empty = (tmp_path / n for n in ("table.csv", "layers.gpkg", "empty.geojson"))
    table.write_text("a,b\n1,2\n")
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    for i in range(2):
        frame = geopandas.GeoDataFrame(geometry=[box(5e5, 5.9e6, 6e5, 6e6)], crs=UTM)
        frame.to_file(layers, layer=f"layer {i}")
    for aoi, said in ((table, "table"), (layers, "layer 0, layer 1"), (empty, "no polygons")):
        code, _, err = predict(capfd, scene, tmp_path / "m.tif", models, "--aoi", aoi)
        assert code == 2, err
        assert aoi.name in one_line(err)
        assert said in one_line(err)


def test_a_scene_of_control_points_keeps_them(capfd, tmp_path, models):
    points = [GroundControlPoint(row=r, col=c, x=c / 100, y=-r / 100, z=5.5)
              for r in (0, 149) for c in (0, 209)]  # fmt: skip
    scene = write_scene(tmp_path / "s.tif", scene_values(), None, None)
    with rasterio.open(scene, "r+") as file:
        file.gcps = (points, CRS.from_epsg(4326))
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models)
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        kept, crs = file.gcps
        assert [(p.row, p.col, p.x, p.y) for p in kept] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]
        assert crs == CRS.from_epsg(4326)


def test_a_transform_counts_more_than_control_points_beside_it(capfd, tmp_path, models, scene):
    corners = "".join(
        f'<GCP Id="{i}" Pixel="{x}" Line="{y}" X="{15 + x / 1e3}" Y="{54 - y / 1e3}"/>'
        for i, (x, y) in enumerate([(0, 0), (210, 0), (0, 150)])
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{b}"><Description>{name}</Description>'
        f"<SimpleSource><SourceFilename>{scene}</SourceFilename><SourceBand>{b}</SourceBand>"
        "</SimpleSource></VRTRasterBand>"
        for b, name in enumerate(["VV", "VH"], 1)
    )
    both = tmp_path / "both.vrt"
    both.write_text(
        '<VRTDataset rasterXSize="210" rasterYSize="150"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>5e5, 10, 0, 6e6, 0, -10</GeoTransform>"
        f'<GCPList Projection="EPSG:4326">{corners}</GCPList>{bands}</VRTDataset>'
    )
    code, _, err = predict(capfd, both, tmp_path / "m.tif", models)
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.transform == TRANSFORM
        assert file.crs == UTM


def test_a_scene_of_rational_polynomials_keeps_them(capfd, tmp_path, models):
    ones = [1.0] + 19 * [0.0]
    rpcs = RPC(
        height_off=100.5, height_scale=500, lat_off=45, lat_scale=0.1, long_off=10, long_scale=0.1,
        line_off=75, line_scale=75, samp_off=105, samp_scale=105, line_num_coeff=ones[::-1],
        line_den_coeff=ones, samp_num_coeff=ones[::-1], samp_den_coeff=ones,
    )  # fmt: skip
    scene = write_scene(tmp_path / "s.tif", scene_values(), None, None, rpcs=rpcs)
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models)
    assert code == 0, err
    with rasterio.open(scene) as given, rasterio.open(tmp_path / "m.tif") as file:
        assert given.rpcs is not None
        assert file.rpcs == given.rpcs


def test_a_scene_without_any_data_gives_an_empty_map_and_says_so(capfd, tmp_path, models):
    scene = write_scene(tmp_path / "s.tif", np.full((2, 70, 80), np.nan, np.float32))
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models)
    assert code == 0, err
    assert "Warning" in err
    assert (read(tmp_path / "m.tif") == 255).all()


def test_fill_that_no_file_declares_is_refused_until_it_is_named(capfd, tmp_path, models):
    values = scene_values()
    values[:, :, :63] = -9999
    scene, output = write_scene(tmp_path / "s.tif", values), tmp_path / "m.tif"
    code, _, err = predict(capfd, scene, output, models)
    assert code == 1
    assert f"{scene}: 30 % of the pixels hold exactly -9999" in one_line(err)
    assert "--nodata -9999" in err
    assert not output.exists()
    code, _, err = predict(capfd, scene, output, models, "--nodata", -9999)
    assert code == 0, err
    np.testing.assert_array_equal(read(output) == 255, values[0] == -9999)
    declared = write_scene(tmp_path / "d.tif", values, nodata=-9999)
    code, _, err = predict(capfd, declared, output, models, "--nodata", 0, "--overwrite")
    assert code == 0, err
    assert "--nodata 0 replaces the declared nodata value -9999" in err


def test_scale_and_offset_make_the_map_of_the_true_values(capfd, tmp_path, models, scene):
    truth, output = tmp_path / "truth.tif", tmp_path / "m.tif"
    code, _, err = predict(capfd, scene, truth, models)
    assert code == 0, err
    # Powers of two, so that the values are the same to the last bit.
    stored = write_scene(tmp_path / "s.tif", (scene_values() + 64) * 16)
    code, _, err = predict(
        capfd, stored, output, models, "--scale", 1 / 16, "--offset", -64, "--units", "db"
    )
    assert code == 0, err
    assert (read(output) == read(truth)).mean() > 0.999
    with rasterio.open(output) as file:
        made_with = json.loads(file.tags()["CWSAM_GEO_SETTINGS"])
    assert (made_with["scale"], made_with["offset"]) == (1 / 16, -64)
    hundred = write_scene(tmp_path / "h.tif", np.rint(scene_values() * 100).astype(np.int16))
    code, _, err = predict(capfd, hundred, tmp_path / "h_map.tif", models, "--units", "db")
    assert code == 1
    assert "dB times 100" in one_line(err)
    assert "--scale 0.01" in err


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("transform", "crs", "said"),
    [
        (None, None, "the scene has no georeferencing"),
        (None, UTM, "the scene has no georeferencing"),
        (TRANSFORM, None, "names no coordinate reference system"),
    ],
)
def test_a_scene_that_lies_nowhere_gets_one_warning(capfd, tmp_path, models, transform, crs, said):
    scene = write_scene(tmp_path / "s.tif", scene_values(), transform, crs)
    code, _, err = predict(capfd, scene, tmp_path / "m.tif", models)
    assert code == 0, err
    assert err.count(said) == 1


def test_json_events_go_to_stdout_one_a_line(capfd, tmp_path, models, scene):
    code, out, err = predict(
        capfd, scene, tmp_path / "m.tif", models, "--json", "--quiet", "--batch-size", "1",
        model="gray",
    )  # fmt: skip
    assert code == 0
    assert err == ""
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [e["event"] for e in events]
    assert kinds[0] == "decision"
    assert "warning" in kinds  # it has not been trained
    assert kinds[-1] == "done"
    # Once per batch of tiles.
    progress = [e for e in events if e["event"] == "progress"]
    assert [p["tiles"] for p in progress] == list(range(1, progress[0]["total"] + 1))
    assert sum(events[-1]["pixels"].values()) == 150 * 210


def test_quiet_says_nothing(capfd, tmp_path, models, scene):
    assert predict(capfd, scene, tmp_path / "m.tif", models, "-q", model="gray") == (0, "", "")


def one_line(err):
    lines = err.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert "Traceback" not in err
    return lines[-1]


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (["-m", "no-such-model"], 1, "no-such-model"),
        (["--overlap", "33"], 2, "choose 0 to 32"),
        (["--device", "cuda:7"], 2, "--device"),
        (["--device", "tpu"], 2, "--device"),
        (["--precision", "fp16"], 2, "--precision"),
        (["-b", "1,9"], 2, "no band"),
        (["--bounds", "0", "0", "1", "1"], 2, "outside"),
        (["--bounds", "1", "0", "0", "1"], 2, "west south east north"),
        (["--bounds", "-inf", "-inf", "inf", "inf"], 2, "west south east north"),
        (["--bounds", "0", "0", "1", "1"], 2, "500000 5998500 502100 6000000"),
        (["--aoi", "nowhere.gpkg"], 2, "nowhere.gpkg"),
        (["--confidence", "m.tif"], 2, "another output"),
        (["--co", "COMPRESS=NONSENSE"], 2, "NONSENSE"),
        (["--co", "NONSENSE=1"], 2, "NONSENSE"),
        (["--co", "TILED=YES"], 2, "TILED"),
        (["--of", "GTiff", "--co", "BLOCKXSIZE=17"], 1, "multiple"),
    ],
)
def test_wrong_options_are_one_line(capfd, tmp_path, models, scene, more, code, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got, _, err = predict(capfd, scene, "m.tif", models, *more)
    assert got == code, err
    assert text in one_line(err)
    assert sorted(os.listdir(tmp_path)) == ["scene.tif"]


@pytest.mark.parametrize(
    "more", [["--batch-size", "0"], ["--units", "volt"], ["--co", "x"], ["--nodata", "x"], []]
)
def test_what_click_refuses_is_usage_too(capfd, tmp_path, more):
    code, _, err = run(capfd, "predict", "scene.tif", *more)
    assert code == 2
    assert "cwsam-geo predict --help" in one_line(err)


def test_no_command_at_all_shows_the_help(capfd):
    code, out, err = run(capfd)
    assert code in (0, 2)
    assert "vectorize" in out + err
    assert len((out + err).splitlines()) > 10


def test_the_help_names_the_model_that_is_the_default(capfd):
    assert f"[default: {DEFAULT_MODEL}]" in " ".join(run(capfd, "predict", "--help")[1].split())


def test_scenes_that_are_none_are_refused(capfd, tmp_path, models, scene):
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    for bad in (text, cut, tmp_path / "missing.tif", tmp_path):
        code, _, err = predict(capfd, bad, tmp_path / "m.tif", models)
        assert code == 1, err
        assert bad.name in one_line(err)
    assert sorted(os.listdir(tmp_path)) == ["cut.tif", "scene.tif", "text.tif"]


def test_models_that_are_none_are_refused(capfd, tmp_path, models, scene):
    good = (models / "s1.safetensors").read_bytes()
    bad = {"text": b"not a model", "cut": good[: len(good) // 2], "empty": b""}
    # Another number of classes than the legend's.
    bad["classes"] = good.replace(b'\\"num_classes\\": 5', b'\\"num_classes\\": 4')
    assert bad["classes"] != good
    for name, content in bad.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        code, _, err = run(capfd, "predict", scene, "-o", tmp_path / "m.tif", "-m", path)
        assert code == 1, err
        assert path.name in one_line(err)
        assert not (tmp_path / "m.tif").exists()


def test_the_scene_itself_is_never_overwritten(capfd, tmp_path, models, scene):
    before = scene.read_bytes()
    code, _, err = predict(capfd, scene, scene, models, "--overwrite")
    assert code == 2
    assert "the scene too" in one_line(err)
    assert scene.read_bytes() == before


@pytest.mark.parametrize("by", ["url", "vrt"])
def test_no_file_of_the_scene_is_overwritten(capfd, tmp_path, models, scene, by):
    if by == "vrt":
        rasterio.shutil.copy(scene, tmp_path / "scene.vrt", driver="VRT")
    given = f"file://{scene}" if by == "url" else tmp_path / "scene.vrt"
    before = scene.read_bytes()
    code, _, err = predict(capfd, given, scene, models, "--overwrite")
    assert code == 2
    assert "the scene too" in one_line(err)
    assert scene.read_bytes() == before


def test_the_area_of_interest_is_not_overwritten(tmp_path, models, scene):
    aoi = tmp_path / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[box(5e5, 5.9e6, 6e5, 6e6)], crs=UTM).to_file(aoi)
    options = PredictOptions(models / "s1.safetensors", aoi=aoi)
    outputs = PredictOutputs(vectors=aoi, overwrite=True)
    with pytest.raises(UsageError, match="the area of interest too"):
        predict_scene(scene, tmp_path / "m.tif", options, outputs)


def test_debug_shows_the_traceback(capfd, tmp_path, models):
    code, _, err = predict(capfd, tmp_path / "missing.tif", tmp_path / "m.tif", models, "--debug")
    assert code == 1
    assert "Traceback" in err


def _heed_signals():
    """Background jobs begin with Ctrl-C ignored, those of nohup with hang-ups: so may the tests."""
    for which in STOPS[:2]:
        signal.signal(which, signal.SIG_DFL)


# Windows has neither hang-ups nor SIGKILL.
STOPS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGHUP", "SIGTERM", "SIGKILL")
    if hasattr(signal, name)
]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("how", STOPS)
def test_a_stopped_run_leaves_the_earlier_output(tmp_path, models, how):
    scene = write_scene(tmp_path / "scene.tif", np.tile(scene_values(), (1, 20, 10)))
    output = tmp_path / "map.tif"
    output.write_text("earlier")
    run = subprocess.Popen(
        [sys.executable, "-m", "cwsam_geo.cli.main", "predict", scene, "-o", output, "--json",
         "-m", models / "s1.safetensors", "--overwrite", "--batch-size", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_heed_signals,
    )  # fmt: skip
    for line in run.stdout:
        if '"progress"' in line:
            break
    run.send_signal(how)
    _, err = run.communicate(timeout=600)
    assert output.read_text() == "earlier"
    left = sorted(os.listdir(tmp_path))
    if how == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
        assert all(
            name.startswith(".map.") for name in left if name not in ("map.tif", "scene.tif")
        )
        return
    assert left == ["map.tif", "scene.tif"]
    assert "Traceback" not in err
    assert run.returncode == 128 + how


def test_a_class_named_nodata_is_counted_beside_nodata(tmp_path, models):
    values = scene_values()
    values[:, :70] = np.nan
    scene = write_scene(tmp_path / "scene.tif", values)
    names = Legend.from_list(
        [{"code": i, "name": n, "color": "#000000"} for i, n in enumerate(["nodata", "x"])]
    )
    random_bundle(names).save(tmp_path / "m.safetensors")
    events = []
    options = PredictOptions(tmp_path / "m.safetensors")
    predict_scene(scene, tmp_path / "m.tif", options, on_event=events.append)
    pixels = events[-1]["pixels"]
    assert sum(pixels.values()) == values[0].size
    assert pixels["nodata (255)"] == 70 * 210


def test_the_weights_are_held_once(tmp_path, models, scene, monkeypatch):
    bundles, alive = [], []

    def load(path):
        bundle = load_full(path)
        bundles.append(weakref.ref(bundle))
        return bundle

    def on_event(event):
        if event["event"] == "progress":
            gc.collect()
            alive.append(bundles[0]())

    monkeypatch.setattr("cwsam_geo.prediction.predict_scene.load_full", load)
    options = PredictOptions(models / "s1.safetensors")
    predict_scene(scene, tmp_path / "m.tif", options, on_event=on_event)
    assert set(alive) == {None}


def test_the_choices_of_the_command_are_those_of_the_package():
    assert options_cli.BLENDS == BLENDS
    assert options_cli.UNITS == UNITS_OPTIONS
    assert options_cli.BORDER_NOISE == BORDER_NOISE


def test_the_python_api_does_the_same(tmp_path, models, scene):
    import cwsam_geo

    events = []
    summary = cwsam_geo.predict_scene(
        scene,
        tmp_path / "map.tif",
        cwsam_geo.PredictOptions(model=models / "s1.safetensors"),
        on_event=events.append,
    )
    assert sum(summary.pixels.values()) == read(tmp_path / "map.tif").size
    assert events[-1]["event"] == "done"


def test_a_loaded_model_maps_several_scenes(tmp_path, models, monkeypatch):
    import cwsam_geo

    options = PredictOptions(models / "s1.safetensors", precision="fp32")
    loaded = cwsam_geo.load_model(models / "s1.safetensors", network="fast")
    scenes = [write_scene(tmp_path / f"{i}.tif", scene_values(seed=i)) for i in range(2)]
    for i, scene in enumerate(scenes):
        predict_scene(scene, tmp_path / f"alone_{i}.tif", options)
    monkeypatch.setattr("cwsam_geo.prediction.predict_scene.load_full", None)
    for i, scene in enumerate(scenes):
        predict_scene(scene, tmp_path / f"map_{i}.tif", model=loaded)
        with (
            rasterio.open(tmp_path / f"alone_{i}.tif") as one,
            rasterio.open(tmp_path / f"map_{i}.tif") as two,
        ):
            np.testing.assert_array_equal(one.read(), two.read())
            for tag in ("CWSAM_GEO_MODEL", "CWSAM_GEO_SETTINGS"):
                assert one.tags()[tag] == two.tags()[tag]


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_models_temperature_changes_confidence_and_no_class(tmp_path, scene, temperature):
    bundle = random_bundle(CLASSES)
    header = dataclasses.replace(bundle.header, temperatures=Temperatures(temperature))
    read = {}
    for name, model in (("plain", bundle), ("other", dataclasses.replace(bundle, header=header))):
        path = model.save(tmp_path / f"{name}.safetensors")
        outputs = PredictOutputs(tmp_path / f"{name}_c.tif", tmp_path / f"{name}_p.tif")
        predict_scene(scene, tmp_path / f"{name}.tif", PredictOptions(str(path)), outputs)
        for kind in ("", "_c", "_p"):
            with rasterio.open(tmp_path / f"{name}{kind}.tif") as raster:
                read[name, kind] = raster.read().astype(float)
                settings = json.loads(raster.tags()["CWSAM_GEO_SETTINGS"])
        assert settings["temperature"] == model.temperatures.of(["VV", "VH"])
    assert (read["plain", ""] == read["other", ""]).all()
    data = read["plain", ""][0] != 255
    assert (read["other", "_c"] == 255)[0][~data].all()
    share = np.maximum(read["plain", "_p"], 0.5)[:, data] ** (1 / temperature)
    expected = 100 * share / share.sum(0)
    clear = (read["plain", "_p"][:, data] > 10).sum(0) >= 2
    found = read["other", "_c"][0][data]
    assert np.abs(found - expected.max(0))[clear].mean() < 3
    softer = found[clear].mean() < read["plain", "_c"][0][data][clear].mean()
    assert softer == (temperature > 1)


@pytest.mark.parametrize("bands", [("VV", "VH"), ("VV",)])
def test_the_temperature_is_that_of_the_bands_that_the_scene_has(tmp_path, bands):
    values = scene_values()[: len(bands)]
    scene = write_scene(tmp_path / "scene.tif", values, names=bands)
    bundle = random_bundle(CLASSES)
    spec = dataclasses.replace(bundle.preprocess, fill=(None, -18.0))
    listed = Temperatures(by_bands={("VV", "VH"): 0.25})
    events, read = [], {}
    for name, temperatures in (("plain", Temperatures()), ("own", listed)):
        header = dataclasses.replace(bundle.header, preprocess=spec, temperatures=temperatures)
        dataclasses.replace(bundle, header=header).save(tmp_path / f"{name}.safetensors")
        options = PredictOptions(tmp_path / f"{name}.safetensors")
        outputs = PredictOutputs(confidence=tmp_path / f"{name}_c.tif")
        predict_scene(scene, tmp_path / f"{name}.tif", options, outputs, events.append)
        for kind in ("", "_c"):
            with rasterio.open(tmp_path / f"{name}{kind}.tif") as raster:
                read[name, kind], tags = raster.read(1), raster.tags()
    assert (read["plain", ""] == read["own", ""]).all()
    both = len(bands) == 2
    assert json.loads(tags["CWSAM_GEO_SETTINGS"])["temperature"] == (0.25 if both else 1)
    assert (read["plain", "_c"] == read["own", "_c"]).all() != both
    # Without VH nobody has checked how sure the model may be.
    said = [w for w in json.loads(tags["CWSAM_GEO_WARNINGS"]) if "confidence" in w]
    assert said == [e["text"] for e in events if "confidence is calibrated" in e.get("text", "")]
    assert len(said) == (0 if both else 1)
    if not both:
        assert "calibrated for VV, VH, but not for VV alone" in said[0]
        events.clear()
        predict_scene(scene, tmp_path / "sure.tif", options, on_event=events.append)
        assert not any("calibrated" in e.get("text", "") for e in events)
