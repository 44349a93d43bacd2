"""What the user of ``report`` chooses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.options import EvaluateOptions

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class ReportScene:
    """The scene that a map was made from, and how it is read.

    Attributes:
        paths: One raster, or several single-band rasters; empty for no scene.
        bidx: Bands to show, from 1, or None to choose.
        nodata: Nodata value that replaces the declared one, ``"none"``, or None.
        scale: Factor from stored to true values, or None for the file's own.
        offset: Added after scaling, or None for the file's own.
    """

    paths: Sequence[PathLike] = ()
    bidx: Sequence[int] | None = None
    nodata: float | str | None = None
    scale: float | None = None
    offset: float | None = None


@dataclass(frozen=True)
class ReportOptions:
    """What the report of a map shows.

    Attributes:
        scene: The scene below the map.
        confidence: Raster of the winning class's probability in per cent, or None.
        vectors: Polygons whose outlines are drawn, or None.
        reference: Reference that the map is compared with, or None.
        comparison: How map and reference are compared; see ``evaluate``.
        model: The model's bundle, by path or name; None to look for the one that the map names.
        title: Title of the report; None for one with the map's name.
        band: Band of the map that holds the class codes; None to find it.
        warnings: Warnings of the run that made the map; None to take those in the map's tags.
        names: What the report lists files as, by their paths; a file that is not in it is listed by
            its path.
        overwrite: Replace an existing report.

    Raises:
        UsageError: ``comparison`` is given without ``reference``.
    """

    scene: ReportScene = field(default_factory=ReportScene)
    confidence: PathLike | None = None
    vectors: PathLike | None = None
    reference: PathLike | None = None
    comparison: EvaluateOptions = field(default_factory=EvaluateOptions)
    model: PathLike | None = None
    title: str | None = None
    band: int | str | None = None
    warnings: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.reference is None and self.comparison != EvaluateOptions():
            raise UsageError(
                "--map, --merge, --ignore and --column are for --reference: give it too"
            )
