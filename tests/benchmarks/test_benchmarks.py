"""The benchmarks: they start, and what they measure is what they say."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from paths import BENCHMARKS, EXPERIMENTS

sys.path[:0] = [str(BENCHMARKS), str(EXPERIMENTS)]

import everything  # noqa: E402
import floods  # noqa: E402
import geotiff  # noqa: E402
import recipe  # noqa: E402
import scenes  # noqa: E402
import seam_counts  # noqa: E402
import seam_maps  # noqa: E402
import seams  # noqa: E402
import simulated_water  # noqa: E402
from vectorize import make_raster  # noqa: E402

import cwsam_geo  # noqa: E402
from cwsam_geo.core.grid import Window  # noqa: E402
from cwsam_geo.core.legend import Legend  # noqa: E402
from cwsam_geo.core.preprocess import SceneBands  # noqa: E402
from cwsam_geo.prediction.stream import RowBand  # noqa: E402

SCRIPTS = sorted(
    path.name
    for path in BENCHMARKS.glob("*.py")
    if "@click.command" in path.read_text() or "ArgumentParser" in path.read_text()
)

# One process for all, since each would import torch.
HELP = """
import contextlib, io, json, runpy, sys
from pathlib import Path
found = {}
for script in sys.argv[2:]:
    sys.argv[:] = [script, "--help"]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_path(str(Path(FOLDER) / script), run_name="__main__")
    except SystemExit as end:
        found[script] = [end.code, text.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def help_texts():
    code = HELP.replace("sys.argv[2:]", repr(SCRIPTS)).replace("FOLDER", repr(str(BENCHMARKS)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(help_texts, script):
    code, text = help_texts[script]
    assert code in (0, None)
    assert "--help" in text


@pytest.mark.parametrize("megapixels", [0.3, 25, 430])
def test_sizes_are_those_of_real_scenes(megapixels):
    height, width = scenes.size_of(megapixels)
    assert height * width / 1e6 == pytest.approx(megapixels, rel=0.01)
    assert width / height == pytest.approx(scenes.FULL_WIDTH / scenes.FULL_HEIGHT, rel=0.01)


def test_a_scene_is_made_once(tmp_path):
    storage = scenes.Storage(layout="strip", compress="none")
    path = scenes.benchmark_scene(tmp_path, (40, 60), storage)
    made = path.stat().st_mtime_ns
    assert scenes.benchmark_scene(tmp_path, (40, 60), storage) == path
    assert path.stat().st_mtime_ns == made
    with rasterio.open(path) as scene:
        assert scene.shape == (40, 60)
        assert scene.block_shapes == [(1, 60), (1, 60)]


class Made(seam_maps.Mapper):
    """Logits that are the scene's own values, so that nothing depends on tiles but ``shift``."""

    def __init__(self, shift):
        self.tile_size, self.stride, self.shift = 64, 4, shift
        self.legend = Legend.from_list(
            [{"code": i, "name": str(i), "color": "#000000"} for i in range(3)], where="test"
        )

    def tiles(self, scene, tiling):
        rng = np.random.default_rng(1)
        n = tiling.size
        field = np.pad(scene.band.values[:, ::4, ::4], ((0, 0), (0, n), (0, n)))
        for i, row in enumerate(tiling.rows):
            for j, col in enumerate(tiling.cols):
                own = self.shift * rng.standard_normal((3, 1, 1)).astype(np.float32)
                yield i, j, field[:, row : row + n, col : col + n] + own


def made_scene(side=330):
    window = Window(0, 0, side, side)
    values = np.random.default_rng(0).standard_normal((3, side, side)).astype(np.float32)
    band = RowBand(window, values, np.ones((side, side), bool))
    return seam_maps.Scene("made", band, SceneBands("db", (0,)))


def test_no_seams_where_tiles_do_not_matter():
    rows = seams.measure(Made(0), [made_scene()], seams.ways_of("0,1/8,1/2", "cosine,flat"))
    assert [row["overlap"] for row in rows] == ["0", "0", "1/8", "1/8", "1/2", "1/2"]
    for row in rows:
        assert row["differs"] < 1e-3
        assert row["centred"] < 1e-3
        assert row["step"] == pytest.approx(1, abs=0.1)
        assert row["pixels"] == 4 * (330 - 2 * 80) ** 2


def test_seams_are_found_and_blending_hides_them():
    rows = seams.measure(Made(3), [made_scene()], seams.ways_of("0,1/4", "linear,flat"))
    hard, _, soft, steps = rows
    assert hard["step"] > 1.3
    assert soft["step"] < steps["step"] < hard["step"]
    assert hard["cost"] == 1
    assert soft["cost"] == pytest.approx(1.78, abs=0.02)


def test_edges_of_tiles():
    tiling = seam_maps.Tiling((0, 12, 20), (0,), size=16, overlap=4, stride=4)
    assert tiling.edges(0).tolist() == [12, 16, 20, 28]
    assert tiling.overlaps(0) == [12]
    near = seam_counts.near_edges(tiling, (140, 64))
    assert np.flatnonzero(near[:, 0]).tolist() == [
        *range(44, 52), *range(60, 68), *range(76, 84), *range(108, 116)
    ]  # fmt: skip
    assert (near == near[:, :1]).all()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    mapper = seam_maps.Mapper("demo", "fp32")
    folder = tmp_path_factory.mktemp("seams")
    return mapper, seam_maps.simulated_scene(folder, 290, 7, mapper.spec, mapper.legend), folder


@pytest.mark.parametrize(("overlap", "blend"), [("1/8", "linear"), ("1/2", "cosine")])
def test_scenes_are_mapped_as_predict_maps_them(simulated, tmp_path, overlap, blend):
    mapper, scene, folder = simulated
    tiling = seam_maps.Tiling.of(mapper.plan(scene.shape, Fraction(overlap)))
    ours = mapper.classes(mapper.blended(scene, tiling, [blend])[blend], scene)
    pixels = int(Fraction(overlap) * mapper.tile_size)
    options = cwsam_geo.PredictOptions(
        model="demo", device="cpu", precision="fp32", overlap=pixels, blend=blend
    )
    cwsam_geo.predict_scene(folder / "seed 7.tif", tmp_path / "map.tif", options)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (mapper.legend.codes[ours] == file.read(1)).mean() > 0.9999
    assert scene.truth is not None


def test_seams_of_the_demo_model(tmp_path):
    output = tmp_path / "seams.json"
    arguments = [
        "-m",
        "demo",
        "--size",
        "260",
        "--seeds",
        "7",
        "--overlaps",
        "0,1/8",
        "--phases",
        "1",
    ]
    done = CliRunner().invoke(
        seams.main, [*arguments, "--blends", "cosine", "-o", str(output)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    hard, soft = json.loads(output.read_text())["rows"]
    assert hard["step"] > soft["step"]
    assert 0 < soft["differs"] < hard["differs"] < 0.5
    assert 0 < soft["miou"] < 1
    assert "| 1/8 | cosine | 1.30 |" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "100"], "leave nothing inside a margin"),
        (["--blends", "cosine,square"], "--blends"),
        (["--overlaps", "a"], "not shares of a tile"),
        (["-m", "nosuch"], "nosuch"),
        (["--overlaps", "3/4", "--size", "340"], "choose 0 to 64"),
    ],
)
def test_seams_says_what_is_wrong(arguments, words):
    done = CliRunner().invoke(seams.main, ["-m", "demo", "--seeds", "7", *arguments])
    assert done.exit_code
    assert words in done.output


def test_decode_and_encode(tmp_path):
    scene = scenes.benchmark_scene(tmp_path, (300, 500))
    wall, cpu, own = geotiff.decode(scene)["decode"]
    assert wall > 0
    assert cpu >= own > 0
    classes, output = tmp_path / "classes.tif", tmp_path / "map.tif"
    make_raster(classes, 700, 900)
    assert set(geotiff.encode(classes, output, "2")) == {"stream", "COG"}
    with rasterio.open(classes) as a, rasterio.open(output) as b:
        assert (a.read() == b.read()).all()


SAYS_ONE = "import json, sys; open(sys.argv[-1], 'w').write(json.dumps({'x': 1}))"


def job(tmp_path, name, code, **more):
    script = tmp_path / f"{name}.py"
    script.write_text(code)
    return everything.Job(
        name,
        str(script),
        (),
        lambda path: [everything.Figure("made", str(json.loads(path.read_text())["x"]))],
        **more,
    )


def test_jobs_run_fail_resume_and_wait_for_a_gpu(tmp_path):
    good = job(tmp_path, "good", SAYS_ONE)
    assert everything.done(good, tmp_path, False, False)[0][0].case == "1"
    good.result(tmp_path).write_text('{"x": 2}')
    assert everything.done(good, tmp_path, True, False)[0][0].case == "2"
    assert everything.done(good, tmp_path, False, False)[0][0].case == "1"
    (row,), well = everything.done(
        job(tmp_path, "model-small-cuda", "import sys; sys.exit('no luck')"), tmp_path, False, True
    )
    assert not well
    assert row.remarks == "FAILED: no luck"
    assert (row.benchmark, row.case) == ("model only", "small")
    (row,), well = everything.done(
        job(tmp_path, "gpu", SAYS_ONE, gpu=True), tmp_path, False, gpu=False
    )
    assert well
    assert row.remarks == "not run: no GPU"
    printed = job(tmp_path, "printed", "print('{\"x\": 3}')", prints=True)
    assert everything.done(printed, tmp_path, False, False)[0][0].case == "3"


def test_only_names_benchmarks(tmp_path):
    for quick in (True, False):
        jobs = [
            *everything.model_jobs(quick),
            *everything.end_to_end_jobs(quick, tmp_path),
            *everything.other_jobs(quick, "demo", tmp_path, None),
        ]
        assert len({j.name for j in jobs}) == len(jobs)
        assert {j.script for j in everything.chosen(jobs, "size,seams")} == {
            "predict.py", "seams.py"
        }  # fmt: skip
        with pytest.raises(everything.click.UsageError, match="--only speed"):
            everything.chosen(jobs, "speed")


@pytest.mark.slow
def test_the_quick_run(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "everything.py"), "--quick"]
    done = subprocess.run(
        [*command, "--only", "model,seams,vectorize,training", "--folder", str(tmp_path / "r")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "FAILED" not in done.stdout
    for cell in ("| model only | tiny, fast_bf16", "| seams | demo", "| training |", "no GPU"):
        assert cell in done.stdout
    assert (tmp_path / "r" / "table.md").read_text() in done.stdout


@pytest.mark.parametrize("levels", sorted(simulated_water.LEVELS))
def test_simulated_water_lies_below_land_and_comes_out_the_same_again(tmp_path, levels):
    paths = simulated_water.write_scenes(tmp_path, levels, 2, seed=3)
    made = [path.read_bytes() for pair in paths for path in pair]
    contrasts = []
    for path, truth in paths:
        with rasterio.open(path) as scene, rasterio.open(truth) as mask:
            assert scene.descriptions == ("VV", "VH")
            assert scene.transform == mask.transform
            vh, water = scene.read(2), mask.read(1)
        assert np.isfinite(vh).all()
        assert set(np.unique(water)) <= {0, 1}
        if 0 < water.mean() < 1:
            contrasts.append(np.median(vh[water == 0]) - np.median(vh[water == 1]))
    assert contrasts
    assert min(contrasts) > 0
    paths[0][0].unlink()
    paths[0][1].unlink()
    simulated_water.write_scenes(tmp_path, levels, 2, seed=3)
    again = [path.read_bytes() for pair in paths for path in pair]
    assert again == made


def test_simulated_scenes_that_are_there_stay_and_half_ones_are_made_anew(tmp_path):
    (first, truth), (second, lost) = simulated_water.write_scenes(tmp_path, "usual", 2, seed=3)
    whole = second.read_bytes()
    first.write_bytes(b"mine")
    second.write_bytes(whole[:1000])
    lost.rename(lost.with_suffix(".part"))  # As a kill between the two leaves it.
    simulated_water.write_scenes(tmp_path, "usual", 2, seed=3)
    assert first.read_bytes() == b"mine"
    assert truth.exists()
    assert second.read_bytes() == whole
    assert lost.exists()
    assert not lost.with_suffix(".part").exists()


def test_what_was_trained_on_other_simulated_scenes_is_not_taken(tmp_path, monkeypatch):
    before = recipe.simulation()
    scenes = recipe.simulated(tmp_path, "usual", 1)
    assert before == recipe.simulation()
    assert before in scenes[0]["scene"]
    said = recipe.Recipe(tmp_path, tmp_path, {}, simulated=True).said
    monkeypatch.setitem(recipe.PRETRAIN, "usual", {"epochs": 1})
    assert recipe.simulation() != before
    assert recipe.Recipe(tmp_path, tmp_path, {}, simulated=True).said != said
    assert recipe.Recipe(tmp_path, tmp_path, {}).said["simulated"] is None


def test_a_fold_without_water_is_told_in_json_that_others_can_read():
    fold = {"flood": "Ghana", "model": [[0, 0], [0, 9]], "minutes": 1.0, "cpu_minutes": 1.0}
    threshold = {"iou": 0.0, "best_in_hindsight": 0.0, "folds": {"Ghana": 0.0}}
    told = floods.compared([fold, fold], threshold)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["model_iou"] is None
    wet = {**fold, "model": [[3, 1], [0, 9]], "unet": [[2, 2], [0, 9]]}
    told = floods.compared([wet], threshold)
    assert (told["model_iou"], told["unet_iou"], told["passed"]) == (75.0, 50.0, True)
