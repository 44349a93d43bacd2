"""Finds the pixels of one grid in another, whatever CRS and control points the two have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.io.geolocation import Geolocation, transformed
from cwsam_geo.io.knots import STEP, filled_between, knots

Floats = NDArray[np.float64]

TOLERANCE = 1 / 64
"""Pixels by which the interpolation between knots may be wrong, as ``fitting_step`` measures it."""

_SAMPLES = 64
"""Places along each side of a grid at which the interpolation is compared with the truth."""


def nearest_pixels(
    window: Window,
    onto: Geolocation,
    own: Geolocation,
    step: int = STEP,
    part: Window | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The pixels of raster ``own`` in which the pixel centres of a window on ``onto`` lie.

    The transformation is evaluated at knots only, every ``step`` pixels of the grid from its first
    one on. So what a pixel gets does not depend on the window.

    Args:
        step: Pixels between knots.
        part: The window of ``own`` that counts; None for all of it.

    Returns:
        Rows and columns of the pixels that lie in the raster, shape (n,) each, in order; and True
        for them, shape (h, w).
    """
    part = part or own.grid.window
    looked_up = _Knots(window, onto, own, step)
    if looked_up.beside(part):
        none = np.zeros(0, np.int64)
        return none, none, np.zeros((window.height, window.width), np.bool_)
    cols, rows = looked_up.filled()
    inside = (cols >= part.col) & (rows >= part.row) & (cols < part.right) & (rows < part.bottom)
    return rows[inside].astype(np.int64), cols[inside].astype(np.int64), inside


def fitting_step(onto: Geolocation, own: Geolocation) -> tuple[int, float]:
    """How far apart knots may be, so that pixels are found to within ``TOLERANCE``.

    The interpolation is furthest from the truth in the middle between knots, where it is measured
    at thousands of places all over the grid.

    Returns:
        Pixels between knots, a power of two up to ``STEP``; and the largest error that was found,
        in pixels of ``own``.
    """
    step = STEP
    while step > 1:
        error = _error_between(onto, own, step)
        if error <= TOLERANCE:
            return step, error
        step //= 2
    return 1, 0.0  # every pixel centre is a knot


class _Knots:
    """The pixels of raster ``own`` at knots in a window on ``onto``."""

    def __init__(self, window: Window, onto: Geolocation, own: Geolocation, step: int) -> None:
        self._window, self._step = window, step
        self._above, self._left = window.row % step, window.col % step
        cols = knots(window.col - self._left + 0.5, window.width + self._left, step)
        rows = knots(window.row - self._above + 0.5, window.height + self._above, step)
        with np.errstate(invalid="ignore"):
            self._cols, self._rows = _looked_up(*np.meshgrid(cols, rows), onto, own)

    def beside(self, part: Window) -> bool:
        """Whether all pixels lie on one side of a window, outside it."""
        sides = (
            self._cols < part.col,
            self._cols >= part.right,
            self._rows < part.row,
            self._rows >= part.bottom,
        )
        return any(bool(side.all()) for side in sides)

    def filled(self) -> tuple[Floats, Floats]:
        """Columns and rows of all pixels of the window, (h, w) each."""
        rows = self._above + np.arange(float(self._window.height))
        cols = self._left + np.arange(float(self._window.width))
        with np.errstate(invalid="ignore"):
            return (
                filled_between(self._cols, rows, cols, self._step),
                filled_between(self._rows, rows, cols, self._step),
            )


def _error_between(onto: Geolocation, own: Geolocation, step: int) -> float:
    """The largest error between knots, at places that lie in the raster ``own``."""
    cells = (max(1, -(-n // step)) for n in (onto.grid.width, onto.grid.height))
    some = [np.unique(np.linspace(0, n - 1, _SAMPLES).astype(np.int64)) * step for n in cells]
    cols, rows = (np.asarray(v.ravel() + 0.5, np.float64) for v in np.meshgrid(*some))
    middle = np.stack(_looked_up(cols + step / 2, rows + step / 2, onto, own))
    size = np.array([[own.grid.width], [own.grid.height]])
    seen = ((middle >= 0) & (middle <= size)).all(axis=0)
    corners = [
        np.stack(_looked_up(cols[seen] + i, rows[seen] + j, onto, own))
        for i in (0, step)
        for j in (0, step)
    ]
    apart = np.hypot(*(np.mean(corners, axis=0) - middle[:, seen]))
    return float(apart.max(initial=0.0))


def _looked_up(
    cols: Floats, rows: Floats, onto: Geolocation, own: Geolocation
) -> tuple[Floats, Floats]:
    """Pixels of one grid -> its CRS -> the CRS of the other -> its pixels."""
    return own.to_pixels(*transformed(*onto.to_map(cols, rows), onto.crs, own.crs))
