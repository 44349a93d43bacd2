"""GDAL creation options, tried on a small raster before hours of work depend on them."""

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
from rasterio._err import CPLE_BaseError  # has no public name
from rasterio.errors import RasterioError

from cwsam_geo.atomic import check_room
from cwsam_geo.core.legend import LEGEND_TAG, NODATA, Legend
from cwsam_geo.errors import UsageError

GDAL_FAILURES = (RasterioError, CPLE_BaseError, OSError)
"""Exceptions as which rasterio raises a failure of GDAL."""


def check_creation_options(
    driver: str,
    options: Mapping[str, str],
    legend: Legend | None = None,
) -> None:
    """Checks creation options by writing a 16 x 16 raster with them and reading it again.

    GDAL ignores unknown options with a warning only. It also accepts options that change class
    codes (lossy compression, fewer bits) or that move a part of the raster to a sidecar file.

    Args:
        driver: ``GTiff`` or ``COG``.
        options: The user's creation options, such as ``{"COMPRESS": "LZW"}``.
        legend: Classes of the rasters that will be written, or None.

    Raises:
        UsageError: GDAL rejects an option or its value, or the small raster changed.
        OutputError: The disk of temporary files is full.
    """
    if not options:
        return
    with tempfile.TemporaryDirectory() as folder, _gdal_says() as warnings:
        plain, trial = Path(folder, "plain.tif"), Path(folder, "trial.tif")
        check_room(trial)
        try:
            _write_trial(plain, legend)
            rasterio.shutil.copy(plain, trial, driver=driver, **options)
            problem = _difference(plain, trial)
        except GDAL_FAILURES as error:
            problem = str(error)
        # GDAL reports an unknown option by a warning only.
        problem = warnings[0] if warnings else problem
    if problem:
        listed = " ".join(f"{k}={v}" for k, v in options.items())
        reason = " ".join(problem.split()).removeprefix("CPLE_NotSupported in ")
        raise UsageError(f"--co {listed}: {reason}")


def _write_trial(path: Path, legend: Legend | None) -> None:
    profile: dict[str, Any] = {
        "height": 16, "width": 16, "count": 1, "dtype": "uint8", "nodata": NODATA,
        "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 6e6),
    }  # fmt: skip
    # All 256 values in a shuffled order: lossy compression cannot keep them.
    values = (np.arange(256) * 101 % 256).astype(np.uint8).reshape(1, 16, 16)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values)
        # Some options move tags and palettes to a sidecar file.
        file.update_tags(**{LEGEND_TAG: "[]"})
        if legend is not None:
            file.write_colormap(1, legend.colormap)


def _difference(plain: Path, trial: Path) -> str | None:
    """How the options changed a raster, in words for the user; None if it is unchanged."""
    with rasterio.open(plain) as a, rasterio.open(trial) as b:
        if (a.shape, a.transform, a.crs) != (b.shape, b.transform, b.crs):
            return "would move the raster to another grid; warp the finished raster instead"
        if a.nodata != b.nodata or (a.read() != b.read()).any():
            return "would change the values of the raster; choose lossless options"
    sidecars = sorted(p.name for p in trial.parent.glob("trial.*") if p != trial)
    if sidecars:
        pattern = f"*{sidecars[0].removeprefix('trial')}"
        return f"would put part of the result in a file beside the raster ({pattern}); leave it out"
    return None


@contextlib.contextmanager
def _gdal_says() -> Iterator[list[str]]:
    """Collects GDAL's warnings, which rasterio passes on to its log."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("rasterio")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
