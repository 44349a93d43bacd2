"""What ``predict`` can be told: how a scene is mapped, and what is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cwsam_geo.blend import BLENDS, BlendName
from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_sink import FORMATS, RasterFormat
from cwsam_geo.units import UnitsOption

DEFAULT_MODEL = "s1-landcover"
"""The bundled model that ``predict`` takes unless told otherwise."""


@dataclass(frozen=True)
class PredictOptions:
    """How a scene is mapped.

    Attributes:
        model: Name of a bundled model, or path of a model bundle.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        batch_size: Tiles at once, or None for what suits the device.
        overlap: Pixels shared by neighbouring tiles, or None for an eighth of a tile.
        blend: How they share them.
        bidx: Bands of the scene to take, from 1, or None for those the model wants.
        units: What the scene's values are; ``auto`` decides from the whole scene.
        nodata: Value that is nodata instead of what the scene declares, ``"none"``, or None for
            what it declares.
        bounds: West, south, east, north in the scene's CRS: map only this part.
        aoi: Vector file: map only what lies in its polygons.
        tta: Average over four flips, at four times the cost.
        compile: Let torch.compile rewrite the model for the GPU, which takes minutes first.
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
    bounds: tuple[float, float, float, float] | None = None
    aoi: str | os.PathLike[str] | None = None
    tta: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.bounds is not None and self.aoi is not None:
            raise UsageError("give --bounds or --aoi, not both")
        if self.blend not in BLENDS:
            raise UsageError(f"blend {self.blend!r} is none of {', '.join(BLENDS)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: at least 1")


@dataclass(frozen=True)
class PredictOutputs:
    """What ``predict_scene`` writes besides the classes, and how.

    Attributes:
        confidence: Raster of the winning class's probability in per cent.
        probabilities: Raster of every class's probability in per cent, a band each.
        vectors: Polygons of the classes; see ``vectorize`` for the formats. With ``confidence``
            they carry its mean.
        format: ``COG`` or ``GTiff``.
        creation_options: GDAL creation options for all rasters.
        overwrite: Replace files that are there.
    """

    confidence: str | os.PathLike[str] | None = None
    probabilities: str | os.PathLike[str] | None = None
    vectors: str | os.PathLike[str] | None = None
    format: RasterFormat = "COG"
    creation_options: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"format {self.format!r} is none of {', '.join(FORMATS)}")
