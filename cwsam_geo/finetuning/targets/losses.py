"""Segmentation losses, for labels that are one class or a set of possible classes."""

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
from cwsam_geo.finetuning.targets.class_sets import partial_rows, single_channels

WEIGHT_CAP = 10.0
"""Highest class weight that ``auto_weights`` gives; a rare class must not dominate the loss."""

FOCAL_GAMMA = 2.0
"""Focusing parameter of the focal loss; the paper's best value."""

ROBUST_POWER = 0.7
"""The q of the generalized cross-entropy; the paper's value."""

# Added to numerator and denominator of Dice. It keeps the score of absent classes finite.
_SMOOTH = 1.0


@dataclass(frozen=True)
class Terms:
    """The quantities that losses are computed from.

    Attributes:
        log_p: Log-probability of every class, shape (B, K, H, W).
        single: The channel if a pixel's label is one class, else -1, shape (B, H, W).
        allowed: True where a pixel may be of the class, shape (B, K, H, W); None if the label
            table has no partial labels.
        weight: Weight of every pixel, 0 where it has no label, shape (B, H, W).
    """

    log_p: Tensor
    single: Tensor
    allowed: Tensor | None
    weight: Tensor

    @cached_property
    def log_allowed(self) -> Tensor:
        """Log of the summed probability of the allowed classes, shape (B, H, W).

        The value of a pixel without a label is arbitrary, but finite.
        """
        if self.allowed is None:
            channel = self.single.clamp(min=0)
            return self.log_p.gather(1, channel[:, None])[:, 0]
        return self.log_p.masked_fill(~self.allowed, float("-inf")).logsumexp(1)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Probabilities (K, N) and channels (N,) of the N pixels whose label is one class."""
        is_single = self.single >= 0
        return self.log_p.transpose(0, 1)[:, is_single].exp(), self.single[is_single]

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over the labelled pixels; 0, with a gradient of 0, if there are none."""
        total = self.weight.sum()
        return (self.weight * values).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def cross_entropy(terms: Terms) -> Tensor:
    """-log of the summed probability of the allowed classes, weighted by class.

    With one allowed class this is the weighted cross-entropy. Partial labels are treated as by
    Cour et al. (2011, JMLR 12, 1501-1536) and Feng et al. (2020, arXiv 2007.08929).
    """
    return terms.mean(-terms.log_allowed)


def focal(terms: Terms) -> Tensor:
    """Focal loss, which gives easy pixels less weight (Lin et al. 2017, arXiv 1708.02002)."""
    # Rounding can bring the sum of probabilities above 1.
    wrong = (1 - terms.log_allowed.exp()).clamp(min=0)
    return terms.mean(-(wrong**FOCAL_GAMMA) * terms.log_allowed)


def generalized_cross_entropy(terms: Terms) -> Tensor:
    """Generalized cross-entropy (1 - p^q) / q, which is robust to wrong labels.

    Here p is the summed probability of the allowed classes, and q is 0.7. The loss lies between
    cross-entropy (q = 0) and absolute error (q = 1); see Zhang & Sabuncu (2018, arXiv 1805.07836).
    """
    return terms.mean((1 - (ROBUST_POWER * terms.log_allowed).exp()) / ROBUST_POWER)


def dice(terms: Terms) -> Tensor:
    """1 - soft Dice over the batch, mean over its classes (Milletari et al. 2016).

    Only pixels whose label is one class count.
    """
    probability, channel = terms.labelled  # (K, N), (N,)
    truth = F.one_hot(channel, len(probability)).T.to(probability.dtype)
    overlap = (probability * truth).sum(1)
    scores = (2 * overlap + _SMOOTH) / (probability.sum(1) + truth.sum(1) + _SMOOTH)
    present = truth.any(1)
    return ((1 - scores) * present).sum() / present.sum().clamp(min=1)


def lovasz(terms: Terms) -> Tensor:
    """Lovasz-softmax: the convex surrogate of 1 - mIoU (Berman et al. 2018, arXiv 1705.08790).

    It is computed over the batch and averaged over its classes. Only pixels whose label is one
    class count.
    """
    probability, channel = terms.labelled
    losses = [
        _lovasz_of_class(probability[k], channel == k)
        for k in range(len(probability))
        if bool((channel == k).any())
    ]
    return torch.stack(losses).mean() if losses else 0 * terms.log_p.sum()


def _lovasz_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    """Lovasz extension of the Jaccard loss of one class, from probability and mask, both (N,)."""
    errors, order = (truth.to(probability.dtype) - probability).abs().sort(descending=True)
    sorted_truth = truth[order].to(probability.dtype)
    # jaccard[n] is the Jaccard loss if the n + 1 pixels with the largest errors are wrong. Its
    # differences are the weights of the errors (the paper's algorithm 1).
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
"""Losses by name. Names are joined by ``+`` for the sum of losses, as in ``ce+dice``."""


def parse_loss(text: str) -> tuple[Callable[[Terms], Tensor], ...]:
    """Returns the losses that a text such as ``ce`` or ``ce+dice`` names.

    Raises:
        UsageError: A name is unknown or appears twice.
    """
    names = [name.strip() for name in text.split("+")]
    if any(name not in LOSSES for name in names) or len(set(names)) != len(names):
        raise UsageError(
            f"loss {text!r}: give one of {', '.join(LOSSES)}, or a sum of them such as ce+dice"
        )
    return tuple(LOSSES[name] for name in names)


class SegmentationLoss(nn.Module):
    """The loss of a batch, from its logits and label rows.

    Args:
        name: One of ``LOSSES``, or several joined by ``+``.
        sets: Which classes each label index allows, shape (S, K), bool. Pixels of a row that
            allows no class, or all classes, do not count.
        weights: Weight of each class, K values. A pixel with several allowed classes has the
            mean of their weights.

    Raises:
        UsageError: The loss is unknown, or the weights do not fit the classes.
    """

    def __init__(self, name: str, sets: NDArray[np.bool_], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = parse_loss(name)
        classes = sets.shape[1]
        if len(weights) != classes or not all(0 <= w < float("inf") for w in weights):
            raise UsageError(f"class weights {list(weights)}: give {classes} numbers of 0 or more")
        allowed = sets.sum(1)  # number of allowed classes of each row, (S,)
        informative = (allowed > 0) & (allowed < classes)
        self.partial = bool(partial_rows(sets).any())
        row_weight = np.where(informative, sets @ np.asarray(weights) / np.maximum(allowed, 1), 0)
        # Rows without information have weight 0. Let them allow all classes, so that their
        # log-probability is finite: 0 * inf would be NaN.
        self._keep("sets", sets | ~informative[:, None])
        self._keep("single", single_channels(sets))
        self._keep("row_weight", row_weight.astype(np.float32))

    def _keep(self, name: str, values: NDArray[np.generic]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the loss.

        Args:
            logits: Shape (B, K, h, w). They are upsampled to the labels' resolution bilinearly, as
                in prediction.
            labels: Indices into the rows of ``sets``, shape (B, H, W), int64.

        Returns:
            A float32 scalar. It is 0, with gradients of 0, if no pixel has a label.
        """
        fine = upsampled(logits, labels.shape[-2:])
        sets, single = cast(Tensor, self.sets), cast(Tensor, self.single)
        weight = cast(Tensor, self.row_weight)
        # Indexing with labels (B, H, W) gives (B, H, W), and (B, H, W, K) for sets.
        terms = Terms(
            log_p=fine.log_softmax(1),
            single=single[labels],
            allowed=sets[labels].permute(0, 3, 1, 2) if self.partial else None,
            weight=weight[labels],
        )
        return torch.stack([loss(terms) for loss in self.losses]).sum()


def upsampled(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes logits (B, K, h, w) to (B, K, *size) bilinearly, in float32."""
    values = logits.float()
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)


def auto_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """Class weights by inverse frequency: 1 for a class of average frequency, and at most 10.

    Args:
        pixels: Training pixels of each class, K values. A class without pixels has weight 1.
    """
    present = sum(n > 0 for n in pixels)
    total = sum(pixels)
    return tuple(min(total / (present * n), WEIGHT_CAP) if n else 1.0 for n in pixels)
