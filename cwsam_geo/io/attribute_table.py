"""Class names that GIS programs keep: raster attribute tables and category names."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

# GDAL's numbers for the usage of a column (GDALRATFieldUsage)
_COUNT, _NAME, _MIN, _MAX, _MINMAX, _RED, _GREEN, _BLUE = 1, 2, 3, 4, 5, 6, 7, 8

_REAL, _TEXT = 1, 2
"""GDAL's numbers for the type of a column (GDALRATFieldType)."""

_VALUE_NAMES = ("value", "values", "val", "code", "gridcode", "pixelvalue", "class_value")
_CLASS_NAMES = re.compile(r"class|name|label|categor|descr|legend|cover|type", re.IGNORECASE)
"""What columns are called that hold the values and the class names, where no usage tells them."""

_WHOLE = re.compile(r"[+-]?[0-9]+")

_LONGEST_RANGE = 1 << 12
"""Most values of a row that stands for a range: longer ranges are of measured values."""


@dataclass(frozen=True)
class ClassText:
    """Name of a class, and its colour ``#rrggbb`` or None."""

    name: str
    color: str | None = None


@dataclass(frozen=True)
class _Column:
    """A column of an attribute table.

    Attributes:
        kind: GDAL's number for its type.
        usage: GDAL's number for its usage.
        cells: One text for each row.
    """

    name: str
    kind: int
    usage: int
    cells: Sequence[str]

    def numbers(self) -> list[float]:
        """The cells as numbers; NaN for what is none."""
        return [_number(cell) for cell in self.cells]


def described(dataset: Any, band: int) -> ElementTree.Element:
    """A band of an open raster as GDAL's VRT format describes it.

    rasterio has no functions for category names and attribute tables. GDAL puts both into a VRT,
    whatever driver or ``.aux.xml`` file they come from.
    """
    with contextlib.suppress(RasterioError, ElementTree.ParseError), MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        root = ElementTree.fromstring(file.read())
        for element in root.iter("VRTRasterBand"):
            if element.get("band") == str(band):
                return element
    return ElementTree.Element("VRTRasterBand")


def category_names(band: ElementTree.Element) -> dict[int, str]:
    """GDAL's category names of a described band: the name of each value from 0 that has one."""
    element = band.find("CategoryNames")
    texts = [] if element is None else [(e.text or "").strip() for e in element]
    return {value: text for value, text in enumerate(texts) if text}


def flag_names(tags: Mapping[str, str]) -> dict[int, str]:
    """Classes in a band's tags, as NetCDF's CF conventions write them.

    ``flag_values`` lists the values, and ``flag_meanings`` one word for each.
    """
    values = re.split(r"[\s,]+", tags.get("flag_values", "").strip(" {}"))
    meanings = tags.get("flag_meanings", "").split()
    if len(values) != len(meanings) or not all(_WHOLE.fullmatch(value) for value in values):
        return {}
    return {int(value): word for value, word in zip(values, meanings, strict=True)}


def gdal_table(band: ElementTree.Element) -> dict[int, ClassText]:
    """Classes in the raster attribute table of a described band; empty without class names."""
    element = band.find("GDALRasterAttributeTable")
    if element is None:
        return {}
    rows = [[f.text or "" for f in row] for row in element.findall("Row")]
    columns = [
        _Column(
            (definition.findtext("Name") or "").strip(),
            int(definition.findtext("Type") or _TEXT),
            int(definition.findtext("Usage") or 0),
            [row[i] if i < len(row) else "" for row in rows],
        )
        for i, definition in enumerate(element.findall("FieldDefn"))
    ]
    binning = element.get("Row0Min"), element.get("BinSize")
    return _classes(columns, _values(columns, binning, len(rows)))


def esri_table(path: str) -> dict[int, ClassText]:
    """Classes in the ``.vat.dbf`` that ArcGIS writes beside a raster; empty without that file."""
    raster = Path(path)
    candidates = [
        raster.with_name(f"{stem}{suffix}")
        for stem in (raster.name, raster.stem)
        for suffix in (".vat.dbf", ".VAT.DBF")
    ]
    table = next((p for p in candidates if p.is_file()), None)
    if table is None:
        return {}
    # Imported only when needed: it imports geopandas and pyarrow, 100 MB.
    import pyogrio.errors
    import pyogrio.raw

    # Names are a convenience: a damaged table must not make a good raster unreadable.
    with contextlib.suppress(pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        meta, _, _, arrays = pyogrio.raw.read(table, read_geometry=False)
        columns = [
            _Column(str(name), _kind(cells), 0, ["" if c is None else str(c) for c in cells])
            for name, cells in zip(meta["fields"], arrays, strict=True)
        ]
        return _classes(columns, _values(columns, (None, None), 0))
    return {}


def _kind(cells: Any) -> int:
    return {"f": _REAL, "i": 0, "u": 0}.get(np.asarray(cells).dtype.kind, _TEXT)


def _values(
    columns: Sequence[_Column], binning: tuple[str | None, str | None], rows: int
) -> list[range]:
    """The pixel values for which each row stands."""
    exact = _with_usage(columns, _MINMAX) or next(
        (c for c in columns if c.name.casefold() in _VALUE_NAMES and c.kind != _TEXT), None
    )
    if exact is not None:
        return [_range(v, v) for v in exact.numbers()]
    least, most = _with_usage(columns, _MIN), _with_usage(columns, _MAX)
    if least is not None and most is not None:
        return [_range(a, b) for a, b in zip(least.numbers(), most.numbers(), strict=True)]
    start, size = (_number(text or "") for text in binning)
    if math.isfinite(start) and size == 1:
        return [_range(start + i, start + i) for i in range(rows)]
    # Erdas Imagine counts the pixels of value i in row i.
    return [range(i, i + 1) for i in range(rows)] if _with_usage(columns, _COUNT) else []


def _classes(columns: Sequence[_Column], values: Sequence[range]) -> dict[int, ClassText]:
    names = _name_column(columns)
    if names is None:
        return {}
    colors = _colors(columns, len(names.cells))
    classes: dict[int, ClassText] = {}
    for of_row, name, color in zip(values, names.cells, colors, strict=False):
        for value in of_row if name.strip() else ():
            classes.setdefault(value, ClassText(name.strip(), color))
    return classes


def _name_column(columns: Sequence[_Column]) -> _Column | None:
    texts = [c for c in columns if c.kind == _TEXT]
    by_usage = _with_usage(texts, _NAME)
    by_name = next((c for c in texts if _CLASS_NAMES.search(c.name)), None)
    return by_usage or by_name or next(iter(texts), None)


def _colors(columns: Sequence[_Column], rows: int) -> list[str | None]:
    """``#rrggbb`` of each row; None without three columns of red, green and blue."""
    planes = []
    for usage, name in ((_RED, "red"), (_GREEN, "green"), (_BLUE, "blue")):
        column = _with_usage(columns, usage) or next(
            (c for c in columns if c.name.casefold() == name and c.kind != _TEXT), None
        )
        if column is None:
            return [None] * rows
        planes.append(column)
    numbers = np.array([c.numbers() for c in planes])  # (3, rows)
    # ArcGIS and Erdas Imagine write shares of 1, others 0 to 255.
    if any(c.kind == _REAL for c in planes) and np.nanmax(numbers, initial=0) <= 1:
        numbers = numbers * 255
    valid = np.isfinite(numbers).all(axis=0) & (numbers >= 0).all(axis=0)
    valid &= (numbers <= 255).all(axis=0)
    return [
        "#{:02x}{:02x}{:02x}".format(*(round(v) for v in rgb)) if good else None
        for rgb, good in zip(numbers.T, valid, strict=True)
    ]


def _with_usage(columns: Sequence[_Column], usage: int) -> _Column | None:
    return next((c for c in columns if c.usage == usage), None)


def _range(least: float, most: float) -> range:
    """Whole numbers from ``least`` to ``most``; empty for what is no class."""
    if not (math.isfinite(least) and math.isfinite(most)) or most - least > _LONGEST_RANGE:
        return range(0)
    return range(math.ceil(least), math.floor(most) + 1)


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    return math.nan
