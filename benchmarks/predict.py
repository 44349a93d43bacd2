"""Measures ``cwsam-geo predict``: memory and time against scene size, strips against tiles.

    python benchmarks/predict.py --sizes 25,100,430 --folder /tmp/scenes -o predict.json

1. For each size, a simulated two-band scene goes through ``cwsam-geo predict`` in a process of its
   own: peak resident memory, wall time, the time in the model and outside of it.
2. A scene of one-line strips and the same scene in tiles are read as ``predict`` reads them, in
   processes of their own and in turns; the ratio of their medians must be at most 1.5.

Scenes are made once and kept in the folder; 430 Mpx take 3.5 GB. Two kinds of untrained models are
made there, whose maps mean nothing: ``-m light`` has two thin blocks, so that the time outside the
model shows, and ``-m random:vit_b`` (or another backbone) has ten classes and random weights.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from machine import machine, shown_machine, watched
from scenes import UNCOMPRESSED, benchmark_scene, size_of
from untrained import model_of

STRIP_LIMIT = 1.5
"""How many times longer a scene of one-line strips may take to read than a tiled one."""


@dataclass(frozen=True)
class Run:
    """One run of ``cwsam-geo predict``.

    Attributes:
        megapixels: Size of the scene.
        wall: Seconds from start to end of the process.
        map: Seconds from the first tile to the last; the rest is start, statistics and the COG.
        model: Seconds in the model.
        cpu: CPU seconds of the process.
        peak_mb: Peak resident memory in 1e6 bytes.
        tiles: Tiles in all.
        empty_tiles: Tiles without data.
        batch_size: Tiles at once.
    """

    megapixels: float
    wall: float
    map: float
    model: float
    cpu: float
    peak_mb: float
    tiles: int
    empty_tiles: int
    batch_size: int

    @property
    def outside_model(self) -> float:
        """Share of the wall time that is not the model's."""
        return 1 - self.model / self.wall

    @property
    def pixels_per_second(self) -> float:
        """From start to end of the process."""
        return self.megapixels * 1e6 / self.wall


def predict(scene: Path, megapixels: float, options: list[str]) -> Run:
    """Maps a scene in a process of its own."""
    output = scene.with_suffix(".map.tif")
    command = [sys.executable, "-m", "cwsam_geo.cli.main", "predict", str(scene)]
    command += ["-o", str(output), "--overwrite", "--json", "--quiet", *options]
    process = watched(command)
    # The class names are beside the map.
    for file in (output, output.with_name(f"{output.name}.aux.xml")):
        file.unlink(missing_ok=True)
    done = json.loads(process.output.strip().splitlines()[-1])
    return Run(
        megapixels,
        process.seconds,
        done["seconds"],
        done["model_seconds"],
        process.cpu_seconds,
        process.peak_mb,
        done["tiles"],
        done["empty_tiles"],
        done["batch_size"],
    )


def read_like_predict(scene: Path, tile_size: int) -> float:
    """Seconds to read a scene as row bands of tiles that overlap by an eighth."""
    from cwsam_geo.core.tiling import TilePlan
    from cwsam_geo.prediction.stream import BandReader
    from cwsam_geo.scene.source import open_source

    source = open_source([scene])
    plan = TilePlan(source.grid.height, source.grid.width, tile_size, tile_size // 8)
    started = time.perf_counter()
    with BandReader(source, plan) as bands:
        for _ in bands:
            pass
    seconds = time.perf_counter() - started
    source.close()
    return seconds


def compare_strips(
    folder: Path, size: tuple[int, int], compress: str, repeats: int
) -> dict[str, Any]:
    """Reading times of one scene in strips and in tiles, in turns; the first turn warms up."""
    files = {
        layout: benchmark_scene(
            folder, size, replace(UNCOMPRESSED, layout=layout, compress=compress)
        )
        for layout in ("tiled", "strip")
    }
    seconds: dict[str, list[float]] = {layout: [] for layout in files}
    for turn in range(repeats + 1):
        for layout, file in files.items():
            command = [sys.executable, __file__, "--read", str(file)]
            taken = float(watched(command).output)
            if turn:
                seconds[layout].append(taken)
    median = {layout: statistics.median(values) for layout, values in seconds.items()}
    return {
        "compress": compress,
        "seconds": seconds,
        "ratio": median["strip"] / median["tiled"],
        "ratio_of_fastest": min(seconds["strip"]) / min(seconds["tiled"]),
    }


def report(results: dict[str, Any]) -> None:
    """Prints the figures as Markdown tables."""
    click.echo(f"\n{shown_machine(results['machine'])}; model {Path(results['model']).name}\n")
    runs = [Run(**{k: run[k] for k in Run.__dataclass_fields__}) for run in results["predict"]]
    if runs:
        first = runs[0]
        click.echo("| Mpx | peak MB | ratio | wall s | px/s | model s | outside | s/Mpx outside |")
        click.echo("|---|---|---|---|---|---|---|---|")
        for run in runs:
            click.echo(
                f"| {run.megapixels:.1f} | {run.peak_mb:.0f} | {run.peak_mb / first.peak_mb:.2f} "
                f"| {run.wall:.1f} | {run.pixels_per_second:,.0f} | {run.model:.1f} "
                f"| {run.outside_model:.1%} | {(run.wall - run.model) / run.megapixels:.3f} |"
            )
    for strips in results["strips"]:
        verdict = "kept" if strips["ratio"] <= STRIP_LIMIT else "BROKEN"
        click.echo(
            f"\nReading {strips['compress']}: strips take {strips['ratio']:.2f} times as long as "
            f"tiles (fastest {strips['ratio_of_fastest']:.2f}; limit {STRIP_LIMIT}: {verdict})"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--sizes", default="25,100", help="Scene sizes in Mpx, or '' for none; real: 430.")
@click.option("--strip-size", default=100.0, help="Mpx of the scene read in strips; 0 for none.")
@click.option("--compress", default="none,deflate", help="Codecs to compare strips under.")
@click.option("--repeats", default=3, help="How often each layout is read.")
@click.option("-m", "--model", default="s1-water", help="A model, light, or random:vit_b.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("benchmark-scenes"))
@click.option("--option", "options", multiple=True, help="Further option of predict; repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
@click.option("--read", type=click.Path(path_type=Path), hidden=True)
def main(**given: Any) -> None:
    """Measure memory, time and reading of predict on simulated scenes."""
    if given["read"]:
        click.echo(read_like_predict(given["read"], 1024))
        return
    folder: Path = given["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(given["model"], folder)
    results: dict[str, Any] = {"machine": machine(), "model": model, "options": given["options"]}
    results |= {"predict": [], "strips": []}
    for megapixels in (float(s) for s in given["sizes"].split(",") if s):
        size = size_of(megapixels)
        scene = benchmark_scene(folder, size)
        run = predict(scene, size[0] * size[1] / 1e6, ["-m", model, *given["options"]])
        results["predict"].append(asdict(run) | {"outside_model": run.outside_model})
        click.echo(f"{run.megapixels:.1f} Mpx: {run.wall:.1f} s, {run.peak_mb:.0f} MB", err=True)
    if given["strip_size"]:
        for compress in given["compress"].split(","):
            size = size_of(given["strip_size"])
            results["strips"].append(compare_strips(folder, size, compress, given["repeats"]))
    report(results)
    if given["output"]:
        given["output"].write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
