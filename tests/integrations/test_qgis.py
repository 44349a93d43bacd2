"""The QGIS plugin: as a zip, without QGIS, and in a session of QGIS's own Python."""

import configparser
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from doubles import legend
from models import random_bundle
from paths import INTEGRATIONS, ROOT, SUPPORT
from shapely.geometry import box

from cwsam_geo import PredictOptions, predict_scene
from cwsam_geo.io.qml import has_users_style

QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
CLASSES = legend(3)
SIDE = 160
WEST, NORTH = 500_000, 5_600_000


def load(name):
    """A module of the integration that needs no QGIS."""
    spec = importlib.util.spec_from_file_location(
        name.rpartition("/")[2], INTEGRATIONS / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The zip


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, str(INTEGRATIONS / "qgis" / "build.py"), "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "plugins.qgis.org also asks for --email" in done.stdout
    (path,) = folder.iterdir()
    return path


def test_the_zip_is_a_plugin_of_this_version(archive):
    from cwsam_geo import __version__

    assert archive.name == f"cwsam_geo_qgis-{__version__}.zip"
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
        metadata = configparser.ConfigParser(interpolation=None)
        metadata.read_string(content.read("cwsam_geo_qgis/metadata.txt").decode())
        code = b"".join(content.read(n) for n in names if n.endswith(".py"))
    general = metadata["general"]
    assert general["version"] == __version__
    assert general["qgisMinimumVersion"] == "3.22"
    assert general["hasProcessingProvider"] == "yes"
    assert general["experimental"] == "True"
    assert f"cwsam_geo_qgis/{general['icon']}" in names
    assert {"cwsam_geo_qgis/__init__.py", "cwsam_geo_qgis/LICENSE"} <= set(names)
    assert not any("__pycache__" in n or n.startswith("/") for n in names)
    # The program is a process of its own.
    assert b"import cwsam_geo\n" not in code
    assert b"from cwsam_geo." not in code


def test_whoever_uploads_it_gives_the_contacts(tmp_path):
    contacts = {"email": "a@b.c", "repository": "https://r", "tracker": "https://t"}
    path = load("qgis/build").build(tmp_path, contacts)
    with zipfile.ZipFile(path) as content:
        metadata = configparser.ConfigParser(interpolation=None)
        metadata.read_string(content.read("cwsam_geo_qgis/metadata.txt").decode())
    required = {"name", "qgisMinimumVersion", "description", "about", "version", "author",
                "email", "repository"}  # fmt: skip
    assert required <= {key for key in metadata["general"] if metadata["general"][key]} | {
        "qgisMinimumVersion"
    }
    assert dict(metadata["general"]) | contacts == dict(metadata["general"])


# The program


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture
def program():
    return load("qgis/cwsam_geo_qgis/program")


def test_the_program_is_found_by_its_path_its_environment_or_on_the_path(
    program, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert program.find("") is None
    assert program.find(str(tmp_path / "wrong")) is None
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    own = script(tmp_path / "venv" / "bin" / "cwsam-geo", "")
    assert program.find(str(own)) == program.find(str(tmp_path / "venv")) == str(own)
    monkeypatch.setenv("PATH", str(own.parent))
    assert program.find("") == str(own)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "home" / ".local" / "bin").mkdir(parents=True)
    user = script(tmp_path / "home" / ".local" / "bin" / "cwsam-geo", "")
    assert program.find("") == str(user)


def test_events_come_while_the_program_runs_and_lines_that_are_none_do_not_matter(
    program, tmp_path
):
    lines = ['{"event": "start"}', "no json", "[1]", '{"event": "done", "name": "ü"}']
    text = (
        f"import time\nfor line in {lines!r}:\n    print(line, flush=True)\n    time.sleep(0.2)\n"
    )
    events = []
    program.run([str(script(tmp_path / "p", text))], events.append, lambda: False)
    assert [e["event"] for e in events] == ["start", "done"]
    assert events[1]["name"] == "ü"


def test_a_failure_is_told_in_the_programs_own_line(program, tmp_path):
    text = (
        "import sys\nprint('Warning: w', file=sys.stderr)\nsys.exit('Error: scene.tif: is empty')"
    )
    failing = script(tmp_path / "p", text)
    with pytest.raises(program.ProgramError, match=r"^scene\.tif: is empty$"):
        program.run([str(failing)], print, lambda: False)
    killed = script(tmp_path / "k", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(program.ProgramError, match="ended with code -9"):
        program.run([str(killed)], print, lambda: False)
    with pytest.raises(program.ProgramError, match="cannot be started"):
        program.run([str(tmp_path / "nothing")], print, lambda: False)


@pytest.mark.parametrize(("handler", "cleans"), [("stop", True), ("signal.SIG_IGN", False)])
def test_a_cancelled_program_may_clean_up_and_one_that_hangs_is_killed(
    program, tmp_path, monkeypatch, handler, cleans
):
    monkeypatch.setattr(program, "_GRACE", 1)
    text = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        f"def stop(*_):\n    Path({str(tmp_path / 'clean')!r}).touch()\n    sys.exit(143)\n"
        f"signal.signal(signal.SIGTERM, {handler})\n"
        'print(\'{"event": "x"}\', flush=True)\ntime.sleep(60)\n'
    )
    events = []
    with pytest.raises(program.ProgramError, match="cancelled"):
        program.run([str(script(tmp_path / "p", text))], events.append, lambda: bool(events))
    assert (tmp_path / "clean").exists() == cleans


# In QGIS


def qgis_is_there():
    if not os.path.exists(QGIS_PYTHON):
        return False
    done = subprocess.run([QGIS_PYTHON, "-c", "import qgis.core"], capture_output=True)
    return done.returncode == 0


@pytest.fixture(scope="module")
def job(tmp_path_factory, archive):
    folder = tmp_path_factory.mktemp("qgis files")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder / "plugins")
    program = script(
        folder / "cwsam-geo",
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from cwsam_geo.cli.main import main\nmain()\n",
    )
    random_bundle(CLASSES).save(folder / "m.safetensors")
    rng = np.random.default_rng(5)
    levels = np.kron(rng.normal(-12, 6, (2, 16, 16)), np.ones((10, 10)))
    raster(folder / "scene.tif", levels, ("VV", "VH"))
    raster(folder / "large.tif", np.tile(levels, (1, 8, 8)), ("VV", "VH"))
    raster(folder / "reference.tif", np.full((1, SIDE, SIDE), 7).astype(np.uint8), ("class",))
    wanted = box(WEST + 200, NORTH - 900, WEST + 900, NORTH - 200)
    other = box(WEST, NORTH - 1600, WEST + 1600, NORTH)
    area = {"kind": ["wanted", "other"], "geometry": [wanted, other]}
    geopandas.GeoDataFrame(area, crs="EPSG:32633").to_file(folder / "area.gpkg", layer="areas")
    extent = WEST + 200, WEST + 1300, NORTH - 1400, NORTH - 300
    names = {n: str(folder / n) for n in ("scene.tif", "large.tif", "reference.tif")}
    return {
        "folder": str(folder),
        "plugins": str(folder / "plugins"),
        "program": str(program),
        "model": str(folder / "m.safetensors"),
        "area": f"{folder / 'area.gpkg'}|layername=areas",
        "extent": "{},{},{},{} [EPSG:32633]".format(*extent),
        "class": CLASSES.names[1],
        **{name.removesuffix(".tif"): path for name, path in names.items()},
    }


def raster(path, bands, names):
    bands = bands if bands.dtype == np.uint8 else bands.astype(np.float32)
    profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype, "crs": "EPSG:32633",
               "height": bands.shape[1], "width": bands.shape[2],
               "transform": rasterio.Affine(10, 0, WEST, 0, -10, NORTH)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.write(bands)
        out.descriptions = names


@pytest.fixture(scope="module")
def session(job, tmp_path_factory):
    if not qgis_is_there():
        pytest.skip(f"{QGIS_PYTHON} has no QGIS (apt-get install python3-qgis qgis-providers)")
    place = tmp_path_factory.mktemp("session")
    (place / "job.json").write_text(json.dumps(job))
    own = {"HOME": str(place), "XDG_RUNTIME_DIR": str(place), "QT_QPA_PLATFORM": "offscreen"}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [QGIS_PYTHON, str(SUPPORT / "qgis_session.py"), str(place / "job.json")],
        env={**environment, **own},
        capture_output=True,
        text=True,
    )
    results = job["folder"] + "/results.json"
    assert os.path.exists(results), done.stdout + done.stderr
    with open(results) as file:
        return json.load(file)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform


def expected_classes():
    return [[int(e.code), e.name, e.color] for e in CLASSES.entries]


def test_the_provider_has_its_algorithms_and_lists_the_models(session):
    assert session["algorithms"] == ["evaluate", "predict", "preview", "vectorize"]
    assert all(len(text) > 80 for text in session["help"].values())
    assert session["models"][0] == "(default)"
    assert "demo" in session["models"]
    assert not any("sam_vit" in name for name in session["models"])
    assert session["unloaded"]


def test_without_the_program_one_message_says_what_to_do(session):
    possible, message = session["missing"]["can_execute"]
    assert not possible
    assert "pip install cwsam-geo" in message
    assert "Settings > Options > Processing" in message
    assert session["missing"]["run"]["error"].count("pip install cwsam-geo") == 1


def test_an_extent_is_mapped_as_the_whole_scene_is(session, job, tmp_path):
    assert "results" in session["predict"], session["predict"]
    predict_scene(job["scene"], tmp_path / "whole.tif", PredictOptions(model=job["model"]))
    whole, _ = read(tmp_path / "whole.tif")
    part, transform = read(session["predict"]["results"]["OUTPUT"])
    assert (transform.c, transform.f) == (WEST + 200, NORTH - 300)
    np.testing.assert_array_equal(part, whole[30:140, 20:130])
    masked, transform = read(session["aoi"]["results"]["OUTPUT"])
    row, col = int((NORTH - transform.f) / 10), int((transform.c - WEST) / 10)
    # Only the polygon that the layer's filter leaves.
    assert (masked != 255).sum() == 70 * 70
    inside = whole[row : row + masked.shape[0], col : col + masked.shape[1]]
    assert (masked == inside)[masked != 255].all()
    assert any("units" in text for text in session["predict"]["infos"])
    assert session["predict"]["progress"][-1] == 100
    assert len(session["predict"]["progress"]) > 3


def test_a_map_is_laid_on_a_grid_of_another_crs(session):
    assert "results" in session["map_grid"], session["map_grid"]
    with rasterio.open(session["map_grid"]["results"]["OUTPUT"]) as file:
        assert file.crs.to_epsg() == 4326
        assert file.res == pytest.approx((0.0002, 0.0002))
        assert set(np.unique(file.read(1))) - {255}


def test_qgis_shows_the_names_and_colours_of_the_classes(session):
    style = session["map_style"]
    assert style["renderer"] == "paletted"
    shown = [[int(value), label, color] for value, label, color in style["classes"]]
    # The style beside the map; the palette alone has 256 entries, and QGIS lists them all.
    assert shown == expected_classes()
    shown = [[int(value), label, color] for value, label, color in session["palette"]["classes"]]
    assert shown[: len(CLASSES)] == expected_classes()
    polygons = session["polygon_style"]
    assert polygons["renderer"] == "categorizedSymbol"
    assert session["same_name"] == polygons
    shown = {(label, color) for _, label, color in polygons["classes"]}
    present = {name for _, name, _ in expected_classes()} & {label for label, _ in shown}
    assert present
    assert shown >= {(name, color) for _, name, color in expected_classes() if name in present}


def test_a_style_that_qgis_has_saved_is_the_users(session, job):
    folder = Path(job["folder"])
    assert has_users_style(folder / "beside" / "map.tif")
    assert not has_users_style(folder / "map.tif")


def test_qgis_draws_the_map_and_the_polygons_in_these_colours(session):
    codes, _ = read(session["predict"]["results"]["OUTPUT"])
    colors = {code: color for code, _, color in expected_classes()}
    centres = [int((i + 0.5) * 11) for i in range(10)]
    expected = [[colors[int(codes[r, c])] for c in centres] for r in centres]
    assert session["map_picture"] == expected
    # Outlines and transparency aside, the polygons show the same classes.
    same = [
        close(a, b)
        for one, two in zip(session["polygon_picture"], expected, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    assert np.mean(same) > 0.8


def close(one, two):
    values = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (one, two)]
    return np.abs(values[0] - values[1]).max() < 90


def test_polygons_of_a_map(session):
    assert session["vectorized"]["crs"] == "EPSG:4326"
    assert {"class_id", "class_name", "area_m2", "mean_confidence"} <= set(
        session["vectorized"]["fields"]
    )
    assert session["vectorize"]["results"]["POLYGONS"] == session["vectorized"]["count"] > 0


def test_a_map_is_compared_with_a_raster_and_with_polygons(session, job):
    codes, _ = read(session["predict"]["results"]["OUTPUT"])
    raster_result = session["evaluate"]["results"]
    assert raster_result["OVERALL_ACCURACY"] == pytest.approx((codes == 0).mean())
    page = (job["folder"] + "/report.html", job["folder"] + "/report.csv")
    assert [raster_result["OUTPUT"], raster_result["CSV"]] == list(page)
    assert all(os.path.getsize(path) > 100 for path in page)
    for compared in (session["evaluate"], session["evaluate_polygons"]):
        assert compared["progress"][-1] == 100
    # The polygons are those of the map: nothing differs.
    assert session["evaluate_polygons"]["results"]["OVERALL_ACCURACY"] == 1


def test_a_picture_of_the_map_beside_its_scene(session, job):
    assert session["preview"]["results"]["OUTPUT"] == job["folder"] + "/preview.png"
    with rasterio.open(job["folder"] + "/preview.png") as file:
        assert max(file.shape) == 800
        assert file.read().std() > 10


def test_mistakes_are_told_in_one_line(session):
    assert "scene.tif" in session["refused"]["error"]
    assert "\n" not in session["refused"]["error"]
    assert any("one cell only" in text for text in session["half_a_pair"]["warnings"])
    assert any("Give a scene" in text for text in session["no_scene"]["warnings"])


def test_a_cancelled_run_leaves_nothing(session, job):
    assert "cancelled" in session["cancelled"]["error"]
    assert not [name for name in os.listdir(job["folder"]) if "never" in name]
