"""Drawing the blocks for validation and test, with the right share of labels of every class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.finetuning.split.roles import TEST, TRAIN, VAL

Floats = NDArray[np.float64]

# Number of draws: as many as fit into _WORK operations (each takes about blocks * classes), within
# these limits.
_MOST_TRIES = 400
_LEAST_TRIES = 20
_WORK = 20_000_000

# Number of blocks below which every second draw takes neighbouring blocks together.
_COMPACT_BELOW = 64

# Cost of a class that a role lacks. The other costs are shares below 1, so it outweighs them.
_ABSENT = 10.0


@dataclass(frozen=True)
class BlockTable:
    """Blocks with labels.

    Attributes:
        classes: Pixels of each class, shape (N, K), float64.
        labelled: Labelled pixels, shape (N,), float64.
        places: Plane of each block, and its column and row in the grid there, shape (N, 3), int64.
        loss: Share of a training block that the gap to a neighbour takes, shape (N,), float64.
    """

    classes: Floats
    labelled: Floats
    places: NDArray[np.int64]
    loss: Floats

    def __len__(self) -> int:
        return len(self.labelled)


def assign_blocks(blocks: BlockTable, val: float, test: float, seed: int) -> NDArray[np.uint8]:
    """Draws the blocks for validation and test.

    Many random draws are made and the best is returned. A draw is good if every class that occurs
    in enough blocks is in training, in validation and in the test, if each class has nearly the
    requested shares, and if the gaps take few labels from training. Where there are few blocks,
    half of the draws take neighbours together: the gaps around scattered blocks would leave
    little for training.

    Args:
        blocks: The blocks: at least two, or three with a test.
        val: Share of the labels for validation.
        test: Share of the labels for the test; 0 for no test.

    Returns:
        Role of each block, shape (N,), uint8.
    """
    judge = _Judge(blocks, val, test)
    best, lowest = None, np.inf
    for order in _orders(blocks, judge.tries, np.random.default_rng(seed)):
        roles = judge.roles(order)
        cost = judge.cost(roles)
        if best is None or cost < lowest:
            best, lowest = roles, cost
    assert best is not None
    return best


def _orders(
    blocks: BlockTable, tries: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yields random orders of the blocks, each (N,)."""
    n = len(blocks)
    planes = int(blocks.places[:, 0].max()) + 1
    for number in range(tries):
        if n < _COMPACT_BELOW and number % 2:
            # By distance from a random block; the blocks of other planes come last.
            start = blocks.places[rng.integers(n)]
            distance = np.hypot(*(blocks.places[:, 1:] - start[1:]).T)
            plane = rng.permutation(planes)
            plane_rank = np.where(blocks.places[:, 0] == start[0], -1, plane[blocks.places[:, 0]])
            yield np.lexsort((distance + rng.uniform(0, 1, n), plane_rank))
        else:
            yield rng.permutation(n)


class _Judge:
    """Turns orders of the blocks into roles and rates them."""

    def __init__(self, blocks: BlockTable, val: float, test: float) -> None:
        self._blocks = blocks
        self._shares = {VAL: val, TEST: test} if test else {VAL: val}
        self._totals = blocks.classes.sum(0)
        occurs = self._totals > 0
        in_several = (blocks.classes > 0).sum(0) > len(self._shares)
        self._spread, self._here = occurs & in_several, occurs
        self._edges = _edges(blocks.places)
        work = len(blocks) * (blocks.classes.shape[1] + 4)
        self.tries = int(np.clip(_WORK // work, _LEAST_TRIES, _MOST_TRIES))

    def roles(self, order: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Role of each block: the first of the order for validation, the next for the test."""
        roles = np.full(len(order), TRAIN, np.uint8)
        sums = self._blocks.labelled[order].cumsum()
        start, target = 0, 0.0
        for roles_left, (role, share) in zip(
            range(len(self._shares), 0, -1), self._shares.items(), strict=True
        ):
            target += share * sums[-1]
            stop = int(np.abs(sums - target).argmin()) + 1
            # At least one block remains for each role that follows; training is the last.
            stop = min(max(stop, start + 1), len(order) - roles_left)
            roles[order[start:stop]] = role
            start = stop
        return roles

    def cost(self, roles: NDArray[np.uint8]) -> float:
        """Cost of a draw, lower is better: absent classes, wrong shares, labels lost to gaps."""
        train = self._totals
        cost = 0.0
        for role, share in self._shares.items():
            part = self._blocks.classes[roles == role].sum(0)
            train = train - part
            cost += _ABSENT * float((self._spread & (part == 0)).sum())
            if self._here.any():
                shares = part[self._here] / self._totals[self._here]
                cost += float(np.abs(shares - share).mean())
        cost += _ABSENT * float((self._spread & (train == 0)).sum())
        # Every border between a training block and another one costs training a gap.
        a, b = roles[self._edges[:, 0]], roles[self._edges[:, 1]]
        train_edges = self._edges[(a == TRAIN) & (b != TRAIN), 0]
        pixels_lost = (self._blocks.labelled * self._blocks.loss)[train_edges].sum()
        return cost + float(pixels_lost / self._blocks.labelled.sum())


def _edges(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of blocks that share a side, in both orders, shape (E, 2)."""
    index = {tuple(place): i for i, place in enumerate(places.tolist())}
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    pairs = [
        (i, index[p, c + dc, r + dr])
        for (p, c, r), i in index.items()
        for dc, dr in steps
        if (p, c + dc, r + dr) in index
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
