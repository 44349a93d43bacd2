"""Polygons as rows of a table: well-known binary, areas and attributes."""

from __future__ import annotations

import itertools
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cwsam_geo.errors import OutputError
from cwsam_geo.vectorization.coverage.polygons import Polygons
from cwsam_geo.vectorization.placement import Placement

GEOMETRY = "geometry"
"""Name of the geometry column."""

# Geometry types in well-known binary
_POLYGON, _MULTIPOLYGON = 3, 6

# Most bytes of one geometry: Arrow's binary arrays have signed 32-bit offsets.
_LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class Table:
    """Columns of the output.

    Attributes:
        class_of: Returns the raster's value and the class name of a code.
        placement: Transforms pixel corners to map coordinates.
        multi: Features are multipolygons.
        confidence: There is a column ``mean_confidence``.
        boxes: There is a column ``bbox`` (GeoParquet).
        wide: ``class_id`` has 64 bits instead of 32.
    """

    class_of: Callable[[int], tuple[int, str]]
    placement: Placement
    multi: bool = False
    confidence: bool = False
    boxes: bool = False
    wide: bool = False

    @property
    def area_column(self) -> str:
        """``area_m2``; ``area`` where the raster has no CRS, so that its units are not metres."""
        return "area_m2" if self.placement.area_unit else "area"

    @property
    def schema(self) -> pa.Schema:
        """Columns of the output."""
        columns = [
            ("class_id", pa.int64() if self.wide else pa.int32()),
            ("class_name", pa.string()),
            (self.area_column, pa.float64()),
        ]
        if self.confidence:
            columns.append(("mean_confidence", pa.float64()))
        if self.boxes:
            sides = [(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")]
            columns.append(("bbox", pa.struct(sides)))
        fields = [pa.field(name, kind) for name, kind in columns]
        wkb = {"ARROW:extension:name": "geoarrow.wkb"}
        return pa.schema([*fields, pa.field(GEOMETRY, pa.binary(), metadata=wkb)])

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """Rows as an Arrow record batch with ``schema``."""
        classes = [self.class_of(int(code)) for code in rows.codes]
        columns: dict[str, Any] = {
            "class_id": [value for value, _ in classes],
            "class_name": [name for _, name in classes],
            self.area_column: rows.areas,
        }
        if self.confidence:
            # 0 / 0 where a feature has no confidence; the mask makes it null.
            with np.errstate(invalid="ignore"):
                mean = rows.sums / rows.counts
            columns["mean_confidence"] = pa.array(mean, mask=rows.counts == 0)
        if self.boxes:
            names = ["xmin", "ymin", "xmax", "ymax"]
            columns["bbox"] = pa.StructArray.from_arrays(
                [pa.array(side) for side in rows.boxes.T], names=names
            )
        columns[GEOMETRY] = rows.geometry
        schema = self.schema
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, schema.field(name).type)
            for name, value in columns.items()
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class Rows:
    """Features ready to be written.

    Attributes:
        codes: Code of each feature, shape (F,).
        areas: Area of each feature, shape (F,); see ``Placement.area_unit``.
        sums: Sum of the confidence over each feature's pixels, shape (F,).
        counts: Number of each feature's pixels that have a confidence, shape (F,).
        boxes: West, south, east and north in the output's CRS, shape (F, 4).
        geometry: Well-known binary, an Arrow binary array of length F.
    """

    codes: NDArray[np.int64]
    areas: NDArray[np.float64]
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    boxes: NDArray[np.float64]
    geometry: pa.Array


def rows_of(found: Polygons, table: Table) -> Iterator[Rows]:
    """Features in map coordinates, in parts of about four million vertices at most."""
    points_before = found.rings.offsets[found.polygons[found.features]]
    start = 0
    while start < len(found.codes):
        bound = points_before[start] + (1 << 22)
        stop = max(start + 1, int(np.searchsorted(points_before, bound, "right")) - 1)
        yield _rows(found, table, start, stop)
        start = stop


def _rows(completed: Polygons, table: Table, start: int, stop: int) -> Rows:
    features = completed.features[start : stop + 1]
    polygons = completed.polygons[features[0] : features[-1] + 1]
    # Slice the features' polygons, rings and vertices; then make all offsets start at 0.
    rings = completed.rings.offsets[polygons[0] : polygons[-1] + 1]
    vertices = completed.rings.points[rings[0] : rings[-1]].astype(np.float64)
    features, polygons, rings = features - features[0], polygons - polygons[0], rings - rings[0]
    cols, rows = vertices[:, 0].copy(), vertices[:, 1].copy()
    # Outer rings, the first of each polygon, add to the area; holes subtract.
    signed = table.placement.ring_areas(cols, rows, rings)
    outer = np.zeros(len(signed), np.bool_)
    outer[polygons[:-1]] = True
    areas = np.where(outer, np.abs(signed), -np.abs(signed))
    # Coordinates in the output's CRS, shape (N, 2)
    first_ring = polygons[features]
    points = table.placement.on_map(*table.placement.in_own_crs(cols, rows))
    first_vertex = rings[first_ring[:-1]]
    boxes = np.hstack(
        [np.minimum.reduceat(points, first_vertex), np.maximum.reduceat(points, first_vertex)]
    )
    polygon_wkb = _polygons(points, rings, polygons)
    return Rows(
        completed.codes[start:stop],
        np.add.reduceat(areas, first_ring[:-1]),
        completed.sums[start:stop],
        completed.counts[start:stop],
        boxes,
        _binary(_multi(polygon_wkb, features) if table.multi else polygon_wkb),
    )


def _polygons(
    points: NDArray[np.float64], rings: NDArray[np.int64], polygons: NDArray[np.int64]
) -> list[bytes]:
    """Well-known binary of each polygon.

    The bytes are put together here rather than by a geometry library, which would hold several
    copies: the largest polygon can have a good part of a scene's vertices.
    """
    data = np.ascontiguousarray(points, "<f8").data.cast("B")
    ends = (rings * 16).tolist()  # a vertex is two float64
    heads = [struct.pack("<I", n) for n in np.diff(rings).tolist()]
    bounds = polygons.tolist()
    result = []
    for first, last in itertools.pairwise(bounds):
        parts: list[Any] = [struct.pack("<BII", 1, _POLYGON, last - first)]
        for ring in range(first, last):
            parts += heads[ring], data[ends[ring] : ends[ring + 1]]
        result.append(b"".join(parts))
    return result


def _multi(polygons: list[bytes], features: NDArray[np.int64]) -> list[bytes]:
    bounds = features.tolist()
    return [
        struct.pack("<BII", 1, _MULTIPOLYGON, last - first) + b"".join(polygons[first:last])
        for first, last in itertools.pairwise(bounds)
    ]


def _binary(values: list[bytes]) -> pa.Array:
    return pa.array(values, pa.binary())


def dissolved(found: Iterable[Polygons], table: Table) -> Iterator[Rows]:
    """Merges the features of each class to one multipolygon.

    Polygons wait in a temporary file for each class until the whole raster has been read.

    Raises:
        OutputError: A class is too large for one geometry.
    """
    classes: dict[int, _Class] = {}
    for completed in found:
        for rows in rows_of(completed, table):
            for i, code in enumerate(rows.codes.tolist()):
                if code not in classes:
                    classes[code] = _Class()
                classes[code].add(rows, i)
    for code in sorted(classes):
        yield classes.pop(code).rows(code, table.class_of(code)[1])


class _Class:
    """Collects the polygons of one class in a temporary file."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed in rows()
        self._polygons = 0
        self._numbers = np.zeros(3)
        self._box = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, rows: Rows, i: int) -> None:
        geometry = rows.geometry[i].as_py()
        # A multipolygon is a header of 9 bytes, which ends with the number of polygons, and the
        # polygons themselves.
        self._polygons += struct.unpack_from("<I", geometry, 5)[0]
        self._file.write(memoryview(geometry)[9:])
        self._numbers += rows.areas[i], rows.sums[i], rows.counts[i]
        box = rows.boxes[i]
        self._box[:2] = np.minimum(self._box[:2], box[:2])
        self._box[2:] = np.maximum(self._box[2:], box[2:])

    def rows(self, code: int, name: str) -> Rows:
        with self._file as file:
            size = file.tell()
            if size + 9 > _LARGEST:
                raise OutputError(
                    f"class {name!r}: its {self._polygons} polygons take {size / 1e9:.1f} GB, more "
                    "than one geometry can hold; leave out --dissolve, or use --min-area or "
                    "--simplify"
                )
            file.seek(0)
            geometry = struct.pack("<BII", 1, _MULTIPOLYGON, self._polygons) + file.read()
        area, total, count = self._numbers
        return Rows(
            np.array([code]),
            np.array([area]),
            np.array([total]),
            np.array([count]),
            self._box[None],
            _binary([geometry]),
        )
