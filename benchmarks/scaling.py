"""Predicts time and cost of mapping 1, 1,000 and all Sentinel-1 scenes of a year on 1 to 256 GPUs.

    python benchmarks/scaling.py                      # the prediction, from the measured file below
    python benchmarks/scaling.py --measure -o scaling_DATE.json    # measures the CPU stages here

The model is in scaling_model.py. Its CPU stages are measured: CPU seconds of processes with one
thread, which hold on a busy machine too. ``--measure`` fits them to two sizes of scene, then
compares the model with what it was not fitted to: a scene of twice the size, a batch of several
scenes in one process, and a scene in two processes (wall time, so nothing else may run). The GPU
was never measured: its rate follows from the number of operations of the model, which is counted,
and an ASSUMED rate of operations. Bandwidths and prices are assumed too. Each is an option.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from machine import machine, shown_machine, watched
from scaling_model import Rates, SceneSize, Year, forecast, shard_share
from scenes import FULL_HEIGHT, FULL_WIDTH, benchmark_scene, size_of
from simulate_scene import Storage

HERE = Path(__file__).parent
MEASURED = HERE / "scaling_2026_11_28.json"
"""CPU seconds of the stages, as ``--measure`` wrote them."""

DEVICES = (1, 4, 16, 64, 256)

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "GDAL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

READ = """
import sys, time
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.prediction.stream import BandReader
from cwsam_geo.scene.source import open_source
with open_source([sys.argv[1]]) as source:
    size = int(sys.argv[2])
    plan = TilePlan(source.grid.height, source.grid.width, size, size // 8, 4)
    before = time.process_time()
    for _ in range(5):
        with BandReader(source, plan) as bands:
            for _ in bands:
                pass
    print((time.process_time() - before) / 5)
"""

WRITE = """
import sys, time
from pathlib import Path
import rasterio
from cwsam_geo.core.grid import Window
from cwsam_geo.io.raster_file import grid_of
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
with rasterio.open(sys.argv[1]) as file:
    grid, codes = grid_of(file), file.read(1)
copy = Path(sys.argv[1]).with_suffix(".copy.tif")
before = time.process_time()
for _ in range(5):
    with raster_sink(copy, grid, RasterLayout(), True) as sink:
        for row in range(0, grid.height, 512):
            window = Window(row, 0, 512, grid.width).intersect(grid.window)
            sink.write(window, codes[window.slices])
print((time.process_time() - before) / 5)
"""


def cpu_seconds(arguments: list[str]) -> float:
    """CPU seconds of a process with one thread."""
    return watched([sys.executable, *arguments], ONE_THREAD).cpu_seconds


def told_seconds(script: str, *arguments: str) -> float:
    """What a script prints: CPU seconds of its own work, without the start of Python."""
    return float(watched([sys.executable, "-c", script, *arguments], ONE_THREAD).output)


def command(*arguments: str) -> list[str]:
    """Arguments of Python for ``cwsam-geo``, with fp32 on one thread."""
    options = ("--precision", "fp32", "--device", "cpu", "--overwrite", "--quiet")
    return ["-m", "cwsam_geo.cli.main", *arguments, *options]


def measure(folder: Path, model: str, megapixels: float, scenes: int) -> dict[str, Any]:
    """CPU seconds of each stage, and the check.

    Args:
        folder: Where scenes are kept.
        megapixels: Size of a scene; the fit also takes one of half of it, and the check one of
            twice the size.
        scenes: Scenes of the batch with which the model is compared.
    """
    storage = Storage(compress="deflate")
    huge, big, small = (
        benchmark_scene(folder, size_of(megapixels * factor), storage) for factor in (2, 1, 0.5)
    )
    pixels = {path: _pixels(path) / 1e6 for path in (huge, big, small)}
    tile = _tile_size(model)
    with tempfile.TemporaryDirectory() as out:
        maps = {p: str(Path(out, p.name)) for p in pixels}
        total = {
            p: cpu_seconds(command("predict", str(p), "-o", maps[p], "-m", model)) for p in pixels
        }
        apart = pixels[big] - pixels[small]
        each = (total[big] - total[small]) / apart
        fixed = total[big] - each * pixels[big]
        decode = told_seconds(READ, str(big), str(tile)) / pixels[big]
        merge = told_seconds(WRITE, maps[big]) / pixels[big]
        # Of the fixed part, what a second scene of the same process does not need again.
        twice = cpu_seconds(_batch(folder, out, big, 2, model))
        prepare = max(0.0, twice - total[big] - each * pixels[big])
        stages = {
            "start": fixed - prepare,
            "prepare": prepare,
            "decode": decode,
            "compute": each - decode - merge,
            "merge": merge,
        }
        rows = _tile_rows(big, tile)
        shared = command("predict", str(big), "-o", maps[big], "-m", model, "--devices", "cpu:2")
        shared = [a for a in shared if a not in ("--device", "cpu")]
        check = {
            f"scene of {pixels[huge]:.0f} Mpx, CPU seconds": {
                "predicted": fixed + each * pixels[huge],
                "measured": total[huge],
            },
            f"batch of {scenes} scenes, CPU seconds": {
                "predicted": fixed + (scenes - 1) * prepare + scenes * each * pixels[big],
                "measured": cpu_seconds(_batch(folder, out, big, scenes, model)),
            },
            "two processes, seconds": {
                "predicted": fixed
                + shard_share(rows, 2) * (each - merge) * pixels[big]
                + merge * pixels[big],
                "measured": watched([sys.executable, *shared], ONE_THREAD).seconds,
            },
        }
    return {
        "machine": machine(),
        "model": Path(model).stem,
        "megapixels": pixels[big],
        "cpu_seconds": {name: round(value, 5) for name, value in stages.items()},
        "check": check,
        "gflop_per_mpx": _operations(model),
    }


def _batch(folder: Path, out: str, scene: Path, count: int, model: str) -> list[str]:
    """A batch of equal scenes."""
    copies = [str(shutil.copy(scene, Path(out, f"scene{count}_{i}.tif"))) for i in range(count)]
    return command("batch", *copies, "-o", f"{out}/{{stem}}_map.tif", "-m", model)


def _tile_rows(scene: Path, tile: int) -> int:
    """Rows of tiles of a scene's plan."""
    import rasterio

    from cwsam_geo.core.tiling import TilePlan

    with rasterio.open(scene) as file:
        return len(TilePlan(file.height, file.width, tile, tile // 8, 4).rows)


def _pixels(path: Path) -> int:
    import rasterio

    with rasterio.open(path) as file:
        return int(file.height * file.width)


def _tile_size(model: str) -> int:
    from cwsam_geo.model.bundles.bundle import read_header
    from cwsam_geo.model.store import find_model

    return read_header(find_model(model)).architecture.tile_size


def _operations(model: str) -> float:
    """Operations of the model per megapixel of scene, in 1e9, tiles that overlap included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cwsam_geo.core.tiling import TilePlan
    from cwsam_geo.model.runtime.predictor import load_model

    loaded = load_model(model, network="plain")
    size = loaded.architecture.tile_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loaded(torch.zeros(1, 3, size, size))
    tiles = len(TilePlan(FULL_HEIGHT, FULL_WIDTH, size, size // 8, loaded.architecture.stride))
    return counter.get_total_flops() * tiles / (FULL_HEIGHT * FULL_WIDTH / 1e6) / 1e9


def _table(measured: dict[str, Any], options: dict[str, Any]) -> list[str]:
    from cwsam_geo.core.tiling import TilePlan

    tile = _tile_size(options["model"])
    plan = TilePlan(FULL_HEIGHT, FULL_WIDTH, tile, tile // 8, 4)
    scene = SceneSize(
        FULL_HEIGHT, FULL_WIDTH, len(plan.rows), options["scene_gb"], options["map_gb"]
    )
    stages = measured["cpu_seconds"]
    rates = Rates(
        start=stages["start"],
        prepare=stages["prepare"],
        decode=stages["decode"],
        compute=measured["gflop_per_mpx"] / options["gpu_tflops"] / 1e3,
        merge=stages["merge"],
        cores=options["cores"],
        device_gb_per_second=options["device_gb"],
        storage_gb_per_second=options["storage_gb"],
        price=options["price"],
    )
    year = Year()
    lines = [
        f"measured: CPU seconds on {shown_machine(measured['machine'])}, {measured['model']}",
        "  " + ", ".join(f"{name} {value:g} s" for name, value in stages.items())
        + " (decode, compute and merge per Mpx, compute on this CPU)",
        f"counted: {measured['gflop_per_mpx']:.0f} GFLOP per Mpx of scene",
        f"assumed: a GPU does {options['gpu_tflops']:g} TFLOP/s of them and has {rates.cores} "
        f"cores, reads {rates.device_gb_per_second:g} GB/s of at most "
        f"{rates.storage_gb_per_second:g} GB/s of all, costs {rates.price:g} an hour; a scene has "
        f"{scene.megapixels:.0f} Mpx and {scene.read_gb:g} GB",
        f"a year of land: {year.scenes:,} scenes (at most {year.most:,}: all that the radars can "
        "take)",
        "",
        "| scenes | GPUs | hours | cost | limit | GPUs busy |",
        "|---:|---:|---:|---:|---|---:|",
    ]  # fmt: skip
    for scenes in (1, 1000, year.scenes):
        for devices in DEVICES:
            f = forecast(scenes, devices, scene, rates)
            lines.append(
                f"| {scenes:,} | {devices} | {f.hours:,.3g} | {f.cost:,.3g} | {f.limit} | "
                f"{100 * f.busy:.0f} % |"
            )
    return lines


@click.command()
@click.option("--measure", "measures", is_flag=True, help="Measure the CPU stages on this machine.")
@click.option("-m", "--model", default="s1-water", show_default=True)
@click.option("--megapixels", default=6.0, show_default=True, help="Size of a measured scene.")
@click.option(
    "--batch",
    type=click.IntRange(min=3),
    default=4,
    show_default=True,
    help="Scenes of the batch of the check; the fit takes two.",
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("benchmark-scenes"))
@click.option("--gpu-tflops", default=100.0, show_default=True, help="ASSUMED rate of a GPU.")
@click.option("--cores", default=8, show_default=True, help="ASSUMED CPU cores of a GPU.")
@click.option("--device-gb", default=1.0, show_default=True, help="ASSUMED GB/s of a machine.")
@click.option("--storage-gb", default=25.0, show_default=True, help="ASSUMED GB/s of the storage.")
@click.option("--price", default=3.0, show_default=True, help="ASSUMED price of a GPU hour.")
@click.option("--scene-gb", default=1.1, show_default=True, help="ASSUMED size of a scene (GRD).")
@click.option("--map-gb", default=0.03, show_default=True, help="ASSUMED size of a map.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the measured JSON.")
def main(measures: bool, output: Path | None, **options: Any) -> None:
    """Predicts time and cost, or measures what the prediction rests on."""
    if measures:
        measured = measure(
            options["folder"], options["model"], options["megapixels"], options["batch"]
        )
        if output is not None:
            output.write_text(json.dumps(measured, indent=1))
        for name, check in measured["check"].items():
            error = check["predicted"] / check["measured"] - 1
            click.echo(
                f"check, {name}: predicted {check['predicted']:.1f}, measured "
                f"{check['measured']:.1f} ({100 * error:+.0f} %)"
            )
    else:
        measured = json.loads(MEASURED.read_text())
    for line in _table(measured, options):
        click.echo(line)


if __name__ == "__main__":
    main()
