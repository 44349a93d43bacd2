"""Maps the rows of a scene that no earlier run has finished, and copies those that are finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import OutputError
from cwsam_geo.model.device import computer_name
from cwsam_geo.model.runtime.predictor import TorchPredictor
from cwsam_geo.prediction.journal import Journal, RunIdentity
from cwsam_geo.prediction.parts import Part
from cwsam_geo.prediction.pipeline import MapSummary, Progress, Sinks, map_scene
from cwsam_geo.prediction.preparation import MapRequest, PreparedScene
from cwsam_geo.prediction.shard import Shard
from cwsam_geo.prediction.stream import BandReader


class Meter:
    """Progress over a whole map, some of whose rows are finished when the run begins.

    Args:
        tiles: Tiles of the map.
        pixels: Pixels of the map.
    """

    def __init__(
        self, tiles: int, pixels: int, on_progress: Callable[[Progress, int], None]
    ) -> None:
        self._tiles, self._pixels, self._on_progress = tiles, pixels, on_progress
        self._before = self._computed = 0
        self._started = time.perf_counter()

    def skip(self, pixels: int) -> None:
        """Counts pixels that are finished without being computed."""
        self._before += pixels

    def listener(self) -> Callable[[Progress], None]:
        """Takes the progress of a run that computes some of the rows."""
        before = self._computed
        return lambda progress: self.tell(before + progress.pixels)

    def tell(self, pixels: int) -> None:
        """Tells the progress when so many pixels have been computed since the beginning."""
        self._computed = pixels
        skipped = self._tiles * self._before // self._pixels
        done = self._tiles * (self._before + self._computed) // self._pixels
        seconds = time.perf_counter() - self._started
        self._on_progress(Progress(done, self._tiles, self._computed, seconds), skipped)


def run_identity(prepared: PreparedScene, request: MapRequest) -> RunIdentity:
    """Which run the finished rows of a scene belong to.

    Args:
        request: The request of the scene, with the rasters that are really written.
    """
    window = prepared.part.window
    return RunIdentity(
        request.location,
        prepared.fingerprint,
        request.bands(len(prepared.settings.legend)),
        (window.height, window.width),
        prepared.settings.batch_size,
    )


def map_rows(
    prepared: PreparedScene,
    predictor: TorchPredictor,
    sinks: Sinks,
    journal: Journal,
    on_progress: Callable[[Progress, int], None],
    bands: BandReader | None = None,
) -> MapSummary:
    """Fills the sinks, from the journal's parts and by computing what is missing.

    Args:
        on_progress: Called after every batch of tiles, with the tiles that were finished before
            the run.
        bands: Reads the scene for ``prepared.plan`` already; None to begin now.
    """
    started = time.perf_counter()
    height, width = prepared.part.window.height, prepared.part.window.width
    settings = replace(prepared.settings, batch_size=journal.batch_size)
    summary = MapSummary(tiles=len(prepared.plan), batch_size=settings.batch_size)
    counts = np.zeros(256, np.int64)
    meter = Meter(len(prepared.plan), height * width, on_progress)
    for rows, part in journal.todo:
        if part is not None:
            meter.skip(len(rows) * width)
    for rows, part in journal.todo:
        if part is not None:
            counts += copy_part(journal, part, rows, sinks)
            continue
        # The reader that has begun reads for the whole plan.
        reader = bands if len(rows) == height else None
        with journal.recording(rows, computer_name(predictor.device)):
            run = map_scene(
                prepared.source,
                predictor,
                settings,
                sinks,
                meter.listener() if len(rows) < height else lambda p: on_progress(p, 0),
                prepared.part,
                reader,
                Shard(rows, journal),
            )
        for code, number in run.pixels.items():
            counts[code] += number
        summary.batch_size = min(summary.batch_size, run.batch_size)
        summary.model_seconds = run.model_seconds  # of all runs of this predictor
    summary.empty_tiles = sum(journal.empty_tiles.values())
    summary.pixels = {code: int(n) for code, n in enumerate(counts) if n}
    summary.seconds = time.perf_counter() - started
    return summary


def copy_part(journal: Journal, part: Part, rows: range, sinks: Sinks) -> NDArray[np.int64]:
    """Copies finished rows into the sinks, block by block.

    Returns:
        Number of pixels by class code, shape (256,).

    Raises:
        OutputError: The part is damaged, or a sink cannot be written.
    """
    counts = np.zeros(256, np.int64)
    for raster in journal.parts.bands:
        sink = getattr(sinks, raster)
        for block, values in journal.parts.blocks(part, raster, rows):
            sink.write(block, values)
            if raster == "classes":
                counts += np.bincount(values.ravel(), minlength=256)
    return counts


def copy_all(journal: Journal, sinks: Sinks, summary: MapSummary) -> None:
    """Fills the sinks from parts that other processes have computed.

    Args:
        summary: Gets the counts.

    Raises:
        OutputError: Rows are missing or damaged, or a sink cannot be written.
    """
    if journal.missing():
        raise OutputError(
            f"{journal.parts.folder.location}: finished rows of the map are gone; pass --resume to "
            "compute them again"
        )
    counts = np.zeros(256, np.int64)
    for rows, part in journal.todo:
        assert part is not None
        counts += copy_part(journal, part, rows, sinks)
    summary.pixels = {code: int(n) for code, n in enumerate(counts) if n}
    summary.empty_tiles = sum(journal.empty_tiles.values())
