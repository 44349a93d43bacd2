"""RADARSAT-2 and RADARSAT Constellation Mission (RCM) products with their calibration tables.

Sources: MDA, "RADARSAT-2 Product Format Definition" (RN-RP-51-2713) and "RCM Image Product Format
Definition" (RCM-SP-53-0419):

    sigma nought = (DN^2 + B) / A for detected products, |DN|^2 / A^2 for complex ones

``lutSigma.xml`` gives A (``gains``) along range and B (``offset``). RADARSAT-2 has a gain for every
column; RCM has one for each polarisation's columns ``pixelFirstLutValue``, + ``stepSize``, ... and
is interpolated between them, as GDAL does.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import SceneError
from cwsam_geo.scene.products.places import folder_of
from cwsam_geo.scene.products.product import BandFacts, Calibration, Gain, Product
from cwsam_geo.scene.products.values import number
from cwsam_geo.scene.sentinel1.xml import is_there, read_xml

_IMAGE = re.compile(r"(?:imagery|.*)_(HH|HV|VH|VV)\.tiff?", re.IGNORECASE)

_RS2, _RCM = "RADARSAT-2 product", "RCM product"

_DIGITAL = ("uint8", "uint16", "int16", "complex_int16")
"""Types of digital numbers."""

_GEOCODED = ("SSG", "SPG", "GCC", "GCD")
"""Types of products on a map grid, whose columns are no longer those of the table."""


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a raster by its place in a product, or the product.xml that GDAL has opened."""
    folder = folder_of(path)
    if dataset.driver == "RS2":
        names = [dataset.tags(i).get("POLARIMETRIC_INTERP", "").upper() for i in dataset.indexes]
        if any(dtype not in _DIGITAL for dtype in dataset.dtypes):
            # GDAL's RADARSAT_2_CALIB:SIGMA0:... is calibrated already.
            return Product(_RS2, {i: BandFacts(n or None) for i, n in enumerate(names, 1)})
        tables = [f"{folder}/lutSigma.xml"] * dataset.count
        return _product(_RS2, dataset, f"{folder}/product.xml", names, tables)
    match = _IMAGE.fullmatch(path.rpartition("/")[2])
    if folder is None or match is None:
        return None
    name = match[1].upper()
    product = f"{folder}/product.xml"
    if path.rpartition("/")[2].lower().startswith("imagery_") and is_there(product):
        table = f"{folder}/lutSigma.xml"
        return _product(_RS2, dataset, product, [name], [table])
    top, _, inner = folder.rpartition("/")
    product = f"{top}/metadata/product.xml"
    if inner.lower() == "imagery" and is_there(product):
        table = f"{top}/metadata/calibration/lutSigma_{name}.xml"
        return _product(_RCM, dataset, product, [name], [table])
    return None


def _product(
    title: str, dataset: Any, document: str, names: list[str], tables: list[str]
) -> Product | None:
    """The product of an open raster.

    Args:
        document: Path of its product.xml.
        names: Polarisation of each band of the raster.
        tables: Path of the calibration table of each band.
    """
    # The parts of complex numbers are two bands, unless GDAL's driver has joined them.
    pair = dataset.count == 2 and len(names) == 1 and dataset.dtypes[0] == "int16"
    if dataset.dtypes[0] not in _DIGITAL or not (pair or dataset.count == len(names)):
        return None
    quadrature = 2 if pair else None
    try:
        kind = _text(read_xml(document), "productType").upper()
    except SceneError as error:
        return Product(title, lacks=str(error), remedy="get the whole product")
    bare = {i: BandFacts(n or None, quadrature=quadrature) for i, n in enumerate(names, 1)}
    missing = [table for table in tables if not is_there(table)]
    if kind.startswith(_GEOCODED):
        lacks = f"its tables do not fit a geocoded product ({kind[:20]})"
        return Product(title, bare, lacks=lacks, remedy="give a product that is not geocoded")
    if missing:
        lacks = f"its product lacks {missing[0].rpartition('/')[2]}"
        return Product(title, bare, lacks=lacks, remedy="get the whole product")
    is_complex = pair or "complex" in dataset.dtypes[0]
    facts = {
        i: BandFacts(
            name or None,
            quadrature=quadrature,
            calibration=partial(_calibration, title, table, is_complex),
        )
        for i, (name, table) in enumerate(zip(names, tables, strict=True), 1)
    }
    return Product(title, facts, files=(document, *dict.fromkeys(tables)))


def _calibration(title: str, table: str, is_complex: bool, height: int, width: int) -> Calibration:
    try:
        root = read_xml(table)
        gains, offset = _gains(root, width), number(_text(root, "offset") or "0")
        if offset is None:
            raise SceneError("its offset is not a number")
    except SceneError as error:
        what = str(error).removeprefix(f"{table}: ")
        raise SceneError(
            f"{table}: a broken calibration table ({what}); get the product again, or pass --units "
            "amplitude to read its digital numbers as they are"
        ) from None
    words = f"sigma nought, by the calibration tables of the {title} (lutSigma)"
    return Gain(words, 1 / gains**2 if is_complex else 1 / gains, 0.0 if is_complex else offset)


def _gains(root: Element, width: int) -> NDArray[np.float64]:
    """The gain of every column, shape (W,)."""
    try:
        values = np.array(_text(root, "gains").split(), np.float64)
    except ValueError:
        raise SceneError("its gains are not all numbers") from None
    first, step = number(_text(root, "pixelFirstLutValue")), number(_text(root, "stepSize"))
    columns = (first or 0) + (step or 1) * np.arange(len(values))
    if not len(values) or not (values > 0).all() or not np.isfinite(values).all():
        raise SceneError("its gains are not all positive numbers")
    order = np.argsort(columns)
    reach = abs(step or 1)
    if columns[order[0]] > reach - 1 or columns[order[-1]] + reach < width:
        raise SceneError(
            f"its gains are for columns {columns[order[0]]:g} to {columns[order[-1]]:g}, but the "
            f"raster has {width}"
        )
    return np.interp(np.arange(width), columns[order], values[order])


def _text(root: Element, tag: str) -> str:
    """The text of the first element with a tag in any namespace; empty if there is none."""
    found = (e.text for e in root.iter() if e.tag.rpartition("}")[2] == tag)
    return (next(found, None) or "").strip()
