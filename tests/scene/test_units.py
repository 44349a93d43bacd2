"""What a scene's values are taken for, from its metadata and from a sample of the whole of it."""

import numpy as np
import pytest
from affine import Affine
from doubles import ArraySource
from hypothesis import example, given
from hypothesis import strategies as st
from scene_rasters import write
from specs import spec

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands, amplitude8_spec
from cwsam_geo.core.windows import row_windows, spread_windows
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.scene.band_match import match_bands
from cwsam_geo.scene.distribution import distribution_warning
from cwsam_geo.scene.reading import plan_reading, stretch_for
from cwsam_geo.scene.sampling import sample_statistics
from cwsam_geo.scene.source import open_source
from cwsam_geo.scene.statistics import PERCENTS, BandStats, SceneStats
from cwsam_geo.scene.units import decibels, decide_units, zeros_are_nodata


def stats_of(*bands, dtype=None):
    """Statistics of arrays, which hold no zeros unless that is meant."""
    bands = [np.asarray(b) for b in bands]
    return SceneStats(
        dtype=str(dtype or bands[0].dtype),
        pixels=bands[0].size,
        complete=True,
        valid=1.0,
        zeros=0.0,
        whole_numbers=bool(all((b == np.rint(b)).all() for b in bands)),
        bands=tuple(BandStats.of(b) for b in bands),
    )


def backscatter(median=-12.0, spread=4.0, size=4000, seed=0):
    """Decibels as scenes have them."""
    return np.random.default_rng(seed).normal(median, spread, size).astype(np.float32)


def decided(stats, *hints, option="auto"):
    return decide_units(stats, hints, "scene.tif", option).units


# Units by values

scenes = st.builds(
    backscatter, st.floats(-28, -3), st.floats(2, 7), st.just(2000), st.integers(0, 5)
)


@given(scenes)
def test_decibels_power_and_digital_numbers_are_told_apart(decibels):
    assert decided(stats_of(decibels)) == "db"
    power = 10 ** (decibels / 10)
    assert decided(stats_of(power)) == "power"
    numbers = np.sqrt(power * 10**5.3).astype(np.uint16) + 1
    assert decided(stats_of(numbers)) == "amplitude"
    assert decided(stats_of(numbers.astype(np.float32))) == "amplitude"


def test_noise_subtracted_power_is_no_decibel():
    power = 10 ** (backscatter() / 10) - 0.02
    assert (power < 0).any()
    assert decided(stats_of(power)) == "power"


def test_decibels_in_whole_numbers():
    assert decided(stats_of(np.rint(backscatter()).astype(np.int16))) == "db"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(1, 10, dtype=np.uint8), "class map"),
        (np.full(9, -1, np.int16), "class map"),
        (backscatter() * 5000, "not like dB"),
        (np.linspace(1.5, 9e5, 1000), "too large for calibrated power"),
        (np.linspace(-0.9, 0.5, 1000), "cannot tell"),
    ],
)
def test_what_cannot_be_told_asks_for_units(values, said):
    with pytest.raises(SceneError, match=said) as error:
        decided(stats_of(values))
    assert "--units db, power or amplitude" in str(error.value)
    assert decided(stats_of(values), option="amplitude") == "amplitude"


def test_complex_scenes_are_power():
    stats = stats_of(np.linspace(1, 1e6, 100), dtype="complex64")
    assert decided(stats) == "power"
    assert decided(stats, option="amplitude") == "power"
    with pytest.raises(UsageError, match="cannot be dB"):
        decided(stats, option="db")


# Units by metadata


@pytest.mark.parametrize(
    ("hint", "units"),
    [
        ("band 1 unit: dB", "db"),
        ("band 1 description: Sigma0_VV_db", "db"),
        ("band 1 description: Amplitude_VV", "amplitude"),
        ("band 1 description: Intensity_VV", "power"),
        ("file name: s1_gamma0_amplitude.tif", "amplitude"),
        ("file name: S1A_IW_20210401T1_DVP_RTC30_G_gauned_AB12_VV.tif", "amplitude"),
        ("file name: S1A_IW_20210401T1_DVP_RTC30_G_gpuned_AB12_VV.tif", "power"),
        ("tag UNITS: amplitude", "amplitude"),
        ("tag RESAMPLING: linear amplitude", "power"),
        ("file name: amplitude_or_power_unknown.tif", "amplitude"),
        ("file name: standby.tif", "power"),
    ],
)
def test_metadata_come_before_values(hint, units):
    values = backscatter() if units == "db" else 10 ** (backscatter() / 10)
    assert decided(stats_of(values), hint) == units


def test_a_unit_that_cannot_be_is_refused_and_a_file_name_is_passed_over():
    power = stats_of(10 ** (backscatter() / 10))
    with pytest.raises(SceneError, match="says dB"):
        decided(power, "band 1 unit: dB")
    assert decided(power, "file name: x_db.tif") == "power"
    assert decided(stats_of(backscatter()), "file name: power_station.tif") == "db"
    assert decided(power, "band 1 unit: dB", option="power") == "power"


# Zeros


@pytest.mark.parametrize(
    ("units", "dtype", "nodata", "by_user", "expected"),
    [
        ("power", "float32", None, False, True),
        ("power", "float32", 0.0, False, True),
        ("power", "float32", -9999.0, False, False),
        ("amplitude", "uint16", None, False, True),
        ("amplitude", "uint16", 65535.0, False, True),
        ("amplitude", "uint16", 7.0, True, False),
        ("amplitude", "uint16", 0.0, True, True),
        ("amplitude", "uint8", None, False, False),
        ("db", "float32", None, False, False),
        ("db", "float32", 0.0, False, False),
    ],
)
def test_when_zero_is_nodata(units, dtype, nodata, by_user, expected):
    stats = stats_of(np.arange(1, 100), dtype=dtype)
    declared = nodata is not None
    assert zeros_are_nodata(units, stats, [nodata, nodata], declared, by_user) is expected


# The sample


def grid(height, width, block):
    return SceneGrid(height, width, Affine.identity(), None, block_shape=block)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([(1, None), (7, None), (64, 64), (256, 512)]),
    st.integers(1, 200),
)
def test_spread_windows_are_inside_apart_and_not_too_many(height, width, block, count):
    unit = (min(height, block[0]), min(width, block[1] or width))
    windows = spread_windows(grid(height, width, unit), unit, count)
    assert 1 <= len(windows) <= count
    corners = {(w.row, w.col) for w in windows}
    assert len(corners) == len(windows)
    for w in windows:
        assert not w.empty
        assert (w.row % unit[0], w.col % unit[1]) == (0, 0)
        assert w.bottom <= height
        assert w.right <= width


@given(st.integers(1, 500), st.integers(1, 50), st.integers(1, 60), st.integers(1, 9999))
def test_row_windows_cover_the_scene_once(height, width, block, pixels):
    windows = list(row_windows(grid(height, width, (block, width)), pixels))
    assert sum(w.height for w in windows) == height
    assert [w.row for w in windows[1:]] == [w.bottom for w in windows[:-1]]
    assert all(w.row % block == 0 for w in windows)


def test_small_scenes_are_read_whole():
    values = backscatter(size=6000).reshape(1, 60, 100)
    valid = np.ones((60, 100), bool)
    valid[:10] = False
    stats = sample_statistics(ArraySource(values, valid))
    assert stats.complete
    assert stats.valid == pytest.approx(5 / 6)
    band = stats.bands[0]
    np.testing.assert_allclose(band.quantiles, np.percentile(values[0, 10:], PERCENTS), rtol=1e-6)
    assert (band.minimum, band.maximum) == (values[0, 10:].min(), values[0, 10:].max())


@pytest.mark.parametrize("block", [(1, 3000), (5, 3000), (256, 256)])
def test_large_scenes_are_sampled_all_over(block):
    # Darker towards the bottom and the right: a sample of one corner would be far off.
    rows, cols = np.mgrid[0:3000, 0:3000].astype(np.float32)
    values = -5 - rows / 300 - cols / 300 + backscatter(0, 1, rows.size).reshape(rows.shape)
    source = ArraySource(values[None], block_shape=block)
    stats = sample_statistics(source, budget=200_000)
    assert not stats.complete
    assert 0 < stats.pixels < 0.8 * rows.size
    np.testing.assert_allclose(stats.bands[0].quantiles, np.percentile(values, PERCENTS), atol=0.5)
    assert sample_statistics(source, budget=200_000) == stats


def test_a_little_data_in_a_corner_is_found():
    values = np.zeros((1, 4000, 2000), np.float32)
    values[0, 3990:, 1990:] = 0.05
    stats = sample_statistics(ArraySource(values), budget=100_000)
    assert stats.complete
    assert stats.bands[0].maximum == np.float32(0.05)
    assert stats.zeros == pytest.approx(1, abs=1e-4)


def test_scenes_without_data():
    nothing = ArraySource(np.full((2, 5, 5), np.nan), np.zeros((5, 5), bool))
    stats = sample_statistics(nothing)
    assert (stats.valid, stats.blank, stats.bands) == (0.0, True, ())
    zeros = sample_statistics(ArraySource(np.zeros((1, 5, 5))))
    assert (zeros.valid, zeros.zeros, zeros.blank) == (1.0, 1.0, True)


def test_zeros_in_one_band_count_as_data():
    values = np.full((2, 4, 5), 3, np.float32)
    values[0, 0] = 0
    values[:, 1] = 0
    stats = sample_statistics(ArraySource(values))
    assert stats.zeros == 0.25
    assert stats.bands[0].zeros == pytest.approx(1 / 3)


# Bands


def positions(names, model=("VV", "VH"), fill=None, chosen=False):
    return match_bands(spec(model, fill=fill), names, "scene.tif", chosen).positions


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("VV", "VH"), (0, 1)),
        (("VH", "VV"), (1, 0)),
        ((None, "VH", "HH", "VV"), (3, 1)),
        ((None, None), (0, 1)),
        (("vv", "vh"), (0, 1)),
    ],
)
def test_bands_by_name_else_by_order(names, expected):
    assert positions(names) == expected


def test_chosen_bands_may_have_other_names():
    assert positions(("HH", "HV"), chosen=True) == (0, 1)
    assert positions(("VH", "VV"), chosen=True) == (1, 0)


def test_remarks_and_refusals_name_bands_as_the_user_counts_them():
    match = match_bands(spec(), (None, None), "scene.tif", True, (3, 1))
    assert match.positions == (0, 1)
    assert "band 3 as VV, band 1 as VH" in match.remarks[0]
    with pytest.raises(SceneError, match="bands 4, 2 are all VV"):
        match_bands(spec(), ("VV", "VV", "VH"), "scene.tif", False, (4, 2, 1))


def test_missing_bands_are_filled_where_the_model_can():
    match = match_bands(spec(fill=(None, -20.0)), ("VV",), "scene.tif", False)
    assert match.positions == (0, None)
    assert match.remarks == ("the scene has no VH: filled with -20",)
    assert positions((None,), fill=(None, -20.0)) == (0, None)
    assert positions(("HH", "VV"), fill=(None, -20.0)) == (1, None)


def test_a_model_of_optional_bands_needs_one_of_them():
    either = spec(fill=(-10.0, -20.0))
    assert match_bands(either, ("VH",), "scene.tif", False).positions == (None, 0)
    assert match_bands(either, ("HH", "VV"), "scene.tif", False).positions == (1, None)
    with pytest.raises(SceneError, match="needs VV or VH, but the scene's bands are 1 HH"):
        match_bands(either, ("HH",), "scene.tif", False)


@pytest.mark.parametrize(
    ("names", "chosen", "said"),
    [
        (("VV",), False, "needs VH, but the scene's bands are 1 VV"),
        (("HH", "HV"), False, "needs VV and VH"),
        ((None,), False, "has 1 band, and the model needs VV and VH"),
        ((None, None, None), False, "say which they are with -b"),
        (("VV", "VV", "VH"), False, "bands 1, 2 are all VV"),
        (("VV", None, None), True, "-b names 3 bands"),
    ],
)
def test_bands_that_cannot_be_matched(names, chosen, said):
    with pytest.raises((SceneError, UsageError), match=said):
        positions(names, chosen=chosen)


def test_a_model_of_grey_takes_the_first_band():
    match = match_bands(amplitude8_spec(64), ("HH", "HV"), "scene.tif", False)
    assert match.positions == (0,)
    assert "first (HH) of 2" in match.remarks[0]
    assert not match_bands(amplitude8_spec(64), (None,), "scene.tif", False).remarks


# Stretch and distribution


def test_eight_bit_pictures_are_not_stretched():
    picture = stats_of(np.arange(256, dtype=np.uint8))
    assert stretch_for(picture, "amplitude") is None


@given(st.floats(0.01, 300), st.integers(0, 3))
def test_stretch_is_the_same_in_all_units(scale, seed):
    amplitude = np.random.default_rng(seed).rayleigh(scale, 3000).astype(np.float32) + 1e-3
    low, high = stretch_for(stats_of(amplitude.astype(np.float64)), "amplitude")
    assert low == 0
    assert high == pytest.approx(np.percentile(amplitude, 98), rel=1e-3)
    power = amplitude.astype(np.float64) ** 2
    assert stretch_for(stats_of(power), "power")[1] == pytest.approx(high, rel=1e-2)
    assert stretch_for(stats_of(10 * np.log10(power)), "db")[1] == pytest.approx(high, rel=1e-2)


def test_one_ship_does_not_move_the_stretch():
    sea = np.random.default_rng(0).rayleigh(60, 100_000)
    ship = np.append(sea, [10_400.0] * 50)
    assert stretch_for(stats_of(ship), "amplitude")[1] == pytest.approx(
        stretch_for(stats_of(sea), "amplitude")[1], rel=0.01
    )


TRAINED = ((-19.0, -10.5, -5.0), (-28.0, -17.0, -11.0))


@pytest.mark.parametrize("units", ["db", "power", "amplitude"])
def test_familiar_scenes_get_no_warning(units):
    def as_units(db):
        return {"db": db, "power": 10 ** (db / 10), "amplitude": 10 ** (db / 20)}[units]

    stats = stats_of(as_units(backscatter(-12)), as_units(backscatter(-19)))
    scene = SceneBands(units, (0, 1))
    for quantiles in (TRAINED, None):
        assert distribution_warning(spec(quantiles=quantiles), scene, stats) is None
    linear = tuple(tuple(10 ** (v / 10) for v in q) for q in TRAINED)
    assert distribution_warning(spec(scaling="linear", quantiles=linear), scene, stats) is None


@pytest.mark.parametrize("quantiles", [TRAINED, None])
def test_digital_numbers_are_far_from_decibels(quantiles):
    numbers = stats_of(np.random.default_rng(0).rayleigh(90, 3000), backscatter(-19))
    scene = SceneBands("amplitude", (0, None))
    text = distribution_warning(spec(fill=(None, -20.0), quantiles=quantiles), scene, numbers)
    assert "far from" in text
    assert "VV: median 40" in text
    assert "VH" not in text


def test_pictures_are_compared_with_pictures():
    grey = PreprocessSpec.from_dict(
        amplitude8_spec(64).to_dict() | {"quantiles": ((0.1, 0.2, 0.4),)}
    )
    bright = stats_of(np.full(100, 255.0))
    assert distribution_warning(grey, SceneBands("amplitude", (0,)), bright)
    fair = stats_of(np.linspace(20, 180, 100))
    assert distribution_warning(grey, SceneBands("amplitude", (0,)), fair) is None


@example(0.0)
@given(st.floats(1e-9, 1e9))
def test_decibels_of_one_value(power):
    expected = 10 * np.log10(power) if power > 0 else -100
    assert decibels(power, "power") == pytest.approx(expected)
    assert decibels(power**0.5, "amplitude") == pytest.approx(expected, abs=1e-6)
    assert decibels(expected, "db") == expected


# All together, on files


def plan(path, model=None, units="auto", **options):
    with open_source(path, **options) as source:
        return plan_reading(source, model or spec(), units)


@pytest.fixture
def scene():
    return np.stack([backscatter(-11, size=900), backscatter(-18, size=900)]).reshape(2, 30, 30)


def test_only_the_models_bands_are_read_and_counted(tmp_path, scene):
    angle = np.full((1, 30, 30), np.nan, np.float32)
    path = write(tmp_path / "s.tif", np.concatenate([angle, scene[::-1]]), ["angle", "VH", "VV"])
    with open_source(path) as whole:
        reading = plan_reading(whole, spec())
        values, valid = reading.source.read(whole.grid.window)
    assert reading.numbers == (3, 2)
    assert reading.scene_bands == SceneBands("db", (1, 0))
    assert reading.source.names == ("VH", "VV")
    np.testing.assert_array_equal(values, scene[::-1])
    assert valid.all()
    assert not reading.warnings
    assert not reading.zero_is_nodata


def test_border_of_zeros(tmp_path, scene):
    power = 10 ** (scene / 10)
    power[:, :3] = 0
    power[1, 5] = 0
    with open_source(write(tmp_path / "s_vv_vh.tif", power)) as whole:
        reading = plan_reading(whole, spec())
        _, valid = reading.source.read(whole.grid.window)
        assert not valid[:3].any()
        assert valid[3:].all()
        assert any("10 % of the pixels are 0" in r for r in reading.remarks)
    with open_source(tmp_path / "s_vv_vh.tif", nodata="none") as whole:
        assert plan_reading(whole, spec()).source.read(whole.grid.window)[1].all()


def test_uncalibrated_numbers_are_refused_unless_asked_for(tmp_path):
    numbers = np.random.default_rng(0).rayleigh(90, (2, 30, 30)).astype(np.uint16) + 1
    path = write(tmp_path / "s1a-iw-grd-vv-vh.tif", numbers)
    with pytest.raises(SceneError, match=r"calibrate it first.*--units amplitude"):
        plan(path)
    reading = plan(path, units="amplitude")
    assert "far from the model's training data" in reading.warnings[0]
    own = spec(quantiles=((30.0, 39.0, 46.0), (30.0, 39.0, 46.0)))
    assert not plan(path, own).warnings
    grey = plan(path, amplitude8_spec(64))
    assert grey.scene_bands.stretch[1] == pytest.approx(np.percentile(numbers[0], 98), rel=0.01)


def test_swapped_polarisations(tmp_path, scene):
    right = plan(write(tmp_path / "right.tif", scene))
    assert not right.warnings
    assert "see -b" in right.remarks[0]
    swapped = write(tmp_path / "swapped.tif", scene[::-1])
    with pytest.raises(SceneError, match="VV, VH: -b 2,1, or -b 1,2 if") as caught:
        plan(swapped)
    assert "\n" not in str(caught.value)
    # The user's word counts, and so do names; but a doubt is said.
    assert "swapped" in plan(swapped, bidx=[1, 2]).warnings[0]
    assert not plan(swapped, bidx=[2, 1]).warnings
    named = write(tmp_path / "named.tif", scene[::-1], ("VV", "VH"))
    assert "swapped" in plan(named).warnings[0]
    # Dark water in one band only is no swap of the whole scene.
    partly = scene.copy()
    partly[0, : len(scene[0]) // 2 + 2] -= 25
    assert "swapped" in plan(write(tmp_path / "partly.tif", partly)).warnings[0]


@pytest.mark.parametrize("fill", [np.nan, 0])
def test_scenes_without_any_data_make_an_empty_map(tmp_path, fill):
    path = write(tmp_path / "vv_vh.tif", np.full((2, 9, 9), fill, np.float32))
    reading = plan(path)
    assert "the map will be empty" in reading.warnings[0]
    with open_source(path) as whole:
        reading = plan_reading(whole, amplitude8_spec(64))
        assert not reading.source.read(whole.grid.window)[1].any()


def test_scaled_integers_are_decibels(tmp_path, scene):
    stored = np.rint((scene + 50) * 100).astype(np.uint16)
    path = write(tmp_path / "vv_vh.tif", stored, scales=(0.01, 0.01), offsets=(-50.0, -50.0))
    assert plan(path).scene_bands == SceneBands("db", (0, 1))


@pytest.mark.parametrize("units", ["db", "power"])
@pytest.mark.parametrize("fill", [None, "border"])
def test_power_0_in_one_band_is_data_in_any_unit(tmp_path, scene, units, fill):
    power = 10 ** (scene.astype(np.float64) / 10)
    power[1, 5:9] = 0
    if fill:
        power[:, :3] = 0
    with np.errstate(divide="ignore"):
        stored = (10 * np.log10(power) if units == "db" else power).astype(np.float32)
    path = write(tmp_path / "s.tif", stored, ["VV", "VH"])
    with open_source(path) as whole:
        reading = plan_reading(whole, spec())
        values, valid = reading.source.read(whole.grid.window)
    assert reading.units.units == units
    assert valid[3:].all()
    assert valid[:3].all() == (fill is None)
    db = spec().scaled(values, reading.scene_bands)
    assert (db[1, 5:9] == -100).all()
    assert not reading.warnings
    said = "10 % of the pixels are -inf" if units == "db" else "10 % of the pixels are 0"
    assert any(said in r for r in reading.remarks) == (fill is not None)
    with open_source(path, nodata="none") as whole:
        assert plan_reading(whole, spec()).source.read(whole.grid.window)[1].all()


def test_half_of_a_band_without_power_is_still_in_decibels(tmp_path, scene):
    scene[1, :20] = -np.inf
    reading = plan(write(tmp_path / "s.tif", scene, ["VV", "VH"]), spec(quantiles=TRAINED))
    assert reading.units.units == "db"
    assert reading.stats.bands[1].median == pytest.approx(-18, abs=1)
    assert not reading.warnings


def test_pixels_with_data_in_one_band_only_are_said_with_their_share(tmp_path, scene):
    scene[1, 3:6] = np.nan
    (warning,) = plan(write(tmp_path / "s.tif", scene, ["VV", "VH"])).warnings
    assert "10 % lack VH" in warning
    scene[0, 3:6] = np.nan
    assert not plan(write(tmp_path / "s.tif", scene, ["VV", "VH"])).warnings
    # A band that the model does not take does not count.
    scene[0, 7:9] = np.nan
    both = write(tmp_path / "s.tif", scene[::-1], ["VV", "VH"])
    assert not plan(both, spec(("VV",))).warnings


@pytest.mark.parametrize("option", [None, 0])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_nodata_0_is_a_stored_0(tmp_path, scene, dtype, option):
    stored = np.rint((10 ** (scene / 10) + 0.001) * 2000).clip(1, None)
    stored[:, :3] = 0
    stored[1, 5] = 0
    declared = 0 if option is None else None
    path = write(
        tmp_path / "s.tif",
        stored.astype(dtype),
        ["VV", "VH"],
        nodata=declared,
        scales=(1 / 2000,) * 2,
        offsets=(-0.001,) * 2,
    )
    with open_source(path, nodata=option) as whole:
        reading = plan_reading(whole, spec(), "power")
        _, valid = reading.source.read(whole.grid.window)
    assert not valid[:3].any()
    assert valid[3:].all()
    # The sample knows them, too.
    assert reading.stats.zeros == pytest.approx(0.1)
    assert reading.stats.bands[0].minimum > 0
    assert not reading.warnings


def test_nodata_0_in_decibels_counts_in_any_band(tmp_path, scene):
    stored = np.rint((scene + 50) * 100).astype(np.uint16)
    stored[:, :3] = 0
    stored[1, 5] = 0
    scaling = {"scales": (0.01,) * 2, "offsets": (-50.0,) * 2}
    path = write(tmp_path / "s.tif", stored, ["VV", "VH"], nodata=0, **scaling)
    with open_source(path) as whole:
        reading = plan_reading(whole, spec())
        assert not reading.source.read(whole.grid.window)[1][5].any()
    assert reading.stats.valid == pytest.approx(26 / 30)
    assert "3.33 % lack VH" in reading.warnings[0]


@pytest.mark.parametrize("factor", [10, 100, 1000])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
@pytest.mark.parametrize("units", ["auto", "db"])
@pytest.mark.parametrize("name", ["s_vv_vh.tif", "s_vv_vh_db.tif"])
def test_decibels_times_a_factor_are_named(tmp_path, scene, factor, dtype, units, name):
    stored = np.rint(scene.clip(-32, 32) * factor).astype(dtype)
    path = write(tmp_path / name, stored)
    with pytest.raises(SceneError, match=f"dB times {factor} .*--scale {1 / factor:g}$"):
        plan(path, units=units)
    with open_source(path, scale=1 / factor) as whole:
        reading = plan_reading(whole, spec(quantiles=TRAINED), units)
        values, _ = reading.source.read(whole.grid.window)
    assert reading.units.units == "db"
    assert not reading.warnings
    np.testing.assert_allclose(values, scene.clip(-32, 32), atol=0.51 / factor)
    # Who names a scale is believed.
    assert plan(path, spec(quantiles=TRAINED), "db", scale=1.0).warnings


def test_a_unit_that_the_file_names_does_not_hide_the_factor(tmp_path, scene):
    path = write(tmp_path / "s.tif", np.rint(scene * 100).astype(np.int16), ["VV_db", "VH_db"])
    with pytest.raises(SceneError, match=r"--scale 0\.01"):
        plan(path)


def test_scale_and_offset_replace_the_files_own_one_by_one(tmp_path, scene):
    stored = np.rint((scene + 50) * 100).astype(np.uint16)
    stored[:, 0] = 7
    path = write(tmp_path / "s.tif", stored, ["VV", "VH"], scales=(3, 3), offsets=(-50.0, -50.0))
    with open_source(path, nodata=7, scale=0.01) as source:
        values, valid = source.read(source.grid.window)
    np.testing.assert_allclose(values[:, 1:], scene[:, 1:], atol=0.01)
    # Nodata is a stored value.
    assert not valid[0].any()
    with open_source(path, offset=0.0) as source:
        values, _ = source.read(source.grid.window)
    np.testing.assert_array_equal(values, stored * 3)
    for wrong in ({"scale": 0.0}, {"scale": np.inf}, {"offset": np.nan}):
        with pytest.raises(UsageError, match="finite"):
            open_source(path, **wrong)


def test_power_in_whole_numbers_is_told_of_the_scale(tmp_path, scene):
    stored = np.rint(10 ** (scene / 10) * 65535).clip(0, 65535).astype(np.uint16)
    path = write(tmp_path / "s.tif", stored, ["VV", "VH"])
    with pytest.raises(SceneError, match="--scale and --offset"):
        plan(path)
    assert plan(path, spec(quantiles=TRAINED), scale=1 / 65535).units.units == "power"


# Fill that no file declares


def filled(scene, value, share=0.3, bands=slice(None)):
    holes = scene.copy()
    holes[bands, : round(share * scene.shape[1])] = value
    return holes


@pytest.mark.parametrize("value", [-9999, -32768, -999, 9999])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("units", ["db", "power"])
def test_values_that_no_echo_has_are_refused_with_the_option_that_settles_it(
    tmp_path, scene, value, share, units
):
    if units == "power":
        scene, value = 10 ** (scene / 10), -abs(value)
    path = write(tmp_path / "s_vv_vh.tif", filled(scene, value, share))
    option = units if value > 0 else "auto"
    said = rf"{100 * share:g} % .* {value}.*--nodata {value},"
    with pytest.raises(SceneError, match=said) as raised:
        plan(path, units=option)
    assert str(path) in str(raised.value)
    with open_source(path, nodata=value) as whole:
        reading = plan_reading(whole, spec())
        valid = reading.source.read(whole.grid.window)[1]
    assert not reading.warnings
    assert reading.units.units == units
    assert valid.mean() == pytest.approx(1 - share)
    # Who says that nothing is nodata is believed.
    with open_source(path, nodata="none") as whole:
        reading = plan_reading(whole, spec(), units)
        assert reading.source.read(whole.grid.window)[1].all()


def test_echoes_in_other_units_are_no_fill(tmp_path, scene):
    # Decibels times 100 without a scale, some of them repeated: nothing is said of fill.
    hundred = filled(np.rint(scene * 100), -4400, 0.05, 1).astype(np.int16)
    path = write(tmp_path / "i.tif", hundred, ["VV", "VH"])
    with pytest.raises(SceneError, match=r"dB times 100 .*--scale 0\.01$"):
        plan(path)
    assert not any("-4400" in w for w in plan(path, scale=0.01).warnings)
    hundred[:, -3:] = -32768
    with pytest.raises(SceneError, match="--nodata -32768,"):
        plan(write(tmp_path / "f.tif", hundred, ["VV", "VH"]))


def test_fill_of_one_band_is_refused_too(tmp_path, scene):
    path = write(tmp_path / "s.tif", filled(scene, -9999, bands=1), ["VV", "VH"])
    with pytest.raises(SceneError, match="--nodata -9999"):
        plan(path)


def test_undeclared_fill_is_told_as_it_is_stored(tmp_path, scene):
    stored = filled(np.rint(scene * 100), -32768).astype(np.int16)
    path = write(tmp_path / "i.tif", stored, ["VV", "VH"], scales=(0.01,) * 2, offsets=(0.0,) * 2)
    with pytest.raises(SceneError, match="--nodata -32768"):
        plan(path)
    assert not plan(path, nodata=-32768).warnings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [-99, -99.9, -120])
def test_a_value_that_comes_again_and_again_is_warned_of(tmp_path, scene, value, dtype):
    path = write(tmp_path / "s.tif", filled(scene.astype(dtype), value), ["VV", "VH"])
    (warning,) = plan(path).warnings
    assert f"30 % of the pixels hold exactly {value} in every band" in warning
    assert warning.endswith(f"--nodata {value}")
    assert not plan(path, nodata=value).warnings
    assert not plan(path, nodata="none").warnings


def test_zeros_beside_another_nodata_value_are_warned_of(tmp_path, scene):
    power = filled(10 ** (scene / 10), 0)
    (warning,) = plan(write(tmp_path / "s.tif", power, ["VV", "VH"], nodata=-9999)).warnings
    assert "pass --nodata 0 (instead of -9999: if both are fill" in warning
    assert not plan(write(tmp_path / "p.tif", power, ["VV", "VH"])).warnings


def test_other_fill_than_the_user_says_is_warned_of(tmp_path, scene):
    path = write(tmp_path / "s.tif", filled(scene, -9999), ["VV", "VH"])
    (warning,) = plan(path, nodata=-99).warnings
    assert "30 % of the pixels hold exactly -9999 and are mapped as data" in warning
    assert "pass --nodata -9999 (instead of -99" in warning


def test_fill_that_resampling_has_spread_is_warned_of(tmp_path, scene):
    smear = filled(scene, np.linspace(-9999, -5000, 30))
    (warning,) = plan(write(tmp_path / "s.tif", smear, ["VV", "VH"]), units="db").warnings
    assert "dB that no echo has" in warning


@pytest.mark.parametrize("nodata", [0, np.nan, "none"])
def test_nodata_that_replaces_what_the_file_declares_is_said(tmp_path, scene, nodata):
    path = write(tmp_path / "s.tif", filled(scene, -9999, 0.1), ["VV", "VH"], nodata=-9999)
    reading = plan(path, nodata=nodata, units="db")
    assert f"--nodata {nodata} replaces the declared nodata value -9999" in reading.remarks[0]
    assert bool(reading.warnings) == (nodata != "none")
    for same in (None, -9999):
        assert not any("replaces" in r for r in plan(path, nodata=same).remarks)
    finite = write(tmp_path / "n.tif", scene, ["VV", "VH"], nodata=np.nan)
    assert not any("replaces" in r for r in plan(finite, nodata=0).remarks)


def natural():
    """Scenes that repeat values as instruments and writers do."""
    rng = np.random.default_rng(0)
    calm = np.stack([rng.normal(m, 4, (100, 100)) for m in (-12, -19)]).astype(np.float32)
    dead = calm.copy()
    dead[:, 0, :9] = -9999
    yield "dead pixels", dead
    yield "whole decibels", np.rint(calm).astype(np.int16)
    yield "half decibels", np.rint(2 * calm) / 2
    yield "one floor of noise", np.maximum(calm, np.float32([-100, -22])[:, None, None])
    yield "clipped", calm.clip(-17, -14)
    yield "zeros here and there", np.where(rng.random((100, 100)) < 0.005, np.float32(0), calm)


@pytest.mark.parametrize("values", [pytest.param(v, id=n) for n, v in natural()])
def test_what_instruments_and_writers_repeat_is_no_fill(tmp_path, values):
    assert not plan(write(tmp_path / "s.tif", values, ["VV", "VH"])).warnings


def test_one_band_may_repeat_its_smallest_numbers(tmp_path):
    # Small digital numbers in dB: far below the rest, each level holds a little of calm water.
    calm = backscatter(-20, 3, 10_000).reshape(100, 100)
    calm[:2] = -48.25
    calm[2:4] = -42.75
    calm[4] = np.linspace(-49, -40, 100)
    single = spec(("VH",))
    assert not plan(write(tmp_path / "s.tif", calm, ["VH"]), single).warnings
    calm[5:10] = -48.25
    (warning,) = plan(write(tmp_path / "f.tif", calm, ["VH"]), single).warnings
    assert warning.endswith("--nodata -48.25")


def test_pictures_and_digital_numbers_repeat_values(tmp_path):
    rng = np.random.default_rng(0)
    bright = np.minimum(rng.rayleigh(120, (100, 100)), 255).astype(np.uint8)
    assert not plan(write(tmp_path / "p.tif", bright), amplitude8_spec(64)).warnings
    for name, sea in (("u", bright.astype(np.uint16)), ("f", bright.astype(np.float32) / 255)):
        path = write(tmp_path / f"{name}.tif", np.maximum(sea, 1e-3).astype(sea.dtype))
        assert not plan(path, amplitude8_spec(64), "amplitude").warnings
    fill = np.maximum(rng.rayleigh(60, (100, 100)), 1).astype(np.uint16)
    fill[:, :5] = 65535
    (warning,) = plan(write(tmp_path / "n.tif", fill), amplitude8_spec(64)).warnings
    assert warning.endswith("--nodata 65535")


# Real scenes


def test_real_scenes_of_decibels(shared_data):
    for path in [
        *shared_data.glob("sen1floods11/*_S1Hand.tif"),
        *shared_data.glob("terramind/*_S1RTC.tif"),
    ]:
        reading = plan(path, spec(quantiles=TRAINED))
        assert reading.scene_bands.positions == (0, 1)
        if "Paraguay" in path.name:
            assert "no valid pixel" in reading.warnings[0]
        else:
            assert reading.units.units == "db"
            assert not reading.warnings


def test_real_labels_and_classes_are_no_scenes(shared_data):
    maps = [*shared_data.glob("terramind/*_LULC.tif"), *shared_data.glob("sf_airsar/*labels.tif")]
    assert len(maps) == 5
    for path in maps:
        with pytest.raises(SceneError, match="class map"):
            plan(path, amplitude8_spec(64))


def test_other_real_scenes(shared_data):
    formats = shared_data / "formats"
    single = spec(fill=(None, -20.0))
    assert plan(formats / "s1_vv_db_utm_nodata-99.tif", single).units.units == "db"
    assert plan(formats / "rotated_4band_nan.tif", bidx=[1, 2]).units.units == "db"
    with pytest.raises(SceneError, match="4 bands without polarisation names"):
        plan(formats / "rotated_4band_nan.tif")
    with pytest.raises(SceneError, match="uncalibrated"):
        plan(formats / "gf3_quadpol_uint16_nocrs.tif")
    with pytest.raises(SceneError, match="uncalibrated"):
        plan([formats / f"rotated_complex_{p}.tif" for p in ("vv", "vh")])
    assert plan(formats / "gf3_quadpol_uint16_nocrs.tif", amplitude8_spec(64)).zero_is_nodata
    airsar = plan(shared_data / "sf_airsar" / "sf_airsar_hh_hv_vv_linear.tif", single)
    assert airsar.scene_bands == SceneBands("power", (0, None))
    assert airsar.bands == (2,)
    picture = next((shared_data / "sen12_pairs").glob("*/*s1*.png"))
    assert plan(picture, amplitude8_spec(64)).scene_bands.stretch is None


def test_a_blank_product_of_full_size(shared_data):
    path = next(shared_data.glob("safe/*5371.SAFE"))
    reading = plan(path, amplitude8_spec(64))
    assert reading.stats.pixels == 26102 * 16705
    assert "nothing but 0" in reading.warnings[0]
    assert reading.zero_is_nodata
