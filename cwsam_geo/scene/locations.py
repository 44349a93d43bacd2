"""The rasters behind what a user gives as a scene: a product, folder, archive or container.

A location is resolved only if there is one way to read it. Otherwise the message names what is
inside.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import (
    HasNoBandsError,
    Location,
    display_name,
    holds_zarr,
    is_remote,
    open_dataset,
)
from cwsam_geo.scene.band_names import only_polarisation, without_polarisations
from cwsam_geo.scene.products.members import Members, members
from cwsam_geo.scene.sentinel1.product import is_hidden, is_product, product_rasters
from cwsam_geo.scene.sentinel1.xml import member_name

_RASTERS = (
    (".tif", ".tiff", ".vrt"),
    (".img",),
    (".bin",),
    (".nc", ".h5"),
    (".jp2", ".png"),
)
"""Suffixes of rasters, in order of preference: formats of scenes before formats of previews."""

_MOST_NAMES = 6
"""Largest number of names in a message."""

_HDF5 = re.compile(r'HDF5:"?(?P<file>.+?)"?:/(?P<array>/.+)', re.IGNORECASE)
"""A sub-dataset: ``HDF5:scene.h5://science/LSAR/GCOV/grids/frequencyA/HHHH``."""

_MOST_FILES = 5000
"""Files of a folder, and of folders in it, up to which a product is looked for."""

_ASIDE = re.compile(r"metadata|calibration|quality|lookup", re.IGNORECASE)
"""Groups of a container whose arrays are named after polarisations but are no images."""

_ENVI_DATA = ("", ".img", ".bin", ".dat", ".raw", ".bsq", ".bil", ".bip")


def raster_files(location: Location) -> list[str]:
    """The raster files of a location.

    - A Sentinel-1 product (``.SAFE`` folder, ``manifest.safe`` or ``.zip``): its measurement files.
    - A SNAP product (``.dim`` or ``.data``), another folder or ``.zip``: the only raster inside, or
      the rasters that name one polarisation each.
    - Anything else: the location itself.

    Raises:
        SceneError: There is no raster, or more than one way to read the location.
    """
    text = os.fspath(location)
    if is_remote(text) or text.startswith("/vsi"):
        return [text]
    path = Path(text)
    if path.name == "manifest.safe" and path.is_file():
        path = path.parent
    if path.is_dir():
        return [text] if holds_zarr(path) else _in_folder(path)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".zip":
            return _in_zip(path)
        if suffix == ".dim":
            return _of_snap(path)
        if suffix == ".hdr":
            return [_of_header(path)]
    return [text]


def is_one_scene(folder: Path) -> bool:
    """Whether a folder is a product or a Zarr store, not a folder that holds scenes."""
    if holds_zarr(folder) or folder.suffix.lower() == ".data":
        return True
    product = _product_in(folder)
    if product is not None and not product.root:
        return True
    return is_product(folder, (p.name for p in folder.iterdir() if not is_hidden(p.name)))


def rasters_in(folder: Path) -> list[str]:
    """The rasters of a folder in its most preferred format, so that previews are left out."""
    names = _rasters(str(p) for p in folder.iterdir() if p.is_file())
    for suffixes in _RASTERS:
        group = [name for name in names if name.lower().endswith(suffixes)]
        if group:
            return group
    return []


def open_rasters(file: str) -> list[tuple[Any, str]]:
    """Opens a raster, or the rasters in a container, with the path or GDAL name of each.

    In a container (NetCDF, HDF5, Zarr) these are the sub-datasets that name one polarisation each.

    Raises:
        SceneError: A raster cannot be opened, or several choices of sub-datasets are possible.
    """
    try:
        return [_placed(file)]
    except HasNoBandsError as error:
        names = _images(error.subdatasets)
        if not names:
            # The first ones are often coordinates and metadata.
            likely = [n for n in error.subdatasets if _image_of(n)[1]] or error.subdatasets
            raise SceneError(
                f"{display_name(file)}: is a container; give the sub-datasets to map, one for "
                f"each band: {_listed(likely)}"
                if likely
                else str(error)
            ) from None
    with contextlib.ExitStack() as stack:
        opened = []
        for name in names:
            opened.append(_placed(name))
            stack.enter_context(contextlib.closing(opened[-1][0]))
        stack.pop_all()
    return opened


def _placed(name: str) -> tuple[Any, str]:
    """Opens a raster, with its GDAL name.

    GDAL's driver of HDF5 does not read where a grid lies, but that of NetCDF does (NISAR).
    """
    dataset = open_dataset(name)
    parts = _HDF5.fullmatch(name)
    if dataset.driver != "HDF5Image" or parts is None or "/swaths/" in name:
        return dataset, name
    other = f'NETCDF:"{parts["file"]}":{parts["array"]}'
    with contextlib.suppress(SceneError):
        placed = open_dataset(other)
        if not placed.transform.is_identity and placed.shape == dataset.shape:
            dataset.close()
            return placed, other
        placed.close()
    return dataset, name


def _in_folder(path: Path) -> list[str]:
    inside = sorted(p for p in path.iterdir() if not is_hidden(p.name))
    if is_product(path, (p.name for p in inside)):
        measurement = path / "measurement"
        inner = [str(p) for p in measurement.iterdir()] if measurement.is_dir() else []
        return product_rasters(path, inner)
    if path.suffix.lower() == ".data":
        return _of_snap(path)
    rasters = _rasters(str(p) for p in inside if p.is_file()) or _without_suffix(inside)
    product = _product_in(path)
    # A product in a folder of this one is not meant if there are rasters beside that folder.
    if product is not None and not (product.root and rasters):
        return [str(path / name) for name in product.rasters]
    # Unpacking a product often makes a folder around the product's own folder.
    products = [p for p in inside if p.suffix.lower() in (".safe", ".dim")]
    if not rasters and len(products) == 1:
        return raster_files(products[0])
    chosen = _sure_choice(rasters)
    if not chosen:
        listed = _listed([Path(r).name for r in rasters])
        raise SceneError(
            f"{path}: is a folder of {len(rasters)} rasters; give the ones to map: {listed}"
            if rasters
            else f"{path}: is a folder without rasters; give the raster file of the scene"
        )
    return chosen


def _in_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member_name(n) for n in archive.namelist() if not n.endswith("/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise SceneError(f"{path}: cannot be read as a zip archive ({error})") from None
    names = [n for n in names if not is_hidden(n)]
    measurements = [n for n in names if "/measurement/" in f"/{n}"]
    parts = {part for n in names for part in PurePosixPath(n).parts}
    if measurements or any(is_product(Path(part), ()) for part in parts) or is_product(path, parts):
        return product_rasters(path, [f"/vsizip/{path}/{n}" for n in measurements])
    rasters = _rasters(names)
    product = members(names)
    if product is not None and all(name.startswith(product.root) for name in rasters):
        return [f"/vsizip/{path}/{name}" for name in product.rasters]
    chosen = _sure_choice(rasters)
    if not chosen:
        raise SceneError(
            f"{path}: holds {len(rasters)} rasters; unpack it and give the ones to map: "
            f"{_listed(rasters)}"
            if rasters
            else f"{path}: is a zip archive without rasters; give the raster file of the scene"
        )
    return [f"/vsizip/{path}/{name}" for name in chosen]


def _product_in(folder: Path) -> Members | None:
    """The product whose folder this is, or that lies in one of its folders."""
    levels = (folder.glob(pattern) for pattern in ("*", "*/*", "*/*/*"))
    paths = itertools.islice(itertools.chain.from_iterable(levels), _MOST_FILES)
    names = [p.relative_to(folder).as_posix() for p in paths if not is_hidden(p.name)]
    return members(names)


def _of_snap(path: Path) -> list[str]:
    """The bands of a SNAP product, given as its ``.dim`` file or its ``.data`` folder."""
    folder = path.with_suffix(".data")
    if not folder.is_dir():
        raise SceneError(
            f"{path}: its folder {folder.name} is not beside it; a product of SNAP is both, so "
            "copy the folder too"
        )
    files = sorted(str(p) for p in folder.glob("*.img") if not is_hidden(p.name))
    chosen = _sure_choice(files)
    if chosen:
        return chosen
    names = [Path(f).name for f in files]
    if any(name.startswith("i_") for name in names):
        raise SceneError(
            f"{path}: holds complex bands as real and imaginary parts ({_listed(names)}); make "
            "intensities of them first (SNAP: calibrate to sigma nought, or Convert to intensity)"
        )
    listed = _listed([str(folder / name) for name in names])
    raise SceneError(
        f"{path}: holds {len(files)} bands; give the ones to map: {listed}"
        if files
        else f"{path}: holds no bands; write the product again with SNAP"
    )


def _of_header(path: Path) -> str:
    """The data file of an ENVI header ``NAME.hdr`` or ``NAME.img.hdr``."""
    data = [p for suffix in _ENVI_DATA if (p := path.with_suffix(suffix)).is_file()]
    if len(data) != 1:
        raise SceneError(
            f"{path}: is an ENVI header, and "
            + ("its data file is not beside it" if not data else f"{_listed(map(str, data))} "
               "have its name; give the right one")
            + ("; get that file too" if not data else "")
        )  # fmt: skip
    return str(data[0])


def _rasters(names: Iterable[str]) -> list[str]:
    suffixes = tuple(s for group in _RASTERS for s in group)
    return sorted(n for n in names if n.lower().endswith(suffixes) and not is_hidden(n))


def _without_suffix(files: Iterable[Path]) -> list[str]:
    """Data of ENVI whose names have no suffix, as JAXA delivers its older mosaics."""
    headers = (p for p in files if p.suffix.lower() == ".hdr")
    return [str(p.with_suffix("")) for p in headers if p.with_suffix("").is_file()]


def _sure_choice(rasters: Sequence[str]) -> list[str]:
    """The only raster, or those that name one polarisation each; empty if that is ambiguous."""
    if len(rasters) == 1:
        return list(rasters)
    for suffixes in (*_RASTERS, ""):
        group = [r for r in rasters if r.lower().endswith(suffixes)]
        named = [(r, PurePosixPath(r.replace("\\", "/")).stem) for r in group]
        chosen = _one_each(named)
        if chosen or any(only_polarisation(stem) for _, stem in named):
            return chosen
    return []


def _images(subdatasets: Sequence[str]) -> list[str]:
    """The sub-datasets that name one polarisation each; empty if that is ambiguous."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in subdatasets:
        group, variable = _image_of(name)
        if variable:
            groups.setdefault(group, []).append((name, variable))
    return _one_each(next(iter(groups.values()))) if len(groups) == 1 else []


def _image_of(subdataset: str) -> tuple[str, str]:
    """Group and name of the array of a sub-dataset; the name is empty if it is no image."""
    split = max(subdataset.rfind(":"), subdataset.rfind("/")) + 1
    group, variable = subdataset[:split], subdataset[split:]
    image = only_polarisation(variable) and not _ASIDE.search(group)
    return group, variable if image else ""


def _one_each(named: Sequence[tuple[str, str]]) -> list[str]:
    """The rasters that name one polarisation each, if their names are equal otherwise; else none.

    Args:
        named: Rasters, and for each the text that may name its polarisation.
    """
    images = [(r, text, p) for r, text in named if (p := only_polarisation(text))]
    polarisations = {p for _, _, p in images}
    rest = {without_polarisations(text) for _, text, _ in images}
    # Files of two dates differ in more than the polarisation.
    return [r for r, _, _ in images] if len(polarisations) == len(images) and len(rest) == 1 else []


def _listed(names: Iterable[str]) -> str:
    shown = [display_name(n) for n in names]
    return ", ".join(shown[:_MOST_NAMES]) + (", ..." if len(shown) > _MOST_NAMES else "")
