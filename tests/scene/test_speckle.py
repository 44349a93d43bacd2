"""The speckle filter: what it smooths and keeps, and that no seam and no nodata shows."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import random_bundle
from scene_rasters import write
from specs import spec

from cwsam_geo.cli.main import main
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.scene import speckle
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source
from cwsam_geo.scene.speckle import RefinedLee, estimated_filter

UNITS = ("power", "amplitude", "db")


def gamma(rng, shape, looks=4.4):
    """Speckle of mean 1."""
    return rng.gamma(looks, 1 / looks, shape).astype(np.float32)


def stored_as(power, units):
    values = {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}
    return values[units].astype(np.float32)


def as_power(values, units):
    return {"power": values, "amplitude": values**2, "db": 10 ** (values / 10)}[units]


def filtered(values, valid=None, looks=4.4, units="power"):
    """A whole scene, filtered; and the filter's function of a window of it."""
    values = values if values.ndim == 3 else values[np.newaxis]
    valid = np.ones(values.shape[1:], bool) if valid is None else valid
    scene = Window(0, 0, *valid.shape)

    def part(window):
        def read(w):
            return values[(slice(None), *w.slices)].copy(), valid[w.slices].copy()

        return RefinedLee(units, looks).filtered(window, scene, read)

    return part(scene)[0], part


def plain(power, valid, looks):
    """The filter pixel by pixel, in float64 and as the books describe it."""
    out = power.astype(np.float64)
    up, right = np.indices((7, 7)) - 3
    halves = {
        (0, -1): right <= 0, (0, 1): right >= 0, (-1, 0): up <= 0, (1, 0): up >= 0,
        (-1, -1): up + right <= 0, (1, 1): up + right >= 0,
        (-1, 1): right >= up, (1, -1): right <= up,
    }  # fmt: skip
    big = np.pad(power.astype(np.float64), 3)
    there = np.pad(valid, 3)
    for row, col in zip(*np.nonzero(valid), strict=True):
        z, v = big[row : row + 7, col : col + 7], there[row : row + 7, col : col + 7]
        means = np.empty((3, 3))
        for i in range(3):
            for j in range(3):
                s = slice(2 * i, 2 * i + 3), slice(2 * j, 2 * j + 3)
                means[i, j] = z[s][v[s]].mean() if v[s].any() else np.nan
        means = np.where(np.isnan(means), means[1, 1], means)
        (nw, n, ne), (w, c, e), (sw, s, se) = means
        edges = [
            (abs(nw + w + sw - ne - e - se), (0, -1), w, (0, 1), e),
            (abs(nw + n + ne - sw - s - se), (-1, 0), n, (1, 0), s),
            (abs(nw + n + w - se - s - e), (-1, -1), nw, (1, 1), se),
            (abs(ne + n + e - sw - s - w), (-1, 1), ne, (1, -1), sw),
        ]
        _, first, a, second, b = max(edges, key=lambda edge: edge[0])
        half = halves[second if abs(b - c) < abs(a - c) else first] & v
        mean, variance = z[half].mean(), z[half].var()
        signal = max(0, variance - mean**2 / looks) / (1 + 1 / looks)
        out[row, col] = mean + (signal / variance if variance else 0) * (power[row, col] - mean)
    return out


@pytest.mark.parametrize("holes", [False, True])
def test_it_is_the_filter_of_the_books(holes):
    rng = np.random.default_rng(0)
    power = gamma(rng, (40, 50)) * (1 + 9 * (np.add.outer(np.arange(40), np.arange(50)) > 45))
    valid = rng.random(power.shape) > 0.3 if holes else np.ones(power.shape, bool)
    found, _ = filtered(power, valid)
    expected = plain(power, valid, 4.4)
    # Where two edges are alike, rounding decides which one counts.
    same = np.isclose(found[0], expected, rtol=1e-3)
    assert same[valid].mean() > 0.995
    np.testing.assert_array_equal(found[0][~valid], power[~valid])


def test_speckle_goes_and_mean_edges_and_targets_stay():
    rng = np.random.default_rng(1)
    level = np.full((120, 160), 0.02)
    level[:, 80:] = 0.2
    power = (level * gamma(rng, level.shape)).astype(np.float32)
    power[60, 40] = power[61, 40] = 50.0  # a ship
    found = filtered(power)[0][0]
    for part in (np.s_[20:50, 10:70], np.s_[20:100, 90:150]):
        assert found[part].mean() == pytest.approx(power[part].mean(), rel=0.02)
        looks = (found[part].mean() / found[part].std()) ** 2
        assert looks > 8 * 4.4
    # No pixel beside the edge is a mixture of both sides.
    assert np.median(found[:, 79]) == pytest.approx(0.02, rel=0.1)
    assert np.median(found[:, 80]) == pytest.approx(0.2, rel=0.1)
    assert found[60, 40] > 0.8 * 50


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_any_window_is_part_of_the_whole_bit_by_bit(monkeypatch, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    units = data.draw(st.sampled_from(UNITS))
    values = stored_as(gamma(rng, (2, height, width)) * 0.05, units)
    valid = rng.random((height, width)) < data.draw(st.sampled_from([0.5, 0.97, 1]))
    values[:, ~valid] = np.nan
    whole, part = filtered(values, valid, units=units)
    monkeypatch.setattr(speckle, "_BLOCK", (data.draw(st.integers(1, 64)), 17))
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(row, col, height, width).intersect(Window(0, 0, height, width))
    found, has_data = part(window)
    np.testing.assert_array_equal(found, whole[(slice(None), *window.slices)])
    np.testing.assert_array_equal(has_data, valid[window.slices])


@pytest.mark.parametrize("units", UNITS)
def test_nodata_never_enters_data(units):
    rng = np.random.default_rng(2)
    values = stored_as(gamma(rng, (1, 50, 50)) * 0.05, units)
    valid = np.ones((50, 50), bool)
    valid[10:30, 20:40] = False
    results = []
    for fill in (np.nan, np.inf, -9999.0, 1e30):
        holed = values.copy()
        holed[:, ~valid] = fill
        found = filtered(holed, valid, units=units)[0]
        assert np.isfinite(found[:, valid]).all()
        results.append(found[:, valid])
    for found in results[1:]:
        np.testing.assert_array_equal(found, results[0])


@pytest.mark.parametrize("units", UNITS)
def test_units_do_not_matter(units):
    power = gamma(np.random.default_rng(3), (1, 40, 40)) * np.float32(0.05)
    expected = filtered(power)[0]
    found = filtered(stored_as(power, units), units=units)[0]
    np.testing.assert_allclose(as_power(found, units), expected, rtol=1e-3)


def test_strange_values_stay_numbers():
    power = gamma(np.random.default_rng(4), (1, 20, 20))
    power[0, 5, 5], power[0, 9, 9], power[0, 12:15, 12:15] = 3e38, 0.0, 1e-35
    assert np.isfinite(filtered(power)[0]).all()
    calm = np.zeros((1, 20, 20), np.float32)
    np.testing.assert_array_equal(filtered(calm)[0], calm)
    same = np.full((1, 20, 20), 0.3, np.float32)
    np.testing.assert_allclose(filtered(same)[0], same, rtol=1e-6)
    assert filtered(np.full((1, 1, 1), -12.5, np.float32), units="db")[0] == pytest.approx(-12.5)


@pytest.mark.parametrize("looks", [1.0, 3.0, 4.4, 10.0, 30.0])
@pytest.mark.parametrize("units", UNITS)
def test_looks_are_estimated(looks, units):
    rng = np.random.default_rng(5)
    level = np.ones((210, 210), np.float32)
    level[:, 105:] *= np.exp(rng.normal(0, 1, (210, 105)))  # half of it is texture
    values = stored_as(0.1 * level * gamma(rng, (2, 210, 210), looks), units)
    valid = np.ones((210, 210), bool)
    valid[:50, :50] = False
    values[:, ~valid] = 7.0
    found = estimated_filter(units, [(values, valid)])
    assert found.estimated
    assert found.looks == pytest.approx(looks, rel=0.15)


def test_looks_are_estimated_of_scenes_in_strips_too(tmp_path):
    power = gamma(np.random.default_rng(7), (1, 90, 9000)) * np.float32(0.1)
    path = write(tmp_path / "s.tif", stored_as(power, "db"), ["VV"], blockysize=1)
    with open_source(path) as source:
        found = plan_reading(source, spec(("VV",)), "db", despeckle=True).source.despeckle
    assert found.estimated
    assert found.looks == pytest.approx(4.4, rel=0.15)


def test_few_pixels_tell_no_looks():
    values = gamma(np.random.default_rng(6), (2, 20, 20))
    found = estimated_filter("power", [(values, np.ones((20, 20), bool))])
    assert (found.looks, found.estimated) == (4.4, False)
    assert "4.4 looks (assumed)" in found.words
    assert not estimated_filter("power", []).estimated


CLASSES = Legend.from_list(
    [
        {"code": 1, "name": "water", "color": "#0000ff"},
        {"code": 2, "name": "land", "color": "#00ff00"},
    ]
)


@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_a_scene_is_read_with_less_speckle(tmp_path, layout):
    rng = np.random.default_rng(7)
    power = gamma(rng, (2, 200, 190)) * np.array([[[0.1]], [[0.02]]], np.float32)
    power[:, 50:80, 60:90] = np.nan
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64} if layout == "tiles" else {}
    path = write(tmp_path / "s.tif", stored_as(power, "db"), ["VV", "VH"], **options)
    with open_source(path) as source:
        reading = plan_reading(source, spec(), "db", despeckle=True)
        values, valid = reading.source.read(source.grid.window)
        np.testing.assert_array_equal(valid, np.isfinite(power[0]))
        window = Window(31, 17, 90, 101)
        np.testing.assert_array_equal(
            reading.source.read(window)[0], values[(slice(None), *window.slices)]
        )
        raw = plan_reading(source, spec(), "db").source.read(source.grid.window)[0]
    assert (values[:, valid].std(axis=1) < 0.5 * raw[:, valid].std(axis=1)).all()
    (said,) = [r for r in reading.remarks if r.startswith("speckle")]
    assert "refined Lee, 7 x 7 px" in said
    assert "estimated from the scene" in said
    assert reading.source.despeckle.looks == pytest.approx(4.4, rel=0.15)


def test_the_map_of_a_part_is_that_part_of_the_filtered_map(tmp_path):
    rng = np.random.default_rng(8)
    power = gamma(rng, (2, 300, 280)) * np.array([[[0.1]], [[0.02]]], np.float32)
    power[:, 100:200] *= 0.1
    power[:, 40:60, 30:90] = np.nan
    scene = write(
        *(tmp_path / "s.tif", stored_as(power, "db"), ["VV", "VH"]),
        **{"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)},
    )
    model = random_bundle(CLASSES).save(tmp_path / "m.safetensors")
    codes, tags = {}, {}
    for name, options in {
        "raw": [],
        "whole": ["--despeckle"],
        "part": ["--despeckle", "--bounds", "500500", "4997500", "502000", "4999000"],
    }.items():
        path = tmp_path / f"{name}.tif"
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(scene), "-o", str(path), "-m", str(model), "--quiet", *options])
        assert ended.value.code == 0
        with rasterio.open(path) as raster:
            codes[name], tags[name] = raster.read(1), raster.tags()
    assert (codes["raw"] != codes["whole"]).any()
    np.testing.assert_array_equal(codes["part"], codes["whole"][100:250, 50:200])
    np.testing.assert_array_equal(codes["whole"] == 255, np.isnan(power[0]))
    told = json.loads(tags["whole"]["CWSAM_GEO_SETTINGS"])["despeckle"]
    assert told.startswith("refined Lee, 7 x 7 px")
    assert json.loads(tags["raw"]["CWSAM_GEO_SETTINGS"])["despeckle"] is None
    assert tags["raw"]["CWSAM_GEO_FINGERPRINT"] != tags["whole"]["CWSAM_GEO_FINGERPRINT"]
