"""Fits the temperatures that make a trained model's confidence mean its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.core.reliability import (
    BINS,
    Reliability,
    best_temperature,
    log_probabilities,
    reliability_by_temperature,
)
from cwsam_geo.core.temperatures import Bands, Temperatures
from cwsam_geo.finetuning.targets.class_sets import single_channels
from cwsam_geo.finetuning.targets.losses import upsampled
from cwsam_geo.finetuning.training.batches import Samples
from cwsam_geo.finetuning.training.processes import Processes
from cwsam_geo.model.device import Precision, autocast

_MOST_PIXELS = 200_000
"""Pixels that a temperature is fitted on. It is a single number: more pixels change its third digit
at most, since neighbours are alike."""

_LEAST_PIXELS = 2_000
"""Pixels that a set of bands needs for a temperature of its own. A share of so many has a standard
error of about one per cent."""

_MOST_LOGITS = 4_000_000
"""Logits of these pixels, which bounds the memory of many classes."""


@dataclass(frozen=True)
class BandTiles:
    """Validation tiles as the model sees them where a scene has some of its bands.

    Attributes:
        bands: Names of these bands.
        tiles: The tiles; the other bands are filled.
        labelled: Labelled pixels of the tiles.
    """

    bands: Bands
    tiles: Samples
    labelled: int


@dataclass(frozen=True)
class BandCalibration:
    """The temperature for a set of bands, and what it does on the areas that it was fitted on.

    Attributes:
        bands: Names of the bands.
        before: Reliability with temperature 1.
        after: Reliability with ``temperature``.
    """

    bands: Bands
    temperature: float
    before: Reliability
    after: Reliability

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, for JSON."""
        return {
            "bands": list(self.bands),
            "temperature": self.temperature,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }


@dataclass(frozen=True)
class Calibration:
    """The temperatures of a model.

    Attributes:
        parts: One for each set of bands, the largest set first. If the model needs all of its
            bands, or the areas hold too few pixels to tell sets apart, there is only one.
    """

    parts: tuple[BandCalibration, ...]

    @property
    def temperatures(self) -> Temperatures:
        """The temperatures as the bundle holds them."""
        if len(self.parts) == 1:
            return Temperatures(self.parts[0].temperature)
        return Temperatures(by_bands={part.bands: part.temperature for part in self.parts})

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, for JSON."""
        return {
            "temperature": self.temperatures.to_json(),
            "parts": [part.to_dict() for part in self.parts],
        }


@dataclass(frozen=True)
class LogitSample:
    """Logits of pixels whose label is one class.

    Labels of several classes take no part: where the map agrees with one, it may still be wrong.

    Attributes:
        logits: Shape (N, K), float32.
        channels: The channel of each pixel's label, shape (N,).
    """

    logits: NDArray[np.float32]
    channels: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        sets: NDArray[np.bool_],
        ignore: tuple[int, ...],
        total: int,
        arithmetic: tuple[torch.device, Precision],
    ) -> LogitSample:
        """Samples labelled pixels evenly, as many as a temperature needs.

        Args:
            model: Maps images (B, 3, T, T) to logits (B, K, t, t).
            batches: Images (B, 3, T, T), float32, and label rows (B, T, T), int64.
            sets: Which classes each label row allows, shape (S, K), bool.
            ignore: Channels that do not count.
            total: Labelled pixels of all batches and all processes, about.
            arithmetic: Device and number format of the model.
        """
        device, precision = arithmetic
        classes = sets.shape[1]
        singles = single_channels(sets)
        counts = (singles >= 0) & ~np.isin(singles, ignore)
        most = max(1, min(_MOST_PIXELS, _MOST_LOGITS // classes))
        # An odd step does not fall on the same columns of every row of a tile.
        step = 1 if total <= most else -(-total // most) | 1
        first = 0
        parts: list[NDArray[np.float32]] = [np.zeros((0, classes), np.float32)]
        rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for images, labels in batches:
            flat = labels.reshape(-1).numpy()
            places = np.flatnonzero(counts[flat])
            chosen = places[first::step]
            # The step goes on from one batch to the next.
            first = (first - len(places)) % step
            if not len(chosen):
                continue
            with torch.inference_mode():
                with autocast(device, precision):
                    logits = model(images.to(device, non_blocking=True))
                fine = upsampled(logits, labels.shape[-2:]).movedim(1, -1)  # (B, T, T, K)
                taken = fine.reshape(-1, classes)[torch.from_numpy(chosen).to(device)]
            parts.append(taken.cpu().numpy())
            rows.append(flat[chosen])
        return cls(np.concatenate(parts), singles[np.concatenate(rows)])

    def reliability(self, temperature: float) -> Reliability:
        """Confidence and accuracy of the pixels."""
        confidence = np.exp(log_probabilities(self.logits, temperature).max(1))
        return Reliability.of(confidence, self.logits.argmax(1) == self.channels)


def calibrate(
    sets: Sequence[BandTiles],
    everything: BandTiles,
    sampled: Callable[[BandTiles], LogitSample],
    processes: Processes,
) -> Calibration:
    """Fits the temperatures on the samples of all processes together.

    Args:
        sets: Tiles for each set of bands that a scene may have.
        everything: All tiles, with the bands that their scenes have. They give one temperature for
            all scenes if no more than one of the sets holds enough pixels.
        sampled: Takes this process's sample of tiles.
    """
    parts = []
    for tiles in sets:
        # Too few pixels for certain: the model need not see them.
        if len(sets) > 1 and tiles.labelled >= _LEAST_PIXELS:
            part = _fitted(tiles.bands, sampled(tiles), processes)
            parts += [part] if part.before.counts.sum() >= _LEAST_PIXELS else []
    if len(parts) < 2:
        parts = [_fitted(everything.bands, sampled(everything), processes)]
    return Calibration(tuple(parts))


def _fitted(bands: Bands, sample: LogitSample, processes: Processes) -> BandCalibration:
    sums = reliability_by_temperature(sample.logits, sample.channels)
    temperature = best_temperature(_summed(sums, processes))
    before, after = (
        summed_reliability(sample.reliability(t), processes) for t in (1.0, temperature)
    )
    return BandCalibration(bands, temperature, before, after)


def summed_reliability(own: Reliability, processes: Processes) -> Reliability:
    """Adds up the reliability of all processes."""
    parts = np.stack([own.counts, own.weights, own.right, own.confidence])
    counts, weights, right, confidence = _summed(parts, processes).reshape(4, BINS)
    return Reliability(np.rint(counts).astype(np.int64), weights, right, confidence)


def _summed(values: NDArray[np.float64], processes: Processes) -> NDArray[np.float64]:
    if processes.world == 1:
        return values
    total = processes.sum(torch.from_numpy(values.astype(np.float64)).to(processes.device))
    summed: NDArray[np.float64] = total.cpu().numpy()
    return summed
