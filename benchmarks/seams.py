"""Seams against cost: which overlap and blend predict should take by default.

    python benchmarks/seams.py -m demo -o seams.json
    python benchmarks/seams.py -m region.safetensors --scene a.tif --scene b.tif

Every scene is mapped with every overlap and blend, and by a run in which every pixel is the mean of
64 tiles (a tile begins every eighth of a tile, in both directions, as ``predict`` would never do):
what the model says of a pixel when it does not matter where tiles begin. Measured is, only where
all 64 tiles are there (a margin of nearly one tile is left out):

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
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from machine import machine, shown_machine
from numpy.typing import NDArray
from scenes import FULL_HEIGHT, FULL_WIDTH
from seam_maps import Logits, Mapper, Scene, Tiling, read_scene, simulated_scene

from cwsam_geo.blend import BLENDS, BlendName
from cwsam_geo.errors import CwsamGeoError
from cwsam_geo.metrics import Scores, confusion_matrix

DENSE = 8
"""A tile of the full-overlap run begins every 1/DENSE of a tile."""

TRUTHS: tuple[BlendName, BlendName] = ("flat", "cosine")
"""Weights of the full-overlap runs: equal, and those that trust the middle."""


@dataclass
class Tally:
    """Counts of one overlap and blend over all scenes: differing pixels and all of them.

    Attributes:
        near: Against the flat run, near the edges of tiles.
        elsewhere: Against the flat run, elsewhere.
        centred: Against the centred run, everywhere.
        steps: Changes of the probabilities across the lines of overlaps, by the place of the line
            in the overlap, 0 where the next tile begins; of this run and of the flat one.
        all_steps: The same on all lines.
        matrix: Reference against map, (K, K); 0 where there is no reference.
    """

    near: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    elsewhere: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    centred: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    steps: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    all_steps: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    matrix: Any = 0

    def row(self) -> dict[str, Any]:
        """The figures."""
        near, elsewhere = share_of(self.near), share_of(self.elsewhere)
        by_place = [quotient(share_of(s), share_of(self.all_steps)) for s in self.steps.values()]
        found: dict[str, Any] = {
            "pixels": int(self.centred[1]),
            "differs": share_of(self.near + self.elsewhere),
            "near_edges": near,
            "elsewhere": elsewhere,
            "ratio": quotient(near, elsewhere),
            "centred": share_of(self.centred),
            "step": max(filter(None, by_place), default=None),
        }
        if np.any(self.matrix):
            scores = Scores.of(self.matrix)
            found |= {"miou": scores.miou, "accuracy": scores.overall_accuracy}
        return found


def share_of(counts: NDArray[Any]) -> float | None:
    """First over second."""
    return quotient(float(counts[0]), float(counts[1]))


def quotient(a: float | None, b: float | None) -> float | None:
    """None where it has no value (JSON knows no NaN)."""
    return None if a is None or not b else a / b


def near_edges(tiling: Tiling, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels within a sixteenth of a tile of an edge of a tile."""
    zone = max(1, tiling.size * tiling.stride // 16)
    near = []
    for axis, length in enumerate(shape):
        at = np.zeros(length, bool)
        for line in tiling.edges(axis) * tiling.stride:
            at[max(line - zone, 0) : line + zone] = True
        near.append(at)
    return np.asarray(near[0][:, None] | near[1][None, :])


def inside_margin(mapper: Mapper, scene: Scene, margin: int | None) -> NDArray[np.bool_]:
    """Pixels that are compared: away from the border, and data."""
    size = mapper.tile_size
    edge = size - size // DENSE if margin is None else margin
    height, width = scene.shape
    if 2 * edge >= min(height, width):
        raise click.ClickException(
            f"{scene.label}: {height} x {width} px leave nothing inside a margin of {edge} px; "
            "take a larger scene, or --margin"
        )
    inside = np.zeros((height, width), bool)
    inside[edge : height - edge, edge : width - edge] = True
    return np.asarray(inside & scene.band.valid)


def count_scene(
    mapper: Mapper,
    scene: Scene,
    tallies: dict[tuple[Fraction, BlendName], Tally],
    margin: int | None,
) -> None:
    """Maps a scene in all ways and adds what was found to the tallies."""
    inside = inside_margin(mapper, scene, margin)
    tilings = {o: Tiling.of(mapper.plan(scene.shape, o)) for o, _ in tallies}
    tiling = Tiling.of(mapper.plan(scene.shape, Fraction(0)))
    dense = mapper.blended(scene, tiling.denser(max(1, tiling.size // DENSE)), list(TRUTHS))
    yardsticks = [mapper.classes(logits, scene) for logits in dense.values()]
    good = np.zeros(dense["flat"].shape[1:], bool)
    coarse = inside[:: mapper.stride, :: mapper.stride]
    good[: coarse.shape[0], : coarse.shape[1]] = coarse
    flat = changes(dense["flat"], good)
    for overlap, tiling in tilings.items():
        near = near_edges(tiling, scene.shape)
        blends = [b for o, b in tallies if o == overlap]
        for blend, logits in mapper.blended(scene, tiling, blends).items():
            tally, channels = tallies[overlap, blend], mapper.classes(logits, scene)
            count_classes(tally, channels, yardsticks, (inside & near, inside & ~near))
            count_steps(tally, tiling, changes(logits, good), flat)
            if scene.truth is not None:
                classes = len(mapper.legend)
                tally.matrix += confusion_matrix(scene.truth, channels, classes, inside)


def count_classes(
    tally: Tally,
    channels: NDArray[np.uint8],
    yardsticks: Sequence[NDArray[np.uint8]],
    zones: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> None:
    """Adds up differing pixels, near the edges of tiles and elsewhere."""
    differs, differs_from_centred = (channels != other for other in yardsticks)
    for counts, zone in zip((tally.near, tally.elsewhere), zones, strict=True):
        counts += np.count_nonzero(differs & zone), np.count_nonzero(zone)
        tally.centred += np.count_nonzero(differs_from_centred & zone), np.count_nonzero(zone)


def changes(logits: Logits, good: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Sums of the changes of probabilities across each line, along both axes."""
    raised = np.exp(logits - logits.max(0))
    chances = raised / raised.sum(0)
    found = []
    for axis in (0, 1):
        change = np.abs(np.diff(chances, axis=axis + 1)).sum(0)
        both = np.delete(good, 0, axis) & np.delete(good, -1, axis)
        found.append(np.where(both, change, 0).sum(1 - axis, dtype=np.float64))
    return found


def count_steps(
    tally: Tally, tiling: Tiling, ours: list[NDArray[np.float64]], flat: list[NDArray[np.float64]]
) -> None:
    """Adds up the changes of a run and of the full-overlap run, line by line."""
    for axis in (0, 1):
        both = np.stack([ours[axis], flat[axis]])
        tally.all_steps += both.sum(1)
        for start in tiling.overlaps(axis):
            # A line's change is that of the logit behind it from the one before.
            for place in range(tiling.overlap + 1):
                sums = tally.steps.setdefault(place, np.zeros(2))
                sums += both[:, start + place - 1]


def relative_cost(mapper: Mapper, overlap: Fraction) -> float:
    """Tiles of a whole Sentinel-1 scene, over those without overlap."""
    full = FULL_HEIGHT, FULL_WIDTH
    return len(mapper.plan(full, overlap)) / len(mapper.plan(full, Fraction(0)))


def measure(
    mapper: Mapper,
    scenes: Sequence[Scene],
    ways: Sequence[tuple[Fraction, BlendName]],
    margin: int | None,
) -> list[dict[str, Any]]:
    """A row of figures for every overlap and blend."""
    tallies = {way: Tally() for way in ways}
    for scene in scenes:
        click.echo(f"{scene.label}: {scene.shape[0]} x {scene.shape[1]} px", err=True)
        count_scene(mapper, scene, tallies, margin)
    return [
        {"overlap": str(overlap), "blend": blend, "cost": relative_cost(mapper, overlap)}
        | tally.row()
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
@click.option("-m", "--model", default="s1-landcover", help="Name or path of a model.")
@click.option("--scene", "files", multiple=True, type=click.Path(path_type=Path),
              help="A scene; repeatable.  [default: simulated ones]")  # fmt: skip
@click.option("--seeds", help="Simulated scenes.  [default: 101,102 without --scene]")
@click.option("--size", default=1024, help="Rows and columns of simulated scenes.")
@click.option("--overlaps", default="0,1/16,1/8,1/4,3/8,1/2", help="Shares of a tile.")
@click.option("--blends", default=",".join(BLENDS))
@click.option("--margin", type=click.IntRange(0),
              help="Pixels left out along the border.  [default: 7/8 of a tile]")  # fmt: skip
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
        rows = measure(mapper, scenes, ways, given["margin"])
    except CwsamGeoError as error:
        raise click.ClickException(str(error)) from None
    results = {
        "machine": about,
        "model": Path(given["model"]).name,
        "tile_size": mapper.tile_size,
        "precision": given["precision"],
        "scenes": [scene.label for scene in scenes],
        "rows": rows,
    }
    report(results)
    if given["output"]:
        given["output"].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
