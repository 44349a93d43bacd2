"""Measures GeoTIFF alone: decoding of scenes and encoding of maps, with one thread and several.

    python benchmarks/geotiff.py --size 25 --threads 1,2 -o geotiff.json

1. A simulated scene (VV and VH, float32) in one-line strips and in tiles of 256 px, uncompressed
   and deflated, is read as ``predict`` reads it: 256 rows at a time through the same source.
2. A class raster is written as ``predict`` writes it: streamed into a tiled GeoTIFF (``stream``),
   of which the COG with its overviews is then made (``COG``).

Threads are set as a user would set them (``GDAL_NUM_THREADS``, ``--co NUM_THREADS``); ``auto`` is
what predict chooses. Each measurement is a process of its own; they take turns, and medians are
shown. The first turn warms up and does not count. ``in threads`` is the share of the CPU seconds
that GDAL's own threads worked: it shows what was shared out, also on a busy machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from machine import machine, shown_machine, watched
from scenes import UNCOMPRESSED, benchmark_scene, size_of
from vectorize import make_raster

ROWS = 256
AUTO = "auto"
CLOCKS = (time.perf_counter, time.process_time, time.thread_time)


@dataclass(frozen=True)
class Row:
    """Medians of one measurement.

    Attributes:
        what: ``decode``, ``stream`` or ``COG``.
        layout: ``strip`` or ``tiled``.
        compress: GDAL's name of the compression.
        threads: How many, or ``auto``.
        megapixels: Pixels of the raster, all bands counted once.
        megabytes: Size of its values in memory.
        wall: Seconds.
        cpu: CPU seconds of all threads.
        in_threads: Share of them that GDAL's threads worked.
    """

    what: str
    layout: str
    compress: str
    threads: str
    megapixels: float
    megabytes: float
    wall: float
    cpu: float
    in_threads: float


@contextmanager
def timed(found: dict[str, list[float]], what: str) -> Iterator[None]:
    """Notes the seconds of a block: wall, CPU, and CPU of this thread."""
    began = [clock() for clock in CLOCKS]
    yield
    found[what] = [clock() - start for clock, start in zip(CLOCKS, began, strict=True)]


def decode(scene: Path) -> dict[str, list[float]]:
    """Reads a scene from top to bottom."""
    from cwsam_geo.core.grid import Window
    from cwsam_geo.scene.source import open_source

    found: dict[str, list[float]] = {}
    with timed(found, "decode"), open_source([scene]) as source:
        for top in range(0, source.grid.height, ROWS):
            rows = min(ROWS, source.grid.height - top)
            source.read(Window(top, 0, rows, source.grid.width))
    return found


def encode(classes: Path, output: Path, threads: str) -> dict[str, list[float]]:
    """Writes a map that is in memory."""
    import rasterio

    from cwsam_geo.core.grid import Window
    from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
    from cwsam_geo.scene.source import open_source

    with open_source([classes]) as source, rasterio.open(classes) as file:
        grid, values = source.grid, file.read(1)
    options = {} if threads == AUTO else {"NUM_THREADS": threads}
    found: dict[str, list[float]] = {}
    sink = raster_sink(output, grid, RasterLayout(options=options), overwrite=True)
    with timed(found, "both"), sink as target, timed(found, "stream"):
        for top in range(0, grid.height, ROWS):
            part = values[top : top + ROWS]
            target.write(Window(top, 0, len(part), grid.width), part)
    both = found.pop("both")
    found["COG"] = [whole - stream for whole, stream in zip(both, found["stream"], strict=True)]
    return found


@dataclass(frozen=True)
class Case:
    """What one process measures.

    Attributes:
        layout: Of the file that is read or written.
        compress: Of it.
        threads: How many, or ``auto``.
        arguments: Of this program: what to do.
        megapixels: Of the raster.
        megabytes: Of its values.
    """

    layout: str
    compress: str
    threads: str
    arguments: tuple[str, ...]
    megapixels: float
    megabytes: float

    def run(self) -> dict[str, list[float]]:
        """Seconds on the wall and of the CPU, by what was done."""
        told = {} if self.threads == AUTO else {"GDAL_NUM_THREADS": self.threads}
        found: dict[str, list[float]] = json.loads(
            watched([sys.executable, __file__, *self.arguments], told).output
        )
        return found


def cases(folder: Path, size: float, threads: Iterable[str]) -> list[Case]:
    """All that is measured; makes the files."""
    height, width = size_of(size)
    mpx = height * width / 1e6
    found = []
    for layout in ("strip", "tiled"):
        for compress in ("none", "deflate"):
            storage = replace(UNCOMPRESSED, layout=layout, compress=compress)
            scene = benchmark_scene(folder, (height, width), storage)
            arguments = ("--decode", str(scene))
            found += [Case(layout, compress, t, arguments, mpx, 8 * mpx) for t in threads]
    classes = folder / f"classes_{height}x{width}.tif"
    if not classes.exists():
        make_raster(classes, height, width)
    for t in threads:
        arguments = ("--encode", str(classes), str(folder / "map.tif"), t)
        found.append(Case("tiled", "deflate", t, arguments, mpx, mpx))
    return found


def measure(chosen: list[Case], repeats: int) -> list[Row]:
    """Runs the cases in turns."""
    runs: dict[Case, list[dict[str, list[float]]]] = {case: [] for case in chosen}
    for turn in range(repeats + 1):
        click.echo(f"turn {turn} of {repeats}", err=True)
        for case, found in runs.items():
            done = case.run()
            if turn:
                found.append(done)
    rows = []
    for case, found in runs.items():
        for what in found[0]:
            wall, cpu, own = (statistics.median(run[what][i] for run in found) for i in range(3))
            size = case.megapixels, case.megabytes
            named = (what, case.layout, case.compress, case.threads)
            rows.append(Row(*named, *size, wall, cpu, max(0.0, 1 - own / cpu)))
    return sorted(rows, key=lambda row: ("decode", "stream", "COG").index(row.what))


def report(results: dict[str, Any]) -> None:
    """Prints a Markdown table."""
    click.echo(f"\n{shown_machine(results['machine'])}\n")
    click.echo("| | layout | compression | threads | wall s | CPU s | in threads | Mpx/s | MB/s |")
    click.echo("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in results["rows"]:
        click.echo(
            f"| {row['what']} | {row['layout']} | {row['compress']} | {row['threads']} "
            f"| {row['wall']:.2f} | {row['cpu']:.2f} | {row['in_threads']:.0%} "
            f"| {row['megapixels'] / row['wall']:.0f} | {row['megabytes'] / row['wall']:.0f} |"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--size", default=25.0, help="Mpx of the rasters.")
@click.option("--threads", default="1,2,auto", help="Numbers of threads, or auto.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Turns that count.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps the rasters there.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
@click.option("--decode", "scene", type=click.Path(path_type=Path), hidden=True)
@click.option("--encode", "raster", nargs=3, type=str, hidden=True)
def main(**given: Any) -> None:
    """Measure decoding and encoding of GeoTIFFs with several numbers of threads."""
    if given["scene"]:
        click.echo(json.dumps(decode(given["scene"])))
        return
    if given["raster"]:
        classes, target, threads = given["raster"]
        click.echo(json.dumps(encode(Path(classes), Path(target), threads)))
        return
    with TemporaryDirectory() as temporary:
        folder = given["folder"] or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        about = machine()
        chosen = cases(folder, given["size"], given["threads"].split(","))
        results = {"machine": about, "rows": [asdict(r) for r in measure(chosen, given["repeats"])]}
    report(results)
    if given["output"]:
        given["output"].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
