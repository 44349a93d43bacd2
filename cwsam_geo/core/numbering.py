"""Numbers the different values of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW = 1 << 16
"""Values that span less than this are numbered by a table; sorting takes ten times as long."""


def numbered(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different values, ascending, and the number of each value among them.

    The result is that of ``numpy.unique`` with ``return_inverse``.

    Args:
        values: Integers, shape (N,).

    Returns:
        The different values, shape (K,), and indices of them, shape (N,).
    """
    if not values.size:
        return values[:0], np.zeros(0, np.int64)
    least = int(values.min())
    if int(values.max()) - least >= _FEW:
        different, places = np.unique(values, return_inverse=True)
        return different, places.reshape(-1).astype(np.int64)
    shifted = values.astype(np.int64) - least
    counts = np.bincount(shifted)
    occurring = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.int64)
    table[occurring] = np.arange(len(occurring))
    return (occurring + least).astype(values.dtype), table[shifted]
