"""Losses on pixels whose label is one class, or a set of classes of which one is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.errors import UsageError

WEIGHT_CAP = 10.0
"""Highest class weight that ``auto_weights`` gives."""

FOCAL_GAMMA = 2.0

ROBUST_POWER = 0.7

_SMOOTH = 1.0


@dataclass(frozen=True)
class Terms:
    """What a loss is made from; shapes with N = all pixels of a batch.

    Attributes:
        log_p: Log-probability of every class, shape (B, K, H, W).
        single: The channel where a pixel's label is one class, else -1, shape (B, H, W).
        allowed: True where a pixel may be of the class, shape (B, K, H, W); None where every label
            is one class or none at all.
        weight: Weight of every pixel, 0 where it has no label, shape (B, H, W).
    """

    log_p: Tensor
    single: Tensor
    allowed: Tensor | None
    weight: Tensor

    @cached_property
    def log_allowed(self) -> Tensor:
        """Log of the summed probability of the allowed classes, shape (B, H, W).

        Of any finite value where a pixel has no label.
        """
        if self.allowed is None:
            channel = self.single.clamp(min=0)
            return self.log_p.gather(1, channel[:, None])[:, 0]
        return self.log_p.masked_fill(~self.allowed, float("-inf")).logsumexp(1)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Probabilities (K, N) and channels (N,) of the pixels whose label is one class."""
        there = self.single >= 0
        return self.log_p.transpose(0, 1)[:, there].exp(), self.single[there]

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over the labelled pixels; 0 (with a gradient of 0) where there is none."""
        total = self.weight.sum()
        return (self.weight * values).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def cross_entropy(terms: Terms) -> Tensor:
    """-log of the summed probability of the allowed classes, weighted by class.

    With one allowed class this is the weighted cross-entropy. Partial labels as in Cour et al.
    (2011, JMLR 12, 1501-1536) and Feng et al. (2020, arXiv 2007.08929).
    """
    return terms.mean(-terms.log_allowed)


def focal(terms: Terms) -> Tensor:
    """Cross-entropy that counts easy pixels less (Lin et al. 2017, arXiv 1708.02002)."""
    # The sum of probabilities may exceed 1 by rounding.
    wrong = (1 - terms.log_allowed.exp()).clamp(min=0)
    return terms.mean(-(wrong**FOCAL_GAMMA) * terms.log_allowed)


def generalized_cross_entropy(terms: Terms) -> Tensor:
    """(1 - p^q) / q: between cross-entropy and absolute error, so wrong labels count less.

    From Zhang & Sabuncu (2018, arXiv 1805.07836), with their q of 0.7, on the summed probability
    of the allowed classes.
    """
    return terms.mean((1 - (ROBUST_POWER * terms.log_allowed).exp()) / ROBUST_POWER)


def dice(terms: Terms) -> Tensor:
    """1 - soft Dice over the batch, mean of the classes in it (Milletari et al. 2016).

    Only pixels whose label is one class take part.
    """
    probability, channel = terms.labelled
    truth = F.one_hot(channel, len(probability)).T.to(probability.dtype)
    overlap = (probability * truth).sum(1)
    scores = (2 * overlap + _SMOOTH) / (probability.sum(1) + truth.sum(1) + _SMOOTH)
    present = truth.any(1)
    return ((1 - scores) * present).sum() / present.sum().clamp(min=1)


def lovasz(terms: Terms) -> Tensor:
    """Lovasz-softmax: the convex surrogate of 1 - mIoU (Berman et al. 2018, arXiv 1705.08790).

    Over the batch, mean of the classes in it; only pixels whose label is one class take part.
    """
    probability, channel = terms.labelled
    losses = [
        _lovasz_of_class(probability[k], channel == k)
        for k in range(len(probability))
        if bool((channel == k).any())
    ]
    return torch.stack(losses).mean() if losses else 0 * terms.log_p.sum()


def _lovasz_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    errors, order = (truth.to(probability.dtype) - probability).abs().sort(descending=True)
    sorted_truth = truth[order].to(probability.dtype)
    # Jaccard loss of calling the first n pixels wrong, for every n.
    union = sorted_truth.sum() + (1 - sorted_truth).cumsum(0)
    jaccard = 1 - (sorted_truth.sum() - sorted_truth.cumsum(0)) / union
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors * steps).sum()


LOSSES: dict[str, Callable[[Terms], Tensor]] = {
    "ce": cross_entropy,
    "focal": focal,
    "gce": generalized_cross_entropy,
    "dice": dice,
    "lovasz": lovasz,
}
"""Losses by name; ``ce+dice`` is the sum of two."""


def parse_loss(text: str) -> tuple[Callable[[Terms], Tensor], ...]:
    """The losses of a text such as ``ce`` or ``ce+dice``.

    Raises:
        UsageError: A name is not known, or appears twice.
    """
    names = [name.strip() for name in text.split("+")]
    if any(name not in LOSSES for name in names) or len(set(names)) != len(names):
        raise UsageError(
            f"loss {text!r}: give one of {', '.join(LOSSES)}, or a sum of them such as ce+dice"
        )
    return tuple(LOSSES[name] for name in names)


def single_channels(sets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The channel of each row that allows one class, else -1.

    Args:
        sets: Which classes each label index allows, shape (S, K), bool.
    """
    return np.where(sets.sum(1) == 1, sets.argmax(1), -1).astype(np.int64)


def partial_rows(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows allow several classes, but not all: those say something.

    Args:
        sets: Which classes each label index allows, shape (S, K), bool.
    """
    allowed = sets.sum(1)
    return np.asarray((allowed > 1) & (allowed < sets.shape[1]))


class SegmentationLoss(nn.Module):
    """Logits and labels to the loss of a batch.

    Args:
        name: One of ``LOSSES``, or several joined by ``+``.
        sets: Which classes each label index allows, shape (S, K), bool. A row that allows none,
            or all, says nothing: such pixels do not count.
        weights: Weight of each class, K values. A pixel with several allowed classes has the
            mean of their weights.

    Raises:
        UsageError: The loss is not known, or the weights do not fit the classes.
    """

    def __init__(self, name: str, sets: NDArray[np.bool_], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = parse_loss(name)
        classes = sets.shape[1]
        if len(weights) != classes or not all(0 <= w < float("inf") for w in weights):
            raise UsageError(f"class weights {list(weights)}: give {classes} numbers of 0 or more")
        allowed = sets.sum(1)
        says = (allowed > 0) & (allowed < classes)
        self.partial = bool(partial_rows(sets).any())
        row_weight = np.where(says, sets @ np.asarray(weights) / np.maximum(allowed, 1), 0)
        # Rows that say nothing allow everything here, so that no logarithm is infinite.
        self._keep("sets", sets | ~says[:, None])
        self._keep("single", single_channels(sets))
        self._keep("row_weight", row_weight.astype(np.float32))

    def _keep(self, name: str, values: NDArray[np.generic]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss.

        Args:
            logits: Shape (B, K, h, w); brought to the labels' resolution bilinearly, as
                prediction does it.
            labels: Indices into the rows of ``sets``, shape (B, H, W), int64.

        Returns:
            A float32 scalar: 0, with gradients of 0, where no pixel has a label.
        """
        fine = upsampled(logits, labels.shape[-2:])
        sets, single = cast(Tensor, self.sets), cast(Tensor, self.single)
        weight = cast(Tensor, self.row_weight)
        terms = Terms(
            log_p=fine.log_softmax(1),
            single=single[labels],
            allowed=sets[labels].permute(0, 3, 1, 2) if self.partial else None,
            weight=weight[labels],
        )
        return torch.stack([loss(terms) for loss in self.losses]).sum()


def upsampled(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (B, K, h, w) in float32 and at another size, bilinear."""
    values = logits.float()
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)


def auto_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """Class weights by inverse frequency: 1 for a class of average frequency, at most 10.

    Args:
        pixels: Training pixels of each class, K values. A class without any has weight 1.
    """
    present = sum(n > 0 for n in pixels)
    total = sum(pixels)
    return tuple(min(total / (present * n), WEIGHT_CAP) if n else 1.0 for n in pixels)
