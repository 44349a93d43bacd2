"""Rows of a map that are computed on their own, and made durable while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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
