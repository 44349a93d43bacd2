"""Maps many scenes: ``predict_scenes``, the function behind ``cwsam-geo batch``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cwsam_geo.atomic import check_apart
from cwsam_geo.batch.ahead import Ahead, Turn
from cwsam_geo.batch.batch_scene import BatchScene
from cwsam_geo.batch.finished import make_missing
from cwsam_geo.batch.names import map_requests, output_paths, without_outputs
from cwsam_geo.batch.results import (
    WITH_MAP,
    BatchResult,
    SceneResult,
    Status,
    check_summary,
)
from cwsam_geo.batch.scene_list import list_scenes
from cwsam_geo.errors import CwsamGeoError, OutsideError, UsageError, explained
from cwsam_geo.model.runtime.predictor import LoadedModel
from cwsam_geo.mosaicking.mosaic import check_mosaic_output, mosaic
from cwsam_geo.mosaicking.options import MosaicOptions
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import choose_model, load_chosen, map_prepared
from cwsam_geo.prediction.preparation import Event, MapRequest, ModelFacts

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


def predict_scenes(
    scenes: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: PredictOptions | None = None,
    outputs: PredictOutputs | None = None,
    reports: BatchReports | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> BatchResult:
    """Maps many scenes with one model. A scene that fails does not stop the others.

    A scene whose outputs are there already, made from the same files by the same model with the
    same settings, is not mapped again. The next scene is opened, checked and begun to be read while
    the present one is mapped.

    Args:
        scenes: Files, URLs, folders of scenes, patterns (``scenes/*.tif``), ``@FILE`` (a text file
            with a scene on each line) and STAC item collections (``.json``). Files whose names
            differ in the polarisation only are the bands of one scene.
        output: Path of each map, with the fields ``{stem}``, ``{parent}``, ``{id}`` and ``{date}``,
            such as ``maps/{stem}_landcover.tif``; or a folder.
        options: How the scenes are mapped; None for the defaults.
        outputs: Further outputs of each scene, whose paths have fields too, and the format; None
            for the defaults. With ``overwrite``, maps that were made otherwise are replaced.
        reports: What is written about all scenes; None for nothing.
        on_event: Called with mappings: the events of ``predict_scene``, and ``scene`` (its turn has
            come), ``result`` (what became of it) and ``summary``. Those of a scene have ``scene``
            and ``index``, from 1; those of the mosaic have ``stage: mosaic``.

    Returns:
        What became of each scene.

    Raises:
        CwsamGeoError: The scenes cannot be listed, two outputs would have the same path, or the
            model is at fault. What is wrong with a single scene is in its result.
        KeyboardInterrupt: The user interrupted the batch. The summary is written before.
    """
    options, outputs = options or PredictOptions(), outputs or PredictOutputs()
    found = list_scenes(scenes)
    requests = map_requests(found.scenes, output, options, outputs)
    kept, requests = without_outputs(found.scenes, requests)
    reports = reports or BatchReports()
    _check_reports(reports, requests, outputs.overwrite)
    for text in _remarks(found.remarks, len(found.scenes) - len(kept)):
        on_event({"event": "decision", "text": text})
    model = choose_model(options, on_event)
    return _Batch(kept, requests, model, reports, on_event).run()


def _remarks(remarks: Sequence[str], left_out: int) -> list[str]:
    if not left_out:
        return list(remarks)
    return [*remarks, f"left out {left_out} files that are maps of this batch, not scenes"]


def _check_reports(reports: BatchReports, requests: Sequence[MapRequest], overwrite: bool) -> None:
    """Refuses a summary or a mosaic that cannot be written, before anything is computed."""
    if not requests:
        raise UsageError("all scenes given are maps that the batch would write; give the scenes")
    targets = [path for request in requests for path in output_paths(request)]
    if reports.summary is not None:
        targets.append(check_summary(reports.summary, overwrite))
    if reports.mosaic is not None:
        targets.append(check_mosaic_output(reports.mosaic, overwrite))
    check_apart(targets, {})


@dataclass
class _Batch:
    """A batch that runs."""

    scenes: Sequence[BatchScene]
    requests: Sequence[MapRequest]
    facts: ModelFacts
    reports: BatchReports
    on_event: Callable[[Event], None]
    model: LoadedModel | None = None
    results: list[SceneResult] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> BatchResult:
        """Takes one scene after the other, then makes the mosaic and the summary."""
        try:
            with Ahead(self.scenes, self.requests, self.facts) as turns:
                for turn in turns:
                    self._take(turn)
            mosaic_path = self._mosaic()
        except BaseException:
            # Ctrl-C, a model that cannot be loaded, maps that do not fit together: the summary
            # says what is done.
            self._finish(None)
            raise
        return self._finish(mosaic_path)

    def _take(self, turn: Turn) -> None:
        scene, request = self.scenes[turn.index], self.requests[turn.index]
        tell = self._teller(turn.index)
        tell({"event": "scene", "total": len(self.scenes), "output": str(request.output)})
        for event in turn.events:
            tell(event)
        try:
            result = self._result(turn, tell)
        except Exception as error:
            if turn.prepared is not None and self.model is None:
                raise  # the model cannot be loaded: no scene can be mapped
            _LOG.debug("%s", scene.label, exc_info=error)
            text, _ = explained(error)
            status: Status = "outside" if isinstance(error, OutsideError) else "failed"
            result = SceneResult(scene.label, request, status, text)
        finally:
            turn.close()
        self.results.append(result)
        tell({"event": "result", **result.to_dict()})

    def _result(self, turn: Turn, tell: Callable[[Event], None]) -> SceneResult:
        scene, request = self.scenes[turn.index], self.requests[turn.index]
        if turn.error is not None:
            raise turn.error
        if turn.prepared is None:
            if turn.finished.missing:
                make_missing(request, turn.finished.missing, self.facts.path, tell)
            return SceneResult(scene.label, request, "finished")
        if self.model is None:
            self.model = load_chosen(self.facts, request.options.compile)
        counts: dict[str, int] = {}

        def listen(event: Event) -> None:
            if event["event"] == "done" and "stage" not in event:
                counts.update(event["pixels"])
            tell(event)

        summary = map_prepared(turn.prepared, self.model, listen, turn.bands)
        return SceneResult(
            scene.label,
            request,
            "mapped",
            pixels=counts,
            seconds=round(summary.seconds, 3),
            model_seconds=round(summary.model_seconds, 3),
        )

    def _teller(self, index: int) -> Callable[[Event], None]:
        name = {"scene": self.scenes[index].label, "index": index + 1}
        return lambda event: self.on_event({**event, **name})

    def _finish(self, mosaic: Path | None) -> BatchResult:
        """Tells and writes what became of the scenes; those without a result were not reached."""
        stopped = len(self.results)
        rest = [
            SceneResult(
                self.scenes[i].label,
                self.requests[i],
                "interrupted" if i == stopped else "not started",
            )
            for i in range(stopped, len(self.scenes))
        ]
        seconds = time.perf_counter() - self.started
        result = BatchResult((*self.results, *rest), seconds, mosaic)
        self.on_event({"event": "summary", **result.to_dict()})
        if self.reports.summary is not None:
            result.write(Path(self.reports.summary))
        return result

    def _mosaic(self) -> Path | None:
        """Puts the maps together, where that is wanted and there are any."""
        target = self.reports.mosaic
        done = [r.request for r in self.results if r.status in WITH_MAP]
        if target is None or not done:
            return None
        lacking = sum(result.status == "failed" for result in self.results)
        if lacking:
            text = f"the mosaic lacks {lacking} scenes that could not be mapped"
            self.on_event({"event": "warning", "text": text})
        outputs, path = done[0].outputs, Path(target)
        is_vrt = path.suffix.lower() == ".vrt"
        rasters = [request.outputs.confidence for request in done]
        options = MosaicOptions(
            confidence=() if is_vrt else [raster for raster in rasters if raster is not None],
            format=outputs.format,
            creation_options={} if is_vrt else outputs.creation_options,
            overwrite=outputs.overwrite,
        )
        maps = [request.output for request in done]
        try:
            mosaic(maps, path, options, lambda e: self.on_event({"stage": "mosaic", **e}))
        except CwsamGeoError as error:
            raise type(error)(
                f"{error}; all maps are there, so go on with cwsam-geo mosaic and its options"
            ) from None
        return path
