"""Polygons and points of vector files, in the pixel coordinates of a grid."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.counting import how_many, were
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import UsageError
from cwsam_geo.io import archives, point_table
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.longitudes import box_and_turns
from cwsam_geo.io.proj_data import crs_of

_PARQUET = (".parquet", ".geoparquet")
_BY_GDAL = (
    *(".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".gml", ".kml", ".gdb"),
    *(".sqlite", ".tab", ".mif"),
)
_VECTORS = (*_BY_GDAL, *_PARQUET, *point_table.SUFFIXES)
"""Suffixes of vector files; archives may hold any of them."""

_IDENTIFIERS = ("fid", "ogc_fid", "gml_id")
"""Columns with which drivers number the features; they hold a class only if they are named."""

_STRATA = ("stratum", "strata", "stratumid", "stratumname", "stratumcode", "strataid")
"""Names of columns, without what is no letter, that look like the strata of a sample."""

_MANY_VERTICES = 1000
"""Vertices from which on a shape is clipped to the window before it is rasterised.

Outlines of countries have millions of vertices; small shapes are not worth clipping.
"""


@dataclass(frozen=True)
class VectorLayer:
    """Which layer and columns of a vector file to read.

    Attributes:
        column: Column with class names or codes; None for the only column.
        layer: Name of the layer; None for the only layer.
        stratum: Column with the stratum of each point of a sample; None if there is none.
    """

    column: str | None = None
    layer: str | None = None
    stratum: str | None = None


@dataclass(frozen=True)
class Strata:
    """The strata of a sample of points.

    Attributes:
        column: Column that holds them.
        names: Stratum of each feature, N of them; None where the column has no value.
    """

    column: str
    names: tuple[str | None, ...]


@dataclass(frozen=True)
class Features:
    """Geometries with their classes, in pixel coordinates of a grid.

    Attributes:
        shapes: Shapely geometries in (column, row) coordinates, shape (N,).
        values: Index of each geometry's class in ``names``, shape (N,), int32.
        names: The distinct class codes or names.
        unlabelled: Number of features that were left out because they have no class.
        label: The file's name in messages.
        notes: Remarks on how the file was read.
        strata: The column of ``VectorLayer.stratum`` or, without one, a column whose name says
            that it holds strata; None without either.
    """

    shapes: NDArray[Any]
    values: NDArray[np.int32]
    names: tuple[Value, ...]
    unlabelled: int
    label: str
    notes: tuple[str, ...] = ()
    strata: Strata | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the file for the user."""
        if not self.unlabelled:
            return self.notes
        number = how_many(self.unlabelled, "feature")
        left_out = f"{number} without a class {were(self.unlabelled)} left out"
        return (*self.notes, f"{self.label}: {left_out}")

    @property
    def points(self) -> bool:
        """True if there are features and all of them are points."""
        return bool(len(self.shapes)) and bool((shapely.get_dimensions(self.shapes) == 0).all())


def is_vector(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a vector file by its suffix, or a zip archive that holds one."""
    return Path(path).suffix.lower() in _VECTORS or bool(archives.members(path, _VECTORS))


def read_features(path: str | os.PathLike[str], onto: Geolocation, layer: VectorLayer) -> Features:
    """Reads polygons or points, with their classes, from the surroundings of a grid.

    Raises:
        UsageError: The file cannot be read or placed on the grid, has no such layer or column, or
            holds other than polygons only or points only.
    """
    label = str(path)
    frame, notes = _read(path, onto, layer)
    columns = [c for c in frame.columns if c != frame.geometry.name]
    if layer.stratum is not None and layer.stratum not in columns:
        listed = ", ".join(columns) or "none"
        raise UsageError(f"{label}: has no column {layer.stratum!r}; it has: {listed}")
    column = _column(label, [c for c in columns if c != layer.stratum], layer.column)
    features = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    labelled = features[features[column].notna()]
    names, values = _factorised(labelled[column].tolist())
    shapes, origin = _plain(labelled.geometry.to_numpy(), label)
    return Features(
        shapes=onto.shapes_to_pixels(shapes, _crs(frame), label),
        values=np.asarray(values, np.int32)[origin],
        names=names,
        unlabelled=len(features) - len(labelled),
        label=label,
        notes=notes,
        strata=_strata(labelled, [c for c in columns if c != column], layer.stratum, origin),
    )


def _strata(
    frame: Any, columns: list[str], requested: str | None, origin: NDArray[np.int64]
) -> Strata | None:
    """The strata of features whose geometries come from the rows ``origin``."""
    likely = [c for c in columns if "".join(filter(str.isalpha, c.casefold())) in _STRATA]
    column = requested or next(iter(likely), None)
    if column is None:
        return None
    missing = frame[column].isna()
    names = [
        None if gone else str(_value(v)) for v, gone in zip(frame[column], missing, strict=True)
    ]
    return Strata(column, tuple(names[row] for row in origin.tolist()))


def read_area(path: str | os.PathLike[str], onto: Geolocation) -> NDArray[Any]:
    """Reads the polygons of an area of interest, in pixel coordinates of a grid.

    Raises:
        UsageError: The file cannot be read or placed on the grid, or holds other than polygons.
    """
    frame, _ = _read(path, onto, None)
    geometries = frame.geometry[~(frame.geometry.isna() | frame.geometry.is_empty)]
    shapes, _ = _plain(geometries.to_numpy(), str(path))
    if len(shapes) and (shapely.get_dimensions(shapes) != 2).any():
        raise UsageError(f"{path}: holds points; an area of interest is made of polygons")
    return onto.shapes_to_pixels(shapes, _crs(frame), str(path))


def _read(
    path: str | os.PathLike[str], onto: Geolocation, layer: VectorLayer | None
) -> tuple[Any, tuple[str, ...]]:
    """The features near a grid as a GeoDataFrame, and remarks on how they were read."""
    import geopandas
    import pyogrio

    file, suffix = str(path), Path(path).suffix.lower()
    if not (Path(path).exists() or file.startswith("/vsi")):
        raise UsageError(f"{path}: no such file; check the path")
    member = None
    if suffix in archives.SUFFIXES:
        member = archives.only_member(path, _VECTORS, layer.layer if layer else None)
        file, suffix = member.gdal_path, member.suffix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if suffix in point_table.SUFFIXES:
                return _table(path, member, onto)
            if suffix in _PARQUET:
                content = BytesIO(member.read()) if member else path
                return geopandas.read_parquet(content), ()
            kinds = dict(pyogrio.list_layers(file).tolist())
            choice = layer
            if member and layer and layer.layer == member.stem and len(kinds) == 1:
                choice = replace(layer, layer=None)  # the name has chosen the file already
            name = _layer(str(path), kinds, choice)
            return geopandas.read_file(file, layer=name, mask=_near(file, onto, name)), ()
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{path}: {_why(error)}") from None


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    wrong = "cannot be read as a vector file: "
    if "SHAPE_RESTORE_SHX" in text:
        return f"{wrong}its .shx file is missing; a shapefile is .shp, .shx, .dbf and .prj together"
    if "not recognized as being in a supported file format" in text:
        return (
            "is not a vector file that GDAL can read; give a GeoPackage, GeoJSON, shapefile or "
            "another vector file"
        )
    # Without GDAL's advice for programmers.
    return wrong + text.split("; It might help")[0]


def _table(
    path: str | os.PathLike[str], member: archives.Member | None, onto: Geolocation
) -> tuple[Any, tuple[str, ...]]:
    import geopandas

    data = member.read() if member else Path(path).read_bytes()
    prj = None if member else point_table.prj_beside(str(path))
    table = point_table.read_table(data, str(path), onto.crs, prj)
    crs = None if table.crs is None else table.crs.to_wkt()
    frame = geopandas.GeoDataFrame(
        {name: np.array(values, object) for name, values in table.columns.items()},
        geometry=table.shapes,
        crs=crs,
    )
    return frame, table.remarks


def _near(path: str, onto: Geolocation, layer: str) -> Any:
    """The grid's bounds in the file's CRS plus a margin of 2 %, or None to read the whole file.

    With this mask only the needed part of a country-wide file is read.
    """
    import pyogrio

    info = pyogrio.read_info(path, layer=layer)
    if info["crs"] is None or onto.crs is None:
        return None
    crs = crs_of(info["crs"])
    onto.check_crs(crs, path)
    west, south, east, north = onto.bounds_in(crs)
    if not np.isfinite([west, south, east, north]).all():
        return None
    dx, dy = (east - west) / 50, (north - south) / 50
    bounds = west - dx, south - dy, east + dx, north + dy
    if crs.is_geographic:
        return box_and_turns(bounds, info["total_bounds"])
    return shapely.box(*bounds)


def _layer(label: str, kinds: Mapping[str, str | None], selection: VectorLayer | None) -> str:
    """Name of the layer to read.

    Args:
        label: The file's name in messages.
        kinds: Geometry type by layer name; None for a table without geometries.
        selection: The user's choice, or None where the command has no option for it.
    """
    # Tables without geometries do not count: QGIS and our vectorize write styles into one
    # (layer_styles).
    layers = [name for name, kind in kinds.items() if kind is not None]
    requested = selection.layer if selection else None
    if requested is None and len(layers) == 1:
        return layers[0]
    if requested in layers:
        return str(requested)
    if kinds and not layers:
        raise UsageError(f"{label}: a table without geometries; give polygons or points")
    listed = ", ".join(layers) or "none"
    if requested is None:
        advice = (
            "choose one with --layer" if selection else "copy one to a file of its own (ogr2ogr)"
        )
        raise UsageError(f"{label}: has {len(layers)} layers; {advice}: {listed}")
    if requested in kinds:
        raise UsageError(f"{label}: {requested!r} is a table without geometries; it has: {listed}")
    raise UsageError(f"{label}: has no layer {requested!r}; it has: {listed}")


def _column(label: str, columns: list[str], requested: str | None) -> str:
    candidates = [c for c in columns if c.casefold() not in _IDENTIFIERS]
    if requested is None and len(candidates) == 1:
        return candidates[0]
    if requested in columns:
        return str(requested)
    listed = ", ".join(columns) or "none"
    if requested is None:
        raise UsageError(f"{label}: which column holds the classes? name it (--column): {listed}")
    raise UsageError(f"{label}: has no column {requested!r}; it has: {listed}")


def _factorised(raw: list[Any]) -> tuple[tuple[Value, ...], list[int]]:
    index: dict[Value, int] = {}  # in order of first occurrence
    values = [index.setdefault(_value(item), len(index)) for item in raw]
    return tuple(index), values


def _value(item: Any) -> Value:
    # A column of integers with gaps is read as floats.
    if isinstance(item, (bool, np.bool_)):
        return int(item)
    if isinstance(item, (int, np.integer)):
        return int(item)
    if isinstance(item, (float, np.floating)) and float(item).is_integer():
        return int(item)
    return str(item).strip()


def _plain(shapes: NDArray[Any], label: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Single-part geometries, and the index of the feature that each is a part of."""
    shapes, origin = shapely.get_parts(shapes, return_index=True)
    # A collection may hold multi-part geometries, so a second pass splits these.
    if (shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        shapes, inner = shapely.get_parts(shapes, return_index=True)
        origin = origin[inner]
    dimensions = set(shapely.get_dimensions(shapes).tolist())  # 0 points, 1 lines, 2 polygons
    if 1 in dimensions or len(dimensions) > 1:
        raise UsageError(f"{label}: holds lines or a mixture; give polygons only, or points only")
    return shapes, origin


def _crs(frame: Any) -> CRS | None:
    return None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())


def burn(shapes: NDArray[Any], values: NDArray[np.integer], window: Window) -> NDArray[np.int32]:
    """Rasterises shapes in pixel coordinates; (h, w) int32, 0 where there is no shape.

    Where shapes overlap, the last one counts.
    """
    blank = np.zeros((window.height, window.width), np.int32)
    if not len(shapes):
        return blank
    # The outline of a country may have millions of vertices, few of them near the window.
    many = shapely.get_num_coordinates(shapes) > _MANY_VERTICES
    if many.any():
        large = shapely.make_valid(shapes[many])
        around = window.col - 2, window.row - 2, window.right + 2, window.bottom + 2
        shapes = shapes.copy()
        shapes[many] = shapely.clip_by_rect(large, *around)
    pairs = [(shape, int(v)) for shape, v in zip(shapes, values, strict=True) if not shape.is_empty]
    if not pairs:
        return blank
    burned: NDArray[np.int32] = rasterio.features.rasterize(
        pairs,
        out=blank,
        transform=Affine.translation(window.col, window.row),
    )
    return burned
