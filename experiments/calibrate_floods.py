"""How sure the water model is on floods that it has not seen, with and without a temperature.

    python experiments/floods.py --no-unet --output FOLDER     # trains one model for each flood
    python experiments/calibrate_floods.py --output FOLDER --bundle MODEL --save CALIBRATED

Each flood is mapped by the model that has not seen it, with tiles blended as ``predict`` does it,
in VV and VH and in VV alone. The temperature for a flood is fitted on the other floods, so that the
figures are those of an unseen flood. ``--tiles`` takes tiles that do not overlap instead, as
``finetune`` validates: the difference shows what fitting before blending costs.

``--save`` writes MODEL with the temperatures that suit all floods, for the sets of bands whose
error on floods left out is smaller with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import judge_maps
import numpy as np
import torch
from calibrate import with_temperatures
from numpy.typing import NDArray
from recipe import WATER, shared_data

from cwsam_geo.core.grid import Window
from cwsam_geo.core.reliability import (
    Reliability,
    best_temperature,
    log_probabilities,
    reliability_by_temperature,
)
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.runtime.predictor import LoadedModel, load_model
from cwsam_geo.scene.source import open_source

BANDS: dict[judge_maps.Mode, tuple[str, ...]] = {"both": ("VV", "VH"), "vv": ("VV",)}
LAND = 1
"""Channel of land."""

_EVERY = 7
"""Every so many pixels a temperature is fitted on; neighbours are alike."""


@dataclass(frozen=True)
class Flood:
    """Labelled pixels of a flood, as the model that has not seen it maps them.

    Attributes:
        name: Its country.
        logits: Shape (N, 2), float32.
        channels: Channel of the label, shape (N,).
    """

    name: str
    logits: NDArray[np.float32]
    channels: NDArray[np.int64]

    def by_temperature(self) -> NDArray[np.float64]:
        """Reliability with the temperatures that are compared."""
        return reliability_by_temperature(self.logits[::_EVERY], self.channels[::_EVERY])

    def reliability(self, temperature: float) -> Reliability:
        """Confidence in whole per cents, as ``predict`` writes it, and accuracy."""
        confidence = np.exp(log_probabilities(self.logits, temperature).max(1))
        right = self.logits.argmax(1) == self.channels
        return Reliability.of(np.round(confidence, 2), right)


def mapped(model: LoadedModel, data: Path, flood: str, mode: judge_maps.Mode) -> Flood | None:
    """Maps the scenes of a flood; None where no labelled pixel has data."""
    logits, channels = [], []
    for path in sorted((data / "sen1floods11").glob(f"{flood}_*_S1Hand.tif")):
        labels = path.with_name(path.name.replace("S1Hand", "LabelHand"))
        with open_source([path]) as source, open_source([labels]) as reference:
            window = Window(0, 0, source.grid.height, source.grid.width)
            values, valid = source.read(window)
            codes = reference.read(window)[0][0]
        known = valid & (codes >= 0)
        if known.any():
            bands = {name: values[i] for i, name in enumerate(BANDS[mode])}
            logits.append(judge_maps.map_scene(model, bands, valid, mode)[:, known].T)
            channels.append(np.where(codes[known] == 1, WATER, LAND))
    if not logits:
        return None
    return Flood(flood, np.concatenate(logits), np.concatenate(channels))


def figures(floods: list[Flood]) -> dict[str, Any]:
    """Before and after a temperature from the other floods: by flood, and pooled."""
    sums = {flood.name: flood.by_temperature() for flood in floods}
    pooled: dict[str, list[Reliability]] = {"before": [], "after": []}
    found: dict[str, Any] = {"temperature": best_temperature(sum(sums.values())), "floods": {}}
    for flood in floods:
        others = sum(own for name, own in sums.items() if name != flood.name)
        temperature = best_temperature(others)
        before, after = flood.reliability(1.0), flood.reliability(temperature)
        pooled["before"].append(before)
        pooled["after"].append(after)
        found["floods"][flood.name] = {
            "pixels": len(flood.channels),
            "accuracy": round(before.accuracy, 4),
            "temperature": round(temperature, 3),
            "own_temperature": round(best_temperature(sums[flood.name]), 3),
            "confidence": [round(r.mean_confidence, 4) for r in (before, after)],
            "ece": [round(r.error, 4) for r in (before, after)],
        }
    for when, parts in pooled.items():
        total = sum(parts[1:], parts[0])
        found[when] = {"ece": round(total.error, 4), "confidence": round(total.mean_confidence, 4)}
        found["accuracy"] = round(total.accuracy, 4)
    return found


def calibrated(bundle: ModelBundle, summary: Mapping[str, Any]) -> ModelBundle:
    """A bundle with the temperatures that make the error on floods left out smaller."""
    better = {m: f for m, f in summary.items() if f["after"]["ece"] < f["before"]["ece"]}
    temperatures = {BANDS[mode]: round(found["temperature"], 3) for mode, found in better.items()}
    said = {
        "on": "floods of Sen1Floods11, each left out in turn",
        "expected_calibration_error": {
            ",".join(BANDS[mode]): [found[when]["ece"] for when in ("before", "after")]
            for mode, found in better.items()
        },
    }
    return with_temperatures(bundle, Temperatures(by_bands=temperatures), said)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="floods.py's.")
@click.option("--tiles", is_flag=True, help="Tiles that do not overlap.")
@click.option("--bundle", type=click.Path(path_type=Path), help="The model to calibrate.")
@click.option("--save", type=click.Path(path_type=Path), help="Where it goes.")
@click.option("--threads", default=1, show_default=True)
def main(
    data: Path, output: Path, tiles: bool, bundle: Path | None, save: Path | None, threads: int
) -> None:
    """Prints the calibration of the models in OUTPUT, with both bands and with VV alone."""
    torch.set_num_threads(threads)
    if tiles:
        judge_maps.default_overlap = lambda _: 0
    summary: dict[judge_maps.Mode, Any] = {}
    for mode in BANDS:
        floods = []
        for note in sorted(output.glob("without_*_fold.json")):
            name = json.loads(note.read_text())["flood"]
            fold = note.with_name(note.name.replace("_fold.json", ".safetensors"))
            flood = mapped(load_model(fold, network="fast"), data, name, mode)
            floods += [] if flood is None else [flood]
        summary[mode] = figures(floods)
    click.echo(json.dumps(summary, indent=1))
    if bundle is not None and save is not None:
        calibrated(ModelBundle.load(bundle), summary).save(save, overwrite=True)


if __name__ == "__main__":
    main()
