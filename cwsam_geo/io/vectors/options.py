"""What ``vectorize`` takes and what it tells."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from rasterio.crs import CRS

from cwsam_geo.errors import UsageError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class VectorizeOptions:
    """How a class raster becomes polygons.

    Areas are square metres and lengths metres; in a raster without CRS they are in units of its
    coordinates, which are pixels where there is no geotransform either.

    Attributes:
        min_area: Regions smaller than this go to their largest neighbour; 0 keeps all.
        simplify: Tolerance of the boundaries' simplification; 0 keeps every corner.
        smooth: Round the boundaries' corners.
        connectivity: 4, or 8 to make one feature of regions that touch at a corner.
        classes: Names or numbers of the classes to write, or None for all.
        dissolve: Write one multipolygon for each class.
        t_srs: CRS of the output, or None for the raster's.
        confidence: Raster on the same grid, averaged over each polygon.
        layer: Name of the layer, or None for the output's.
    """

    min_area: float = 0.0
    simplify: float = 0.0
    smooth: bool = False
    connectivity: int = 4
    classes: tuple[str, ...] | None = None
    dissolve: bool = False
    t_srs: str | None = None
    confidence: PathLike | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("--min-area", self.min_area), ("--simplify", self.simplify)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} {value}: give a number from 0")
        if self.connectivity not in (4, 8):
            raise UsageError(f"connectivity {self.connectivity}: 4 or 8")
        if self.classes is not None and not self.classes:
            raise UsageError("--classes names no class")


@dataclass(frozen=True)
class ClassTotal:
    """What was written of one class.

    Attributes:
        value: The raster's value.
        name: Its name.
        count: Features.
        area: Their area, in ``VectorizeResult.area_unit``.
    """

    value: int
    name: str
    count: int
    area: float


@dataclass(frozen=True)
class VectorizeResult:
    """What was written.

    Attributes:
        output: The file.
        count: Features.
        classes: Totals of the classes that occur, by value.
        area_unit: ``m2``, or None for squared units of the coordinates (no CRS).
        crs: CRS of the output, or None.
        seconds: Time taken.
    """

    output: Path
    count: int
    classes: tuple[ClassTotal, ...]
    area_unit: str | None
    crs: CRS | None
    seconds: float
