"""The land cover of an endless plain: rivers, lakes, woods, field parcels, towns, bare ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend

from .noise import Floats, Ints, SmoothFields, Words, hashed, mix, salt, unit

WATER, TREES, CROPS, BUILT, BARE = range(5)

LEGEND = Legend.from_list(
    [
        {"code": WATER, "name": "water", "color": "#419bdf"},
        {"code": TREES, "name": "trees", "color": "#397d49"},
        {"code": CROPS, "name": "crops/grass", "color": "#e3c567"},
        {"code": BUILT, "name": "built-up", "color": "#c4281b"},
        {"code": BARE, "name": "bare", "color": "#a59b8f"},
    ],
    where="simulator",
)

_CELLS = (2048, 1024, 512, 256, 128, 64, 32, 16)
_FIELDS = {
    # Pixels by which rivers and brooks leave their straight course.
    "meander": (420, 260, 200, 120, 55, 10, 3, 1.2),
    "brook": (100, 90, 80, 55, 32, 9, 3, 1.0),
    # Standard deviations; lakes lie low, woods lie high.
    "height": (0.3, 0.45, 0.55, 0.5, 0.3, 0.2, 0.12, 0.07),
    "woods": (0.1, 0.35, 0.5, 0.55, 0.45, 0.4, 0.3, 0.22),
    "gust": (0.2, 0.35, 0.5, 0.5, 0.4, 0.3, 0.25, 0.2),
    # Pixels by which the edge of a farming region leaves its square.
    "warp_row": (0, 0, 80, 50, 20, 4, 0, 0),
    "warp_col": (0, 0, 80, 50, 20, 4, 0, 0),
    "ragged": (0, 0, 0, 0.2, 0.45, 0.55, 0.6, 0.5),
}
_REGION = 384
# Pixels from one to the next, and their cross direction (down, right).
_RIVERS = (2600, 0.72, 0.69)
_BROOKS = (610, -0.5, 0.86)
_NODES = 4
# Lattice spacing, chance of a town in a cell, smallest and largest radius in pixels.
_TOWNS = ((150, 0.4, 5.0, 22.0), (700, 0.7, 30.0, 90.0), (3400, 0.8, 130.0, 330.0))


@dataclass(frozen=True)
class Parcels:
    """Fields of a window.

    Attributes:
        word: A random word a parcel, (H, W), uint32.
        along: Position across the strips of the region, pixels, (H, W).
        across: Position along them, pixels, (H, W).
        angle: Direction of the strips, radians in 0..pi/2, a value a region.
        region: Which region, an index into ``angle``, (H, W).
    """

    word: Words
    along: Floats
    across: Floats
    angle: Floats
    region: Ints


@dataclass(frozen=True)
class Ground:
    """The landscape of a window.

    Attributes:
        classes: Class codes, (H, W), uint8.
        height: Relative height, about -3..3, (H, W).
        gust: Smooth variation of unit variance, (H, W).
        parcels: The fields; towns follow their directions too.
    """

    classes: NDArray[np.uint8]
    height: Floats
    gust: Floats
    parcels: Parcels


class Landscape:
    """A plain without end; any window of it can be looked at alone.

    Args:
        seed: Which plain.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._smooth = SmoothFields(seed, 1, _CELLS, list(_FIELDS.values()))

    @cached_property
    def _words(self) -> dict[str, np.uint32]:
        names = ("region", "river", "brook", "town 0", "town 1", "town 2")
        return {name: salt(self._seed, 900 + i) for i, name in enumerate(names)}

    def ground(self, window: Window) -> Ground:
        """What covers the ground in a window."""
        rows = np.arange(window.row, window.bottom)
        cols = np.arange(window.col, window.right)
        smooth = self._smooth(window.row, window.col, window.height, window.width)
        field = dict(zip(_FIELDS, smooth, strict=True))
        parcels = self._parcels(rows, cols, field["warp_row"], field["warp_col"])
        classes = np.full((window.height, window.width), CROPS, np.uint8)
        self._cover_land(classes, field, parcels)
        town = self._towns(window) + np.float32(0.5) * field["ragged"]
        classes[town > 0] = BUILT
        river = self._stream_distance("river", _RIVERS, (rows, cols), field["meander"])
        brook = self._stream_distance("brook", _BROOKS, (rows, cols), field["brook"])
        self._cover_water(classes, field, river, brook)
        return Ground(classes, field["height"], field["gust"], parcels)

    def _cover_land(
        self, classes: NDArray[np.uint8], field: dict[str, Floats], parcels: Parcels
    ) -> None:
        woods = field["woods"] + np.float32(0.45) * field["height"]
        wooded = parcels.word < np.uint32(0.07 * 2**32)
        # Woods stay whole in high country; on farmland they keep to parcels.
        woods += np.float32(0.8) * wooded
        classes[woods > 0.85] = TREES
        classes[field["gust"] - np.float32(0.5) * field["height"] > 2.0] = BARE

    def _cover_water(
        self, classes: NDArray[np.uint8], field: dict[str, Floats], river: Floats, brook: Floats
    ) -> None:
        half_width = 12 + 4 * field["woods"]
        ragged = field["ragged"]
        bars = (river < 1.6 * half_width) & (ragged + field["gust"] > 1.0)
        classes[bars] = BARE
        classes[(brook < 1.8 + ragged) & (field["height"] < 0.5)] = WATER
        # Islands, where the river is not too narrow for them.
        classes[(river < half_width) & (ragged < 1.7)] = WATER
        classes[field["height"] < -1.45] = WATER

    def _stream_distance(
        self,
        name: str,
        course: tuple[float, float, float],
        places: tuple[Ints, Ints],
        meander: Floats,
    ) -> Floats:
        """Pixels to the nearest stream of a family, along its cross direction."""
        spacing, down, right = course
        start = float(unit(np.array([self._words[name]]))[0])
        phase = meander * np.float32(1 / spacing)
        phase += (places[0] * (down / spacing) + start).astype(np.float32)[:, None]
        phase += (places[1] * (right / spacing)).astype(np.float32)
        phase -= np.rint(phase)
        distance: Floats = np.abs(phase) * np.float32(spacing)
        return distance

    def _parcels(self, rows: Ints, cols: Ints, warp_row: Floats, warp_col: Floats) -> Parcels:
        y = rows.astype(np.float32)[:, None]
        x = cols.astype(np.float32)
        i = np.floor((y + warp_row) * np.float32(1 / _REGION)).astype(np.int64)
        j = np.floor((x + warp_col) * np.float32(1 / _REGION)).astype(np.int64)
        top, left = int(i.min()), int(j.min())
        shape = int(i.max()) - top + 1, int(j.max()) - left + 1
        words = hashed(
            self._words["region"],
            np.arange(top, top + shape[0])[:, None],
            np.arange(left, left + shape[1]),
        ).ravel()
        region = (i - top) * shape[1] + (j - left)
        angle = unit(words) * np.float32(np.pi / 2)
        cos, sin = np.cos(angle).take(region), np.sin(angle).take(region)
        width = 13 + 26 * unit(mix(words.copy())) ** 2
        along = x * cos + y * sin
        across = y * cos - x * sin
        strip = np.floor(along * (1 / width).take(region))
        # Each strip is cut anew, at lengths of its own.
        word = mix(
            strip.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1) + words.take(region)
        )
        cut = across * (unit(word) * np.float32(0.035) + np.float32(0.012)) + unit(word)
        word += np.floor(cut).astype(np.int32).view(np.uint32) * np.uint32(0x85EBCA6B)
        return Parcels(mix(word), along, across, angle, region)

    def _towns(self, window: Window) -> Floats:
        """Above 0 within a town, falling to -1: (H, W)."""
        down = _hat(window.row % _NODES, window.height)
        across = _hat(window.col % _NODES, window.width)
        y = ((np.arange(down.shape[1]) + window.row // _NODES) * _NODES).astype(np.float32)
        x = ((np.arange(across.shape[1]) + window.col // _NODES) * _NODES).astype(np.float32)
        score = np.full((len(y), len(x)), -1, np.float32)
        for number in range(len(_TOWNS)):
            for row, col, radius in self._town_centres(number, window):
                near = np.hypot(y[:, None] - np.float32(row), x - np.float32(col))
                np.maximum(score, 1 - near * np.float32(1 / radius), out=score)
        upsampled: Floats = down @ score.astype(np.float32, copy=False) @ across.T
        return upsampled

    def _town_centres(self, number: int, window: Window) -> list[tuple[float, float, float]]:
        cell, chance, least, most = _TOWNS[number]
        reach = int(2 * most) + _NODES
        i = np.arange((window.row - reach) // cell, (window.bottom + reach) // cell + 1)
        j = np.arange((window.col - reach) // cell, (window.right + reach) // cell + 1)
        word = hashed(self._words[f"town {number}"], i[:, None], j)
        here = unit(word)
        row = (i[:, None] + 0.15 + 0.7 * unit(mix(word.copy()))) * cell
        col = (j + 0.15 + 0.7 * unit(mix(word + np.uint32(1)))) * cell
        radius = least + (most - least) * unit(mix(word + np.uint32(2))) ** 2
        gap_row = np.maximum(np.maximum(window.row - row, row - window.bottom), 0)
        gap_col = np.maximum(np.maximum(window.col - col, col - window.right), 0)
        found = (here < chance) & (np.hypot(gap_row, gap_col) < 2 * radius + _NODES)
        places = (values[found].tolist() for values in (row, col, radius))
        return list(zip(*places, strict=True))


@lru_cache(maxsize=128)
def _hat(start: int, length: int) -> Floats:
    """Linear interpolation weights (length, nodes) from every fourth pixel."""
    place = (start + np.arange(length)) / _NODES
    node = np.floor(place).astype(int)
    weights = np.zeros((length, node[-1] + 2), np.float32)
    weights[np.arange(length), node] = 1 - (place - node)
    weights[np.arange(length), node + 1] = place - node
    return weights
