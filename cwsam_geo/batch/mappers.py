"""Who maps the scenes of a batch: this process, or those of several devices or of a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from cwsam_geo.model.runtime.predictor import LoadedModel
from cwsam_geo.prediction.journal import has_journal
from cwsam_geo.prediction.options import PredictOptions, PredictRun
from cwsam_geo.prediction.pipeline import MapSummary
from cwsam_geo.prediction.predict_scene import (
    choose_model,
    load_chosen,
    map_prepared,
    map_shared,
    shard_pool,
)
from cwsam_geo.prediction.preparation import Event, ModelFacts, PreparedScene
from cwsam_geo.prediction.shards import OnTold, ShardPool, ShardTask
from cwsam_geo.prediction.stream import BandReader

OnEvent = Callable[[Event], None]


class Stopped(Exception):  # noqa: N818  # no error: the user has interrupted the batch
    """The batch was interrupted while a scene was mapped."""


class Mapper(Protocol):
    """Maps prepared scenes.

    Attributes:
        model: The model and how it computes.
        width: Scenes that are mapped at a time, each in a thread.
        reads_here: Whether this process reads the scenes that it maps.
    """

    @property
    def model(self) -> ModelFacts: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def reads_here(self) -> bool: ...  # noqa: D102

    def load(self) -> None:
        """Makes the model ready, if it is not.

        Raises:
            ModelError: See ``load_full``.
        """

    def map(
        self, prepared: PreparedScene, index: int, bands: BandReader | None, on_event: OnEvent
    ) -> MapSummary:
        """Maps a scene and writes its outputs.

        Args:
            index: Position of the scene in the batch, from 0.
            bands: Reads the scene already; None if ``reads_here`` is False.

        Raises:
            CwsamGeoError: See ``predict_scene``.
            Stopped: ``stop`` was called.
        """

    def stop(self) -> None:
        """Ends ``map`` in all threads soon."""


@contextlib.contextmanager
def mapper(
    options: PredictOptions, run: PredictRun, scenes: int, on_event: OnEvent
) -> Iterator[Mapper]:
    """Chooses who maps so many scenes.

    Raises:
        ModelError: There is no such model.
        UsageError: A device, the precision or the cluster is not available.
    """
    if not run.shared:
        yield _OneProcess(choose_model(options, on_event), options.compile, run)
        return
    with shard_pool(options, run, on_event) as (pool, model):
        yield _SeveralProcesses(pool, model, run, scenes)


class _OneProcess:
    """Maps with the model in this process."""

    width, reads_here = 1, True

    def __init__(self, model: ModelFacts, compile: bool, run: PredictRun) -> None:
        self.model = model
        self._compile, self._run = compile, run
        self._loaded: LoadedModel | None = None

    def load(self) -> None:
        if self._loaded is None:
            self._loaded = load_chosen(self.model, self._compile)

    def map(
        self, prepared: PreparedScene, index: int, bands: BandReader | None, on_event: OnEvent
    ) -> MapSummary:
        assert self._loaded is not None
        return map_prepared(prepared, self._loaded, on_event, bands, _going_on(prepared, self._run))

    def stop(self) -> None:
        # An interrupt ends the only thread by itself.
        pass


class _SeveralProcesses:
    """Maps with the processes of a pool: whole scenes first, and parts of the last ones.

    Scenes that make full rounds over the processes go to one process each. The rest is cut, so that
    no process is idle at the end: five scenes on four devices are four whole ones, and one in four
    parts. One scene more than there are processes is at work, so that they compute while a map is
    written.
    """

    reads_here = False

    def __init__(self, pool: ShardPool, model: ModelFacts, run: PredictRun, scenes: int) -> None:
        self.model = model
        self._pool, self._run = pool, run
        self._whole = scenes // pool.size * pool.size
        self.width = max(1, min(pool.size + 1, scenes))
        self._stopped = threading.Event()

    def load(self) -> None:
        # The processes load it with their first scene.
        pass

    def map(
        self, prepared: PreparedScene, index: int, bands: BandReader | None, on_event: OnEvent
    ) -> MapSummary:
        size = 1 if index < self._whole else self._pool.size
        share = _Share(self._pool, size, self._stopped)
        return map_shared(prepared, share, self.model, _going_on(prepared, self._run), on_event)

    def stop(self) -> None:
        self._stopped.set()


def _going_on(prepared: PreparedScene, run: PredictRun) -> PredictRun:
    """The run, which goes on with a scene that an earlier one has left, unless the user forbids."""
    stopped = run.resume is None and has_journal(prepared.request.location, run)
    return replace(run, resume=True) if stopped else run


class _Share:
    """A part of a pool, for one scene; implements ``ShardPool``."""

    def __init__(self, pool: ShardPool, size: int, stopped: threading.Event) -> None:
        self.size, self.name = size, pool.name
        self._pool, self._stopped = pool, stopped

    def map(self, task: ShardTask, shards: Sequence[range], on_told: OnTold) -> tuple[int, float]:
        def listen(kind: str, value: Any) -> None:
            if self._stopped.is_set():
                raise Stopped
            on_told(kind, value)

        return self._pool.map(task, shards, listen)
