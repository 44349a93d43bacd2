"""Writing polygons: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyogrio.raw
import pyproj
from rasterio.crs import CRS

from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.io.atomic import LEAST_ROOM, atomic_output, check_room
from cwsam_geo.io.vectors.features import GEOMETRY
from cwsam_geo.io.vectors.geojson import write_geojson
from cwsam_geo.io.vectors.style import Category, embed_style

FORMATS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".parquet": "Parquet",
    ".geoparquet": "Parquet",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
}
"""Suffix of a file to its format."""

_FAILURES = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.FieldError,
    pyogrio.errors.GeometryError,
    pa.ArrowException,
    sqlite3.Error,
)


_GROWTH = 4
"""A file takes up to this many times its features: FlatGeobuf sorts a copy, GeoPackage indexes."""


@dataclass(frozen=True)
class Layer:
    """A layer to write.

    Attributes:
        name: Its name.
        crs: Its CRS, or None.
        multi: True for multipolygons.
        classes: Gives the classes of its style, once all features are written.
        precision: Smallest difference between coordinates that counts, in units of the CRS
            (GeoJSON rounds).
    """

    name: str
    crs: CRS | None
    multi: bool
    classes: Callable[[], Sequence[Category]]
    precision: float = 0.0

    @property
    def geometry_type(self) -> str:
        """Type of its geometries, in OGC's words."""
        return "MultiPolygon" if self.multi else "Polygon"


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's suffix stands for.

    Raises:
        UsageError: An unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"{path}: unknown suffix {suffix!r}; polygons are written as {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def write_layer(
    path: str | os.PathLike[str],
    layer: Layer,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    overwrite: bool = False,
) -> None:
    """Writes features as they come, to a temporary file that is then renamed.

    Args:
        path: The file.
        layer: What the layer is.
        schema: Columns; the geometry is well-known binary.
        batches: The features.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: Unknown suffix, or see ``check_output``.
        OutputError: The file cannot be written.
        Exception: Whatever ``batches`` raises.
    """
    kind = format_of(path)
    with atomic_output(path, overwrite) as temporary:
        source = _Stream(batches)
        try:
            if kind == "Parquet":
                _write_parquet(temporary, layer, schema, source)
            elif kind == "GeoJSON":
                write_geojson(temporary, layer.name, source, layer.precision, bool(layer.crs))
            else:
                _write_ogr(temporary, kind, layer, schema, source)
        except BaseException as error:
            if source.failure is not None:
                raise source.failure from None
            if isinstance(error, _FAILURES):
                # GDAL tells of a full disk in many ways, and frees what it took before it tells.
                check_room(Path(path), max(LEAST_ROOM, _GROWTH * source.size))
                raise OutputError(f"{path}: cannot be written ({_reason(error)})") from None
            raise


class _Stream:
    """Batches whose failure is kept: on its way through GDAL an exception becomes a message.

    Attributes:
        failure: What they failed with, or None.
        size: Bytes of those that were taken.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.failure: BaseException | None = None
        self.size = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self.size += batch.nbytes
                yield batch
        except GeneratorExit:
            raise  # whoever asked for batches has failed, and asks for no more
        except BaseException as error:
            self.failure = error
            raise


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _write_ogr(path: Path, driver: str, layer: Layer, schema: pa.Schema, source: _Stream) -> None:
    is_gpkg = driver == "GPKG"
    with warnings.catch_warnings():
        # A layer without CRS is what the caller wants, and has said so.
        warnings.filterwarnings("ignore", message=".*crs.*", category=UserWarning)
        pyogrio.raw.write_arrow(
            pa.RecordBatchReader.from_batches(schema, iter(source)),
            path,
            layer=layer.name,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type=layer.geometry_type,
            crs=_crs_text(layer.crs),
            layer_options={"GEOMETRY_NAME": "geom"} if is_gpkg else {},
            # What GDAL reads without a warning since 2021.
            dataset_options={"VERSION": "1.3"} if is_gpkg else {},
        )
    if is_gpkg:
        _check_index(path, layer.name)
        embed_style(path, layer.name, "geom", layer.classes())


def _check_index(path: Path, layer: str) -> None:
    """GDAL goes on without the spatial index where the disk has no room for it."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        if database.execute(query, (f"rtree_{layer}_geom",)).fetchone() is None:
            raise sqlite3.OperationalError("its spatial index could not be made")


def _crs_text(crs: CRS | None) -> str | None:
    if not crs:
        return None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def _write_parquet(path: Path, layer: Layer, schema: pa.Schema, source: _Stream) -> None:
    """GeoParquet 1.1 with a column of bounding boxes, by which readers skip row groups."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [layer.geometry_type],
        "orientation": "counterclockwise",
        "edges": "planar",
        "crs": None,
        "covering": {"bbox": {s: ["bbox", s] for s in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if layer.crs:
        geometry["crs"] = pyproj.CRS.from_user_input(_crs_text(layer.crs)).to_json_dict()
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: geometry}}
    plain = schema.set(
        schema.get_field_index(GEOMETRY), pa.field(GEOMETRY, pa.binary())
    ).with_metadata({"geo": json.dumps(geo)})
    with pa.parquet.ParquetWriter(path, plain, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in source:
            waiting.append(batch.cast(plain) if batch.schema != plain else batch)
            if sum(b.nbytes for b in waiting) > 64 << 20:
                writer.write_table(pa.Table.from_batches(waiting, plain))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, plain))
