"""Seams against cost: which overlap and blend predict should take by default.

    python benchmarks/seams.py -m demo -o seams.json
    python benchmarks/seams.py -m region.safetensors --scene a.tif --scene b.tif

Every scene is mapped with every overlap and blend, and by a run in which every pixel is the mean of
64 tiles (a tile begins every eighth of a tile, in both directions, as ``predict`` would never do):
what the model says of a pixel when it does not matter where tiles begin. Where they begin by chance
does matter, so every scene is mapped four times, with tiles that begin a quarter of a tile further
on. Measured is, away from the scene's border, where all 64 tiles are there:

- ``differs``: share of the pixels whose class is not that of the full-overlap run; near the edges
  of tiles (a sixteenth of a tile to either side) and elsewhere too, and their ratio.
- ``centred``: the same against a full-overlap run that trusts the middle of tiles most (weights of
  the squared sine), so that no blend is favoured by the weights of the yardstick.
- ``step``: how much the classes' probabilities change from one logit to the next on the line of the
  overlap where they change most (over all overlaps), over the mean of all lines; each relative to
  the full-overlap run on the same lines, so that neither the land nor the model's own grid counts.
  Near 1 where no seam is to be seen.
- mIoU and overall accuracy against the simulated truth, where scene and model have the same legend.
- ``cost``: tiles of a 25,788 x 16,685 scene, relative to no overlap.

Without ``--scene``, scenes are simulated, of seeds that the bundled demo model was not trained on.
Logits are added up as ``predict`` does it, over whole scenes (a test compares the two).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from machine import machine, shown_machine
from numpy.typing import NDArray
from scenes import FULL_HEIGHT, FULL_WIDTH
from seam_counts import DENSE, Tallies, Tally, count_scene, yardstick_of
from seam_maps import Mapper, Scene, read_scene, simulated_scene

from cwsam_geo.errors import CwsamGeoError
from cwsam_geo.prediction.blend import BLENDS, BlendName


@dataclass(frozen=True)
class Sampling:
    """What of a scene is compared.

    Attributes:
        phases: How many times each scene is mapped, with tiles that begin elsewhere.
        margin: Pixels left out along the border, or None for as few as can be.
    """

    phases: int = 4
    margin: int | None = None


def shifts_of(phases: int, tile_size: int) -> list[tuple[int, int]]:
    """Rows and columns that are cut off, so that tiles begin elsewhere: quarters of a tile."""
    quarter = tile_size // 4
    return [(i * quarter, 3 * i % 4 * quarter) for i in range(phases)]


def inside_margin(mapper: Mapper, scene: Scene, sampling: Sampling) -> NDArray[np.bool_]:
    """Pixels that are compared: data, away from the border of the scene and of what is cut off."""
    size = mapper.tile_size
    largest = max(max(shift) for shift in shifts_of(sampling.phases, size))
    edge = max(size - size // DENSE, size // 2 + largest)
    edge = edge if sampling.margin is None else sampling.margin
    height, width = scene.shape
    if 2 * edge >= min(height, width):
        raise click.ClickException(
            f"{scene.label}: {height} x {width} px leave nothing inside a margin of {edge} px; "
            "take a larger scene, fewer --phases, or --margin"
        )
    inside = np.zeros((height, width), bool)
    inside[edge : height - edge, edge : width - edge] = True
    return np.asarray(inside & scene.band.valid)


def relative_cost(mapper: Mapper, overlap: Fraction) -> float:
    """Tiles of a whole Sentinel-1 scene, over those without overlap."""
    full = FULL_HEIGHT, FULL_WIDTH
    return len(mapper.plan(full, overlap)) / len(mapper.plan(full, Fraction(0)))


def measure(
    mapper: Mapper,
    scenes: Sequence[Scene],
    ways: Sequence[tuple[Fraction, BlendName]],
    sampling: Sampling | None = None,
) -> list[dict[str, Any]]:
    """A row of figures for every overlap and blend."""
    sampling = sampling or Sampling()
    tallies: Tallies = {way: Tally() for way in ways}
    costs = {o: relative_cost(mapper, o) for o, _ in ways}
    for scene in scenes:
        click.echo(f"{scene.label}: {scene.shape[0]} x {scene.shape[1]} px", err=True)
        inside = inside_margin(mapper, scene, sampling)
        yardstick = yardstick_of(mapper, scene, inside)
        for row, col in shifts_of(sampling.phases, mapper.tile_size):
            cut = yardstick.cut(row, col, mapper.stride)
            count_scene(mapper, scene.cut(row, col), tallies, cut)
    return [
        {"overlap": str(overlap), "blend": blend, "cost": costs[overlap]} | tally.row()
        for (overlap, blend), tally in tallies.items()
    ]


def ways_of(overlaps: str, blends: str) -> list[tuple[Fraction, BlendName]]:
    """Every overlap with every blend; without overlap they are the same but for the last tile."""
    chosen = [b for b in BLENDS if b in blends.split(",")]
    if len(chosen) != len(set(blends.split(","))):
        raise click.UsageError(f"--blends: of {', '.join(BLENDS)}")
    try:
        fractions = [Fraction(o) for o in overlaps.split(",")]
    except (ValueError, ZeroDivisionError):
        raise click.UsageError(f"--overlaps {overlaps}: not shares of a tile") from None
    return [(o, b) for o in fractions for b in chosen]


COLUMNS = {
    "differs": "differs",
    "near_edges": "near edges",
    "elsewhere": "elsewhere",
    "ratio": "ratio",
    "centred": "centred",
    "step": "step",
    "miou": "mIoU",
    "accuracy": "accuracy",
}


def shown(name: str, value: float | None) -> str:
    """A cell of the table."""
    if value is None:
        return "-"
    return f"{value:.2f}" if name in ("ratio", "step") else f"{100 * value:.2f} %"


def report(results: dict[str, Any]) -> None:
    """Prints a Markdown table."""
    click.echo(f"\n{shown_machine(results['machine'])}\n")
    click.echo(
        f"model {results['model']} (tiles of {results['tile_size']} px, {results['precision']}); "
        f"scenes: {', '.join(results['scenes'])}; {results['rows'][0]['pixels']:,} px compared\n"
    )
    columns = {k: v for k, v in COLUMNS.items() if any(k in row for row in results["rows"])}
    click.echo(f"| overlap | blend | cost | {' | '.join(columns.values())} |")
    click.echo(f"|---:|---|---:|{'---:|' * len(columns)}")
    for row in results["rows"]:
        cells = " | ".join(shown(name, row.get(name)) for name in columns)
        click.echo(f"| {row['overlap']} | {row['blend']} | {row['cost']:.2f} | {cells} |")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("-m", "--model", default="s1-water", help="Name or path of a model.")
@click.option("--scene", "files", multiple=True, type=click.Path(path_type=Path),
              help="A scene; repeatable.  [default: simulated ones]")  # fmt: skip
@click.option("--seeds", help="Simulated scenes.  [default: 101,102 without --scene]")
@click.option("--size", default=1024, help="Rows and columns of simulated scenes.")
@click.option("--overlaps", default="0,1/16,1/8,1/4,3/8,1/2", help="Shares of a tile.")
@click.option("--blends", default=",".join(BLENDS))
@click.option("--phases", type=click.IntRange(1, 4), default=4,
              help="Times that a scene is mapped, with tiles that begin elsewhere.")  # fmt: skip
@click.option("--margin", type=click.IntRange(0),
              help="Pixels left out along the border.  [default: 5/4 of a tile]")  # fmt: skip
@click.option("--precision", default="fp32")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(**given: Any) -> None:
    """Measure seams for every overlap and blend against a full-overlap run."""
    ways = ways_of(given["overlaps"], given["blends"])
    seeds = given["seeds"] or ("" if given["files"] else "101,102")
    about = machine()
    try:
        mapper = Mapper(given["model"], given["precision"])
        scenes = [read_scene(path, mapper.spec) for path in given["files"]]
        with TemporaryDirectory() as folder:
            for seed in (int(s) for s in seeds.split(",") if s):
                scenes.append(
                    simulated_scene(Path(folder), given["size"], seed, mapper.spec, mapper.legend)
                )
        rows = measure(mapper, scenes, ways, Sampling(given["phases"], given["margin"]))
    except CwsamGeoError as error:
        raise click.ClickException(str(error)) from None
    results = {
        "machine": about,
        "model": Path(given["model"]).name,
        "tile_size": mapper.tile_size,
        "precision": given["precision"],
        "phases": given["phases"],
        "scenes": [scene.label for scene in scenes],
        "rows": rows,
    }
    report(results)
    if given["output"]:
        given["output"].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
