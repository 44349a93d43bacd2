"""Confusion matrices to IoU, F1, OA, kappa; samples of points to area-adjusted estimates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z95 = 1.96
"""Half a 95 % confidence interval in standard errors, rounded as Olofsson et al. round it."""


def confusion_matrix(
    reference: NDArray[np.integer],
    mapped: NDArray[np.integer],
    classes: int,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Counts pixels by reference class and mapped class.

    Args:
        reference: Channels, any shape, 0 to ``classes - 1`` wherever counted.
        mapped: Channels, same shape.
        classes: Number of classes, K.
        counted: True where a pixel counts, same shape; everywhere when None.

    Returns:
        Counts, shape (K, K), int64; rows are the reference, columns the map.

    Raises:
        ValueError: A counted value is not a channel.
    """
    if counted is not None:
        reference, mapped = reference[counted], mapped[counted]
    reference, mapped = reference.reshape(-1), mapped.reshape(-1)
    for values in (reference, mapped):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"channels must be 0 to {classes - 1}")
    joint = reference.astype(np.int32) * np.int32(classes) + mapped.astype(np.int32)
    counts = np.bincount(joint, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    A score without a value (the precision of a class that the map never shows) is NaN.

    Attributes:
        matrix: Shape (K, K), float64; rows reference, columns map; rows of ignored classes are 0.
        ignored: Classes that do not count, shape (K,), bool.
    """

    matrix: Floats
    ignored: NDArray[np.bool_]

    @classmethod
    def of(cls, matrix: ArrayLike, ignore: Collection[int] = ()) -> Scores:
        """Scores of a confusion matrix.

        Args:
            matrix: Counts or proportions, shape (K, K); rows reference, columns map.
            ignore: Channels that do not count. Pixels whose reference is one of them are left
                out. Pixels of another class that the map gives to one of them stay and are
                errors, so that a map gains nothing by calling the hard places background.

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
        """Sum of the matrix: pixels (or points) that count."""
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

        These are the classes that are in the reference or in the map (or both) and not ignored.
        A class absent from both has no score and does not pull the mean up or down.
        """
        return (self.support + self.mapped > 0) & ~self.ignored

    def _of_counted(self, values: Floats) -> Floats:
        return np.where(self.counted, values, np.nan)

    @property
    def iou(self) -> Floats:
        """Intersection over union of each class, shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.support + self.mapped - self._hits))

    @property
    def precision(self) -> Floats:
        """Share of a mapped class that is right (user's accuracy), shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.mapped))

    @property
    def recall(self) -> Floats:
        """Share of a reference class that is found (producer's accuracy), shape (K,)."""
        return self._of_counted(_ratio(self._hits, self.support))

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, shape (K,)."""
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
        """Share of pixels that are right."""
        return float(_ratio(self._hits.sum(), self.matrix.sum()))

    @property
    def kappa(self) -> float:
        """Cohen's kappa; NaN where chance alone agrees everywhere."""
        chance = _ratio((self.support * self.mapped).sum(), self.total**2)
        return float(_ratio(self.overall_accuracy - chance, 1 - chance))

    @property
    def fwiou(self) -> float:
        """IoU weighted by the classes' frequency in the reference."""
        weighted = np.where(self.support > 0, self.support * np.nan_to_num(self.iou), 0.0)
        return float(_ratio(weighted.sum(), self.total))


@dataclass(frozen=True)
class Estimates:
    """Values with their standard errors.

    Attributes:
        value: Estimates, any shape, float64; NaN where there is none.
        error: Standard errors, same shape; NaN where the sample does not give one.
    """

    value: Floats
    error: Floats

    @property
    def margin(self) -> Floats:
        """Half the width of the 95 % confidence interval."""
        return Z95 * self.error


@dataclass(frozen=True)
class AreaEstimates:
    """Accuracy and areas estimated from a sample of points.

    Attributes:
        matrix: Estimated proportions of area, shape (K, K); rows reference, columns map.
        overall: Overall accuracy, shape ().
        users: User's accuracy of each class (precision), shape (K,).
        producers: Producer's accuracy of each class (recall), shape (K,).
        area: Proportion of the area that each class really covers, shape (K,).
    """

    matrix: Floats
    overall: Estimates
    users: Estimates
    producers: Estimates
    area: Estimates


def stratified_estimates(
    counts: ArrayLike, sizes: ArrayLike, ignore: Collection[int] = ()
) -> AreaEstimates:
    """Area-adjusted accuracy and areas from points drawn at random within strata.

    The stratified estimators of Olofsson et al. (2014, Remote Sensing of Environment 148, 42-57,
    equations 1 to 11), in the general form of Stehman (2014, International Journal of Remote
    Sensing 35, 4923-4939), in which strata and classes may differ; no finite population
    correction. They also serve simple random and systematic samples (post-stratified).

    Args:
        counts: Points by stratum, reference class and mapped class, shape (H, K, K).
        sizes: Area of each stratum, any unit, shape (H,).
        ignore: Reference classes whose places do not count: accuracies are estimated for the
            rest of the area, as ratios. Areas are proportions of the whole.

    Raises:
        ValueError: The shapes do not fit, or a stratum has no area or no point.
    """
    points = np.asarray(counts, np.float64)
    size = np.asarray(sizes, np.float64)
    if points.ndim != 3 or points.shape[1] != points.shape[2] or size.shape != points.shape[:1]:
        raise ValueError(f"strata do not fit: {points.shape} and {size.shape}")
    n = points.sum((1, 2))
    if not (size > 0).all() or not (n > 0).all():
        raise ValueError("each stratum needs an area and a point")
    weight = size / size.sum()
    share = points / n[:, None, None]
    counted = share.copy()
    counted[:, list(ignore)] = 0
    hit = np.diagonal(counted, axis1=1, axis2=2)
    sample = _Sample(weight, n)
    overall = sample.ratio(hit.sum(1, keepdims=True), counted.sum((1, 2))[:, None])
    return AreaEstimates(
        matrix=np.tensordot(weight, share, 1),
        overall=Estimates(overall.value[0], overall.error[0]),
        # A stratum without a point of the mapped class is taken to have none of it at all.
        users=sample.ratio(hit, counted.sum(1), share.sum(1) == 0),
        producers=sample.ratio(hit, counted.sum(2)),
        area=sample.ratio(share.sum(2), np.ones_like(hit)),
    )


@dataclass(frozen=True)
class _Sample:
    weight: Floats
    n: Floats

    def ratio(self, y: Floats, x: Floats, void: NDArray[np.bool_] | None = None) -> Estimates:
        """Ratio of two totals; y and x are shares (H, K) of points, and each y point is an x.

        ``void`` strata have no x at all, beyond the sample too.
        """
        total_y, total_x = self.weight @ y, self.weight @ x
        ratio = _ratio(total_y, total_x)
        # Variances of 0/1 variables within strata; their covariance, since y implies x.
        spread = y * (1 - y) + ratio**2 * x * (1 - x) - 2 * ratio * y * (1 - x)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = self.weight[:, None] ** 2 * np.maximum(spread, 0) / (self.n[:, None] - 1)
            variance = np.sum(each if void is None else np.where(void, 0, each), 0) / total_x**2
        return Estimates(ratio, np.where(np.isfinite(variance), np.sqrt(variance), np.nan))


def _ratio(top: ArrayLike, bottom: ArrayLike) -> Floats:
    above, below = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    blank = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=blank, where=below != 0)
    return blank


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
