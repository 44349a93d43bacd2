"""What the metadata of a product say about one of its rasters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import Units


class Calibration(Protocol):
    """Turns the digital numbers of one band into backscatter."""

    def apply(self, numbers: NDArray[np.float32], window: Window, intensity: bool) -> None:
        """Converts digital numbers to power in place.

        Args:
            numbers: Digital numbers of a window, shape (H, W).
            window: Position of the pixels in the scene.
            intensity: True if the numbers are squared already, as those of complex products are.
        """


@dataclass(frozen=True, eq=False)
class Gain:
    """Calibration by a factor: power = (DN^2 + offset) * factor.

    Attributes:
        words: What the result is and where the factors are from, for the user.
        factor: Power of a pixel whose digital number is 1: one number, or one for each column of
            the raster, shape (W,).
        offset: Added to the square of a digital number.
    """

    words: str
    factor: float | NDArray[np.float64]
    offset: float = 0.0

    def apply(self, numbers: NDArray[np.float32], window: Window, intensity: bool) -> None:
        """See ``Calibration``."""
        if not intensity:
            np.square(numbers, out=numbers)
        if self.offset:
            numbers += np.float32(self.offset)
        if isinstance(self.factor, float):
            numbers *= np.float32(self.factor)
        else:
            numbers *= self.factor[window.col : window.right].astype(np.float32)


@dataclass(frozen=True)
class BandFacts:
    """What a product says about one band.

    Attributes:
        name: Polarisation, or None where the product does not say.
        other: Name of the quantity that the band holds if it is no backscatter.
        quadrature: Number of the band with the imaginary part, if this band is the real part.
        factor: Factor from stored to true values.
        calibration: Makes the band's calibration for a raster of H x W pixels; None if the product
            gives none.
    """

    name: str | None = None
    other: str | None = None
    quadrature: int | None = None
    factor: float = 1.0
    calibration: Callable[[int, int], Calibration] | None = None


@dataclass(frozen=True)
class Product:
    """What a product says about one of its rasters.

    Attributes:
        title: Name of the product, for messages.
        bands: What it says of a band, by the band's number.
        nodata: Stored value that its documentation defines as nodata wherever it occurs, or None.
        units: Units of the stored values by its documentation, or None.
        lacks: Why it cannot be calibrated, as a clause for messages; empty if it can be, or if
            nothing is known.
        remedy: What to do then.
        files: Paths of the metadata files that the calibration depends on.
    """

    title: str
    bands: Mapping[int, BandFacts] = field(default_factory=dict)
    nodata: float | None = None
    units: Units | None = None
    lacks: str = ""
    remedy: str = ""
    files: tuple[str, ...] = ()

    def calibration(self, index: int) -> Callable[[int, int], Calibration] | None:
        """Makes the calibration of a band, by its number; None if the product gives none."""
        facts = self.bands.get(index)
        return None if facts is None else facts.calibration


class Recogniser(Protocol):
    """Recognises a family of products."""

    def __call__(self, dataset: Any, path: str) -> Product | None:
        """What the product says of an open raster; None if it is none of the family's products.

        Args:
            dataset: An open rasterio dataset.
            path: Its path, URL or GDAL name.

        Raises:
            SceneError: The product's metadata are damaged.
        """
