"""What the user of ``preview`` chooses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.options import ClassMapping
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.scene.bands import Nodata
from cwsam_geo.scene.units import UnitsOption

PathLike = str | os.PathLike[str]

Layout = Literal["side", "blend"]
"""Scene and map beside each other, or the map over the scene."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Coordinates = Literal["degrees", "map", "none"]
"""Numbers along the edges: longitude and latitude, coordinates of the CRS, or none."""

COORDINATES: tuple[Coordinates, ...] = get_args(Coordinates)

SIZES = (300, 10_000)
"""Least and largest longer side of a picture in pixels: text needs room, and memory is finite."""


@dataclass(frozen=True)
class SceneOptions:
    """How the scene in a picture is read; as for ``predict``.

    Attributes:
        bidx: Bands to show, from 1: one in grey, or three as red, green and blue. None for
            co- and cross-polarisation, or the first band.
        units: Units of the scene's values; ``auto`` decides from the scene.
        nodata: Nodata value that replaces the declared one, ``"none"`` for no nodata value.
        scale: Factor from stored to true values that replaces the file's own, or None.
        offset: Added after scaling; replaces the file's own, or None.
        color: True for false colour, False for grey; None for false colour only if the scene is
            alone, because classes have colours too.
    """

    bidx: Sequence[int] | None = None
    units: UnitsOption = "auto"
    nodata: Nodata = None
    scale: float | None = None
    offset: float | None = None
    color: bool | None = None


@dataclass(frozen=True)
class ReferenceOptions:
    """How the reference is read; as for ``evaluate``.

    Attributes:
        mapping: What values of the reference mean.
        layer: Layer and column of a vector file.
        band: Band of a raster that holds the class codes; None to find it.
    """

    mapping: ClassMapping = field(default_factory=ClassMapping)
    layer: VectorLayer = field(default_factory=VectorLayer)
    band: int | str | None = None


@dataclass(frozen=True)
class PreviewOptions:
    """What a picture shows, and how.

    Attributes:
        scene: The scene of a map: one raster, or several single-band rasters.
        vectors: Polygons to draw over the scene, or over the map if there is no scene.
        reference: What the map is compared with: a class raster or polygons.
        layout: ``side`` for scene and map beside each other, ``blend`` for the map over the scene.
        opacity: Share of the classes' colours where they lie over the scene, 0 to 1.
        size: Longer side of the picture in pixels. All text and lines scale with it.
        coordinates: Numbers along the edges: ``degrees``, ``map`` (of the CRS) or ``none``.
        title: Line above the picture.
        reading: How the scene is read.
        comparing: How the reference is read.
        overwrite: Replace a picture that exists.

    Raises:
        UsageError: A value is not possible.
    """

    scene: PathLike | Sequence[PathLike] | None = None
    vectors: PathLike | None = None
    reference: PathLike | None = None
    layout: Layout = "side"
    opacity: float = 0.5
    size: int = 1600
    coordinates: Coordinates = "degrees"
    title: str = ""
    reading: SceneOptions = field(default_factory=SceneOptions)
    comparing: ReferenceOptions = field(default_factory=ReferenceOptions)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r} is none of {', '.join(LAYOUTS)}")
        if self.coordinates not in COORDINATES:
            raise UsageError(f"coordinates {self.coordinates!r}: {', '.join(COORDINATES)}")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise UsageError(f"size {self.size}: give {SIZES[0]} to {SIZES[1]} pixels")
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"opacity {self.opacity:g}: give a number from 0 to 1")
