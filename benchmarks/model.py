"""Measures the model alone: the fast path against the plain one and the authors' algorithm.

    python benchmarks/model.py --backbones vit_b,small --threads 2 -o model.json

Every network runs in a process of its own, and they take turns, so that whatever else the machine
does falls on all of them; the table shows medians over the turns. ``restated`` is the authors'
algorithm in plain torch (see restated.py), ``plain`` our own model, ``autocast`` that under torch's
bf16 autocast, ``fast_...`` the fast path. ``system`` means memory as the system's allocator serves
it, ``tuned`` that glibc was told to keep it (which the product does). Weights are random. The
ceiling is the rate of one large matrix product in the same number format, measured in turn with
the networks; the operations counted are those of the model, whatever a network computes besides.

On a machine that others use too, ``--passive`` lets waiting threads sleep; CPU seconds then hold
the work alone, and are what to compare. All processes of a backbone live at the same time: 15 GB
for vit_b; for vit_l and vit_h name fewer cases.
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
)
CUDA_CASES = (
    "restated:cuda",
    "plain:cuda",
    "autocast:cuda",
    "fast_bf16:cuda",
    "compiled_bf16:cuda",
)


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
        error: Relative error of the logits against ``plain`` in float32.
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
        """Computes one batch."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        self.runs.append(self._read())

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
    """All networks of a backbone, in turns."""
    settings = settings | {"backbone": backbone}
    workers: list[Worker] = []
    try:
        for case in cases:
            click.echo(f"{backbone}: {case}", err=True)
            workers.append(Worker(case, settings, passive))
        for turn in range(1, settings["repeats"] + 1):
            for worker in workers:
                worker.run()
            click.echo(f"{backbone}: turn {turn} of {settings['repeats']}", err=True)
        return [row_of(backbone, worker, workers, settings["batch"]) for worker in workers]
    finally:
        for worker in workers:
            worker.close()


def row_of(backbone: str, worker: Worker, workers: list[Worker], batch: int) -> Row:
    """What a worker measured, and how it compares."""
    network, memory = worker.case.split(":")
    seconds, cpu_seconds = worker.median("seconds"), worker.median("cpu_seconds")
    rate = worker.about["operations"] / worker.median("compute_seconds")
    yardstick = next((w for w in workers if w.case == f"restated:{memory}"), None)
    nan = float("nan")
    return Row(
        backbone,
        network,
        memory,
        batch,
        seconds / batch,
        cpu_seconds / batch,
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


@click.command()
@click.option("--backbones", default="vit_b,small", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--cases", help=f"Of {', '.join(CPU_CASES + CUDA_CASES)}, fast_fp32:cuda and so on.")
@click.option("--classes", default=10, show_default=True)
@click.option("--batch", type=int, help="Tiles at once.  [default: what predict takes]")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Turns.")
@click.option("--passive", is_flag=True, help="Waiting threads sleep.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON report.")
def main(backbones: str, device: str, cases: str | None, output: Path | None, **given: Any) -> None:
    """Prints a table."""
    import torch

    from cwsam_geo.model.build import BACKBONES, Architecture
    from cwsam_geo.model.device import auto_batch_size

    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("not run: torch finds no CUDA device here")
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
