"""Maps a scene with a model: ``predict_scene``, the function behind ``cwsam-geo predict``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cwsam_geo.errors import UsageError
from cwsam_geo.model.bundles.bundle import read_header
from cwsam_geo.model.device import (
    check_compile,
    precision_warning,
    resolve_device,
    resolve_precision,
)
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.store import find_bundle, load_full, renamed
from cwsam_geo.prediction.journal import Journal, check_journal
from cwsam_geo.prediction.map_outputs import (
    catalogue_map,
    finish_map,
    open_sinks,
    progress_event,
    start_event,
)
from cwsam_geo.prediction.map_warp import in_scene_geometry, lay_on_map
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.pipeline import MapSummary
from cwsam_geo.prediction.preparation import (
    Event,
    MapRequest,
    ModelFacts,
    PreparedScene,
    Scene,
    check_request,
    prepare_scene,
)
from cwsam_geo.prediction.report import with_confidence
from cwsam_geo.prediction.rows import copy_all, map_rows, run_identity
from cwsam_geo.prediction.shards import ShardPool, compute_shards
from cwsam_geo.prediction.stream import BandReader


def predict_scene(
    scene: Scene | Sequence[Scene],
    output: str | os.PathLike[str],
    options: PredictOptions | None = None,
    outputs: PredictOutputs | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    model: LoadedModel | None = None,
    run: PredictRun | None = None,
) -> MapSummary:
    """Maps a scene: writes a georeferenced raster of class codes.

    Args:
        scene: Anything rasterio opens, a STAC item, or several single-band files of one grid.
        output: Path of the raster, ``*.tif``, or a URL that fsspec can write to
            (``s3://bucket/map.tif``): uint8 codes, nodata 255, on the scene's grid, or on the map
            grid that the options choose.
        options: How the scene is mapped; None for the defaults.
        outputs: Further outputs, and the format; None for the defaults.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``progress``, ``geocoding`` or ``done``; events of ``vectorize`` and
            ``report_map`` also have ``stage: vectors`` and ``stage: report``.
        model: A model of ``load_model``, to map several scenes without loading it again. The
            options ``model``, ``device``, ``precision`` and ``compile`` then have no effect.
        run: Where the run computes, and whether it goes on where an earlier one stopped; None for
            one process, which refuses to replace what an earlier run has finished.

    Returns:
        Counts of pixels and tiles, and times in seconds.

    Raises:
        CwsamGeoError: An option, the scene, the model or an output is at fault; one line says what
            is wrong and what to do.
        MemoryError: A single tile does not fit into memory.
    """
    scenes = (scene,) if isinstance(scene, (str, os.PathLike)) else tuple(scene)
    request = MapRequest.of(
        scenes, output, options or PredictOptions(), outputs or PredictOutputs()
    )

    def told(event: Event) -> None:
        on_event(request.uploads.told(event))

    with request.uploads.open():
        return _predict(request, told, model, run or PredictRun())


def _predict(
    request: MapRequest,
    on_event: Callable[[Event], None],
    model: LoadedModel | None,
    run: PredictRun,
) -> MapSummary:
    # All checks come before the model computes, which may take hours.
    check_request(request)
    request.uploads.check(request.outputs.overwrite)
    check_journal(request.location, run)
    if run.shared:
        with (
            shard_pool(request.options, run, on_event) as (pool, facts),
            prepare_scene(request, facts, on_event) as prepared,
        ):
            return map_shared(prepared, pool, facts, run, on_event)
    if model is None:
        model = load_chosen(choose_model(request.options, on_event), request.options.compile)
    with prepare_scene(request, ModelFacts.of(model), on_event) as prepared:
        return map_prepared(prepared, model, on_event, run=run)


def choose_model(options: PredictOptions, on_event: Callable[[Event], None]) -> ModelFacts:
    """The model that the options name, its device and precision, without its weights.

    Warns of a precision that is slow on this device.

    Raises:
        ModelError: There is no such model.
        UsageError: The device or the precision is not available on this machine.
    """
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device, fast=True)
    if options.compile:
        check_compile(device)
    slow = precision_warning(precision, device)
    if slow is not None:
        on_event({"event": "warning", "text": slow})
    path = _found(options, on_event)
    return ModelFacts(read_header(path), path, device, precision)


def _found(options: PredictOptions, on_event: Callable[[Event], None]) -> Path:
    path = find_bundle(options.model)
    if (remark := renamed(options.model, path)) is not None:
        on_event({"event": "decision", "text": remark})
    return path


def load_chosen(model: ModelFacts, compile: bool) -> LoadedModel:
    """Loads the model of ``choose_model``, for inference only.

    Raises:
        ModelError: See ``load_full``.
    """
    assert model.path is not None
    bundle = load_full(model.path)
    return LoadedModel(bundle, model.device, model.precision, "fast", compile, model.path)


def map_prepared(
    prepared: PreparedScene,
    model: LoadedModel,
    on_event: Callable[[Event], None] = lambda _: None,
    bands: BandReader | None = None,
    run: PredictRun | None = None,
) -> MapSummary:
    """Maps a prepared scene and writes its outputs; see ``predict_scene``.

    Args:
        bands: Reads the scene for ``prepared.plan`` already; None to begin now.
        run: Whether to go on where an earlier run stopped; see ``predict_scene``.
    """
    predictor = TorchPredictor(model, prepared.request.options.tta)
    with with_confidence(prepared.request) as request:
        identity = run_identity(prepared, request)
        with (
            Journal(identity, run or PredictRun(), on_event) as journal,
            in_scene_geometry(prepared, request) as made,
        ):
            on_event(start_event(prepared, str(predictor.device), predictor.precision))
            # Leaving the stack finishes the files and renames them into place.
            with contextlib.ExitStack() as stack:
                sinks = open_sinks(stack, prepared, made, journal.on_block)
                summary = map_rows(
                    prepared,
                    predictor,
                    sinks,
                    journal,
                    lambda progress, before: on_event(progress_event(progress, before)),
                    bands,
                )
            lay_on_map(prepared, made, request, summary, on_event)
            _send_rasters(request)
            journal.finish()
        _complete(prepared, request, summary, model.path, on_event)
    return summary


@contextlib.contextmanager
def shard_pool(
    options: PredictOptions, run: PredictRun, on_event: Callable[[Event], None]
) -> Iterator[tuple[ShardPool, ModelFacts]]:
    """The processes of ``--devices`` or of the cluster ``--dask``, and the model that they load.

    Raises:
        ModelError: There is no such model.
        UsageError: A device, the precision or the cluster is not available.
    """
    if run.devices is not None:
        # Imported only when needed.
        from cwsam_geo.prediction.devices import parse_devices
        from cwsam_geo.prediction.pool import DevicePool
        from cwsam_geo.prediction.shards import ShardModel

        if options.device != "auto":
            raise UsageError("give --device or --devices, not both")
        places = parse_devices(run.devices)
        model = choose_model(replace(options, device=places[0].device), on_event)
        with DevicePool(places, ShardModel.of(model, options.compile)) as pool:
            yield pool, model
        return
    from cwsam_geo.prediction.cluster import Cluster

    assert run.dask is not None
    # Only the file of the model is known: the workers choose device and precision.
    path = _found(options, on_event)
    unknown = ModelFacts(read_header(path), path, None, "fp32")
    with Cluster(run.dask) as cluster:
        model = cluster.choose(unknown, options)
        cluster.send(model, options.compile)
        yield cluster, model


def map_shared(
    prepared: PreparedScene,
    pool: ShardPool,
    model: ModelFacts,
    run: PredictRun,
    on_event: Callable[[Event], None] = lambda _: None,
) -> MapSummary:
    """Maps a prepared scene with several processes and writes its outputs.

    Args:
        pool: The processes.
        model: The model that they have loaded.
    """
    with with_confidence(prepared.request) as request:
        with (
            Journal(run_identity(prepared, request), run, on_event) as journal,
            in_scene_geometry(prepared, request) as made,
        ):
            on_event(start_event(prepared, pool.name, model.precision))
            summary = compute_shards(
                prepared,
                request,
                journal,
                pool,
                lambda progress, before: on_event(progress_event(progress, before)),
                lambda text: on_event({"event": "warning", "text": text}),
            )
            with contextlib.ExitStack() as stack:
                sinks = open_sinks(stack, prepared, made)
                copy_all(journal, sinks, summary)
            lay_on_map(prepared, made, request, summary, on_event)
            _send_rasters(request)
            journal.finish()
        _complete(prepared, request, summary, model.path, on_event)
    return summary


def _send_rasters(request: MapRequest) -> None:
    """Sends the rasters to their URLs; until then, finished rows are kept."""
    # The raster of classes comes last: once it exists, the other outputs are complete.
    request.uploads.send(reversed(request.rasters), request.outputs.overwrite)


def _complete(
    prepared: PreparedScene,
    request: MapRequest,
    summary: MapSummary,
    model: Path | None,
    on_event: Callable[[Event], None],
) -> None:
    """Writes what is made of the rasters.

    Args:
        request: The request of the scene, with the rasters that are really written.
        model: The model's bundle, if it is a file.
    """
    try:
        finish_map(prepared, request, summary, model, on_event)
        if prepared.request.outputs.stac is not None:
            catalogue_map(prepared.request)
    finally:
        # Also after a failure: what is complete then stays, as on a disk.
        request.uploads.send_rest(request.outputs.overwrite)
