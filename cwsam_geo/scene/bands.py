"""The bands of one open raster: names, nodata and masks, and their values as float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RioWindow

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import TINY_POWER
from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import display_name, rio_window
from cwsam_geo.scene.band_names import (
    band_names,
    data_bands,
    file_name,
    opaque_bands,
    other_quantity,
)
from cwsam_geo.scene.edge import EdgeArea
from cwsam_geo.scene.products.product import Product
from cwsam_geo.scene.quantities import file_beside

Nodata = float | Literal["none"] | None
"""A nodata value; None for the one the file declares; ``"none"`` if only NaN is nodata."""

_LARGEST = np.float32(1e37)
"""Scaled values of at least this size are nodata.

Many files mark missing pixels by the lowest or highest float32 (3.4e38) without declaring it. No
measurement comes near.
"""

_LONGEST_HINT = 200
"""Characters. Longer tags are whole documents (XML, a processing history), not names of units."""


@dataclass(frozen=True)
class Band:
    """One selected band of a dataset.

    Attributes:
        index: Number in the file, from 1.
        name: Polarisation (``VV``, ``VH``, ``HH``, ``HV``), or None where unknown.
        nodata: Stored value that is treated as nodata; None where there is none, or where it is
            not finite (NaN and infinity are nodata in any case).
        declared: Nodata value that the file declares, which may be NaN; None where it declares
            none.
        scale: Factor from stored to true values.
        offset: Added to the stored value times ``scale``.
        masked: True where GDAL's mask (internal or external) marks pixels without data.
        other: Name of the quantity that the band holds if it is no backscatter, such as ``angle``;
            None for all other bands.
        quadrature: Number of the band with the imaginary part, whose real part this band is; None
            for all other bands.
    """

    index: int
    name: str | None
    nodata: float | None
    declared: float | None
    scale: float
    offset: float
    masked: bool
    other: str | None = None
    quadrature: int | None = None


def alpha_bands(dataset: Any, indexes: Sequence[int], nodata: Nodata) -> tuple[int, ...]:
    """Numbers of the alpha bands that mark where the selected bands hold data.

    GDAL derives a mask from an alpha band only if it has 8 or 16 bits and stands beside one or
    three other bands, so this package evaluates alpha bands itself. If the user selects an alpha
    band, it is read as data and masks nothing.

    Args:
        dataset: An open rasterio dataset.
        indexes: Numbers of the selected bands, from 1.
        nodata: The user's nodata option; ``"none"`` ignores alpha bands.
    """
    alpha = set(dataset.indexes) - set(opaque_bands(dataset))
    return () if nodata == "none" or alpha & set(indexes) else tuple(sorted(alpha))


def candidate_bands(dataset: Any, product: Product | None) -> list[int]:
    """Numbers of the bands that a scene may consist of, as far as names and product tell."""
    bands = data_bands(dataset)
    facts = {} if product is None else product.bands
    aside = {f.quadrature for f in facts.values()} | {i for i, f in facts.items() if f.other}
    return [i for i in bands if i not in aside] or bands


def check_pictures(dataset: Any, product: Product | None, path: str, several: bool) -> None:
    """Checks that a file can be a scene or, if the scene has ``several`` files, one of its bands.

    Raises:
        SceneError: The file has several bands although the scene has several files, or it has a
            colour table.
    """
    bands = candidate_bands(dataset, product)
    if several and len(bands) != 1:
        raise SceneError(
            f"{display_name(path)}: has {len(bands)} bands; give one file with several bands, "
            "or several files with one band each"
        )
    if any(dataset.colorinterp[i - 1] == ColorInterp.palette for i in bands):
        raise SceneError(
            f"{display_name(path)}: holds a colour table (a class map or a picture), not SAR "
            "values; give the scene itself, or expand it with `gdal_translate -expand gray`"
        )


def describe_bands(
    dataset: Any, path: str, indexes: Sequence[int], nodata: Nodata
) -> tuple[Band, ...]:
    """Names, nodata, scaling and masks of the selected bands.

    Args:
        dataset: An open rasterio dataset.
        path: Path of the dataset; polarisations may be taken from the file name.
        indexes: Numbers of the selected bands, from 1.
        nodata: The user's nodata option, which overrides the declared nodata.
    """
    names = band_names(dataset, path)
    beside = file_beside(PurePosixPath(file_name(path)).stem) if dataset.count == 1 else None
    return tuple(
        Band(
            index=i,
            name=names[i - 1],
            nodata=_stored_nodata(dataset.nodatavals[i - 1], nodata),
            declared=dataset.nodatavals[i - 1],
            scale=float(dataset.scales[i - 1]),
            offset=float(dataset.offsets[i - 1]),
            masked=nodata != "none" and _has_mask(dataset.mask_flag_enums[i - 1]),
            other=other_quantity(dataset, i) or (None if names[i - 1] else beside),
        )
        for i in indexes
    )


@dataclass(frozen=True)
class ZeroPower:
    """How pixels are read that have power 0 in every band.

    A 0 in one band alone is data: noise removal makes calm water 0 in cross polarisation. A 0 in
    every band is usually fill. In decibels, power 0 is -inf, and the same rule applies to it.

    Attributes:
        values: Stored values (before scale and offset) that stand for power 0: 0, -inf, or both as
            long as the units are not decided. If 0 is listed, a nodata value of 0 counts only where
            every band is 0. If -inf is not listed, a pixel is nodata where any band is -inf.
        nodata: True if pixels that hold such a value in every band are nodata, False if they are
            data. With an ``EdgeArea``, only those in the area are nodata: the border of the swath,
            but not water inside it.
        border: Border of the swath in a product that holds noise there instead of 0. Its pixels
            are nodata, whatever they hold. None in other scenes.
    """

    values: tuple[float, ...] = (-math.inf,)
    nodata: bool | EdgeArea = True
    border: EdgeArea | None = None

    def fill(self, pixels: Pixels, window: Window) -> NDArray[np.bool_]:
        """True where a pixel of a window is nodata because it has no echo, shape (H, W)."""
        if self.nodata is False or not pixels.no_power.any():
            silent = np.zeros_like(pixels.no_power)
        elif self.nodata is True:
            silent = pixels.no_power
        else:
            silent = pixels.no_power & self.nodata.of(window)
        return silent if self.border is None else silent | self.border.of(window)

    def noise(self, pixels: Pixels, window: Window) -> NDArray[np.bool_]:
        """True where a pixel of a window is noise of the border, not 0, shape (H, W)."""
        if self.border is None:
            return np.zeros_like(pixels.no_power)
        return self.border.of(window) & ~pixels.no_power

    @property
    def zero_is_nodata(self) -> bool:
        """True if pixels that are 0 (not -inf) in every band are nodata, at least at the edge."""
        return self.nodata is not False and 0.0 in self.values


AS_DECLARED = ZeroPower()
"""Rule before anything is decided: a declared nodata value, even 0, applies to each band."""

UNDECIDED = ZeroPower((0.0, -math.inf))
"""Rule while the units are unknown: both 0 and -inf stand for power 0."""


NO_POWER_DB = 10 * math.log10(TINY_POWER)
"""Value in dB that is read for -inf, the logarithm of power 0."""


@dataclass(frozen=True)
class Pixels:
    """The pixels of a window of N bands.

    Attributes:
        values: Shape (N, H, W), float32; arbitrary where a band has no data.
        data: Where each band has data, shape (N, H, W), bool.
        no_power: Where every band holds a value that stands for power 0, shape (H, W), bool.
        infinite: Where -inf was read as ``NO_POWER_DB``, shape (N, H, W), bool; None if nowhere.
    """

    values: NDArray[np.float32]
    data: NDArray[np.bool_]
    no_power: NDArray[np.bool_]
    infinite: NDArray[np.bool_] | None = None

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where every band has data, shape (H, W), bool; a new array."""
        valid: NDArray[np.bool_] = np.logical_and.reduce(self.data, axis=0)
        return valid

    @classmethod
    def joined(cls, parts: Sequence[Pixels]) -> Pixels:
        """All bands of several files."""
        if len(parts) == 1:
            return parts[0]  # no copy
        infinite = None
        if any(p.infinite is not None for p in parts):
            infinite = np.concatenate(
                [np.zeros(p.data.shape, bool) if p.infinite is None else p.infinite for p in parts]
            )
        return cls(
            np.concatenate([p.values for p in parts]),
            np.concatenate([p.data for p in parts]),
            np.all([p.no_power for p in parts], axis=0),
            infinite,
        )


def read_bands(
    dataset: Any, bands: Sequence[Band], alpha: Sequence[int], window: Window, zero: ZeroPower
) -> Pixels:
    """Reads bands of a dataset, scaled; complex values become intensity.

    Args:
        dataset: An open rasterio dataset.
        bands: Bands to read, all stored as one type.
        alpha: Numbers of the alpha bands; a pixel has no data where any of them is 0.
        window: A window inside the raster.
        zero: Values of power 0. Pixels of power 0 count as data here, because the bands of the
            other files decide, too, whether they are nodata.
    """
    rect = rio_window(window)
    stored, opacities = _stored(dataset, bands, alpha, rect)
    data = np.ones(stored.shape, bool)  # (N, H, W)
    for band, plane, has_data in zip(bands, stored, data, strict=True):
        if band.nodata is not None and not (band.nodata == 0 and 0.0 in zero.values):
            has_data &= _differs(plane, band.nodata)
    # Look for zeros among the stored values, because an offset would move them.
    no_power = np.zeros(stored.shape[1:], bool)  # (H, W)
    if 0.0 in zero.values:
        no_power |= (stored == 0).all(axis=0)
    infinite: NDArray[np.bool_] | None = None
    if -math.inf in zero.values and stored.dtype.kind == "f":
        infinite = np.equal(stored, -np.inf)
        no_power |= infinite.all(axis=0)
        infinite = infinite if infinite.any() else None
    values = _measured(stored, bands)
    # Integers that are not scaled cannot be NaN, infinite or that large.
    if stored.dtype.kind not in "iub" or any((b.scale, b.offset) != (1.0, 0.0) for b in bands):
        if infinite is not None:
            np.copyto(values, np.float32(NO_POWER_DB), where=infinite)
        for plane, has_data in zip(values, data, strict=True):
            has_data &= np.abs(plane) < _LARGEST
    for opacity in opacities:
        data &= opacity.real > 0
    masks = [b.index for b in bands if b.masked]
    if masks:
        data &= (dataset.read_masks(masks, window=rect) > 0).all(axis=0)
    return Pixels(values, data, no_power, infinite)


def hints(dataset: Any, path: str, bands: Sequence[Band]) -> list[str]:
    """Texts that may name the units: file name, band units, descriptions and tags."""
    texts = [f"file name: {file_name(path)}"]
    for band in bands:
        place = f"band {band.index}"
        texts.append(f"{place} unit: {dataset.units[band.index - 1] or ''}")
        texts.append(f"{place} description: {dataset.descriptions[band.index - 1] or ''}")
        texts += [f"{place} tag {k}: {v}" for k, v in dataset.tags(band.index).items()]
    texts += [f"tag {k}: {v}" for k, v in dataset.tags().items()]
    # A text that ends with ": " has no value.
    return [t for t in texts if not t.endswith(": ") and len(t) <= _LONGEST_HINT]


def _stored_nodata(declared: float | None, option: Nodata) -> float | None:
    if option == "none":
        return None
    value = declared if option is None else option
    # NaN and the infinities are nodata in any case.
    return None if value is None or not np.isfinite(value) else float(value)


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    if MaskFlags.alpha in flags:
        return False  # read_bands evaluates alpha bands itself
    # No flag at all means that the band has a mask of its own.
    return MaskFlags.per_dataset in flags or not flags


def _stored(
    dataset: Any, bands: Sequence[Band], alpha: Sequence[int], rect: RioWindow
) -> tuple[NDArray[Any], Sequence[NDArray[Any]]]:
    """Bands (N, H, W) and alpha bands, each (H, W), as stored."""
    indexes = [band.index for band in bands]
    imaginary = [band.quadrature for band in bands if band.quadrature is not None]
    if imaginary:
        stored: NDArray[Any] = dataset.read(indexes, window=rect).astype(np.complex64)
        places = [n for n, band in enumerate(bands) if band.quadrature is not None]
        stored.imag[places] = dataset.read(imaginary, window=rect)
        return stored, [dataset.read(i, window=rect) for i in alpha]
    numbers = [*indexes, *alpha]
    # A single read decodes pixel-interleaved blocks once, but gives one type for all bands.
    if len({dataset.dtypes[i - 1] for i in numbers}) == 1:
        planes: NDArray[Any] = dataset.read(numbers, window=rect)
        return planes[: len(indexes)], list(planes[len(indexes) :])
    return dataset.read(indexes, window=rect), [dataset.read(i, window=rect) for i in alpha]


def _differs(plane: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    # The nodata tag may have more digits than a float32 pixel can hold.
    with np.errstate(over="ignore"):
        value = np.float32(nodata) if plane.dtype == np.float32 else nodata
    different: NDArray[np.bool_] = plane != value
    return different


def _measured(stored: NDArray[Any], bands: Sequence[Band]) -> NDArray[np.float32]:
    for i, band in enumerate(bands):
        if (band.scale, band.offset) != (1.0, 0.0):
            # float32 holds integers of up to 24 bits exactly.
            if stored.dtype.kind in "iub":
                stored = stored.astype(np.float64 if stored.dtype.itemsize > 2 else np.float32)
            stored[i] = stored[i] * band.scale + band.offset
    with np.errstate(over="ignore", invalid="ignore"):
        if stored.dtype.kind == "c":  # intensity |z|^2
            stored = np.square(stored.real) + np.square(stored.imag)
        return stored.astype(np.float32, copy=False)
