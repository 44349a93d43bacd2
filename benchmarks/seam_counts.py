"""What differs between two maps of a scene, and how much its tiles show; for seams.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seam_maps import Logits, Mapper, Scene, Tiling

from cwsam_geo.core.metrics import Scores, confusion_matrix
from cwsam_geo.prediction.blend import BlendName

DENSE = 8
"""A tile of the full-overlap run begins every 1/DENSE of a tile."""

TRUTHS: tuple[BlendName, BlendName] = ("flat", "cosine")
"""Weights of the full-overlap runs: equal, and those that trust the middle."""


@dataclass
class Tally:
    """Counts of one overlap and blend over all scenes: differing pixels and all of them.

    Attributes:
        near: Against the flat run, near the edges of tiles.
        elsewhere: Against the flat run, elsewhere.
        centred: Against the centred run, everywhere.
        steps: Changes of the probabilities across the lines of overlaps, by the place of the line
            in the overlap, 0 where the next tile begins; of this run and of the flat one.
        all_steps: The same on all lines.
        matrix: Reference against map, (K, K); 0 where there is no reference.
    """

    near: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    elsewhere: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    centred: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    steps: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    all_steps: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    matrix: Any = 0

    def row(self) -> dict[str, Any]:
        """The figures."""
        near, elsewhere = share_of(self.near), share_of(self.elsewhere)
        by_place = [quotient(share_of(s), share_of(self.all_steps)) for s in self.steps.values()]
        found: dict[str, Any] = {
            "pixels": int(self.centred[1]),
            "differs": share_of(self.near + self.elsewhere),
            "near_edges": near,
            "elsewhere": elsewhere,
            "ratio": quotient(near, elsewhere),
            "centred": share_of(self.centred),
            "step": max(filter(None, by_place), default=None),
        }
        if np.any(self.matrix):
            scores = Scores.of(self.matrix)
            found |= {"miou": scores.miou, "accuracy": scores.overall_accuracy}
        return found


Tallies = dict[tuple[Fraction, BlendName], Tally]


def share_of(counts: NDArray[Any]) -> float | None:
    """First over second."""
    return quotient(float(counts[0]), float(counts[1]))


def quotient(a: float | None, b: float | None) -> float | None:
    """None where it has no value (JSON knows no NaN)."""
    return None if a is None or not b else a / b


def near_edges(tiling: Tiling, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels within a sixteenth of a tile of an edge of a tile."""
    zone = max(1, tiling.size * tiling.stride // 16)
    near = []
    for axis, length in enumerate(shape):
        at = np.zeros(length, bool)
        for line in tiling.edges(axis) * tiling.stride:
            at[max(line - zone, 0) : line + zone] = True
        near.append(at)
    return np.asarray(near[0][:, None] | near[1][None, :])


@dataclass(frozen=True)
class Yardstick:
    """What the full-overlap runs say of a scene.

    Attributes:
        inside: Pixels that are compared, (H, W).
        classes: Channels of each of the runs, (H, W).
        logits: Those of the flat run.
    """

    inside: NDArray[np.bool_]
    classes: tuple[NDArray[np.uint8], ...]
    logits: Logits

    def cut(self, row: int, col: int, stride: int) -> Yardstick:
        """Without the first rows and columns."""
        here = slice(row, None), slice(col, None)
        return Yardstick(
            self.inside[here],
            tuple(channels[here] for channels in self.classes),
            self.logits[:, row // stride :, col // stride :],
        )


def yardstick_of(mapper: Mapper, scene: Scene, inside: NDArray[np.bool_]) -> Yardstick:
    """Maps a scene with full overlap."""
    tiling = Tiling.of(mapper.plan(scene.shape, Fraction(0)))
    dense = mapper.blended(scene, tiling.denser(max(1, tiling.size // DENSE)), list(TRUTHS))
    classes = tuple(mapper.classes(logits, scene) for logits in dense.values())
    return Yardstick(inside, classes, dense[TRUTHS[0]])


def count_scene(mapper: Mapper, scene: Scene, tallies: Tallies, yardstick: Yardstick) -> None:
    """Maps a scene in all ways and adds what was found to the tallies."""
    inside, stride = yardstick.inside, mapper.stride
    flat = changes(yardstick.logits, inside, stride)
    for overlap in dict.fromkeys(o for o, _ in tallies):
        tiling = Tiling.of(mapper.plan(scene.shape, overlap))
        near = near_edges(tiling, scene.shape)
        blends = [b for o, b in tallies if o == overlap]
        for blend, logits in mapper.blended(scene, tiling, blends).items():
            tally, channels = tallies[overlap, blend], mapper.classes(logits, scene)
            count_classes(tally, channels, yardstick.classes, (inside & near, inside & ~near))
            count_steps(tally, tiling, changes(logits, inside, stride), flat)
            if scene.truth is not None:
                classes = len(mapper.legend)
                tally.matrix += confusion_matrix(scene.truth, channels, classes, inside)


def count_classes(
    tally: Tally,
    channels: NDArray[np.uint8],
    yardsticks: Sequence[NDArray[np.uint8]],
    zones: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> None:
    """Adds up differing pixels, near the edges of tiles and elsewhere."""
    differs, differs_from_centred = (channels != other for other in yardsticks)
    for counts, zone in zip((tally.near, tally.elsewhere), zones, strict=True):
        counts += np.count_nonzero(differs & zone), np.count_nonzero(zone)
        tally.centred += np.count_nonzero(differs_from_centred & zone), np.count_nonzero(zone)


def changes(logits: Logits, inside: NDArray[np.bool_], stride: int) -> list[NDArray[np.float64]]:
    """Sums of the changes of probabilities across each line, along both axes."""
    good = inside[::stride, ::stride]
    logits = logits[:, : good.shape[0], : good.shape[1]]
    raised = np.exp(logits - logits.max(0))
    chances = raised / raised.sum(0)
    found = []
    for axis in (0, 1):
        change = np.abs(np.diff(chances, axis=axis + 1)).sum(0)
        both = np.delete(good, 0, axis) & np.delete(good, -1, axis)
        found.append(np.where(both, change, 0).sum(1 - axis, dtype=np.float64))
    return found


def count_steps(
    tally: Tally, tiling: Tiling, ours: list[NDArray[np.float64]], flat: list[NDArray[np.float64]]
) -> None:
    """Adds up the changes of a run and of the full-overlap run, line by line."""
    for axis in (0, 1):
        both = np.stack([ours[axis], flat[axis]])
        tally.all_steps += both.sum(1)
        for start in tiling.overlaps(axis):
            # A line's change is that of the logit behind it from the one before.
            for place in range(min(tiling.overlap + 1, both.shape[1] + 1 - start)):
                sums = tally.steps.setdefault(place, np.zeros(2))
                sums += both[:, start + place - 1]
