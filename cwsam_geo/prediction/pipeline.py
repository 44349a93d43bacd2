"""The pipeline of ``predict``: streams a source through a predictor into sinks."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.core.predictor import PendingDecision, Predictor, TileStack
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.core.tiling import Tile
from cwsam_geo.errors import CwsamGeoError
from cwsam_geo.prediction.blend import Blender, BlendName, settled_window
from cwsam_geo.prediction.shard import Checkpoint, Part, Shard, tile_plan
from cwsam_geo.prediction.stream import Backlog, BandReader, RowBand

if TYPE_CHECKING:
    from cwsam_geo.scene.source import Source


_WAITING_BYTES = 256 << 20
"""Results that may wait to be written, in bytes. It bounds the memory of probabilities of many
classes, which take a byte per class and pixel."""


class Sink(Protocol):
    """Receives final pixels; all windows together cover the mapped part exactly once."""

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Receives the values of a window of the part, shape (h, w) or (bands, h, w)."""


@dataclass(frozen=True)
class Sinks:
    """Where the results go.

    Attributes:
        classes: Class codes, one band.
        confidence: Probability of the winning class in per cent, one band; None if not wanted.
        probabilities: Probability of each class in per cent, K bands; None if not wanted.
    """

    classes: Sink
    confidence: Sink | None = None
    probabilities: Sink | None = None


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        tiles: Tiles that are finished, including those that were skipped.
        total: Tiles of the plan.
        pixels: Pixels of the map that are final.
        seconds: Time since the start of the run.
    """

    tiles: int
    total: int
    pixels: int
    seconds: float


@dataclass
class MapSummary:
    """Summary of a run.

    Attributes:
        pixels: Number of pixels by class code, nodata (255) included; only codes that occur.
        empty_tiles: Tiles that were not given to the model, because they have no data or no pixel
            of the part depends on them.
        batch_size: Tiles per call of the model at the end of the run: spread evenly over a row of
            tiles, and halved each time memory ran out.
        model_seconds: Time that the model computed on its device.
        seconds: Time of the whole run.
        output: The map's file; None if the results went elsewhere. Notebooks show its picture.
    """

    pixels: dict[int, int] = field(default_factory=dict)
    tiles: int = 0
    empty_tiles: int = 0
    batch_size: int = 1
    model_seconds: float = 0.0
    seconds: float = 0.0
    output: str | None = None

    def _repr_png_(self) -> bytes | None:
        if self.output is None:
            return None
        from cwsam_geo.pictures.preview import preview

        # The file may be gone by the time the summary is shown.
        with contextlib.suppress(CwsamGeoError):
            return preview(self.output)._repr_png_()
        return None


@dataclass(frozen=True)
class MapSettings:
    """The settings of a run, all decided before the first tile.

    Attributes:
        spec: The model's preprocessing.
        legend: The model's classes.
        scene: Units, order and stretch of the scene's bands.
        overlap: Pixels shared by neighbouring tiles.
        blend: Weights of overlapping tiles.
        batch_size: Tiles per call of the predictor, at most.
        temperature: Divides the logits before the softmax; it changes no class.
        min_confidence: Least confidence in per cent; pixels below it are ``unclassified``. 0 for
            no such class.
    """

    spec: PreprocessSpec
    legend: Legend
    scene: SceneBands
    overlap: int
    blend: BlendName = "linear"
    batch_size: int = 1
    temperature: float = 1.0
    min_confidence: int = 0

    @cached_property
    def map_legend(self) -> Legend:
        """The classes of the map: the model's, and ``unclassified`` if pixels may be.

        Raises:
            LegendError: No code is left for ``unclassified``.
        """
        return self.legend.with_unclassified() if self.min_confidence else self.legend


def map_scene(
    source: Source,
    predictor: Predictor,
    job: MapSettings,
    sinks: Sinks,
    on_progress: Callable[[Progress], None] = lambda _: None,
    part: Part | None = None,
    bands: BandReader | None = None,
    shard: Shard | None = None,
) -> MapSummary:
    """Streams a scene through a predictor, in memory that does not grow with the scene's height.

    The map of a part equals that part of the whole scene's map, because its tiles have the same
    positions and the model also sees the scene around the part. So do the rows of a shard; each
    batch holds the same tiles as in a run over the whole map, so that the bits are the same too.

    Reading and writing run in their own threads. A GPU gets the next batch before it has finished
    the last one, so that it waits for neither thread. Pixels without data are filled before the
    model runs and become nodata afterwards; tiles without any data skip the model.

    Args:
        source: The whole scene.
        sinks: Where the results go; their windows are counted from the part's corner.
        on_progress: Called after every batch of tiles.
        part: The part to map; None for the whole scene.
        bands: Reads the source for ``tile_plan`` already; None to begin now.
        shard: The rows of the map to compute; None for all.

    Returns:
        Counts of pixels and tiles, and times in seconds.

    Raises:
        SceneError: The scene cannot be read.
        OutputError: A result cannot be written.
        ModelError: The model's logits are not finite.
        MemoryError: A single tile does not fit into memory.
    """
    shard = shard or Shard(range(source.grid.height if part is None else part.window.height))
    run = _Run(source, predictor, job, sinks, part, shard.rows)
    return run.run(on_progress, bands, shard.checkpoint)


_Group = tuple[list[Tile], list[Any | None]]
"""Neighbouring tiles of one row with their logits (K, n, n), or None for a skipped tile."""


@dataclass(frozen=True)
class _Mask:
    """Which pixels of a window belong to the part, shape (h, w)."""

    window: Window
    inside: NDArray[np.bool_]

    def cut(self, window: Window) -> NDArray[np.bool_]:
        """The mask in the common part of both windows."""
        return self.inside[window.intersect(self.window).within(self.window).slices]


class _Run:
    def __init__(
        self,
        source: Source,
        predictor: Predictor,
        job: MapSettings,
        sinks: Sinks,
        part: Part | None,
        rows: range,
    ) -> None:
        self.source, self.predictor, self.job, self.sinks = source, predictor, job, sinks
        self.part = part
        # The map, and the rows of it that this run computes; both are windows of the scene.
        self.map = source.grid.window if part is None else part.window
        self.plan = tile_plan(
            source, predictor.tile_size, predictor.stride, job.overlap, part, rows
        )
        self.window = self.plan.part or self.map
        self.blender = Blender(
            self.plan,
            predictor.num_classes,
            job.blend,
            predictor.ops,
            confidence=sinks.confidence is not None or job.min_confidence > 0,
            probabilities=sinks.probabilities is not None,
            temperature=job.temperature,
        )
        batch_size = even_batch(job.batch_size, len(self.plan.cols))
        self.summary = MapSummary(tiles=len(self.plan), batch_size=batch_size)
        # The writer's queue holds two batches, so that one is written while the next is computed,
        # but no more strips than fit into _WAITING_BYTES.
        bands = 1 + (sinks.confidence is not None)
        bands += predictor.num_classes if sinks.probabilities is not None else 0
        strip = self.blender.strip_pixels(batch_size)
        two_batches = -(-2 * batch_size * predictor.tile_size**2 // strip)
        fit = _WAITING_BYTES // (strip * bands)
        self.backlog = Backlog(max(1, min(two_batches, fit)), "cwsam-geo writer")
        self.counts = np.zeros(256, np.int64)
        self.started = time.perf_counter()
        self.done = self.pixels = 0
        self.empty_tiles: dict[int, int] = {}

    def run(
        self,
        on_progress: Callable[[Progress], None],
        bands: BandReader | None,
        checkpoint: Checkpoint | None,
    ) -> MapSummary:
        # Both threads end even after an error.
        with self.backlog, bands or BandReader(self.source, self.plan) as reader:
            for i, band in zip(self.plan.rows, reader, strict=True):
                mapped = self._mapped(i)
                self.empty_tiles[i] = 0
                for tiles, logits in self._predicted(band, mapped, self.plan.row(i)):
                    self._settle(band, mapped, tiles, logits)
                    on_progress(self._progress())
                if checkpoint is not None and i < self.plan.rows[-1] and checkpoint.due():
                    final = self.plan.tile(i, self.plan.cols[0]).settles.bottom
                    self._take(checkpoint, min(final, self.window.bottom))
            if checkpoint is not None:
                self._take(checkpoint, self.window.bottom)
            self.summary.model_seconds = self.predictor.finish()
        self.summary.empty_tiles = sum(self.empty_tiles.values())
        self.summary.pixels = {c: int(n) for c, n in enumerate(self.counts) if n}
        self.summary.seconds = time.perf_counter() - self.started
        return self.summary

    def _take(self, checkpoint: Checkpoint, bottom: int) -> None:
        # Logits that are not finite are noticed late: they must not become durable.
        self.predictor.finish()
        self.backlog.drain()
        checkpoint.take(bottom - self.map.row, self.empty_tiles)

    def _mapped(self, row_index: int) -> _Mask:
        """Which of the pixels that depend on a row of tiles belong to the map.

        Also those of rows that this run does not compute: a tile is given to the model if any pixel
        of the whole map depends on it, so that batches do not depend on the rows.
        """
        first, last = (
            self.plan.tile(row_index, c).reaches for c in (self.plan.cols[0], self.plan.cols[-1])
        )
        reached = Window(first.row, first.col, first.height, last.right - first.col)
        window = reached.intersect(self.map)
        if self.part is None:
            return _Mask(window, np.broadcast_to(np.True_, (window.height, window.width)))
        return _Mask(window, self.part.contains(window))

    def _predicted(self, band: RowBand, mapped: _Mask, tiles: Iterator[Tile]) -> Iterator[_Group]:
        """The tiles of one row in order, at most a batch at a time."""
        waiting: list[tuple[Tile, bool]] = []
        stack = self._stack()
        for tile in tiles:
            values, valid = band.cut(tile.window)
            # Skip tiles without data, as for the whole scene, and tiles on which no pixel of the
            # part depends.
            fed = bool(valid.any()) and bool(mapped.cut(tile.reaches).any())
            waiting.append((tile, fed))
            if fed:
                stack.add(values, valid)
            self.empty_tiles[tile.row_index] += not fed
            if len(stack) == self.summary.batch_size:
                yield from self._flush(waiting, stack)
                waiting, stack = [], self._stack()
        # The rest of the row: batches never cross a row of tiles.
        yield from self._flush(waiting, stack)

    def _stack(self) -> TileStack:
        return self.predictor.stack(self.job.spec, self.job.scene, self.summary.batch_size)

    def _flush(self, waiting: Sequence[tuple[Tile, bool]], stack: TileStack) -> Iterator[_Group]:
        logits = self._predict(stack)
        # Between the tiles of a batch may be many that are skipped.
        size = self.summary.batch_size
        for start in range(0, len(waiting), size):
            group = waiting[start : start + size]
            yield [tile for tile, _ in group], [next(logits) if fed else None for _, fed in group]

    def _predict(self, stack: TileStack) -> Iterator[Any]:
        """Logits of each tile of a stack; halves the batch size permanently if memory runs out."""
        start = 0
        while start < len(stack):
            size = self.summary.batch_size
            try:
                logits = self.predictor(stack.part(start, size))
            except MemoryError:
                # Test the batch size, not the number of tiles left: a stack may pad a smaller part
                # to the full batch size.
                if size == 1:
                    raise
                self.summary.batch_size = size // 2
                continue
            yield from logits
            start += size

    def _settle(
        self, band: RowBand, mapped: _Mask, tiles: Sequence[Tile], logits: Sequence[Any | None]
    ) -> None:
        """Adds tiles to the blender and queues the pixels that become final for writing."""
        settles = settled_window(tiles)
        within = settles.within(band.window)
        # A new array, because a view in the writer's queue would keep the whole band's mask alive.
        valid = band.valid[within.slices] & mapped.cut(settles)
        has_data = bool(valid.any())
        strips = self.blender.feed(tiles, logits, has_data)
        if not has_data:
            self.backlog.put(functools.partial(self._write, settles, valid, None))
        for strip in strips:
            inside = valid[strip.window.within(settles).slices]
            self.backlog.put(functools.partial(self._write, strip.window, inside, strip.decision))
        self.done += len(tiles)
        self.pixels += settles.height * settles.width

    def _progress(self) -> Progress:
        seconds = time.perf_counter() - self.started
        return Progress(self.done, len(self.plan), self.pixels, seconds)

    def _write(
        self, window: Window, valid: NDArray[np.bool_], pending: PendingDecision | None
    ) -> None:
        """Writes codes and percentages where pixels are valid, nodata elsewhere."""
        # This runs in the writer's thread, which waits here until the device has decided.
        decision = None if pending is None else pending()
        window = window.within(self.map)
        if decision is None:
            classes = np.full(valid.shape, NODATA, np.uint8)
        else:
            classes = self.job.legend.codes.take(decision.channels)
            if self.job.min_confidence:
                assert decision.confidence is not None
                doubtful = decision.confidence < self.job.min_confidence
                np.copyto(classes, self.job.map_legend.codes[-1], where=doubtful)
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
    """Percentages, shape (bands, h, w), with nodata where pixels are not valid."""
    out = np.full((bands, *valid.shape), NODATA, np.uint8)
    if percent is not None:
        np.copyto(out, percent, where=valid)
    return out


def even_batch(limit: int, tiles: int) -> int:
    """Batch size of at most ``limit`` that spreads a row of tiles evenly over its batches."""
    return -(-tiles // -(-tiles // limit))
