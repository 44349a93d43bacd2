"""Finds the polarisation of each band in the metadata and file names that programs write.

It understands names such as "Sigma0_VV_db", words joined to a polarisation ("VVmean"), and the
covariance of a polarisation with itself (NISAR's "VVVV").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rasterio.enums import ColorInterp

from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.io.tiff_tags import tiff_tag
from cwsam_geo.scene.dimap import SNAP_TAG, snap_band_names
from cwsam_geo.scene.quantities import file_beside, is_computed, quantity_beside

_WORDS = (
    "sigma|gamma|beta|naught|nought|backscatter|intensity|amplitude|power|magnitude|sar|band|pol|"
    "mean|median|avg|average|min|max|db|lin|linear|log|pow|amp|int|norm|filtered|filt|s1|rtc|grd"
)
"""Words that may be joined to a polarisation, in upper or lower case: ``sigmavv``, ``VHDB``."""

_POLARISATION = re.compile(
    rf"(?<![A-Za-z])(?:(?:{_WORDS})\d*)*((?:VV|VH|HH|HV)+)(?:{_WORDS})*(?![A-Za-z])", re.IGNORECASE
)

_GLUED = re.compile(r"(?<![A-Z])((?:VV|VH|HH|HV)+)(?![A-Z])")
"""A polarisation in upper case, joined to any lower-case words: ``speckleVVcleaned``."""

_WORD = re.compile(r"[^\W_]")

_POLARISATION_TAG = re.compile(r"pol(ari[sz]ations?)?", re.IGNORECASE)

_NAME_TAG = re.compile(
    r"((band|layer|channel|variable|long|short|standard|netcdf|raster|image)[ _-]?)?"
    r"(name|varname|desc(ription)?|label|title|id)|band|layer|channel|variable",
    re.IGNORECASE,
)
"""Tags of a band that may hold its name: ``DESCRIPTION`` (openEO), ``long_name``, ``band_name``."""

_LIST_TAG = re.compile(
    r"(band|layer|channel|variable|long|short)s?[ _-]?(names?|desc(riptions?)?|order|labels?)?|"
    r"names?|desc(riptions?)?|TIFFTAG_IMAGEDESCRIPTION",
    re.IGNORECASE,
)
"""Tags of a dataset that may hold the names of all bands, in order: ``band_names=VH,VV``."""

_NUMBERED_TAG = re.compile(
    r"(?:band|layer|channel|b)[ _-]?0*(\d+)(?:[ _-]?(?:name|desc(?:ription)?|pol\w*))?",
    re.IGNORECASE,
)
"""Tags of a dataset for one band each: ``BAND_1=VH``."""


def data_bands(dataset: Any) -> list[int]:
    """Numbers of the bands that may hold backscatter.

    Left out are alpha bands, and bands that are named after another quantity (``angle``), unless
    that leaves none.
    """
    opaque = opaque_bands(dataset)
    return [i for i in opaque if not other_quantity(dataset, i)] or opaque


def other_quantity(dataset: Any, index: int) -> str | None:
    """The name of a band that says that it holds no backscatter, such as ``angle``; else None."""
    tags: Mapping[str, str] = dataset.tags(index)
    texts = [dataset.descriptions[index - 1] or ""]
    texts += [v for k, v in tags.items() if _NAME_TAG.fullmatch(k)]
    texts = [text for text in texts if text]
    if any(only_polarisation(text) for text in texts):
        return None
    return next((text for text in texts if _is_other(text)), None)


def _is_other(text: str) -> bool:
    return (
        is_computed(without_polarisations(text)) if polarisations(text) else quantity_beside(text)
    )


def _no_mask(text: str) -> bool:
    return quantity_beside(text) and "mask" not in text.lower()


def opaque_bands(dataset: Any) -> list[int]:
    """Numbers of all bands but alpha bands."""
    indexes = [
        i
        for i, meaning, text in zip(
            dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True
        )
        # GDAL takes the fourth band of any 8-bit file for alpha. If the band is named after a
        # polarisation or an angle, it holds data.
        if meaning != ColorInterp.alpha or polarisations(text or "") or _no_mask(text or "")
    ]
    return indexes or list(dataset.indexes)


def polarisations(text: str) -> list[str]:
    """Polarisations named in a text, upper case, in order, each once."""
    runs = _POLARISATION.findall(text) or _GLUED.findall(text)
    # "VVVH" names two polarisations, and NISAR's "VVVV" one.
    pairs = [run[i : i + 2].upper() for run in runs for i in range(0, len(run), 2)]
    return list(dict.fromkeys(pairs))


def only_polarisation(text: str) -> str | None:
    """The polarisation that a text names; None for ratios and other quantities."""
    names = polarisations(text)
    other = is_computed(without_polarisations(text))
    return names[0] if len(names) == 1 and not other else None


def without_polarisations(text: str) -> str:
    """A text with spaces instead of the polarisations that it names."""
    pattern = _POLARISATION if _POLARISATION.search(text) else _GLUED
    return pattern.sub(lambda match: match[0].replace(match[1], " "), text)


def band_names(dataset: Any, path: str) -> list[str | None]:
    """The polarisation of each band of an open raster, or None where nothing names it.

    The description of a band takes precedence over its tags. If neither names any band, the tags of
    the dataset, SNAP's metadata or the file name may list the names of all bands.

    Args:
        dataset: An open rasterio dataset.
        path: Its path, URL or GDAL name.
    """
    own = [_of_band(dataset, i) for i in dataset.indexes]
    if any(own):
        return own
    bands = data_bands(dataset)
    for names in _of_dataset(dataset, path, len(bands)):
        if any(names):
            named = dict(zip(bands, names, strict=True))
            return [named.get(i) for i in dataset.indexes]
    return [None] * dataset.count


def file_name(path: str) -> str:
    """The last part of a path, URL or GDAL name, without query string."""
    return PurePosixPath(path.split("?", 1)[0].replace("\\", "/")).name


def _of_band(dataset: Any, index: int) -> str | None:
    tags: Mapping[str, str] = dataset.tags(index)
    name = only_polarisation(dataset.descriptions[index - 1] or "")
    by_polarisation = [
        only_polarisation(v) for k, v in tags.items() if _POLARISATION_TAG.fullmatch(k)
    ]
    name = name or next((n for n in by_polarisation if n), None)
    if name:
        return name
    # Tags that contradict each other are ignored.
    by_name = {only_polarisation(v) for k, v in tags.items() if _NAME_TAG.fullmatch(k)} - {None}
    return by_name.pop() if len(by_name) == 1 else None


def _of_dataset(dataset: Any, path: str, count: int) -> Iterable[list[str | None]]:
    """Candidate names of all ``count`` data bands, most reliable first; a list may be empty."""
    tags: Mapping[str, str] = dataset.tags()
    by_polarisation = [v for k, v in tags.items() if _POLARISATION_TAG.fullmatch(k)]
    yield _in_order(" ".join(by_polarisation), count)
    yield _numbered(tags, count)
    for key, text in tags.items():
        if _LIST_TAG.fullmatch(key):
            yield _listed(text, count)
    if dataset.driver == "GTiff" and not is_remote(path):
        yield _each(snap_band_names(tiff_tag(path, SNAP_TAG) or b""), count)
    if dataset.driver == "Zarr":
        arrays = [Path(f) for f in dataset.files if Path(f).name in (".zarray", "zarr.json")]
        yield _each([f.parent.name for f in arrays], count)
    # The variable of a container (NETCDF:"scene_vh.nc":VV) is more reliable than the file name.
    name = file_name(path)
    for text in (name.rpartition(":")[2], name):
        if file_beside(PurePosixPath(text).stem) is None:
            yield _in_order(text, count)


def _in_order(text: str, count: int) -> list[str | None]:
    names = polarisations(text)
    return [*names] if len(names) == count else []


def _each(texts: Sequence[str], count: int) -> list[str | None]:
    return [only_polarisation(text) for text in texts] if len(texts) == count else []


def _listed(text: str, count: int) -> list[str | None]:
    """Names in a list such as ``VV,VH,angle``, ``['VV', 'VH']`` or ``VV VH``.

    A sentence ("VV and VH of one orbit") does not say in which order the bands are.
    """
    items = re.split(r"[,;|]", re.sub(r"[\[\](){}'\"]", "", text).strip(" ,;|"))
    if len(items) == count:
        return _each(items, count)
    return _in_order(text, count) if not _WORD.search(without_polarisations(text)) else []


def _numbered(tags: Mapping[str, str], count: int) -> list[str | None]:
    texts = {
        int(match[1]): text for key, text in tags.items() if (match := _NUMBERED_TAG.fullmatch(key))
    }
    first = 0 if 0 in texts else 1
    return [only_polarisation(texts.get(i, "")) for i in range(first, first + count)]
