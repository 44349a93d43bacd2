import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwsam_geo.core.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PreprocessSpec,
    SceneBands,
    amplitude8_spec,
    to_amplitude,
    to_db,
    to_power,
)
from cwsam_geo.errors import ModelError

S1 = PreprocessSpec(
    bands=("VV", "VH"),
    channels=("VV", "VH", "VV-VH"),
    scaling="db",
    clip=((-30.0, 5.0), (-40.0, 0.0)),
    mean=(-10.0, -17.0, 7.0),
    std=(4.0, 5.0, 3.0),
    tile_size=256,
    fill=(None, -17.0),
    quantiles=((-22.0, -11.0, -4.0), (-30.0, -17.0, -11.0)),
)
BOTH = SceneBands("db", (0, 1))


def test_a_spec_survives_json():
    assert PreprocessSpec.from_dict(json.loads(json.dumps(S1.to_dict()))) == S1


@pytest.mark.parametrize(
    "change", [{"clip": None}, {"more": 1}, {"std": (1, 1)}, {"tile_size": "x"}]
)
def test_a_malformed_dict_is_an_error(change):
    with pytest.raises(ModelError, match="preprocessing"):
        PreprocessSpec.from_dict(S1.to_dict() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": ("VV", "HH", "VV")},
        {"channels": ("VV", "VV-VH-VV", "VV")},
        {"bands": ("VV", "VV")},
        {"clip": ((0.0, 0.0), (0.0, 1.0))},
        {"std": (1.0, 0.0, 1.0)},
        {"fill": (0.0,)},
        {"scaling": "log"},
        {"quantiles": ((1.0, 2.0, 3.0),)},
        {"quantiles": ((1.0,), (1.0,))},
        {"quantiles": (("a", "b", "c"), (1.0, 2.0, 3.0))},
        {"mean": (None, 0.0, 0.0)},
        {"mean": (float("nan"), 0.0, 0.0)},
        {"clip": (("a", "b"), (0.0, 1.0))},
        {"fill": ("x", None)},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change):
    with pytest.raises(ModelError, match="preprocessing"):
        dataclasses.replace(S1, **change)


def test_channels_are_made_clipped_and_normalised():
    values = np.array([[[-10.0, 20.0]], [[-17.0, -60.0]]], np.float32)
    out = S1.apply(values, np.ones((1, 2), bool), BOTH)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0, 0], 0, atol=1e-6)
    np.testing.assert_allclose(out[:, 0, 1], [(5 + 10) / 4, (-40 + 17) / 5, (45 - 7) / 3])


def test_a_missing_band_takes_its_fill():
    out = S1.apply(
        np.full((1, 2, 2), -12, np.float32), np.ones((2, 2), bool), SceneBands("db", (0, None))
    )
    np.testing.assert_allclose(out[1], 0, atol=1e-6)
    np.testing.assert_allclose(out[2], (-12 + 17 - 7) / 3, rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_what_is_not_valid_is_the_mean_and_touches_nothing_else(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(-12, 5, (2, 6, 7)).astype(np.float32)
    valid = rng.random((6, 7)) < 0.6
    dirty = np.where(valid, values, rng.choice([np.nan, np.inf, -9999, 0, 1e30], (6, 7)))
    clean = S1.apply(values, np.ones((6, 7), bool), BOTH)
    out = S1.apply(dirty.astype(np.float32), valid, BOTH)
    assert (out[:, ~valid] == 0).all()
    np.testing.assert_array_equal(out[:, valid], clean[:, valid])


@pytest.mark.parametrize("units", ["power", "amplitude"])
def test_units_are_brought_to_the_models_scaling(units):
    db = np.random.default_rng(0).uniform(-35, 5, (2, 5, 5)).astype(np.float32)
    raw = to_power(db, "db") if units == "power" else to_amplitude(db, "db")
    valid = np.ones((5, 5), bool)
    np.testing.assert_allclose(
        S1.apply(raw, valid, SceneBands(units, (0, 1))), S1.apply(db, valid, BOTH), atol=1e-4
    )


@given(st.floats(-60, 30, width=32))
def test_conversions_agree(db):
    x = np.float32([db])
    np.testing.assert_allclose(to_db(to_power(x, "db"), "power"), x, atol=1e-3)
    np.testing.assert_allclose(to_db(to_amplitude(x, "db"), "amplitude"), x, atol=1e-3)
    np.testing.assert_allclose(to_amplitude(x, "db") ** 2, to_power(x, "db"), rtol=1e-5)


def test_no_backscatter_is_a_very_low_number_not_infinity():
    for units in ("power", "amplitude"):
        np.testing.assert_allclose(to_db(np.float32([0, -1]), units), -100, atol=1e-3)


def test_eight_bit_amplitude_is_what_the_authors_feed():
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16)
    spec = amplitude8_spec(16)
    out = spec.apply(values, np.ones((16, 16), bool), SceneBands("amplitude", (0,)))
    for channel, mean, std in zip(out, IMAGENET_MEAN, IMAGENET_STD, strict=True):
        np.testing.assert_allclose(channel, (values[0] / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_other_amplitude_is_stretched_by_the_whole_scenes_range():
    values = np.float32([[[0, 100, 200, 5000]]])
    bands = SceneBands("amplitude", (0,), (0.0, 200.0))
    spec = dataclasses.replace(amplitude8_spec(16), mean=(0, 0, 0), std=(1, 1, 1))
    out = spec.apply(values, np.ones((1, 4), bool), bands)
    np.testing.assert_allclose(out[0], [[0, 0.5, 1, 1]])
