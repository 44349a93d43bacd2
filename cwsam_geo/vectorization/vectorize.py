"""Turns a class raster into polygons: the function behind ``cwsam-geo vectorize``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cwsam_geo.atomic import check_apart
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import UsageError
from cwsam_geo.io.confidence import ConfidenceRaster
from cwsam_geo.io.geolocation import Geolocation, crs_name
from cwsam_geo.vectorization.coverage.polygons import Drawing, Polygons, polygons
from cwsam_geo.vectorization.coverage.sieve import REGION_BYTES, SievedStrips
from cwsam_geo.vectorization.coverage.strip import ChosenStrips, CodeStrips
from cwsam_geo.vectorization.formats import OutputLayer, check_vectors, format_of, write_layer
from cwsam_geo.vectorization.options import ClassTotal, PathLike, VectorizeOptions, VectorizeResult
from cwsam_geo.vectorization.placement import Placement, target_crs
from cwsam_geo.vectorization.shapefile import SHORT_NAMES
from cwsam_geo.vectorization.strips import ClassSource
from cwsam_geo.vectorization.table import Rows, Table, dissolved, rows_of

Event = Mapping[str, Any]

# Polygons from which on the user is warned: they take long to write and to open.
_MANY = 2_000_000

# Least area of a pixel, and largest triangle in square pixels: their quotient stays finite, and
# the simplification can hold it as an integer.
_TINY, _HUGE = 1e-30, 1e12

# Regions from which on the user is warned of the sieve's memory (2.4 GB at 160 bytes each).
_MANY_TO_SIEVE = 15_000_000

__all__ = ["ClassTotal", "VectorizeOptions", "VectorizeResult", "vectorize"]


def vectorize(
    raster: PathLike,
    output: PathLike,
    options: VectorizeOptions | None = None,
    on_event: Listener = lambda event: None,
) -> VectorizeResult:
    """Writes the regions of a class raster as polygons that fit together.

    The polygons form a coverage: neighbours share their vertices, without gaps or overlaps, also
    after simplification or smoothing. The raster is read in strips, so memory does not grow with
    its height.

    Args:
        raster: Raster with a band of class codes: whole numbers of any type. Pixels without data
            belong to no polygon. Names and colours come from its ``LEGEND`` tag, from GDAL's or
            ESRI's attribute table, from GDAL's category names, or from its palette.
        output: ``*.gpkg`` (with a QGIS style), ``*.fgb``, ``*.parquet``, ``*.geojson``, ``*.shp``
            or ``*.kml``.
        options: Filters, simplification, CRS and columns of the output.
        on_event: Called with mappings whose ``event`` is ``warning``, ``start``, ``progress`` or
            ``done``.

    Raises:
        CwsamGeoError: A file or an option is wrong. The message is one line that says what to do.
    """
    start = time.monotonic()
    options = options or VectorizeOptions()
    kind = format_of(output)
    _check_paths(raster, output, options)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(ClassSource(raster, options.band)))
        job = VectorizeRun(source, options, kind, Path(output), on_event)
        if options.confidence is not None:
            job.confidence = stack.enter_context(
                contextlib.closing(ConfidenceRaster(options.confidence, source.grid, source.label))
            )
        job.run()
        result = job.result(time.monotonic() - start)
    on_event(_done_event(result))
    return result


def check_placeable(location: Geolocation, output: PathLike) -> None:
    """Checks, before a raster is made, that its polygons can be written in the output's format.

    Args:
        location: Georeferencing of the raster.
        output: Vector file to write.

    Raises:
        UsageError: The format is unknown, or needs coordinates that the raster does not have
            (GeoJSON needs longitudes and latitudes).
    """
    # The constructor raises where the coordinates cannot be transformed.
    Placement(location, target_crs(location, VectorizeOptions(), format_of(output)))


def _check_paths(raster: PathLike, output: PathLike, options: VectorizeOptions) -> None:
    check_vectors(output, options.overwrite)
    if format_of(output) == "ESRI Shapefile" and options.layer is not None:
        raise UsageError(
            f"{output}: the layer of a shapefile has the name of its file; leave out --layer"
        )
    inputs = {raster: "the class raster"}
    if options.confidence is not None:
        inputs[options.confidence] = "the raster of --confidence"
    check_apart([output], inputs)


def _done_event(result: VectorizeResult) -> Event:
    unit = f"area_{result.area_unit}" if result.area_unit else "area"
    return {
        "event": "done",
        "output": str(result.output),
        "polygons": result.count,
        "crs": crs_name(result.crs) if result.crs else None,
        "classes": [
            {"class_id": c.value, "class_name": c.name, "polygons": c.count, unit: c.area}
            for c in result.classes
        ],
        "seconds": round(result.seconds, 3),
    }


Listener = Callable[[Event], None]


@dataclass
class _Totals:
    """Number and total area of the features of each code."""

    counts: dict[int, int] = field(default_factory=dict)
    areas: dict[int, float] = field(default_factory=dict)

    def add(self, rows: Rows) -> None:
        for code in np.unique(rows.codes).tolist():
            of_code = rows.codes == code
            self.counts[code] = self.counts.get(code, 0) + int(of_code.sum())
            self.areas[code] = self.areas.get(code, 0.0) + float(rows.areas[of_code].sum())


class VectorizeRun:
    """One run of ``vectorize``."""

    def __init__(
        self,
        source: ClassSource,
        options: VectorizeOptions,
        kind: str,
        output: Path,
        on_event: Listener,
    ) -> None:
        self._source, self._options, self._kind = source, options, kind
        self._output, self._tell = output, on_event
        self._placement = Placement(source.location, target_crs(source.location, options, kind))
        self._wanted = None if options.classes is None else source.names.select(options.classes)
        self.confidence: ConfidenceRaster | None = None
        self._totals = _Totals()
        self._passes = 2 if options.min_area else 1
        self._rows = 0
        self._announced = False
        for remark in source.remarks:
            self._warn(remark)
        self._warn_without_crs()
        if kind == "ESRI Shapefile" and options.confidence is not None:
            self._warn(
                f"{output}: names of columns in a shapefile have at most 10 characters, so "
                f"mean_confidence is called {SHORT_NAMES['mean_confidence']}"
            )

    def run(self) -> None:
        """Reads the raster and writes the polygons."""
        options, placement = self._options, self._placement
        self._tell(
            {
                "event": "start",
                "width": self._source.width,
                "height": self._source.height,
                "classes": len(self._source.names.names) or None,
                "crs": crs_name(placement.crs) if placement.crs else None,
            }
        )
        table = Table(
            class_of=self._class_of,
            placement=placement,
            multi=options.dissolve or options.connectivity == 8,
            confidence=self.confidence is not None,
            boxes=self._kind == "Parquet",
            wide=self._source.wide,
        )
        layer = OutputLayer(
            name=options.layer or self._output.stem,
            crs=placement.crs,
            multi=table.multi,
            classes=self._categories,
            precision=placement.pixel_side(),
        )
        write_layer(
            self._output, layer, table.schema, self._batches(table), self._options.overwrite
        )
        self._check_wanted()

    def _batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        features = self._watched(
            polygons(
                self._codes(),
                self._drawing(),
                self._confidence if self.confidence is not None else None,
            )
        )
        parts = (
            dissolved(features, table)
            if self._options.dissolve
            else (rows for completed in features for rows in rows_of(completed, table))
        )
        for rows in parts:
            self._totals.add(rows)
            yield table.batch(rows)

    def _confidence(self, top: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        assert self.confidence is not None
        return self.confidence.read(Window(top, 0, rows, self._source.width))

    def _codes(self) -> CodeStrips:
        source: CodeStrips = self._source
        if self._options.min_area:
            source = SievedStrips(
                source,
                self._placement.pixel_areas(np.arange(source.height, dtype=np.float64)),
                self._options.min_area,
                self._options.connectivity == 8,
                self._sieving,
            )
        if self._wanted is not None:
            source = ChosenStrips(source, [self._source.code(v) for v in sorted(self._wanted)])
        return source

    def _drawing(self) -> Drawing:
        options = self._options
        return Drawing(
            diagonal=options.connectivity == 8,
            limits=self._limits() if options.simplify else None,
            smooth=options.smooth,
            dense=self._placement.bends,
            reverse=self._placement.reverse,
        )

    def _limits(self) -> NDArray[np.float64]:
        """Largest triangle that simplification removes, in square pixels, shape (H + 1,)."""
        # There is one more row of corners than of pixels.
        rows = np.minimum(np.arange(self._source.height + 1.0), self._source.height - 1)
        areas = np.maximum(self._placement.pixel_areas(rows), _TINY)
        return np.minimum(self._options.simplify**2 / areas, _HUGE)

    def _sieving(self, rows: int, regions: int) -> None:
        """Reports the sieve's progress, and warns early of much memory."""
        self._progress(rows)
        expected = regions / self._rows * self._source.height
        if expected > _MANY_TO_SIEVE and not self._announced:
            self._announced = True
            self._warn(
                f"{self._source.label}: about {expected / 1e6:.0f} million regions are to be "
                f"expected, for which --min-area takes about {expected * REGION_BYTES / 1e9:.0f} "
                "GB of memory; a majority filter before it would help"
            )

    def _watched(self, features: Iterator[Polygons]) -> Iterator[Polygons]:
        """The same features; reports progress on the way."""
        count = 0
        for completed in features:
            count += len(completed.codes)
            self._announce(count, completed.rows)
            self._progress(completed.rows, count)
            yield completed

    def _progress(self, rows: int, count: int = 0) -> None:
        self._rows += rows
        self._tell(
            {
                "event": "progress",
                "rows": self._rows,
                "total": self._passes * self._source.height,
                "polygons": count,
            }
        )

    def _announce(self, count: int, rows: int) -> None:
        """Warns early, and once, of a raster that is so noisy that polygons become too many."""
        # The sieve's pass over the raster counts as rows too.
        done = self._rows + rows - (self._passes - 1) * self._source.height
        expected = count / max(done, 1) * self._source.height
        if expected > _MANY and not self._announced:
            self._announced = True
            self._warn(
                f"{self._source.label}: about {expected / 1e6:.1f} million polygons are to be "
                "expected, which take long to write and to open; --min-area hands small regions "
                "to their neighbours"
            )

    def _warn_without_crs(self) -> None:
        if self._placement.crs is not None:
            return
        where = "map units" if self._source.grid.georeferenced else "pixels"
        text = (
            f"{self._source.label}: has no CRS, so coordinates are in {where} and areas "
            f"(column area) in square {where}"
        )
        if self._kind == "GeoJSON":
            text += "; GeoJSON demands longitude and latitude, and other programs will misplace it"
        self._warn(text)

    def _check_wanted(self) -> None:
        """Warns of chosen classes that have no pixel."""
        present = {self._source.value(code) for code in self._totals.counts}
        absent = sorted((self._wanted or frozenset()) - present)
        if absent:
            names = ", ".join(self._source.names.name(value) for value in absent)
            self._warn(f"{self._source.label}: no pixel of {names}")

    def _warn(self, text: str) -> None:
        self._tell({"event": "warning", "text": text})

    def _class_of(self, code: int) -> tuple[int, str]:
        value = self._source.value(code)
        return value, self._source.names.name(value)

    def _categories(self) -> list[tuple[int, str, str]]:
        """Value, name and colour of the style's classes; complete once all features are written."""
        names = self._source.names
        present = {self._source.value(code) for code in self._totals.counts}
        # The style of this package's maps lists all classes, so that the maps of one model look
        # alike. Tables of other programs may list thousands.
        listed = present | (set(names.names) if names.origin == "tag" else set())
        if self._wanted is not None:
            listed &= self._wanted
        return [(v, names.name(v), names.color(v)) for v in sorted(listed)]

    def result(self, seconds: float) -> VectorizeResult:
        """Summary of the written features."""
        totals = self._totals
        classes = [
            ClassTotal(*self._class_of(code), totals.counts[code], totals.areas[code])
            for code in sorted(totals.counts)
        ]
        return VectorizeResult(
            self._output,
            sum(totals.counts.values()),
            tuple(classes),
            self._placement.area_unit,
            self._placement.crs,
            seconds,
        )
