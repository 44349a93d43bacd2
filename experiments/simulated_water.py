"""Water and land as Sentinel-1 might see them, drawn anew for each scene: to pre-train on.

    python experiments/simulated_water.py FOLDER --levels usual --count 168

Writes ``0000_scene.tif`` (VV and VH, dB, 512 x 512 pixels of 10 m), ``0000_truth.tif`` (0 land, 1
water) and so on. A dozen real scenes teach a network which scene it sees; these teach it what water
looks like beside what surrounds it, because shapes, levels, contrasts and speckle vary from one to
the next (domain randomisation, Tobin et al. 2017, arXiv 1703.06907). Unlike the landscape of
``examples/simulate_scene.py`` they do not look like any one place.

- Shapes: fractal fields (spectrum f^-b) below a level are lakes and floods, near a level rivers and
  channels; ponds, fields under water, and ground and plants that stand out of it.
- Levels, ``usual``: VH of land about -15.5 dB, VV 5.5 to 8.5 dB above; open water 5 to 13 dB below
  land, and in a quarter of the scenes 1.5 to 5 dB (wind, plants), then without what is narrow. In a
  quarter of the scenes VV of water is as bright as land (rough sea). A quarter has no water at all.
  Dry dark ground, hills and houses are land. ``wide``: land anywhere from -20 to -13 dB, water 2.5
  to 14 dB below. These shares were chosen by hand, some of them after looking at maps of floods
  that experiments/floods.py tests on (Pakistan's bright water, Spain's dark fields).
- The radar: noise at -31 to -24 dB, gamma speckle of 2 to 6 looks, neighbouring pixels correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, convolve1d

SIZE = 512
FAINT = 5.0
"""dB below land, less than which water is faint."""

PARCELS = 8192
"""Numbers that tell parcels apart; far away they come again."""

Rng = np.random.Generator
Plane = NDArray[Any]


@dataclass(frozen=True)
class Levels:
    """From what levels are drawn, one set a scene; dB, ranges from-to.

    Attributes:
        land: VH of land: mean, standard deviation and range; a deviation of 0 is the range alone.
        units: Standard deviation of VH between kinds of land.
        ratio: VV above VH on land; the last is the standard deviation between kinds of land.
        parcels: Standard deviation of VH between parcels.
        dark: Share of the scenes with dry dark ground.
        faint: Share of the scenes with water 1.5 to 5 dB below land instead of 5 to 13; None: all
            have it 2.5 to 14 dB below.
        plants: Share of the scenes with plants in part of the water.
        dry: Share of the scenes without water.
    """

    land: tuple[float, float, float, float]
    units: tuple[float, float]
    ratio: tuple[float, float, float]
    parcels: tuple[float, float]
    dark: float
    faint: float | None
    plants: float
    dry: float

    def base(self, rng: Rng) -> float:
        """VH of the scene's land."""
        mean, deviation, low, high = self.land
        if not deviation:
            return float(rng.uniform(low, high))
        return float(np.clip(rng.normal(mean, deviation), low, high))

    def contrast(self, rng: Rng) -> float:
        """How far water lies below land in VH."""
        if self.faint is None:
            return float(rng.uniform(2.5, 14))
        return float(
            rng.uniform(1.5, FAINT) if rng.random() >= 1 - self.faint else rng.uniform(FAINT, 13)
        )


LEVELS = {
    "wide": Levels((0, 0, -20, -13), (0.5, 2.5), (5, 9, 1), (0.5, 2.5), 0.35, None, 0.35, 0.05),
    "usual": Levels(
        (-15.5, 1.2, -18, -12.5), (0.3, 1.5), (5.5, 8.5, 0.7), (0.4, 1.8), 0.5, 0.25, 0.45, 0.25
    ),
}


def field(rng: Rng, slope: float, lowest: float = 1 / 256) -> Plane:
    """A fractal field of unit variance.

    Args:
        rng: Decides.
        slope: The power spectrum falls as frequency to this power.
        lowest: Cycles a pixel below which the spectrum is flat: nothing is larger than 1 / this.
    """
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequency[0, 0] = 1
    amplitude = np.maximum(frequency, lowest) ** (-slope / 2)
    amplitude[0, 0] = 0
    noise = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    made = np.fft.irfft2(noise * amplitude, s=(SIZE, SIZE))
    return np.asarray(made / made.std(), np.float32)


def parcels(rng: Rng) -> Plane:
    """Fields in strips of one direction with wavy borders: the number of each pixel's."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    wave = rng.uniform(0, 6)
    along = x * np.cos(angle) + y * np.sin(angle) + wave * field(rng, 3)
    across = y * np.cos(angle) - x * np.sin(angle) + wave * field(rng, 3)
    strip = np.floor(along / rng.uniform(6, 40)).astype(int)
    shift = rng.uniform(0, 200, 4096)[strip % 4096]
    length = rng.uniform(20, 120)
    cut = np.floor((across + shift) / length).astype(int)
    return np.asarray((strip * 7919 + cut * 104729) % PARCELS)


def water(rng: Rng, dry: float) -> Plane:
    """Where water is: a mask; with this chance it is nowhere, and rarely everywhere."""
    mask = np.zeros((SIZE, SIZE), bool)
    ragged = rng.uniform(0, 0.5) * field(rng, rng.uniform(1.5, 3))
    if rng.random() < 0.7:  # Lakes and floods.
        height = field(rng, rng.uniform(2.8, 4.5)) + 0.3 * ragged
        share = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.1, 0.7)])
        mask |= height < np.quantile(height, share)
    for _ in range(rng.integers(0, 4)):  # Rivers and channels.
        height = field(rng, rng.uniform(3.8, 5))
        slope = np.hypot(*np.gradient(height)) + 1e-3
        half_width = rng.choice([rng.uniform(0.7, 3), rng.uniform(2, 25)])
        distance = np.abs(height - rng.uniform(-1, 1)) / slope
        mask |= distance < half_width * (1 + 0.3 * ragged)
    if rng.random() < 0.5:  # Ponds.
        height = field(rng, rng.uniform(2.5, 4), lowest=rng.uniform(1 / 80, 1 / 12))
        mask |= height > np.quantile(height, 1 - rng.uniform(0.003, 0.08))
    if rng.random() < 0.3:  # Fields under water.
        here = parcels(rng)
        mask |= rng.random(PARCELS)[here] < rng.uniform(0.01, 0.3)
    if rng.random() < 0.4:  # Ground and plants above it.
        height = field(rng, rng.uniform(1.8, 3.5))
        mask &= height < rng.uniform(1, 2)
    rest = rng.random()
    return mask if 0.04 <= rest <= 1 - dry else np.full_like(mask, rest < 0.04)


def land(rng: Rng, levels: Levels, base: float) -> tuple[Plane, Plane, float]:
    """VV and VH of land, dB, and by how much VV is above on average."""
    count = rng.integers(2, 7)
    heights = np.stack([field(rng, rng.uniform(2.5, 4)) for _ in range(count)])
    kinds = base + rng.normal(0, rng.uniform(*levels.units), count)
    kinds -= kinds.mean() - base
    ratio = rng.uniform(*levels.ratio[:2]) + rng.normal(0, levels.ratio[2], count)
    above = float(ratio.mean())
    kind = heights.argmax(0)
    vh = kinds[kind]
    vv = vh + ratio[kind]
    if rng.random() < 0.6:  # Farmland.
        here, farmed = parcels(rng), field(rng, 2.5) > rng.normal(0, 0.7)
        own = rng.normal(0, rng.uniform(*levels.parcels), PARCELS)[here]
        own_vv = own + rng.normal(0, 0.8, PARCELS)[here]
        vh, vv = np.where(farmed, base + own, vh), np.where(farmed, base + above + own_vv, vv)
    if rng.random() < levels.dark:
        less, dark = rng.uniform(2, 8), _dark(rng)
        vh = np.where(dark, vh - less, vh)
        vv = np.where(dark, vv - less * rng.uniform(0.5, 1), vv)
    texture = field(rng, rng.uniform(1, 3)) * rng.uniform(0.3, 2)
    vh, vv = vh + texture, vv + texture * rng.uniform(0.6, 1.1)
    if rng.random() < 0.3:  # Hills: slopes to the radar and away from it.
        slope = np.gradient(field(rng, rng.uniform(2.2, 3)), axis=1)
        slope = slope / slope.std() * rng.uniform(0.5, 2.5)
        vh, vv = vh + slope, vv + slope
    if rng.random() < 0.4:  # Houses.
        town = field(rng, 1.5) > rng.uniform(1, 2.5)
        town &= rng.random((SIZE, SIZE)) < 0.3
        bright = rng.gamma(2, 4, (SIZE, SIZE))
        vv, vh = vv + town * bright, vh + town * bright * 0.8
    return vv, vh, above


def _dark(rng: Rng) -> Plane:
    """Where dry dark ground is: parcels, or patches."""
    if rng.random() < 0.5:
        here = parcels(rng)
        return np.asarray(rng.random(PARCELS)[here] < rng.uniform(0.02, 0.3))
    height = field(rng, rng.uniform(2.5, 4))
    return np.asarray(height > rng.uniform(0.5, 2))


def scene(rng: Rng, levels: Levels) -> tuple[NDArray[np.float32], Plane]:
    """A scene, shape (2, H, W), VV and VH in dB, and where it is water, shape (H, W)."""
    mask = water(rng, levels.dry)
    base = levels.base(rng)
    vv, vh, above = land(rng, levels, base)
    contrast = levels.contrast(rng)
    if levels.faint is not None and contrast < FAINT:
        # Nobody could tell small faint water from speckle: what is narrow is gone.
        mask = mask if mask.all() else binary_opening(mask, iterations=6)
    windy = rng.random() >= 0.75
    contrast_vv = rng.uniform(-1, 3) if windy else contrast + rng.uniform(-3, 5)
    gust = field(rng, rng.uniform(1.5, 3.2))
    water_vh = base - contrast + gust * rng.uniform(0.1, 0.8)
    water_vv = base + above - contrast_vv + gust * rng.uniform(0.2, 1.8)
    if rng.random() < levels.plants:
        height = field(rng, rng.uniform(1.2, 2.5))
        share = np.clip((height - rng.uniform(0, 1.5)) * rng.uniform(0.5, 2), 0, 1)
        share = share * rng.uniform(0.2, 0.8)
        water_vh = water_vh + share * (base - water_vh)
        water_vv = water_vv + share * (base + above - water_vv)
    power = 10 ** (np.stack([np.where(mask, water_vv, vv), np.where(mask, water_vh, vh)]) / 10)
    for band in (1, 0):
        power[band] += 10 ** (rng.uniform(-31, -24) / 10)
    seen = speckled(power, rng)
    return (10 * np.log10(np.maximum(seen, 1e-6))).astype(np.float32), mask


def speckled(power: Plane, rng: Rng) -> Plane:
    """Power with speckle whose neighbours are correlated, shape (2, H, W)."""
    looks, side = rng.uniform(2, 6), rng.uniform(0, 0.6)
    noisy = power * (rng.standard_gamma(looks, power.shape) / looks)
    kernel = np.array([side, 1, side]) / (1 + 2 * side)
    for axis in (1, 2):
        noisy = convolve1d(noisy, kernel, axis=axis, mode="mirror")
    return noisy


def write_scenes(folder: Path, levels: str, count: int, seed: int) -> list[tuple[Path, Path]]:
    """Writes scenes and their truth; which are there already stay.

    Returns:
        Paths of each scene and its truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [(folder / f"{i:04d}_scene.tif", folder / f"{i:04d}_truth.tif") for i in range(count)]
    for number, (path, truth) in enumerate(paths):
        if truth.exists():
            continue
        path.unlink(missing_ok=True)  # GDAL does not write over half a file.
        values, mask = scene(np.random.default_rng([seed, number]), LEVELS[levels])
        profile = {
            "driver": "GTiff",
            "height": SIZE,
            "width": SIZE,
            "crs": "EPSG:32632",
            "transform": Affine(10, 0, 3e5 + number * 6000, 0, -10, 5e6),
        }
        with rasterio.open(path, "w", count=2, dtype="float32", nodata=np.nan, **profile) as file:
            file.write(values)
            file.descriptions = "VV", "VH"
        part = truth.with_suffix(".part")
        with rasterio.open(
            part, "w", count=1, dtype="uint8", compress="deflate", **profile
        ) as file:
            file.write(mask.astype(np.uint8), 1)
        part.replace(truth)  # Last of all: where a truth is, its scene is whole.
    return paths


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--levels", type=click.Choice(sorted(LEVELS)), default="usual", show_default=True)
@click.option("--count", default=168, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, levels: str, count: int, seed: int) -> None:
    """Writes simulated scenes with water, and where it is."""
    write_scenes(folder, levels, count, seed)


if __name__ == "__main__":
    main()
