"""A texture head that has learned from single pixels, for a network to start from.

A network of a few hundred steps sees few places often. Its texture head (``texture.py`` of the
network) can learn beforehand from pixels of all of them in turn, in seconds: as many of each class,
and within a class as many of each site, at levels changed by a gain common to both bands, with both
bands, with VV alone and with VH alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from judge_maps import BANDS, Mode
from judge_metrics import LAND
from numpy.typing import NDArray
from places_data import NAMES, LabelledPlace, best_window, decibels
from torch import Tensor

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.network.architecture import Architecture, Backbone
from cwsam_geo.model.network.texture import TextureHead, local_statistics
from cwsam_geo.model.upstream.convert import fresh_tensors

PIXELS = 1500
"""Logits per class, site and set of bands that are learned from, at most."""


@dataclass(frozen=True)
class HeadRecipe:
    """How the head learns.

    Attributes:
        steps: Steps of AdamW.
        batch: Logits a step.
        rate: Highest learning rate.
        decay: Weight decay.
        gain_db: Largest change of level.
        noise: Standard deviation of what is added to the statistics, so that the head does not
            learn a few sites by heart.
        site_power: A class is drawn as often as the number of its sites to this power.
        sand_steps: Steps of the second stage, which tells sand from water in VV alone; 0 for none.
        sand_rate: Its highest learning rate.
        deserts: How often it draws deserts for each time that it draws another site. No other site
            is open and as dark as water.
        pin: Weight with which its answers to the other sets of bands stay as they were.
        shares: Of the batch, by set of bands.
        average: Factor of the running mean of weights that is kept.
        seed: Of weights and draws.
    """

    steps: int = 800
    batch: int = 1024
    rate: float = 3e-3
    decay: float = 1.0
    gain_db: float = 1.5
    noise: float = 0.2
    site_power: float = 0.5
    sand_steps: int = 300
    sand_rate: float = 2e-3
    deserts: float = 4.0
    pin: float = 3.0
    shares: tuple[tuple[Mode, float], ...] = (("both", 0.5), ("vv", 0.3), ("vh", 0.2))
    average: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """Labelled logits seen with one set of bands.

    Attributes:
        statistics: What the head is given, (N, F).
        allowed: Classes that each label allows, (N, K).
        chance: Of being drawn, (N,), adding up to 1.
        gain: By how much a gain of 1 dB changes the statistics, (F,).
    """

    statistics: Tensor
    allowed: Tensor
    chance: NDArray[np.float64]
    gain: Tensor


def fitted_head(
    listed: Sequence[LabelledPlace],
    architecture: Architecture,
    spec: PreprocessSpec,
    recipe: HeadRecipe,
) -> dict[str, Tensor]:
    """The head's tensors by their name in the network.

    Args:
        listed: Scenes to learn from.
        architecture: Of the network; it has a texture head.
        spec: Its input.
        recipe: How the head learns.
    """
    seen = {
        mode: drawn(listed, architecture.stride, spec, mode, recipe) for mode, _ in recipe.shares
    }
    rng = np.random.default_rng(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = TextureHead(architecture)

        def loss() -> Tensor:
            total = torch.zeros(())
            for mode, share in recipe.shares:
                values, allowed = _batch(seen[mode], round(recipe.batch * share), recipe, rng)
                total = total + share * _labelled_loss(head, values, allowed)
            return total

        _learn(head, loss, recipe.steps, recipe.rate, recipe)
        if recipe.sand_steps:
            more = replace(recipe, decay=0.0)
            sand = drawn(listed, architecture.stride, spec, "vv", recipe, recipe.deserts)
            known, others = copy.deepcopy(head).eval(), {m: seen[m] for m in seen if m != "vv"}
            head.eval()  # no dropout: what is pinned would be noise
            _learn(
                head,
                lambda: _sand_loss(head, known, sand, others, recipe, rng),
                recipe.sand_steps,
                recipe.sand_rate,
                more,
            )
    return {f"texture.{name}": value.detach() for name, value in head.named_parameters()}


def _learn(
    head: TextureHead, loss: Callable[[], Tensor], steps: int, rate: float, recipe: HeadRecipe
) -> None:
    """Takes steps of AdamW and leaves the running mean of the weights in the head."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=recipe.decay)
    mean = {n: p.detach().clone() for n, p in head.named_parameters()}
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        with torch.no_grad():
            kept = recipe.average if step > 100 else 0.0
            for name, value in head.named_parameters():
                mean[name].mul_(kept).add_(value, alpha=1 - kept)
    with torch.no_grad():
        for name, value in head.named_parameters():
            value.copy_(mean[name])


def _labelled_loss(head: TextureHead, values: Tensor, allowed: Tensor) -> Tensor:
    """-log of the summed probability of the classes that each label allows."""
    log_p = F.log_softmax(_logits(head, values), 1)
    return -torch.logsumexp(log_p + allowed.log(), 1).mean()


def _sand_loss(
    head: TextureHead,
    known: TextureHead,
    sand: Drawn,
    others: Mapping[Mode, Drawn],
    recipe: HeadRecipe,
    rng: np.random.Generator,
) -> Tensor:
    """Loss on VV alone, and how far other sets of bands are from what the head knew of them."""
    total = _labelled_loss(head, *_batch(sand, recipe.batch // 2, recipe, rng))
    for mode, seen in others.items():
        values, _ = _batch(seen, recipe.batch // (2 if mode == "both" else 4), recipe, rng)
        with torch.no_grad():
            before = F.log_softmax(_logits(known, values), 1)
        now = F.log_softmax(_logits(head, values), 1)
        total = total + recipe.pin * F.kl_div(now, before, reduction="batchmean", log_target=True)
    return total


def with_texture(
    bundle: ModelBundle, listed: Sequence[LabelledPlace], recipe: HeadRecipe
) -> ModelBundle:
    """A bundle whose texture head has learned, and whose class masks add nothing to it yet."""
    head = fitted_head(listed, bundle.architecture, bundle.preprocess, recipe)
    return replace(bundle, tensors={**bundle.tensors, **silent_masks(bundle.tensors), **head})


def silent_masks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A last layer of the hypernetwork with which the class masks add nothing at first.

    What a texture head knows already is then not disturbed before the masks have learned.
    """
    layer = "decoder.hypernetwork.layers.2"
    return {n: torch.zeros_like(tensors[n]) for n in (f"{layer}.weight", f"{layer}.bias")}


def fresh_bundle(
    backbone: Backbone, classes: list[dict[str, object]], spec: PreprocessSpec, texture_dim: int
) -> ModelBundle:
    """A bundle of random weights with a texture head."""
    legend = Legend.from_list(classes, "classes", None)
    architecture = Architecture(backbone, len(legend), spec.tile_size, texture_dim=texture_dim)
    provenance = {
        "name": backbone.name,
        "trained": False,
        "created_by": "experiments/texture_start.py",
    }
    header = BundleHeader("full", architecture, spec, legend, provenance)
    return ModelBundle(header, fresh_tensors(architecture, 0))


def _logits(head: TextureHead, values: Tensor) -> Tensor:
    logits: Tensor = head.layers(values[:, :, None, None])[:, :, 0, 0]
    return logits


def _batch(
    seen: Drawn, size: int, recipe: HeadRecipe, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    which = rng.choice(len(seen.chance), size, p=seen.chance)
    gains = rng.uniform(-recipe.gain_db, recipe.gain_db, (size, 1)).astype(np.float32)
    values = seen.statistics[which] + torch.from_numpy(gains) * seen.gain
    return values + recipe.noise * torch.randn_like(values), seen.allowed[which]


def drawn(
    listed: Sequence[LabelledPlace],
    stride: int,
    spec: PreprocessSpec,
    mode: Mode,
    recipe: HeadRecipe,
    deserts: float = 1.0,
) -> Drawn:
    """Labelled logits of all scenes that have the bands of a mode.

    Args:
        listed: The scenes.
        stride: Pixels per logit.
        spec: The network's input.
        mode: With which bands.
        recipe: How classes share the draws.
        deserts: How often deserts are drawn for each time that another site is.
    """
    rng = np.random.default_rng(0)
    values: dict[str, list[NDArray[np.float32]]] = {}
    codes: dict[str, list[NDArray[np.uint8]]] = {}
    for site, found, labels in _scenes(listed, stride, spec, mode):
        values.setdefault(site, []).append(found)
        codes.setdefault(site, []).append(labels)
    x, y, chance = [], [], []
    # Which sites have a code.
    sites = {
        code: [s for s, parts in codes.items() if any((part == code).any() for part in parts)]
        for code in (*range(1, len(NAMES) + 1), LAND)
    }
    for site in codes:
        every, labels = np.concatenate(values[site]), np.concatenate(codes[site])
        for code in np.unique(labels):
            there = np.flatnonzero(labels == code)
            if len(there) > PIXELS:
                there = rng.choice(there, PIXELS, replace=False)
            x.append(every[there])
            y.append(labels[there])
            others = sites[int(code)]
            share = _weight(site, deserts) / sum(_weight(other, deserts) for other in others)
            share *= len(others) ** recipe.site_power
            chance.append(np.full(len(there), share / len(there)))
    p = np.concatenate(chance)
    allowed = np.stack([_allowed(code) for code in range(LAND + 1)])[np.concatenate(y)]
    return Drawn(
        torch.from_numpy(np.concatenate(x)),
        torch.from_numpy(allowed),
        p / p.sum(),
        _gain(stride, spec, mode),
    )


def _weight(site: str, deserts: float) -> float:
    return deserts if site.startswith("desert") else 1.0


def _scenes(
    listed: Sequence[LabelledPlace], stride: int, spec: PreprocessSpec, mode: Mode
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]:
    """Site, statistics (N, F) and codes (N,) of each scene's labelled logits."""
    for item in listed:
        bands, valid = decibels(item.scene)
        if not set(BANDS[mode]) <= set(bands) or (item.flood and mode == "vh"):
            continue
        labels = np.where(valid, item.codes(), 0).astype(np.uint8)
        part = best_window(labels)
        labels, valid = labels[part], valid[part]
        height, width = (side // stride * stride for side in labels.shape)
        whole = (slice(height), slice(width))
        labels, valid = labels[whole], valid[whole]
        image = _image({n: b[part][whole] for n, b in bands.items()}, valid, spec, mode)
        found = local_statistics(torch.from_numpy(image)[None], stride)[0].flatten(1).numpy()
        codes = _agreed(labels, stride).ravel()
        known = codes > 0
        yield item.site, np.ascontiguousarray(found[:, known].T), codes[known]


def _image(
    bands: Mapping[str, NDArray[np.float32]],
    valid: NDArray[np.bool_],
    spec: PreprocessSpec,
    mode: Mode,
) -> NDArray[np.float32]:
    seen = [name for name in spec.bands if name in BANDS[mode]]
    places = tuple(seen.index(name) if name in seen else None for name in spec.bands)
    return spec.apply(np.stack([bands[n] for n in seen]), valid, SceneBands("db", places))


def _agreed(codes: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Codes of squares of pixels whose labels agree, as far as they have labels; else 0."""
    rows, columns = codes.shape[0] // stride, codes.shape[1] // stride
    squares = codes.reshape(rows, stride, columns, stride)
    most = squares.max((1, 3))
    least = np.where(squares == 0, 255, squares).min((1, 3))
    return np.where(most == least, most, 0).astype(np.uint8)


def _allowed(code: int) -> NDArray[np.float32]:
    """1 for the classes that a code allows; else hardly more than 0, so that it has a logarithm."""
    known = {code - 1} if 1 <= code <= len(NAMES) else set(range(1, len(NAMES)))
    return np.array([1.0 if k in known else 1e-12 for k in range(len(NAMES))], np.float32)


def _gain(stride: int, spec: PreprocessSpec, mode: Mode) -> Tensor:
    """By how much statistics change where all bands that are seen are 1 dB brighter."""
    size = 16 * stride
    level = {n: np.full((size, size), -15.0, np.float32) for n in ("VV", "VH")}
    brighter = {n: band + 1 for n, band in level.items()}
    valid = np.ones((size, size), np.bool_)
    one, two = (
        local_statistics(torch.from_numpy(_image(b, valid, spec, mode))[None], stride)
        for b in (level, brighter)
    )
    return (two - one)[0, :, 8, 8]
