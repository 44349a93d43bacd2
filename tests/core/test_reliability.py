"""Reliability against sums over single pixels, temperatures against those that drew the labels."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwsam_geo.core.reliability import (
    BINS,
    Reliability,
    best_temperature,
    fit_temperature,
    log_probabilities,
    reliability_by_temperature,
    reliability_text,
)


def naive_error(confidence, right, weights):
    """The definition, bin by bin."""
    total = 0.0
    for i in range(BINS):
        last = i == BINS - 1
        # Per cents: no rounding at the edges of bins.
        inside = (confidence >= 5 * i) & ((confidence < 5 * i + 5) | last)
        if inside.any():
            w = weights[inside]
            total += abs((w * right[inside]).sum() - (w * confidence[inside] / 100).sum())
    return total / weights.sum()


@st.composite
def pixels(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 300))
    weights = rng.random(n) + 0.1 if draw(st.booleans()) else np.ones(n)
    return rng.integers(0, 101, n), rng.random(n) < draw(st.floats(0, 1)), weights


@given(pixels())
def test_whole_per_cents_fall_into_their_bins(case):
    percent, right, weights = case
    found = Reliability.of(percent / 100, right, weights)
    assert found.error == pytest.approx(naive_error(percent, right, weights))
    assert found.accuracy == pytest.approx((weights * right).sum() / weights.sum())
    assert found.mean_confidence == pytest.approx((weights * percent).sum() / weights.sum() / 100)
    assert found.counts.tolist() == np.bincount(np.minimum(percent // 5, 19), minlength=20).tolist()


@given(pixels(), st.integers(0, 300))
def test_parts_add_up(case, cut):
    percent, right, weights = case
    parts = [
        Reliability.of(percent[s] / 100, right[s], weights[s])
        for s in (slice(cut), slice(cut, None))
    ]
    total = (parts[0] + parts[1]).to_dict()
    whole = Reliability.of(percent / 100, right, weights).to_dict()
    assert total["count"] == len(percent)
    assert total["expected_calibration_error"] == pytest.approx(whole["expected_calibration_error"])


def test_the_report_is_json_and_empty_bins_are_null():
    report = Reliability.of([0.97, 0.99, 1.0, 0.5], [True, True, False, True]).to_dict()
    assert report == json.loads(json.dumps(report))
    assert len(report["bins"]) == BINS
    assert report["bins"][0] == {
        "from": 0.0, "to": 0.05, "count": 0, "accuracy": None, "mean_confidence": None,
    }  # fmt: skip
    assert report["bins"][19]["count"] == 3
    assert report["bins"][19]["accuracy"] == pytest.approx(2 / 3)
    assert "75.0 % right" in reliability_text(report)
    nothing = Reliability.of([], []).to_dict()
    assert nothing["expected_calibration_error"] is None
    assert "no pixel" in reliability_text(nothing)


def drawn(temperature, classes, seed, n=20_000):
    """Logits, and labels that are drawn with the probabilities of this temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, classes)).astype(np.float32)
    probability = np.exp(log_probabilities(logits, temperature))
    channels = (rng.random((n, 1)) > probability.cumsum(1)).sum(1).clip(max=classes - 1)
    return logits, channels


@settings(max_examples=4, deadline=None)
@given(st.floats(0.6, 6), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_temperature_is_that_which_drew_the_labels(temperature, classes, seed):
    logits, channels = drawn(temperature, classes, seed)
    found = fit_temperature(logits, channels)
    assert found == pytest.approx(temperature, rel=0.12)
    confidence = np.exp(log_probabilities(logits, found).max(1))
    assert Reliability.of(confidence, logits.argmax(1) == channels).error < 0.02


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.floats(0, 1))
def test_the_error_never_rises_where_the_temperature_is_fitted(seed, n, right):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=4, size=(n, 3)).astype(np.float32)
    channels = np.where(rng.random(n) < right, logits.argmax(1), rng.integers(0, 3, n))
    found = fit_temperature(logits, channels)
    before, after = (
        Reliability.of(np.exp(log_probabilities(logits, t).max(1)), logits.argmax(1) == channels)
        for t in (1.0, found)
    )
    assert after.error <= before.error + 1e-9


def test_parts_add_up_and_weights_repeat_pixels():
    logits, channels = drawn(1.5, 3, seed=2, n=500)
    whole = reliability_by_temperature(logits, channels)
    parts = [
        reliability_by_temperature(logits[s], channels[s]) for s in (slice(200), slice(200, 500))
    ]
    np.testing.assert_allclose(parts[0] + parts[1], whole)
    weights = np.arange(500) % 3
    repeated = reliability_by_temperature(logits.repeat(weights, 0), channels.repeat(weights))
    np.testing.assert_allclose(reliability_by_temperature(logits, channels, weights), repeated)


def test_no_pixel_or_no_error_gives_a_usable_temperature():
    nothing = reliability_by_temperature(np.zeros((0, 2), np.float32), np.zeros(0, int))
    assert best_temperature(nothing) == 1.0
    logits = np.array([[5, 0], [0, 900]], np.float32)
    assert 0.4 < fit_temperature(logits, np.array([0, 1])) <= 1
    # Certain, and wrong.
    assert 5 < fit_temperature(logits, np.array([1, 0])) < 20
