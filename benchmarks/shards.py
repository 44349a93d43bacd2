"""Measures several processes against one, and what it costs that a run can be resumed.

    python benchmarks/shards.py --megapixels 25 --processes 2 -o shards.json

1. One process on one core maps a scene; then ``--devices cpu:N`` maps it on N cores, with a thread
   each. The throughput should grow by 0.85 N at least, and all pixels must be equal.
2. The same process once more with ``--resume``, which keeps finished rows from the first minute on.
   CPU seconds are compared, which other programs disturb less.

Needs Linux, and a machine that does nothing else.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
import rasterio
from machine import Watched, machine, shown_machine, watched
from scenes import UNCOMPRESSED, benchmark_scene, size_of


def predict(scene: Path, name: str, cores: int, model: str, more: list[str]) -> Watched:
    """Maps a scene on the first cores of this machine, with classes and confidence."""
    output = scene.with_name(f"{name}.tif")
    cpus = ",".join(map(str, range(cores)))
    command = ["taskset", "-c", cpus, sys.executable, "-m", "cwsam_geo.cli.main", "predict"]
    command += [
        str(scene),
        "-o",
        str(output),
        "--confidence",
        str(scene.with_name(f"{name}_c.tif")),
    ]
    command += ["-m", model, "--precision", "fp32", "--overwrite", "--quiet", *more]
    return watched(command, {"OMP_NUM_THREADS": str(cores)})


def same(folder: Path, name: str, other: str) -> bool:
    """Whether two runs have made the same pixels."""
    pairs = ((folder / f"{name}{end}.tif", folder / f"{other}{end}.tif") for end in ("", "_c"))
    for first, second in pairs:
        with rasterio.open(first) as a, rasterio.open(second) as b:
            for _, window in a.block_windows(1):
                if (a.read(window=window) != b.read(window=window)).any():
                    return False
    return True


@click.command()
@click.option("--megapixels", default=25.0, help="Size of the scene.")
@click.option("--processes", default=2, help="Processes, on a core each.")
@click.option("-m", "--model", default="s1-water", help="A model.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("benchmark-scenes"))
@click.option("--journal/--no-journal", default=True, help="Measure also what a journal costs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(megapixels: float, processes: int, model: str, folder: Path, journal: bool,
         output: Path | None) -> None:  # fmt: skip
    """Prints times, memory and ratios."""
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    scene = benchmark_scene(folder, size_of(megapixels), UNCOMPRESSED)
    one = ["--device", "cpu"]
    runs = {
        "one": predict(scene, "one", 1, model, one),
        "several": predict(scene, "several", processes, model, ["--devices", f"cpu:{processes}"]),
    }
    if journal:
        runs["journal"] = predict(scene, "journal", 1, model, [*one, "--resume"])
    results = {
        "machine": about,
        "megapixels": megapixels,
        "processes": processes,
        "speedup": runs["one"].seconds / runs["several"].seconds,
        "journal_cpu": runs["journal"].cpu_seconds / runs["one"].cpu_seconds - 1
        if journal
        else None,
        "same": all(same(scene.parent, "one", name) for name in runs),
        "runs": {name: asdict(run) for name, run in runs.items()},
    }
    click.echo(f"{shown_machine(about)}; {megapixels:g} Mpx\n")
    click.echo("| | wall s | CPU s | peak MB of a process |\n|---|---:|---:|---:|")
    for name, run in runs.items():
        click.echo(f"| {name} | {run.seconds:.1f} | {run.cpu_seconds:.1f} | {run.peak_mb:.0f} |")
    cost = f"; the journal: {100 * results['journal_cpu']:+.1f} % CPU time" if journal else ""
    click.echo(
        f"\n{processes} processes on {processes} cores: {results['speedup']:.2f} times one on one "
        f"core{cost}; all pixels equal: {'yes' if results['same'] else 'NO'}"
    )
    if output is not None:
        output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
