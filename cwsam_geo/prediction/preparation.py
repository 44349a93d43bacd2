"""Prepares a scene for mapping: opens it, decides how it is read, and checks all that can fail."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cwsam_geo.areas.class_areas import check_areas_output
from cwsam_geo.atomic import check_apart, check_output
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.tiling import TilePlan, default_overlap
from cwsam_geo.errors import UsageError
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.map_tags import GEOCODING_TAG
from cwsam_geo.io.qml import check_qml, qml_path
from cwsam_geo.io.raster_file import display_name
from cwsam_geo.io.raster_sink import check_raster_output
from cwsam_geo.model.bundles.bundle import BundleHeader
from cwsam_geo.model.device import Precision, auto_batch_size
from cwsam_geo.model.upstream.download import file_sha256
from cwsam_geo.prediction.fingerprint import (
    FINGERPRINT_TAG,
    ModelIdentity,
    as_text,
    fingerprint,
)
from cwsam_geo.prediction.geocoding import Geocoding, plan_geocoding
from cwsam_geo.prediction.map_item import check_item_output
from cwsam_geo.prediction.options import FURTHER_OUTPUTS, PredictOptions, PredictOutputs
from cwsam_geo.prediction.pipeline import MapSettings
from cwsam_geo.prediction.provenance import map_tags, settings_of
from cwsam_geo.prediction.shard import tile_plan
from cwsam_geo.prediction.uploads import Uploads
from cwsam_geo.scene.crop import ScenePart, part_in_area, part_in_bounds
from cwsam_geo.scene.plausibility import pixel_size_warning, place_warning
from cwsam_geo.scene.reading import Reading, plan_reading
from cwsam_geo.scene.source import RasterSource, Source, open_source

if TYPE_CHECKING:
    from typing_extensions import Self

    from cwsam_geo.model.runtime.predictor import LoadedModel

Scene = str | os.PathLike[str]

Event = Mapping[str, Any]


@dataclass(frozen=True)
class MapRequest:
    """A scene to map, how, and what to write.

    Attributes:
        scenes: Anything rasterio opens, or several single-band files of one grid.
        output: Path of the raster of classes on this machine.
        outputs: Further outputs, whose paths are on this machine too.
        uploads: Which of these paths stand for URLs.
    """

    scenes: tuple[Scene, ...]
    output: Path
    options: PredictOptions = field(default_factory=PredictOptions)
    outputs: PredictOutputs = field(default_factory=PredictOutputs)
    uploads: Uploads = field(default_factory=Uploads)

    @classmethod
    def of(
        cls,
        scenes: Sequence[Scene],
        output: Scene,
        options: PredictOptions,
        outputs: PredictOutputs,
    ) -> MapRequest:
        """The request for outputs at paths and URLs.

        Raises:
            UsageError: An output cannot go to its URL.
        """
        uploads = Uploads()
        path = uploads.place(output)
        paths: dict[str, Any] = {
            name: uploads.place(location)
            for name in FURTHER_OUTPUTS
            if (location := getattr(outputs, name)) is not None
        }
        if outputs.qml:
            uploads.place_style(path, qml_path(path))
        if outputs.stac is not None:
            uploads.check_links(paths["stac"], [path, *paths.values()])
        return cls(tuple(scenes), path, options, replace(outputs, **paths), uploads)

    @property
    def location(self) -> str:
        """Path or URL of the raster of classes."""
        return self.uploads.location(self.output)

    @property
    def rasters(self) -> list[Path]:
        """Paths of the rasters to write, the raster of classes first."""
        paths = (self.output, self.outputs.confidence, self.outputs.probabilities)
        return [Path(path) for path in paths if path]

    def bands(self, classes: int) -> dict[str, int]:
        """Number of bands of each raster to write, by the name of its sink."""
        wanted = {
            "classes": 1,
            "confidence": 1 if self.outputs.confidence else 0,
            "probabilities": classes if self.outputs.probabilities else 0,
        }
        return {name: count for name, count in wanted.items() if count}


@dataclass(frozen=True)
class ModelFacts:
    """What the preparation of a scene needs to know of the model.

    Attributes:
        path: The bundle's file; None for a model that was made in memory.
        batch_size: Tiles per call; None for a number that suits the device of this machine.
    """

    header: BundleHeader
    path: Path | None
    device: Any
    precision: Precision
    batch_size: int | None = None

    @classmethod
    def of(cls, model: LoadedModel) -> ModelFacts:
        """The facts of a loaded model."""
        return cls(model.header, model.path, model.device, model.precision)

    @cached_property
    def sha256(self) -> str | None:
        """Hash of the bundle's file; None for a model that was made in memory."""
        return None if self.path is None else file_sha256(self.path)


@dataclass(frozen=True)
class PreparedScene:
    """An open scene, with every decision on how it is mapped. Use it as a context manager.

    Attributes:
        source: The scene, as the model reads it.
        part: The part to map.
        plan: The tiles.
        fingerprint: All that can change a pixel of the map.
        tags: Tags of the rasters to write.
        geocoding: How the map is laid on a map grid; None if it has the grid of the scene.
    """

    request: MapRequest
    source: RasterSource
    part: ScenePart
    settings: MapSettings
    plan: TilePlan
    fingerprint: Mapping[str, Any]
    tags: Mapping[str, str]
    geocoding: Geocoding | None = None

    @property
    def grid(self) -> SceneGrid:
        """The part of the scene's grid that is mapped."""
        return self.source.grid.crop(self.part.window)

    def close(self) -> None:
        """Closes the scene's files."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_request(request: MapRequest) -> list[Path]:
    """Refuses outputs that cannot be written or coincide with other files; returns all paths.

    Raises:
        CwsamGeoError: See ``check_output`` and ``check_apart``.
    """
    options, outputs = request.options, request.outputs
    targets = request.rasters
    for target in targets:
        check_raster_output(target, outputs.overwrite)
    if outputs.vectors is not None:
        # Imported only when needed: geopandas takes a second and 150 MB.
        from cwsam_geo.vectorization.formats import check_vectors

        targets.append(check_vectors(outputs.vectors, outputs.overwrite))
    if outputs.report is not None:
        targets.append(check_output(outputs.report, outputs.overwrite))
    if outputs.areas is not None:
        targets.append(check_areas_output(outputs.areas, outputs.overwrite))
    if outputs.qml:
        targets.append(qml_path(request.output))
    if outputs.stac is not None:
        targets.append(check_item_output(outputs.stac, outputs.overwrite))
    inputs: dict[Scene, str] = dict.fromkeys(map(display_name, request.scenes), "the scene")
    if options.aoi is not None:
        inputs[options.aoi] = "the area of interest"
    check_apart(map(request.uploads.shown, targets), inputs)
    return targets


def prepare_scene(
    request: MapRequest, model: ModelFacts, on_event: Callable[[Event], None] = lambda _: None
) -> PreparedScene:
    """Opens a scene and makes all decisions and checks that do not need the network.

    Args:
        on_event: Called with the decisions and warnings.

    Raises:
        CwsamGeoError: An option, the scene or an output is at fault.
    """
    targets = check_request(request)
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(open_request(request))
        prepared = plan_scene(request, whole, model, targets, on_event)
        stack.pop_all()  # the prepared scene now closes the files
    return prepared


def open_request(request: MapRequest) -> RasterSource:
    """Opens the scene of a request, with the bands and values that its options select.

    Raises:
        CwsamGeoError: See ``open_source``.
    """
    options = request.options
    return open_source(
        list(request.scenes), options.bidx, _nodata(options), options.scale, options.offset
    )


def plan_scene(
    request: MapRequest,
    whole: RasterSource,
    model: ModelFacts,
    targets: Sequence[Path],
    on_event: Callable[[Event], None] = lambda _: None,
) -> PreparedScene:
    """Decides how an open scene is mapped; see ``prepare_scene``.

    Args:
        whole: The scene, from ``open_request``. The caller closes it after an error.
        targets: The request's outputs, from ``check_request``.

    Raises:
        CwsamGeoError: An option, the scene or an output is at fault.
    """
    options, header = request.options, model.header
    _check_files(map(request.uploads.gdal_name, targets), whole)
    part = _part(whole, options)
    geocoding = _geocoding(whole, part, options)
    _check_vectors(request.outputs, whole, geocoding)
    reading = plan_reading(
        whole, header.preprocess, options.units, options.border_noise, options.despeckle
    )
    warnings = _warnings(header, reading)
    if options.min_confidence or request.outputs.tells_confidence:
        warnings += _confidence_warnings(header, reading)
    remarks = list(reading.remarks)
    if geocoding is not None:
        remarks += geocoding.remarks
        warnings += geocoding.warnings
    for kind, texts in (("decision", remarks), ("warning", warnings)):
        for text in texts:
            on_event({"event": kind, "text": text})
    size = header.architecture.tile_size
    overlap = default_overlap(size) if options.overlap is None else options.overlap
    settings = MapSettings(
        spec=header.preprocess,
        legend=header.legend,
        scene=reading.scene_bands,
        overlap=overlap,
        blend=options.blend,
        batch_size=options.batch_size
        or model.batch_size
        or auto_batch_size(header.architecture, model.device),
        temperature=header.temperatures.of(header.preprocess.bands_of(reading.scene_bands)),
        min_confidence=int(options.min_confidence),
    )
    if request.outputs.qml:
        kept = check_qml(request.output, settings.map_legend, request.outputs.overwrite)
        if kept is not None:
            on_event({"event": "decision", "text": kept})
    known = fingerprint_of(request, whole, model)
    return PreparedScene(
        request,
        reading.source,
        part,
        settings,
        tile_plan(reading.source, size, header.architecture.stride, overlap, part),
        known,
        {FINGERPRINT_TAG: as_text(known)}
        | ({} if geocoding is None else {GEOCODING_TAG: json.dumps(geocoding.facts)})
        | map_tags(
            settings.map_legend,
            {"file": model.path and model.path.name, "sha256": model.sha256},
            reading.source,
            settings_of(settings, size, model.precision, options, reading),
            warnings,
        ),
        geocoding if geocoding is not None and geocoding.moves else None,
    )


def fingerprint_of(request: MapRequest, whole: RasterSource, model: ModelFacts) -> dict[str, Any]:
    """All that can change a pixel of a request's map; no pixel of the scene is read for it.

    Args:
        whole: The scene, from ``open_request``.
    """
    identity = ModelIdentity(model.sha256, model.precision, model.device.type)
    bands = request.bands(len(model.header.legend))
    return fingerprint(whole, request.options, bands, identity)


def _check_files(targets: Iterable[str], source: RasterSource) -> None:
    """Refuses an output that is a file of the scene, such as a member of a product or of a VRT."""
    files = [file for dataset in source.datasets for file in dataset.files]
    check_apart(targets, dict.fromkeys(files, "a file of the scene"))


def _check_vectors(outputs: PredictOutputs, source: Source, geocoding: Geocoding | None) -> None:
    if outputs.vectors is not None:
        from cwsam_geo.vectorization.vectorize import check_placeable

        location = geocoding.onto if geocoding else locate(source.grid, source.label)
        check_placeable(location, outputs.vectors)


def _nodata(options: PredictOptions) -> Any:
    """The nodata option as ``open_source`` takes it: a number, ``"none"`` or None."""
    if options.nodata is None or options.nodata == "none":
        return options.nodata
    try:
        return float(options.nodata)
    except ValueError:
        raise UsageError(f'nodata {options.nodata!r}: give a number, "nan" or "none"') from None


def _warnings(header: BundleHeader, reading: Reading) -> list[str]:
    """What the user should know before trusting the map."""
    warnings = list(reading.warnings)
    source = reading.source
    for warning in (
        place_warning(source.grid),
        pixel_size_warning(source.grid, source.label, header.pixel_sizes),
    ):
        if warning is not None:
            warnings.append(warning)
    if header.provenance.get("trained") is False:
        warnings.append(
            "this model has not been trained: its classes mean nothing; "
            "fine-tune it, or use it only to try the program"
        )
    return warnings


def _confidence_warnings(header: BundleHeader, reading: Reading) -> list[str]:
    """What the user should know before trusting the confidence."""
    bands = header.preprocess.bands_of(reading.scene_bands)
    if not header.temperatures.lists_bands or header.temperatures.calibrated(bands):
        return []
    known = " and for ".join(", ".join(names) for names in header.temperatures.by_bands)
    return [
        f"the model's confidence is calibrated for {known}, but not for {', '.join(bands)} alone: "
        "it may be sure of a wrong class"
    ]


def _part(source: Source, options: PredictOptions) -> ScenePart:
    if options.bounds is not None:
        return part_in_bounds(source.grid, source.label, options.bounds)
    if options.aoi is not None:
        return part_in_area(source.grid, source.label, options.aoi)
    return ScenePart(source.grid.window)


def _geocoding(source: Source, part: ScenePart, options: PredictOptions) -> Geocoding | None:
    if options.t_srs is None:
        return None
    return plan_geocoding(source.grid, source.label, part.window, options.t_srs, options.res)
