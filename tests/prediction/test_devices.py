"""A process on each device: the map is that of one process, whatever happens to the others."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import torch
from doubles import legend
from models import random_bundle
from paths import ROOT
from scene_rasters import write

from cwsam_geo.errors import CwsamGeoError, SceneError, UsageError
from cwsam_geo.io.raster_sink import BLOCK
from cwsam_geo.prediction import devices
from cwsam_geo.prediction.devices import ProcessPlace, parse_devices
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.predict_scene import predict_scene
from cwsam_geo.prediction.shards import rest_of, shard_rows

CLASSES = legend(4, first=1)


def test_words_for_devices(monkeypatch):
    monkeypatch.setattr(devices, "cuda_count", lambda: 4)
    monkeypatch.setattr(devices, "thread_count", lambda: 8)
    monkeypatch.setattr(devices, "resolve_device", lambda name: name)
    assert parse_devices("all") == [ProcessPlace(f"cuda:{i}") for i in range(4)]
    assert parse_devices("2") == [ProcessPlace("cuda:0"), ProcessPlace("cuda:1")]
    assert parse_devices("cuda:0,cuda:2") == [ProcessPlace("cuda:0"), ProcessPlace("cuda:2")]
    assert parse_devices("cpu:3") == [ProcessPlace("cpu", 2)] * 3
    assert parse_devices("cpu:16") == [ProcessPlace("cpu", 1)] * 16
    for text in ("", "0", "5", "gpu", "cuda:0,cpu:2", "cpu:0", "cuda:1,cuda:1", "cuda:-1"):
        with pytest.raises(UsageError, match="--devices"):
            parse_devices(text)
    monkeypatch.setattr(devices, "cuda_count", lambda: 0)
    for text in ("2", "all"):
        with pytest.raises(UsageError, match="give cpu:2"):
            parse_devices(text)


@pytest.mark.parametrize("height", [1, 100, BLOCK, BLOCK + 1, 5 * BLOCK, 40_000])
@pytest.mark.parametrize("processes", [1, 2, 5, 256])
def test_shards_cover_what_is_missing_once(height, processes):
    missing = [range(0, height)]
    if height > 3 * BLOCK:
        missing = [range(0, BLOCK), range(3 * BLOCK, height)]
    shards = shard_rows(missing, -(-height // 100), processes)
    rows = [row for shard in shards for row in shard]
    assert rows == [row for some in missing for row in some]
    assert all(shard.start % BLOCK == 0 and len(shard) for shard in shards)
    blocks = sum(-(-len(some) // BLOCK) for some in missing)
    assert min(processes, blocks) <= len(shards) <= 4 * processes + len(missing)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [33, 51, 72, 149])
def test_shards_of_a_whole_map_are_equal_and_as_many_for_every_process(rows, processes):
    shards = shard_rows([range(112 * rows)], rows, processes)
    assert len(shards) % processes == 0
    lengths = [len(shard) for shard in shards]
    assert max(lengths) - min(lengths) <= BLOCK


def test_what_is_left_of_a_shard():
    assert list(rest_of(range(0, 90), [])) == [range(0, 90)]
    assert list(rest_of(range(0, 90), [range(0, 30), range(30, 60)])) == [range(60, 90)]
    assert list(rest_of(range(0, 90), [range(30, 60)])) == [range(0, 30), range(60, 90)]
    assert list(rest_of(range(0, 90), [range(0, 90)])) == []


@pytest.fixture(scope="module")
def one_thread():
    """Sums may be rounded differently by another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory, one_thread):
    """A scene, a model, and the map of one process."""
    folder = tmp_path_factory.mktemp("devices")
    random_bundle(CLASSES).save(folder / "m.safetensors")
    rng = np.random.default_rng(0)
    level = rng.normal(-12, 4, (131, 11)).repeat(20, 0).repeat(20, 1)
    vv = level[:2600, :201] + rng.normal(0, 1, (2600, 201))
    vv[700:1300, :150] = np.nan
    write(folder / "scene.tif", np.stack([vv, vv - 7]).astype("f4"), ("VV", "VH"))
    predict(folder, "whole", None)
    return folder


def predict(folder, name, words, listen=lambda _: None, scene="scene.tif", **run):
    outputs = PredictOutputs(
        confidence=folder / f"{name}_c.tif", probabilities=folder / f"{name}_p.tif"
    )
    options = PredictOptions(
        model=folder / "m.safetensors", precision="fp32", device="auto" if words else "cpu"
    )
    events = []

    def told(event):
        events.append(event)
        listen(event)

    summary = predict_scene(
        folder / scene,
        folder / f"{name}.tif",
        options,
        outputs,
        told,
        run=PredictRun(devices=words, **run),
    )
    return summary, events


def layers(folder, name):
    found = []
    for end in ("", "_c", "_p"):
        with rasterio.open(folder / f"{name}{end}.tif") as file:
            tags = {k: v for k, v in file.tags().items() if k != "TIFFTAG_DATETIME"}
            found.append((file.read().tobytes(), file.profile, file.descriptions, tags))
    return found


def only_children():
    """The processes of a pool that are alive."""
    return multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [2, pytest.param(1, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
def test_processes_make_the_map_of_one_process(place, count):
    summary, events = predict(place, f"by{count}", f"cpu:{count}")
    assert layers(place, f"by{count}") == layers(place, "whole")
    assert sum(summary.pixels.values()) == 2600 * 201
    done = [e for e in events if e["event"] == "progress"][-1]
    assert done["tiles"] == done["total"] == summary.tiles
    assert not (place / f".by{count}.tif.parts").exists()
    assert only_children() == []


@pytest.mark.slow
def test_the_rows_of_a_process_that_dies_go_to_another(place):
    dead = []

    def kill_one(event):
        if event["event"] == "progress" and not dead and event["tiles"] > 5:
            dead.append(only_children()[0])
            os.kill(dead[0].pid, signal.SIGKILL)

    _, events = predict(place, "lost", "cpu:2", kill_one)
    assert layers(place, "lost") == layers(place, "whole")
    warnings = [e["text"] for e in events if e["event"] == "warning"]
    assert any("the process on cpu was ended by SIGKILL; another process" in w for w in warnings)


@pytest.mark.long
def test_if_all_processes_die_the_run_can_go_on(place):
    def kill_all(event):
        if event["event"] == "progress" and event["tiles"] > 5:
            for child in only_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(CwsamGeoError, match="none is left; pass --resume"):
        predict(place, "all", "cpu:2", kill_all)
    assert not (place / "all.tif").exists()
    # One process may finish what several have begun.
    predict(place, "all", None, resume=True)
    assert layers(place, "all") == layers(place, "whole")


@pytest.mark.long
def test_an_error_of_a_process_is_that_of_the_run(place):
    (place / "changing.tif").write_bytes((place / "scene.tif").read_bytes())

    def change(event):
        if event["event"] == "start":
            os.utime(place / "changing.tif", (1e9, 1e9))

    with pytest.raises(SceneError, match=r"changing\.tif has changed since the run began"):
        predict(place, "changed", "cpu:2", change, scene="changing.tif")
    assert not (place / "changed.tif").exists()
    assert only_children() == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_leaves_no_process_and_no_map(place):
    # So large that no machine has mapped it when the first progress is read.
    values = np.random.default_rng(0).normal(-10, 4, (2, 4000, 3000)).astype(np.float32)
    write(place / "large.tif", values, ("VV", "VH"))
    arguments = ["predict", place / "large.tif", "-o", place / "stop.tif", "--devices", "cpu:2",
                 "-m", place / "m.safetensors", "--precision", "fp32", "--json"]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-m", "cwsam_geo.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        start_new_session=True,
        # A shell's background jobs ignore SIGINT, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in run.stdout:
        if '"progress"' in line:
            break
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (place / "stop.tif").exists()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process is left")
