"""Reads the grid of an open raster, and checks that several rasters share one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cwsam_geo.errors import SceneError
from cwsam_geo.grid import SceneGrid, same_grid
from cwsam_geo.io.opening import shown


def check_grids(datasets: Sequence[Any], files: Sequence[str]) -> None:
    """Checks that open datasets, and the ``files`` they come from, share one grid.

    Raises:
        SceneError: A file differs from the first in shape, CRS or position. The message names
            the difference.
    """
    first = grid_of(datasets[0])
    for dataset, path in zip(datasets[1:], files[1:], strict=True):
        other = grid_of(dataset)
        if not same_grid(first, other):
            raise SceneError(
                f"{shown(path)} is not on the grid of {shown(files[0])} "
                f"({_difference(first, other)}); bring the bands onto one grid first (gdalwarp)"
            )


def _difference(a: SceneGrid, b: SceneGrid) -> str:
    if (a.height, a.width) != (b.height, b.width):
        return f"{b.height} x {b.width} px against {a.height} x {a.width}"
    if (a.crs and a.crs.to_wkt()) != (b.crs and b.crs.to_wkt()) and a.crs != b.crs:
        names = [g.crs.to_string() if g.crs else "no CRS" for g in (b, a)]
        return f"{names[0][:60]} against {names[1][:60]}"
    if a.transform.is_degenerate or b.transform.is_degenerate:
        return "their transforms differ"
    if a.transform == b.transform:
        return "their control points differ"
    to_pixels = ~a.transform
    corners = [(0, 0), (a.width, 0), (0, a.height), (a.width, a.height)]
    shifts = [
        max(abs(x - c[0]), abs(y - c[1]))
        for c in corners
        for x, y in [to_pixels * (b.transform * c)]
    ]
    return f"shifted by up to {max(shifts):.4g} px"


def grid_of(dataset: Any) -> SceneGrid:
    """Shape, georeferencing and storage of an open rasterio dataset."""
    gcps, gcp_crs = dataset.gcps
    if not dataset.transform.is_identity:
        # A file may have both. GDAL then uses the geotransform and ignores the control points.
        gcps, gcp_crs = (), None
    return SceneGrid(
        height=dataset.height,
        width=dataset.width,
        transform=dataset.transform,
        crs=dataset.crs,
        count=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=dataset.nodata,
        block_shape=tuple(dataset.block_shapes[0]),
        gcps=tuple(gcps),
        gcp_crs=gcp_crs,
        rpcs=dataset.rpcs,
    )


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
