"""The optimizer, its weight decay, and the learning rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from cwsam_geo.train.recipe import Recipe

# Modules whose ``weight`` decays.
_KERNELS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Makes an AdamW optimizer for all parameters that need a gradient.

    Args:
        model: The model, with all parameters frozen that are not trained.
        recipe: Learning rate and weight decay.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = kernels(model) & set(trained)
    # Sorted names: the optimizer's state in a checkpoint goes by the order of the parameters.
    groups: list[dict[str, Any]] = [
        {"params": [trained[n] for n in sorted(names)], "weight_decay": decay}
        for names, decay in ((decayed, recipe.weight_decay), (set(trained) - decayed, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def kernels(model: nn.Module) -> set[str]:
    """Names of the weights with weight decay: those of linear layers and convolutions.

    Biases, norms, embeddings and position tables do not decay.
    """
    return {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _KERNELS)
    }


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine from ``lr`` to ``lr_end``.

    The rate depends on the step alone, so that a resumed run needs no state of a scheduler.

    Args:
        step: Number of the step, from 0 to ``steps - 1``.
        steps: Number of steps of the whole run.
        recipe: Its ``lr``, ``lr_end`` and ``warmup`` define the schedule.
    """
    warmup_steps = round(recipe.warmup * steps)
    if step < warmup_steps:
        return recipe.lr * (step + 1) / (warmup_steps + 1)
    phase = (step - warmup_steps) / max(steps - 1 - warmup_steps, 1)  # 0 to 1
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * phase)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
