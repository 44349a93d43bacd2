"""The process that computes shards on one device, and what it tells the process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from cwsam_geo.errors import CwsamGeoError, ModelError, NoModelError, explained
from cwsam_geo.model.device import resolve_device, use_threads
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.store import load_full
from cwsam_geo.prediction.devices import ProcessPlace
from cwsam_geo.prediction.shards import ShardModel, ShardTask, run_shard
from cwsam_geo.scene.source import RasterSource


@dataclass(frozen=True)
class Assignment:
    """Rows for a process.

    Attributes:
        number: Identifies the shard in the messages about it.
    """

    number: int
    task: ShardTask
    rows: range


@dataclass(frozen=True)
class Told:
    """A message of a process about its shard.

    Attributes:
        kind: ``progress`` (pixels), ``part`` (its rows), ``done`` (batch size, model seconds), or
            ``failed`` (type of the error, its message, and whether the process may go on).
    """

    kind: str
    number: int
    values: tuple[Any, ...] = ()


def work(pipe: Connection, place: ProcessPlace, model: ShardModel) -> None:
    """Computes shards until the pipe is closed; runs in a process of its own.

    A closed pipe also means that the process at its other end was killed: then this one ends, too.
    """
    # Ctrl-C reaches all processes of a terminal. The one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        worker = _Worker(pipe, place, model)
        while True:
            worker.take(pipe.recv())
    # Threads of CUDA and GDAL must not delay the end.
    os._exit(0)


class _Worker:
    def __init__(self, pipe: Connection, place: ProcessPlace, model: ShardModel) -> None:
        self._pipe, self._place, self._model = pipe, place, model
        self._predictors: dict[bool, TorchPredictor] = {}
        self._loaded: LoadedModel | None = None
        self._source: tuple[ShardTask, RasterSource] | None = None
        if place.threads is not None:
            use_threads(place.threads)

    def take(self, shard: Assignment) -> None:
        """Computes one shard; errors are told."""
        try:
            self._compute(shard)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            text, _ = explained(error)
            kind = type(error).__name__ if isinstance(error, CwsamGeoError) else ""
            self._tell("failed", shard, kind, text)

    def _compute(self, shard: Assignment) -> None:
        task = shard.task
        summary = run_shard(
            task,
            shard.rows,
            self._opened(task),
            self._predictor(task.request.options.tta),
            lambda progress: self._tell("progress", shard, progress.pixels),
            lambda part: self._tell("part", shard, part.rows),
        )
        self._tell("done", shard, summary.batch_size, summary.model_seconds)

    def _tell(self, kind: str, shard: Assignment, *values: Any) -> None:
        self._pipe.send(Told(kind, shard.number, values))

    def _opened(self, task: ShardTask) -> RasterSource:
        """The scene of a task; that of the last task stays open."""
        # The folder of the parts belongs to one map.
        if self._source is None or self._source[0].folder != task.folder:
            if self._source is not None:
                self._source[1].close()
                self._source = None
            self._source = (task, task.open())
        return self._source[1]

    def _predictor(self, tta: bool) -> TorchPredictor:
        if self._loaded is None:
            model = self._model
            device = resolve_device(self._place.device)
            try:
                bundle = load_full(model.path)
            except ModelError as error:
                raise NoModelError(str(error)) from None
            self._loaded = LoadedModel(bundle, device, model.precision, "fast", model.compile)
        if tta not in self._predictors:
            self._predictors[tta] = TorchPredictor(self._loaded, tta)
        return self._predictors[tta]
