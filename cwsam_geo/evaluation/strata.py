"""The strata of a sample of points: the map's classes, or the strata that a column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import LISTED, counted
from cwsam_geo.core.counting import how_many, were
from cwsam_geo.core.legend import Legend, by_name
from cwsam_geo.errors import UsageError
from cwsam_geo.io.vector_file import Features


@dataclass(frozen=True)
class SampleStrata:
    """The strata of a sample.

    Attributes:
        names: Names of the strata, H of them.
        areas: Area of each stratum, shape (H,), in the unit of the map's areas.
        at_points: Stratum of each point on the map, shape (P,), int64.
        column: Column that gives the strata; None where they are the map's classes.
    """

    names: tuple[str, ...]
    areas: NDArray[np.float64]
    at_points: NDArray[np.int64]
    column: str | None


def map_strata(
    legend: Legend, areas: Mapping[int, float], codes: NDArray[np.uint8]
) -> SampleStrata:
    """The map's classes as strata.

    Args:
        legend: The map's classes, before merging.
        areas: Area of each code that occurs in the map.
        codes: Code of the map at each point on the map, shape (P,).
    """
    entries = [e for e in legend.entries if e.code in areas]
    index = np.zeros(256, np.int64)
    index[[e.code for e in entries]] = np.arange(len(entries))
    return SampleStrata(
        names=tuple(e.name for e in entries),
        areas=np.array([areas[e.code] for e in entries]),
        at_points=index[codes],
        column=None,
    )


def given_strata(
    features: Features, on_map: NDArray[np.bool_], sizes: Mapping[str, float], total: float
) -> SampleStrata:
    """The strata of a column, with the sizes that the user gives.

    Args:
        features: The points, with their strata.
        on_map: True for points on the map, shape (N,).
        sizes: Size of each stratum, in any unit.
        total: Area of the map, which the strata share in proportion to their sizes.

    Raises:
        UsageError: A point has no stratum, or a stratum has no size.
    """
    assert features.strata is not None
    column = features.strata.column
    names = [n for n, on in zip(features.strata.names, on_map.tolist(), strict=True) if on]
    missing = sum(name is None for name in names)
    if missing:
        raise UsageError(
            f"{features.label}: {how_many(missing, 'point')} without a stratum in the column "
            f"{column!r}; give every point its stratum"
        )
    points = _counts(names)
    keys = {name: by_name(sizes, name) for name in points}
    unsized = {name: n for name, n in points.items() if keys[name] is None}
    if unsized:
        known = f"; sizes are given for {', '.join(list(sizes)[:LISTED])}" if sizes else ""
        raise UsageError(
            f"{features.label}: strata of {column!r} without a size: {counted(unsized)}{known}; "
            "give the area of each, or its pixels, with --stratum-size NAME=SIZE"
        )
    order = {key: i for i, key in enumerate(sizes)}
    size = np.array(list(sizes.values()), np.float64)
    return SampleStrata(
        names=tuple(sizes),
        areas=size / size.sum() * total,
        at_points=np.array([order[str(keys[str(name)])] for name in names], np.int64),
        column=column,
    )


def stratum_remarks(
    features: Features, on_map: NDArray[np.bool_], codes: NDArray[np.uint8], used: bool
) -> tuple[str, ...]:
    """Remarks on strata that bias the estimates.

    Args:
        features: The points.
        on_map: True for points on the map, shape (N,).
        codes: Code of the map at each point on the map, shape (P,).
        used: Whether the strata of the column are used.
    """
    if features.strata is None:
        return ()
    column = features.strata.column
    if used:
        outside = int((~on_map).sum())
        if not outside:
            return ()
        return (
            f"{features.label}: {how_many(outside, 'point')} outside the map or on its nodata "
            f"{were(outside)} left out: the sizes of the strata must be those of their parts on "
            "the map",
        )
    names = [n for n, on in zip(features.strata.names, on_map.tolist(), strict=True) if on]
    pairs = set(zip(names, codes.tolist(), strict=True))
    if len(pairs) == len({n for n, _ in pairs}) == len({c for _, c in pairs}):
        return ()  # each stratum is a class of the map
    return (
        f"{features.label}: its column {column!r} differs from the map's classes, which are taken "
        "for the strata; if the points were drawn by that column, the estimates are biased: give "
        f"--stratum {column} and the size of each stratum (--stratum-size)",
    )


def _counts(names: Sequence[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[str(name)] = counts.get(str(name), 0) + 1
    return counts
