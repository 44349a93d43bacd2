"""Where a raster lies: georeferencing in plain values."""

from __future__ import annotations

import math
from typing import Any

from cwsam_geo.core.grid import SceneGrid


def place_of(grid: SceneGrid) -> dict[str, Any]:
    """Georeferencing of a grid, as plain values for JSON.

    ``pixel_size`` is (x, y) in units of the CRS, ``rotation`` in degrees. Both are None, like
    ``transform``, for grids that are placed by control points or not at all.
    """
    t = grid.transform
    has_transform = grid.georeferenced and not grid.gcps
    return {
        "crs": _crs_name(grid.crs),
        "transform": list(t)[:6] if has_transform else None,
        "pixel_size": [math.hypot(t.a, t.d), math.hypot(t.b, t.e)] if has_transform else None,
        "rotation": math.degrees(math.atan2(t.d, t.a)) if has_transform else None,
        "gcps": len(grid.gcps),
        "gcp_crs": _crs_name(grid.gcp_crs),
    }


def _crs_name(crs: Any) -> str | None:
    if not crs:
        return None
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())
