"""GeoJSON (RFC 7946), written as text: GDAL's writer takes ten times as long."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from cwsam_geo.vectorization.table import GEOMETRY

# Vertices that are formatted at once: bounds the memory of their text.
_AT_ONCE = 1 << 18


def write_geojson(
    path: str | os.PathLike[str],
    name: str,
    batches: Iterable[pa.RecordBatch],
    precision: float,
    longitudes: bool,
) -> None:
    """Writes a feature collection.

    Args:
        path: The file to write.
        batches: Features whose outer rings run counterclockwise.
        precision: Side of a pixel, in units of the coordinates.
        longitudes: Coordinates are longitudes and latitudes. They get the decimals that
            ``precision`` needs, and features across the antimeridian are cut there.
    """
    digits = _digits(precision) if longitudes else 6
    with open(path, "w", encoding="utf-8") as file:
        head = json.dumps({"type": "FeatureCollection", "name": name}, ensure_ascii=False)
        file.write(head[:-1] + ', "features": [')
        separator = "\n"
        for batch in batches:
            columns = [n for n in batch.schema.names if n != GEOMETRY]
            shapes = shapely.from_wkb(np.asarray(batch.column(GEOMETRY).to_pylist(), object))
            if longitudes:
                shapes = cut_at_date_line(shapes)
            attributes = batch.select(columns).to_pylist()
            for properties, geometry in zip(attributes, _texts(shapes, digits), strict=True):
                text = json.dumps(properties, ensure_ascii=False)
                file.write(f'{separator}{{"type": "Feature", "properties": {text}, ')
                file.write(f'"geometry": {geometry}}}')
                separator = ",\n"
        file.write("\n]}\n")


def _digits(precision: float) -> int:
    """Decimals of a degree: 7 (about a centimetre), or more where pixels are tiny."""
    if not (math.isfinite(precision) and precision > 0):
        return 7
    return min(12, max(7, math.ceil(-math.log10(precision)) + 2))


def _texts(shapes: NDArray[Any], digits: int) -> list[str]:
    """Each geometry as GeoJSON, formatted in parts of bounded size."""
    texts: list[str] = []
    sizes = np.cumsum(shapely.get_num_coordinates(shapes))
    start = 0
    while start < len(shapes):
        bound = (sizes[start - 1] if start else 0) + _AT_ONCE
        stop = max(start + 1, int(np.searchsorted(sizes, bound, "right")))
        texts += _some_texts(shapes[start:stop], digits)
        start = stop
    return texts


def _some_texts(shapes: NDArray[Any], digits: int) -> list[str]:
    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points = shapely.get_coordinates(rings)
    # One format string for all vertices is much faster than one for each.
    numbers = (f"[%.{digits}f,%.{digits}f] " * len(points)) % tuple(points.ravel().tolist())
    pairs = numbers.split(" ")
    ends = np.concatenate([[0], np.cumsum(shapely.get_num_coordinates(rings))]).tolist()
    # Brackets around the vertices of each ring, the rings of each part, the parts of each shape
    ring_texts = ["[" + ",".join(pairs[a:b]) + "]" for a, b in itertools.pairwise(ends)]
    part_texts = _bracketed(ring_texts, of_part, len(parts))
    shape_texts = _bracketed(part_texts, of_shape, len(shapes))
    multi = shapely.get_type_id(shapes) == shapely.GeometryType.MULTIPOLYGON
    return [
        f'{{"type": "MultiPolygon", "coordinates": {text}}}'
        if many
        else f'{{"type": "Polygon", "coordinates": {text[1:-1]}}}'
        for text, many in zip(shape_texts, multi.tolist(), strict=True)
    ]


def _bracketed(texts: list[str], owner: NDArray[Any], count: int) -> list[str]:
    ends = np.searchsorted(owner, np.arange(count + 1)).tolist()
    return ["[" + ",".join(texts[a:b]) + "]" for a, b in itertools.pairwise(ends)]


def cut_at_date_line(shapes: NDArray[Any]) -> NDArray[Any]:
    """Cuts shapes that pass 180 degrees of longitude to parts (RFC 7946, section 3.1.9)."""
    west, _, east, _ = shapely.bounds(shapes).T
    crossing = np.flatnonzero((west < -180) | (east > 180))
    if len(crossing) == 0:
        return shapes
    shapes = shapes.copy()
    for i in crossing:
        pieces = []
        for turn in (-1, 0, 1):
            piece = shapely.intersection(
                shapes[i], shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
            )
            moved = shapely.transform(piece, lambda p, turn=turn: p - [360 * turn, 0])
            pieces += [p for p in shapely.get_parts(moved) if p.geom_type == "Polygon"]
        shapes[i] = pieces[0] if len(pieces) == 1 else shapely.multipolygons(pieces)
    return np.asarray(shapely.orient_polygons(shapes))
