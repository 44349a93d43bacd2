"""The judge's figures, on labels and maps of a few pixels."""

import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import judge_metrics as metrics  # noqa: E402
from judge_metrics import Pixels, Verdict  # noqa: E402


def codes(*values):
    return np.array(values, np.uint8)


def test_scores_are_those_of_the_definition():
    labels = codes(1, 1, 2, 2, 3, 3, 3, 4)
    mapped = codes(1, 3, 2, 1, 3, 3, 2, 3)
    scores = metrics.class_scores(metrics.confusion(labels, mapped))
    assert scores["water"] == {"iou": 1 / 3, "precision": 1 / 2, "recall": 1 / 2, "pixels": 2}
    assert scores["trees"]["iou"] == pytest.approx(1 / 3)
    assert scores["open"]["iou"] == pytest.approx(2 / 5)
    assert scores["built-up"] == {"iou": 0, "precision": None, "recall": 0, "pixels": 1}
    assert metrics.mean_iou(scores) == pytest.approx((1 / 3 + 1 / 3 + 2 / 5 + 0) / 4)


def test_pixels_without_label_do_not_count():
    assert metrics.confusion(codes(0, 0, 1), codes(1, 2, 1)).sum() == 1


def test_classes_that_are_not_labelled_have_no_figures():
    scores = metrics.class_scores(metrics.confusion(codes(1, 3), codes(1, 2)))
    assert set(scores) == {"water", "open"}


def test_not_water_counts_against_water_alone():
    matrix = metrics.confusion(codes(1, 9, 9, 2), codes(1, 1, 2, 2))
    scores = metrics.class_scores(matrix)
    assert scores["water"]["iou"] == pytest.approx(1 / 2)
    assert scores["trees"]["precision"] == 1


def test_a_model_of_water_and_land_has_figures_of_water_only():
    scores = metrics.class_scores(metrics.confusion(codes(1, 2, 3), codes(1, 9, 1)))
    assert set(scores) == {"water"}
    assert scores["water"]["iou"] == pytest.approx(1 / 2)


def test_calibration_error_is_zero_where_confidence_is_accuracy():
    right = np.array([True, True, True, False])
    assert metrics.calibration_error(np.full(4, 0.75), right) == pytest.approx(0)
    assert metrics.calibration_error(np.ones(4), right) == pytest.approx(0.25)
    assert metrics.calibration_error(np.zeros(0), np.zeros(0)) == 0


def test_errors_of_several_bins_are_weighed_by_their_pixels():
    confidence = np.array([0.55, 0.55, 0.55, 0.95])
    right = np.array([True, True, False, False])
    expected = (3 * abs(0.55 - 2 / 3) + 0.95) / 4
    assert metrics.calibration_error(confidence, right) == pytest.approx(expected)


def test_confidence_of_water_or_not_where_no_more_is_known():
    pixels = Pixels(
        codes(9, 9, 2), codes(2, 1, 2), np.float32([0.5, 0.6, 0.5]), np.float32([0.1, 0.6, 0.2])
    )
    assert metrics.is_right(pixels).tolist() == [True, False, True]
    assert metrics.stated(pixels) == pytest.approx([0.9, 0.6, 0.5])


def test_capped_takes_all_of_rare_and_some_of_common_labels():
    labels = np.repeat(codes(0, 1, 2), [50, 100, 5])
    kept = metrics.capped(labels, 10)
    assert np.bincount(labels[kept]).tolist() == [0, 10, 5]
    assert (np.diff(kept) > 0).all()
    assert metrics.capped(labels, 10).tolist() == kept.tolist()
    assert len(metrics.capped(codes(0, 0), 10)) == 0


def test_share_of_open_land_that_is_water():
    verdict = Verdict.of(Pixels(codes(3, 3, 3, 3, 1), codes(1, 3, 3, 2, 1)))
    assert verdict.open_as_water == pytest.approx(1 / 4)
    assert verdict.ece is None
    assert Verdict.of(Pixels(codes(1), codes(1))).open_as_water is None


def test_joined_pixels_keep_what_all_of_them_have():
    whole = Pixels(codes(1), codes(1), np.float32([0.5]), np.float32([0.5]))
    assert Pixels.joined([whole, whole]).confidence.tolist() == [0.5, 0.5]
    assert Pixels.joined([whole, Pixels(codes(1), codes(2))]).confidence is None


def test_a_calibrated_bundle_has_the_temperature_that_was_fitted(tmp_path):
    import calibrate

    from cwsam_geo.core.reliability import log_probabilities
    from cwsam_geo.core.temperatures import Temperatures
    from cwsam_geo.model.store import load_full

    rng = np.random.default_rng(0)
    true = rng.normal(size=(8_000, 4)) * 2
    labels = np.array([1 + rng.choice(4, p=p) for p in np.exp(log_probabilities(true, 1))])
    sites = np.repeat(["a", "b"], 4_000)
    np.savez(tmp_path / "logits_both.npz", site=sites, label=codes(*labels), logits=3 * true)
    np.savez(tmp_path / "logits_vv.npz", site=sites, label=codes(*labels), logits=true)
    found = calibrate.calibrated(tmp_path)
    both = found["modes"]["both"]
    assert both["temperature"] == pytest.approx(3, rel=0.1)
    assert both["after"] < 0.03 < both["before"]
    # Logits of another set of bands have a temperature of their own.
    assert found["modes"]["vv"]["temperature"] == pytest.approx(1, rel=0.1)
    temperatures = Temperatures(both["temperature"])
    path = calibrate.with_temperatures(load_full("demo"), temperatures, {}).save(
        tmp_path / "calibrated.safetensors"
    )
    assert load_full(path).temperatures == temperatures


def test_forest_and_threshold_are_trained_on_other_sites_alone():
    import judge_forest

    rng = np.random.default_rng(0)
    labels = {s: np.repeat(codes(1, 3), 50) for s in ("a", "b")}
    # In site b all is the other way round: its own pixels would have told.
    values = {
        "a": np.where(labels["a"] == 1, -25.0, -12.0)[:, None] + rng.normal(size=(100, 1)),
        "b": np.where(labels["b"] == 1, -12.0, -25.0)[:, None] + rng.normal(size=(100, 1)),
    }
    found = judge_forest.forest_maps(values, labels)
    assert np.mean(found["b"] == labels["b"]) < 0.1
    levels = {s: np.repeat(v, len(judge_forest.SMOOTH), 1) for s, v in values.items()}
    dark = judge_forest.threshold_maps(levels, labels)
    assert np.mean(dark["b"][:50] == 1) < 0.1


def test_labels_of_five_classes_are_four_and_sites_keep_neighbours_together(tmp_path):
    import places_data
    import rasterio

    folder = tmp_path / "somewhere_else"
    folder.mkdir()
    values = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    for name in ("s1.tif", "label.tif"):
        with rasterio.open(
            folder / name, "w", driver="GTiff", count=1, height=2, width=3, dtype="uint8"
        ) as file:
            file.write(values, 1)
    (place,) = places_data.places(tmp_path)
    assert place.codes().tolist() == [[0, 1, 2], [3, 4, 3]]
    assert place.site == "somewhere_else"
    assert places_data.site_of("desert_p05") == "desert"
    assert places_data.site_of("ben_austria_danube_61_39") == "austria"
    assert places_data.site_of("worldcereal_belgium_b") == "belgium"
    sites = [site for fold in places_data.FOLDS.values() for site in fold]
    assert len(sites) == len(set(sites))
