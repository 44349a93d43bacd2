"""The pipeline: a source, a predictor and sinks become a class raster."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.blend import Blender, BlendName
from cwsam_geo.grid import Tile, TilePlan, Window
from cwsam_geo.legend import NODATA, Legend
from cwsam_geo.ops import Decision, PendingDecision, Predictor
from cwsam_geo.preprocess import PreprocessSpec, SceneBands, TileStack
from cwsam_geo.stream import Backlog, RowBand, row_bands

if TYPE_CHECKING:
    from cwsam_geo.io.source import Source


_WAITING_BYTES = 256 << 20
"""Decided pixels that may wait to be written; with probabilities of many classes they are many."""


class Sink(Protocol):
    """Takes final pixels; all windows together cover the scene exactly once."""

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Takes values of shape (h, w) or (bands, h, w)."""


@dataclass(frozen=True)
class Sinks:
    """Where the results go.

    Attributes:
        classes: Codes, one band.
        confidence: The winner's probability in per cent, one band.
        probabilities: Every class's probability in per cent, K bands.
    """

    classes: Sink
    confidence: Sink | None = None
    probabilities: Sink | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        tiles: Tiles done, those without data included.
        total: Tiles in all.
        pixels: Pixels of the scene that are final.
        seconds: Time since the start.
    """

    tiles: int
    total: int
    pixels: int
    seconds: float


@dataclass
class MapSummary:
    """What a run did.

    Attributes:
        pixels: Pixels of each code that occurs, nodata (255) included.
        tiles: Tiles in all.
        empty_tiles: Tiles without data, which the model never saw.
        batch_size: Tiles at once: what was asked for or fitted, spread evenly over a row of tiles.
        model_seconds: Time that the model computed, on its device.
        seconds: Time in all.
    """

    pixels: dict[int, int] = field(default_factory=dict)
    tiles: int = 0
    empty_tiles: int = 0
    batch_size: int = 1
    model_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class MapJob:
    """Everything that is decided before the first tile.

    Attributes:
        spec: The model's preprocessing.
        legend: The model's classes.
        scene: How the scene's bands answer to the model's.
        overlap: Pixels shared by neighbouring tiles.
        blend: How they share them.
        batch_size: Tiles given to the predictor at once, at most.
    """

    spec: PreprocessSpec
    legend: Legend
    scene: SceneBands
    overlap: int
    blend: BlendName = "linear"
    batch_size: int = 1


def map_scene(
    source: Source,
    predictor: Predictor,
    job: MapJob,
    sinks: Sinks,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> MapSummary:
    """Streams a scene through a predictor, in memory that does not grow with its height.

    Reading and writing have threads of their own, and a device that computes by itself is given
    the next batch before it is through with the last: it waits for neither.

    Pixels without data are filled before the model and are nodata after it; tiles without any
    data never reach the model.

    Args:
        source: The scene.
        predictor: The model.
        job: What was decided.
        sinks: Where the results go.
        on_progress: Called after every tile.

    Returns:
        Counts and times.

    Raises:
        SceneError: The scene cannot be read.
        OutputError: A result cannot be written.
        ModelError: The model's numbers are no numbers.
        MemoryError: A single tile does not fit into memory.
    """
    return _Run(source, predictor, job, sinks, on_progress).run()


_Piece = tuple[Window, NDArray[np.bool_], PendingDecision | None]
"""Where, where there is data, and what the rest is; None where nothing of it is data."""


class _Run:
    def __init__(
        self,
        source: Source,
        predictor: Predictor,
        job: MapJob,
        sinks: Sinks,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.source, self.predictor, self.job, self.sinks = source, predictor, job, sinks
        self.on_progress = on_progress
        self.plan = TilePlan(
            source.grid.height,
            source.grid.width,
            predictor.tile_size,
            job.overlap,
            predictor.stride,
        )
        self.blender = Blender(
            self.plan,
            predictor.num_classes,
            job.blend,
            predictor.ops,
            confidence=sinks.confidence is not None,
            probabilities=sinks.probabilities is not None,
        )
        batch_size = even_batch(job.batch_size, len(self.plan.col_offsets))
        self.summary = MapSummary(tiles=len(self.plan), batch_size=batch_size)
        # Two batches: while one is written, the next is computed; fewer where tiles are large.
        bands = 1 + (sinks.confidence is not None)
        bands += predictor.num_classes if sinks.probabilities is not None else 0
        fit = _WAITING_BYTES // (predictor.tile_size**2 * bands)
        self.backlog = Backlog(max(1, min(2 * batch_size, fit)), "cwsam-geo writer")
        self.counts = np.zeros(256, np.int64)
        self.started = time.perf_counter()
        self.done = self.pixels = 0

    def run(self) -> MapSummary:
        bands = row_bands(self.source, self.plan)
        with self.backlog, contextlib.closing(bands):  # type: ignore[type-var]  # a generator
            for i, band in enumerate(bands):
                for tile, logits in self._predicted(band, self.plan.row(i)):
                    self._settle(band, tile, logits)
            self.summary.model_seconds = self.predictor.finish()
        self.summary.pixels = {c: int(n) for c, n in enumerate(self.counts) if n}
        self.summary.seconds = time.perf_counter() - self.started
        return self.summary

    def _predicted(self, band: RowBand, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Any]]:
        """Tiles of one row with their logits, in order; None for those without data."""
        waiting: list[tuple[Tile, bool]] = []
        stack = self._stack()
        for tile in tiles:
            values, valid = band.cut(tile.window)
            has_data = bool(valid.any())
            waiting.append((tile, has_data))
            if has_data:
                stack.add(values, valid)
            self.summary.empty_tiles += not has_data
            if len(stack) == self.summary.batch_size:
                yield from self._flush(waiting, stack)
                waiting, stack = [], self._stack()
        yield from self._flush(waiting, stack)

    def _stack(self) -> TileStack:
        return self.predictor.stack(self.job.spec, self.job.scene, self.summary.batch_size)

    def _flush(
        self, waiting: Sequence[tuple[Tile, bool]], stack: TileStack
    ) -> Iterator[tuple[Tile, Any]]:
        logits = self._predict(stack)
        for tile, has_data in waiting:
            yield tile, next(logits) if has_data else None

    def _predict(self, stack: TileStack) -> Iterator[Any]:
        """Logits of each tile; the batch is halved for good when memory runs out."""
        start = 0
        while start < len(stack):
            size = self.summary.batch_size
            try:
                logits = self.predictor(stack.part(start, size))
            except MemoryError:
                # Not by the tiles that are left: a stack may fill its parts up to the size.
                if size == 1:
                    raise
                self.summary.batch_size = size // 2
                continue
            yield from logits
            start += size

    def _settle(self, band: RowBand, tile: Tile, logits: Any) -> None:
        within = tile.settles.within(band.window)
        # A copy: what waits to be written must not keep the whole band's.
        valid = band.valid[within.slices].copy()
        wanted = bool(valid.any())
        pieces: list[_Piece] = [] if wanted else [(tile.settles, valid, None)]
        for settled in self.blender.feed(tile, logits, wanted):
            inside = settled.window.within(tile.settles)
            pieces.append((settled.window, valid[inside.slices], settled.decision))
        self.backlog.put(functools.partial(self._write_all, pieces))
        self.done += 1
        self.pixels += tile.settles.height * tile.settles.width
        seconds = time.perf_counter() - self.started
        self.on_progress(Progress(self.done, len(self.plan), self.pixels, seconds))

    def _write_all(self, pieces: Sequence[_Piece]) -> None:
        for window, valid, decision in pieces:
            self._write(window, valid, None if decision is None else decision())

    def _write(self, window: Window, valid: NDArray[np.bool_], decision: Decision | None) -> None:
        """Codes and per cent where there is data, nodata elsewhere."""
        if decision is None:
            classes = np.full(valid.shape, NODATA, np.uint8)
        else:
            classes = self.job.legend.codes.take(decision.channels)
            np.copyto(classes, NODATA, where=~valid)
        self.counts += np.bincount(classes.ravel(), minlength=256)
        self.sinks.classes.write(window, classes)
        if self.sinks.confidence is not None:
            percent = None if decision is None else decision.confidence
            self.sinks.confidence.write(window, _masked(percent, valid, 1)[0])
        if self.sinks.probabilities is not None:
            percent = None if decision is None else decision.probabilities
            bands = self.predictor.num_classes
            self.sinks.probabilities.write(window, _masked(percent, valid, bands))


def _masked(
    percent: NDArray[np.uint8] | None, valid: NDArray[np.bool_], bands: int
) -> NDArray[np.uint8]:
    out = np.full((bands, *valid.shape), NODATA, np.uint8)
    if percent is not None:
        np.copyto(out, percent, where=valid)
    return out


def even_batch(limit: int, tiles: int) -> int:
    """The size that spreads a row of tiles evenly over as many batches as ``limit`` asks for."""
    return -(-tiles // -(-tiles // limit))
