"""What the user of ``info`` chooses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cwsam_geo.scene.bands import Nodata
from cwsam_geo.scene.reading import BorderNoiseOption
from cwsam_geo.scene.units import UnitsOption

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class InfoOptions:
    """How a scene is read; the same options as for ``predict``.

    Attributes:
        model: Name or path of a model bundle, or None to describe the scene alone.
        overlap: Pixels shared by neighbouring tiles, or None for an eighth of a tile.
        bidx: Bands of the scene to use, from 1, or None for all.
        units: Units of the scene's values; ``auto`` decides from the whole scene.
        nodata: Nodata value that replaces the declared one, ``"none"`` for no nodata value, or
            None for the declared one.
        scale: Factor from stored to true values that replaces the file's own, or None.
        offset: Added after scaling; replaces the file's own, or None.
        border_noise: Whether noise along the borders of old Sentinel-1 products is nodata.
    """

    model: str | os.PathLike[str] | None = None
    overlap: int | None = None
    bidx: Sequence[int] | None = None
    units: UnitsOption = "auto"
    nodata: Nodata = None
    scale: float | None = None
    offset: float | None = None
    border_noise: BorderNoiseOption = "mask"
