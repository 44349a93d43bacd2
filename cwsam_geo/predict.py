"""The pipeline: a source, a predictor and sinks become a class raster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.blend import Blender, BlendName, Decision, Ops
from cwsam_geo.grid import Tile, TilePlan, Window
from cwsam_geo.legend import NODATA, Legend
from cwsam_geo.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.stream import RowBand, row_bands

if TYPE_CHECKING:
    from cwsam_geo.io.source import Source


class Predictor(Protocol):
    """A model that maps a batch of tiles to logits."""

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""

    @property
    def stride(self) -> int:
        """Pixels per logit."""

    @property
    def num_classes(self) -> int:
        """K."""

    @property
    def ops(self) -> Ops:
        """Arithmetic on the logits it returns."""

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        """Logits (B, K, T / stride, T / stride) of preprocessed tiles (B, 3, T, T).

        Raises:
            MemoryError: The batch is too large; a smaller one is tried.
        """


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
        batch_size: Largest batch that fitted.
        model_seconds: Time spent in the predictor.
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
    blend: BlendName = "cosine"
    batch_size: int = 1


def map_scene(
    source: Source,
    predictor: Predictor,
    job: MapJob,
    sinks: Sinks,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> MapSummary:
    """Streams a scene through a predictor, in memory that does not grow with its height.

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
        MemoryError: A single tile does not fit into memory.
    """
    return _Run(source, predictor, job, sinks, on_progress).run()


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
        self.summary = MapSummary(tiles=len(self.plan), batch_size=job.batch_size)
        self.counts = np.zeros(256, np.int64)
        self.started = time.perf_counter()
        self.done = self.pixels = 0

    def run(self) -> MapSummary:
        bands = row_bands(self.source, self.plan)
        with contextlib.closing(bands):  # type: ignore[type-var]  # a generator
            for i, band in enumerate(bands):
                for tile, logits in self._predicted(band, self.plan.row(i)):
                    self._settle(band, tile, logits)
        self.summary.pixels = {c: int(n) for c, n in enumerate(self.counts) if n}
        self.summary.seconds = time.perf_counter() - self.started
        return self.summary

    def _predicted(self, band: RowBand, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Any]]:
        """Tiles of one row with their logits, in order; None for those without data."""
        waiting: list[tuple[Tile, NDArray[np.float32] | None]] = []
        inputs = 0
        for tile in tiles:
            values, valid = band.cut(tile.window)
            image = self.job.spec.apply(values, valid, self.job.scene) if valid.any() else None
            waiting.append((tile, image))
            inputs += image is not None
            self.summary.empty_tiles += image is None
            if inputs == self.summary.batch_size:
                yield from self._flush(waiting)
                waiting, inputs = [], 0
        yield from self._flush(waiting)

    def _flush(
        self, waiting: Sequence[tuple[Tile, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Tile, Any]]:
        images = [image for _, image in waiting if image is not None]
        logits = self._predict(images)
        for tile, image in waiting:
            yield tile, None if image is None else next(logits)

    def _predict(self, images: Sequence[NDArray[np.float32]]) -> Iterator[Any]:
        """Logits of each image; the batch is halved for good when memory runs out."""
        start = 0
        while start < len(images):
            size = min(self.summary.batch_size, len(images) - start)
            before = time.perf_counter()
            try:
                logits = self.predictor(np.stack(images[start : start + size]))
            except MemoryError:
                if size == 1:
                    raise
                self.summary.batch_size = size // 2
                continue
            self.summary.model_seconds += time.perf_counter() - before
            yield from logits
            start += size

    def _settle(self, band: RowBand, tile: Tile, logits: Any) -> None:
        within = tile.settles.within(band.window)
        valid = band.valid[within.slices]
        wanted = bool(valid.any())
        if not wanted:
            self._write(tile.settles, valid, None)
        for settled in self.blender.feed(tile, logits, wanted):
            inside = settled.window.within(tile.settles)
            self._write(settled.window, valid[inside.slices], settled.decision)
        self.done += 1
        self.pixels += tile.settles.height * tile.settles.width
        seconds = time.perf_counter() - self.started
        self.on_progress(Progress(self.done, len(self.plan), self.pixels, seconds))

    def _write(self, window: Window, valid: NDArray[np.bool_], decision: Decision | None) -> None:
        """Codes and per cent where there is data, nodata elsewhere."""
        classes = np.full(valid.shape, NODATA, np.uint8)
        if decision is not None:
            np.copyto(classes, self.job.legend.codes[decision.channels], where=valid)
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
