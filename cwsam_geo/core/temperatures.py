"""The temperatures of a model: what divides its logits, by the bands that a scene has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cwsam_geo.core.reliability import TEMPERATURE_LIMITS
from cwsam_geo.errors import ModelError

Bands = tuple[str, ...]
"""Names of bands, in the order of the model's."""


@dataclass(frozen=True)
class Temperatures:
    """What divides the logits before the softmax, so that confidence means accuracy.

    A model that lacks a band of a scene errs in other places and with another confidence, so that
    one temperature does not suit all sets of bands.

    Attributes:
        common: The temperature of all sets of bands that ``by_bands`` does not list.
        by_bands: The temperature of some sets of bands.

    Raises:
        ModelError: A temperature is no number, or far from every useful one.
    """

    common: float = 1.0
    by_bands: Mapping[Bands, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in (self.common, *self.by_bands.values()):
            _check(value)

    def of(self, bands: Sequence[str]) -> float:
        """The temperature for scenes with these bands of the model."""
        return self.by_bands.get(tuple(bands), self.common)

    def calibrated(self, bands: Sequence[str]) -> bool:
        """Whether confidence was fitted for scenes with these bands of the model."""
        return tuple(bands) in self.by_bands or self.common != 1

    @property
    def lists_bands(self) -> bool:
        """Whether the temperature depends on the bands."""
        return bool(self.by_bands)

    @property
    def text(self) -> str:
        """What the confidence means, in words for a user."""
        if self == Temperatures():
            return "not calibrated: it may be too high or too low"
        if not self.by_bands:
            return f"calibrated on labelled areas (temperature {self.common:.3g})"
        listed = " and ".join(
            f"for {', '.join(bands)} (temperature {value:.3g})"
            for bands, value in self.by_bands.items()
        )
        return f"calibrated on labelled areas {listed}, but not for other bands"

    def to_json(self) -> float | dict[str, float]:
        """A number, or numbers by bands such as ``VV,VH``; bands that are not listed have 1."""
        if not self.by_bands:
            return self.common
        return {",".join(bands): value for bands, value in self.by_bands.items()}

    @classmethod
    def from_json(cls, value: Any, bands: Sequence[str]) -> Temperatures:
        """Reads the output of ``to_json``.

        Args:
            value: It comes from a file, so it may be anything.
            bands: The model's bands.

        Raises:
            ModelError: It is no temperature, or for bands that the model does not have.
        """
        if not isinstance(value, Mapping):
            return cls(value)
        known = {",".join(names): names for names in band_sets(bands)}
        unknown = [key for key in value if key not in known]
        if unknown or not value:
            raise ModelError(
                f"model bundle: temperature: {unknown[0] if unknown else 'nothing'!r} is no set of "
                f"the bands {', '.join(bands)}; get the model again, or fine-tune it anew"
            )
        return cls(by_bands={known[key]: number for key, number in value.items()})


def band_sets(bands: Sequence[str], optional: Iterable[str] | None = None) -> list[Bands]:
    """Sets of bands that a scene may have, the largest first, each in the model's order.

    Args:
        bands: The model's bands.
        optional: Those that a scene may lack; None for all of them.
    """
    spared = set(bands if optional is None else optional)
    subsets: list[Bands] = [()]
    for band in bands:
        # Each subset goes on with the band, and without it if the band may be absent.
        without = subsets if band in spared else []
        subsets = [*((*s, band) for s in subsets), *without]
    return sorted(filter(None, subsets), key=len, reverse=True)


def _check(value: Any) -> None:
    low, high = TEMPERATURE_LIMITS
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The comparison is also False for NaN.
    if not (is_number and low <= value <= high):
        raise ModelError(
            f"model bundle: temperature {value!r} is no number from {low:g} to {high:g}; get the "
            "model again, or fine-tune it anew"
        )
