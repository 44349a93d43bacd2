"""Finds and reads the band of class codes in a raster, or the three bands of a label picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.archives import raster_in
from cwsam_geo.io.class_names import ClassNames, class_names
from cwsam_geo.io.raster_file import (
    display_name,
    grid_of,
    open_dataset,
    reading,
    rio_window,
)

Plane = NDArray[Any]
Valid = NDArray[np.bool_]

_NOTHING = int(np.iinfo(np.int32).min)
"""Value of invalid pixels where codes are converted to int32; no class has this code."""

_CLASS_BANDS = (
    *("label", "labels", "class", "classes", "classification", "class_id", "class_code"),
    *("landcover", "land_cover", "land cover", "lulc", "lc", "category", "categories"),
)
"""Names of the band with the class codes in rasters that also have other bands, such as the
probabilities of Dynamic World."""

_PERCENT = " (%)"
"""End of the names that ``predict`` gives to bands of confidence and probabilities."""


class ClassBand:
    """Class codes, or the colours of a picture, of an open raster on its own grid.

    Codes are whole numbers, which may be stored as floats or 64-bit integers: QGIS's raster
    calculator and numpy write class rasters in this way.

    Args:
        path: A raster with one band of class codes, or an 8-bit RGB picture.
        band: Number, from 1, or name of the band with the codes; None to find it.

    Attributes:
        label: The raster's name in messages.
        dataset: The open rasterio dataset.
        grid: Shape, georeferencing and storage.
        numbers: Numbers of the bands that are read, from 1: one, or red, green and blue.
        colors: True for a picture.
        dtype: Type of the codes that ``read`` returns: the stored one, or int32 where that is a
            float or has 64 bits.
        nodata: Code of pixels without data, or None.
        remarks: Remarks for the user on the band that is read.

    Raises:
        SceneError: The raster cannot be opened, or it is unclear which band holds the codes.
        UsageError: There is no such ``band``.
    """

    def __init__(self, path: str | os.PathLike[str], band: int | str | None = None) -> None:
        self.label = display_name(path)
        self.path = raster_in(path)
        self.dataset = open_dataset(self.path)
        try:
            self.grid: SceneGrid = grid_of(self.dataset)
            self.remarks: tuple[str, ...] = ()
            self.numbers, self.colors = self._meaning(band)
            stored = np.dtype(self.dataset.dtypes[self.numbers[0] - 1])
            self._converted = stored.kind == "f" or stored.itemsize > 4
            self.dtype = np.dtype(np.int32) if self._converted else stored
            self._fill = _fill(self.dataset.nodatavals[self.numbers[0] - 1], stored)
            self.nodata: int | None = _NOTHING
            if not self._converted:
                self.nodata = None if self._fill is None else int(self._fill)
        except BaseException:
            self.close()
            raise
        flags = self.dataset.mask_flag_enums[self.numbers[0] - 1]
        # GDAL compares floats with a tolerance, and 64-bit integers exactly.
        self._masked = MaskFlags.per_dataset in flags or self._converted
        self.alpha = ColorInterp.alpha in self.dataset.colorinterp

    def _meaning(self, band: int | str | None) -> tuple[list[int], bool]:
        """Numbers of the bands to read, and True if they are colours, False if they are codes."""
        dataset = self.dataset
        bands = data_bands(dataset)
        names = [(text or "").casefold() for text in dataset.descriptions]
        labels = [i for i in bands if names[i - 1] in _CLASS_BANDS]
        if band is None and bands and all(names[i - 1].endswith(_PERCENT) for i in bands):
            raise SceneError(
                f"{self.label}: holds {_listed([d or '' for d in dataset.descriptions], bands)}, "
                "not class codes; give the class map"
            )
        if band is not None:
            bands = [self._chosen(band)]
        elif not labels and len(bands) == 3 and {dataset.dtypes[i - 1] for i in bands} == {"uint8"}:
            named = [dataset.colorinterp[i - 1] for i in bands]
            rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            # The bands may be stored in another order than red, green, blue.
            order = [bands[named.index(c)] for c in rgb] if set(named) == set(rgb) else bands
            return order, True
        elif len(bands) > 1:
            bands = [self._obvious(bands, labels)]
        if np.dtype(dataset.dtypes[bands[0] - 1]).kind not in "iuf":
            raise SceneError(f"{self.label}: holds complex values; give a class raster")
        return bands, False

    def _chosen(self, band: int | str) -> int:
        descriptions = [d or "" for d in self.dataset.descriptions]
        same = [i for i, d in enumerate(descriptions, 1) if d and d == band]
        if len(same) == 1:
            return same[0]
        if str(band).isdecimal() and 1 <= int(band) <= self.dataset.count:
            return int(band)
        raise UsageError(
            f"{self.label}: has no band {str(band)!r}; its bands are "
            f"{_listed(descriptions, range(1, self.dataset.count + 1))}"
        )

    def _obvious(self, bands: Sequence[int], labels: Sequence[int]) -> int:
        """The only band with a name such as ``label``, or else the only one with a palette."""
        descriptions = [d or "" for d in self.dataset.descriptions]
        colored = [i for i in bands if self.dataset.colorinterp[i - 1] == ColorInterp.palette]
        sure = labels or colored
        if len(sure) != 1:
            raise SceneError(
                f"{self.label}: has {len(bands)} bands ({_listed(descriptions, bands)}), and it is "
                "unclear which one holds the class codes; choose it (--band), or give a "
                "raster with one band of class codes, or an 8-bit RGB picture in the classes' "
                "colours"
            )
        name = descriptions[sure[0] - 1]
        self.remarks = (
            f"{self.label}: band {sure[0]}{f' ({name})' if name else ''} of {len(bands)} is read "
            "as the class codes",
        )
        return sure[0]

    @cached_property
    def names(self) -> ClassNames:
        """Names and colours of the codes.

        Raises:
            LegendError: The ``LEGEND`` tag holds an invalid legend.
        """
        return class_names(self.dataset, self.numbers[0], self.label)

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> tuple[Plane, Valid]:
        """Codes, (h, w) of ``dtype``, or colours, (3, h, w) uint8; and valid, (h, w) bool.

        Args:
            window: Pixels to read.
            shape: Height and width of the result, if fewer pixels are enough: each takes the
                nearest one, of an overview if the file has one that is large enough.

        Raises:
            SceneError: The file is damaged, or its values are not integers of 32 bits.
        """
        which: dict[str, Any] = {"window": rio_window(window)}
        which |= {} if shape is None else {"out_shape": shape}
        with reading(self.path, window):
            if self.colors:
                valid = self.dataset.dataset_mask(**which) > 0
                which |= {} if shape is None else {"out_shape": (3, *shape)}
                return self.dataset.read(self.numbers, **which), valid
            stored = self.dataset.read(self.numbers[0], **which)
            valid = np.ones(stored.shape, np.bool_)
            if self._masked:
                valid &= self.dataset.read_masks(self.numbers[0], **which) > 0
            if self.alpha:
                band = self.dataset.colorinterp.index(ColorInterp.alpha) + 1
                valid &= self.dataset.read(band, **which) > 0
        return self.to_codes(stored, valid)

    def to_codes(self, stored: Plane, valid: Valid) -> tuple[Plane, Valid]:
        """Stored values as codes of ``dtype``; pixels with the nodata value are not valid.

        Raises:
            SceneError: Valid values are not whole numbers, or not of 32 bits.
        """
        if self._fill is not None:
            # Masks and alpha bands hide the nodata value from GDAL.
            valid &= stored != self._fill
        if not self._converted:
            return stored, valid
        if stored.dtype.kind == "f":
            valid &= ~np.isnan(stored)
        elif stored.dtype == np.int64:
            valid &= stored != np.iinfo(np.int64).min  # what a cast makes of NaN
        # Blank invalid pixels: nodata values such as -3.4e38 need not fit into int32.
        stored = np.where(valid, stored, 0)
        if stored.dtype.kind == "f" and not (np.trunc(stored) == stored)[np.isfinite(stored)].all():
            example = stored[np.trunc(stored) != stored].flat[0]
            raise SceneError(
                f"{self.label}: holds values that are not whole numbers ({example:g}), so they are "
                "no class codes; classify it first"
            )
        if stored.size and not _NOTHING < stored.min() <= stored.max() < 2**31:
            raise SceneError(
                f"{self.label}: holds values beyond 32 bits ({stored.min()} to {stored.max()}); "
                "give a class raster"
            )
        return np.where(valid, stored, _NOTHING).astype(np.int32), valid

    def close(self) -> None:
        """Closes the file."""
        self.dataset.close()


def data_bands(dataset: Any) -> list[int]:
    """Numbers of all bands except alpha bands, from 1."""
    return [i for i, c in enumerate(dataset.colorinterp, 1) if c != ColorInterp.alpha]


def _fill(nodata: float | None, stored: np.dtype[Any]) -> Any:
    """The declared nodata value as the stored type has it; None if no pixel can have it."""
    if nodata is None or stored.kind not in "iuf":
        return None
    if stored.kind == "f":
        return stored.type(nodata)
    limits = np.iinfo(stored)
    return None if nodata % 1 or not limits.min <= nodata <= limits.max else stored.type(nodata)


def _listed(descriptions: Sequence[str], bands: Sequence[int]) -> str:
    texts = [f"{i} {descriptions[i - 1]}".strip() for i in bands]
    return ", ".join(texts[:12]) + (", ..." if len(texts) > 12 else "")
