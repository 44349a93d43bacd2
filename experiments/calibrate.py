"""How sure a model may say it is: a temperature, measured on places that were left out.

    python experiments/calibrate.py JUDGED [--bundle MODEL --output CALIBRATED]

JUDGED is the folder that ``landcover_places.py folds`` or ``judge.py`` wrote. Each set of bands has
its own temperature. For each site it is fitted on the other sites, so the error after it is that of
an unseen site; the one for the bundle is fitted on all. The bundle states it, and ``predict``
divides by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from judge_maps import BANDS
from judge_metrics import LAND, calibration_error
from numpy.typing import NDArray

from cwsam_geo.core.reliability import fit_temperature, log_probabilities
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.model.bundles.bundle import ModelBundle


def fitted(logits: NDArray[Any], channels: NDArray[np.int64], weights: NDArray[Any]) -> float:
    """The temperature with the least weighted calibration error."""
    return fit_temperature(logits, channels, weights)


def calibrated(folder: Path) -> dict[str, Any]:
    """Temperature and calibration error before and after, of each mode.

    Floods and what is only known not to be water take no part: their labels tell water alone.

    Args:
        folder: It holds ``logits_*.npz``.
    """
    found = {}
    for path in sorted(folder.glob("logits_*.npz")):
        part = dict(np.load(path))
        site, label, logits = part["site"].astype(str), part["label"], part["logits"]
        used = (label != LAND) & ~np.char.startswith(site, "flood_")
        found[path.stem.removeprefix("logits_")] = _mode(site[used], label[used], logits[used])
    return {"modes": found}


def _mode(
    site: NDArray[np.str_], label: NDArray[np.uint8], logits: NDArray[np.float32]
) -> dict[str, Any]:
    channels = label.astype(np.int64) - 1
    # Each site and class has the same say as in the judge's capped figures.
    weights = _weights(site, label)
    after = np.zeros(len(label))
    by_site: dict[str, float] = {}
    for name in np.unique(site):
        own = site == name
        by_site[str(name)] = fitted(logits[~own], channels[~own], weights[~own])
        after[own] = np.exp(log_probabilities(logits[own], by_site[str(name)]).max(1))
    before = np.exp(log_probabilities(logits, 1.0).max(1))
    right = logits.argmax(1) == channels
    return {
        "temperature": fitted(logits, channels, weights),
        "left_out": by_site,
        "before": _error(before, right, weights),
        "after": _error(after, right, weights),
        "sites_after": {
            str(s): _error(after[site == s], right[site == s], weights[site == s])
            for s in np.unique(site)
        },
    }


def _weights(
    site: NDArray[np.str_], label: NDArray[np.uint8], most: int = 3000
) -> NDArray[np.float64]:
    """What brings each site and class down to ``most`` pixels."""
    keys = np.char.add(site, label.astype(str))
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(np.minimum(1.0, most / counts)[place])


def _error(confidence: NDArray[Any], right: NDArray[Any], weights: NDArray[Any]) -> float:
    rng = np.random.default_rng(0)
    kept = rng.random(len(right)) < weights
    return round(calibration_error(confidence[kept], right[kept]), 4)


def with_temperatures(
    bundle: ModelBundle, temperatures: Temperatures, said: Mapping[str, Any]
) -> ModelBundle:
    """A bundle that states temperatures.

    Args:
        bundle: Any bundle.
        temperatures: What is to divide its logits.
        said: What its provenance says of the calibration.
    """
    provenance = {**bundle.provenance, "calibration": dict(said)}
    header = replace(bundle.header, provenance=provenance, temperatures=temperatures)
    return ModelBundle(header, bundle.tensors)


@click.command()
@click.argument("judged", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle to calibrate.")
@click.option("--output", type=click.Path(path_type=Path), help="Where it goes.")
def main(judged: Path, bundle: Path | None, output: Path | None) -> None:
    """Measures the temperature on JUDGED and puts it into a bundle."""
    found = calibrated(judged)
    click.echo(json.dumps(found, indent=1))
    (judged / "calibration.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    if bundle is not None and output is not None:
        said = {"ece": {m: v["after"] for m, v in found["modes"].items()}}
        # Only for the bands with which it helps at sites that did not choose it.
        temperatures = Temperatures(
            by_bands={
                BANDS[mode]: error["temperature"]
                for mode, error in found["modes"].items()
                if error["after"] < error["before"]
            }
        )
        with_temperatures(ModelBundle.load(bundle), temperatures, said).save(output, True)


if __name__ == "__main__":
    main()
