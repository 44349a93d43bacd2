"""Evaluates a costly, smooth function of pixels at some of them, and interpolates in between.

Thin-plate splines take time for every point. GDAL's approximate transformer does the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP = 16
"""Pixels between knots. A control point of Sentinel-1 stands for hundreds of pixels."""


def knots(start: float, length: int, step: int = STEP) -> Floats:
    """Pixel coordinates of knots along one axis that cover ``length`` pixels from ``start``."""
    return np.asarray(start + np.arange(0.0, length + step, step), np.float64)


def between_knots(values: Floats, rows: Floats, cols: Floats) -> Floats:
    """Interpolates bilinearly between knots that are ``STEP`` pixels apart.

    Args:
        values: Values at the knots, shape (n, m), both at least 2.
        rows: Pixels below the first knot.
        cols: Pixels right of the first knot. Rows and columns are broadcast against each other.
    """
    i = np.minimum((rows // STEP).astype(np.int64), values.shape[0] - 2)
    j = np.minimum((cols // STEP).astype(np.int64), values.shape[1] - 2)
    down, along = rows / STEP - i, cols / STEP - j
    upper = values[i, j] * (1 - along) + values[i, j + 1] * along
    lower = values[i + 1, j] * (1 - along) + values[i + 1, j + 1] * along
    return np.asarray(upper * (1 - down) + lower * down)


def filled_between(values: Floats, rows: Floats, cols: Floats, step: int = STEP) -> Floats:
    """The same for every pair of a row and a column, shape (h, w), which is faster.

    Args:
        values: Values at the knots, shape (n, m), both at least 2.
        rows: Pixels below the first knot, shape (h,).
        cols: Pixels right of the first knot, shape (w,).
        step: Pixels between knots.
    """
    i = np.minimum((rows // step).astype(np.int64), values.shape[0] - 2)
    j = np.minimum((cols // step).astype(np.int64), values.shape[1] - 2)
    down, along = (rows / step - i)[:, np.newaxis], cols / step - j
    lines = values[i] * (1 - down) + values[i + 1] * down  # (h, m)
    filled = lines[:, j] * (1 - along)
    filled += lines[:, j + 1] * along
    return np.asarray(filled)
