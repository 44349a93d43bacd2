"""``cwsam-geo evaluate`` as a user calls it: tables, JSON, HTML, pictures, exit codes."""

import json
import re
import sys

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from pages import Page

from cwsam_geo.cli import main as entry
from cwsam_geo.core.legend import Legend

LEGEND = Legend.from_list(
    [
        {"code": 0, "name": "land & <sea>", "color": "#996633"},
        {"code": 3, "name": "water", "color": "#0000ff"},
    ]
)
UNKNOWN_IGNORED = "classes: [{code: 1, name: a, color: '#000000'}]\nignore: b"
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    mapped = rng.choice(np.array([0, 3], np.uint8), (40, 50))
    truth = np.where(rng.random(mapped.shape) < 0.9, mapped, 3).astype(np.uint8)
    profile = {
        "driver": "GTiff",
        "height": 40,
        "width": 50,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": PLACE,
    }
    for name, array in (("map.tif", mapped), ("truth.tif", truth)):
        with rasterio.open(tmp_path / name, "w", **profile) as out:
            out.write(array, 1)
            out.update_tags(LEGEND=LEGEND.to_json())
    rows, cols = rng.integers(0, 40, 150), rng.integers(0, 50, 150)
    x, y = PLACE * (cols + 0.5, rows + 0.5)
    points = geopandas.GeoDataFrame(
        {"cls": truth[rows, cols]}, geometry=geopandas.points_from_xy(x, y), crs="EPSG:32633"
    )
    points.to_file(tmp_path / "points.gpkg")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd, files):
    monkeypatch.setitem(entry.COMMANDS, "evaluate", ("evaluate", "Say how good a map is."))
    monkeypatch.chdir(files)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            entry.main(["evaluate", *arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return call


def events_of(out):
    """The events that --json prints, one on each line."""
    return [json.loads(line) for line in out.splitlines()]


def report_of(out):
    """The report among them."""
    (report,) = (e for e in events_of(out) if e["event"] == "report")
    return report


def test_table_on_the_terminal(run):
    code, out, err = run("map.tif", "truth.tif")
    assert (code, err) == (0, "")
    assert re.search(r"^3 water +0\.\d{4} +[01]\.\d{4}", out, re.MULTILINE)
    assert "mIoU" in out
    assert "2000 compared" in out


def test_json_line_and_file_agree(run, files):
    code, out, _ = run("map.tif", "truth.tif", "--json", "-o", "report.json")
    event = report_of(out)
    assert code == 0
    assert event.pop("event") == "report"
    assert json.loads((files / "report.json").read_text()) == event
    assert np.sum(event["matrix"]["counts"]) == 2000
    assert event["overall"]["classes_in_means"] == LEGEND.names


def test_a_program_that_reads_the_events_sees_the_progress(run):
    _, out, err = run("map.tif", "truth.tif", "--json", "--quiet")
    *moves, report = events_of(out)
    assert {e["event"] for e in moves} == {"progress"}
    assert moves[-1]["pixels"] == moves[-1]["total"] == 2000
    assert report["event"] == "report"
    assert err == ""


def test_quiet_prints_nothing(run, files):
    assert run("map.tif", "truth.tif", "-q", "-o", "report.json") == (0, "", "")
    assert (files / "report.json").exists()


@pytest.mark.parametrize("reference", ["truth.tif", "points.gpkg"])
def test_html_stands_alone(run, files, reference):
    code, _, _ = run("map.tif", reference, "--html", "report.html")
    page = Page(files / "report.html")
    assert code == 0
    assert page.fetched == []
    assert "url(" not in page.style
    assert "land & <sea>" in page.texts
    layers = [layer["id"] for layer in page.map["layers"]]
    assert layers == [
        "classes",
        *(("points",) if "points" in reference else ("reference", "differences")),
    ]
    assert ("Area-adjusted accuracy and areas" in page.texts) == (reference == "points.gpkg")


def test_points_print_areas_with_intervals(run):
    code, out, _ = run("map.tif", "points.gpkg")
    assert code == 0
    assert re.search(r"^water +[01]\.\d{4} ± 0\.\d{4} +.*± ", out, re.MULTILINE)
    assert "areas in ha" in out
    assert "all scores are estimates for the whole area" in out
    assert "150 compared" in out


def test_reports_say_which_share_of_the_map_has_no_point(run, files):
    points = geopandas.read_file(files / "points.gpkg")
    with rasterio.open(files / "map.tif") as file:
        mapped = file.read(1)
        at = np.array([v[0] for v in file.sample([(p.x, p.y) for p in points.geometry])])
    points[at == 3].to_file(files / "some.gpkg")
    code, out, err = run("map.tif", "some.gpkg", "--html", "report.html", "-o", "report.json")
    share = json.loads((files / "report.json").read_text())["sample"]["share_without_points"]
    assert code == 0
    assert share == pytest.approx((mapped == 0).mean(), rel=1e-5)
    said = f"{100 * share:.3g} % of the mapped area, where no point lies: land & <sea>"
    assert f"do not cover {said}" in out
    assert "whole area" not in out
    assert re.search(rf"^land & <sea> .* {(mapped == 0).sum() / 100 / 0.9996**2:.4g}$", out, re.M)
    page = Page(files / "report.html")
    assert any(said in text for text in page.texts)
    assert "no point lies on land & <sea>" in err


def test_strata_and_tables_on_the_command_line(run, files):
    points = geopandas.read_file(files / "points.gpkg")
    table = points.drop(columns="geometry").assign(x=points.geometry.x, y=points.geometry.y)
    table["zone"] = np.where(table.x < PLACE.c + 200, "west", "east")
    table.to_csv(files / "points.csv", index=False, sep=";")
    code, out, err = run(
        *("map.tif", "points.csv", "--stratum", "zone", "--stratum-size", "West=20,east=30"),
        *("--csv", "classes.csv", "--json"),
    )
    assert code == 0, err
    report = report_of(out)
    assert [s["name"] for s in report["sample"]["strata"]] == ["West", "east"]
    assert report["settings"]["stratum_sizes"] == {"West": 20, "east": 30}
    assert "x and y are taken as coordinates in the CRS of the map" in err
    assert (files / "classes.csv").read_text().startswith("code,name,ignored,iou,")
    code, out, err = run("map.tif", "points.csv", "--stratum", "zone")
    assert (code, out) == (2, "")
    assert "--stratum-size NAME=SIZE" in err
    code, _, err = run("map.tif", "points.csv", "--stratum", "zone", "--stratum-size", "a=big")
    assert code == 2
    assert "'big' is not a number" in err


def test_picture_of_the_matrix(run, files):
    pytest.importorskip("matplotlib")
    code, _, _ = run("map.tif", "truth.tif", "--png", "matrix.png")
    assert code == 0
    assert (files / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_computed(run, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run("map.tif", "truth.tif", "--png", "matrix.png")
    assert (code, out) == (2, "")
    assert "pip install 'cwsam-geo[report]'" in err
    assert not (files / "matrix.png").exists()


def test_nothing_is_overwritten_unasked(run, files):
    (files / "report.json").write_text("mine")
    code, _, err = run("map.tif", "truth.tif", "-o", "report.json")
    assert code == 2
    assert "--overwrite" in err
    assert (files / "report.json").read_text() == "mine"
    assert run("map.tif", "truth.tif", "-o", "report.json", "--overwrite")[0] == 0


def test_outputs_need_different_files(run):
    code, _, err = run("map.tif", "truth.tif", "-o", "a.html", "--html", "a.html")
    assert code == 2
    assert "another output too" in err


def test_mapping_on_the_command_line(run):
    arguments = ("--map", "0=water,3=ignore", "--json")
    report = report_of(run("map.tif", "truth.tif", *arguments)[1])
    assert report["settings"]["map"] == {"0": "water", "3": "ignore"}
    assert report["matrix"]["counts"][0] == [0, 0]


@pytest.mark.parametrize("pairs", ["1", "=2", "1="])
def test_malformed_pairs(run, pairs):
    code, _, err = run("map.tif", "truth.tif", "--map", pairs)
    assert code == 2
    assert "--map" in err


def test_a_comma_without_a_pair_belongs_to_the_name(run):
    code, _, err = run("map.tif", "truth.tif", "--map", "1=2,3")
    assert code == 1
    assert "no class '2,3'" in err


def test_a_code_given_twice(run):
    code, _, err = run("map.tif", "truth.tif", "--map", "1=2", "--map", "1=3")
    assert code == 2
    assert "given twice" in err


def test_errors_are_one_line(run):
    code, out, err = run("gone.tif", "truth.tif")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "gone.tif" in err


def test_legend_of_a_file(run, files):
    (files / "legend.yaml").write_text(
        "classes:\n  - {code: 0, name: dry, color: '#000000'}\n"
        "  - {code: 3, name: wet, color: '#0000ff'}\n"
    )
    code, out, _ = run("map.tif", "truth.tif", "--legend", "legend.yaml")
    assert code == 0
    assert "3 wet" in out


@pytest.mark.parametrize("ignored", ["dry", "0"])
def test_the_class_that_a_legend_file_ignores_does_not_count(run, files, ignored):
    (files / "legend.yaml").write_text(
        "classes:\n  - {code: 0, name: dry, color: '#000000'}\n"
        f"  - {{code: 3, name: wet, color: '#0000ff'}}\nignore: {ignored}\n"
    )
    given = ("map.tif", "truth.tif", "--legend", "legend.yaml", "--json")
    report = report_of(run(*given)[1])
    assert report == report_of(run(*given, "--ignore", "dry")[1])
    assert report["overall"]["classes_in_means"] == ["wet"]
    assert report["settings"]["ignore"] == ["dry"]
    instead = report_of(run(*given, "--ignore", "wet")[1])
    assert instead["overall"]["classes_in_means"] == ["dry"]


@pytest.mark.parametrize(
    "text", ["classes: 3", "[1, 2]", "a: [", "classes: [{code: 1}]", UNKNOWN_IGNORED]
)
def test_what_is_no_legend(run, files, text):
    (files / "legend.yaml").write_text(text)
    code, _, err = run("map.tif", "truth.tif", "--legend", "legend.yaml")
    assert code == 1
    assert "legend.yaml" in err
    assert err.count("\n") == 1


def test_remarks_go_to_standard_error(run, files):
    with rasterio.open(files / "truth.tif", "r+") as file:
        file.update_tags(LEGEND=LEGEND.to_json().replace("water", "snow"))
    _, out, err = run("map.tif", "truth.tif", "--json")
    remarks = report_of(out)["remarks"]
    assert remarks
    assert [e["text"] for e in events_of(out) if e["event"] == "warning"] == remarks
    assert err.startswith("Warning: ")
