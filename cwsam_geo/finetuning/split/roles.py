"""Roles of a scene's pixels: training, validation, test or unused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.finetuning.region.config import Split
from cwsam_geo.io.vector_file import burn

UNUSED, TRAIN, VAL, TEST = range(4)
"""Roles of pixels. Unused pixels lie in the gap around blocks for validation and test."""

ROLES: dict[Split, int] = {"train": TRAIN, "val": VAL, "test": TEST}
"""Role by its name in ``region.yaml``."""


@dataclass(frozen=True)
class SceneRoles:
    """The roles of a scene's pixels.

    Attributes:
        rest: Role of pixels outside all shapes.
        shapes: Polygons in pixel coordinates, shape (N,); where they overlap, the last one counts.
        roles: Role of the pixels in each shape, shape (N,), uint8.
    """

    rest: int
    shapes: NDArray[Any]
    roles: NDArray[np.uint8]

    @classmethod
    def whole(cls, split: Split) -> SceneRoles:
        """A scene whose pixels all have one role."""
        return cls(ROLES[split], np.array([], object), np.array([], np.uint8))

    @classmethod
    def with_blocks(
        cls, val: NDArray[Any], test: NDArray[Any], gap: float, only_train: bool = False
    ) -> SceneRoles:
        """A training scene with blocks for validation and test, and a gap around them.

        Args:
            val: Polygons for validation, in pixel coordinates.
            test: Polygons for the test, in pixel coordinates.
            gap: Width of the gap in pixels.
            only_train: The scene is for training only. Blocks of other scenes that it covers are
                unused.
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
        """Roles of the pixels of a window, by their centres, shape (h, w), uint8."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        hits = np.sort(self._tree.query(box)) if len(self.shapes) else np.array([], int)
        if not len(hits):
            return np.full((window.height, window.width), self.rest, np.uint8)
        # Burned as role + 1: 0 marks pixels outside all shapes.
        burned = burn(self.shapes[hits], self.roles[hits].astype(np.int32) + 1, window)
        return np.where(burned > 0, burned - 1, self.rest).astype(np.uint8)
