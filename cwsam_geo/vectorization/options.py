"""Options and result of ``vectorize``."""

from __future__ import annotations

import html
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

    Areas are in square metres on the ellipsoid, and lengths in metres. A raster without a CRS has
    the units of its geotransform instead, or pixels where there is no geotransform either.

    Attributes:
        min_area: Regions smaller than this are merged into their largest neighbour; 0 keeps all.
        simplify: Tolerance of the simplification of boundaries; 0 keeps every corner.
        smooth: Round the corners of boundaries.
        connectivity: 4, or 8 to make one feature of regions that touch at a corner.
        classes: Names or numbers of the classes to write, or None for all.
        dissolve: Write one multipolygon for each class.
        t_srs: CRS of the output, or None for the raster's.
        confidence: Raster on the same grid, whose mean over each polygon becomes a column.
        layer: Name of the layer, or None for the name of the output file.
        band: Number (from 1) or name of the band that holds the class codes, or None where the
            raster has only one, or one that is called ``label``, ``class``, ``landcover`` ...
        overwrite: Replace an existing output; without it an existing output is an error.
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
    band: int | str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--min-area", self.min_area), ("--simplify", self.simplify)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} {value}: give a number of 0 or more")
        if self.connectivity not in (4, 8):
            raise UsageError(f"connectivity {self.connectivity}: must be 4 or 8")
        if self.classes is not None and not self.classes:
            raise UsageError("--classes names no class")


@dataclass(frozen=True)
class ClassTotal:
    """Number and area of the features of one class.

    Attributes:
        value: Value of the class in the raster.
        count: Number of features.
        area: Total area, in ``VectorizeResult.area_unit``.
    """

    value: int
    name: str
    count: int
    area: float


@dataclass(frozen=True)
class VectorizeResult:
    """Summary of the written features.

    Attributes:
        output: The written file.
        count: Number of features.
        classes: Totals of the classes that occur, in the order of their values.
        area_unit: ``m2``; None for squared units of the coordinates, where there is no CRS.
        crs: CRS of the output, or None.
        seconds: Duration of the run.
    """

    output: Path
    count: int
    classes: tuple[ClassTotal, ...]
    area_unit: str | None
    crs: CRS | None
    seconds: float

    def _repr_html_(self) -> str:
        unit = self.area_unit or "area"
        rows = "".join(
            f"<tr><td>{c.value}</td><td>{html.escape(c.name)}</td><td>{c.count:,}</td>"
            f"<td>{c.area:,.0f}</td></tr>"
            for c in self.classes
        )
        head = "".join(f"<th>{text}</th>" for text in ("code", "class", "polygons", unit))
        name = html.escape(str(self.output))
        return f"<table><caption>{name}</caption><tr>{head}</tr>{rows}</table>"
