"""Measures the model alone: the fast path against the plain one and the authors' algorithm.

    python benchmarks/model.py --backbones vit_b,small --threads 2 -o model.json
    python benchmarks/model.py --device cuda --backbones vit_b,vit_h --trace traces -o cuda.json

Every network runs in a process of its own. On a CPU they take turns, so that whatever else the
machine does falls on all of them; on a GPU, whose memory they would share, one follows the other.
The table shows medians over the turns. ``--help`` lists the networks. ``system`` means memory as
the system's allocator serves it, ``tuned`` that glibc was told to keep it (which the product does).
Weights are random. The ceiling is the rate of one large matrix product in the same number format,
measured in turn with the networks; the operations counted are those of the model, whatever a
network computes besides. ``piped`` is predict's whole pipeline but for the files: how much of the
bare model's rate it keeps is printed below the table. With ``--trace`` each network's run is
profiled once more at the end: NAME.json is for chrome://tracing or Perfetto, NAME.txt has a table
of what took longest.

On a machine that others use too, ``--passive`` lets waiting threads sleep; CPU seconds then hold
the work alone, and are what to compare. On a CPU all processes of a backbone live at the same time:
15 GB for vit_b; for vit_l and vit_h name fewer cases.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from networks import NETWORKS

WORKER = Path(__file__).with_name("model_worker.py")
CPU_CASES = (
    "restated:system",
    "restated:tuned",
    "plain:system",
    "plain:tuned",
    "autocast:tuned",
    "fast_fp32:tuned",
    "fast_bf16:tuned",
    "fast_bf16:system",
    "piped_bf16:tuned",
)
CUDA_CASES = (
    "restated:cuda:1",
    "plain:cuda:1",
    "autocast:cuda",
    "biased_bf16:cuda",
    "fast_bf16:cuda",
    "compiled_bf16:cuda",
    "graphed_bf16:cuda",
    "piped_bf16:cuda",
)
"""The last number is a batch, where it is not the one that predict takes."""


@dataclass(frozen=True)
class Row:
    """Medians of one network.

    Attributes:
        backbone: Key in ``BACKBONES``.
        network: What computed.
        memory: ``system``, ``tuned`` or ``cuda``.
        batch: Tiles at once.
        seconds: A tile's seconds.
        cpu_seconds: A tile's CPU seconds, of all threads.
        pixels_per_second: Pixels of tiles in a second.
        ceiling_share: Operations of the model in a second, over those of one matrix product.
        peak_mb: Peak memory in 1e6 bytes: resident, or of the GPU.
        error: Relative error of a tile's logits against ``plain`` in float32.
        speedup: How many times faster than ``restated`` with the same memory.
        cpu_speedup: The same in CPU seconds.
    """

    backbone: str
    network: str
    memory: str
    batch: int
    seconds: float
    cpu_seconds: float
    pixels_per_second: float
    ceiling_share: float
    peak_mb: float
    error: float
    speedup: float
    cpu_speedup: float


class Worker:
    """A process that holds one network and runs it when asked."""

    def __init__(self, case: str, settings: dict[str, Any], passive: bool) -> None:
        self.case = case
        self.network, self.memory, *batch = case.split(":")
        settings = settings | {"batch": int(batch[0]) if batch else settings["batch"]}
        self.batch: int = settings["batch"]
        threads = str(settings["threads"])
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if passive:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), case, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.runs: list[dict[str, float]] = []
        self.about = self._read()

    def run(self) -> None:
        """Computes some batches."""
        self.runs.append(self._ask("run"))

    def trace(self, path: Path) -> None:
        """Profiles a run; see model_worker.py."""
        self._ask(f"trace {path}")

    def _ask(self, line: str) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.case} ended with {self._process.wait()}")
        values: dict[str, float] = json.loads(line)
        return values

    def median(self, name: str) -> float:
        """Over the turns."""
        return statistics.median(run[name] for run in self.runs)


def measure(backbone: str, cases: list[str], settings: dict[str, Any], passive: bool) -> list[Row]:
    """All networks of a backbone: in turns on a CPU, one after the other on a GPU."""
    settings = settings | {"backbone": backbone}
    if settings["device"] == "cpu":
        workers = in_turns(cases, settings, passive)
    else:
        workers = []
        for case in cases:
            try:
                workers += in_turns([case], settings, passive)
            except click.ClickException as failed:
                # Such as the plain network's biases, where the GPU's memory is small.
                click.echo(f"{backbone}: {case}: failed ({failed.message})", err=True)
    return [row_of(backbone, worker, workers) for worker in workers]


def in_turns(cases: list[str], settings: dict[str, Any], passive: bool) -> list[Worker]:
    """Networks that live at the same time; their processes have ended when this returns."""
    backbone, workers = settings["backbone"], list[Worker]()
    try:
        for case in cases:
            click.echo(f"{backbone}: {case}", err=True)
            workers.append(Worker(case, settings, passive))
        for turn in range(1, settings["repeats"] + 1):
            for worker in workers:
                worker.run()
            click.echo(f"{backbone}: turn {turn} of {settings['repeats']}", err=True)
        for worker in workers if settings["trace"] else []:
            name = f"{backbone}-{worker.network}-{worker.memory}"
            worker.trace(Path(settings["trace"]) / name)
        return workers
    finally:
        for worker in workers:
            worker.close()


def row_of(backbone: str, worker: Worker, workers: list[Worker]) -> Row:
    """What a worker measured, and how it compares."""
    seconds, cpu_seconds = worker.median("seconds"), worker.median("cpu_seconds")
    rate = worker.about["operations"] / worker.median("compute_seconds")
    yardstick = next(
        (w for w in workers if (w.network, w.memory) == ("restated", worker.memory)), None
    )
    nan = float("nan")
    return Row(
        backbone,
        worker.network,
        worker.memory,
        worker.batch,
        seconds,
        cpu_seconds,
        worker.about["pixels"] / seconds,
        rate / worker.median("ceiling"),
        max(run["peak_mb"] for run in worker.runs),
        worker.about["error"],
        yardstick.median("seconds") / seconds if yardstick else nan,
        yardstick.median("cpu_seconds") / cpu_seconds if yardstick else nan,
    )


def show(rows: list[Row]) -> None:
    """The table, and the ratios that the project holds itself to."""
    head = "backbone network       memory batch  s/tile cpu-s/tile    px/s ceiling peak MB   error"
    click.echo(f"{head} x restated (cpu)")
    for r in rows:
        click.echo(
            f"{r.backbone:8} {r.network:13} {r.memory:6} {r.batch:5} {r.seconds:7.3f} "
            f"{r.cpu_seconds:10.3f} {r.pixels_per_second:7.0f} {r.ceiling_share:6.0%} "
            f"{r.peak_mb:8.0f} {r.error:7.1e} {r.speedup:6.2f} ({r.cpu_speedup:.2f})"
        )
    show_ratios(rows)


def show_ratios(rows: list[Row]) -> None:
    """What is held against the aims: the speed-up, and the share that the pipeline keeps."""
    by_case = {(r.backbone, r.network, r.memory): r for r in rows}
    for backbone in dict.fromkeys(r.backbone for r in rows):
        slow = by_case.get((backbone, "restated", "system"))
        best = by_case.get((backbone, "fast_bf16", "tuned"))
        if slow and best:
            click.echo(
                f"{backbone}: fast_bf16 as the product runs it against restated as the system's "
                f"allocator serves it: {slow.seconds / best.seconds:.2f} x "
                f"({slow.cpu_seconds / best.cpu_seconds:.2f} x in CPU seconds)"
            )
    for row in rows:
        way, _, precision = row.network.partition("_")
        bare = by_case.get((row.backbone, f"fast_{precision}", row.memory))
        if way == "piped" and bare:
            click.echo(
                f"{row.backbone}, {precision}, {row.memory}: predict's pipeline keeps "
                f"{bare.seconds / row.seconds:.0%} of the bare model's {1 / bare.seconds:.1f} "
                f"tiles/s ({bare.cpu_seconds / row.cpu_seconds:.0%} in CPU seconds)"
            )


@click.command(epilog="\b\nNetworks:\n" + NETWORKS)
@click.option("--backbones", default="vit_b,small", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--cases", help=f"NETWORK_PRECISION:MEMORY[:BATCH], such as {', '.join(CPU_CASES)}.")
@click.option("--classes", default=10, show_default=True)
@click.option("--batch", type=int, help="Tiles at once.  [default: what predict takes]")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Turns.")
@click.option("--passive", is_flag=True, help="Waiting threads sleep.")
@click.option("--trace", type=click.Path(path_type=Path), help="Folder for profiles of a run.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON report.")
def main(backbones: str, device: str, cases: str | None, output: Path | None, **given: Any) -> None:
    """Prints a table."""
    import torch

    from cwsam_geo.model.device import auto_batch_size
    from cwsam_geo.model.network.architecture import BACKBONES, Architecture

    if device == "cuda" and not torch.cuda.is_available():
        click.echo("not run: no GPU")
        return
    if given["trace"] is not None:
        given["trace"].mkdir(parents=True, exist_ok=True)
        given["trace"] = str(given["trace"].resolve())
    chosen = cases.split(",") if cases else list(CPU_CASES if device == "cpu" else CUDA_CASES)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for name in backbones.split(","):
            backbone = BACKBONES[name]
            architecture = Architecture(backbone, given["classes"], backbone.tile_size)
            batch = given["batch"] or auto_batch_size(architecture, torch.device(device))
            settings = given | {"device": device, "batch": batch, "folder": folder}
            passive = bool(settings.pop("passive"))
            rows += measure(name, chosen, settings, passive)
    show(rows)
    if not torch.cuda.is_available():
        click.echo("GPU: not run, there is none here")
    if output is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "threads": given["threads"],
            "load": os.getloadavg(),
        }
        report = {"machine": machine, "rows": [asdict(row) for row in rows]}
        output.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
