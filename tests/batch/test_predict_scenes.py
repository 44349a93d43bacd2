"""The batch command: many scenes, of which some fail, some are done and some are interrupted."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import rasterio
from affine import Affine
from doubles import legend
from models import random_bundle
from scene_rasters import UTM, write

import cwsam_geo
from cwsam_geo.batch import ahead, mappers
from cwsam_geo.batch.predict_scenes import predict_scenes
from cwsam_geo.batch.run import BatchReports
from cwsam_geo.cli.main import main
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import predict_scene

CLASSES = legend(3, first=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "s1.safetensors"
    random_bundle(CLASSES).save(path)
    return path


def values(seed, height=90, width=110):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(-11, 4, (height // 10 + 1, width // 10 + 1))
    vv = coarse.repeat(10, 0).repeat(10, 1)[:height, :width] + rng.normal(0, 1, (height, width))
    return np.stack([vv, vv - 7]).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three scenes, and three that cannot be mapped: damaged, of unknown units, missing."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        write(f"s{i}.tif", values(i), ("VV", "VH"))
    (tmp_path / "damaged.tif").write_bytes((tmp_path / "s0.tif").read_bytes()[:5000])
    write("numbers.tif", np.abs(values(4) * 1000).astype(np.uint16), ("VV", "VH"))
    return tmp_path


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return stopped.value.code or 0, out, err


def batch(capfd, model, *arguments):
    return run(capfd, "batch", *arguments, "-m", model, "--precision", "fp32")


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_each_scene_gets_the_map_that_predict_makes_and_failures_stop_nothing(capfd, folder, model):
    code, out, err = batch(
        capfd, model, "s0.tif", "damaged.tif", "s1.tif", "numbers.tif", "missing.tif", "s2.tif",
        "-o", "maps/{stem}_landcover.tif", "--confidence", "maps/{stem}_confidence.tif",
        "--vectors", "maps/", "--summary", "table.csv",
    )  # fmt: skip
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    assert "6 scenes: 3 mapped, 3 failed" in err
    assert err.count("Failed: ") == 3
    assert sorted(os.listdir("maps")) == sorted(
        f"s{i}{end}" for i in range(3)
        for end in ("_landcover.tif", "_landcover.tif.aux.xml", "_landcover.qml", "_landcover.gpkg",
                    "_confidence.tif")
    )  # fmt: skip
    options = PredictOptions(model, precision="fp32")
    for i in range(3):
        predict_scene(f"s{i}.tif", "one.tif", options, PredictOutputs("c.tif", overwrite=True))
        np.testing.assert_array_equal(read("one.tif"), read(f"maps/s{i}_landcover.tif"))
        np.testing.assert_array_equal(read("c.tif"), read(f"maps/s{i}_confidence.tif"))
    with open("table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [
        *("mapped", "failed", "mapped", "failed", "failed", "mapped")
    ]
    assert rows[0]["output"] == os.path.join("maps", "s0_landcover.tif")
    assert int(rows[0]["pixels"]) == 90 * 110
    assert sum(int(rows[0][f"pixels {name}"]) for name in CLASSES.names) == 90 * 110
    assert [row["error"].split(":")[0] for row in rows if row["error"]] == [
        *("damaged.tif", "numbers.tif", "missing.tif")
    ]


def test_the_model_is_loaded_once_and_only_if_it_is_needed(folder, model, monkeypatch):
    loads = []

    def load(*arguments):
        loads.append(arguments)
        return real(*arguments)

    real = mappers.load_chosen
    monkeypatch.setattr(mappers, "load_chosen", load)
    options = PredictOptions(model, precision="fp32")
    predict_scenes(["s0.tif", "s1.tif"], "{stem}_m.tif", options)
    assert len(loads) == 1
    result = predict_scenes(["s0.tif", "s1.tif"], "{stem}_m.tif", options)
    assert len(loads) == 1
    assert result.counts == {"finished": 2}


def test_what_is_finished_is_told_by_its_making_not_by_its_name(capfd, folder, model):
    arguments = ("s?.tif", "-o", "m/{stem}.tif")
    assert batch(capfd, model, *arguments)[0] == 0
    times = {name: os.stat(f"m/{name}").st_mtime_ns for name in os.listdir("m")}
    code, _, err = batch(capfd, model, *arguments)
    assert code == 0
    assert "3 scenes: 3 finished" in err
    assert times == {name: os.stat(f"m/{name}").st_mtime_ns for name in os.listdir("m")}
    # A scene that has changed, and one of another name with the same content.
    write("s1.tif", values(7), ("VV", "VH"))
    for left in ("m/s2.tif", "m/s2.tif.aux.xml"):
        os.remove(left)
    code, _, err = batch(capfd, model, *arguments)
    assert code == 1
    assert "1 finished, 1 failed, 1 mapped" in err
    assert "m/s1.tif: exists already, and was made otherwise (file s1.tif was" in err
    code, _, err = batch(capfd, model, *arguments, "--overwrite")
    assert code == 0
    assert "2 finished, 1 mapped" in err or "1 mapped, 1 finished" in err
    # Another setting makes other maps.
    code, _, err = batch(capfd, model, *arguments, "--overlap", "16")
    assert code == 1
    assert "3 scenes: 3 failed" in err
    assert "--overlap" in err


def test_scenes_outside_the_part_to_map_are_no_failures(capfd, folder, model):
    write("far.tif", values(5), ("VV", "VH"), transform=UTM * Affine.translation(5000, 0))
    west, north = UTM * (10, 20)
    bounds = ("--bounds", west, north - 300, west + 300, north)
    code, _, err = batch(capfd, model, "s0.tif", "far.tif", "-o", "m/{stem}.tif", *bounds)
    assert code == 0, err
    assert "1 mapped, 1 outside" in err
    assert read("m/s0.tif").shape == (1, 30, 30)
    code, _, err = batch(capfd, model, "far.tif", "-o", "m/{stem}.tif", *bounds)
    assert code == 1
    assert "1 scene: 1 outside" in err


def test_missing_companions_are_made_without_mapping_again(capfd, folder, model):
    arguments = (
        "s0.tif", "-o", "m/{stem}.tif", "--vectors", "m/{stem}.gpkg", "--areas", "m/{stem}.csv",
        "--stac", "m/",
    )  # fmt: skip
    code, _, err = batch(capfd, model, *arguments)
    assert code == 0, err
    names = sorted(os.listdir("m"))
    assert {"s0.tif", "s0.gpkg", "s0.csv", "s0.qml", "s0_landcover.json"} <= set(names)
    made = os.stat("m/s0.tif").st_mtime_ns
    for name in ("s0.gpkg", "s0.csv", "s0.qml", "s0_landcover.json"):
        os.remove(f"m/{name}")
    code, _, err = batch(capfd, model, *arguments)
    assert code == 0, err
    assert "1 finished" in err
    assert sorted(os.listdir("m")) == names
    assert os.stat("m/s0.tif").st_mtime_ns == made
    # A style that the user has changed is not missing, however old it is.
    (folder / "m" / "s0.qml").write_text("my own style")
    os.utime("m/s0.qml", (0, 0))
    code, _, err = batch(capfd, model, *arguments)
    assert code == 0, err
    assert "1 finished" in err
    assert (folder / "m" / "s0.qml").read_text() == "my own style"


def test_events_name_their_scene(capfd, folder, model):
    code, out, err = batch(capfd, model, "s0.tif", "missing.tif", "-o", "{stem}_m.tif", "--json")
    assert code == 1
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["event"] for e in events if e["event"] in ("scene", "done", "result", "summary")] == [
        *("scene", "done", "result", "scene", "result", "summary")
    ]
    assert {e["index"] for e in events if e["event"] == "progress"} == {1}
    results = [e for e in events if e["event"] == "result"]
    assert [(r["scene"], r["status"]) for r in results] == [
        *(("s0.tif", "mapped"), ("missing.tif", "failed"))
    ]
    assert events[-1]["counts"] == {"mapped": 1, "failed": 1}
    assert "missing.tif: no such file" in err


def test_the_next_scene_is_opened_and_read_while_one_is_mapped(folder, model, monkeypatch):
    """While the first scene is mapped, the thread that prepares has the second one ready."""
    ready, waited = threading.Event(), []
    real_plan, real_map = ahead.plan_scene, mappers.map_prepared

    def plan(request, *rest):
        prepared = real_plan(request, *rest)
        if request.scenes == ("s1.tif",):
            ready.set()
        return prepared

    def mapped(prepared, *rest):
        if prepared.request.scenes == ("s0.tif",):
            waited.append(ready.wait(60))
        return real_map(prepared, *rest)

    monkeypatch.setattr(ahead, "plan_scene", plan)
    monkeypatch.setattr(mappers, "map_prepared", mapped)
    result = predict_scenes(
        ["s0.tif", "s1.tif", "s2.tif"], "{stem}_m.tif", PredictOptions(model, precision="fp32")
    )
    assert waited == [True]
    assert result.complete
    names = [t.name for t in threading.enumerate()]
    assert not {"cwsam-geo opener", "cwsam-geo reader"} & set(names)


def test_a_model_that_cannot_be_loaded_stops_the_batch(folder, model, monkeypatch):
    def fail(*_):
        raise ModelError("its base is missing")

    monkeypatch.setattr(mappers, "load_chosen", fail)
    events = []
    with pytest.raises(ModelError, match="base is missing"):
        predict_scenes(
            ["s0.tif", "s1.tif"], "{stem}_m.tif", PredictOptions(model), on_event=events.append
        )
    assert events[-1]["counts"] == {"interrupted": 1, "not started": 1}


def test_a_failure_of_the_program_itself_is_one_scenes_failure(folder, model, monkeypatch):
    real = mappers.map_prepared

    def fail(prepared, *rest):
        if prepared.request.scenes == ("s0.tif",):
            raise ZeroDivisionError("odd")
        return real(prepared, *rest)

    monkeypatch.setattr(mappers, "map_prepared", fail)
    result = predict_scenes(["s0.tif", "s1.tif"], "{stem}_m.tif", PredictOptions(model))
    assert "unexpected ZeroDivisionError" in result.scenes[0].error
    assert result.scenes[1].status == "mapped"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("s0.tif", "s1.tif", "-o", "m.tif"), "one name for 2 scenes"),
        (("-o", "{stem}_m.tif"), "no scenes given"),
        (("s0.tif", "-o", "{stem}_m.tif", "--summary", "t.txt"), r"name it *.csv or *.json"),
        (("s0.tif", "-o", "{stem}_m.tif", "--summary", "there.csv"), "exists already"),
        (("s0.tif", "-o", "{stem}_m.tif", "--confidence", "{stem}_m.tif"), "another output"),
        (("s0.tif", "-o", "{stem}.tif"), "is one of the scenes"),
        (("no*.tif", "-o", "{stem}_m.tif"), "no file has such a name"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_computed(capfd, folder, model, arguments, said):
    (folder / "there.csv").write_text("a,b\n1,2\n")
    before = sorted(os.listdir(folder))
    code, _, err = batch(capfd, model, *arguments)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(folder)) == before


def test_a_summary_replaces_an_earlier_one(folder, model):
    options = PredictOptions(model)
    for name in ("t.csv", "t.json"):
        for scenes in (["s0.tif"], ["s0.tif", "s1.tif"]):
            predict_scenes(scenes, "{stem}_m.tif", options, reports=BatchReports(summary=name))
    table = json.loads((folder / "t.json").read_text())
    assert table["counts"] == {"finished": 2}
    assert len((folder / "t.csv").read_text().splitlines()) == 3
    reports = BatchReports(mosaic="s2_m.tif")
    with pytest.raises(UsageError, match="is another output"):
        predict_scenes(["s2.tif"], "{stem}_m.tif", options, reports=reports)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupted_batch_says_what_is_done_and_goes_on_later(folder, model):
    write("big.tif", np.tile(values(5), (1, 10, 6)), ("VV", "VH"))
    how = signal.SIGINT
    command = [
        sys.executable, "-m", "cwsam_geo.cli.main", "batch", "s0.tif", "big.tif", "s1.tif",
        "-o", "m/{stem}.tif", "-m", model, "--precision", "fp32", "--batch-size", "1", "--json",
        "--summary", "t.json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["index"] == 2:
            break
    process.send_signal(how)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 128 + how
    assert "Traceback" not in err
    last = json.loads(out.splitlines()[-1])
    assert last["counts"] == {"mapped": 1, "interrupted": 1, "not started": 1}
    assert json.loads((folder / "t.json").read_text())["counts"] == last["counts"]
    assert sorted(os.listdir("m")) == ["s0.qml", "s0.tif", "s0.tif.aux.xml"]
    os.remove("big.tif")
    result = predict_scenes(
        ["s0.tif", "s1.tif"], "m/{stem}.tif",
        PredictOptions(model, precision="fp32", batch_size=1),
    )  # fmt: skip
    assert result.counts == {"finished": 1, "mapped": 1}


def test_real_scenes_of_several_formats(shared_data, tmp_path, model):
    """Scenes as agencies deliver them; those that the model cannot take fail with one line."""
    result = predict_scenes(
        [shared_data / "sen1floods11" / "Ghana_*_S1Hand.tif", shared_data / "formats"],
        tmp_path / "{parent}/{stem}_landcover.tif",
        PredictOptions(model, precision="fp32"),
    )
    counts = result.counts
    assert counts["mapped"] >= 5
    for scene in result.scenes:
        if scene.status == "failed":
            assert "unexpected" not in scene.error
            assert not scene.request.output.exists()
        else:
            assert scene.request.output.is_file()


def test_the_names_of_the_package():
    assert cwsam_geo.predict_scenes is predict_scenes
    assert cwsam_geo.BatchReports is BatchReports


def test_the_maps_become_a_mosaic_of_the_higher_confidence(capfd, folder, model):
    """Parts of one scene that overlap: the mosaic lies where the scene does."""
    whole = values(9, 90, 200)
    write("left.tif", whole[:, :, :120], ("VV", "VH"))
    write("right.tif", whole[:, :, 80:], ("VV", "VH"), transform=UTM * Affine.translation(80, 0))
    code, _, err = batch(
        capfd, model, "left.tif", "right.tif", "missing.tif", "-o", "m/{stem}.tif",
        "--confidence", "c/{stem}.tif", "--mosaic", "all.tif", "--of", "GTiff",
    )  # fmt: skip
    assert code == 1
    assert "the mosaic lacks 1 scene" in err
    maps = [read(f"m/{name}.tif")[0] for name in ("left", "right")]
    sure = [read(f"c/{name}.tif")[0] for name in ("left", "right")]
    found = read("all.tif")[0]
    assert found.shape == (90, 200)
    np.testing.assert_array_equal(found[:, :80], maps[0][:, :80])
    np.testing.assert_array_equal(found[:, 120:], maps[1][:, 40:])
    right = sure[1][:, :40] > sure[0][:, 80:]
    np.testing.assert_array_equal(
        found[:, 80:120], np.where(right, maps[1][:, :40], maps[0][:, 80:])
    )
    arguments = ("left.tif", "right.tif", "-o", "m/{stem}.tif", "--confidence", "c/{stem}.tif")
    code, _, err = batch(capfd, model, *arguments, "--of", "GTiff", "--mosaic", "all.vrt")
    assert code == 0, err
    assert "2 finished" in err
    np.testing.assert_array_equal(read("all.vrt")[0, :, 80:120], maps[0][:, 80:])


def test_the_items_of_a_catalogue_are_mapped_as_their_rasters_are(capfd, folder, model):
    """One item lacks its rasters; the other has a raster for each band."""
    vv, vh = values(3)
    write("vv.tif", vv)
    write("vh.tif", vh)
    items = [
        {
            "type": "Feature", "stac_version": "1.0.0", "id": name,
            "properties": {"datetime": "2024-01-02T03:04:05Z"},
            "assets": {b: {"href": f"{where}{b}.tif", "type": "image/tiff"} for b in ("vv", "vh")},
        }
        for name, where in (("here", ""), ("gone", "no/"))
    ]  # fmt: skip
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    code, _, err = batch(capfd, model, "items.json", "-o", "m/{date}_{id}.tif")
    assert code == 1
    assert "1 mapped, 1 failed" in err
    options = PredictOptions(model, precision="fp32")
    predict_scene(["vv.tif", "vh.tif"], "one.tif", options)
    np.testing.assert_array_equal(read("m/20240102_here.tif"), read("one.tif"))
    code, _, err = batch(capfd, model, "items.json", "-o", "m/{date}_{id}.tif")
    assert "1 finished, 1 failed" in err


def test_maps_that_make_no_mosaic_are_kept(capfd, folder, model):
    write("east.tif", values(1), ("VV", "VH"), crs="EPSG:32634")
    code, _, err = batch(
        capfd, model, "s0.tif", "east.tif", "-o", "m/{stem}.tif", "--mosaic", "all.tif"
    )
    assert code == 1
    assert "2 scenes: 2 mapped" in err
    assert "choose the CRS of the mosaic (--t-srs EPSG:32633)" in err.splitlines()[-1]
    assert os.path.isfile("m/east.tif")
    assert not os.path.exists("all.tif")
