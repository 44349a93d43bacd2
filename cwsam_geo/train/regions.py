"""Which pixels of a scene are for training, validation and test, and which for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.grid import Window
from cwsam_geo.io.features import burn
from cwsam_geo.train.config import Split

UNUSED, TRAIN, VAL, TEST = range(4)
"""Roles of pixels; unused ones lie in the gap between training and the rest."""

ROLES: dict[Split, int] = {"train": TRAIN, "val": VAL, "test": TEST}


@dataclass(frozen=True)
class SceneRegions:
    """The roles of a scene's pixels.

    Attributes:
        rest: Role of what lies in none of the blocks.
        shapes: Blocks in pixel coordinates, shape (N,); later ones win.
        roles: Role of each, shape (N,), uint8.
    """

    rest: int
    shapes: NDArray[Any]
    roles: NDArray[np.uint8]

    @classmethod
    def whole(cls, split: Split) -> SceneRegions:
        """A scene that is all for one purpose."""
        return cls(ROLES[split], np.array([], object), np.array([], np.uint8))

    @classmethod
    def with_blocks(
        cls, val: NDArray[Any], test: NDArray[Any], gap: float, only_train: bool = False
    ) -> SceneRegions:
        """A scene of training with blocks for the rest, and a gap around these.

        Args:
            val: Blocks for validation, in pixel coordinates.
            test: Blocks for the test.
            gap: Pixels between training and the blocks.
            only_train: The scene is for training alone: its pixels in the blocks are unused.
        """
        blocks = np.concatenate([val, test])
        around = shapely.buffer(blocks, gap, join_style="mitre")
        if only_train:
            return cls(TRAIN, around, np.full(len(around), UNUSED, np.uint8))
        roles = np.repeat([UNUSED, VAL, TEST], [len(around), len(val), len(test)])
        return cls(TRAIN, np.concatenate([around, blocks]), roles.astype(np.uint8))

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)

    def of(self, window: Window) -> NDArray[np.uint8]:
        """Roles of a window's pixels, shape (h, w), uint8; a pixel is where its centre is."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        found = np.sort(self._tree.query(box)) if len(self.shapes) else np.array([], int)
        if not len(found):
            return np.full((window.height, window.width), self.rest, np.uint8)
        burned = burn(self.shapes[found], self.roles[found].astype(np.int32) + 1, window)
        return np.where(burned > 0, burned - 1, self.rest).astype(np.uint8)
