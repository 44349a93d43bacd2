"""Reliability of a confidence raster beside sums over single pixels that share no code with it."""

import json

import geopandas
import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_scenes import LEGEND, UTM, write_raster

from cwsam_geo.cli.main import main
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.evaluation import confidence as tally
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions, EvaluateOutputs

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
SHAPE = (60, 80)


def expected(percent, right):
    """Expected calibration error, straight from its definition."""
    gaps = 0.0
    for low in range(0, 100, 5):
        inside = (percent >= low) & ((percent < low + 5) | (low == 95))
        if inside.any():
            gaps += inside.sum() * abs(right[inside].mean() - percent[inside].mean() / 100)
    return gaps / len(percent)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    mapped = np.kron(rng.choice([1, 2, 4], (6, 8)), np.ones((10, 10), int)).astype(np.uint8)
    percent = rng.integers(34, 101, SHAPE).astype(np.uint8)
    wrong = rng.random(SHAPE) > percent / 120
    truth = np.where(wrong, rng.permuted(mapped), mapped)
    mapped[:4] = 255
    percent[:6] = 255
    return mapped, percent, truth


@pytest.fixture
def files(tmp_path, arrays):
    names = ("map.tif", "confidence.tif", "truth.tif")
    return [
        write_raster(tmp_path / name, array, PLACE, UTM, nodata=255)
        for name, array in zip(names, arrays, strict=True)
    ]


def options(**more):
    return EvaluateOptions(legend=LEGEND, **more)


@pytest.mark.parametrize("dense", [True, False])
def test_pixels(files, arrays, monkeypatch, dense):
    if not dense:
        monkeypatch.setattr(tally, "_DENSE", 1)
    mapped, percent, truth = arrays
    found = evaluate(files[0], files[2], options(confidence=files[1]))
    counted = (mapped != 255) & (percent != 255)
    right = (mapped == truth)[counted]
    assert found.reliability.counts.sum() == counted.sum()
    assert found.reliability.accuracy == pytest.approx(right.mean())
    assert found.reliability.mean_confidence == pytest.approx(percent[counted].mean() / 100)
    assert found.reliability.error == pytest.approx(expected(percent[counted], right))
    assert any("160 of 4480 compared pixels have no confidence" in r for r in found.remarks)
    # The other scores count all pixels as before.
    assert found.counts.tolist() == evaluate(files[0], files[2], options()).counts.tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 64, 10**6]))
def test_windows_make_no_difference(seed, pieces):
    rng = np.random.default_rng(seed)
    values, codes = rng.integers(-3, 9, 500), rng.integers(0, 5, 500).astype(np.uint8)
    confidence = np.where(rng.random(500) < 0.1, np.nan, rng.random(500))
    counted = rng.random(500) < 0.8
    whole, parts = tally.ConfidenceTally(), tally.ConfidenceTally()
    whole.add(values, codes, confidence, counted)
    for start in range(0, 500, pieces):
        part = slice(start, start + pieces)
        parts.add(values[part], codes[part], confidence[part], counted[part])
    classes = type("Classes", (), {"by_code": dict(enumerate([0, 1, 1, 2, 3])), "ignored": (3,)})
    channels = {v: None if v == -3 else abs(v) % 4 for v in range(-3, 9)}
    labels = {v: v for v in channels}
    one, other = (t.reliability(channels, labels, classes) for t in (whole, parts))
    assert one.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(one.confidence, other.confidence)
    good = counted & np.isfinite(confidence)
    good &= np.array([channels[v] not in (None, 3) for v in values.tolist()])
    right = np.array([channels[v] for v in values.tolist()]) == np.array([0, 1, 1, 2, 3])[codes]
    assert one.counts.sum() == good.sum()
    assert other.right.sum() == right[good].sum()


def test_ignored_classes_do_not_count_and_merged_ones_are_right(files, arrays):
    mapped, percent, truth = arrays
    names = LEGEND.names
    mapping = ClassMapping(merge={names[0]: names[1]}, ignore=(names[2],))
    found = evaluate(files[0], files[2], options(confidence=files[1], mapping=mapping))
    last = LEGEND.codes[2]
    counted = (mapped != 255) & (percent != 255) & (truth != last)
    assert found.reliability.counts.sum() == counted.sum()
    right = (mapped[counted] != last).mean()
    assert found.reliability.accuracy == pytest.approx(right)
    assert any("before --merge" in remark for remark in found.remarks)


def test_points_stand_for_the_area_of_their_stratum(tmp_path, files, arrays):
    mapped, _, truth = arrays
    rng = np.random.default_rng(8)
    rows, cols = rng.integers(10, 60, 300), rng.integers(0, 80, 300)
    # Twice as many points on the first class as its area asks for.
    more = np.flatnonzero(mapped[rows, cols] == 1)
    rows, cols = np.concatenate([rows, rows[more]]), np.concatenate([cols, cols[more]])
    x, y = PLACE * (cols + 0.5, rows + 0.5)
    points = geopandas.GeoDataFrame(
        {"kind": truth[rows, cols]}, geometry=geopandas.points_from_xy(x, y), crs=UTM
    )
    points.to_file(tmp_path / "points.gpkg")
    found = evaluate(files[0], tmp_path / "points.gpkg", options(confidence=files[1]))
    at = mapped[rows, cols]
    areas = {c: (mapped == c).sum() for c in (1, 2, 4)}
    weights = np.array([areas[c] / (at == c).sum() for c in at.tolist()])
    right = at == truth[rows, cols]
    assert found.reliability.counts.sum() == len(rows)
    assert found.reliability.accuracy == pytest.approx((weights * right).sum() / weights.sum())
    overall = found.sample.estimates.overall.value
    assert found.reliability.accuracy == pytest.approx(overall, abs=1e-3)


def test_the_command_reports_it(capfd, tmp_path, files):
    command = ["evaluate", str(files[0]), str(files[2]), "--confidence", str(files[1])]
    (tmp_path / "legend.yaml").write_text(json.dumps({"classes": LEGEND.to_list()}))
    command += ["--legend", str(tmp_path / "legend.yaml"), "-o", str(tmp_path / "report.json")]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert not stopped.value.code
    assert "expected calibration error" in capfd.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["reliability"]["bins"]) == 20
    assert "expected calibration error" in report["definitions"]["reliability"]
    assert report["settings"]["confidence"] == str(files[1])


def test_probabilities_of_other_programs(tmp_path, files, arrays):
    percent = arrays[1]
    share = np.where(percent == 255, np.nan, percent / np.float32(100)).astype(np.float32)
    floats = write_raster(tmp_path / "share.tif", share, PLACE, UTM)
    one, other = (
        evaluate(files[0], files[2], options(confidence=path)) for path in (files[1], floats)
    )
    assert other.reliability.error == pytest.approx(one.reliability.error, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "place", "says"),
    [
        (np.full(SHAPE, 101, np.uint8), PLACE, "holds 101, but a confidence is .* per cents"),
        (np.full(SHAPE, 87, np.float32), PLACE, "holds 87, but .* probabilities, 0 to 1"),
        (np.full(SHAPE, -0.1, np.float32), PLACE, "holds -0.1"),
        (np.full(SHAPE, 80, np.uint8), PLACE * Affine.translation(0, 1), "not on the grid of"),
        (np.full((2, *SHAPE), 80, np.uint8), PLACE, "has 2 bands"),
    ],
)
def test_rasters_that_are_no_confidence_of_this_map_are_refused(
    tmp_path, files, values, place, says
):
    wrong = write_raster(tmp_path / "wrong.tif", values, place, UTM)
    with pytest.raises(SceneError, match=rf"wrong\.tif: .*{says}.*--confidence"):
        evaluate(files[0], files[2], options(confidence=wrong))


def test_the_confidence_is_not_overwritten(files):
    outputs = EvaluateOutputs(json=files[1], overwrite=True)
    with pytest.raises(UsageError, match=r"confidence\.tif"):
        evaluate(files[0], files[2], options(confidence=files[1]), outputs)
