"""A run that was killed goes on where it was, and its map is that of an undisturbed run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from disks import read_only_disk, small_disk
from doubles import legend
from models import random_bundle
from paths import ROOT, SUPPORT
from scene_rasters import write

from cwsam_geo.cli.main import main
from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError
from cwsam_geo.prediction import journal as journals
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.predict_scene import predict_scene

CLASSES = legend(4, first=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    random_bundle(CLASSES).save(path)
    return path


def values(height=1300, width=90, seed=0):
    rng = np.random.default_rng(seed)
    level = rng.normal(-12, 4, (height // 20 + 1, width // 20 + 1)).repeat(20, 0).repeat(20, 1)
    vv = level[:height, :width] + rng.normal(0, 1, (height, width))
    vv[200:420, :50] = np.nan
    return np.stack([vv, vv - 7]).astype("f4")


@pytest.fixture
def scene(tmp_path):
    return write(tmp_path / "scene.tif", values(), ("VV", "VH"))


@pytest.fixture
def often(monkeypatch):
    """A part after every row of tiles, from the first one on."""
    monkeypatch.setattr(journals, "_SECONDS", 0.0)
    monkeypatch.setattr(journals, "_PAUSE", 1e-9)


class StoppedError(Exception):
    pass


def stop_at(share):
    """Lets a run fail in the middle, as an error of any library would."""

    def listen(event):
        if event["event"] == "progress" and event["tiles"] >= share * event["total"]:
            raise StoppedError

    return listen


def predict(scene, output, model, resume=None, listen=lambda _: None, **options):
    events = []

    def told(event):
        events.append(event)
        listen(event)

    outputs = PredictOutputs(
        confidence=output.with_name(f"{output.stem}_c.tif"),
        probabilities=output.with_name(f"{output.stem}_p.tif"),
        overwrite=True,
    )
    settings = PredictOptions(model=model, precision="fp32", device="cpu", **options)
    summary = predict_scene(scene, output, settings, outputs, told, run=PredictRun(resume=resume))
    return summary, events


def layers(output):
    found = []
    for end in ("", "_c", "_p"):
        with rasterio.open(output.with_name(f"{output.stem}{end}.tif")) as file:
            tags = {k: v for k, v in file.tags().items() if k != "TIFFTAG_DATETIME"}
            found.append((file.read().tobytes(), file.profile, file.descriptions, tags))
    return found


def journal_of(output):
    return output.with_name(f".{output.name}.parts")


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_a_resumed_run_makes_the_map_of_an_undisturbed_one(tmp_path, scene, model, often, share):
    whole, _ = predict(scene, tmp_path / "whole.tif", model)
    output = tmp_path / "map.tif"
    with pytest.raises(StoppedError):
        predict(scene, output, model, True, stop_at(share))
    assert not output.exists()
    assert journal_of(output).exists() == (share > 0.4)
    summary, events = predict(scene, output, model, True)
    assert layers(output) == layers(tmp_path / "whole.tif")
    assert summary.pixels == whole.pixels
    assert (summary.tiles, summary.empty_tiles) == (whole.tiles, whole.empty_tiles)
    assert not journal_of(output).exists()
    progress = [e for e in events if e["event"] == "progress"]
    assert progress[-1]["tiles"] == progress[-1]["total"] == whole.tiles
    assert (progress[0]["tiles"] > 0.3 * whole.tiles) == (share > 0.4)


def test_a_failed_run_says_what_is_kept_and_the_next_one_how_to_go_on(
    tmp_path, scene, model, often
):
    output, events = tmp_path / "map.tif", []

    def listen(event):
        events.append(event)
        stop_at(0.6)(event)

    with pytest.raises(StoppedError):
        predict(scene, output, model, None, listen)
    assert "39 % of the map is finished and kept in" in events[-1]["text"]
    with pytest.raises(UsageError, match="pass --resume to go on, or --no-resume to begin again"):
        predict(scene, output, model)
    _, events = predict(scene, output, model, False)
    assert not any("resume" in e.get("text", "") for e in events)
    assert output.exists()
    assert not journal_of(output).exists()


def test_short_runs_leave_no_journal(tmp_path, scene, model):
    output = tmp_path / "map.tif"
    with pytest.raises(StoppedError):
        predict(scene, output, model, None, stop_at(0.9))
    assert sorted(os.listdir(tmp_path)) == ["scene.tif"]
    predict(scene, output, model, True)  # nothing to resume: begins
    assert not journal_of(output).exists()


def half_done(tmp_path, scene, model, **options):
    output = tmp_path / "map.tif"
    with pytest.raises(StoppedError):
        predict(scene, output, model, True, stop_at(0.6), **options)
    assert list(journal_of(output).glob("part-*.json"))
    return output


def test_another_run_is_refused_with_the_difference(tmp_path, scene, model, often):
    output = half_done(tmp_path, scene, model)
    with pytest.raises(UsageError, match="--overlap was none, now 16"):
        predict(scene, output, model, True, overlap=16)
    random_bundle(CLASSES, seed=1).save(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="model was "):
        predict(scene, output, tmp_path / "other.safetensors", True)
    os.utime(scene, (1e9, 1e9))
    with pytest.raises(UsageError, match=r"file scene.tif was .* now .*2001-09-09"):
        predict(scene, output, model, True)
    assert list(journal_of(output).glob("part-*.json"))  # nothing is lost by trying


def test_other_outputs_are_another_run(tmp_path, scene, model, often):
    output = half_done(tmp_path, scene, model)
    options = PredictOptions(model=model, precision="fp32", device="cpu")
    with pytest.raises(UsageError, match="confidence was 1, now none"):
        predict_scene(scene, output, options, run=PredictRun(resume=True))


def test_damaged_parts_are_computed_again(tmp_path, scene, model, often):
    predict(scene, tmp_path / "whole.tif", model)
    output = half_done(tmp_path, scene, model)
    for damage in (lambda p: p.write_bytes(p.read_bytes()[:-7]), Path.unlink):
        damage(next(journal_of(output).glob("part-*-confidence.tif")))
        with pytest.raises(StoppedError):
            predict(scene, output, model, True, stop_at(0.7))
    predict(scene, output, model, True)
    assert layers(output) == layers(tmp_path / "whole.tif")
    (journal_of(output)).mkdir()
    (journal_of(output) / "journal.json").write_text("{")
    with pytest.raises(OutputError, match=r"is damaged.*--no-resume"):
        predict(scene, output, model, True)


def test_a_full_disk_for_the_parts(tmp_path, scene, model):
    options = PredictOptions(model=model, precision="fp32", device="cpu")
    with small_disk(tmp_path / "disk", 300) as disk:
        run = PredictRun(resume=True, parts=str(disk))
        with pytest.raises(OutputError, match="the disk is full"):
            predict_scene(scene, tmp_path / "map.tif", options, run=run)
        assert os.listdir(disk) == []
    assert sorted(os.listdir(tmp_path)) == ["disk", "scene.tif"]


def test_parts_on_a_disk_that_cannot_be_written(tmp_path, scene, model, capfd):
    """Asked for, they stop the run at once, with one line; else the run goes on without them."""
    with read_only_disk(tmp_path / "disk") as disk:
        output = tmp_path / "map.tif"
        arguments = [
            "predict",
            scene,
            "-o",
            output,
            "-m",
            model,
            "--device",
            "cpu",
            "--parts",
            disk,
        ]
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments), "--resume"])
        assert stopped.value.code == 1
        said = capfd.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"Error: {disk}/map.tif-")
        assert said.endswith(
            ".parts: Read-only file system; check that this can be written, or name another folder "
            "with --parts"
        )
        assert not output.exists()
        with pytest.raises(SystemExit):
            main(list(map(str, arguments)))
        assert output.exists()


def test_two_runs_of_one_output_do_not_mix(tmp_path, scene, model, often):
    output = half_done(tmp_path, scene, model)
    lock = journals._locked(journal_of(output) / "lock")
    with pytest.raises(OutputError, match="another run is writing it"):
        predict(scene, output, model, True)
    lock.close()
    predict(scene, output, model, True)


def test_a_journal_that_cannot_be_written_does_not_stop_a_run_that_did_not_ask_for_one(
    tmp_path, scene, model, often
):
    output = tmp_path / "map.tif"
    journal_of(output).write_text("a file is in the way")
    _, events = predict(scene, output, model)
    assert output.exists()
    texts = [e["text"] for e in events if e["event"] == "warning"]
    assert sum("cannot be resumed" in text for text in texts) == 1
    output.unlink()
    with pytest.raises(CwsamGeoError, match=r"\.map\.tif\.parts"):
        predict(scene, output, model, True)


def test_from_the_command_line(tmp_path, scene, model, often, capfd):
    output = half_done(tmp_path, scene, model)
    arguments = ["predict", scene, "-o", output, "-m", model, "--device", "cpu"]
    arguments += ["--precision", "fp32", "--confidence", output.with_name("map_c.tif")]
    arguments += ["--probabilities", output.with_name("map_p.tif")]
    for more, code, said in (
        ([], 2, "pass --resume to go on, or --no-resume to begin again"),
        (["--resume", "--overlap", "20"], 2, "--overlap was none, now 20"),
        (["--resume"], 0, "resume: 39 % of the map is finished already"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments), *more])
        assert (stopped.value.code or 0, said in capfd.readouterr().err) == (code, True)


def killed(tmp_path, scene, model, seed, kills):
    script = [sys.executable, SUPPORT / "killer.py", seed, kills, tmp_path, scene, "-m", model]
    more = ["--device", "cpu", "--precision", "fp32", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*map(str, script), *more], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["different"] == 0, found
    assert found["left"] == [], found
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_go_on(tmp_path, scene, model):
    assert killed(tmp_path, scene, model, seed=1, kills=4)["killed"] >= 4


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_kills(tmp_path, shared_data, model, seed):
    """Of a real scene: chips of Sen1Floods11, one below the other."""
    chips = sorted(shared_data.glob("sen1floods11/*_S1Hand.tif"))[seed : seed + 4]
    bands = []
    for chip in chips:
        with rasterio.open(chip) as file:
            bands.append(file.read()[:, :, 170:330])  # narrow, so that a run takes seconds
    scene = write(tmp_path / "scene.tif", np.concatenate(bands, 1), ("VV", "VH"))
    found = killed(tmp_path, scene, model, seed, 25)
    print(f"seed {seed}: {found}")
    assert found["resumed"] > 0
