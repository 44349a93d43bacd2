"""Writing polygons: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, shapefile, KML."""

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

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyogrio.raw
import pyproj
import shapely
from rasterio.crs import CRS

from cwsam_geo.atomic import LEAST_ROOM, atomic_output, check_output, check_room
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.vectorization.geojson import cut_at_date_line, write_geojson
from cwsam_geo.vectorization.shapefile import check_parts, move_parts, shortened
from cwsam_geo.vectorization.style import Category, embed_style
from cwsam_geo.vectorization.table import GEOMETRY

FORMATS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".parquet": "Parquet",
    ".geoparquet": "Parquet",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".shp": "ESRI Shapefile",
    ".kml": "KML",
}
"""Format of an output by the suffix of its file."""

# Exceptions of the writers which mean that the file could not be written
_FAILURES = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.FieldError,
    pyogrio.errors.GeometryError,
    pa.ArrowException,
    sqlite3.Error,
)

_KML_NAME = "Name"
"""Column that becomes the names of the features in KML. GDAL writes it nowhere else, so that the
class name also stays a column of its own."""

_LAYER_OPTIONS = {
    "GPKG": {"GEOMETRY_NAME": "geom"},
    "ESRI Shapefile": {"ENCODING": "UTF-8"},
}
"""GDAL's layer creation options by driver."""

_DATASET_OPTIONS = {
    "GPKG": {"VERSION": "1.3"},  # GDAL has read this version without a warning since 2021
    "KML": {"NameField": _KML_NAME},
}
"""GDAL's dataset creation options by driver."""

# Disk space that writing takes, in times the features' bytes: FlatGeobuf sorts a copy, and
# GeoPackage adds a spatial index.
_GROWTH = 4


@dataclass(frozen=True)
class OutputLayer:
    """A layer to write.

    Attributes:
        crs: CRS of the coordinates; None where it is unknown.
        multi: Geometries are multipolygons.
        classes: Returns the classes of the QGIS style; called after all features are written.
        precision: Side of a pixel in units of the CRS, for GeoJSON: coordinates are rounded to
            a small part of it.
    """

    name: str
    crs: CRS | None
    multi: bool
    classes: Callable[[], Sequence[Category]]
    precision: float = 0.0

    @property
    def geometry_type(self) -> str:
        """OGC's name for the type of the geometries."""
        return "MultiPolygon" if self.multi else "Polygon"


def format_of(path: str | os.PathLike[str]) -> str:
    """Format of an output, from the suffix of its file.

    Raises:
        UsageError: The suffix is unknown.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"{path}: unknown suffix {suffix!r}; polygons are written as {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def check_vectors(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Checks, before hours of work, that polygons can be written to ``path``.

    Raises:
        UsageError: The suffix is unknown, the file or a part of it exists and ``overwrite`` is
            False, or ``check_output`` refuses the path.
        OutputError: The folder does not exist or is not writable.
    """
    if format_of(path) == "ESRI Shapefile":
        check_parts(path, overwrite)
    return check_output(path, overwrite)


def write_layer(
    path: str | os.PathLike[str],
    layer: OutputLayer,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    overwrite: bool = False,
) -> None:
    """Writes batches of features to a temporary file, then renames it.

    Args:
        path: The output; its suffix decides the format.
        schema: Columns of the batches; the geometry is well-known binary.
        overwrite: Replace an existing file.

    Raises:
        UsageError: The suffix is unknown, or ``check_output`` refuses the path.
        OutputError: The file cannot be written.
        Exception: Whatever ``batches`` raises.
    """
    kind = format_of(path)
    check_vectors(path, overwrite)
    with atomic_output(path, overwrite) as temporary:
        source = _Stream(batches)
        try:
            if kind == "Parquet":
                _write_parquet(temporary, layer, schema, source)
            elif kind == "GeoJSON":
                write_geojson(temporary, layer.name, source, layer.precision, bool(layer.crs))
            else:
                _write_ogr(temporary, kind, layer, schema, source)
                if kind == "ESRI Shapefile":
                    move_parts(temporary, Path(path), overwrite)
        except BaseException as error:
            if source.failure is not None:
                raise source.failure from None
            if isinstance(error, _FAILURES):
                # GDAL reports a full disk in many ways, and after it has freed the space again.
                # Whether the file would have fitted is therefore judged by its estimated size.
                check_room(Path(path), max(LEAST_ROOM, _GROWTH * source.size))
                raise OutputError(f"{path}: cannot be written ({_reason(error)})") from None
            raise


class _Stream:
    """Iterates over batches and keeps the exception that they raise.

    GDAL turns an exception that passes through it into a mere message.

    Attributes:
        failure: The exception, or None.
        size: Bytes of the batches so far.
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
            raise  # the writer has failed and closed this iterator; the batches are fine
        except BaseException as error:
            self.failure = error
            raise


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _write_ogr(
    path: Path, driver: str, layer: OutputLayer, schema: pa.Schema, source: _Stream
) -> None:
    is_gpkg = driver == "GPKG"
    batches = iter(source)
    if driver == "ESRI Shapefile":
        schema = shortened(schema)
        batches = (pa.RecordBatch.from_arrays(b.columns, schema=schema) for b in batches)
    if driver == "KML":
        schema = _named(schema)
        batches = (_for_kml(batch, schema) for batch in batches)
    with warnings.catch_warnings():
        # The caller has already warned of a missing CRS.
        warnings.filterwarnings("ignore", message=".*crs.*", category=UserWarning)
        pyogrio.raw.write_arrow(
            pa.RecordBatchReader.from_batches(schema, batches),
            path,
            layer=layer.name,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type=layer.geometry_type,
            crs=_crs_text(layer.crs),
            layer_options=_LAYER_OPTIONS.get(driver, {}),
            dataset_options=_DATASET_OPTIONS.get(driver, {}),
        )
    if is_gpkg:
        _check_index(path, layer.name)
        embed_style(path, layer.name, "geom", layer.classes())


def _named(schema: pa.Schema) -> pa.Schema:
    """The columns, and one with the names that programs show."""
    return schema.insert(0, pa.field(_KML_NAME, pa.string()))


def _for_kml(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with names, and with features cut where they pass 180 degrees of longitude.

    Args:
        schema: Columns of the result, from ``_named``.
    """
    place = batch.schema.get_field_index(GEOMETRY)
    shapes = shapely.from_wkb(np.asarray(batch.column(place).to_pylist(), object))
    binary = pa.array(shapely.to_wkb(cut_at_date_line(shapes)).tolist(), pa.binary())
    columns = [*batch.columns[:place], binary, *batch.columns[place + 1 :]]
    names = batch.column(batch.schema.get_field_index("class_name"))
    return pa.RecordBatch.from_arrays([names, *columns], schema=schema)


def _check_index(path: Path, layer: str) -> None:
    """Raises if there is no spatial index: on a full disk GDAL goes on without one."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        if database.execute(query, (f"rtree_{layer}_geom",)).fetchone() is None:
            raise sqlite3.OperationalError("its spatial index could not be created")


def _crs_text(crs: CRS | None) -> str | None:
    if not crs:
        return None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def _write_parquet(path: Path, layer: OutputLayer, schema: pa.Schema, source: _Stream) -> None:
    """Writes GeoParquet 1.1; readers use its column of bounding boxes to skip row groups."""
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
    # GeoParquet describes the geometry in "geo", not by GeoArrow's extension type.
    plain = schema.set(
        schema.get_field_index(GEOMETRY), pa.field(GEOMETRY, pa.binary())
    ).with_metadata({"geo": json.dumps(geo)})
    with pa.parquet.ParquetWriter(path, plain, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in source:
            waiting.append(batch.cast(plain) if batch.schema != plain else batch)
            if sum(b.nbytes for b in waiting) > 64 << 20:  # row groups of about 64 MiB
                writer.write_table(pa.Table.from_batches(waiting, plain))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, plain))
