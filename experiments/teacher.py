"""A forest and a perceptron label what nobody labelled, for a network to learn from.

They learn from the sites that the network trains on and from no other, so a site that is left out
is left out of both. places_data.py makes labels of what they are sure of together.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from judge_forest import LEAF, SIZES, TRAINED_ON, TREES, features
from judge_metrics import LAND, capped
from numpy.typing import NDArray
from places_data import NAMES, LabelledPlace, Teacher, best_window, decibels
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

BANDS = ("VV", "VH")
GAINS_DB = (-1.5, 0.0, 1.5)
"""The perceptron sees each pixel at these levels."""

EVERY = 4
"""They are asked about one pixel in so many rows and columns: few of the labels stay anyway."""


def taught(listed: Sequence[LabelledPlace], leaf: int = LEAF) -> Teacher:
    """Forest and perceptron on levels and textures of VV and VH.

    Args:
        listed: The scenes that they may learn from; floods, whose labels tell water alone, teach
            them nothing.
        leaf: Least number of pixels in a leaf of the forest.
    """
    values: dict[str, list[NDArray[np.float32]]] = {}
    labels: dict[str, list[NDArray[np.uint8]]] = {}
    for item in listed:
        bands, valid = decibels(item.scene)
        if item.flood or not set(BANDS) <= set(bands):
            continue
        codes = np.where(valid, item.codes(), 0).astype(np.uint8)
        part = best_window(codes)
        flat = codes[part].ravel()
        flat[flat == LAND] = 0
        known = flat > 0
        planes = features([bands[name][part] for name in BANDS])
        values.setdefault(item.site, []).append(planes.reshape(len(planes), -1)[:, known].T)
        labels.setdefault(item.site, []).append(flat[known])
    x, y = [], []
    for site in values:
        codes = np.concatenate(labels[site])
        chosen = capped(codes, TRAINED_ON)
        x.append(np.concatenate(values[site])[chosen])
        y.append(codes[chosen])
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=leaf, class_weight="balanced", random_state=0, n_jobs=1
    )
    pixels, codes = np.concatenate(x), np.concatenate(y)
    forest.fit(pixels, codes)
    perceptron = _perceptron(pixels, codes)

    def says(bands: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
        if not set(BANDS) <= set(bands):
            return None
        planes = features([bands[name] for name in BANDS])
        asked = planes[:, ::EVERY, ::EVERY]
        flat = asked.reshape(len(asked), -1).T
        found = (forest.predict_proba(flat) + perceptron.predict_proba(flat)).astype(np.float32) / 2
        probability = np.zeros((len(NAMES), *planes.shape[1:]), np.float32)
        for column, code in enumerate(forest.classes_):
            said = found[:, column].reshape(asked.shape[1:])
            probability[code - 1, ::EVERY, ::EVERY] = said
        return probability

    return says


def _perceptron(pixels: NDArray[np.float32], codes: NDArray[np.uint8]) -> Pipeline:
    """A perceptron that has seen every class as often and at several levels."""
    rng = np.random.default_rng(0)
    most = int(np.bincount(codes).max())
    drawn = np.concatenate([rng.choice(np.flatnonzero(codes == c), most) for c in np.unique(codes)])
    # Features of VV and VH that a gain shifts: the levels and their means, not their deviations.
    moved = np.zeros(pixels.shape[1], np.float32)
    moved[:2] = 1
    for band in range(2):
        first = 3 + 2 * len(SIZES) * band
        moved[first : first + 2 * len(SIZES) : 2] = 1
    model = make_pipeline(
        StandardScaler(),
        MLPClassifier((64, 64), alpha=0.01, batch_size=512, max_iter=6, random_state=0),
    )
    seen = np.concatenate([pixels[drawn] + gain * moved for gain in GAINS_DB])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(seen, np.tile(codes[drawn], len(GAINS_DB)))
