"""The reports that ``evaluate`` writes, read again."""

import csv
import json

import geopandas
import numpy as np
import pytest
import rasterio
from pages import Page, names_of
from training_scenes import LEGEND, PLACE, UTM, blobs, write_raster, write_scene

from cwsam_geo import ClassMapping, EvaluateOptions, EvaluateOutputs, evaluate
from cwsam_geo.errors import OutputError, SceneError, UsageError

SHAPE = (48, 64)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(1)
    mapped, truth = blobs(rng, SHAPE), blobs(rng, SHAPE, codes=(1, 2))
    write_raster(tmp_path / "map.tif", mapped, nodata=255)
    write_raster(tmp_path / "truth.tif", truth, nodata=255)
    rows, cols = rng.integers(0, SHAPE[0], 90), rng.integers(0, SHAPE[1], 90)
    x, y = PLACE * (cols + 0.5, rows + 0.5)
    geopandas.GeoDataFrame(
        {"kind": truth[rows, cols]}, geometry=geopandas.points_from_xy(x, y), crs=UTM
    ).to_file(tmp_path / "points.gpkg")
    return tmp_path


def run(files, reference="truth.tif", events=None, **outputs):
    listener = (lambda _: None) if events is None else events.append
    paths = {k: files / v if isinstance(v, str) else v for k, v in outputs.items()}
    return evaluate(
        files / "map.tif",
        files / reference,
        EvaluateOptions(legend=LEGEND),
        EvaluateOutputs(**paths),
        listener,
    )


@pytest.mark.parametrize("reference", ["truth.tif", "points.gpkg"])
def test_files_and_the_event_hold_the_same_report(files, reference):
    events = []
    result = run(files, reference, events, json="r.json", csv="r.csv", html="r.html")
    report = json.loads((files / "r.json").read_text())
    assert report == json.loads(json.dumps(result.to_dict()))
    assert [e for e in events if e["event"] == "report"] == [{"event": "report", **report}]
    warnings = [e["text"] for e in events if e["event"] == "warning"]
    assert warnings == list(result.remarks)
    assert report["classes"][2]["name"] in (files / "r.html").read_text()
    with (files / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["name"] for r in rows] == LEGEND.names
    counts = [[int(r[f"mapped_as_{name}"]) for name in LEGEND.names] for r in rows]
    assert counts == result.counts.tolist()
    for row, iou, recall in zip(rows, result.scores.iou, result.scores.recall, strict=True):
        assert float(row["iou"] or "nan") == pytest.approx(iou, nan_ok=True)
        assert float(row["recall"] or "nan") == pytest.approx(recall, nan_ok=True)
        assert int(row["support"]) == sum(int(v) for k, v in row.items() if "mapped_as" in k)
    if reference == "points.gpkg":
        areas = [float(r["area"]) for r in rows]
        estimates = result.sample.estimates
        assert areas == pytest.approx(estimates.area.value * result.sample.total)
        assert float(rows[0]["users_accuracy_ci95"]) == pytest.approx(estimates.users.margin[0])
    assert sorted(p.name for p in files.iterdir() if p.name.startswith((".", "r."))) == [
        "r.csv", "r.html", "r.json",
    ]  # fmt: skip


def test_undefined_scores_are_null_and_nowhere_nan(files):
    write_raster(files / "truth.tif", np.full(SHAPE, 1, np.uint8))
    write_raster(files / "map.tif", np.full(SHAPE, 1, np.uint8))
    run(files, json="r.json", csv="r.csv")
    text = (files / "r.json").read_text()
    assert "NaN" not in text
    report = json.loads(text)
    assert report["classes"][1]["iou"] is None
    assert report["overall"]["kappa"] is None
    assert "nan" not in (files / "r.csv").read_text()


@pytest.mark.parametrize("form", ["json", "csv", "html"])
def test_nothing_is_replaced_unless_asked_and_nothing_is_computed_before(files, form):
    (files / "r").write_text("mine")
    events = []
    with pytest.raises(UsageError, match=r"/r: exists already; pass --overwrite"):
        run(files, events=events, **{form: "r"})
    assert events == []
    assert (files / "r").read_text() == "mine"
    run(files, **{form: "r"}, overwrite=True)
    assert (files / "r").read_text() != "mine"


def test_a_report_is_no_input_and_no_other_report(files):
    (files / "link.json").symlink_to(files / "truth.tif")
    before = (files / "truth.tif").read_bytes()
    for path in ("truth.tif", "map.tif", "link.json"):
        with pytest.raises(UsageError, match="is an input too"):
            run(files, json=path, overwrite=True)
    assert (files / "truth.tif").read_bytes() == before
    with pytest.raises(UsageError, match="another output too"):
        run(files, json="r", csv="r")
    with pytest.raises(OutputError, match="does not exist"):
        run(files, json="gone/r.json")


def test_a_class_raster_in_one_of_several_bands(files):
    expected = run(files).counts
    for name, key in (("truth", "band"), ("map", "map_band")):
        with rasterio.open(files / f"{name}.tif") as file:
            codes = file.read(1)
        write_raster(files / f"{name}.tif", np.stack([codes[::-1], codes]), nodata=255)
        option = f"--{key.replace('_', '-')}"
        with pytest.raises(SceneError, match=rf"{name}\.tif: has 2 bands.*\({option}\)"):
            evaluate(files / "map.tif", files / "truth.tif", EvaluateOptions(legend=LEGEND))
        chosen = EvaluateOptions(legend=LEGEND, **{key: 2})
        result = evaluate(files / "map.tif", files / "truth.tif", chosen)
        assert (result.counts == expected).all()
        write_raster(files / f"{name}.tif", codes, nodata=255)


def test_the_choice_of_a_band_is_told(files):
    truth = blobs(np.random.default_rng(1), SHAPE)
    bands = np.stack([np.full_like(truth, 4), truth])
    write_raster(files / "map.tif", bands, nodata=255, descriptions=("water", "label"))
    result = run(files)
    assert any("map.tif: band 2 (label) of 2 is read" in r for r in result.remarks)


def test_the_page_shows_which_points_are_right(files):
    result = run(files, "points.gpkg", html="r.html")
    points = Page(files / "r.html").layer("points")["points"]
    wrong = result.counts.sum() - np.trace(result.counts)
    assert len(points) == result.counts.sum()
    assert sum(code for _, _, code, _ in points) == wrong
    with rasterio.open(files / "map.tif") as file:
        mapped = file.read(1)
    for col, row, _, text in points:
        name = LEGEND.names[LEGEND.channel(int(mapped[int(row), int(col)]))]
        assert text.endswith(f"map: {name}")


def test_the_page_compares_classes_as_the_scores_do(files):
    options = EvaluateOptions(
        ClassMapping(merge={"built": "trees"}, ignore=("water",)), legend=LEGEND
    )
    result = evaluate(
        files / "map.tif", files / "truth.tif", options, EvaluateOutputs(html=files / "r.html")
    )
    differences = names_of(Page(files / "r.html").layer("differences"))
    assert (differences == "same class").sum() == np.trace(result.counts)
    assert (differences != "").sum() == result.counts.sum()


def test_the_page_shows_the_scene_under_the_map(files):
    rng = np.random.default_rng(0)
    with rasterio.open(files / "map.tif") as file:
        write_scene(files / "scene.tif", rng, file.read(1))
    run(files, html="r.html", scene=[files / "scene.tif"])
    page = Page(files / "r.html")
    assert [layer["id"] for layer in page.map["layers"]][:2] == ["scene", "classes"]
    with pytest.raises(UsageError, match="give --html too"):
        EvaluateOutputs(scene=["scene.tif"])
