"""The command line of fetch, and the way from a bounding box to a map."""

import json

import numpy as np
import pytest
import rasterio
from labelled_catalogue import MUNICH, labelled_place
from stac_server import serving

from cwsam_geo.cli.main import main
from cwsam_geo.scene.acquisition import Acquisition

pytest.importorskip("pystac_client")


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as catalogue:
        yield catalogue


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(w) for w in words])
    return stopped.value.code or 0


def fetch(catalogue, folder, *more):
    area = ["--bbox", *MUNICH, "--date", "2024-06-01/2024-08-31", "--source", catalogue.api]
    return run("fetch", *area, "-o", folder, *more)


def test_from_a_bounding_box_to_a_map_of_a_model_of_the_region(catalogue, tmp_path, monkeypatch):
    """The three commands that the documentation shows, with fewer training steps."""
    monkeypatch.chdir(tmp_path)
    labelled_place(catalogue, days=(4,))
    assert fetch(catalogue, "munich", "--labels", "worldcover") == 0
    region = tmp_path / "munich" / "region.yaml"
    text = region.read_text()
    region.write_text(
        text.replace("samples: 480", "samples: 16").replace("epochs: 20", "epochs: 1")
    )
    assert run("finetune", "munich/region.yaml", "-o", "munich.safetensors") == 0
    words = "predict munich/scene_1.tif -m munich.safetensors -o munich_landcover.tif"
    assert run(*words.split()) == 0
    with (
        rasterio.open("munich_landcover.tif") as map_,
        rasterio.open("munich/scene_1.tif") as scene,
    ):
        assert (map_.crs, map_.transform, map_.shape) == (scene.crs, scene.transform, scene.shape)
        classes = map_.read(1)
        assert set(np.unique(classes)) <= {1, 2, 3, 4, 5, 255}
        np.testing.assert_array_equal(classes == 255, np.isnan(scene.read(1)))
        kept = Acquisition.from_tags(map_.tags())
        assert kept == Acquisition.from_tags(scene.tags())
        legend = json.loads(map_.tags()["LEGEND"])
    assert [c["name"] for c in legend] == ["water", "trees", "low vegetation", "built-up", "bare"]
    card = (tmp_path / "munich.md").read_text()
    assert "ESA WorldCover" in card


def test_a_dry_run_lists_date_orbit_cover_and_size(catalogue, tmp_path, capsys):
    labelled_place(catalogue)
    assert fetch(catalogue, tmp_path / "out", "--dry-run") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 2
    assert "2024-06-04 05:26" in lines[0]
    assert "descending" in lines[0]
    assert "100 %" in lines[0]
    assert "2 scenes" in printed.err
    assert not (tmp_path / "out").exists()
    assert fetch(catalogue, tmp_path / "out", "--dry-run", "--json", "-q") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["relative_orbit"] for e in events if e["event"] == "scene"] == [168, 168]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--date 2024-06-01 -o x", "where? give one of --bbox"),
        ("--bbox 1 2 3 4 --aoi a.gpkg --date 2024-06-01 -o x", "not several kinds"),
        ("--bbox 11 48 10 49 --date 2024-06-01 -o x", "is 359 degrees wide; give west first"),
        ("--bbox 11 49 12 48 --date 2024-06-01 -o x", "south is below north"),
        ("--bbox 649000 5307000 672000 5329000 --date 2024-06-01 -o x", "give degrees of"),
        ("--bbox 1 2 3 4 --date june -o x", "write a day or a first and last day"),
        ("--bbox 1 2 3 4 --date 2024-06-31 -o x", "2024-06-31 is no day of the calendar"),
        ("--bbox 1 2 3 4 --date 2024-06-30/2024-06-01 -o x", "last day is before the first"),
        ("--bbox 1 2 3 4 --date 2024-06-01 --bands VV,XX -o x", "list some of VV, VH, HH, HV"),
        ("--aoi gone.gpkg --date 2024-06-01 -o x", "gone.gpkg: no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run("fetch", *words.split()) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_earth_search_is_refused_before_anything_is_asked(tmp_path, capsys):
    area = ["--bbox", 11, 48, 11.1, 48.1, "--date", "2024-06-01"]
    code = run("fetch", *area, "--source", "earth-search", "-o", tmp_path / "x")
    assert code == 2
    printed = capsys.readouterr().err
    assert "holds GRD as delivered" in printed
    assert "--source planetary-computer" in printed


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "pystac_client", None)
    area = ["--bbox", 11, 48, 11.1, 48.1, "--date", "2024-06-01"]
    assert run("fetch", *area, "-o", tmp_path / "x") == 1
    assert "pip install 'cwsam-geo[stac]'" in capsys.readouterr().err
