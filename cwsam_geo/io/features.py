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

from cwsam_geo.errors import UsageError
from cwsam_geo.grid import Window
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.longitudes import box_and_turns

Value = int | str

_VECTORS = {".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".gml", ".kml", ".parquet"}
_MANY_VERTICES = 1000
_PARQUET = (".parquet", ".geoparquet")


@dataclass(frozen=True)
class Layer:
    """Which part of a vector file to read.

    Attributes:
        column: Column with class names or codes; None takes the only one.
        layer: Layer; None takes the only one.
    """

    column: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Features:
    """Geometries in pixel coordinates with their classes.

    Attributes:
        shapes: Shapely geometries in (column, row) of a grid, shape (N,).
        values: Index into ``names`` of each, shape (N,), int32.
        names: The different codes or names.
        unlabelled: Features that were left out since they have no class.
        label: The file's name.
    """

    shapes: NDArray[Any]
    values: NDArray[np.int32]
    names: tuple[Value, ...]
    unlabelled: int
    label: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of the file."""
        if not self.unlabelled:
            return ()
        return (f"{self.label}: {self.unlabelled} features without a class were left out",)

    @property
    def points(self) -> bool:
        """True when the features are points."""
        return bool(len(self.shapes)) and bool((shapely.get_dimensions(self.shapes) == 0).all())


def is_vector(path: str | os.PathLike[str]) -> bool:
    """True for a file name of a vector format."""
    return Path(path).suffix.lower() in {*_VECTORS, *_PARQUET}


def read_features(path: str | os.PathLike[str], onto: Geolocation, layer: Layer) -> Features:
    """Reads polygons or points near a grid, with their classes.

    Raises:
        UsageError: The file cannot be read or placed, has no such column, or mixes geometries.
    """
    label = str(path)
    frame = _read(path, onto, layer)
    columns = [c for c in frame.columns if c != frame.geometry.name]
    column = _column(label, columns, layer.column)
    kept = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    classed = kept[kept[column].notna()]
    names, values = _factorised(classed[column].tolist())
    shapes, origin = _plain(classed.geometry.to_numpy(), label)
    return Features(
        shapes=onto.shapes_to_pixels(shapes, _crs(frame), label),
        values=np.asarray(values, np.int32)[origin],
        names=names,
        unlabelled=len(kept) - len(classed),
        label=label,
    )


def read_area(path: str | os.PathLike[str], onto: Geolocation) -> NDArray[Any]:
    """Polygons of an area of interest, in pixel coordinates of a grid.

    Raises:
        UsageError: The file cannot be read or placed, or has no polygons.
    """
    frame = _read(path, onto, None)
    kept = frame.geometry[~(frame.geometry.isna() | frame.geometry.is_empty)]
    shapes, _ = _plain(kept.to_numpy(), str(path))
    if len(shapes) and (shapely.get_dimensions(shapes) != 2).any():
        raise UsageError(f"{path}: holds points; an area of interest is made of polygons")
    return onto.shapes_to_pixels(shapes, _crs(frame), str(path))


def _read(path: str | os.PathLike[str], onto: Geolocation, layer: Layer | None) -> Any:
    import geopandas
    import pyogrio

    if not Path(path).exists():
        raise UsageError(f"{path}: no such file; check the path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if Path(path).suffix.lower() in _PARQUET:
                return geopandas.read_parquet(path)
            chosen = _layer(str(path), dict(pyogrio.list_layers(path).tolist()), layer)
            return geopandas.read_file(path, layer=chosen, mask=_near(path, onto, chosen))
        except UsageError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())
            raise UsageError(f"{path}: cannot be read as a vector file: {why}") from None


def _near(path: str | os.PathLike[str], onto: Geolocation, layer: str) -> Any:
    """The grid's bounds in the file's CRS, with a margin: of a country's file a part is read."""
    import pyogrio

    about = pyogrio.read_info(path, layer=layer)
    crs = about["crs"]
    if crs is None or onto.crs is None:
        return None
    known = CRS.from_user_input(crs)
    onto.check_crs(known, str(path))
    west, south, east, north = onto.bounds_in(known)
    if not np.isfinite([west, south, east, north]).all():
        return None
    dx, dy = (east - west) / 50, (north - south) / 50
    bounds = west - dx, south - dy, east + dx, north + dy
    if known.is_geographic:
        return box_and_turns(bounds, about["total_bounds"])
    return shapely.box(*bounds)


def _layer(label: str, kinds: Mapping[str, str | None], asked: Layer | None) -> str:
    """The layer to read, of a file's layers with their types of geometry, None for a table."""
    # Tables beside the layers are no choice: QGIS, and vectorize, write styles so (layer_styles).
    layers = [name for name, kind in kinds.items() if kind is not None]
    wanted = asked.layer if asked else None
    if wanted is None and len(layers) == 1:
        return layers[0]
    if wanted in layers:
        return str(wanted)
    if kinds and not layers:
        raise UsageError(f"{label}: a table without geometries; give polygons or points")
    listed = ", ".join(layers) or "none"
    if wanted is None:
        advice = "choose one with --layer" if asked else "copy one to a file of its own (ogr2ogr)"
        raise UsageError(f"{label}: has {len(layers)} layers; {advice}: {listed}")
    if wanted in kinds:
        raise UsageError(f"{label}: {wanted!r} is a table without geometries; it has: {listed}")
    raise UsageError(f"{label}: has no layer {wanted!r}; it has: {listed}")


def _column(label: str, columns: list[str], wanted: str | None) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    if wanted in columns:
        return str(wanted)
    listed = ", ".join(columns) or "none"
    if wanted is None:
        raise UsageError(f"{label}: which column holds the classes? name it (--column): {listed}")
    raise UsageError(f"{label}: has no column {wanted!r}; it has: {listed}")


def _factorised(raw: list[Any]) -> tuple[tuple[Value, ...], list[int]]:
    place: dict[Value, int] = {}
    return_values = [place.setdefault(_value(item), len(place)) for item in raw]
    return tuple(place), return_values


def _value(item: Any) -> Value:
    if isinstance(item, (bool, np.bool_)):
        return int(item)
    if isinstance(item, (int, np.integer)):
        return int(item)
    if isinstance(item, (float, np.floating)) and float(item).is_integer():
        return int(item)
    return str(item).strip()


def _plain(shapes: NDArray[Any], label: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Single geometries of one kind, and which feature each comes from."""
    shapes, origin = shapely.get_parts(shapes, return_index=True)
    if (shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        shapes, inner = shapely.get_parts(shapes, return_index=True)
        origin = origin[inner]
    kinds = set(shapely.get_dimensions(shapes).tolist())
    if 1 in kinds or len(kinds) > 1:
        raise UsageError(f"{label}: holds lines or a mixture; give polygons only, or points only")
    return shapes, origin


def _crs(frame: Any) -> CRS | None:
    return None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())


def burn(shapes: NDArray[Any], values: NDArray[np.integer], window: Window) -> NDArray[np.int32]:
    """Rasterises shapes in pixel coordinates, (h, w), int32; 0 where there is none."""
    blank = np.zeros((window.height, window.width), np.int32)
    if not len(shapes):
        return blank
    # A country's outline has vertices by the million; a window needs few of them.
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
