"""Passes of a satellite over a place: neighbouring items of one orbit are one acquisition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS
from shapely.errors import ShapelyError
from shapely.geometry import shape

from cwsam_geo.core.counting import how_many, were
from cwsam_geo.errors import CwsamGeoError, SceneError, UsageError
from cwsam_geo.fetch.places import Place, area_in, projected
from cwsam_geo.io.longitudes import rejoined
from cwsam_geo.scene.acquisition import Acquisition
from cwsam_geo.scene.stac_item import StacAsset, StacItem, iso

_SAME_PASS = timedelta(minutes=20)
"""Longest time between two items of one pass. Slices follow each other every 25 seconds, and a
satellite needs 98 minutes to come back."""

_LEAST_COVER = 0.01
"""Share of a place that a pass must cover."""

_MOST_REASONS = 4


@dataclass(frozen=True)
class Pass:
    """One acquisition: the items of one pass of a satellite over a place.

    Attributes:
        items: Ids of the items, the newest processing first.
        assets: For each item, the raster of each band.
        acquisition: What the tags of the scene say.
        cover: Share of the place that the footprints cover, 0 to 1.
        units: Units of the values, as the catalogue's documentation or the item says, or None.
    """

    items: tuple[str, ...]
    assets: tuple[tuple[StacAsset, ...], ...]
    acquisition: Acquisition
    cover: float
    units: str | None = None


def passes_over(
    place: Place, crs: CRS, items: Iterable[StacItem], bands: Sequence[str], orbit: str | None
) -> tuple[list[Pass], list[str]]:
    """The passes over a place, those that cover most of it first, then by date.

    Args:
        place: The place.
        crs: CRS in which areas are compared.
        items: Items of a catalogue.
        bands: Polarisations that a pass must have.
        orbit: Direction that passes must have, or None.

    Returns:
        The passes, and sentences on what was left out.

    Raises:
        UsageError: ``orbit`` is given, but the items do not say theirs.
        SceneError: An item has no date, or its rasters are ambiguous.
    """
    area = area_in(place, crs)
    passes, reasons = [], []
    groups = _groups(items)
    if orbit is not None and groups and not any(i.orbit for group in groups for i in group):
        raise UsageError(
            f"--orbit {orbit}: the items of this catalogue do not say the direction of their orbit "
            f"({groups[0][0].id}); leave --orbit out"
        )
    for group in groups:
        if orbit is not None and {i.orbit for i in group} != {orbit}:
            continue
        made = _pass(group, bands, area, crs)
        if made is None:
            has = sorted({name for item in group for name in item.rasters()})
            listed = ", ".join(has) or "no polarisation that is known"
            reasons.append(f"{_acquisition(group).words} has {listed}")
        elif made.cover >= _LEAST_COVER:
            passes.append(made)
    passes.sort(key=lambda p: (-round(100 * p.cover), p.acquisition.start or "", p.items))
    return passes, _left_out(reasons, bands)


def joined(passes: Sequence[Pass]) -> Acquisition:
    """What the tags of a composite say: all items, the whole span of time, what is common."""
    scenes = [made.acquisition for made in passes]
    tracks = {s.relative_orbit for s in scenes}
    orbits = {s.orbit for s in scenes}
    platforms = sorted({s.platform for s in scenes if s.platform})
    return replace(
        scenes[0],
        items=tuple(item for s in scenes for item in s.items),
        start=min((s.start for s in scenes if s.start), default=None),
        end=max((s.end for s in scenes if s.end), default=None),
        platform=" ".join(platforms) or None,
        orbit=orbits.pop() if len(orbits) == 1 else None,
        relative_orbit=tracks.pop() if len(tracks) == 1 else None,
    )


def _left_out(reasons: Sequence[str], bands: Sequence[str]) -> list[str]:
    if not reasons:
        return []
    listed = "; ".join(reasons[:_MOST_REASONS]) + ("; ..." if len(reasons) > _MOST_REASONS else "")
    return [
        f"{how_many(len(reasons), 'pass')} without {' and '.join(bands)} {were(len(reasons))} left "
        f"out: {listed} "
        "(--bands takes others)"
    ]


def _groups(items: Iterable[StacItem]) -> list[list[StacItem]]:
    """Items of one satellite that follow each other closely."""
    by_platform: dict[str, list[tuple[datetime, StacItem]]] = {}
    for item in items:
        start = item.start
        if start is None:
            raise SceneError(f"{item.label}: its item {item.id} has no date")
        by_platform.setdefault(item.platform or "", []).append((start, item))
    groups: list[list[StacItem]] = []
    for dated in by_platform.values():
        last = datetime.min.replace(tzinfo=timezone.utc)
        for start, item in sorted(dated, key=lambda pair: (pair[0], pair[1].id)):
            if start - last > _SAME_PASS:
                groups.append([])
            groups[-1].append(item)
            last = start
    return groups


def _pass(group: Sequence[StacItem], bands: Sequence[str], area: Any, crs: CRS) -> Pass | None:
    """The pass of a group of items, of those that have all bands; None if none has."""
    usable = []
    # The id ends with the time or a code of processing: the newest comes first and counts.
    for item in sorted(group, key=lambda i: i.id, reverse=True):
        rasters = item.rasters()
        if all(band in rasters for band in bands):
            usable.append((item, tuple(rasters[band] for band in bands)))
    if not usable:
        return None
    chosen = [item for item, _ in usable]
    footprint = shapely.union_all([_footprint(item, crs) for item in chosen])
    cover = footprint.intersection(area).area / area.area if area.area else 0.0
    return Pass(
        items=tuple(item.id for item in chosen),
        assets=tuple(assets for _, assets in usable),
        acquisition=_acquisition(chosen),
        cover=min(float(cover), 1.0),
        units=chosen[0].units or _stated_units(usable[0][1]),
    )


def _acquisition(items: Sequence[StacItem]) -> Acquisition:
    first = min(items, key=lambda i: i.start or datetime.max.replace(tzinfo=timezone.utc))
    ends = [end for item in items if (end := item.end) is not None]
    return replace(
        first.acquisition,
        items=tuple(item.id for item in items),
        end=iso(max(ends)) if ends else None,
    )


def _footprint(item: StacItem, crs: CRS) -> Any:
    """The footprint of an item in a CRS; empty if the item says nothing of use."""
    try:
        if item.geometry is not None:
            outline = shape(item.geometry)
        elif item.bbox is not None:
            west, south, east, north = item.bbox
            outline = shapely.box(west, south, east if east > west else east + 360, north)
        else:
            return shapely.Polygon()
        outline = rejoined(np.array([outline]))[0]
        return shapely.make_valid(projected(shapely.force_2d(outline), crs, item.label))
    except (
        CwsamGeoError,
        ShapelyError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ):
        return shapely.Polygon()


def _stated_units(assets: Sequence[StacAsset]) -> str | None:
    units = {asset.unit for asset in assets}
    return units.pop() if len(units) == 1 else None
