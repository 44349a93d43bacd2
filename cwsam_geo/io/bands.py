"""The bands of one open raster: names, nodata and masks, and their values as float32."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RioWindow

from cwsam_geo.errors import SceneError
from cwsam_geo.grid import Window
from cwsam_geo.io.opening import shown

Nodata = float | Literal["none"] | None
"""A value, ``"none"`` where nothing but NaN is nodata, or None for what the file declares."""

_POLARISATION = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
_POLARISATION_TAG = re.compile(r"pol(ari[sz]ations?)?", re.IGNORECASE)

# No measurement is this large: the lowest and highest floats stand for "nothing" in many files,
# declared or not. NaN and infinity fail the comparison too.
_LARGEST = np.float32(1e37)
_LONGEST_HINT = 200


@dataclass(frozen=True)
class Band:
    """One selected band of a dataset.

    Attributes:
        index: Its number in the file, from 1.
        name: Its polarisation (``VV``, ``VH``, ``HH``, ``HV``), or None where not known.
        nodata: Value that means no data, as stored; None where there is none, or it is not finite.
        declared: Value that the file declares as nodata, be it NaN; None where it declares none.
        scale: Factor from stored to true values.
        offset: What is added after scaling.
        masked: Whether GDAL's mask (internal or external) has a say in it.
    """

    index: int
    name: str | None
    nodata: float | None
    declared: float | None
    scale: float
    offset: float
    masked: bool


def data_bands(dataset: Any) -> list[int]:
    """Numbers of the bands that hold data: all but an alpha band."""
    found = [
        i
        for i, meaning, text in zip(
            dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True
        )
        # GDAL calls the fourth band of any 8-bit file alpha: a polarisation's name says better.
        if meaning != ColorInterp.alpha or polarisations(text or "")
    ]
    return found or list(dataset.indexes)


def alpha_bands(dataset: Any, indexes: Sequence[int], nodata: Nodata) -> tuple[int, ...]:
    """Numbers of the alpha bands that tell where the selected bands are data.

    GDAL makes a mask of an alpha band only of 8 and 16 bits beside one or three bands, so it is
    found here. An alpha band that is selected is data, and no longer alpha.

    Args:
        dataset: An open rasterio dataset.
        indexes: Numbers of the selected bands, from 1.
        nodata: What the user says of nodata.
    """
    found = set(dataset.indexes) - set(data_bands(dataset))
    return () if nodata == "none" or found & set(indexes) else tuple(sorted(found))


def check_pictures(dataset: Any, path: str, several: bool) -> None:
    """Makes sure that a file can be a scene, or one of its bands.

    Args:
        dataset: An open rasterio dataset.
        path: Its path.
        several: Whether the scene has other files too.

    Raises:
        SceneError: It has several bands where other files are given, or holds a class map.
    """
    bands = data_bands(dataset)
    if several and len(bands) != 1:
        raise SceneError(
            f"{shown(path)}: has {len(bands)} bands; give one file with several bands, "
            "or several files with one band each"
        )
    if any(dataset.colorinterp[i - 1] == ColorInterp.palette for i in bands):
        raise SceneError(
            f"{shown(path)}: holds a colour table (a class map or a picture), not SAR values; "
            "give the scene itself, or expand it with `gdal_translate -expand gray`"
        )


def describe_bands(
    dataset: Any, path: str, indexes: Sequence[int], nodata: Nodata
) -> tuple[Band, ...]:
    """What is known of the selected bands.

    Args:
        dataset: An open rasterio dataset.
        path: Its path; the file's name may tell the polarisations.
        indexes: The bands' numbers, from 1.
        nodata: What the user says of nodata.
    """
    names = _names(dataset, path)
    return tuple(
        Band(
            index=i,
            name=names[i - 1],
            nodata=_stored_nodata(dataset.nodatavals[i - 1], nodata),
            declared=dataset.nodatavals[i - 1],
            scale=float(dataset.scales[i - 1]),
            offset=float(dataset.offsets[i - 1]),
            masked=nodata != "none" and _has_mask(dataset.mask_flag_enums[i - 1]),
        )
        for i in indexes
    )


def read_bands(
    dataset: Any, bands: Sequence[Band], alpha: Sequence[int], window: Window, joint_zeros: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of a dataset's bands, and where they are data.

    Args:
        dataset: An open rasterio dataset.
        bands: Its selected bands, all stored as one type.
        alpha: Numbers of its alpha bands; where one is 0, nothing is data.
        window: A window inside the raster.
        joint_zeros: True where a zero is nodata only if all bands are zero, which the caller
            looks to: a declared nodata value of 0 is passed over.

    Returns:
        Values, (N, H, W) float32, complex ones as intensity; valid, (H, W), True where every band
        has data.
    """
    rect = RioWindow(window.col, window.row, window.width, window.height)
    stored, opacities = _stored(dataset, [b.index for b in bands], alpha, rect)
    valid = np.ones(stored.shape[1:], bool)
    for opacity in opacities:
        valid &= opacity.real > 0
    for band, plane in zip(bands, stored, strict=True):
        if band.nodata is not None and not (joint_zeros and band.nodata == 0):
            valid &= _differs(plane, band.nodata)
    values = _measured(stored, bands)
    if stored.dtype.kind not in "iub" or any((b.scale, b.offset) != (1.0, 0.0) for b in bands):
        for plane in values:
            valid &= np.abs(plane) < _LARGEST
    masks = [b.index for b in bands if b.masked]
    if masks:
        valid &= (dataset.read_masks(masks, window=rect) > 0).all(axis=0)
    return values, valid


def polarisations(text: str) -> list[str]:
    """Polarisations named in a text, upper case, in order, each once."""
    return list(dict.fromkeys(m.upper() for m in _POLARISATION.findall(text)))


def hints(dataset: Any, path: str, bands: Sequence[Band]) -> list[str]:
    """Text that may tell the units: units, descriptions, tags, the file's name."""
    found = [f"file name: {file_name(path)}"]
    for band in bands:
        place = f"band {band.index}"
        found.append(f"{place} unit: {dataset.units[band.index - 1] or ''}")
        found.append(f"{place} description: {dataset.descriptions[band.index - 1] or ''}")
        found += [f"{place} tag {k}: {v}" for k, v in dataset.tags(band.index).items()]
    found += [f"tag {k}: {v}" for k, v in dataset.tags().items()]
    return [h for h in found if not h.endswith(": ") and len(h) <= _LONGEST_HINT]


def file_name(path: str) -> str:
    """The last part of a path, URL or GDAL name, without query string."""
    return PurePosixPath(path.split("?", 1)[0].replace("\\", "/")).name


def _names(dataset: Any, path: str) -> list[str | None]:
    count = dataset.count
    names = [
        _only(dataset.descriptions[i - 1] or "") or _tagged(dataset.tags(i))
        for i in dataset.indexes
    ]
    if any(names):
        return names
    in_tags = [p for v in _tag_values(dataset.tags()) for p in polarisations(v)]
    for told in (in_tags, polarisations(file_name(path))):
        if len(told) == len(data_bands(dataset)):
            return [*told, *[None] * (count - len(told))]
    return [None] * count


def _only(text: str) -> str | None:
    # "VV/VH" is a ratio, not a polarisation.
    found = polarisations(text)
    return found[0] if len(found) == 1 else None


def _tagged(tags: Mapping[str, str]) -> str | None:
    told = [_only(v) for v in _tag_values(tags)]
    return next((t for t in told if t), None)


def _tag_values(tags: Mapping[str, str]) -> list[str]:
    return [v for k, v in tags.items() if _POLARISATION_TAG.fullmatch(k)]


def _stored_nodata(declared: float | None, given: Nodata) -> float | None:
    if given == "none":
        return None
    value = declared if given is None else given
    # NaN and the infinities are no data anyway.
    return None if value is None or not np.isfinite(value) else float(value)


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    if MaskFlags.alpha in flags:
        return False
    return MaskFlags.per_dataset in flags or not flags


def _stored(
    dataset: Any, indexes: Sequence[int], alpha: Sequence[int], rect: RioWindow
) -> tuple[NDArray[Any], Sequence[NDArray[Any]]]:
    """Bands and alpha bands as stored; of one type they are decoded once."""
    numbers = [*indexes, *alpha]
    if len({dataset.dtypes[i - 1] for i in numbers}) == 1:
        planes: NDArray[Any] = dataset.read(numbers, window=rect)
        return planes[: len(indexes)], list(planes[len(indexes) :])
    return dataset.read(indexes, window=rect), [dataset.read(i, window=rect) for i in alpha]


def _differs(plane: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    # The tag holds more digits than a float32 pixel does.
    with np.errstate(over="ignore"):
        value = np.float32(nodata) if plane.dtype == np.float32 else nodata
    different: NDArray[np.bool_] = plane != value
    return different


def _measured(stored: NDArray[Any], bands: Sequence[Band]) -> NDArray[np.float32]:
    for i, band in enumerate(bands):
        if (band.scale, band.offset) != (1.0, 0.0):
            if stored.dtype.kind in "iub":
                stored = stored.astype(np.float64 if stored.dtype.itemsize > 2 else np.float32)
            stored[i] = stored[i] * band.scale + band.offset
    with np.errstate(over="ignore", invalid="ignore"):
        if stored.dtype.kind == "c":
            stored = np.square(stored.real) + np.square(stored.imag)
        return stored.astype(np.float32, copy=False)
