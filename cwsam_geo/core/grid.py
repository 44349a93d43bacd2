"""Scenes, windows and tiles: integer pixel arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, given by its first row and column; it may reach outside the scene."""

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def empty(self) -> bool:
        """True when the window holds no pixel."""
        return self.height <= 0 or self.width <= 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for an array whose origin is that of the scene."""
        return slice(self.row, self.bottom), slice(self.col, self.right)

    def shift(self, rows: int, cols: int) -> Window:
        """The same rectangle, moved."""
        return replace(self, row=self.row + rows, col=self.col + cols)

    def within(self, outer: Window) -> Window:
        """The same rectangle in the coordinates of ``outer``."""
        return self.shift(-outer.row, -outer.col)

    def intersect(self, other: Window) -> Window:
        """The common part; ``empty`` where there is none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.bottom, other.bottom) - row)
        width = max(0, min(self.right, other.right) - col)
        return Window(row, col, height, width)

    def union(self, other: Window) -> Window:
        """The smallest window that contains both; an empty one is left out."""
        if self.empty or other.empty:
            return other if self.empty else self
        row, col = min(self.row, other.row), min(self.col, other.col)
        bottom, right = max(self.bottom, other.bottom), max(self.right, other.right)
        return Window(row, col, bottom - row, right - col)


@dataclass(frozen=True)
class SceneGrid:
    """Shape, georeferencing and storage of a raster.

    Attributes:
        transform: Affine from pixel to map coordinates; identity if the raster has none.
        count: Number of bands.
        dtype: numpy's name of the stored type.
        nodata: Declared nodata value, or None.
        block_shape: Rows and columns of a storage block.
        gcps: Ground control points, for scenes that have them instead of a transform.
        gcp_crs: CRS of the ground control points.
        rpcs: Rational polynomial coefficients, which optical and some SAR products have.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None
    count: int = 1
    dtype: str = "float32"
    nodata: float | None = None
    block_shape: tuple[int, int] = (256, 256)
    gcps: tuple[GroundControlPoint, ...] = ()
    gcp_crs: CRS | None = None
    rpcs: RPC | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.count < 1:
            raise ValueError(f"empty grid: {self.height} x {self.width} x {self.count}")

    @property
    def window(self) -> Window:
        """The whole scene."""
        return Window(0, 0, self.height, self.width)

    @property
    def georeferenced(self) -> bool:
        """True when pixels have map coordinates, by transform or by control points."""
        return bool(self.gcps) or not self.transform.is_identity

    def crop(self, window: Window) -> SceneGrid:
        """The grid of a window inside the scene; control points and RPCs are shifted to match."""
        gcps = tuple(
            GroundControlPoint(
                row=p.row - window.row, col=p.col - window.col, x=p.x, y=p.y, z=p.z, id=p.id
            )
            for p in self.gcps
        )
        rpcs = self.rpcs and RPC(
            **{
                **self.rpcs.to_dict(),
                "line_off": self.rpcs.line_off - window.row,
                "samp_off": self.rpcs.samp_off - window.col,
            }
        )
        transform = self.transform
        # The identity of a raster without georeferencing stays the identity.
        if (window.row, window.col) != (0, 0) and self.georeferenced and not self.gcps:
            transform = transform * Affine.translation(window.col, window.row)
        return replace(
            self,
            height=window.height,
            width=window.width,
            transform=transform,
            gcps=gcps,
            rpcs=rpcs,
        )


def same_grid(a: SceneGrid, b: SceneGrid, tolerance: float = 0.01) -> bool:
    """True when two grids have the same shape and CRS, and corners within ``tolerance`` pixels.

    If both have ground control points, these must agree within the tolerance too. The tolerance
    is needed because files of one product differ by rounding (1e-18 degrees has been seen).
    """
    if (a.height, a.width) != (b.height, b.width) or not _same_crs(a.crs, b.crs):
        return False
    if a.gcps and b.gcps and not _same_points(a, b, tolerance):
        return False
    if a.transform.is_degenerate or b.transform.is_degenerate:
        return bool(a.transform == b.transform)
    # The corners of b in pixel coordinates of a.
    corners = [(0, 0), (a.width, 0), (0, a.height), (a.width, a.height)]
    to_pixels = ~a.transform
    moved: list[Any] = [to_pixels * (b.transform * corner) for corner in corners]
    return all(
        abs(m[0] - c[0]) <= tolerance and abs(m[1] - c[1]) <= tolerance
        for m, c in zip(moved, corners, strict=True)
    )


def _same_points(a: SceneGrid, b: SceneGrid, tolerance: float) -> bool:
    if len(a.gcps) != len(b.gcps) or not _same_crs(a.gcp_crs, b.gcp_crs):
        return False
    # Size of a pixel in map units, from the two outermost points.
    first, last = a.gcps[0], a.gcps[-1]
    apart = math.dist((first.row, first.col), (last.row, last.col))
    pixel = math.dist((first.x, first.y), (last.x, last.y)) / (apart or 1.0)
    return all(
        max(abs(p.row - q.row), abs(p.col - q.col)) <= tolerance
        and max(abs(p.x - q.x), abs(p.y - q.y)) <= tolerance * pixel
        for p, q in zip(a.gcps, b.gcps, strict=True)
    )


def _same_crs(a: CRS | None, b: CRS | None) -> bool:
    return bool(a == b) if a and b else not a and not b
