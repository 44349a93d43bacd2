"""The scene simulator in examples/: any window alone, and files opened again."""

import json
import sys
import tracemalloc

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import EXAMPLES

sys.path.insert(0, str(EXAMPLES))

import simulate_scene
from simulator.landscape import BARE, BUILT, CROPS, LEGEND, TREES, WATER, Landscape
from simulator.radar import Radar
from simulator.scene import Scene, SceneSpec

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.errors import UsageError

SPEC = SceneSpec(height=600, width=1100, seed=4)


@pytest.fixture(scope="module")
def whole():
    return Scene(SPEC).read(SPEC.grid.window)


@pytest.fixture(scope="module")
def example():
    with rasterio.open(EXAMPLES / "scene.tif") as scene:
        values = scene.read()
    with rasterio.open(EXAMPLES / "scene_truth.tif") as truth:
        return values, truth.read(1)


def simulate(*arguments):
    return CliRunner().invoke(simulate_scene.main, [str(a) for a in arguments])


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_window_made_alone_is_the_same_as_cut_from_the_whole(whole, data):
    row = data.draw(st.integers(0, SPEC.height - 1))
    col = data.draw(st.integers(0, SPEC.width - 1))
    height = data.draw(st.integers(1, min(SPEC.height - row, 300)))
    width = data.draw(st.integers(1, min(SPEC.width - col, 300)))
    window = Window(row, col, height, width)
    values, classes = Scene(SPEC).read(window, jobs=data.draw(st.integers(1, 3)))
    np.testing.assert_array_equal(values, whole[0][(slice(None), *window.slices)])
    np.testing.assert_array_equal(classes, whole[1][window.slices])


@pytest.mark.parametrize("block_shape", [(96, 200), (1024, 2048)])
def test_blocks_leave_no_seam(whole, block_shape):
    """Blocks of another shape change rounding, and a class here and there, but nothing else."""
    values, classes = Scene(SPEC, block_shape).read(SPEC.grid.window)
    assert (classes != whole[1]).mean() < 1e-4
    with np.errstate(invalid="ignore"):
        apart = np.abs(values - whole[0]) > 0.01
    assert apart.mean() < 1e-3


def test_seeds_give_other_scenes():
    window = Window(0, 0, 256, 512)
    a, b = (Scene(SceneSpec(512, 512, seed=s, tilt=0)).read(window) for s in (0, 2**40))
    assert (a[0] != b[0]).mean() > 0.99
    assert (a[1] != b[1]).any()


def test_far_corner_of_a_whole_sentinel_1_scene_is_made_alone():
    spec = SceneSpec(17_000, 26_000, seed=1, tilt=0)
    values, classes = Scene(spec).read(Window(16_800, 25_500, 200, 500))
    assert np.isfinite(values).all()
    assert set(np.unique(classes)) <= set(LEGEND.codes)


def test_power_amplitude_and_decibels_are_one_scene():
    window = Window(0, 0, 100, 200)
    read = {
        units: Scene(SceneSpec(400, 400, seed=2, units=units)).read(window)[0]
        for units in ("db", "power", "amplitude")
    }
    np.testing.assert_allclose(10 * np.log10(read["power"]), read["db"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(read["amplitude"] ** 2, read["power"], rtol=1e-5)


def test_bands_come_in_the_order_asked_for(whole):
    window = Window(100, 100, 50, 60)
    swapped = SceneSpec(600, 1100, seed=4, bands=("VH", "VV"))
    values = Scene(swapped).read(window)[0]
    np.testing.assert_array_equal(values[::-1], whole[0][(slice(None), *window.slices)])


def test_classes_have_published_backscatter_levels(example):
    values, classes = example
    median = {c: np.median(values[:, classes == c], axis=1) for c in range(5)}
    ranges = {
        WATER: ((-24, -14), (-30, -22)),
        TREES: ((-11, -7), (-17, -12.5)),
        CROPS: ((-14, -10), (-21, -16)),
        BARE: ((-18, -13), (-25, -20)),
        BUILT: ((-11, -5), (-18, -12)),
    }
    for code, expected in ranges.items():
        for value, (low, high) in zip(median[code], expected, strict=True):
            assert low < value < high, LEGEND.names[code]
    # Corners make towns the brightest of all, far above their own median.
    assert np.nanpercentile(values[0][classes == BUILT], 97) > 0
    assert np.nanpercentile(values[0][classes == TREES], 97) < -3


def test_speckle_has_the_looks_asked_for_and_the_correlation_of_resampled_scenes():
    window = Window(30, 500, 300, 500)
    landscape = Landscape(4)
    (first, classes), (second, _) = (
        Radar(seed, landscape, looks=6, middle=200, slant=0).sense(window) for seed in (1, 2)
    )
    # What differs between two looks at water is speckle, and a faint texture. Land that lies
    # under the kernel or a lag is kept out.
    shifts = [np.roll(classes == WATER, (r, c), (0, 1)) for r in (-1, 0, 1) for c in range(-1, 6)]
    water = np.all(shifts, axis=0)
    assert water.sum() > 10_000
    for a, b in zip(first, second, strict=True):
        difference = a - b
        square = (difference**2)[water].mean()
        assert 2 * (a * b)[water].mean() / square == pytest.approx(5.6, abs=0.6)
        lags = [np.roll(difference, k, 1) for k in (1, 2, 4)]
        near, far, none = ((difference * lag)[water].mean() / square for lag in lags)
        assert near == pytest.approx(0.62, abs=0.06)
        assert far == pytest.approx(0.14, abs=0.06)
        assert none == pytest.approx(0, abs=0.06)


def test_swath_leans_and_what_is_outside_is_nodata_in_both(tmp_path):
    scene, truth = tmp_path / "s.tif", tmp_path / "t.tif"
    result = simulate(scene, truth, "--height", 300, "--width", 400, "--tilt", 10, "--nodata", -99)
    assert result.exit_code == 0, result.output
    with rasterio.open(scene) as file, rasterio.open(truth) as labels:
        assert file.nodata == -99
        assert labels.nodata == NODATA
        outside = file.read(1) == -99
        np.testing.assert_array_equal(outside, labels.read(1) == NODATA)
        np.testing.assert_array_equal(outside, file.read(2) == -99)
    assert 0.2 < outside.mean() < 0.5
    # Two opposite corners lie far outside, and each row and column meets the swath.
    assert outside[:20, -20:].all()
    assert outside[-20:, :20].all()
    assert not outside.all(axis=0).any()
    assert not outside.all(axis=1).any()


def test_no_tilt_no_border():
    assert (Scene(SceneSpec(80, 90, tilt=0)).read(Window(0, 0, 80, 90))[1] != NODATA).all()


@pytest.mark.parametrize(("layout", "blocks"), [("tiled", (256, 256)), ("strip", (1, 520))])
def test_files_are_georeferenced_and_named(tmp_path, layout, blocks):
    scene, truth = tmp_path / "s.tif", tmp_path / "t.tif"
    result = simulate(
        scene, truth, "--height", 300, "--width", 520, "--layout", layout, "--crs", "EPSG:32719"
    )
    assert result.exit_code == 0, result.output
    with rasterio.open(scene) as file, rasterio.open(truth) as labels:
        assert file.crs == labels.crs == "EPSG:32719"
        assert file.transform == labels.transform
        assert file.transform.a == 10
        assert file.descriptions == ("VV", "VH")
        assert file.units == ("dB", "dB")
        assert file.dtypes == ("float32", "float32")
        assert np.isnan(file.nodata)
        assert file.block_shapes[0] == blocks
        assert labels.dtypes == ("uint8",)
        assert json.loads(labels.tags()["LEGEND"]) == LEGEND.to_list()
        assert labels.colormap(1)[WATER][:3] == LEGEND.entries[WATER].rgb
        spec = SceneSpec(300, 520, crs="EPSG:32719")
        values, classes = Scene(spec).read(spec.grid.window)
        np.testing.assert_array_equal(file.read(), values)
        np.testing.assert_array_equal(labels.read(1), classes)


def test_uint16_amplitude_has_0_for_nodata_alone(tmp_path):
    scene, truth = tmp_path / "s.tif", tmp_path / "t.tif"
    options = ["--units", "amplitude", "--dtype", "uint16", "--bands", "vv", "--compress", "zstd"]
    assert simulate(scene, truth, "--height", 200, *options).exit_code == 0
    with rasterio.open(scene) as file, rasterio.open(truth) as labels:
        assert file.count == 1
        assert file.dtypes == ("uint16",)
        assert file.nodata == 0
        np.testing.assert_array_equal(file.read(1) == 0, labels.read(1) == NODATA)


def test_rounding_to_steps(tmp_path):
    scene = tmp_path / "s.tif"
    assert simulate(scene, "--height", 100, "--width", 100, "--step", 0.25).exit_code == 0
    with rasterio.open(scene) as file:
        values = file.read(masked=True).compressed()
    np.testing.assert_array_equal(values * 4, np.rint(values * 4))
    assert list(tmp_path.iterdir()) == [scene]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dtype", "uint16"], "--units amplitude"),
        (["--bands", "hh"], "VV, VH"),
        (["--tilt", "40"], "tilt"),
        (["--looks", "0.5"], "looks"),
        (["--crs", "EPSG:4326"], "projection"),
        (["--crs", "EPSG:1"], "unknown"),
        (["--height", "200000"], "100,000"),
        (["--dtype", "uint16", "--units", "amplitude", "--nodata", "-1"], "uint16"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, options, says):
    result = simulate(tmp_path / "s.tif", tmp_path / "t.tif", "--width", 64, *options)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert says in result.output
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(tmp_path):
    scene, truth = tmp_path / "s.tif", tmp_path / "t.tif"
    truth.write_bytes(b"mine")
    size = ("--height", 40, "--width", 40)
    result = simulate(scene, truth, *size)
    assert result.exit_code == 2
    assert "--overwrite" in result.output
    assert truth.read_bytes() == b"mine"
    assert not scene.exists()
    assert simulate(scene, scene, *size).exit_code == 2
    assert simulate(scene, truth, *size, "--overwrite").exit_code == 0
    with rasterio.open(truth) as labels:
        assert labels.shape == (40, 40)


def test_unfitting_specs_are_usage_errors():
    with pytest.raises(UsageError, match="row"):
        SceneSpec(0, 5)


def test_memory_does_not_grow_with_the_height(tmp_path):
    def peak(height):
        spec = SceneSpec(height, 700, seed=3)
        tracemalloc.start()
        try:
            simulate_scene.write_scene(tmp_path / f"{height}.tif", None, spec, jobs=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(256)  # tables and caches
    assert peak(2048) < 1.3 * peak(512)


def test_committed_scene_is_what_the_command_makes(example):
    """To rounding: another processor's linear algebra may differ in the last bit."""
    spec = SceneSpec(768, 1024, seed=4)
    values, classes = Scene(spec).read(spec.grid.window)
    assert (classes != example[1]).mean() < 1e-3
    with np.errstate(invalid="ignore"):
        assert (np.abs(values - example[0]) > 0.04).mean() < 1e-3
    assert set(np.unique(classes)) == {*LEGEND.codes, NODATA}
    size = sum((EXAMPLES / name).stat().st_size for name in ("scene.tif", "scene_truth.tif"))
    assert size < 3e6
