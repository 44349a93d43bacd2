"""Polygons and points of vector files, in the pixel coordinates of a grid."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import UsageError
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.longitudes import box_and_turns

_VECTORS = {".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".gml", ".kml", ".parquet"}
_PARQUET = (".parquet", ".geoparquet")

_MANY_VERTICES = 1000
"""Vertices from which on a shape is clipped to the window before it is rasterised.

Outlines of countries have millions of vertices; small shapes are not worth clipping.
"""


@dataclass(frozen=True)
class VectorLayer:
    """Which layer and column of a vector file to read.

    Attributes:
        column: Column with class names or codes; None for the only column.
        layer: Name of the layer; None for the only layer.
    """

    column: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Features:
    """Geometries with their classes, in pixel coordinates of a grid.

    Attributes:
        shapes: Shapely geometries in (column, row) coordinates, shape (N,).
        values: Index of each geometry's class in ``names``, shape (N,), int32.
        names: The distinct class codes or names.
        unlabelled: Number of features that were left out because they have no class.
        label: The file's name in messages.
    """

    shapes: NDArray[Any]
    values: NDArray[np.int32]
    names: tuple[Value, ...]
    unlabelled: int
    label: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the file for the user."""
        if not self.unlabelled:
            return ()
        return (f"{self.label}: {self.unlabelled} features without a class were left out",)

    @property
    def points(self) -> bool:
        """True if there are features and all of them are points."""
        return bool(len(self.shapes)) and bool((shapely.get_dimensions(self.shapes) == 0).all())


def is_vector(path: str | os.PathLike[str]) -> bool:
    """Whether a file name has the suffix of a vector format."""
    return Path(path).suffix.lower() in {*_VECTORS, *_PARQUET}


def read_features(path: str | os.PathLike[str], onto: Geolocation, layer: VectorLayer) -> Features:
    """Reads polygons or points, with their classes, from the surroundings of a grid.

    Raises:
        UsageError: The file cannot be read or placed on the grid, has no such layer or column, or
            holds other than polygons only or points only.
    """
    label = str(path)
    frame = _read(path, onto, layer)
    columns = [c for c in frame.columns if c != frame.geometry.name]
    column = _column(label, columns, layer.column)
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
    )


def read_area(path: str | os.PathLike[str], onto: Geolocation) -> NDArray[Any]:
    """Reads the polygons of an area of interest, in pixel coordinates of a grid.

    Raises:
        UsageError: The file cannot be read or placed on the grid, or holds other than polygons.
    """
    frame = _read(path, onto, None)
    geometries = frame.geometry[~(frame.geometry.isna() | frame.geometry.is_empty)]
    shapes, _ = _plain(geometries.to_numpy(), str(path))
    if len(shapes) and (shapely.get_dimensions(shapes) != 2).any():
        raise UsageError(f"{path}: holds points; an area of interest is made of polygons")
    return onto.shapes_to_pixels(shapes, _crs(frame), str(path))


def _read(path: str | os.PathLike[str], onto: Geolocation, layer: VectorLayer | None) -> Any:
    import geopandas
    import pyogrio

    if not Path(path).exists():
        raise UsageError(f"{path}: no such file; check the path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if Path(path).suffix.lower() in _PARQUET:
                return geopandas.read_parquet(path)
            name = _layer(str(path), dict(pyogrio.list_layers(path).tolist()), layer)
            return geopandas.read_file(path, layer=name, mask=_near(path, onto, name))
        except UsageError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())
            raise UsageError(f"{path}: cannot be read as a vector file: {why}") from None


def _near(path: str | os.PathLike[str], onto: Geolocation, layer: str) -> Any:
    """The grid's bounds in the file's CRS plus a margin of 2 %, or None to read the whole file.

    With this mask only the needed part of a country-wide file is read.
    """
    import pyogrio

    info = pyogrio.read_info(path, layer=layer)
    if info["crs"] is None or onto.crs is None:
        return None
    crs = CRS.from_user_input(info["crs"])
    onto.check_crs(crs, str(path))
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
    if requested is None and len(columns) == 1:
        return columns[0]
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
