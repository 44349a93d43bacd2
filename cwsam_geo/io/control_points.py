"""Thin-plate splines through ground control points, from pixels to the ground and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import GCPTransformer

Floats = NDArray[np.float64]

_CLOSE = 1e-4
"""Pixels: a place whose pixel is this close to another one is the place of the other."""

_MOST_STEPS = 20
"""Steps towards the place of a pixel, at most. Newer versions of GDAL need none."""

_MOST_LEFT_OUT = 2000
"""Points at most, of which each is left out in turn: it takes one inverse of such a matrix."""

_FEWEST = 6
"""Points at least, of which one can be left out: three fix a plane."""


@dataclass(frozen=True)
class LeftOut:
    """How far control points lie from where the others put them, each left out in turn.

    Attributes:
        points: Number of points that were left out. Points on the border of their rectangle are
            not counted where there are others: splines do not reach beyond their points.
        rms_pixels: Root mean square of the distances, in pixels.
        largest_pixels: The largest distance, in pixels.
        rms: The same in units of the plane, metres for points in degrees.
        largest: See ``rms``.
        rms_height: Root mean square of the differences in height, in metres.
    """

    points: int
    rms_pixels: float
    largest_pixels: float
    rms: float
    largest: float
    rms_height: float


class ControlPoints:
    """Places pixels by thin-plate splines through ground control points, as ``gdalwarp -tps`` does.

    Points in degrees are first projected to a plane around their middle. So nothing is torn at 180
    degrees, nothing degenerates at a pole, and a metre counts the same in all directions: points of
    Sentinel-1 at sea that are left out then lie two to three times nearer to where the others put
    them. The splines lead from the plane to pixels. The way back is their inverse, rather than
    other splines through the same points: a pixel has one place, and the pixel of this place is the
    same one.

    Args:
        gcps: The points.
        crs: CRS of the points.

    Attributes:
        pixels: Columns and rows of the points, shape (n, 2).
        heights: Heights of the points in metres, shape (n,); those without one have 0.
    """

    def __init__(self, gcps: Sequence[GroundControlPoint], crs: CRS | None) -> None:
        self.pixels = np.array([(p.col, p.row) for p in gcps], np.float64)
        self.heights = np.array([p.z or 0.0 for p in gcps], np.float64)
        x, y = np.array([(p.x, p.y) for p in gcps], np.float64).T
        self._plane = _Plane(x, y) if crs and crs.is_geographic else None
        # Points that have no place in the plane are taken as they are.
        if self._plane is not None and not np.isfinite(self._plane.ground).all():
            self._plane = None
        self._ground = np.column_stack([x, y]) if self._plane is None else self._plane.ground
        placed = zip(self.pixels.tolist(), self._ground.tolist(), strict=True)
        self._splines = GCPTransformer(
            [GroundControlPoint(row=row, col=col, x=x, y=y) for (col, row), (x, y) in placed],
            tps=True,
        )
        self._slope = _slope(self.pixels, self._ground)

    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates of pixel coordinates of any shape.

        Longitudes are within 180 degrees of those of the points, so that they do not jump.
        """
        if not cols.size:
            return np.zeros(cols.shape), np.zeros(cols.shape)
        pixels = np.column_stack([cols.ravel(), rows.ravel()])
        x, y = self._splines.xy(pixels[:, 1], pixels[:, 0], offset="ul")
        ground = np.column_stack([x, y]).astype(np.float64)
        if self._slope is not None:
            ground = self._refined(ground, pixels, self._slope)
        x, y = ground.T if self._plane is None else self._plane.to_degrees(ground)
        return x.reshape(cols.shape), y.reshape(cols.shape)

    def to_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of coordinates of any shape."""
        if not x.size:
            return np.zeros(x.shape), np.zeros(x.shape)
        given = x.ravel(), y.ravel()
        ground = np.column_stack(given) if self._plane is None else self._plane.to_plane(*given)
        pixels = self._to_pixels(ground)
        return pixels[:, 0].reshape(x.shape), pixels[:, 1].reshape(x.shape)

    def _to_pixels(self, ground: Floats) -> Floats:
        rows, cols = self._splines.rowcol(ground[:, 0], ground[:, 1], op=_unrounded)
        return np.column_stack([cols, rows]).astype(np.float64)

    def _refined(self, guess: Floats, pixels: Floats, slope: Floats) -> Floats:
        """Places of pixels, (n, 2), from places near them.

        The splines differ little from an affine map, whose slope says how far to go. A pixel to
        which the steps do not lead, because relief folds the ground there, keeps its guess.
        """
        ground = guess.copy()
        going = np.arange(len(ground))
        for _ in range(_MOST_STEPS):
            step = pixels[going] - self._to_pixels(ground[going])
            # The comparison is written so that NaN goes on, and ends as a pixel that was not found.
            far = ~(np.abs(step).max(axis=1) <= _CLOSE)
            going = going[far]
            if not len(going):
                return ground
            ground[going] += step[far] @ slope
        ground[going] = guess[going]
        return ground

    def left_out(self) -> LeftOut | None:
        """Leaves out each point in turn, and compares it with the splines through the others.

        Returns:
            None where the points are too few, or lie on a line.
        """
        some = slice(None, None, -(-len(self.pixels) // _MOST_LEFT_OUT))
        pixels, ground = self.pixels[some], self._ground[some]
        if self._slope is None or len(pixels) < _FEWEST:
            return None
        apart = leave_one_out(ground, np.column_stack([pixels, self.heights[some]]))
        if apart is None:
            return None
        inner = ((pixels > pixels.min(0)) & (pixels < pixels.max(0))).all(axis=1)
        apart = apart[inner] if inner.any() else apart
        moved = apart[:, :2]
        in_pixels, on_ground = (np.hypot(*v.T) for v in (moved, moved @ self._slope))
        return LeftOut(
            len(apart),
            float(np.sqrt((in_pixels**2).mean())),
            float(in_pixels.max()),
            float(np.sqrt((on_ground**2).mean())),
            float(on_ground.max()),
            float(np.sqrt((apart[:, 2] ** 2).mean())),
        )


class _Plane:
    """An equal-area plane around the middle of some points in degrees."""

    def __init__(self, lon: Floats, lat: Floats) -> None:
        # The mean of directions, which exists at 180 degrees and at a pole, too.
        across, along = np.radians(lat), np.radians(lon)
        middle = np.array(
            [np.cos(across) * np.cos(along), np.cos(across) * np.sin(along), np.sin(across)]
        ).mean(axis=1)
        self._proj = pyproj.Proj(
            proj="laea",
            lat_0=float(np.degrees(np.arctan2(middle[2], np.hypot(middle[0], middle[1])))),
            lon_0=float(np.degrees(np.arctan2(middle[1], middle[0]))),
            ellps="WGS84",
        )
        self._middle = float(np.median(lon))
        self.ground = self.to_plane(lon, lat)

    def to_plane(self, lon: Floats, lat: Floats) -> Floats:
        return np.column_stack(self._proj(lon, lat)).astype(np.float64)

    def to_degrees(self, ground: Floats) -> tuple[Floats, Floats]:
        lon, lat = (np.asarray(v) for v in self._proj(ground[:, 0], ground[:, 1], inverse=True))
        return lon + 360 * np.round((self._middle - lon) / 360), lat


def leave_one_out(places: Floats, values: Floats) -> Floats | None:
    """Differences between values and thin-plate splines through all others, each left out in turn.

    All differences follow from the inverse of one matrix (Rippa 1999, doi:10.1023/A:1018975909870).

    Args:
        places: Where the values are, shape (n, 2).
        values: Shape (n, k).

    Returns:
        Shape (n, k); None if the places lie on a line, or two coincide.
    """
    n = len(places)
    scaled = (places - places.mean(0)) / np.ptp(places, axis=0).max()
    squares = ((scaled[:, np.newaxis] - scaled) ** 2).sum(axis=2)
    matrix = np.zeros((n + 3, n + 3))
    # r^2 log r^2, which is 0 for r = 0
    matrix[:n, :n] = squares * np.log(np.where(squares > 0, squares, 1.0))
    matrix[:n, n:] = np.column_stack([np.ones(n), scaled])
    matrix[n:, :n] = matrix[:n, n:].T
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    apart = inverse[:n, :n] @ (values - values.mean(0)) / np.diag(inverse)[:n, np.newaxis]
    return np.asarray(apart) if np.isfinite(apart).all() else None


def _slope(pixels: Floats, ground: Floats) -> Floats | None:
    """Units on the ground per pixel, (2, 2), of the affine map that is next to the points.

    None for points on a line.
    """
    terms = np.column_stack([np.ones(len(pixels)), pixels - pixels.mean(0)])
    solution, _, rank, _ = np.linalg.lstsq(terms, ground - ground.mean(0), rcond=None)
    slope = solution[1:]
    if rank < 3 or not abs(np.linalg.det(slope)) > 1e-6 * np.square(slope).sum():
        return None
    return np.asarray(slope)


def _unrounded(value: Any) -> Any:
    """Stands in for the function with which ``rowcol`` would round."""
    return value
