"""What a model is measured against: a random forest on levels and textures, and a threshold.

Both are trained on the other sites' capped pixels, so each site is judged by what has not seen it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from judge_metrics import LAND, WATER, Pixels, capped
from numpy.typing import NDArray
from places_data import LabelledPlace, best_window, decibels
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier

TRAINED_ON = 1500
"""Pixels per class and site that the forest learns from, at most."""

ASKED = 20_000
"""Pixels per class and scene that they are asked about, at most."""

TREES, LEAF = 100, 8
SIZES = (3, 7, 15)
SMOOTH = (3, 5, 7, 9, 11)
THRESHOLDS = np.arange(-32.0, -8.0, 0.25)


def baselines(
    listed: Sequence[LabelledPlace], names: Sequence[str], windows: bool, cache: Path | None
) -> dict[str, dict[str, Pixels]]:
    """What forest and threshold say of each site: by their name and by site.

    Args:
        listed: The scenes; those that lack a band are left out.
        names: The bands that they are given.
        windows: Take of large scenes one window.
        cache: Folder in which the forest's answers are kept; None for none.
    """
    values: dict[str, list[NDArray[np.float32]]] = {}
    levels: dict[str, list[NDArray[np.float32]]] = {}
    labels: dict[str, list[NDArray[np.uint8]]] = {}
    for item in listed:
        bands, valid = decibels(item.scene)
        if not set(names) <= set(bands) or (item.flood and "VV" not in names):
            continue
        codes = np.where(valid, item.codes(), 0).astype(np.uint8)
        part = best_window(codes) if windows else (slice(None), slice(None))
        seen = [bands[name][part] for name in names]
        flat = codes[part].ravel()
        asked = capped(flat, ASKED)
        if not len(asked):
            continue
        for found, planes in ((values, features(seen)), (levels, smoothed(seen[-1]))):
            found.setdefault(item.site, []).append(planes.reshape(len(planes), -1)[:, asked].T)
        labels.setdefault(item.site, []).append(flat[asked])
    known = {s: np.concatenate(parts) for s, parts in labels.items()}
    if len(known) < 2:
        return {}
    forest = _kept_forest({s: np.concatenate(v) for s, v in values.items()}, known, cache)
    dark = threshold_maps({s: np.concatenate(v) for s, v in levels.items()}, known)
    return {
        "forest": {s: Pixels(known[s], forest[s]) for s in known},
        "threshold": {s: Pixels(known[s], dark[s]) for s in known},
    }


def _kept_forest(
    values: Mapping[str, NDArray[np.float32]],
    labels: Mapping[str, NDArray[np.uint8]],
    cache: Path | None,
) -> dict[str, NDArray[np.uint8]]:
    """``forest_maps``, from the cache where the same pixels were asked about before."""
    if cache is None:
        return forest_maps(values, labels)
    digest = hashlib.sha256(f"{TREES} {LEAF} {TRAINED_ON}".encode())
    for site in sorted(labels):
        digest.update(site.encode())
        digest.update(np.ascontiguousarray(values[site]).tobytes())
        digest.update(labels[site].tobytes())
    path = cache / f"forest_{digest.hexdigest()[:12]}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **forest_maps(values, labels))
    return dict(np.load(path))


def features(bands: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Levels, and means and deviations of 3, 7 and 15 px: shape (F, H, W).

    Of two bands their difference is a third.

    Args:
        bands: Of one scene in dB, each (H, W); NaN counts as the band's median.
    """
    planes = [np.where(np.isfinite(b), b, np.nanmedian(b)).astype(np.float64) for b in bands]
    if len(planes) == 2:
        planes.append(planes[0] - planes[1])
    found = list(planes)
    for plane in planes:
        for size in SIZES:
            mean = uniform_filter(plane, size)
            spread = uniform_filter(plane**2, size) - mean**2
            found += [mean, np.sqrt(np.maximum(spread, 0))]
    return np.asarray(found, np.float32)


def smoothed(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """A band's power averaged over windows of ``SMOOTH``, in dB: shape (len(SMOOTH), H, W)."""
    power = 10 ** (np.where(np.isfinite(band), band, np.nanmedian(band)).astype(np.float64) / 10)
    levels = [10 * np.log10(np.maximum(uniform_filter(power, s), 1e-10)) for s in SMOOTH]
    return np.asarray(levels, np.float32)


def forest_maps(
    values: Mapping[str, NDArray[np.float32]], labels: Mapping[str, NDArray[np.uint8]]
) -> dict[str, NDArray[np.uint8]]:
    """What forests say of each site's pixels that have learned from the other sites.

    Args:
        values: Features of labelled pixels by site, shape (N, F).
        labels: Their codes by site, shape (N,). Floods, whose labels tell water alone, teach
            nothing, so one forest answers for all of them.
    """
    floods = [s for s in labels if s.startswith("flood_")]
    teaching = [s for s in labels if s not in floods] or list(labels)
    chosen = {}
    for site in teaching:
        single = np.where(labels[site] == LAND, 0, labels[site]).astype(np.uint8)
        chosen[site] = capped(single, TRAINED_ON)
    found = {}
    asked = [[s] for s in teaching] + ([floods] if floods and floods != teaching else [])
    for sites in asked:
        others = [s for s in teaching if s not in sites and len(chosen[s])]
        x = np.concatenate([values[s][chosen[s]] for s in others])
        y = np.concatenate([labels[s][chosen[s]] for s in others])
        forest = RandomForestClassifier(
            TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=0, n_jobs=1
        )
        forest.fit(x, y)
        found |= {s: forest.predict(values[s]).astype(np.uint8) for s in sites}
    return found


def threshold_maps(
    values: Mapping[str, NDArray[np.float32]], labels: Mapping[str, NDArray[np.uint8]]
) -> dict[str, NDArray[np.uint8]]:
    """Water and land by the filter and the level that are best on the other sites.

    Args:
        values: ``smoothed`` levels of labelled pixels by site, shape (N, len(SMOOTH)).
        labels: Their codes by site.
    """
    counts = {s: _threshold_counts(values[s], labels[s]) for s in labels}
    found = {}
    for site in labels:
        both = np.sum([c for s, c in counts.items() if s != site], 0)
        iou = both[..., 0] / np.maximum(both[..., 1], 1)
        size, level = np.unravel_index(int(iou.argmax()), iou.shape)
        dark = values[site][:, size] < THRESHOLDS[level]
        found[site] = np.where(dark, WATER, LAND).astype(np.uint8)
    return found


def _threshold_counts(values: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Intersection and union of water for each filter and level, (filters, levels, 2)."""
    chosen = capped(labels, 3000)
    levels, water = values[chosen], labels[chosen] == WATER
    counts = np.zeros((levels.shape[1], len(THRESHOLDS), 2), np.int64)
    for f in range(levels.shape[1]):
        dark = levels[:, f, None] < THRESHOLDS
        counts[f, :, 0] = (dark & water[:, None]).sum(0)
        counts[f, :, 1] = (dark | water[:, None]).sum(0)
    return counts
