"""Points (or shapes as text) of CSV tables, whose columns, separators and CRS differ by program."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cwsam_geo.core.counting import how_many, were
from cwsam_geo.errors import UsageError

SUFFIXES = (".csv", ".tsv")
"""File name suffixes of tables."""

# Names of coordinate columns, without what is no letter or digit. Other programs write:
# Earth Engine .geo, Collect Earth lon/lat, QGIS X/Y and WKT, ArcGIS POINT_X/POINT_Y.
_LONGITUDES = (
    *("lon", "long", "lng", "longitude", "londd", "longdd", "lonwgs84", "longitudewgs84"),
    *("decimallongitude", "samplelon", "plotlon", "centerlon", "gpslon", "gpslongitude"),
)
_LATITUDES = (
    *("lat", "latitude", "latdd", "latwgs84", "latitudewgs84"),
    *("decimallatitude", "samplelat", "plotlat", "centerlat", "gpslat", "gpslatitude"),
)
_XS = ("x", "xcoord", "xcoordinate", "coordx", "pointx", "utmx", "easting", "east", "rechtswert")
_YS = ("y", "ycoord", "ycoordinate", "coordy", "pointy", "utmy", "northing", "north", "hochwert")
_SHAPES = ("wkt", "wktgeom", "geometry", "geom", "thegeom", "geo", "shape", "samplegeom")

_IDENTIFIERS = ("systemindex",)
"""Columns that a program adds to every table and that hold no class."""

_MISSING = {"", "na", "nan", "null", "none"}
"""Texts, in any case, of a coordinate that is missing."""

_NO_CLASS = {"", "NA", "NaN", "nan", "NULL", "null"}
"""Texts of a class that is missing; a class may be called ``None``."""

_WHOLE = re.compile(r"(-?[0-9]+)(?:\.0+)?")
_EWKT = re.compile(r"SRID=([0-9]+);\s*(.*)", re.DOTALL | re.IGNORECASE)
_EMPTY = re.compile(r"\bEMPTY\b|\"coordinates\":\s*\[\s*\]")
_WKB = re.compile(r"(?:[0-9A-Fa-f]{2}){21,}")  # a point has 21 bytes


@dataclass(frozen=True)
class Table:
    """Shapes of a table with its other columns.

    Attributes:
        shapes: Shapely geometries, shape (N,).
        columns: Values of the other columns, N each; None where there is no value.
        crs: CRS of the shapes; None if neither the table nor the grid has one.
        remarks: Remarks for the user: how the coordinates were understood, and what was left out.
    """

    shapes: NDArray[Any]
    columns: Mapping[str, list[Any]]
    crs: CRS | None
    remarks: tuple[str, ...]


def read_table(data: bytes, label: str, grid_crs: CRS | None, prj: str | None = None) -> Table:
    """Reads the shapes of a CSV table.

    The separator may be a comma, a semicolon, a tab or a bar. Coordinates stand in columns such as
    ``lon`` and ``lat`` (degrees) or ``x`` and ``y``, or as WKT, WKB or GeoJSON in a column such as
    ``wkt``. Where the table has no CRS, numbers that can be degrees are degrees, others are in the
    CRS of the grid; a remark says so.

    Args:
        data: Content of the file.
        label: The file's name in messages.
        grid_crs: CRS of the grid that the table is compared with.
        prj: Content of a ``.prj`` file beside the table.

    Raises:
        UsageError: The table has no coordinates, or one that is no number.
    """
    header, rows = _rows(_text(data, label), label)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    by_name = {_plain(name): name for name in reversed(header)}
    # Earth Engine writes empty shapes where the coordinates are in columns of their own.
    filled = {n: by_name[n] for n in _SHAPES if n in by_name and _filled(columns[by_name[n]])}
    shape = next(iter(filled.values()), None)
    degrees = _pair(by_name, _LONGITUDES, _LATITUDES)
    plane = _pair(by_name, _XS, _YS)
    srid = None
    if shape is not None:
        shapes, srid = _shapes(columns[shape], shape, label)
        used = shape
    elif degrees or plane:
        x, y = degrees or plane or ("", "")
        shapes = _points(columns[x], columns[y], (x, y), label)
        used = f"{x} and {y}"
    else:
        raise UsageError(
            f"{label}: no column has coordinates; call them lon and lat (degrees), x and y, or "
            f"wkt; it has: {', '.join(header) or 'none'}"
        )
    there = ~shapely.is_missing(shapes)
    crs, how = _crs(srid, prj, grid_crs, shapely.total_bounds(shapes[there]), label)
    if shape is None and degrees:
        _check_degrees(shapely.total_bounds(shapes[there]), used, label)
        crs, how = CRS.from_epsg(4326), None
    remarks = [] if how is None else [f"{label}: {used} are taken as {how}"]
    if not there.all():
        lost = int((~there).sum())
        remarks.append(
            f"{label}: {how_many(lost, 'row')} without coordinates {were(lost)} left out"
        )
    coordinates = {
        *(by_name.get(n) for n in _SHAPES if n in filled or n == "geo"),
        *(degrees or ()),
        *(plane or ()),
    }
    return Table(
        shapes=shapes[there],
        columns={
            name: [v for v, kept in zip(_values(texts), there, strict=True) if kept]
            for name, texts in columns.items()
            if name not in coordinates and _plain(name) not in _IDENTIFIERS
        },
        crs=crs,
        remarks=tuple(remarks),
    )


def _text(data: bytes, label: str) -> str:
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    # Spreadsheets on Windows write cp1252.
    for encoding in ["utf-16"] if wide else ["utf-8-sig", "cp1252"]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UsageError(f"{label}: cannot be read as text; save it as CSV in UTF-8")


def _rows(text: str, label: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that are not empty, all as wide as the header."""
    # A spreadsheet may name its separator in a line of its own.
    named = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)
    text = text[named.end() :] if named else text
    outside_quotes = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").split("\n", 1)[0])
    separator = named[1] if named else max(",;\t|", key=outside_quotes.count)
    # A polygon's outline may be longer than csv's default of 131,072 characters.
    csv.field_size_limit(1 << 30)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise UsageError(f"{label}: cannot be read as a table: {error}") from None
    if len(rows) < 2:
        raise UsageError(f"{label}: has no rows below its header")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise UsageError(
                f"{label}: row {number} has {len(row)} fields, but the header {len(header)}; put "
                "texts that contain the separator in quotes"
            )
    width = len(header)
    return header, [[*row[:width], *[""] * (width - len(row))] for row in rows[1:]]


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _filled(texts: list[str]) -> bool:
    """Whether any text is more than an empty shape."""
    return any(t.strip().lower() not in _MISSING and not _EMPTY.search(t) for t in texts)


def _pair(
    by_name: Mapping[str, str], first: tuple[str, ...], second: tuple[str, ...]
) -> tuple[str, str] | None:
    a = next((by_name[n] for n in first if n in by_name), None)
    b = next((by_name[n] for n in second if n in by_name), None)
    return None if a is None or b is None else (a, b)


def _points(x: list[str], y: list[str], names: tuple[str, str], label: str) -> NDArray[Any]:
    places = np.full((len(x), 2), np.nan)
    for number, pair in enumerate(zip(x, y, strict=True), 2):
        if any(text.strip().lower() in _MISSING for text in pair):
            continue
        values = [_number(text) for text in pair]
        if None in values:
            raise UsageError(
                f"{label}: row {number}: {names[0]} {pair[0]!r} and {names[1]} {pair[1]!r} are "
                "not two numbers"
            )
        places[number - 2] = values
    points: NDArray[Any] = np.full(len(x), None, object)
    there = ~np.isnan(places[:, 0])
    points[there] = shapely.points(places[there])
    return points


def _number(text: str) -> float | None:
    text = text.strip()
    # Spreadsheets in many languages write a decimal comma.
    text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _shapes(texts: list[str], name: str, label: str) -> tuple[NDArray[Any], str | None]:
    """Geometries written as text, None where there is none, and the SRID if they have one."""
    shapes: list[Any] = []
    srids: set[str] = set()
    for number, text in enumerate(texts, 2):
        text = text.strip()
        if text.lower() in _MISSING:
            shapes.append(None)
            continue
        extended = _EWKT.fullmatch(text)
        try:
            if text.startswith("{"):
                shape = shapely.from_geojson(text)
                srids.add("4326")  # GeoJSON has no other CRS
            elif _WKB.fullmatch(text):
                shape = shapely.from_wkb(text)
                srids.update({str(shapely.get_srid(shape))} - {"0"})
            else:
                shape = shapely.from_wkt(extended[2] if extended else text)
                srids.update({extended[1]} if extended else set())
        except (shapely.errors.ShapelyError, json.JSONDecodeError):
            raise UsageError(
                f"{label}: row {number}: {name} {text[:40]!r} is not WKT, WKB or GeoJSON"
            ) from None
        shapes.append(shape)
    if len(srids) > 1:
        raise UsageError(f"{label}: {name} has several CRS (SRID {', '.join(sorted(srids))})")
    return np.array(shapes, object), next(iter(srids), None)


def _crs(
    srid: str | None, prj: str | None, grid: CRS | None, bounds: NDArray[np.float64], label: str
) -> tuple[CRS | None, str | None]:
    """CRS of coordinates, and words for the remark where it is assumed."""
    try:
        if srid is not None:
            return CRS.from_epsg(int(srid)), None
        if prj is not None:
            return CRS.from_wkt(prj), None
    except CRSError:
        raise UsageError(
            f"{label}: its CRS (SRID {srid} or a .prj file) is unknown; correct it"
        ) from None
    if grid is None:
        return None, None
    if grid.is_geographic:
        _check_degrees(bounds, "its coordinates", label)
        return grid, "degrees in the CRS of the map or scene"
    # No projected map begins within 180 m of its origin; degrees cannot be larger.
    if np.isfinite(bounds).all() and _are_degrees(bounds):
        return CRS.from_epsg(4326), "longitude and latitude in degrees (WGS 84)"
    return grid, "coordinates in the CRS of the map or scene"


def _are_degrees(bounds: NDArray[np.float64]) -> bool:
    west, south, east, north = bounds
    return bool(west >= -180 and east <= 360 and south >= -90 and north <= 90)


def _check_degrees(bounds: NDArray[np.float64], used: str, label: str) -> None:
    if np.isfinite(bounds).all() and not _are_degrees(bounds):
        raise UsageError(
            f"{label}: {used} are not degrees (they span {bounds[0]:g} {bounds[1]:g} "
            f"{bounds[2]:g} {bounds[3]:g}); call them x and y if they are in a projected "
            "map's CRS, or say which CRS they have (a .prj file, or WKT with SRID=...;)"
        )


def _values(texts: list[str]) -> list[Any]:
    """The values of a column: whole numbers if all are, else texts; None where there is none."""
    values = [None if t.strip() in _NO_CLASS else t.strip() for t in texts]
    numbers = [None if v is None else _WHOLE.fullmatch(v) for v in values]
    if all(n is not None for n, v in zip(numbers, values, strict=True) if v is not None):
        return [None if n is None else int(n[1]) for n in numbers]
    return list(values)


def prj_beside(path: str) -> str | None:
    """Content of the ``.prj`` file beside a table, which QGIS and GDAL write."""
    prj = Path(path).with_suffix(".prj")
    return prj.read_text(encoding="utf-8", errors="replace") if prj.is_file() else None
