"""Options of ``predict``: how a scene is mapped, and what is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_sink import FORMATS, RasterFormat
from cwsam_geo.prediction.blend import BLENDS, BlendName
from cwsam_geo.scene.reading import BORDER_NOISE, BorderNoiseOption
from cwsam_geo.scene.units import UnitsOption

DEFAULT_MODEL = "s1-water"
"""The bundled model that ``predict`` uses by default."""

FURTHER_OUTPUTS = ("confidence", "probabilities", "vectors", "report", "areas", "stac")
"""Outputs besides the raster of classes that have a path of their own, by their options."""


@dataclass(frozen=True)
class PredictOptions:
    """How a scene is mapped.

    Attributes:
        model: Name of a bundled model, or path of a model bundle.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        batch_size: Tiles per call of the model, or None for a number that suits the device.
        overlap: Pixels shared by neighbouring tiles, or None for an eighth of a tile.
        blend: Weights of overlapping tiles: ``linear``, ``cosine``, ``gaussian`` or ``flat``.
        bidx: Bands of the scene to read, from 1, or None for those that the model takes.
        units: Units of the scene's values; ``auto`` decides from the whole scene.
        nodata: Nodata value that replaces the declared one, ``"none"`` for no nodata value, or
            None for the declared one.
        scale: Factor from stored to true values that replaces the file's own, or None.
        offset: Added after scaling; replaces the file's own, or None.
        border_noise: ``mask`` if noise along the borders of old Sentinel-1 products is nodata, or
            ``keep``.
        despeckle: Filter the scene's speckle (refined Lee) before the model sees it.
        bounds: West, south, east, north of the part to map, in the scene's CRS. The map of a part
            equals that part of the whole scene's map, up to rounding in the network.
        aoi: Vector file whose polygons bound the part to map.
        tta: Average over four views of each tile, mirrored and moved by half a patch of the
            network, at four times the cost.
        compile: Compile the model for the GPU with torch.compile, which takes minutes at first.
        min_confidence: Pixels whose confidence, in per cent as ``PredictOutputs.confidence`` has
            it, is lower become the class ``unclassified``; 0 for none.
        t_srs: CRS of a north-up map grid on which the rasters are laid (nearest neighbour), such as
            ``EPSG:32633``; ``auto`` for the zone of UTM, or UPS near the poles, in which the middle
            of the scene lies; None to keep the grid of the scene.
        res: Side of the pixels of this grid, in units of its CRS; None for about that of the
            scene's pixels.

    Raises:
        UsageError: The options contradict each other, or a value is not possible.
    """

    model: str | os.PathLike[str] = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    overlap: int | None = None
    blend: BlendName = "linear"
    bidx: Sequence[int] | None = None
    units: UnitsOption = "auto"
    nodata: float | str | None = None
    scale: float | None = None
    offset: float | None = None
    border_noise: BorderNoiseOption = "mask"
    despeckle: bool = False
    bounds: tuple[float, float, float, float] | None = None
    aoi: str | os.PathLike[str] | None = None
    tta: bool = False
    compile: bool = False
    min_confidence: int = 0
    t_srs: str | None = None
    res: float | None = None

    def __post_init__(self) -> None:
        if self.bounds is not None and self.aoi is not None:
            raise UsageError("give --bounds or --aoi, not both")
        if self.blend not in BLENDS:
            raise UsageError(f"blend {self.blend!r} is none of {', '.join(BLENDS)}")
        if not 0 <= self.min_confidence <= 100 or self.min_confidence != int(self.min_confidence):
            raise UsageError(
                f"minimum confidence {self.min_confidence:g}: give a whole number of per cent, "
                "0 to 100"
            )
        if self.border_noise not in BORDER_NOISE:
            raise UsageError(
                f"border noise {self.border_noise!r} is none of {', '.join(BORDER_NOISE)}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: it must be at least 1")
        if self.res is not None and self.t_srs is None:
            raise UsageError("--res needs --t-srs: the CRS in whose units the pixel size is")
        if self.res is not None and not 0 < self.res < float("inf"):
            raise UsageError(f"--res {self.res:g}: a pixel size is above 0")


@dataclass(frozen=True)
class PredictRun:
    """Where a run computes, and how it goes on after a failure. No pixel depends on it.

    Attributes:
        resume: True to go on where an earlier run of the same output stopped, False to begin again,
            None to refuse if there is such a run.
        devices: A process for each device: ``4``, ``all``, ``cuda:0,cuda:2`` or ``cpu:2``; None for
            the device of ``PredictOptions``.
        dask: Address of a Dask scheduler, ``local`` or ``local:N``; None for this machine alone.
        parts: Folder or URL (``s3://...``) for finished rows; None for a hidden folder beside the
            output.

    Raises:
        UsageError: ``devices`` and ``dask`` are given together.
    """

    resume: bool | None = None
    devices: str | None = None
    dask: str | None = None
    parts: str | None = None

    def __post_init__(self) -> None:
        if self.devices is not None and self.dask is not None:
            raise UsageError("give --devices or --dask, not both")

    @property
    def shared(self) -> bool:
        """Whether several processes compute."""
        return self.devices is not None or self.dask is not None


@dataclass(frozen=True)
class PredictOutputs:
    """Outputs of ``predict_scene`` besides the raster of classes, and the format of all rasters.

    Attributes:
        confidence: Raster of the winning class's probability in per cent.
        probabilities: Raster of every class's probability in per cent, one band per class.
        vectors: Polygons of the classes; see ``vectorize`` for the formats. With ``confidence``
            each polygon has its mean confidence.
        report: HTML report of the map; see ``report_map``. It shows the confidence, also without
            ``confidence``.
        areas: Table of the classes' areas, ``*.csv`` or ``*.json``; see ``class_areas``.
        qml: Also write a style with the classes beside the map, ``*.qml``, which QGIS applies when
            it opens the map. A style that the user has made or changed is kept.
        stac: STAC item of the map, ``*.json``, with all outputs as its assets.
        format: ``COG`` or ``GTiff``.
        creation_options: GDAL creation options for all rasters.

    Raises:
        UsageError: The format is unknown.
    """

    confidence: str | os.PathLike[str] | None = None
    probabilities: str | os.PathLike[str] | None = None
    vectors: str | os.PathLike[str] | None = None
    report: str | os.PathLike[str] | None = None
    areas: str | os.PathLike[str] | None = None
    qml: bool = True
    stac: str | os.PathLike[str] | None = None
    format: RasterFormat = "COG"
    creation_options: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False

    @property
    def tells_confidence(self) -> bool:
        """Whether an output shows how sure the model is."""
        return any((self.confidence, self.probabilities, self.report))

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"format {self.format!r} is none of {', '.join(FORMATS)}")
