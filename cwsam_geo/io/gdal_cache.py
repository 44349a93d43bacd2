"""The size of GDAL's block cache.

The whole process has one cache, but ``rasterio.Env`` treats its limit like the options of a thread:
if two threads leave their environments in another order than they entered them, the limit of one
stays behind. So only this module sets it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from rasterio.env import get_gdal_config, set_gdal_config

_NAME = "GDAL_CACHEMAX"

_lock = threading.Lock()

_limits: list[int] = []
"""Limits that are in force in some thread, in the order in which they were set."""

_before: list[int] = []
"""The limit from before the first of them, if there is one."""


@contextlib.contextmanager
def block_cache(size: int) -> Iterator[None]:
    """Limits GDAL's block cache to ``size`` bytes, unless the user has set ``GDAL_CACHEMAX``.

    If several limits are in force, in this thread or others, the last one counts. After all have
    ended, the limit is the one from before.
    """
    if _NAME in os.environ:
        yield
        return
    with _lock:
        if not _limits:
            _before[:] = [int(get_gdal_config(_NAME))]
        _limits.append(size)
        _set(size)
    try:
        yield
    finally:
        with _lock:
            # The last one of this size: they are all alike.
            del _limits[len(_limits) - 1 - _limits[::-1].index(size)]
            _set(_limits[-1] if _limits else _before[0])


def _set(size: int) -> None:
    if int(get_gdal_config(_NAME)) != size:
        set_gdal_config(_NAME, size)
