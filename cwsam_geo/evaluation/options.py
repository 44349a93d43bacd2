"""What the user of ``evaluate`` chooses."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cwsam_geo.core.class_values import value_name
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import UsageError
from cwsam_geo.io.vector_file import VectorLayer


@dataclass(frozen=True)
class ClassMapping:
    """The user's mapping of reference values and map classes.

    Attributes:
        map: Maps a code, name or colour of the reference to a class of the map (code or name) or
            to ``ignore``.
        merge: Maps a class of the map to the class of the map that it is counted as.
        ignore: Classes of the map, or values of the reference, that do not count.

    Raises:
        UsageError: ``map`` has the same colour twice, in upper and in lower case, with different
            targets.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    merge: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        targets: dict[str, str] = {}
        for value, target in self.map.items():
            if targets.setdefault(value_name(value), target) != target:
                raise UsageError(f"--map {value} is given twice")
        # The dataclass is frozen: store the texts with colours in lower case this way.
        object.__setattr__(self, "map", targets)
        object.__setattr__(self, "ignore", tuple(value_name(i) for i in self.ignore))


@dataclass(frozen=True)
class EvaluateOptions:
    """How a map is compared with a reference.

    Attributes:
        mapping: How codes and classes of the reference correspond to the map's classes.
        layer: Column and layer of a vector reference.
        band: Number (from 1) or name of the band of a reference raster that holds the class codes;
            None to find it.
        map_band: The same for the map.
        confidence: Raster of the map's confidence, on the map's grid, to judge how reliable it is:
            per cents in whole numbers, as ``predict`` writes them, or probabilities.
        aoi: Vector file; pixels and points outside its polygons do not count.
        stratum_sizes: Size of each stratum of ``layer.stratum``, for samples of points that were
            not drawn by the map's classes: area or number of pixels, all in one unit.
        legend: Legend to use instead of the map's own. The class that it ignores does not count,
            unless ``mapping`` ignores other classes.

    Raises:
        UsageError: A stratum's size is not a number above 0, or ``layer`` names no stratum.
    """

    mapping: ClassMapping = field(default_factory=ClassMapping)
    layer: VectorLayer = field(default_factory=VectorLayer)
    band: int | str | None = None
    map_band: int | str | None = None
    confidence: str | os.PathLike[str] | None = None
    aoi: str | os.PathLike[str] | None = None
    stratum_sizes: Mapping[str, float] = field(default_factory=dict)
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if self.stratum_sizes and self.layer.stratum is None:
            raise UsageError("--stratum-size needs --stratum, the column with each point's stratum")
        for name, size in self.stratum_sizes.items():
            if not (size > 0 and math.isfinite(size)):
                raise UsageError(f"--stratum-size {name}={size}: a size is a number above 0")

    def settled(self) -> EvaluateOptions:
        """The options with the class that the legend ignores added to ``mapping.ignore``."""
        if self.legend is None or self.legend.ignore is None or self.mapping.ignore:
            return self
        ignored = self.legend.names[self.legend.channel(self.legend.ignore)]
        return replace(self, mapping=replace(self.mapping, ignore=(ignored,)))


@dataclass(frozen=True)
class EvaluateOutputs:
    """The reports that ``evaluate`` writes.

    Attributes:
        json: The whole report.
        csv: Scores and confusion matrix, one row for each class.
        html: The report as a page that needs no other file, with a map.
        png: Picture of the confusion matrix; it needs matplotlib.
        scene: The scene that the map was made from, which the page then shows: one raster, or
            several single-band rasters.
        overwrite: Replace existing files.
    """

    json: str | os.PathLike[str] | None = None
    csv: str | os.PathLike[str] | None = None
    html: str | os.PathLike[str] | None = None
    png: str | os.PathLike[str] | None = None
    scene: Sequence[str | os.PathLike[str]] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.scene and self.html is None:
            raise UsageError("--scene is shown in the HTML page: give --html too")

    @property
    def paths(self) -> list[str | os.PathLike[str]]:
        """The files that are to be written."""
        return [p for p in (self.json, self.csv, self.html, self.png) if p is not None]
