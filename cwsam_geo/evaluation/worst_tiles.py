"""Finds the tiles of a map that differ most from the reference, and draws them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.evaluation.compared_pixels import Channels, ComparedFiles, ComparedPixels
from cwsam_geo.pages.pyramid import image_url

Picture = NDArray[np.uint8]

_SIDE = 256
"""Side of a tile in pixels of the map."""

_LEAST_CELLS = 32
"""Side of a tile in cells of the arrays that are counted, at least."""

_MOST = 6
"""Tiles that a report shows: a reader looks at no more."""


@dataclass(frozen=True)
class WorstTile:
    """A tile with many differences.

    Attributes:
        window: Place on the map.
        share: Share of the compared pixels that differ.
        confused: Reference class and class of the map that differ most often, as channels.
    """

    window: Window
    share: float
    confused: tuple[int, int]


def worst_tiles(mapped: Channels, reference: Channels, grid: SceneGrid) -> list[WorstTile]:
    """The tiles with most differing pixels, the worst first.

    Args:
        mapped: Channels of the map, shape (h, w), perhaps with larger pixels than the map.
        reference: Channels of the reference, the same shape.
        grid: The map's grid.
    """
    height, width = mapped.shape
    down, across = grid.height / height, grid.width / width
    side = max(_LEAST_CELLS, round(_SIDE / max(down, across)))
    compared = (mapped != NODATA) & (reference != NODATA)
    wrong = compared & (mapped != reference)
    counts = _sums(wrong, side)
    tiles = []
    for place in np.argsort(counts, axis=None)[::-1][:_MOST]:
        i, j = divmod(int(place), counts.shape[1])
        if not counts[i, j]:
            break
        part = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
        # The most frequent pair of classes among the differences.
        pairs = reference[part][wrong[part]].astype(np.int64) * 256 + mapped[part][wrong[part]]
        confused = divmod(int(np.bincount(pairs).argmax()), 256)
        window = Window(
            round(i * side * down),
            round(j * side * across),
            round(side * down),
            round(side * across),
        ).intersect(grid.window)
        tiles.append(WorstTile(window, counts[i, j] / compared[part].sum(), confused))
    return tiles


def _sums(flags: NDArray[np.bool_], side: int) -> NDArray[np.int64]:
    """Number of True in each tile."""
    rows = np.add.reduceat(flags.astype(np.int64), np.arange(0, flags.shape[0], side), axis=0)
    return np.asarray(np.add.reduceat(rows, np.arange(0, flags.shape[1], side), axis=1))


def drawn_tiles(
    files: ComparedFiles,
    grid: SceneGrid,
    tiles: list[WorstTile],
    scene: Callable[[Window], Picture] | None,
) -> list[dict[str, Any]]:
    """Pictures and captions of tiles, for the page.

    Args:
        files: Map and reference.
        grid: The map's grid.
        tiles: The tiles.
        scene: Returns the picture of a window, (h, w, 4) RGBA; None without a scene.
    """
    legend = files.evaluation.classes.legend
    names = legend.names
    drawn = []
    with contextlib.closing(ComparedPixels(files, grid)) as pixels:
        for number, tile in enumerate(tiles, 1):
            mapped, reference = pixels.read(tile.window)
            images = [("Scene", image_url(scene(tile.window)))] if scene is not None else []
            images += [
                ("Reference", image_url(painted(reference, legend), lossless=True)),
                ("Map", image_url(painted(mapped, legend), lossless=True)),
            ]
            truth, found = (names[channel] for channel in tile.confused)
            window = tile.window
            drawn.append(
                {
                    "number": number,
                    "images": images,
                    "caption": f"{100 * tile.share:.1f} % of the compared pixels differ, mostly "
                    f"{truth} mapped as {found}; columns {window.col} to {window.right - 1}, rows "
                    f"{window.row} to {window.bottom - 1}",
                }
            )
    return drawn


def painted(channels: Channels, legend: Legend) -> Picture:
    """Channels in the classes' colours, (h, w, 4) RGBA, transparent where there is none."""
    table = np.zeros((256, 4), np.uint8)
    for channel, entry in enumerate(legend.entries):
        table[channel] = (*entry.rgb, 255)
    return table[channels]
