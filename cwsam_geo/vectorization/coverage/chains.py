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
    """Orders linked elements, chain after chain.

    Chains are found as connected components and linked end to end to a single path, which a
    breadth-first search walks. This takes linear time, all of it in compiled code.

    Args:
        following: Index of the element after each element, -1 at an end, shape (N,). No index
            occurs twice.
    """
    n = len(following)
    if n == 0:
        return Chains(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.bool_))
    after = following.astype(np.int32)
    linked = after >= 0
    count, chain = connected_components(_graph(after, linked), directed=True, connection="weak")
    places = np.arange(n, dtype=np.int32)
    head = np.empty(count, np.int32)
    # The last assignment to an index wins: every chain gets its smallest element as its head.
    head[chain[::-1]] = places[::-1]
    # An open chain starts at the one element that follows no other.
    is_head = np.ones(n, np.bool_)
    is_head[after[linked]] = False
    heads = np.flatnonzero(is_head)
    closed = np.ones(count, np.bool_)
    closed[chain[heads]] = False
    head[chain[heads]] = heads
    # A closed chain is cut before its head. Then each tail is linked to the next chain's head.
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
    """Connected components of ``count`` elements.

    Args:
        links: Pairs of elements that belong together, two arrays of shape (L,).
        count: Number of elements.

    Returns:
        Number of components, and the component of each element, shape (count,).
    """
    if count == 0:
        return 0, np.zeros(0, np.int64)
    graph = csr_array((np.ones(len(links[0])), links), shape=(count, count))
    number, label = connected_components(graph, directed=True, connection="weak")
    return number, label.astype(np.int64)


def offsets_of(lengths: Ints) -> Ints:
    """Start of each of N consecutive rows of these lengths, and the end, shape (N + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged_range(starts: Ints, lengths: Ints) -> Ints:
    """``arange(start, start + length)`` for each pair, concatenated."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
