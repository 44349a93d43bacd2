"""Ordering linked elements: the one algorithm behind arcs, joins and rings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Chains:
    """Elements in the order of their links, chain after chain.

    Attributes:
        order: Elements, shape (N,); chain k is ``order[offsets[k]:offsets[k + 1]]``.
        offsets: Where the chains start, shape (K + 1,).
        closed: Which chains lead back to their first element, shape (K,).
    """

    order: Ints
    offsets: Ints
    closed: Flags

    @property
    def first(self) -> Ints:
        """First element of each chain."""
        return self.order[self.offsets[:-1]]

    @property
    def last(self) -> Ints:
        """Last element of each chain."""
        return self.order[self.offsets[1:] - 1]


def order_chains(following: Ints) -> Chains:
    """Puts linked elements in order.

    Chains are found as connected components, hung one behind the other to a single path, and the
    path is walked by a breadth-first search: linear time, and all of it in compiled code.

    Args:
        following: For each element the one after it, -1 at an end, shape (N,). No element is
            named twice.
    """
    n = len(following)
    if n == 0:
        return Chains(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.bool_))
    after = following.astype(np.int32)
    linked = after >= 0
    count, chain = connected_components(_graph(after, linked), directed=True, connection="weak")
    places = np.arange(n, dtype=np.int32)
    head = np.empty(count, np.int32)
    # The last assignment stays: the smallest element, and the true head where there is one.
    head[chain[::-1]] = places[::-1]
    is_head = np.ones(n, np.bool_)
    is_head[after[linked]] = False
    heads = np.flatnonzero(is_head)
    closed = np.ones(count, np.bool_)
    closed[chain[heads]] = False
    head[chain[heads]] = heads
    tail = ~linked
    tail[linked] = after[linked] == head[chain[linked]]
    tails = np.flatnonzero(tail)
    after[tails] = np.append(head, -1)[chain[tails] + 1]
    order = breadth_first_order(_graph(after, after >= 0), head[0], return_predecessors=False)
    offsets = offsets_of(np.bincount(chain, minlength=count))
    return Chains(order.astype(np.int64), offsets, closed)


def _graph(after: NDArray[np.int32], linked: Flags) -> csr_array:
    pointers = np.zeros(len(after) + 1, np.int32)
    np.cumsum(linked, out=pointers[1:])
    data = np.ones(pointers[-1])
    return csr_array((data, after[linked], pointers), shape=(len(after), len(after)))


def components(links: tuple[Ints, Ints], count: int) -> tuple[int, Ints]:
    """Number and label of the connected components of ``count`` elements.

    Args:
        links: Pairs of elements that belong together, two arrays of shape (L,).
        count: Number of elements.
    """
    if count == 0:
        return 0, np.zeros(0, np.int64)
    graph = csr_array((np.ones(len(links[0])), links), shape=(count, count))
    found, label = connected_components(graph, directed=True, connection="weak")
    return found, label.astype(np.int64)


def offsets_of(lengths: Ints) -> Ints:
    """Where ragged rows of these lengths start, and the end, shape (N + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged_range(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0], starts[0] + 1, ...`` for ``lengths[0]`` places, then the next row's."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
