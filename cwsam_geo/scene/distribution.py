"""Compares a scene's values with those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands, Units
from cwsam_geo.scene.statistics import BandStats, SceneStats
from cwsam_geo.scene.units import PLAUSIBLE_DB, UNIT_NAMES, decibels

_DB_MARGIN = 3.0
"""A median at most this far outside the training data, in dB, never causes a warning."""

_BETTER = 0.8
"""Another unit fits better if its distance from the training data is below this fraction of the
distance in the assumed unit. Half of the real scenes tried are at least twice as close in their own
unit as in the other; the least clear scene is 1.3 times as close."""

_FITS = 8.0
"""Largest mean distance of the quantiles from the training data, in dB, at which a unit fits at
all. Real scenes have up to 5 in their own unit; amplitude that is read as power has 5 to 10."""

_NARROW = 0.65
"""Values are suspiciously alike if their spread (5 to 95 %) is below this fraction of the training
data's, and the bands are alike as well. Speckle alone gives a real scene of one land cover 0.36."""

_NARROW_ALONE = 0.25
"""The same fraction for a scene of one band, where no bands can be compared."""

_NARROW_CLIPPED = 0.75
"""The same fraction, for spread or difference of bands, if values were clipped to exactly 0..1."""

_CLIPPED = 1e-4
"""An end of a band's range is a clipping limit if at least this share of the values lies there."""

_SPECKLE = 0.36
"""A single band is hardly power if its spread is below this fraction of the training data's:
the speckle of a Sentinel-1 GRD (4.4 looks) alone gives power 0.46."""

_ALIKE = 0.5
"""Two bands are suspiciously alike if they differ by less than this fraction of their difference in
the training data. Real scenes have 0.69 or more; numbers scaled to 0..1 have up to 0.4."""

_TELLING_DB = 3.0
"""Smallest difference of two bands in the training data, in dB, that is worth comparing."""


def distribution_warning(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> str | None:
    """A warning if the whole scene's values are far from the model's training data; else None.

    If the model has no quantiles of its training data, but takes decibels or power, the scene is
    compared with the plausible median of calibrated backscatter instead. The positions in ``scene``
    are indices into ``stats.bands``.
    """
    far = []
    for i, position in enumerate(scene.positions):
        if position is None or stats.blank:
            continue
        text = _far(spec, i, _scaled(spec, scene, stats.bands[position]))
        if text:
            far.append(f"{spec.bands[i]}: {text}")
    if not far:
        return None
    return "the scene is far from the model's training data: " + "; ".join(far)


def _far(spec: PreprocessSpec, band: int, scaled: tuple[float, float, float]) -> str | None:
    low, median, high = scaled
    unit = "" if spec.scaling == "amplitude8" else " dB"
    scene_range = f"median {median:.3g}{unit} (5 to 95 %: {low:.3g} to {high:.3g})"
    if spec.quantiles is not None:
        # 5, 50 and 95 % quantiles of the training data. The scene's median may lie outside their
        # range by half of that range.
        q5, q50, q95 = (_comparable(spec, q) for q in spec.quantiles[band])
        margin = max(_DB_MARGIN if unit else 0.1, 0.5 * (q95 - q5))
        if q5 - margin <= median <= q95 + margin:
            return None
        return f"{scene_range}, trained on {q50:.3g}{unit} ({q5:.3g} to {q95:.3g})"
    if unit and not PLAUSIBLE_DB[0] <= median <= PLAUSIBLE_DB[1]:
        return f"{scene_range}, calibrated backscatter has a median of {PLAUSIBLE_DB[0]:g} to " + (
            f"{PLAUSIBLE_DB[1]:g} dB"
        )
    return None


def likeness_warning(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> str | None:
    """Warns if the values are distributed unlike the training data, and says what they look like.

    Amplitude that is read as power has half the decibels, so it has half the spread and half the
    difference between bands. Numbers that were scaled for another network have even less of both.

    Returns:
        The warning; None if the values look like the training data, or the model has no quantiles.
    """
    comparison = _compared(spec, scene, stats)
    if comparison is None:
        return None
    units = scene.units
    in_unit_interval = _unit_interval(stats)
    likenesses, remedies = [], []
    other = _better_units(comparison, units)
    if other is not None:
        likenesses.append(f"calibrated {other}")
        remedies.append(f"pass --units {other}")
    if comparison.narrow or (in_unit_interval and _clipped(stats) and comparison.rather_narrow):
        scaled = "scaled to 0..1" if in_unit_interval else "that were normalised or scaled"
        likenesses.append(f"numbers {scaled}")
        remedies.append(
            "give the backscatter itself, or undo the scaling with --scale and --offset"
        )
    if not likenesses:
        return None
    return (
        f"{comparison.text()}: its values look like {' or '.join(likenesses)}, not like "
        f"{UNIT_NAMES[units]}; if they are, {', or '.join(remedies)}"
    )


def _better_units(comparison: _Comparison, units: Units) -> Units | None:
    """Units in which the values fit the training data much better; None if none do."""
    # In decibels, amplitude that is taken for power is halved, and the reverse is doubled.
    if units == "power":
        factor, other = 2.0, "amplitude"
        # A single band may just be bright. But speckle alone makes power vary more than this.
        alone = comparison.spread < _SPECKLE
    else:
        factor, other = 0.5, "power"
        alone = False
    if units == "db" or (len(comparison.names) == 1 and not alone):
        return None
    fit = comparison.distance(factor)
    better = fit < _FITS and fit < _BETTER * comparison.distance(1.0)
    return cast(Units, other) if better else None


@dataclass(frozen=True)
class _Comparison:
    """Quantiles in dB of a scene and of the training data.

    Attributes:
        names: Names of the N bands.
        scene: 5, 50 and 95 % quantiles of the scene, shape (N, 3).
        trained: The same of the training data, shape (N, 3).
    """

    names: tuple[str, ...]
    scene: NDArray[np.float64]
    trained: NDArray[np.float64]

    def distance(self, factor: float) -> float:
        """Mean distance of the quantiles, in dB, if the scene's were ``factor`` times as large."""
        return float(np.abs(factor * self.scene - self.trained).mean())

    @property
    def narrow(self) -> bool:
        """True if the scene's values are suspiciously alike, and its bands too."""
        if self._pair is None:
            return self.spread < _NARROW_ALONE
        apart, trained = self._apart
        return self.spread < _NARROW and abs(apart) < _ALIKE * abs(trained)

    @property
    def spread(self) -> float:
        """Mean spread of the bands as a fraction of the training data's."""
        return float(self._spread.mean())

    @property
    def rather_narrow(self) -> bool:
        """True if the values of a band, or its bands, are more alike than in the training data."""
        if float(self._spread.min()) < _NARROW_CLIPPED:
            return True
        return self._pair is not None and abs(self._apart[0]) < _NARROW_CLIPPED * abs(
            self._apart[1]
        )

    @property
    def _spread(self) -> NDArray[np.float64]:
        """Spread of each band as a fraction of the training data's, shape (N,)."""
        # Values clipped to 0 have extremely low dB, which make the full spread (low = 0) far too
        # large: the spread above the median (low = 1) is the smaller one then.
        ratios = [
            (self.scene[:, 2] - self.scene[:, low])
            / np.maximum(self.trained[:, 2] - self.trained[:, low], 1e-6)
            for low in (0, 1)
        ]
        smaller: NDArray[np.float64] = np.minimum(*ratios)
        return smaller

    @property
    def _pair(self) -> tuple[int, int] | None:
        """The two bands that are farthest apart in the training data."""
        medians = self.trained[:, 1]
        pairs = combinations(range(len(medians)), 2)
        pair = max(pairs, key=lambda p: abs(medians[p[0]] - medians[p[1]]), default=None)
        if pair is None or abs(medians[pair[0]] - medians[pair[1]]) < _TELLING_DB:
            return None
        return pair

    @property
    def _apart(self) -> tuple[float, float]:
        """Difference of the pair's medians in the scene, and in the training data."""
        assert self._pair is not None
        i, j = self._pair
        differences = [float(q[i, 1] - q[j, 1]) for q in (self.scene, self.trained)]
        return differences[0], differences[1]

    def text(self) -> str:
        """What differs, as the beginning of a sentence."""
        spreads = [
            f"{name} {scene[2] - scene[0]:.3g} dB (trained on {trained[2] - trained[0]:.3g})"
            for name, scene, trained in zip(self.names, self.scene, self.trained, strict=True)
        ]
        text = (
            f"the scene is not distributed like the training data (5 to 95 %: {', '.join(spreads)}"
        )
        if self._pair is not None:
            first, second = (self.names[i] for i in self._pair)
            apart, trained = self._apart
            text += f"; {first} minus {second}: {apart:.3g} dB (trained on {trained:.3g})"
        return text + ")"


def _compared(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> _Comparison | None:
    if spec.quantiles is None or spec.scaling == "amplitude8" or stats.blank:
        return None
    present = [(i, p) for i, p in enumerate(scene.positions) if p is not None]
    return _Comparison(
        names=tuple(spec.bands[i] for i, _ in present),
        scene=np.array([_scaled(spec, scene, stats.bands[p]) for _, p in present]),
        trained=np.array([[_comparable(spec, q) for q in spec.quantiles[i]] for i, _ in present]),
    )


def _unit_interval(stats: SceneStats) -> bool:
    """True if all values lie in 0..1 and reach both ends, as scaled and clipped numbers do."""
    low = min(b.minimum for b in stats.bands)
    high = max(b.maximum for b in stats.bands)
    return 0 <= low < 0.05 and 0.95 < high <= 1


def _clipped(stats: SceneStats) -> bool:
    """True if both ends of the values' range are clipping limits."""
    return any(b.at_minimum >= _CLIPPED and b.minimum == 0 for b in stats.bands) and any(
        b.at_maximum >= _CLIPPED and b.maximum == 1 for b in stats.bands
    )


def _scaled(spec: PreprocessSpec, scene: SceneBands, band: BandStats) -> tuple[float, float, float]:
    raw = np.array([band.quantile(p) for p in (5.0, 50.0, 95.0)], np.float32)
    low, median, high = (_comparable(spec, float(v)) for v in spec.scaled(raw, scene))
    return low, median, high


def _comparable(spec: PreprocessSpec, value: float) -> float:
    # Linear power is compared in dB, so that a margin means the same ratio at every level.
    return decibels(value, "power") if spec.scaling == "linear" else value
