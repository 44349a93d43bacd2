"""The running mean of a model's weights, which is validated and kept instead of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_EARLY = 10
"""The decay of update n is at most (n + 1) / (n + _EARLY), so that the mean forgets the start."""


class WeightMean:
    """An exponential mean of the parameters that are trained (Polyak averaging).

    Its decay rises to ``decay`` over the first updates, as in TensorFlow's
    ``ExponentialMovingAverage``.

    Args:
        model: The model, with all parameters frozen that are not trained.
        decay: Weight of the mean so far in each update, above 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._updates = decay, 0
        self._mean = {name: p.detach().clone() for name, p in _trained(model).items()}

    def update(self, model: nn.Module) -> None:
        """Takes the model's weights into the mean."""
        decay = min(self._decay, (self._updates + 1) / (self._updates + _EARLY))
        self._updates += 1
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                self._mean[name].lerp_(parameter, 1 - decay)

    @contextlib.contextmanager
    def shown(self, model: nn.Module) -> Iterator[None]:
        """The model has the mean as its weights within the ``with`` block."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def _swap(self, model: nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                own = parameter.clone()
                parameter.copy_(self._mean[name])
                self._mean[name].copy_(own)

    def state(self) -> dict[str, Any]:
        """The mean on the CPU and the number of updates, for a checkpoint."""
        mean = {name: t.to("cpu", copy=True) for name, t in self._mean.items()}
        return {"updates": self._updates, "mean": mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state`` returned."""
        self._updates = state["updates"]
        for name, tensor in state["mean"].items():
            self._mean[name].copy_(tensor)


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
