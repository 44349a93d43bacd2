"""Options of ``fetch``: where, when, from which catalogue, and what is made of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, get_args

from cwsam_geo.errors import UsageError

Orbit = Literal["ascending", "descending"]
"""Direction of a pass: towards the north, or towards the south."""

Composite = Literal["median"]
"""How several dates become one scene."""

BANDS = ("VV", "VH", "HH", "HV")
"""Polarisations of Sentinel-1."""

DEFAULT_SOURCE = "planetary-computer"

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class FetchOptions:
    """What is fetched.

    Attributes:
        date: A day, or the first and the last one: ``2024-06-01/2024-08-31``. Either may be ``..``.
        bbox: West, south, east, north in degrees, of one place each. West is greater than east for
            an area across the antimeridian.
        aoi: Vector file; the rectangle around its polygons is one place.
        places: Vector files; the rectangle around each polygon is a place of its own.
        source: ``planetary-computer``, ``earth-search``, ``opera``, or the address of a STAC API.
        collection: Id of the collection; None for the Sentinel-1 collection of the source.
        orbit: Only passes of this direction, or None for all.
        bands: Polarisations that a scene must have, which become its bands.
        resolution: Side of a pixel in units of the CRS; None for 10 metres.
        crs: CRS of the scenes; None for the UTM zone of each place's centre.
        max_scenes: Most scenes of a place, those that cover most of it; None for all.
        composite: ``median`` to make one scene of all dates of a place.
        labels: ``worldcover``, ``esri-lulc``, or a path or address of a class raster; the labels
            and a ``region.yaml`` are written too. None for scenes only.
        dry_run: List what there is, without reading or writing anything.
        overwrite: Search anew and replace what an earlier run has fetched.

    Raises:
        UsageError: Options are missing, contradict each other, or have a value that is not
            possible.
    """

    date: str
    bbox: Sequence[Bounds] = ()
    aoi: str | os.PathLike[str] | None = None
    places: Sequence[str | os.PathLike[str]] = ()
    source: str = DEFAULT_SOURCE
    collection: str | None = None
    orbit: Orbit | None = None
    bands: Sequence[str] = ("VV", "VH")
    resolution: float | None = None
    crs: str | None = None
    max_scenes: int | None = None
    composite: Composite | None = None
    labels: str | None = None
    dry_run: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        given = [bool(self.bbox), self.aoi is not None, bool(self.places)]
        if sum(given) != 1:
            raise UsageError(
                "where? give one of --bbox W S E N, --aoi FILE and --place FILE"
                if not any(given)
                else "give one of --bbox, --aoi and --place, not several kinds"
            )
        check_dates(self.date)
        unknown = [b for b in self.bands if b not in BANDS]
        if unknown or not self.bands or len(set(self.bands)) < len(self.bands):
            raise UsageError(f"--bands {','.join(self.bands)}: list some of {', '.join(BANDS)}")
        if self.orbit is not None and self.orbit not in get_args(Orbit):
            raise UsageError(f"--orbit {self.orbit}: ascending or descending")
        if self.composite is not None and self.composite not in get_args(Composite):
            raise UsageError(f"--composite {self.composite}: there is only median")
        if self.max_scenes is not None and self.max_scenes < 1:
            raise UsageError(f"--max-scenes {self.max_scenes}: at least 1")
        if self.resolution is not None and not 0 < self.resolution < 1e6:
            raise UsageError(f"--res {self.resolution:g}: a number above 0")


def check_dates(text: str) -> None:
    """Refuses what is no day, and no first and last day.

    Raises:
        UsageError: See above; the message shows how dates are written.
    """
    first, slash, last = text.partition("/")
    days = [_day(part, text) for part in ([first, last] if slash else [first])]
    if not any(days):
        raise UsageError(f"--date {text}: {_HOW}")
    if len(days) == 2 and all(days) and days[0] > days[1]:  # type: ignore[operator]
        raise UsageError(f"--date {text}: the last day is before the first")


_HOW = "write a day or a first and last day: 2024-06-01/2024-08-31"


def _day(text: str, whole: str) -> date | None:
    if text in ("", "..") and "/" in whole:
        return None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return datetime.strptime(text, "%Y-%m-%d").date()
        except ValueError:
            raise UsageError(f"--date {whole}: {text} is no day of the calendar") from None
    raise UsageError(f"--date {whole}: {_HOW}")
