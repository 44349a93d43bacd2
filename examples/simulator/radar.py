"""What a C-band radar sees of the landscape: backscatter, texture, speckle, noise floor.

Backscatter levels (sigma nought, VV and VH, dB at 38.5 degrees) lie within the ranges published
for Sentinel-1 and C band: B. Bauer-Marschallinger et al. 2021, doi 10.1038/s41597-021-01059-7
(the normalised global backscatter model, signatures of land classes); M. Vreugdenhil et al. 2018,
doi 10.3390/rs10091396 (cereals, maize, oilseed rape); F. Ulaby and C. Dobson 1989, Handbook of
Radar Scattering Statistics for Terrain. They were set side by side with medians measured on real
Sentinel-1 tiles (TerraMesh S1RTC: trees -10.4/-15.9 to -7.4/-13.6, crops -13.7/-19.6 to
-12.8/-18.4, built-up -11.5/-17.1, river -17.5/-22.1, bare -16.8/-21.7; Sen1Floods11: flood water
-19.4/-27.5 to -18.4/-25.8).

Angles of incidence (30.4 to 46.1 degrees) and the noise floor across the three sub-swaths are
those of a real Sentinel-1B IW GRDH product's annotation; the sensor's requirement is -22 dB.

Speckle: white noise through a 3 x 3 kernel, so that neighbouring pixels are correlated as in a
scene resampled to a map. CLS 2016 give 4.4 looks for IW GRDH; terrain-corrected 10 m scenes with
their bilinear resampling measure 5.5 to 6.5 (Sen1Floods11, homogeneous 32 x 32 windows) with a
correlation of 0.61 to 0.65 from pixel to pixel and 0.12 to 0.15 over two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window

from .landscape import BARE, BUILT, CROPS, TREES, WATER, Ground, Landscape
from .noise import Floats, Ints, SmoothFields, gamma_table, hashed, mix, salt, texture_table, unit

_SWATH = 25_800
_INCIDENCE = (46.1, 30.4)
_REFERENCE = 38.5
# Share of the swath from far to near range, and noise-equivalent sigma nought in dB.
_NOISE_FLOOR = (
    (0.00, -25.8), (0.05, -25.8), (0.10, -28.2), (0.15, -29.6), (0.20, -30.1), (0.26, -28.4),
    (0.299, -25.9), (0.301, -26.2), (0.40, -27.2), (0.45, -27.6), (0.50, -27.5), (0.55, -26.3),
    (0.629, -24.9), (0.631, -24.9), (0.70, -25.7), (0.80, -25.5), (0.88, -25.0), (0.95, -24.3),
    (1.00, -22.7),
)  # fmt: skip
_SIDE = 0.42
"""Weight of the side pixels of the resampling kernel (the middle has 1)."""

# Crops as they stand in one scene: VV, VH in dB and how many sixteenths of the parcels.
_CROPS = (
    (-14.8, -20.3, 3),  # cereals, upright stems
    (-9.6, -16.2, 3),  # maize
    (-10.6, -14.6, 2),  # oilseed rape
    (-11.9, -18.2, 4),  # grass
    (-9.0, -15.4, 1),  # beet, potatoes
    (-12.6, -20.4, 2),  # ploughed or stubble
    (-16.3, -21.9, 1),  # smooth seedbed
)
_LEVELS = {
    WATER: (-20.5, -29.0, 0.0),
    TREES: (-8.4, -13.9, 1.4),
    BUILT: (-8.6, -15.2, 2.0),
    BARE: (-15.6, -23.2, 2.0),
}
"""VV, VH in dB and the spread between parcels, in dB."""
_TEXTURE_ORDER = {WATER: 60.0, TREES: 12.0, CROPS: 24.0, BUILT: 4.0, BARE: 16.0}
_STEPS = 1024


class Sensed(NamedTuple):
    """A window of the scene.

    Attributes:
        power: Sigma nought with the noise floor, VV and VH, (2, H, W), float32.
        classes: Land cover, (H, W), uint8.
    """

    power: Floats
    classes: NDArray[np.uint8]


class Radar:
    """A radar that looks at a landscape from the east (descending pass, looking right).

    Args:
        seed: Seed of the speckle and the texture; the landscape has its own.
        landscape: What it looks at.
        looks: Equivalent number of looks of homogeneous ground.
        middle: Column of the scene in the middle of the swath.
        slant: Columns by which the swath moves west from one row to the next.
    """

    def __init__(
        self, seed: int, landscape: Landscape, looks: float, middle: float, slant: float
    ) -> None:
        self._landscape = landscape
        self._middle = middle
        self._slant = slant
        self._texture = SmoothFields(seed, 2, (8, 4), [[0.55, 0.9]])
        self._words = [salt(seed, 800 + i) for i in range(4)]
        weights = np.array([_SIDE, 1, _SIDE]) / (1 + 2 * _SIDE)
        self._speckle = gamma_table(looks * float((weights**2).sum()) ** 2)
        share, noise = zip(*_NOISE_FLOOR, strict=True)
        places = np.linspace(0, 1, 4096)
        self._noise = np.power(10, np.interp(places, share, noise) / 10).astype(np.float32)
        self._levels = _level_table()
        self._textures = np.concatenate(
            [texture_table(order, _STEPS) for order in _TEXTURE_ORDER.values()]
        )

    def sense(self, window: Window) -> Sensed:
        """Backscatter and land cover of a window, alone."""
        # One pixel around for the kernel, one more for the slope of the ground.
        wide = Window(window.row - 1, window.col - 2, window.height + 2, window.width + 4)
        ground = self._landscape.ground(wide)
        power = self._mean_power(ground, wide)
        rows = np.arange(wide.row, wide.bottom)[:, None]
        word = hashed(self._words[0], rows, np.arange(wide.col, wide.right))
        power[0] *= self._speckle.take((word & np.uint32(0xFFFF)).astype(np.int64))
        power[1] *= self._speckle.take((word >> np.uint32(16)).astype(np.int64))
        return Sensed(_smooth(power[:, :, 1:-1]), ground.classes[1:-1, 2:-2])

    def _mean_power(self, ground: Ground, wide: Window) -> Floats:
        cover = ground.classes.astype(np.int64)
        key = cover * 256 + (ground.parcels.word & np.uint32(0xFF))
        angle, noise = self._geometry(wide)
        common = self._modulation(ground, angle)
        level = np.stack([table.take(key) for table in self._levels])
        level += common
        self._add_farms(level, cover, wide)
        self._add_buildings(level, ground, wide)
        level *= np.float32(math.log(10) / 10)
        power: Floats = np.exp(level, out=level)
        step = self._texture(wide.row, wide.col, wide.height, wide.width)[0]
        step *= np.float32(_STEPS / 8)
        step += np.float32(_STEPS / 2)
        place = np.clip(step, 0, _STEPS - 1, out=step).astype(np.int64)
        cover *= _STEPS
        place += cover
        power *= self._textures.take(place)
        power += noise
        return power

    def _geometry(self, wide: Window) -> tuple[Floats, Floats]:
        """Incidence relative to the reference in degrees, and noise power, (H, W)."""
        rows = np.arange(wide.row, wide.bottom)
        cols = np.arange(wide.col, wide.right)
        start = (cols - self._middle) / _SWATH + 0.5
        share = start.astype(np.float32) + (rows * self._slant / _SWATH).astype(np.float32)[:, None]
        np.clip(share, 0, 1, out=share)
        far, near = _INCIDENCE
        angle = share * np.float32(near - far) + np.float32(far - _REFERENCE)
        share *= np.float32(len(self._noise) - 1)
        noise: Floats = self._noise.take(share.astype(np.int64))
        return angle, noise

    def _modulation(self, ground: Ground, angle: Floats) -> Floats:
        """What wind, slopes and incidence add, in dB, (H, W)."""
        water = ground.classes == WATER
        # Open water takes the wind; rivers, streams and shores lie in its lee.
        open_water = np.clip((np.float32(-1.45) - ground.height) * 5, 0, 1)
        wind = open_water * (np.float32(3.2) + np.float32(2.4) * ground.gust)
        wind += np.float32(0.5) * ground.gust - np.float32(0.42) * angle
        tilt = np.empty_like(ground.height)
        tilt[:, 1:-1] = ground.height[:, 2:] - ground.height[:, :-2]
        tilt[:, 0] = tilt[:, -1] = 0
        hills = np.clip(ground.height + np.float32(0.3), 0, 1.5)
        land = np.float32(-35) * tilt * hills - np.float32(0.13) * angle
        modulation: Floats = np.where(water, wind, land)
        return modulation

    def _add_farms(self, level: Floats, cover: Ints, wide: Window) -> None:
        """Lone bright roofs and walls among the fields, too small to map, in place."""
        rows = np.arange(wide.row, wide.bottom)
        # One candidate in a row and 64 columns keeps this cheap.
        cells = np.arange(wide.col // 64, (wide.right - 1) // 64 + 1)
        word = hashed(self._words[3], rows[:, None], cells)
        there = (word & np.uint32(0xFFFF)) < np.uint32(0.02 * 2**16)
        row, cell = np.nonzero(there)
        found = word[row, cell]
        col = cells[cell] * 64 + (found >> np.uint32(26)).astype(np.int64) - wide.col
        place = row * wide.width + col
        keep = (col >= 0) & (col < wide.width)
        keep[keep] = cover.ravel()[place[keep]] == CROPS
        strength = 7 + 9 * unit(mix(found[keep]))
        flat = level.reshape(2, -1)
        flat[0, place[keep]] += strength
        flat[1, place[keep]] += np.float32(0.75) * strength

    def _add_buildings(self, level: Floats, ground: Ground, wide: Window) -> None:
        """Streets, walls that face the radar, and single bright scatterers, in place."""
        rows, cols = np.nonzero(ground.classes == BUILT)
        if not rows.size:
            return
        parcels = ground.parcels
        region = parcels.region[rows, cols]
        along = parcels.along[rows, cols] * np.float32(1 / 9)
        across = parcels.across[rows, cols] * np.float32(1 / 13)
        block = np.floor(along), np.floor(across)
        along -= block[0]
        across -= block[1]
        house = hashed(self._words[1], block[0].astype(np.int64), block[1].astype(np.int64))
        bright = unit(house)
        added = np.float32(9) * bright * bright - np.float32(3)
        added[(along < 0.14) | (across < 0.1)] -= 4
        # The radar is in the east: eastern walls form corners with the street, the west is shadow.
        wall = (along > 0.7) & (along < 0.95) & (bright > 0.25)
        # Streets along the track make strong corners (the cardinal effect).
        track = np.abs(parcels.angle - np.float32(math.atan(self._slant)))
        corner = (3 + 6 * np.exp(-((track / 0.16) ** 2))).astype(np.float32)
        added[wall] += corner[region[wall]]
        word = hashed(self._words[2], rows + wide.row, cols + wide.col)
        point = word < np.uint32(0.012 * 2**32)
        strength = unit(mix(word[point]))
        added[point] += 9 + 10 * strength * strength
        level[0, rows, cols] += added
        level[1, rows, cols] += np.float32(0.75) * added


def _level_table() -> Floats:
    """VV and VH in dB for class and the low byte of the parcel's word: (2, 5 * 256)."""
    table = np.zeros((2, 5, 256), np.float32)
    byte = np.arange(256)
    spread = (byte >> 4) / 15 - 0.5
    for code, (vv, vh, between) in _LEVELS.items():
        table[:, code] = np.add.outer((vv, vh), spread * between)
    kinds = [(vv, vh) for vv, vh, count in _CROPS for _ in range(count)]
    levels = np.array(kinds, np.float32)[byte & 15]
    table[:, CROPS] = levels.T + spread * 2.4
    return table.reshape(2, -1)


def _smooth(power: Floats) -> Floats:
    """The 3 x 3 resampling kernel; one pixel is lost on each side."""
    side, whole = np.float32(_SIDE), np.float32((1 + 2 * _SIDE) ** -2)
    rows = power[:, :-2] + power[:, 2:]
    rows *= side
    rows += power[:, 1:-1]
    out = rows[:, :, :-2] + rows[:, :, 2:]
    out *= side
    out += rows[:, :, 1:-1]
    out *= whole
    return out
