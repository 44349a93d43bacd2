"""Decides how a map is laid on a map grid (``--t-srs``), and says how exactly that can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyproj

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.io.control_points import LeftOut
from cwsam_geo.io.geolocation import GcpPlace, Geolocation, crs_name, locate, metres_per_unit
from cwsam_geo.io.map_grid import AUTO, chosen_crs, map_grid, window_on_map
from cwsam_geo.io.pixel_lookup import fitting_step
from cwsam_geo.io.pixel_size import pixel_size_of


@dataclass(frozen=True)
class Geocoding:
    """How the map of a scene is laid on a map grid.

    Attributes:
        own: Where the whole scene lies.
        onto: The map grid of the whole scene.
        part: The part of the scene that is mapped.
        window: The part of the map grid that is written.
        step: Pixels between places that are looked up exactly.
        facts: Plain values for the tag.
        remarks: What was decided, for the user.
        warnings: What the user should know before trusting the positions.
    """

    own: Geolocation
    onto: Geolocation
    part: Window
    window: Window
    step: int
    facts: Mapping[str, Any]
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def grid(self) -> SceneGrid:
        """The grid of the map."""
        return self.onto.grid.crop(self.window)

    @property
    def moves(self) -> bool:
        """Whether the map grid differs from the scene's grid."""
        own, onto = self.own.grid, self.onto.grid
        return bool(own.gcps) or own.transform != onto.transform or own.crs != onto.crs


def plan_geocoding(
    grid: SceneGrid, label: str, part: Window, t_srs: str, resolution: float | None = None
) -> Geocoding:
    """Chooses the map grid for a scene, and examines how exactly the scene is placed on it.

    The map grid, and where each pixel lies on it, are those of the whole scene: the map of a part
    is that part of the whole map.

    Args:
        grid: The scene's grid.
        label: The scene's name in messages.
        part: The part of the scene that is mapped.
        t_srs: CRS of the map, or ``auto``.
        resolution: Side of the map's pixels in units of its CRS; None for about the scene's.

    Raises:
        UsageError: The CRS is unknown, or the resolution is not one for this scene.
        SceneError: The scene has no place on the map.
    """
    own = locate(grid, label)
    onto = locate(map_grid(own, chosen_crs(t_srs, own), resolution), "the map")
    step, error = fitting_step(onto, own)
    window = window_on_map(own, onto, part)
    facts = {
        "crs": crs_name(onto.crs),
        "pixel_size": onto.grid.transform.a,
        "resampling": "nearest",
        "interpolation_pixels": round(error, 5),
        **_position(own),
    }
    remarks = [_grid_words(onto, window, t_srs == AUTO)]
    warnings = []
    if isinstance(own, GcpPlace):
        remarks.append(_position_words(facts))
        warnings += _relief_warning(own, facts)
    return Geocoding(own, onto, part, window, step, facts, tuple(remarks), tuple(warnings))


def _position(own: Geolocation) -> dict[str, Any]:
    """What places a scene, and how exactly."""
    if not isinstance(own, GcpPlace):
        return {"method": "geotransform"}
    left_out, heights = own.points.left_out(), own.points.heights
    return {
        "method": "thin-plate splines",
        "control_points": len(own.points.pixels),
        "left_out": None if left_out is None else _in_metres(left_out, own),
        "heights_m": [round(float(heights.min()), 1), round(float(heights.max()), 1)],
    }


def _in_metres(left_out: LeftOut, own: Geolocation) -> dict[str, Any]:
    assert own.crs is not None
    metres = metres_per_unit(pyproj.CRS.from_wkt(own.crs.to_wkt()))
    return {
        "points": left_out.points,
        "rms_pixels": round(left_out.rms_pixels, 3),
        "largest_pixels": round(left_out.largest_pixels, 3),
        "rms_m": round(metres * left_out.rms, 2),
        "largest_m": round(metres * left_out.largest, 2),
        "rms_height_m": round(left_out.rms_height, 1),
    }


def _grid_words(onto: Geolocation, window: Window, auto: bool) -> str:
    assert onto.crs is not None
    size, unit = onto.grid.transform.a, onto.crs.linear_units if onto.crs.is_projected else "degree"
    why = " (it fits the scene's middle)" if auto else ""
    unit = {"metre": "m", "degree": "degrees"}.get(unit, unit)
    return (
        f"map grid: {crs_name(onto.crs)}{why}, {window.width} x {window.height} px of {size:g} "
        f"{unit}, nearest neighbour"
    )


def _position_words(facts: Mapping[str, Any]) -> str:
    found = facts["left_out"]
    start = f"position: thin-plate splines through {facts['control_points']} control points"
    if found is None:
        return f"{start}, too few to tell how exactly they place the pixels between them"
    return (
        f"{start}; a point that is left out is off by {_short(found['rms_pixels'])} px "
        f"({_short(found['rms_m'])} m, root mean square of {found['points']} points), at most by "
        f"{_short(found['largest_pixels'])} px ({_short(found['largest_m'])} m)"
    )


def _relief_warning(own: GcpPlace, facts: Mapping[str, Any]) -> list[str]:
    """A warning if the heights of the control points do not tell those of the ground between them.

    In a slant view, ground that is higher than assumed is displaced by about as much.
    """
    found, size = facts["left_out"], pixel_size_of(own)
    if found is None or size is None or found["rms_height_m"] <= max(size):
        return []
    low, high = facts["heights_m"]
    return [
        f"the control points lie at heights from {low:.0f} to {high:.0f} m: in relief they do not "
        "place the pixels between them, which are displaced by about as many metres as their "
        "ground is higher or lower than the points around; for exact positions use a "
        "terrain-corrected product (RTC)"
    ]


def _short(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"
