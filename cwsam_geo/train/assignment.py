"""Which blocks are for validation and test: shares by labels, with every class where possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.train.regions import TEST, TRAIN, VAL

Floats = NDArray[np.float64]

_MOST_TRIES = 400
_LEAST_TRIES = 20
_WORK = 20_000_000
_COMPACT_BELOW = 64
_ABSENT = 10.0


@dataclass(frozen=True)
class BlockTable:
    """Blocks with labels.

    Attributes:
        classes: Pixels of each class, shape (N, K), float64.
        labelled: Labelled pixels, shape (N,), float64.
        places: Plane, column and row of each in its plane's grid, shape (N, 3), int64.
        loss: Share of a training block that the gap to one neighbour takes, shape (N,).
    """

    classes: Floats
    labelled: Floats
    places: NDArray[np.int64]
    loss: Floats

    def __len__(self) -> int:
        return len(self.labelled)


def assign_blocks(blocks: BlockTable, val: float, test: float, seed: int) -> NDArray[np.uint8]:
    """Draws the blocks for validation and test.

    Of many random draws the best is taken. A draw is good if every class that lies in several
    blocks is in training and in validation (and in the test), if the classes' shares are near the
    wanted ones, and if the gaps take few labels from training. Of few blocks, neighbours are
    drawn together too, since scattered blocks would leave little between their gaps.

    Args:
        blocks: The blocks, at least two, and three where there is a test.
        val: Share of the labels for validation.
        test: Share of the labels for the test.
        seed: The same seed gives the same draw.

    Returns:
        The role of each block, shape (N,), uint8.
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
    n = len(blocks)
    planes = int(blocks.places[:, 0].max()) + 1
    for number in range(tries):
        if n < _COMPACT_BELOW and number % 2:
            start = blocks.places[rng.integers(n)]
            apart = np.hypot(*(blocks.places[:, 1:] - start[1:]).T)
            plane = rng.permutation(planes)
            other = np.where(blocks.places[:, 0] == start[0], -1, plane[blocks.places[:, 0]])
            yield np.lexsort((apart + rng.uniform(0, 1, n), other))
        else:
            yield rng.permutation(n)


class _Judge:
    def __init__(self, blocks: BlockTable, val: float, test: float) -> None:
        self._blocks = blocks
        self._shares = {VAL: val, TEST: test} if test else {VAL: val}
        self._totals = blocks.classes.sum(0)
        here = self._totals > 0
        several = (blocks.classes > 0).sum(0) > len(self._shares)
        self._spread, self._here = here & several, here
        self._edges = _edges(blocks.places)
        work = len(blocks) * (blocks.classes.shape[1] + 4)
        self.tries = int(np.clip(_WORK // work, _LEAST_TRIES, _MOST_TRIES))

    def roles(self, order: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The first blocks of an order for validation, the next for the test."""
        roles = np.full(len(order), TRAIN, np.uint8)
        sums = self._blocks.labelled[order].cumsum()
        start, wanted = 0, 0.0
        for left, (role, share) in zip(
            range(len(self._shares), 0, -1), self._shares.items(), strict=True
        ):
            wanted += share * sums[-1]
            stop = int(np.abs(sums - wanted).argmin()) + 1
            # One block at least for each purpose that follows, training being the last.
            stop = min(max(stop, start + 1), len(order) - left)
            roles[order[start:stop]] = role
            start = stop
        return roles

    def cost(self, roles: NDArray[np.uint8]) -> float:
        """How bad a draw is."""
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
        a, b = roles[self._edges[:, 0]], roles[self._edges[:, 1]]
        lost = self._edges[(a == TRAIN) & (b != TRAIN), 0]
        taken = (self._blocks.labelled * self._blocks.loss)[lost].sum()
        return cost + float(taken / self._blocks.labelled.sum())


def _edges(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of blocks side by side, in both orders, shape (E, 2)."""
    index = {tuple(place): i for i, place in enumerate(places.tolist())}
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    pairs = [
        (i, index[p, c + dc, r + dr])
        for (p, c, r), i in index.items()
        for dc, dr in steps
        if (p, c + dc, r + dr) in index
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
