"""``batch`` with several processes: the maps, failures and the end are those of one process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import rasterio
import torch
from doubles import legend
from models import random_bundle
from paths import ROOT
from scene_rasters import write

from cwsam_geo.batch.predict_scenes import predict_scenes
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.prediction import predict_scene
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun

HEIGHTS = {"low": 90, "changing": 120, "middle": 300, "tall": 1300}
"""Rows of the scenes; only the last has several storage blocks, so only it can be cut."""


@pytest.fixture(scope="module")
def one_thread():
    """Sums may be rounded differently by another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory, one_thread):
    """Scenes, a damaged one, a model, and the maps of one process."""
    folder = tmp_path_factory.mktemp("batch")
    random_bundle(legend(3, first=1)).save(folder / "m.safetensors")
    rng = np.random.default_rng(0)
    for name, height in HEIGHTS.items():
        level = rng.normal(-12, 4, (height // 20 + 1, 8)).repeat(20, 0).repeat(20, 1)
        vv = level[:height, :150] + rng.normal(0, 1, (height, 150))
        write(folder / f"{name}.tif", np.stack([vv, vv - 7]).astype("f4"), ("VV", "VH"))
    (folder / "damaged.tif").write_bytes((folder / "low.tif").read_bytes()[:5000])
    result = batch(folder, "one", list(HEIGHTS), PredictRun())
    assert result.counts == {"mapped": len(HEIGHTS)}
    return folder


def batch(folder, name, scenes, run, on_event=lambda _: None):
    return predict_scenes(
        [folder / f"{scene}.tif" for scene in scenes],
        folder / name / "{stem}.tif",
        PredictOptions(folder / "m.safetensors", precision="fp32"),
        PredictOutputs(folder / name / "{stem}_c.tif"),
        on_event=on_event,
        run=run,
    )


def layers(folder, name, scene):
    found = []
    for end in ("", "_c"):
        with rasterio.open(folder / name / f"{scene}{end}.tif") as file:
            tags = {k: v for k, v in file.tags().items() if k != "TIFFTAG_DATETIME"}
            found.append((file.read().tobytes(), file.profile, file.descriptions, tags))
    return found


def assert_nothing_is_left(folder):
    assert multiprocessing.active_children() == []
    assert not [t for t in threading.enumerate() if t.name.startswith("cwsam-geo")]
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.slow
def test_processes_make_the_maps_of_one_process_and_failures_stop_nothing(place):
    """One scene cannot be opened, another fails in a process; the last one is cut for both."""
    events, children = [], set()

    def told(event):
        events.append(event)
        children.update(child.pid for child in multiprocessing.active_children())
        if event["event"] == "start" and "changing" in event["scene"]:
            os.utime(place / "changing.tif", (1e9, 1e9))

    scenes = ["low", "damaged", "changing", "middle", "tall"]
    result = batch(place, "two", scenes, PredictRun(devices="cpu:2"), told)
    statuses = [scene.status for scene in result.scenes]
    assert statuses == ["mapped", "failed", "failed", "mapped", "mapped"]
    assert "changing.tif has changed since the run began" in result.scenes[2].error
    for scene in ("low", "middle", "tall"):
        assert layers(place, "two", scene) == layers(place, "one", scene)
    assert sorted(e["index"] for e in events if e["event"] == "result") == [1, 2, 3, 4, 5]
    assert sum(result.scenes[4].pixels.values()) == 1300 * 150
    assert len(children) == 2
    assert_nothing_is_left(place / "two")
    # One process sees that they are finished.
    again = batch(place, "two", ["low", "middle", "tall"], PredictRun())
    assert again.counts == {"finished": 3}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_leaves_no_process_and_nothing_half_written(place):
    command = [
        "batch", place / "tall.tif", place / "middle.tif", place / "low.tif", "-o",
        place / "stop/{stem}.tif", "--confidence", place / "stop/{stem}_c.tif", "--devices",
        "cpu:2", "-m", place / "m.safetensors", "--precision", "fp32", "--batch-size", "1",
        "--json", "--summary", place / "stop.json",
    ]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-m", "cwsam_geo.cli.main", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in run.stdout:
        if '"progress"' in line:
            break
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in (place / "stop.json").read_text()
    for path in (place / "stop").glob("*.tif"):
        scene = path.stem.removesuffix("_c")
        assert layers(place, "stop", scene) == layers(place, "one", scene)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process is left")


@pytest.mark.slow
def test_the_next_scene_is_computed_while_a_map_is_written(place, monkeypatch):
    """The first map is not written before the second scene is computed."""
    computed, copied, order = threading.Event(), predict_scene.copy_all, []

    def copy(*arguments):
        if not order:
            order.append(computed.wait(60))
        copied(*arguments)

    def told(event):
        if event["event"] == "progress" and event["index"] == 2:
            computed.set()

    monkeypatch.setattr(predict_scene, "copy_all", copy)
    result = batch(place, "ahead", ["low", "middle"], PredictRun(devices="cpu:1"), told)
    assert order == [True]
    assert result.counts == {"mapped": 2}
    for scene in ("low", "middle"):
        assert layers(place, "ahead", scene) == layers(place, "one", scene)
    assert_nothing_is_left(place / "ahead")


@pytest.mark.long
def test_a_scene_that_costs_the_only_process_costs_no_other(place):
    dead = []

    def kill(event):
        if event["event"] == "progress" and event["index"] == 1 and not dead:
            dead.extend(multiprocessing.active_children())
            os.kill(dead[0].pid, signal.SIGKILL)

    result = batch(place, "costly", ["tall", "low"], PredictRun(devices="cpu:1"), kill)
    assert [scene.status for scene in result.scenes] == ["failed", "mapped"]
    assert "was ended by SIGKILL" in result.scenes[0].error
    assert layers(place, "costly", "low") == layers(place, "one", "low")


@pytest.mark.long
def test_the_next_scene_gets_new_processes(place):
    dead = []

    def kill(event):
        if event["event"] == "progress" and not dead:
            dead.extend(multiprocessing.active_children())
            for child in dead:
                os.kill(child.pid, signal.SIGKILL)

    result = batch(place, "dead", ["middle", "low", "tall"], PredictRun(devices="cpu:2"), kill)
    statuses = [scene.status for scene in result.scenes]
    assert statuses[2] == "mapped"
    assert "failed" in statuses[:2]
    again = batch(place, "dead", ["middle", "low", "tall"], PredictRun(devices="cpu:2"))
    assert set(again.counts) <= {"mapped", "finished"}
    for scene in ("low", "middle", "tall"):
        assert layers(place, "dead", scene) == layers(place, "one", scene)
    assert_nothing_is_left(place / "dead")


@pytest.mark.slow
def test_a_model_that_no_process_can_load_stops_the_batch(place):
    content = (place / "m.safetensors").read_bytes()
    # The last weight is NaN: that is noticed only when the weights are read.
    (place / "broken.safetensors").write_bytes(content[:-4] + np.float32(np.nan).tobytes())
    events = []
    with pytest.raises(ModelError, match="finite"):
        predict_scenes(
            [place / f"{scene}.tif" for scene in HEIGHTS],
            place / "none" / "{stem}.tif",
            PredictOptions(place / "broken.safetensors", precision="fp32"),
            on_event=events.append,
            run=PredictRun(devices="cpu:2"),
        )
    assert "another process" not in str(events)
    assert "failed" not in events[-1]["counts"]
    assert not list(place.glob("none/*"))
    assert_nothing_is_left(place / "none")


@pytest.mark.long
def test_the_workers_of_a_cluster_make_the_maps_of_one_process(place):
    pytest.importorskip("distributed")
    scenes = ["low", "damaged", "middle", "tall"]
    result = batch(place, "cluster", scenes, PredictRun(dask="local:2"))
    assert [scene.status for scene in result.scenes] == ["mapped", "failed", "mapped", "mapped"]
    for scene in ("low", "middle", "tall"):
        assert layers(place, "cluster", scene) == layers(place, "one", scene)
    assert_nothing_is_left(place / "cluster")


def test_wrong_devices_are_told_before_anything_is_computed(place):
    with pytest.raises(UsageError, match="--devices cpu:0"):
        batch(place, "wrong", ["low"], PredictRun(devices="cpu:0"))
    assert not (place / "wrong").exists()
