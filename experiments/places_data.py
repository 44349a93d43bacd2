"""Labelled Sentinel-1 places: which there are, which belong together, and what trains a model.

A *place* is a folder of ``s1*.tif`` with ``label4*.tif`` (or ``label*.tif``), or a flood of
Sen1Floods11. A *site* is all places that may show the same ground or its neighbourhood; a site is
never split between training and judging.

Training files are made of the published ones (``training_scenes``):

- labels are thinned at random to at most ``CAP`` pixels per class and place, so that no place rules
  a class and no dense label rules a batch;
- of a large scene the one window of 256 px with the best mix of classes is taken;
- with ``again``, every scene with VV comes a second time in VV alone, water and land together
  darker or brighter and over the sensor's noise: where there is no VH, level alone shall not make
  water, nor VV alone land; texture and surroundings shall;
- pixels without a label get what a teacher says that learned from the same sites, where it is
  sure: one class, or one of two or three (``pseudo_labels``);
- 8-bit amplitude becomes decibels by one constant, so that the city and the sea of Los Angeles lie
  where those of other places lie.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

CLASSES = [
    {"code": 1, "name": "water", "color": "#419bdf"},
    {"code": 2, "name": "trees", "color": "#397d49"},
    {"code": 3, "name": "open", "color": "#e3c567"},
    {"code": 4, "name": "built-up", "color": "#c4281b"},
]
NAMES = tuple(str(c["name"]) for c in CLASSES)
WATER = 1

SHIFT_DB = (-9.0, 3.0)
"""What the level of a scene in VV alone is changed by, between these."""

FLOOR_DB = -27.0
"""Noise of Sentinel-1 that is left of no echo."""

CAP = 6000
"""Training pixels per class and place, at most."""

PARTIAL_CAP = 2000
"""The same for each partial label, such as "not water". With 20,000 of them such labels teach
whichever class comes first: they praise the likeliest of those that they allow, and all land
becomes that."""

ABSENT_DB = -40.0
"""VV of a scene without VV for models that cannot do without: below every clip."""

SURE = 0.8
"""A pseudo-label is the fewest classes that together have this probability."""

AMPLITUDE_OFFSET_DB = -56.0
"""20 log10 of Los Angeles' 8-bit VH amplitude plus this has the levels of other places' VH."""

WINDOW = 256
"""Side of the window that is taken of a larger scene."""

LARGE = 600

SITES = {
    "ben_austria_87_48": "austria",
    "ben_austria_danube_61_39": "austria",
    "ben_austria_danube_61_40": "austria",
    "ben_ireland_36_85": "ireland",
    "ben_ireland_4_55": "ireland",
    "ben_portugal_56_35": "portugal",
    "scially_slovakia": "slovakia",
    "ssl4eo_punjab": "punjab",
    "terramesh_282D_brazil": "brazil",
    "terramesh_38D_tanzania_lake": "tanzania",
    "terramesh_433D_chile": "chile",
    "tocantins_brazil": "tocantins",
    "volkov_losangeles": "losangeles",
}
"""Which site a place is of, where its name does not tell (``site_of``)."""

FOLDS: dict[str, tuple[str, ...]] = {
    "a": ("slovakia", "desert", "flood_india", "flood_ghana"),
    "b": ("brazil", "belgium", "tocantins", "flood_mekong", "flood_pakistan"),
    "c": ("chile", "austria", "ireland", "flood_sri-lanka", "flood_spain"),
    "d": ("tanzania", "portugal", "punjab", "losangeles", "flood_nigeria"),
}
"""Sites that are left out together: a model of a fold has seen none of them."""


@dataclass(frozen=True)
class LabelledPlace:
    """One scene of a place with its labels.

    Attributes:
        place: The place's name.
        site: What is left out with it.
        scene: Sentinel-1.
        labels: On the same grid.
        flood: Whether labels are those of Sen1Floods11 (-1, 0 not water, 1 water).
    """

    place: str
    site: str
    scene: Path
    labels: Path
    flood: bool

    def codes(self) -> NDArray[np.uint8]:
        """Labels: 0 none, 1 to 4 the classes, 9 not water; shape (H, W), uint8."""
        with rasterio.open(self.labels) as file:
            codes = file.read(1)
        if self.flood:
            return np.select([codes == 1, codes == 0], [1, 9], 0).astype(np.uint8)
        if "waterland" in self.labels.name:
            return np.select([codes == 1, codes == 2], [1, 9], 0).astype(np.uint8)
        if not self.labels.name.startswith("label4"):
            # Five classes: bare and low vegetation are both open.
            codes = np.where(codes == 5, 3, codes)
        return np.where(codes <= 4, codes, 0).astype(np.uint8)


def shared_data() -> Path:
    """Where the data lies unless told otherwise."""
    named = os.environ.get("CWSAM_GEO_TEST_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def site_of(place: str) -> str:
    """The site of a place.

    An unknown place is its own, but all deserts are one, and so is each country of BigEarthNet and
    WorldCereal.
    """
    first, _, rest = place.partition("_")
    if first in ("worldcereal", "ben"):
        return SITES.get(place, rest.split("_")[0])
    return SITES.get(place, "desert" if first == "desert" else place)


def labels_of(scene: Path) -> Path | None:
    """The labels of a scene: four classes where there are such, else five, else water and land."""
    tail = scene.name.removeprefix("s1")
    for kind in ("label4", "label", "waterland"):
        path = scene.with_name(f"{kind}{tail}")
        if path.exists():
            return path
    return None


def places(folder: Path, ombria: bool = False) -> list[LabelledPlace]:
    """All labelled scenes of a folder of places.

    Args:
        folder: It holds a folder per place.
        ombria: Take the flood chips of OMBRIA too, whose values are no decibels.
    """
    found = []
    for scene in sorted(folder.glob("*/s1*.tif")):
        place, labels = scene.parent.name, labels_of(scene)
        if labels is None or (not ombria and labels.name.startswith("waterland")):
            continue
        found.append(LabelledPlace(place, site_of(place), scene, labels, False))
    return found


def floods(folder: Path) -> list[LabelledPlace]:
    """The scenes of Sen1Floods11 that have labels and data."""
    found = []
    for scene in sorted(folder.glob("*_S1Hand.tif")):
        labels = scene.with_name(scene.name.replace("S1Hand", "LabelHand"))
        site = f"flood_{scene.name.split('_')[0].lower()}"
        place = LabelledPlace(site, site, scene, labels, True)
        if "Paraguay" not in scene.name and place.codes().any():
            found.append(place)
    return found


def decibels(path: Path) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """VV and VH in dB by name, and where there is data, (H, W).

    8-bit amplitude is brought to dB by ``AMPLITUDE_OFFSET_DB``.
    """
    with rasterio.open(path) as file:
        values = file.read().astype(np.float32)
        names, eight = file.descriptions, file.dtypes[0] == "uint8"
        nodata = file.nodata
    valid = np.isfinite(values).all(0)
    if nodata is not None and np.isfinite(nodata):
        valid &= (values != nodata).all(0)
    if eight:
        valid &= (values > 0).any(0)
        values = 20 * np.log10(np.maximum(values, 1)) + AMPLITUDE_OFFSET_DB
    known = [re.sub(r"\W.*", "", n or "") for n in names]
    if not any(known) or len(set(known)) < len(known):
        known = ["VV", "VH"][: len(values)]
    values[:, ~valid] = np.nan
    return dict(zip(known, values.astype(np.float32), strict=False)), valid


# Training files

PARTIAL = 16
"""Code of a partial label: this plus the sum of 2^k of the channels k that it allows."""

NOT_WATER = PARTIAL + 0b1110

Teacher = Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.float32] | None]
"""From a scene's bands to the probability of each class, (K, H, W), or None if it cannot say."""


def training_scenes(
    listed: list[LabelledPlace],
    folder: Path,
    teacher: Teacher | None = None,
    again: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Files to train on, as a region lists them, with ``site`` and ``place`` beside.

    Args:
        listed: The labelled scenes.
        folder: Where to write; files that are there are kept.
        teacher: What it is sure of labels the other pixels.
        again: Give scenes with VV a second time, in VV alone at another level.
        seed: Decides which labels stay, and the levels of scenes in VV alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    counted = _files_by_place(listed)
    for item in listed:
        stem = f"{item.place}_{item.scene.stem}".replace("_S1Hand", "")
        bands, _ = decibels(item.scene)
        codes = item.codes()
        window = best_window(codes)
        bands = {name: band[window] for name, band in bands.items()}
        shown = np.where(codes[window] == 9, NOT_WATER, codes[window]).astype(np.uint8)
        if teacher is not None:
            shown = pseudo_labels(shown, teacher(bands))
        kinds = [("", bands)]
        if again and "VV" in bands:
            kinds.append(("_vv", shifted(bands["VV"], zlib.crc32(stem.encode()) + seed)))
        for suffix, kind in kinds:
            share = counted[item.place] * (3 if suffix else 1)
            rng = np.random.default_rng([seed, zlib.crc32(f"{stem}{suffix}".encode())])
            thin = _thinned(shown, CAP // share, PARTIAL_CAP // share, rng)
            if not thin.any():
                continue
            scene, labels = folder / f"{stem}{suffix}.tif", folder / f"{stem}{suffix}_label.tif"
            _write(scene, np.stack(list(kind.values())), list(kind))
            _write(labels, thin[None], ["label"])
            entries.append(
                {
                    "scene": str(scene),
                    "labels": str(labels),
                    "units": "db",
                    "map": _meanings(thin),
                    "site": item.site,
                    "place": item.place,
                }
            )
    return entries


def pseudo_labels(
    codes: NDArray[np.uint8], probability: NDArray[np.float32] | None, sure: float = SURE
) -> NDArray[np.uint8]:
    """Labels, and where there is none, or only "not water", what a teacher is sure of.

    Args:
        codes: Labels, (H, W).
        probability: The teacher's, (K, H, W), all 0 where it says nothing; None for nothing.
        sure: The label is the fewest classes that together have this probability.
    """
    if probability is None:
        return codes
    p = probability.copy()
    p[WATER - 1][codes == NOT_WATER] = 0
    p /= np.maximum(p.sum(0), 1e-6)
    order = np.argsort(-p, 0)
    mass = np.take_along_axis(p, order, 0).cumsum(0)
    needed = (mass < sure).sum(0) + 1
    mask = np.zeros(codes.shape, np.int64)
    for rank in range(len(p)):
        mask += np.where(needed > rank, 1 << order[rank], 0)
    single = needed == 1
    said = np.where(single, order[0] + 1, np.where(needed < len(p), PARTIAL + mask, 0))
    open_to_it = (codes == 0) | (codes == NOT_WATER)
    taken = np.where(open_to_it & (said > 0), said, codes)
    return taken.astype(np.uint8)


def _files_by_place(listed: list[LabelledPlace]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in listed:
        counts[item.place] = counts.get(item.place, 0) + 1
    return counts


def _meanings(codes: NDArray[np.uint8]) -> dict[int, Any]:
    known: dict[int, Any] = {0: "ignore"} | {i + 1: name for i, name in enumerate(NAMES)}
    for mask in range(1, 1 << len(NAMES)):
        known[PARTIAL + mask] = [name for k, name in enumerate(NAMES) if mask >> k & 1]
    return {k: v for k, v in known.items() if k == 0 or (codes == k).any()}


def shifted(vv: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float32]]:
    """VV alone at another level, over the sensor's noise."""
    power = 10 ** ((vv + np.random.default_rng(seed).uniform(*SHIFT_DB)) / 10)
    return {"VV": (10 * np.log10(power + 10 ** (FLOOR_DB / 10))).astype(np.float32)}


def best_window(codes: NDArray[np.uint8]) -> tuple[slice, slice]:
    """All of a scene, or of a large one the window with the best mix of classes."""
    height, width = codes.shape
    if max(height, width) <= LARGE:
        return slice(0, height), slice(0, width)
    best, most = (0, 0), -1.0
    for row in range(0, height - WINDOW + 1, WINDOW // 2):
        for col in range(0, width - WINDOW + 1, WINDOW // 2):
            part = codes[row : row + WINDOW, col : col + WINDOW]
            mix = float(np.sqrt(np.bincount(part.ravel(), minlength=10)[1:5]).sum())
            if mix > most:
                best, most = (row, col), mix
    return slice(best[0], best[0] + WINDOW), slice(best[1], best[1] + WINDOW)


def _thinned(
    codes: NDArray[np.uint8], cap: int, partial_cap: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """At most ``cap`` pixels of each class, and fewer of each partial label, drawn at random."""
    out = np.zeros_like(codes)
    flat, target = codes.ravel(), out.ravel()
    for code in np.unique(flat[flat > 0]):
        there, most = np.flatnonzero(flat == code), partial_cap if code > PARTIAL else cap
        if len(there) > most:
            there = rng.choice(there, most, replace=False)
        target[there] = code
    return out


def _write(path: Path, values: NDArray[Any], names: list[str]) -> None:
    if path.exists():
        return
    floats = values.dtype == np.float32
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "nodata": np.nan if floats else None,
    }
    # Several processes may write the same files: each appears whole.
    part = path.with_name(f".{os.getpid()}_{path.name}")
    with rasterio.open(part, "w", **profile) as file:
        file.write(values)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    part.replace(path)


def in_folds(which: str) -> Iterator[str]:
    """The names of the folds to run: all of them for ``all``."""
    yield from FOLDS if which == "all" else which.split(",")
