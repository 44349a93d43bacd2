"""Runs a batch: takes scene after scene, or several at a time, and tells what became of them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwsam_geo.batch.ahead import Ahead, Turn
from cwsam_geo.batch.batch_scene import BatchScene
from cwsam_geo.batch.finished import make_missing
from cwsam_geo.batch.mappers import Mapper, Stopped, mapper
from cwsam_geo.batch.results import WITH_MAP, BatchResult, SceneResult, Status
from cwsam_geo.core.counting import how_many
from cwsam_geo.errors import CwsamGeoError, NoModelError, OutsideError, explained
from cwsam_geo.mosaicking.mosaic import mosaic
from cwsam_geo.mosaicking.options import MosaicOptions
from cwsam_geo.prediction.options import PredictOptions, PredictRun
from cwsam_geo.prediction.preparation import Event, MapRequest

OnEvent = Callable[[Event], None]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchReports:
    """What a batch writes about all of its scenes.

    Attributes:
        summary: Table of what became of each scene, ``.csv`` or ``.json``. It replaces an earlier
            table of a batch.
        mosaic: Raster of all maps, ``.tif`` or ``.vrt``; see ``mosaic``. Where maps overlap, the
            higher confidence counts if the batch writes rasters of confidence, and else the map
            of the first scene. In a VRT it is always that of the first scene.
    """

    summary: str | os.PathLike[str] | None = None
    mosaic: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class BatchPlan:
    """What a batch maps and writes.

    Attributes:
        requests: What to write for each of the scenes.
        options: How all scenes are mapped.
    """

    scenes: Sequence[BatchScene]
    requests: Sequence[MapRequest]
    options: PredictOptions
    reports: BatchReports


def run_batch(plan: BatchPlan, run: PredictRun, on_event: OnEvent) -> BatchResult:
    """Maps the scenes, then makes the mosaic and the summary; see ``predict_scenes``."""
    batch = _Batch(plan, on_event)
    try:
        with mapper(plan.options, run, len(plan.scenes), on_event) as maps:
            batch.map_all(maps)
        path = batch.mosaic()
    except BaseException:
        # Ctrl-C, a model that cannot be loaded, maps that do not fit together: the summary says
        # what is done.
        batch.finish(None)
        raise
    return batch.finish(path)


class _Batch:
    """The state of a batch."""

    def __init__(self, plan: BatchPlan, on_event: OnEvent) -> None:
        self._plan, self._on_event = plan, on_event
        self._telling = threading.Lock()
        self._results: dict[int, SceneResult] = {}
        self._begun: set[int] = set()
        self._failure: BaseException | None = None
        self._started = time.perf_counter()

    def map_all(self, maps: Mapper) -> None:
        """Maps every scene, ``maps.width`` of them at a time."""
        with Ahead(self._plan.scenes, self._plan.requests, maps.model, maps.reads_here) as ahead:
            if maps.width == 1:
                self._serve(ahead, maps)
            else:
                self._serve_together(ahead, maps)
        if self._failure is not None:
            raise self._failure

    def _serve(self, ahead: Ahead, maps: Mapper) -> None:
        """Takes one scene after the other until there are no more."""
        while (turn := ahead.take()) is not None:
            self._take(turn, maps)

    def _serve_together(self, ahead: Ahead, maps: Mapper) -> None:
        """The same in several threads."""

        def serve() -> None:
            try:
                self._serve(ahead, maps)
            except Stopped:
                return
            except BaseException as error:
                self._failure = self._failure or error
                maps.stop()
                ahead.stop()

        threads = [threading.Thread(target=serve, daemon=True) for _ in range(maps.width)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # with a timeout, Ctrl-C is noticed on Windows, too
        except BaseException:
            maps.stop()
            ahead.stop()
            for thread in threads:
                thread.join()
            raise

    def _take(self, turn: Turn, maps: Mapper) -> None:
        """Maps a scene whose turn it is. Its errors are told, and stop no other scene."""
        index = turn.index
        scene, request = self._plan.scenes[index], self._plan.requests[index]
        name = {"scene": scene.label, "index": index + 1}

        def tell(event: Event) -> None:
            self._tell(request.uploads.told({**event, **name}))

        self._begun.add(index)
        tell({"event": "scene", "total": len(self._plan.scenes), "output": str(request.output)})
        for event in turn.events:
            tell(event)
        try:
            if turn.prepared is not None:
                # Without its model, no scene can be mapped: this error stops the batch.
                maps.load()
            result = self._result(turn, maps, tell)
        finally:
            turn.close()
            request.uploads.close()
        self._results[index] = result
        tell({"event": "result", **result.to_dict()})

    def _result(self, turn: Turn, maps: Mapper, tell: OnEvent) -> SceneResult:
        scene, request = self._plan.scenes[turn.index], self._plan.requests[turn.index]
        counts: dict[str, int] = {}

        def listen(event: Event) -> None:
            if event["event"] == "done" and "stage" not in event:
                counts.update(event["pixels"])
            tell(event)

        try:
            if turn.error is not None:
                raise turn.error
            if turn.prepared is None:
                if turn.finished.missing:
                    make_missing(request, turn.finished.missing, maps.model.path, tell)
                return SceneResult(scene.label, request, "finished")
            summary = maps.map(turn.prepared, turn.index, turn.bands, listen)
        except (Stopped, NoModelError):
            raise
        except Exception as error:
            _LOG.debug("%s", scene.label, exc_info=error)
            if isinstance(error, CwsamGeoError):
                error = request.uploads.translated(error)
            text, _ = explained(error)
            status: Status = "outside" if isinstance(error, OutsideError) else "failed"
            return SceneResult(scene.label, request, status, text)
        return SceneResult(
            scene.label,
            request,
            "mapped",
            pixels=counts,
            seconds=round(summary.seconds, 3),
            model_seconds=round(summary.model_seconds, 3),
        )

    def _tell(self, event: Event) -> None:
        # Several threads tell events, but whoever listens knows of one only.
        with self._telling:
            self._on_event(event)

    def finish(self, path: Path | None) -> BatchResult:
        """Tells and writes what became of the scenes.

        Args:
            path: The mosaic, if one was made.
        """
        results = tuple(self._result_of(index) for index in range(len(self._plan.scenes)))
        result = BatchResult(results, time.perf_counter() - self._started, path)
        self._tell({"event": "summary", **result.to_dict()})
        if self._plan.reports.summary is not None:
            result.write(Path(self._plan.reports.summary))
        return result

    def _result_of(self, index: int) -> SceneResult:
        if index in self._results:
            return self._results[index]
        status: Status = "interrupted" if index in self._begun else "not started"
        return SceneResult(self._plan.scenes[index].label, self._plan.requests[index], status)

    def mosaic(self) -> Path | None:
        """Puts the maps together, where that is wanted and there are any."""
        target = self._plan.reports.mosaic
        results = [self._results[index] for index in sorted(self._results)]
        done = [result.request for result in results if result.status in WITH_MAP]
        if target is None or not done:
            return None
        lacking = sum(result.status == "failed" for result in results)
        if lacking:
            text = f"the mosaic lacks {how_many(lacking, 'scene')} that could not be mapped"
            self._tell({"event": "warning", "text": text})
        outputs, path = done[0].outputs, Path(target)
        is_vrt = path.suffix.lower() == ".vrt"
        rasters = [request.outputs.confidence for request in done]
        options = MosaicOptions(
            confidence=() if is_vrt else [raster for raster in rasters if raster is not None],
            format=outputs.format,
            creation_options={} if is_vrt else outputs.creation_options,
            qml=outputs.qml,
            overwrite=outputs.overwrite,
        )
        maps = [request.output for request in done]
        try:
            mosaic(maps, path, options, lambda e: self._tell({"stage": "mosaic", **e}))
        except CwsamGeoError as error:
            raise type(error)(
                f"{error}; all maps are there, so go on with cwsam-geo mosaic and its options"
            ) from None
        return path
