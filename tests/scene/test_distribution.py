"""Values that are near a model's training data but not distributed like it."""

import re

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from scene_rasters import write
from specs import spec

from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.scene.distribution import likeness_warning
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source
from cwsam_geo.scene.statistics import BandStats, SceneStats

# Of Sentinel-1's land and water: 5, 50 and 95 % of VV and VH in dB.
TRAINED = ((-20.0, -10.1, -5.7), (-29.8, -17.3, -12.2))
MODEL = spec(quantiles=TRAINED)

SCALED = {
    "0..1, water clipped": lambda db: np.clip((db + 30) / 30, 0, 1),
    "0..1, nothing clipped": lambda db: (db + 50) / 62,
    "0..1 between percentiles": lambda db: np.stack(
        [np.clip((b - np.percentile(b, 1)) / np.ptp(np.percentile(b, [1, 99])), 0, 1) for b in db]
    ),
    "0..1 between extremes": lambda db: np.stack([(b - b.min()) / np.ptp(b) for b in db]),
    "-1..1": lambda db: np.clip((db + 30) / 30, 0, 1) * 2 - 1,
    "mean 0, deviation 1": lambda db: np.stack([(b - b.mean()) / b.std() for b in db]),
    "dB / 10": lambda db: db / 10,
}
REAL = {
    "dB": lambda db: db,
    "clipped dB": lambda db: db.clip(-30, 0),
    "amplitude": lambda db: 10 ** (db / 20),
    "power": lambda db: 10 ** (db / 10),
    "clipped power": lambda db: (10 ** (db / 10)).clip(1e-3, 1),
}


def landscape(seed, water, vv, apart):
    """Decibels of VV and VH: land and a share of water, both with speckle."""
    rng = np.random.default_rng(seed)
    sea = np.arange(60 * 60).reshape(60, 60) < water * 3600
    speckle = 10 * np.log10(rng.gamma(5, 1 / 5, (2, 60, 60)))
    texture = rng.normal(0, 2, (60, 60))
    level = np.stack(
        [np.where(sea, vv - 9, vv + texture), np.where(sea, -26, vv - apart + texture)]
    )
    return (level + speckle).astype(np.float32)


def landscapes_apart(most):
    """Landscapes whose bands are at most so many dB apart."""
    return st.builds(
        landscape, st.integers(0, 99), st.floats(0, 0.6), st.floats(-13, -7), st.floats(5.5, most)
    )


landscapes = landscapes_apart(9)


def likeness(values, units, model=MODEL):
    values = values.astype(np.float32)
    stats = SceneStats(
        dtype="float32",
        pixels=values[0].size,
        complete=True,
        valid=1.0,
        zeros=0.0,
        whole_numbers=False,
        bands=tuple(BandStats.of(band) for band in values),
    )
    return likeness_warning(model, SceneBands(units, tuple(range(len(values)))), stats)


@pytest.mark.parametrize("kind", SCALED)
@given(db=landscapes)
def test_numbers_scaled_for_other_networks_are_named(kind, db):
    values = SCALED[kind](db)
    warning = likeness(values, "power" if kind.startswith("0..1") else "db")
    assert "training data" in warning
    assert "numbers" in warning or "amplitude" in warning
    if values.min() == 0 and values.max() == 1:
        assert "scaled to 0..1" in warning


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("bands", [1, 2])
@given(db=landscapes)
def test_backscatter_gets_no_warning(kind, bands, db):
    model = MODEL if bands == 2 else spec(("VV",), quantiles=TRAINED[:1])
    units = next(u for u in ("amplitude", "power", "db") if u in kind.lower())
    assert likeness(REAL[kind](db)[:bands], units, model) is None


# Dark land with 40 % of water and bands 8.5 dB apart is as near to power as to amplitude.
@given(db=landscapes_apart(8))
def test_amplitude_without_a_name_is_named(db):
    # Where water and land are as dark as numbers that were scaled, it is named like those.
    assert re.search("amplitude|numbers", likeness(10 ** (db / 20), "power"))
    assert likeness(10 ** (db / 20), "amplitude") is None


def warnings_of(path, values, units="auto", model=MODEL):
    write(path, values.astype(np.float32), ["VV", "VH"][: len(values)])
    with open_source(path) as whole:
        return plan_reading(whole, model, units).warnings


def test_warnings_name_the_option(tmp_path):
    path, db = tmp_path / "s.tif", landscape(0, 0.2, -10, 7)
    (warning,) = warnings_of(path, SCALED["0..1, water clipped"](db))
    assert "numbers" in warning
    assert "--scale and --offset" in warning
    amplitude = 10 ** (db / 20)
    (warning,) = warnings_of(path, amplitude)
    assert "--units amplitude" in warning
    assert not warnings_of(path, amplitude, "amplitude")
    (warning,) = warnings_of(path, amplitude**2, "amplitude")
    assert "--units power" in warning


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.tif"


def test_a_model_of_power_compares_in_decibels(path):
    linear = tuple(tuple(10 ** (v / 10) for v in q) for q in TRAINED)
    model = spec(scaling="linear", quantiles=linear)
    db = landscape(0, 0.2, -10, 7)
    assert not warnings_of(path, 10 ** (db / 10), model=model)
    assert "--units amplitude" in warnings_of(path, 10 ** (db / 20), model=model)[0]


def test_nothing_is_guessed_without_quantiles(path):
    assert not warnings_of(path, 10 ** (landscape(0, 0.2, -10, 7) / 20), model=spec())


def test_real_scenes_look_like_what_they_are(shared_data):
    scenes = [
        *shared_data.glob("sen1floods11/*_S1Hand.tif"),
        *shared_data.glob("terramind/*_S1RTC.tif"),
        *shared_data.glob("places/[btw]*/s1*.tif"),
    ]
    for scene in scenes:
        with rasterio.open(scene) as dataset:
            db = dataset.read()
        if len(db) != 2 or not np.isfinite(db).all(axis=0).any():
            continue
        db = db[:, np.isfinite(db).all(axis=0)][:, None]
        for kind, convert in REAL.items():
            units = next(u for u in ("amplitude", "power", "db") if u in kind.lower())
            assert likeness(convert(db), units) is None, (scene, kind)
        assert "amplitude" in likeness(10 ** (db / 20), "power"), scene
