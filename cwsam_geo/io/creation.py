"""Creation options, tried out before hours of work depend on them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what GDAL's own failures arrive as
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cwsam_geo.errors import UsageError

GDAL_FAILURES = (RasterioError, CPLE_BaseError, OSError)
"""What a failure of GDAL arrives as."""


def check_creation_options(driver: str, options: Mapping[str, str]) -> None:
    """Makes a small raster in memory: GDAL warns of what it does not know, and goes on without.

    Args:
        driver: ``GTiff`` or ``COG``.
        options: What the user gave, such as ``{"COMPRESS": "LZW"}``.

    Raises:
        UsageError: GDAL does not know an option or its value.
    """
    if not options:
        return
    folder = f"/vsimem/{secrets.token_hex(8)}"
    profile: dict[str, Any] = {"height": 16, "width": 16, "count": 1, "dtype": "uint8"}
    with warnings.catch_warnings(), _gdal_says() as said:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.MemoryFile() as memory:
                with memory.open(driver="GTiff", **profile) as small:
                    small.write(np.zeros((1, 16, 16), np.uint8))
                rasterio.shutil.copy(memory.name, f"{folder}.tif", driver=driver, **options)
        except GDAL_FAILURES as error:
            said.append(str(error))
        finally:
            with contextlib.suppress(*GDAL_FAILURES):
                rasterio.shutil.delete(f"{folder}.tif")
    if said:
        given = " ".join(f"{k}={v}" for k, v in options.items())
        reason = " ".join(said[0].split()).removeprefix("CPLE_NotSupported in ")
        raise UsageError(f"--co {given}: {reason}")


@contextlib.contextmanager
def _gdal_says() -> Iterator[list[str]]:
    """Collects GDAL's warnings, which rasterio passes on to its log."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("rasterio")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
