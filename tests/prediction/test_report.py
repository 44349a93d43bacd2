"""The report that ``predict --report`` writes with its map."""

import json

import numpy as np
import pytest
import rasterio
from doubles import legend
from models import random_bundle
from pages import Page, embedded, names_of
from scene_rasters import write

from cwsam_geo import PredictOptions, PredictOutputs, predict_scene
from cwsam_geo.cli.main import main
from cwsam_geo.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(6)
    bands = rng.normal(-12, 3, (2, 100, 130)).astype(np.float32) - [[[0]], [[7]]]
    write(tmp_path / "scene.tif", bands.astype(np.float32), ("VV", "VH"))
    random_bundle(legend(3), trained=False).save(tmp_path / "model.safetensors")
    (tmp_path / "model.md").write_text("# A card\n\n<b>for the test</b>\n")
    return tmp_path


def test_the_report_shows_the_map_its_confidence_and_the_warnings(folder):
    events = []
    predict_scene(
        folder / "scene.tif",
        folder / "map.tif",
        PredictOptions(model=folder / "model.safetensors", device="cpu"),
        PredictOutputs(report=folder / "report.html"),
        events.append,
    )
    page = Page(folder / "report.html")
    with rasterio.open(folder / "map.tif") as file:
        codes, tags = file.read(1), file.tags()
    assert (names_of(page.layer("classes")) == np.char.add("class ", codes.astype(str))).all()
    assert (embedded(page.layer("confidence")) <= 100).all()
    assert [layer["id"] for layer in page.map["layers"]] == ["scene", "classes", "confidence"]
    warnings = [e["text"] for e in events if e["event"] == "warning"]
    assert warnings
    assert json.loads(tags["CWSAM_GEO_WARNINGS"])[-1] == warnings[-1]
    assert "this model has not been trained" in page.text
    assert "<b>for the test</b>" in page.text
    # The confidence that only the report needed is gone.
    assert sorted(p.name for p in folder.iterdir()) == [
        "map.tif", "map.tif.aux.xml", "model.md", "model.safetensors", "report.html", "scene.tif",
    ]  # fmt: skip


def test_the_confidence_that_is_written_is_the_one_that_is_shown(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([
            "predict", str(folder / "scene.tif"), "-o", str(folder / "map.tif"),
            "-m", str(folder / "model.safetensors"), "--device", "cpu",
            "--confidence", str(folder / "confidence.tif"),
            "--report", str(folder / "report.html"),
        ])  # fmt: skip
    assert not stopped.value.code
    assert "report.html: 0." in capsys.readouterr().err
    with rasterio.open(folder / "confidence.tif") as file:
        percent = file.read(1)
    assert (embedded(Page(folder / "report.html").layer("confidence")) == percent).all()


def test_a_report_in_the_way_stops_before_the_network(folder):
    (folder / "report.html").write_text("mine")
    for report, message in (("report.html", "exists already"), ("map.tif", "another output too")):
        with pytest.raises(UsageError, match=message):
            predict_scene(
                folder / "scene.tif",
                folder / "map.tif",
                PredictOptions(model=folder / "model.safetensors", device="cpu"),
                PredictOutputs(report=folder / report),
            )
    assert not (folder / "map.tif").exists()
