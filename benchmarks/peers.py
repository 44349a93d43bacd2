"""``predict`` beside what people would use instead: the same scene, network and torch for all.

    python benchmarks/peers.py --folder peers --megapixels 100
    python benchmarks/peers.py --folder peers --megapixels 4 --only hand,cwsam-geo     # a try

The peers, each in an environment of its own that this script makes with pip (torch anew in each: 5
to 7 GB per environment with torch's CUDA build, some minutes):

cwsam-geo   ``cwsam-geo predict``, all defaults
hand        a loop with rasterio as people write it: read, cut tiles, argmax, paste, write
geoai       geoai-py's ``predict_geotiff``: tiles of the model's size, an overlap of a quarter of
            a tile and the spline blend, as by its defaults (64 of 256 px)
torchgeo    torchgeo's ``RasterDataset``, ``GridGeoSampler`` and a DataLoader, as in its tutorials;
            the samples are put together by their bounds

Each gets the plain network of ``-m`` as a torch module from two bands to the logits of every pixel
(scaling and normalisation inside), 32-bit floats and the same number of threads. ``cwsam-geo`` uses
its own fast network: that is part of what is compared. They run one after the other; a row has wall
and CPU seconds, peak memory of the process, and what was checked in the file that it wrote:

seams       how many times more often the class changes across the most visible line of the tiles'
            raster than across others; 1 is none. A map has features of its own: up to 1.2 says
            little
agreement   share of the pixels with data that have the class of cwsam-geo's map
place       whether CRS and geotransform are the scene's
nodata      share of the scene's nodata that is nodata in the map, where the map declares one
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
from machine import Watched, machine, shown_machine, watched
from numpy.typing import NDArray
from rasterio.windows import Window
from scenes import benchmark_scene, size_of

HERE = Path(__file__).resolve().parent
PEERS: Mapping[str, tuple[str, ...]] = {
    "cwsam-geo": (),
    "hand": (),
    "geoai": ("geoai-py",),
    "torchgeo": ("torchgeo", "requests"),  # which torchgeo 0.8 imports without asking for it
}
"""What pip installs for each, besides torch and this package."""

TORCH = "torch==2.14.1 torchvision==0.29.1"
ROWS = 1024
"""Rows of the maps that are compared at a time."""


@dataclass(frozen=True)
class Row:
    """One peer's run.

    Attributes:
        peer: Key in ``PEERS``.
        settings: In words.
        wall: Seconds from start to end of its process.
        cpu: CPU seconds.
        peak_mb: Peak resident memory in 1e6 bytes.
        seams: See the head of this file; likewise the others.
        versions: Versions of torch and of the peer.
    """

    peer: str
    settings: str
    wall: float
    cpu: float
    peak_mb: float
    seams: float
    agreement: float
    place: bool
    nodata: float | None
    versions: Mapping[str, str]


def python_of(folder: Path, peer: str, torch: str) -> Path:
    """The Python of a peer's environment, which is made if it is not there.

    Raises:
        click.ClickException: pip failed.
    """
    place = folder / "environments" / ("cwsam-geo" if peer == "hand" else peer)
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (place / "ready").exists():
        return python
    click.echo(f"{peer}: its environment is made", err=True)
    venv.create(place, with_pip=True, clear=True)
    # torch first, so that no peer's requirements choose another one.
    for wanted in (torch.split(), [*PEERS[peer], str(HERE.parent)]):
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *wanted, *torch.split()],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise click.ClickException(f"{peer}: pip failed: {' '.join(words[-1:])}")
    (place / "ready").touch()
    return python


def run_peer(python: Path, peer: str, job: Mapping[str, Any]) -> tuple[Watched, dict[str, Any]]:
    """Maps the scene in a process of its own: what it took, and what it says of itself."""
    environment = {
        "OMP_NUM_THREADS": str(job["threads"]),
        "GOMP_SPINCOUNT": "10000",
        "CUDA_VISIBLE_DEVICES": "",
    }
    if peer != "cwsam-geo":
        command = [str(python), str(HERE / "peer_runs.py"), peer, json.dumps(job)]
        process = watched(command, environment)
        return process, json.loads(process.output.strip().splitlines()[-1])
    command = [str(python), "-m", "cwsam_geo.cli.main", "predict", job["scene"], "-m", job["model"]]
    command += ["-o", job["output"], "--device", "cpu", "--quiet", "--json"]
    process = watched(command, environment)
    events = [json.loads(line) for line in process.output.splitlines()]
    start = next(event for event in events if event["event"] == "start")
    size, overlap = start["tile_size"], start["overlap"]
    words = f"predict: tiles of {size} px, overlap {overlap}, linear blend, {start['precision']}"
    return process, {"settings": words, "stride": size - overlap, "versions": {}}


def seams(path: Path, stride: int) -> float:
    """How visible the raster of tiles is: the largest share of changes along one of its lines.

    Args:
        path: A map.
        stride: Pixels from one tile to the next.

    Returns:
        Changes of class between neighbouring pixels across the columns, or rows, with the most of
        them, by their place in the raster of tiles, over the median of all columns or rows.
    """
    changes, pairs = np.zeros((2, stride)), np.zeros((2, stride))
    with rasterio.open(path) as file:
        nodata = file.nodata
        for top in range(0, file.height, ROWS):
            # One row of the next part, for the changes between the two.
            rows = min(ROWS + 1, file.height - top)
            classes = file.read(1, window=Window(0, top, file.width, rows))
            valid = np.ones(classes.shape, bool) if nodata is None else classes != nodata
            for axis in (0, 1):
                # Side 0 is above or left, side 1 below or right.
                first, second = (np.delete(classes, (-1, 0)[side], axis) for side in (0, 1))
                both = np.delete(valid, -1, axis) & np.delete(valid, 0, axis)
                start = top if axis == 0 else 0
                lines = (np.arange(both.shape[axis]) + start + 1) % stride
                different = ((first != second) & both).sum(1 - axis)
                changes[axis] += np.bincount(lines, different, stride)
                pairs[axis] += np.bincount(lines, both.sum(1 - axis), stride)
    rate = changes / np.maximum(pairs, 1)
    middle = np.median(rate, axis=1)
    return float((rate.max(axis=1) / np.where(middle > 0, middle, 1)).max())


def compared(path: Path, scene: Path, ours: Path | None) -> dict[str, Any]:
    """Place, nodata and agreement of a map; codes of classes count from 1 for everybody."""
    same = both = kept = without = 0
    with rasterio.open(path) as file, rasterio.open(scene) as source:
        # The identity of transforms is allowed the rounding of a product's float coordinates.
        place = bool(file.crs == source.crs and file.transform.almost_equals(source.transform))
        other = rasterio.open(ours) if ours is not None else file
        for top in range(0, file.height, ROWS):
            window = Window(0, top, file.width, min(ROWS, file.height - top))
            data = source.dataset_mask(window=window) > 0
            classes, theirs = file.read(1, window=window), other.read(1, window=window)
            same += int(((classes == theirs) & data).sum())
            both += int(data.sum())
            without += int((~data).sum())
            if file.nodata is not None:
                kept += int((missing(classes, file.nodata) & ~data).sum())
        declared = file.nodata is not None
        if other is not file:
            other.close()
    nodata = kept / without if without and declared else None
    return {"place": place, "nodata": nodata, "agreement": same / max(both, 1)}


def missing(classes: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where a map has its nodata value."""
    return np.isnan(classes) if np.isnan(nodata) else np.asarray(classes == nodata)


def measured(peers: Sequence[str], folder: Path, torch: str, job: Mapping[str, Any]) -> list[Row]:
    """Runs the peers one after the other; ``cwsam-geo`` first, since the others are compared."""
    rows: list[Row] = []
    ours: Path | None = None
    for peer in peers:
        output = folder / f"map_{peer}.tif"
        for file in (output, output.with_name(f"{output.name}.aux.xml")):
            file.unlink(missing_ok=True)
        try:
            python = python_of(folder, peer, torch)
            process, said = run_peer(python, peer, {**job, "output": str(output)})
        except click.ClickException as failed:
            click.echo(f"{peer}: failed ({failed.message})", err=True)
            continue
        ours = ours or (output if peer == "cwsam-geo" else None)
        checks = compared(output, Path(job["scene"]), ours)
        if ours is None:
            checks["agreement"] = float("nan")
        took = (process.seconds, process.cpu_seconds, process.peak_mb)
        visible = seams(output, said["stride"])
        rows.append(
            Row(peer, said["settings"], *took, visible, versions=said["versions"], **checks)
        )
        click.echo(f"{peer}: {process.seconds:.0f} s, {process.peak_mb:.0f} MB", err=True)
    return rows


def table(rows: Sequence[Row], about: str) -> str:
    """Markdown."""
    head = (
        "| peer | settings | wall s | CPU s | peak MB | seams | agreement | place | nodata kept |\n"
        "|---|---|---:|---:|---:|---:|---:|---|---|"
    )
    lines = []
    for row in rows:
        nodata = "not declared" if row.nodata is None else f"{row.nodata:.1%}"
        lines.append(
            f"| {row.peer} {row.versions.get(row.peer, '')} | {row.settings} | {row.wall:.0f} "
            f"| {row.cpu:.0f} | {row.peak_mb:,.0f} | {row.seams:.2f} | {row.agreement:.2%} "
            f"| {'as the scene' if row.place else 'another'} | {nodata} |"
        )
    return "\n".join(["", about, "", head, *lines, ""])


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("benchmark-peers"),
              help="For environments, scene and maps.")  # fmt: skip
@click.option("--megapixels", default=100.0, help="Size of the simulated scene.")
@click.option("-m", "--model", default="s1-water", help="A model of VV and VH.")
@click.option("--threads", default=2)
@click.option("--torch", default=TORCH, help="What pip installs in every environment.")
@click.option("--only", default=",".join(PEERS), help="Peers, in this order.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(folder: Path, megapixels: float, model: str, threads: int, torch: str, only: str,
         output: Path | None) -> None:  # fmt: skip
    """Compare predict with what people would use instead."""
    from cwsam_geo.model.store import find_model

    peers = [name for name in only.split(",") if name]
    unknown = [name for name in peers if name not in PEERS]
    if unknown:
        raise click.UsageError(f"--only {unknown[0]}: peers are {', '.join(PEERS)}")
    folder = folder.resolve()
    scene = benchmark_scene(folder, size_of(megapixels))
    job = {"scene": str(scene), "model": str(find_model(model).resolve()), "threads": threads}
    rows = measured(peers, folder, torch, job)
    about = machine()
    click.echo(table(rows, f"{shown_machine(about)}; {megapixels:g} Mpx, {model}"))
    if output is not None:
        report = {"machine": about, "megapixels": megapixels, "rows": [asdict(r) for r in rows]}
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
