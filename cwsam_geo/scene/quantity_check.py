"""Refuses bands that hold another quantity than backscatter: masks and incidence angles.

A band that says so by its name is left out when a scene is opened. The checks here are for files
that hold nothing else, and for bands without names, which are taken in their order.
"""

from __future__ import annotations

from cwsam_geo.errors import SceneError
from cwsam_geo.scene.band_match import BandMatch
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.statistics import BandStats, SceneStats

_ANGLES = (15.0, 70.0)
"""Range of incidence angles in degrees, over flat land (20 to 47) and slopes."""

_POWER_MEDIAN = 2.0
"""Median of linear values above which they are too large for calibrated power (3 dB)."""


def check_names(source: RasterSource) -> None:
    """Refuses a scene whose bands all say that they are no backscatter.

    Raises:
        SceneError: They do, and the user has not chosen them.
    """
    others = [band.other for band in source.bands if band.other]
    if source.chosen or len(others) < len(source.bands):
        return
    numbers = ",".join(map(str, source.numbers))
    raise SceneError(
        f"{source.label}: by its name it holds no backscatter ({', '.join(others[:4])}); give the "
        f"raster of the backscatter, or pass -b {numbers} if it is"
    )


def check_unnamed(source: RasterSource, stats: SceneStats, match: BandMatch) -> None:
    """Refuses bands without names whose values are those of a mask or of incidence angles.

    Args:
        source: The scene with the bands that the model takes.
        stats: Statistics of the values that ``source`` reads.
        match: How the bands were found.

    Raises:
        SceneError: One is, and the user has not chosen it.
    """
    if source.chosen or match.by_name or len(stats.bands) < 2:
        return
    for number, band in zip(source.numbers, stats.bands, strict=True):
        others = [b for b in stats.bands if b is not band]
        what = _what(band, others)
        if what is not None:
            raise SceneError(
                f"{source.label}: band {number} holds {what}, and is no backscatter; say with -b "
                "which bands are, in the order of the model's bands"
            )


def _what(band: BandStats, others: list[BandStats]) -> str | None:
    """What a band holds if it is no backscatter, in words."""
    if band.minimum in (0, 1, 255) and band.maximum in (1, 255):
        ends = band.at_minimum + band.at_maximum
        if ends >= 1 and any(b.minimum != band.minimum or b.maximum > 1 for b in others):
            values = sorted({band.minimum, band.maximum})
            return f"nothing but {' and '.join(f'{v:g}' for v in values)}, like a mask"
    low, high = band.quantile(1.0), band.quantile(99.0)
    # Numbers like angles are common among digital numbers, but not beside dB or power.
    beside = any(b.median < -1 or b.quantile(99.0) < _POWER_MEDIAN for b in others)
    if beside and low >= _ANGLES[0] and high <= _ANGLES[1]:
        return f"values from {low:.3g} to {high:.3g}, like incidence angles"
    return None
