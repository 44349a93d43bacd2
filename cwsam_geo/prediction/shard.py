"""The part of a scene, and the rows of its map, that a run computes, and the tiles for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.tiling import TilePlan

if TYPE_CHECKING:
    from cwsam_geo.scene.source import Source


class Part(Protocol):
    """The part of a scene to map.

    Attributes:
        window: The rectangle of the scene that the map covers.
    """

    @property
    def window(self) -> Window:
        """The rectangle of the scene that the map covers."""

    def contains(self, window: Window) -> NDArray[np.bool_]:
        """True where a pixel of a window inside ``self.window`` gets a class, shape (h, w)."""


class Checkpoint(Protocol):
    """Makes the results of a run durable while it goes on."""

    def due(self) -> bool:
        """Whether ``take`` should be called after this row of tiles."""

    def take(self, rows: int, empty_tiles: Mapping[int, int]) -> None:
        """Called when the sinks have all pixels above a row, and at the end of the run.

        Args:
            rows: Rows of the map, counted from its top, that are final and written.
            empty_tiles: For each row of tiles that is finished, how many were not given to the
                model.
        """


@dataclass(frozen=True)
class Shard:
    """Rows of a map that are computed on their own.

    Attributes:
        rows: The rows, counted from the map's top.
        checkpoint: Told between two rows of tiles which pixels are written; None for nobody.
    """

    rows: range
    checkpoint: Checkpoint | None = None


def tile_plan(
    source: Source,
    tile_size: int,
    stride: int,
    overlap: int,
    part: Part | None = None,
    rows: range | None = None,
) -> TilePlan:
    """The tiles with which ``map_scene`` covers a scene, a part of it, or rows of its map."""
    window = source.grid.window if part is None else part.window
    if rows is not None:
        window = Window(window.row + rows.start, window.col, len(rows), window.width)
    return TilePlan(source.grid.height, source.grid.width, tile_size, overlap, stride, window)
