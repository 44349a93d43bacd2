"""Shards: rows of one map that another process computes, from a scene that it opens itself."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.io.raster_part import BlockSink
from cwsam_geo.io.raster_sink import BLOCK
from cwsam_geo.io.shared_folder import shared_folder
from cwsam_geo.model.device import Precision, computer_name
from cwsam_geo.model.runtime.predictor import TorchPredictor
from cwsam_geo.prediction.journal import Journal
from cwsam_geo.prediction.parts import Part, Parts, PartWriter
from cwsam_geo.prediction.pipeline import MapSettings, MapSummary, Progress, Sinks, map_scene
from cwsam_geo.prediction.preparation import (
    MapRequest,
    ModelFacts,
    PreparedScene,
    Scene,
    open_request,
)
from cwsam_geo.prediction.rows import Meter
from cwsam_geo.prediction.shard import Shard
from cwsam_geo.scene.bands import ZeroPower
from cwsam_geo.scene.crop import ScenePart
from cwsam_geo.scene.file_states import file_states
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.speckle import RefinedLee

OnTold = Callable[[str, Any], None]
"""Gets ``progress`` (pixels computed so far), ``warning`` (a text), or ``waiting`` (None: there is
no news; what it raises ends the waiting)."""

PART_SECONDS = 60.0
"""Seconds from one part to the next: what the end of a process costs at most, besides one row of
tiles."""

_SPARE = 0.05
"""Share of the rows of tiles that is computed twice, so that shards are small and processes end
together. Every process gets one shard at least."""

_MOST_EACH = 4
"""Shards for each process, at most."""


@dataclass(frozen=True)
class ShardModel:
    """Which model a process loads.

    Attributes:
        path: The bundle's file.
        sha256: Hash of the file.
    """

    path: str
    sha256: str
    precision: Precision
    compile: bool

    @classmethod
    def of(cls, facts: ModelFacts, compile: bool) -> ShardModel:
        """The model that was chosen."""
        assert facts.path is not None
        assert facts.sha256 is not None
        return cls(os.path.abspath(facts.path), facts.sha256, facts.precision, compile)


@dataclass(frozen=True)
class ShardTask:
    """All that a process needs to compute rows of one map. It can be pickled.

    Attributes:
        request: Which scene, and how it is opened.
        files: State of the scene's files, as ``file_states`` tells it.
        numbers: Numbers of the bands that the model reads.
        calibrated: Whether values are read as sigma nought.
        zero: How pixels of power 0 are read.
        despeckle: The speckle filter, or None.
        part: The part of the scene to map.
        bands: Number of bands of each raster, by name.
        folder: Path or URL of the folder for the parts.
    """

    request: MapRequest
    files: Mapping[str, str]
    numbers: tuple[int, ...]
    calibrated: bool
    zero: ZeroPower
    despeckle: RefinedLee | None
    settings: MapSettings
    part: ScenePart
    bands: Mapping[str, int]
    folder: str

    @classmethod
    def of(cls, prepared: PreparedScene, request: MapRequest, journal: Journal) -> ShardTask:
        """The task of a prepared scene.

        Args:
            request: The request of the scene, with the rasters that are really written.
        """
        source = prepared.source
        folder = journal.parts.folder.location
        scenes = tuple(map(_absolute, request.scenes))
        return cls(
            replace(request, scenes=scenes),
            prepared.fingerprint["file"],
            source.numbers,
            bool(source.tables),
            source.zero,
            source.despeckle,
            replace(prepared.settings, batch_size=journal.batch_size),
            prepared.part,
            journal.parts.bands,
            folder if "://" in folder else os.path.abspath(folder),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.part.window.height, self.part.window.width

    def open(self) -> RasterSource:
        """Opens the scene as the process that made the task has read it.

        Raises:
            SceneError: It cannot be read, or has changed.
        """
        whole = open_request(self.request)
        states = file_states(whole)
        changed = [name for name in self.files if states.get(name) != self.files[name]]
        if changed:
            whole.close()
            raise SceneError(
                f"{whole.label}: {changed[0]} has changed since the run began; leave the scene as "
                "it is, and run again with --no-resume"
            )
        positions = [whole.numbers.index(number) for number in self.numbers]
        source = whole.with_bands(positions)
        if self.calibrated:
            source = source.calibrated()
        return replace(source, zero=self.zero, despeckle=self.despeckle)


def _absolute(scene: Scene) -> Scene:
    """A location that means the same in every working folder."""
    return os.path.abspath(scene) if not is_remote(scene) and os.path.exists(scene) else scene


def shard_rows(missing: Sequence[range], tile_rows: int, processes: int) -> list[range]:
    """Divides rows among processes, at borders of storage blocks.

    Each cut makes a row of tiles be computed twice. All processes get the same number of shards: of
    three shards, two equal processes take as long as of four.

    Args:
        missing: Rows to compute.
        tile_rows: Rows of tiles that the map has.
        processes: Number of processes.
    """
    wanted = processes * min(max(1, round(_SPARE * tile_rows / processes)), _MOST_EACH)
    blocks = sum(-(-len(rows) // BLOCK) for rows in missing)
    shards: list[range] = []
    for rows in missing:
        count = -(-len(rows) // BLOCK)
        pieces = max(1, min(count, round(wanted * count / blocks)))
        borders = [rows.start + BLOCK * (count * i // pieces) for i in range(pieces)]
        shards += [range(a, b) for a, b in zip(borders, [*borders[1:], rows.stop], strict=True)]
    return shards


def run_shard(
    task: ShardTask,
    rows: range,
    source: RasterSource,
    predictor: TorchPredictor,
    on_progress: Callable[[Progress], None],
    on_part: Callable[[Part], None],
) -> MapSummary:
    """Computes rows of a map and puts them into parts.

    Args:
        source: The task's scene, open.
        on_progress: Called after every batch of tiles.
        on_part: Called with each part that is durable.

    Raises:
        CwsamGeoError: See ``map_scene``.
        MemoryError: A single tile does not fit into memory.
    """
    parts = Parts(shared_folder(task.folder), task.bands, task.shape)
    name = computer_name(predictor.device)
    writer = PartWriter(parts, rows, name, PART_SECONDS, on_part=on_part)
    sinks = {
        raster: BlockSink(*task.shape, bands, functools.partial(writer.add, raster))
        for raster, bands in task.bands.items()
    }
    try:
        return map_scene(
            source,
            predictor,
            task.settings,
            Sinks(**sinks),
            on_progress,
            task.part,
            shard=Shard(rows, writer),
        )
    finally:
        writer.close()


class ShardPool(Protocol):
    """Processes that compute shards, on this machine or on others."""

    @property
    def size(self) -> int:
        """Number of processes."""

    @property
    def name(self) -> str:
        """Where they compute, in words."""

    def map(self, task: ShardTask, shards: Sequence[range], on_told: OnTold) -> tuple[int, float]:
        """Computes shards of a scene; returns when all of them are in parts.

        Args:
            on_told: Called in this thread.

        Returns:
            The smallest batch size, and the seconds that the model computed, over all processes.

        Raises:
            CwsamGeoError: A shard failed, or no process is left.
        """


def compute_shards(
    prepared: PreparedScene,
    request: MapRequest,
    journal: Journal,
    pool: ShardPool,
    on_progress: Callable[[Progress, int], None],
    on_warning: Callable[[str], None],
) -> MapSummary:
    """Lets processes compute what is missing in a journal.

    Args:
        request: The request of the scene, with the rasters that are really written.
        on_progress: Called with the tiles that were finished before the run.

    Returns:
        Batch size and times; nothing is counted yet.

    Raises:
        CwsamGeoError: See ``ShardPool.map``.
    """
    started = time.perf_counter()
    height, width = journal.parts.shape
    meter = Meter(len(prepared.plan), height * width, on_progress)
    missing = journal.missing()
    meter.skip(width * (height - sum(map(len, missing))))

    def listen(kind: str, value: Any) -> None:
        if kind == "progress":
            meter.tell(value)
        elif kind == "warning":
            on_warning(value)

    summary = MapSummary(tiles=len(prepared.plan), batch_size=journal.batch_size)
    if missing:
        task = ShardTask.of(prepared, request, journal)
        shards = shard_rows(missing, len(prepared.plan.rows), pool.size)
        summary.batch_size, summary.model_seconds = pool.map(task, shards, listen)
    journal.refresh()
    summary.seconds = time.perf_counter() - started
    return summary


def rest_of(rows: range, finished: Sequence[range]) -> Iterator[range]:
    """The rows of a shard that are in none of its parts."""
    start = rows.start
    for done in sorted(finished, key=lambda r: r.start):
        if done.start > start:
            yield range(start, done.start)
        start = max(start, done.stop)
    if start < rows.stop:
        yield range(start, rows.stop)
