"""Areas of classes, on the ground."""

import json

import numpy as np
import pyproj
import pytest
from affine import Affine
from class_rasters import write_classes

from cwsam_geo.areas.class_areas import class_areas, write_areas
from cwsam_geo.cli.main import main
from cwsam_geo.errors import SceneError, UsageError

LEGEND = {1: ("water", "#0000ff"), 2: ("land", "#00aa00"), 9: ("ice", "#ffffff")}


def by_name(table):
    return {c.name: c for c in table.classes}


def test_areas_are_those_on_the_ellipsoid(tmp_path):
    codes = np.full((100, 200), 2, np.uint8)
    codes[:40, :50] = 1
    codes[90:] = 255
    # One degree of longitude at 60 degrees north is half as long as at the equator.
    path = write_classes(
        *(tmp_path / "map.tif", codes, LEGEND),
        **{"nodata": 255, "crs": "EPSG:4326", "transform": Affine(1e-3, 0, 20, 0, -1e-3, 60)},
    )
    areas = by_name(class_areas(path))
    square = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(
        [20, 20.05, 20.05, 20], [60, 60, 59.96, 59.96]
    )
    assert areas["water"].km2 == pytest.approx(abs(square[0]) / 1e6, rel=1e-4)
    assert areas["water"].pixels == 2000
    assert areas["ice"].pixels == 0
    assert areas["ice"].share == 0
    assert sum(c.share for c in areas.values()) == pytest.approx(1)
    assert class_areas(path).nodata == 2000


def test_windows_do_not_change_areas(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 3, (300, 260)).astype(np.uint8)
    path = write_classes(tmp_path / "map.tif", codes, LEGEND)
    whole = class_areas(path)
    monkeypatch.setattr("cwsam_geo.io.class_counts._WINDOW_PIXELS", 5000)
    parts = class_areas(path)
    assert [c.pixels for c in parts.classes] == [c.pixels for c in whole.classes]
    assert [c.km2 for c in parts.classes] == pytest.approx([c.km2 for c in whole.classes])
    # EPSG:32633 at 10 m: the plane differs from the ground by its scale only.
    assert whole.km2 == pytest.approx(300 * 260 * 1e-4, rel=2e-3)


def test_codes_of_any_type(tmp_path):
    codes = np.array([[-5, 70000], [70000, 70000]], np.int32)
    path = write_classes(tmp_path / "map.tif", codes)
    assert [(c.code, c.pixels, c.share) for c in class_areas(path).classes] == [
        (-5, 1, pytest.approx(0.25, abs=1e-3)),
        (70000, 3, pytest.approx(0.75, abs=1e-3)),
    ]


def test_without_a_crs_pixels_are_counted(tmp_path):
    path = write_classes(tmp_path / "map.tif", np.array([[1, 2, 2]], np.uint8), LEGEND, crs=None)
    table = class_areas(path)
    assert table.km2 is None
    assert by_name(table)["land"].share == pytest.approx(2 / 3)


def test_tables_are_written_and_read_again(tmp_path):
    codes = np.array([[1, 2, 2]], np.uint8)
    legend = {1: ("wet, open", "#0000ff"), 2: ("ü", "#00aa00")}
    path = write_classes(tmp_path / "map.tif", codes, legend)
    table = class_areas(path)
    write_areas(table, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "code,name,color,pixels,km2,percent"
    assert lines[1].startswith('1,"wet, open",#0000ff,1,0.000100,33.3')
    write_areas(table, tmp_path / "a.json")
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in read["classes"]] == ["wet, open", "ü"]
    assert read["classes"][1]["percent"] == pytest.approx(200 / 3, abs=0.01)
    assert "wet, open" in table._repr_html_()
    with pytest.raises(UsageError, match=r"\*\.csv"):
        write_areas(table, tmp_path / "a.txt")
    with pytest.raises(UsageError, match="--overwrite"):
        write_areas(table, tmp_path / "a.csv")


def test_measurements_have_no_classes(tmp_path):
    values = np.arange(10000, dtype=np.int32).reshape(100, 100)
    with pytest.raises(SceneError, match="too many for classes"):
        class_areas(write_classes(tmp_path / "map.tif", values))


def test_the_command_prints_a_table(tmp_path, capsys):
    path = write_classes(tmp_path / "map.tif", np.array([[1, 2, 2]], np.uint8), LEGEND)
    with pytest.raises(SystemExit) as stopped:
        main(["areas", str(path), "-o", str(tmp_path / "a.csv")])
    assert not stopped.value.code
    out = capsys.readouterr().out
    assert "water" in out
    assert "66.67" in out
    assert (tmp_path / "a.csv").is_file()
    with pytest.raises(SystemExit):
        main(["areas", str(path), "--json"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "areas"
    assert last["classes"][0]["pixels"] == 1
