"""IoU, F1, accuracy and kappa of confusion matrices; area-adjusted estimates of point samples."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z95 = 1.96
"""Half the width of a 95 % confidence interval in standard errors (normal approximation).

Rounded as in Olofsson et al. (2014), so that their worked example is reproduced.
"""


def confusion_matrix(
    reference: NDArray[np.integer],
    mapped: NDArray[np.integer],
    classes: int,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Counts pixels by reference class and mapped class.

    Args:
        reference: Channels, any shape; 0 to ``classes - 1`` where ``counted`` is True.
        mapped: Channels, same shape and range.
        classes: Number of classes, K.
        counted: True where a pixel counts, same shape; None counts all pixels.

    Returns:
        Counts, shape (K, K), int64; rows are the reference, columns the map.

    Raises:
        ValueError: A counted value is outside 0 to ``classes - 1``.
    """
    if counted is not None:
        reference, mapped = reference[counted], mapped[counted]
    reference, mapped = reference.reshape(-1), mapped.reshape(-1)
    for values in (reference, mapped):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"channels must be 0 to {classes - 1}")
    # One number per pair (reference, mapped), so that one bincount gives the whole matrix.
    joint = reference.astype(np.int32) * np.int32(classes) + mapped.astype(np.int32)
    counts = np.bincount(joint, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix.

    A score that is undefined, such as the precision of a class that the map does not contain, is
    NaN.

    Attributes:
        matrix: Pixels or proportions, shape (K, K), float64; rows are the reference, columns the
            map; rows of ignored classes are 0.
        ignored: True for classes that do not count, shape (K,), bool.
    """

    matrix: Floats
    ignored: NDArray[np.bool_]

    @classmethod
    def of(cls, matrix: ArrayLike, ignore: Collection[int] = ()) -> Scores:
        """Scores of a confusion matrix.

        Args:
            matrix: Counts or proportions, shape (K, K); rows are the reference, columns the map.
            ignore: Channels that do not count. Pixels whose reference has an ignored class are
                left out. Pixels of another reference class stay and count as errors where the map
                has an ignored class, so that a map cannot score by calling difficult areas
                background.

        Raises:
            ValueError: The matrix is not square, or a value is negative.
        """
        counts = np.array(matrix, np.float64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not (counts >= 0).all():
            raise ValueError(f"not a confusion matrix: shape {counts.shape}")
        ignored = np.zeros(len(counts), np.bool_)
        ignored[list(ignore)] = True
        counts[ignored] = 0
        return cls(counts, ignored)

    @property
    def total(self) -> float:
        """Sum of the matrix: the number of pixels, or the proportion, that counts."""
        return float(self.matrix.sum())

    @property
    def support(self) -> Floats:
        """Pixels of each class in the reference, shape (K,)."""
        sums: Floats = self.matrix.sum(1)
        return sums

    @property
    def mapped(self) -> Floats:
        """Pixels of each class in the map, shape (K,)."""
        sums: Floats = self.matrix.sum(0)
        return sums

    @property
    def _hits(self) -> Floats:
        return np.diagonal(self.matrix)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Classes that enter the means, shape (K,).

        A class counts if it occurs in the reference or in the map and is not ignored. A class
        that occurs in neither has no score and does not change the means.
        """
        return (self.support + self.mapped > 0) & ~self.ignored

    def _of_counted(self, values: Floats) -> Floats:
        return np.where(self.counted, values, np.nan)

    @property
    def iou(self) -> Floats:
        """Intersection over union of each class, TP / (TP + FP + FN), shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.support + self.mapped - self._hits))

    @property
    def precision(self) -> Floats:
        """User's accuracy of each class, TP / (TP + FP), shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.mapped))

    @property
    def recall(self) -> Floats:
        """Producer's accuracy of each class, TP / (TP + FN), shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.support))

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), shape (K,)."""
        return self._of_counted(_ratio(2 * self._hits, self.support + self.mapped))

    @property
    def miou(self) -> float:
        """Mean IoU over the ``counted`` classes."""
        return _mean(self.iou[self.counted])

    @property
    def mean_f1(self) -> float:
        """Mean F1 over the ``counted`` classes."""
        return _mean(self.f1[self.counted])

    @property
    def overall_accuracy(self) -> float:
        """Share of the counted pixels that the map classifies correctly."""
        return float(_ratio(self._hits.sum(), self.matrix.sum()))

    @property
    def kappa(self) -> float:
        """Cohen's kappa, (p_o - p_e) / (1 - p_e); NaN if the agreement by chance p_e is 1."""
        chance = _ratio((self.support * self.mapped).sum(), self.total**2)
        return float(_ratio(self.overall_accuracy - chance, 1 - chance))

    @property
    def fwiou(self) -> float:
        """IoU weighted by the classes' frequency in the reference."""
        # Classes without reference pixels have weight 0; their IoU may be NaN.
        weighted = np.where(self.support > 0, self.support * np.nan_to_num(self.iou), 0.0)
        return float(_ratio(weighted.sum(), self.total))


@dataclass(frozen=True)
class Estimates:
    """Values with their standard errors.

    Attributes:
        value: Estimates, any shape, float64; NaN if undefined.
        error: Standard errors, same shape; NaN if the sample is too small to estimate one.
    """

    value: Floats
    error: Floats

    @property
    def margin(self) -> Floats:
        """Half the width of the 95 % confidence interval, same shape and unit as ``value``."""
        return Z95 * self.error


@dataclass(frozen=True)
class AreaEstimates:
    """Accuracy and areas estimated from a sample of points.

    Attributes:
        matrix: Estimated area proportions, shape (K, K); rows are the reference, columns the map.
        overall: Overall accuracy, shape ().
        users: User's accuracy of each class (precision), shape (K,).
        producers: Producer's accuracy of each class (recall), shape (K,).
        area: Proportion of the area that each reference class covers, shape (K,).
    """

    matrix: Floats
    overall: Estimates
    users: Estimates
    producers: Estimates
    area: Estimates


def stratified_estimates(
    counts: ArrayLike, sizes: ArrayLike, ignore: Collection[int] = ()
) -> AreaEstimates:
    """Estimates area-adjusted accuracy and areas from points drawn at random within strata.

    The stratified estimators of Olofsson et al. (2014, Remote Sensing of Environment 148, 42-57,
    equations 1 to 11), in the general form of Stehman (2014, International Journal of Remote
    Sensing 35, 4923-4939), where strata and mapped classes may differ. There is no finite
    population correction. For simple random and systematic samples these are the post-stratified
    estimators.

    Args:
        counts: Number of points by stratum, reference class and mapped class, shape (H, K, K).
        sizes: Area of each stratum, shape (H,), any unit.
        ignore: Reference classes that do not count. Accuracies are estimated for the remaining
            area; area proportions still refer to the whole area.

    Raises:
        ValueError: The shapes do not match, or a stratum has no area or no point.
    """
    points = np.asarray(counts, np.float64)
    size = np.asarray(sizes, np.float64)
    if points.ndim != 3 or points.shape[1] != points.shape[2] or size.shape != points.shape[:1]:
        raise ValueError(f"strata do not fit: {points.shape} and {size.shape}")
    n = points.sum((1, 2))  # points of each stratum, (H,)
    if not (size > 0).all() or not (n > 0).all():
        raise ValueError("each stratum needs an area and at least one point")
    weight = size / size.sum()  # W_h, (H,)
    share = points / n[:, None, None]  # proportions within each stratum, (H, K, K)
    counted = share.copy()
    counted[:, list(ignore)] = 0
    hit = np.diagonal(counted, axis1=1, axis2=2)  # (H, K)
    sample = _Sample(weight, n)
    overall = sample.ratio(hit.sum(1, keepdims=True), counted.sum((1, 2))[:, None])
    return AreaEstimates(
        matrix=np.tensordot(weight, share, 1),
        overall=Estimates(overall.value[0], overall.error[0]),
        # A stratum without a sample point of a mapped class is assumed to contain none of it. Else
        # a stratum with a single point would make the errors of all mapped classes NaN.
        users=sample.ratio(hit, counted.sum(1), share.sum(1) == 0),
        producers=sample.ratio(hit, counted.sum(2)),
        area=sample.ratio(share.sum(2), np.ones_like(hit)),
    )


@dataclass(frozen=True)
class _Sample:
    """A stratified sample.

    Attributes:
        weight: Proportion W_h of the area in each stratum, shape (H,).
        n: Number n_h of points in each stratum, shape (H,).
    """

    weight: Floats
    n: Floats

    def ratio(self, y: Floats, x: Floats, void: NDArray[np.bool_] | None = None) -> Estimates:
        """The ratio estimator R = Y / X of Stehman (2014).

        Y is the sum of W_h y_h and X the sum of W_h x_h over the strata. Its variance is the sum
        of W_h**2 (s_y**2 + R**2 s_x**2 - 2 R s_xy) / n_h, divided by X**2, with the variances and
        the covariance of the 0/1 variables within stratum h.

        Args:
            y: Share of the points of each stratum that are in the numerator, shape (H, K). Every
                such point must be in the denominator as well.
            x: Share of the points of each stratum that are in the denominator, shape (H, K).
            void: True where a stratum is known to contain nothing of the denominator, shape
                (H, K); it then adds no variance.
        """
        total_y, total_x = self.weight @ y, self.weight @ x
        ratio = _ratio(total_y, total_x)
        # s_y**2 = y (1 - y) n / (n - 1), s_x**2 likewise; since y implies x, the covariance s_xy
        # is y (1 - x) n / (n - 1). The factor n cancels against n_h, (n - 1) follows below.
        spread = y * (1 - y) + ratio**2 * x * (1 - x) - 2 * ratio * y * (1 - x)
        with np.errstate(divide="ignore", invalid="ignore"):
            # (H, K); a stratum with one point has 0 / 0 here, so that its error becomes NaN.
            terms = self.weight[:, None] ** 2 * np.maximum(spread, 0) / (self.n[:, None] - 1)
            variance = np.sum(terms if void is None else np.where(void, 0, terms), 0) / total_x**2
        return Estimates(ratio, np.where(np.isfinite(variance), np.sqrt(variance), np.nan))


def number_or_none(value: float) -> float | None:
    """A number for JSON, which has neither NaN nor infinity: these become None."""
    return float(value) if math.isfinite(value) else None


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Elementwise ratio, NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    ratio = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=ratio, where=bottom != 0)
    return ratio


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
