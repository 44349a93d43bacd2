"""A PROJ database of another installation, named by the environment, changes no CRS."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from doubles import legend
from models import random_bundle
from rasterio.crs import CRS
from rasterio.env import PROJDataFinder
from scene_rasters import write

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import CwsamGeoError, OutputError, SceneError
from cwsam_geo.io import proj_data
from cwsam_geo.io import raster_sink as raster_sink_module
from cwsam_geo.io.raster_file import grid_of, open_dataset
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
from cwsam_geo.io.tiff_tags import named_epsg

ROOT = Path(__file__).parents[2]


def old_database(folder):
    """A proj.db of a PROJ before any that rasterio's wheels have."""
    folder.mkdir()
    with sqlite3.connect(folder / "proj.db") as db:
        db.execute("create table metadata (key text primary key, value text)")
        db.execute("insert into metadata values ('DATABASE.LAYOUT.VERSION.MAJOR', 1)")
        db.execute("insert into metadata values ('DATABASE.LAYOUT.VERSION.MINOR', 0)")
    db.close()
    return folder


@pytest.fixture
def old(tmp_path):
    return old_database(tmp_path / "old")


@pytest.fixture(autouse=True)
def own_database():
    """Leaves rasterio and pyproj with their own databases, whatever a test has done."""
    named = {name: os.environ.get(name) for name in ("PROJ_DATA", "PROJ_LIB")}
    yield
    for name, value in named.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    proj_data._checked = None
    proj_data.use_fitting_proj_data()


def run(code, folder, **variables):
    """Runs Python with only the given variables of PROJ; its standard output and error."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PROJ_")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env |= {name: str(value) for name, value in variables.items()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def scene(tmp_path):
    values = np.random.default_rng(0).normal(-15, 3, (2, 90, 90)).astype(np.float32)
    random_bundle(legend(2)).save(tmp_path / "m.safetensors")
    return write(tmp_path / "scene.tif", values, ("VV", "VH"), crs="EPSG:25833")


COMMANDS = """
import sys
from cwsam_geo.cli.main import main
for line in COMMANDS:
    try:
        main(line.split())
    except SystemExit as stopped:
        assert not stopped.code, stopped.code
"""


def test_the_command_line_writes_maps_vectors_and_areas_in_the_scenes_crs(tmp_path, scene, old):
    square = shapely.box(500100, 5599500, 500500, 5599900)
    geopandas.GeoDataFrame({"kind": ["class 0"]}, geometry=[square], crs="EPSG:3035").set_crs(
        "EPSG:25833", allow_override=True
    ).to_crs("EPSG:3035").to_file(tmp_path / "truth.gpkg")
    commands = [
        "predict scene.tif -m m.safetensors -o map.tif --vectors map.gpkg -q",
        "vectorize map.tif -o map.geojson -q",
        "evaluate map.tif truth.gpkg --column kind -o report.json -q",
        "info map.tif",
    ]
    out, err = run(f"COMMANDS = {commands!r}\n{COMMANDS}", tmp_path, PROJ_DATA=old)
    assert "PROJ" not in err
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs == CRS.from_epsg(25833)
        assert file.crs.to_epsg() == 25833
    assert geopandas.read_file(tmp_path / "map.gpkg").crs.to_epsg() == 25833
    bounds = geopandas.read_file(tmp_path / "map.geojson").total_bounds
    assert 14 < bounds[0] < 16
    assert json.loads((tmp_path / "report.json").read_text())
    assert "EPSG:25833" in out


NOTEBOOK = """
import rasterio
with rasterio.open("scene.tif") as file:
    print("before", file.crs.to_epsg())
import pyproj
import cwsam_geo
cwsam_geo.predict_scene("scene.tif", "map.tif", cwsam_geo.PredictOptions(model="m.safetensors"))
with rasterio.open("map.tif") as file:
    print("after", file.crs.to_epsg())
print(pyproj.CRS("EPSG:3035").name)
"""


def test_in_a_notebook_that_imported_rasterio_first(tmp_path, scene, old):
    out, err = run(NOTEBOOK, tmp_path, PROJ_LIB=old)
    assert "before None" in out  # the database really does not fit
    assert "after 25833" in out
    assert "LAEA" in out
    assert "PROJ:" not in err


INSIDE = """
import os, rasterio, pyproj.datadir
from cwsam_geo import PredictOptions, predict_scene
os.environ["PROJ_LIB"] = OLD
pyproj.datadir.set_data_dir(OLD)
with rasterio.Env(GDAL_CACHEMAX=64):
    predict_scene("scene.tif", "map.tif", PredictOptions(model="m.safetensors"))
with rasterio.open("map.tif") as file:
    print(file.crs.to_epsg())
print(pyproj.CRS("EPSG:3035").name)
"""


def test_a_variable_set_after_the_import_and_inside_an_environment(tmp_path, scene, old):
    out, _ = run(f"OLD = {str(old)!r}\n{INSIDE}", tmp_path)
    assert out.split("\n")[:2] == ["25833", "ETRS89-extended / LAEA Europe"]


@pytest.mark.parametrize("value", ["", "/nowhere", "/nowhere:/elsewhere", "empty", "broken"])
def test_a_folder_without_a_usable_database(tmp_path, monkeypatch, value):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "proj.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    if value.isalpha():
        value = str(tmp_path / value)
    monkeypatch.setenv("PROJ_DATA", value)
    write(tmp_path / "scene.tif", np.ones((2, 9, 9), np.float32), crs="EPSG:27700")
    with open_dataset(tmp_path / "scene.tif") as file:
        assert file.crs.to_epsg() == 27700
    assert "PROJ_DATA" not in os.environ


def test_a_database_that_fits_is_kept(tmp_path, monkeypatch):
    folder = PROJDataFinder().search()
    assert folder is not None
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(Path(folder) / "proj.db", copy)
    monkeypatch.setenv("PROJ_DATA", str(copy))
    proj_data.use_fitting_proj_data()
    assert os.environ["PROJ_DATA"] == str(copy)
    assert CRS.from_epsg(3035).to_epsg() == 3035


@pytest.mark.parametrize("variable", ["PROJ_DATA", "PROJ_LIB"])
def test_without_any_database_that_fits_one_line_names_the_variable(old, monkeypatch, variable):
    monkeypatch.setenv(variable, str(old))
    monkeypatch.setattr(PROJDataFinder, "search", lambda self: None, raising=False)
    monkeypatch.setattr(proj_data, "_rasterio_fits", lambda: False)
    with pytest.raises(CwsamGeoError, match=rf"{variable}={old}.* unset {variable}"):
        proj_data.use_fitting_proj_data()
    assert os.environ[variable] == str(old)


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}])
@pytest.mark.parametrize("code", [4326, 25833, 3035, 27700, 3413])
def test_the_code_in_the_keys(tmp_path, code, options):
    path = write(tmp_path / "a.tif", np.ones((1, 9, 9), np.uint8), crs=f"EPSG:{code}", **options)
    assert named_epsg(path) == code


def test_files_without_a_code(tmp_path):
    mercator = CRS.from_proj4("+proj=merc +lon_0=3 +ellps=GRS80")
    assert named_epsg(write(tmp_path / "a.tif", np.ones((1, 9, 9), np.uint8), crs=mercator)) is None
    assert named_epsg(write(tmp_path / "b.tif", np.ones((1, 9, 9), np.uint8), crs=None)) is None
    (tmp_path / "c.tif").write_bytes(b"II*\0\xff\xff")
    assert named_epsg(tmp_path / "c.tif") is None
    assert named_epsg(tmp_path / "nothing.tif") is None


@pytest.mark.parametrize("code", [3035, 4326])
def test_a_code_that_no_database_knows_is_refused(tmp_path, code):
    """As of a file made with a newer PROJ: GDAL gives it a local CRS, or none."""
    path = write(tmp_path / "a.tif", np.ones((2, 9, 9), np.float32), crs=f"EPSG:{code}")
    key = (3072 if code == 3035 else 2048).to_bytes(2, "little") + b"\0\0\1\0"
    data = path.read_bytes()
    assert data.count(key + code.to_bytes(2, "little")) == 1
    unknown = 29999
    path.write_bytes(
        data.replace(key + code.to_bytes(2, "little"), key + unknown.to_bytes(2, "little"))
    )
    with pytest.raises(SceneError, match=r"a\.tif: has the CRS EPSG:29999, which PROJ"):
        open_dataset(path)


def test_a_map_whose_crs_is_lost_on_writing_does_not_appear(tmp_path, monkeypatch):
    """As if another thread of a notebook set the variable while the map is computed."""
    path = write(tmp_path / "a.tif", np.ones((1, 9, 9), np.uint8), crs="EPSG:2056")
    with open_dataset(path) as file:
        grid = grid_of(file)
    lost = CRS.from_wkt('LOCAL_CS["CH1903+ / LV95",UNIT["metre",1]]')
    profile = raster_sink_module._profile
    monkeypatch.setattr(
        raster_sink_module, "_profile", lambda *args: profile(*args) | {"crs": lost}
    )
    with (
        pytest.raises(OutputError, match=r"map\.tif: its CRS was lost"),
        raster_sink(tmp_path / "map.tif", grid, RasterLayout()) as sink,
    ):
        sink.write(Window(0, 0, 9, 9), np.ones((9, 9), np.uint8))
    assert not (tmp_path / "map.tif").exists()
