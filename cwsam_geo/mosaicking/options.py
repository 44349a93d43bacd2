"""Options of ``mosaic``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_sink import FORMATS, RasterFormat


@dataclass(frozen=True)
class MosaicOptions:
    """How maps are put together.

    Attributes:
        confidence: A raster of confidence for each map. Where maps overlap, the class with the
            higher confidence counts; without these rasters, that of the first map.
        confidence_output: Also write the confidence of the classes that count.
        crs: CRS of the mosaic, such as ``EPSG:32633``, to which maps in another one are resampled
            (nearest neighbour); None if all maps have one grid of pixels.
        resolution: Side of the mosaic's pixels, in units of ``crs``; None for that of the first
            map, or for a similar one if units differ.
        like: Raster whose grid the mosaic gets, pixel by pixel.
        format: ``COG`` or ``GTiff``.
        creation_options: GDAL creation options for the rasters.
        qml: Also write a style with the classes beside the mosaic, ``*.qml``, which QGIS applies
            when it opens the mosaic. A style that the user has made or changed is kept.

    Raises:
        UsageError: The options contradict each other.
    """

    confidence: Sequence[str | os.PathLike[str]] = ()
    confidence_output: str | os.PathLike[str] | None = None
    crs: str | None = None
    resolution: float | None = None
    like: str | os.PathLike[str] | None = None
    format: RasterFormat = "COG"
    creation_options: Mapping[str, str] = field(default_factory=dict)
    qml: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"format {self.format!r} is none of {', '.join(FORMATS)}")
        if self.like is not None and (self.crs is not None or self.resolution is not None):
            raise UsageError("give --like, or --t-srs and --tr, not both")
        if self.resolution is not None and self.crs is None:
            raise UsageError("--tr needs --t-srs: the CRS in whose units the pixel size is")
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise UsageError(f"--tr {self.resolution:g}: a pixel size is above 0")
        if self.confidence_output is not None and not self.confidence:
            raise UsageError("--confidence-output needs --confidence, the rasters of each map")
