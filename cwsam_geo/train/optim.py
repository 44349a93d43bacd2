"""Optimisation: what is decayed, and the learning rate of every step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from cwsam_geo.train.recipe import Recipe

_KERNELS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what needs a gradient, in the order of names.

    Args:
        model: With everything frozen that is not trained.
        recipe: Learning rate and weight decay.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = kernels(model) & set(trained)
    groups: list[dict[str, Any]] = [
        {"params": [trained[n] for n in sorted(names)], "weight_decay": decay}
        for names, decay in ((decayed, recipe.weight_decay), (set(trained) - decayed, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def kernels(model: nn.Module) -> set[str]:
    """Names of the weights that decay: of linear layers and convolutions.

    Biases, norms, embeddings and tables of positions do not.
    """
    return {
        f"{where}.weight" for where, module in model.named_modules() if isinstance(module, _KERNELS)
    }


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine from ``lr`` to ``lr_end``.

    A function of the step alone, so that a resumed run needs no scheduler's state.

    Args:
        step: From 0 to ``steps - 1``.
        steps: All steps of the run.
        recipe: ``lr``, ``lr_end`` and ``warmup``.
    """
    rising = round(recipe.warmup * steps)
    if step < rising:
        return recipe.lr * (step + 1) / (rising + 1)
    done = (step - rising) / max(steps - 1 - rising, 1)
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * done)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all parameter groups a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
