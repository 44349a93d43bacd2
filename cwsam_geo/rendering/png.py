"""Pictures as PNG files in memory, written by GDAL."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """A PNG file of a picture, shape (H, W) or (H, W, 1 to 4), uint8."""
    planes = np.atleast_3d(picture)
    height, width, count = planes.shape
    profile: dict[str, Any] = {"driver": "PNG", "dtype": "uint8", "count": count}
    with MemoryFile(ext=".png") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(height=height, width=width, **profile) as target:
            target.write(np.moveaxis(planes, 2, 0))
        return bytes(file.read())
