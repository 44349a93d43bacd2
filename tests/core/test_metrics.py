"""Scores against scikit-learn, estimators against the examples that their papers publish."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from cwsam_geo.core.metrics import Scores, confusion_matrix, stratified_estimates

# Olofsson et al. (2014), table 8: deforestation, forest gain, stable forest, stable non-forest;
# rows are the map, which is the stratum.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON_PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]


def strata_are_classes(map_by_reference):
    """Counts (H, reference, map) of a sample whose strata are the map's classes."""
    k = len(map_by_reference)
    counts = np.zeros((k, k, k))
    for h in range(k):
        counts[h, :, h] = map_by_reference[h]
    return counts


@st.composite
def labels(draw):
    classes = draw(st.integers(2, 6))
    size = draw(st.integers(1, 60))
    values = hnp.arrays(np.int64, size, elements=st.integers(0, classes - 1))
    return classes, draw(values), draw(values)


@given(labels())
def test_matrix_is_scikit_learns(case):
    classes, reference, mapped = case
    ours = confusion_matrix(reference.astype(np.uint8), mapped.astype(np.uint8), classes)
    assert (ours == sk.confusion_matrix(reference, mapped, labels=range(classes))).all()


@given(labels(), st.sets(st.integers(0, 5), max_size=2))
def test_scores_are_scikit_learns(case, ignore):
    classes, reference, mapped = case
    ignore = sorted(i for i in ignore if i < classes)
    kept = ~np.isin(reference, ignore)
    scores = Scores.of(confusion_matrix(reference, mapped, classes), ignore)
    reference, mapped = reference[kept], mapped[kept]
    assert scores.total == kept.sum()
    if not kept.any():
        assert np.isnan([scores.miou, scores.overall_accuracy, scores.kappa]).all()
        return
    every = range(classes)
    present = [c for c in every if c not in ignore and ((reference == c) | (mapped == c)).any()]
    assert np.flatnonzero(scores.counted).tolist() == present
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        iou = sk.jaccard_score(reference, mapped, labels=every, average=None, zero_division=0)
        precision, recall, f1, support = sk.precision_recall_fscore_support(
            reference, mapped, labels=every, zero_division=np.nan
        )
        kappa = sk.cohen_kappa_score(reference, mapped, labels=every)
    assert scores.overall_accuracy == pytest.approx(sk.accuracy_score(reference, mapped))
    assert scores.kappa == pytest.approx(kappa, nan_ok=True)
    assert (scores.support == support).all()
    assert scores.iou[present] == pytest.approx(iou[present])
    assert scores.precision[present] == pytest.approx(precision[present], nan_ok=True)
    assert scores.recall[present] == pytest.approx(recall[present], nan_ok=True)
    assert scores.f1[present] == pytest.approx(np.nan_to_num(f1)[present])
    assert np.isnan(scores.iou[ignore]).all()
    assert scores.fwiou == pytest.approx((iou * support).sum() / support.sum())
    if present:
        assert scores.miou == pytest.approx(iou[present].mean())
        assert scores.mean_f1 == pytest.approx(np.nan_to_num(f1)[present].mean())


def test_class_absent_from_both_is_not_in_the_mean():
    scores = Scores.of([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert scores.counted.tolist() == [True, True, False]
    assert scores.miou == pytest.approx((8 / 11 + 9 / 12) / 2)
    assert np.isnan(scores.iou[2])


def test_class_never_mapped_counts_as_zero():
    scores = Scores.of([[8, 0], [2, 0]])
    assert scores.iou.tolist() == pytest.approx([0.8, 0])
    assert np.isnan(scores.precision[1])


def test_calling_hard_places_background_gains_nothing():
    matrix = np.array([[5, 5, 0], [0, 10, 10], [0, 0, 20]])
    hidden = Scores.of(matrix, ignore=[2])
    assert hidden.total == 30
    assert hidden.recall[1] == pytest.approx(0.5)
    assert hidden.overall_accuracy == pytest.approx(15 / 30)


@pytest.mark.parametrize("bad", [-1, 3])
def test_values_that_are_no_channel_are_refused(bad):
    with pytest.raises(ValueError, match="channels"):
        confusion_matrix(np.array([0, bad]), np.array([0, 1]), 3)


def test_uncounted_values_may_be_anything():
    counted = np.array([True, False])
    matrix = confusion_matrix(np.array([1, 99]), np.array([0, -5]), 2, counted)
    assert matrix.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), [[1, -1], [0, 1]]])
def test_what_is_no_confusion_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match="confusion matrix"):
        Scores.of(matrix)


def test_olofsson_2014_as_published():
    result = stratified_estimates(strata_are_classes(OLOFSSON), OLOFSSON_PIXELS)
    # Section 5.2.1 and 5.2.2 of the paper.
    assert float(result.overall.value) == pytest.approx(0.95, abs=0.005)
    assert float(result.overall.margin) == pytest.approx(0.02, abs=0.005)
    assert result.users.value == pytest.approx([0.88, 0.73, 0.93, 0.96], abs=0.005)
    assert result.users.margin == pytest.approx([0.07, 0.10, 0.04, 0.02], abs=0.005)
    assert result.producers.value == pytest.approx([0.75, 0.85, 0.93, 0.96], abs=0.005)
    assert float(result.producers.margin[0]) == pytest.approx(0.21, abs=0.005)
    hectares = sum(OLOFSSON_PIXELS) * 30 * 30 / 10_000
    published = [21_158, 11_686, 285_770, 581_386]
    assert result.area.value * hectares == pytest.approx(published, abs=0.5)
    assert result.area.margin * hectares == pytest.approx([6158, 3756, 15_510, 16_282], abs=0.7)
    assert float(result.area.margin[0]) * sum(OLOFSSON_PIXELS) == pytest.approx(68_418, abs=0.5)


def test_stehman_2014_as_published():
    strata = "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10
    mapped = "A" * 7 + "BBB" + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10
    truth = "AAAAACBABCABBBBBAABBCCCCCDDBBADDDDDDDCCB"
    counts = np.zeros((4, 4, 4))
    for h, j, i in zip(strata, truth, mapped, strict=True):
        counts["ABCD".index(h), "ABCD".index(j), "ABCD".index(i)] += 1
    result = stratified_estimates(counts, [40_000, 30_000, 20_000, 10_000])
    assert result.area.value[[0, 2]] == pytest.approx([0.35, 0.20])
    assert result.area.error[[0, 2]] == pytest.approx([0.082, 0.064], abs=5e-4)
    assert float(result.overall.value) == pytest.approx(0.63)
    assert float(result.overall.error) == pytest.approx(0.085, abs=5e-4)
    assert result.users.value[1] == pytest.approx(0.574, abs=5e-4)
    assert result.users.error[1] == pytest.approx(0.125, abs=5e-4)
    assert result.producers.value[1] == pytest.approx(0.794, abs=5e-4)
    # The paper prints 0.114, by a variance of 0 for stratum D that its own table 3 gives as 0.10.
    assert result.producers.error[1] == pytest.approx(0.1166, abs=5e-4)
    assert result.matrix[2, 1] == pytest.approx(0.08)


counts_by_class = hnp.arrays(np.int64, (3, 3), elements=st.integers(0, 30)).map(
    lambda m: m + 2 * np.eye(3, dtype=np.int64)
)


@given(counts_by_class, st.floats(0.1, 1e6))
def test_a_proportional_sample_estimates_what_it_shows(matrix, scale):
    """Strata sampled in proportion to their areas: the plain scores are the estimates."""
    result = stratified_estimates(strata_are_classes(matrix), matrix.sum(1) * scale)
    plain = Scores.of(matrix.T)
    assert float(result.overall.value) == pytest.approx(plain.overall_accuracy)
    assert result.users.value == pytest.approx(plain.precision)
    assert result.producers.value == pytest.approx(plain.recall)
    assert result.area.value == pytest.approx(plain.support / plain.total)


@given(counts_by_class)
@settings(max_examples=25)
def test_ignored_places_are_left_out_as_if_they_were_not_there(matrix):
    """A stratum that is wholly of the ignored class changes no accuracy and takes its area."""
    strata = strata_are_classes(matrix)
    larger = np.zeros((4, 4, 4))
    larger[:3, :3, :3] = strata
    larger[3, 3, 3] = 7
    sizes = np.array([5.0, 3.0, 2.0])
    without = stratified_estimates(strata, sizes)
    result = stratified_estimates(larger, [*sizes, 10.0], ignore=[3])
    assert float(result.overall.value) == pytest.approx(float(without.overall.value))
    assert result.producers.value[:3] == pytest.approx(without.producers.value)
    assert result.producers.error[:3] == pytest.approx(without.producers.error)
    assert result.area.value[:3] == pytest.approx(without.area.value / 2)


def test_one_point_gives_no_interval():
    counts = strata_are_classes(np.array([[1, 0], [3, 17]]))
    result = stratified_estimates(counts, [10, 90])
    assert np.isfinite(result.area.value).all()
    assert np.isnan(result.area.error).all()
    assert np.isfinite(result.users.error[1])


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        (np.ones((2, 2, 2)), [1]),
        (np.ones((2, 2, 2)), [1, 0]),
        (np.zeros((2, 2, 2)), [1, 1]),
    ],
)
def test_strata_without_area_or_points_are_refused(counts, sizes):
    with pytest.raises(ValueError, match="strat"):
        stratified_estimates(counts, sizes)
