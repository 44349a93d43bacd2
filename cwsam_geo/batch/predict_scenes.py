"""Maps many scenes: ``predict_scenes``, the function behind ``cwsam-geo batch``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from cwsam_geo.atomic import check_apart
from cwsam_geo.batch.names import map_requests, output_paths, without_outputs
from cwsam_geo.batch.results import BatchResult, check_summary
from cwsam_geo.batch.run import BatchPlan, BatchReports, run_batch
from cwsam_geo.batch.scene_list import list_scenes
from cwsam_geo.core.counting import how_many
from cwsam_geo.errors import UsageError
from cwsam_geo.mosaicking.mosaic import check_mosaic_output
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.preparation import Event, MapRequest


def predict_scenes(
    scenes: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: PredictOptions | None = None,
    outputs: PredictOutputs | None = None,
    reports: BatchReports | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    run: PredictRun | None = None,
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
        run: Where the scenes are computed; None for one process. Several processes take whole
            scenes, and parts of a scene where there are fewer scenes than processes. A scene whose
            run was killed goes on where it stopped, unless ``resume`` is False.

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
    plan = BatchPlan(kept, requests, options, reports)
    return run_batch(plan, run or PredictRun(), on_event)


def _remarks(remarks: Sequence[str], left_out: int) -> list[str]:
    if not left_out:
        return list(remarks)
    return [*remarks, f"left out {how_many(left_out, 'map')} of this batch among the scenes"]


def _check_reports(reports: BatchReports, requests: Sequence[MapRequest], overwrite: bool) -> None:
    """Refuses a summary or a mosaic that cannot be written, before anything is computed."""
    if not requests:
        raise UsageError("all scenes given are maps that the batch would write; give the scenes")
    targets = [path for request in requests for path in output_paths(request)]
    if reports.summary is not None:
        targets.append(check_summary(reports.summary, overwrite))
    if reports.mosaic is not None:
        if any(request.location != str(request.output) for request in requests):
            raise UsageError(
                f"--mosaic {reports.mosaic}: is made of maps on this machine; write the maps to "
                "its disk, or leave --mosaic out"
            )
        targets.append(check_mosaic_output(reports.mosaic, overwrite))
    check_apart(targets, {})
