"""Lays rasters that were made in a scene's geometry on a map grid, block by block."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.io.creation_options import check_creation_options
from cwsam_geo.io.pixel_lookup import nearest_pixels
from cwsam_geo.io.raster_file import open_dataset, reading, rio_window
from cwsam_geo.io.raster_sink import BLOCK
from cwsam_geo.prediction.geocoding import Geocoding
from cwsam_geo.prediction.map_outputs import open_sinks
from cwsam_geo.prediction.pipeline import MapSummary, Sink
from cwsam_geo.prediction.preparation import Event, MapRequest, PreparedScene

_SQUARE = 8 * BLOCK
"""Side in pixels of the squares in which the map is written: a rotated scene is read in squares,
too, so that GDAL decodes each of its blocks about once."""

_MOST_READ = 1 << 24
"""Pixels of the scene that are read at once, where the map's pixels are much larger."""


@contextlib.contextmanager
def in_scene_geometry(prepared: PreparedScene, request: MapRequest) -> Iterator[MapRequest]:
    """The request whose rasters are made in the geometry of the scene.

    Without ``--t-srs`` it is the request itself. Otherwise its rasters lie in a hidden folder
    beside the map until the block ends; ``lay_on_map`` makes the requested ones from them.

    Args:
        request: The request of the scene, with the rasters that are really written.

    Raises:
        UsageError: A creation option is not usable.
    """
    if prepared.geocoding is None:
        yield request
        return
    outputs = request.outputs
    # The requested rasters are opened after hours: what is wrong with them must be told before.
    legend = prepared.settings.map_legend
    check_creation_options(outputs.format, outputs.creation_options, legend)
    folder = request.output.parent
    with tempfile.TemporaryDirectory(prefix=f".{request.output.stem}.", dir=folder) as temporary:

        def within(wanted: Any, name: str) -> Path | None:
            return Path(temporary) / f"{name}.tif" if wanted else None

        yield replace(
            request,
            output=Path(temporary) / "classes.tif",
            outputs=replace(
                outputs,
                confidence=within(outputs.confidence, "confidence"),
                probabilities=within(outputs.probabilities, "probabilities"),
                format="GTiff",
                creation_options={"ZLEVEL": "1"},
            ),
        )


def lay_on_map(
    prepared: PreparedScene,
    made: MapRequest,
    request: MapRequest,
    summary: MapSummary,
    on_event: Callable[[Event], None],
) -> None:
    """Writes the rasters of a request from those that were made in the geometry of its scene.

    Each pixel of the map takes class, confidence and probabilities of the pixel of the scene in
    which its centre lies; it is nodata where there is none. Without ``--t-srs``, nothing is done.

    Args:
        made: The request of ``in_scene_geometry``, whose rasters exist.
        request: The request with the rasters to write.
        summary: Gets the counts of the map's pixels, and the time that this takes.

    Raises:
        OutputError: A raster cannot be written.
    """
    geocoding = prepared.geocoding
    if geocoding is None:
        return
    started, window = time.perf_counter(), geocoding.window
    counts, done = np.zeros(256, np.int64), 0
    with contextlib.ExitStack() as stack:
        sinks = open_sinks(stack, prepared, request, grid=geocoding.grid)
        layers = [
            _Layer(Path(path), stack.enter_context(open_dataset(path)), sink)
            for path, sink in (
                (made.output, sinks.classes),
                (made.outputs.confidence, sinks.confidence),
                (made.outputs.probabilities, sinks.probabilities),
            )
            if path is not None and sink is not None
        ]
        for block in _blocks(window.height, window.width):
            for piece in _pieces(geocoding, block):
                for layer in layers:
                    values = layer.laid(piece)
                    layer.sink.write(piece.window, values)
                    if layer.sink is sinks.classes:
                        counts += np.bincount(values.ravel(), minlength=256)
            done += block.height * block.width
            on_event({"event": "geocoding", "pixels": done, "total": window.height * window.width})
    summary.pixels = {code: int(n) for code, n in enumerate(counts) if n}
    summary.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class _Piece:
    """Pixels of the map, and the pixels of the scene's part that they take.

    Attributes:
        window: Where they lie on the map.
        rows: Rows in the part of the scene, shape (n,).
        cols: Columns, shape (n,).
        inside: True for pixels that lie on the part, shape (h, w).
    """

    window: Window
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    inside: NDArray[np.bool_]

    @property
    def source(self) -> Window:
        """The smallest window of the scene's part that holds the pixels."""
        if not len(self.rows):
            return Window(0, 0, 0, 0)
        top, left = int(self.rows.min()), int(self.cols.min())
        return Window(top, left, int(np.ptp(self.rows)) + 1, int(np.ptp(self.cols)) + 1)


@dataclass(frozen=True)
class _Layer:
    """A raster in the geometry of the scene, and the one on the map grid that takes its pixels."""

    path: Path
    dataset: Any
    sink: Sink

    def laid(self, piece: _Piece) -> NDArray[np.uint8]:
        """Values of a piece of the map, shape (bands, h, w)."""
        values = np.full((self.dataset.count, *piece.inside.shape), NODATA, np.uint8)
        source = piece.source
        if not source.empty:
            with reading(self.path, source):
                stored = self.dataset.read(window=rio_window(source))
            values[:, piece.inside] = stored[:, piece.rows - source.row, piece.cols - source.col]
        return values


def _blocks(height: int, width: int) -> Iterator[Window]:
    """The storage blocks of a raster, one large square after the other."""
    whole = Window(0, 0, height, width)
    for top in range(0, height, _SQUARE):
        for left in range(0, width, _SQUARE):
            square = Window(top, left, _SQUARE, _SQUARE).intersect(whole)
            for row in range(square.row, square.bottom, BLOCK):
                for col in range(square.col, square.right, BLOCK):
                    yield Window(row, col, BLOCK, BLOCK).intersect(square)


def _pieces(geocoding: Geocoding, window: Window) -> Iterator[_Piece]:
    """A window of the map, in halves if its pixels lie far apart in the scene."""
    start, part = geocoding.window, geocoding.part
    rows, cols, inside = nearest_pixels(
        window.shift(start.row, start.col), geocoding.onto, geocoding.own, geocoding.step, part
    )
    piece = _Piece(window, rows - part.row, cols - part.col, inside)
    source = piece.source
    if source.height * source.width <= _MOST_READ or window.height == 1:
        yield piece
        return
    half = window.height // 2
    yield from _pieces(geocoding, Window(window.row, window.col, half, window.width))
    rest = Window(window.row + half, window.col, window.height - half, window.width)
    yield from _pieces(geocoding, rest)
