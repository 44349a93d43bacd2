"""Creation options, tried out before hours of work depend on them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError  # what GDAL's own failures arrive as
from rasterio.errors import RasterioError

from cwsam_geo.errors import UsageError
from cwsam_geo.io.atomic import check_room
from cwsam_geo.legend import NODATA

GDAL_FAILURES = (RasterioError, CPLE_BaseError, OSError)
"""What a failure of GDAL arrives as."""


def check_creation_options(
    driver: str,
    options: Mapping[str, str],
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None,
) -> None:
    """Makes a small raster and reads it again.

    GDAL warns of what it does not know, and goes on without; and it obeys options that change
    classes (lossy compression, few bits) or put what belongs into the raster in a file beside it.

    Args:
        driver: ``GTiff`` or ``COG``.
        options: What the user gave, such as ``{"COMPRESS": "LZW"}``.
        colormap: Palette of the rasters that will be written, or None.

    Raises:
        UsageError: GDAL does not know an option or its value, or the raster would not hold what
            was written.
        OutputError: The disk of temporary files is full.
    """
    if not options:
        return
    with tempfile.TemporaryDirectory() as folder, _gdal_says() as said:
        plain, trial = Path(folder, "plain.tif"), Path(folder, "trial.tif")
        check_room(trial)
        try:
            _write_trial(plain, colormap)
            rasterio.shutil.copy(plain, trial, driver=driver, **options)
            problem = _difference(plain, trial)
        except GDAL_FAILURES as error:
            problem = str(error)
        problem = said[0] if said else problem
    if problem:
        given = " ".join(f"{k}={v}" for k, v in options.items())
        reason = " ".join(problem.split()).removeprefix("CPLE_NotSupported in ")
        raise UsageError(f"--co {given}: {reason}")


def _write_trial(path: Path, colormap: Mapping[int, tuple[int, int, int, int]] | None) -> None:
    profile: dict[str, Any] = {
        "height": 16, "width": 16, "count": 1, "dtype": "uint8", "nodata": NODATA,
        "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 6e6),
    }  # fmt: skip
    # Every value, side by side with others: lossy compression cannot keep them.
    values = (np.arange(256) * 101 % 256).astype(np.uint8).reshape(1, 16, 16)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values)
        file.update_tags(LEGEND="[]")
        if colormap is not None:
            file.write_colormap(1, dict(colormap))


def _difference(plain: Path, trial: Path) -> str | None:
    """What the options did to a raster, in words for the user; None if it is the same."""
    with rasterio.open(plain) as a, rasterio.open(trial) as b:
        if (a.shape, a.transform, a.crs) != (b.shape, b.transform, b.crs):
            return "would move the raster to another grid; warp the finished raster instead"
        if a.nodata != b.nodata or (a.read() != b.read()).any():
            return "would change the values of the raster; choose lossless options"
    beside = sorted(p.name for p in trial.parent.glob("trial.*") if p != trial)
    if beside:
        what = f"*{beside[0].removeprefix('trial')}"
        return f"would put part of the result in a file beside the raster ({what}); leave it out"
    return None


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
