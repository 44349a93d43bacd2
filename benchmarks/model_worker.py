"""One network in a process of its own, for model.py: answers every line that it reads."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from networks import Network, Piped, network_of, random_cwsam
from torch import Tensor

from cwsam_geo.model.device import tune_allocator
from cwsam_geo.model.fast.arithmetic import choose_arithmetic
from cwsam_geo.model.fast.linear import Linear
from cwsam_geo.model.network.adapters import ADAPTER_RATIO
from cwsam_geo.model.network.architecture import MASK_RATIO, MLP_RATIO, Architecture
from cwsam_geo.model.network.cwsam import Cwsam

CEILING_SIZE = {"cpu": 2048, "cuda": 8192}
ROUNDS = {"cpu": 1, "cuda": 10}
"""Batches of a run: on a GPU they are queued, so that it does not wait between them."""
TOP_KERNELS = 40


def operations(architecture: Architecture) -> float:
    """Floating point operations of a tile: layers, attention on real tokens, convolutions."""
    b = architecture.backbone
    tokens, dim = architecture.grid_size**2, b.dim
    inner = dim // ADAPTER_RATIO
    layers = tokens * dim * (4 * dim + 2 * MLP_RATIO * dim + 4 * inner)
    per_window = min(b.window**2, tokens)
    pairs = tokens * (len(b.global_blocks) * tokens + (b.depth - len(b.global_blocks)) * per_window)
    embedding = tokens * 3 * b.patch_size**2 * dim
    neck = tokens * b.decoder_dim * (dim + 9 * b.decoder_dim)
    wide = 2 * b.decoder_dim // MASK_RATIO
    classes = 16 * tokens * 49 * wide * architecture.num_classes * b.decoder_dim // MASK_RATIO
    upscaling = tokens * (2 * (b.decoder_dim**2 + 2 * b.decoder_dim * wide) + 64 * wide**2)
    return 2.0 * (b.depth * layers + 2 * pairs * dim + embedding + neck + classes + upscaling)


class Ceiling:
    """The rate of one large matrix product in a network's number format."""

    def __init__(self, name: str, device: torch.device) -> None:
        half = name == "autocast" or name.endswith("bf16")
        size = CEILING_SIZE[device.type]
        arithmetic = choose_arithmetic(device, "bf16" if half else "fp32")
        self._layer = Linear(torch.randn(size, size, device=device), None, arithmetic)
        self._values = torch.randn(size, size, device=device, dtype=arithmetic.dtype)
        self._rounds = ROUNDS[device.type]
        self._operations = 2.0 * size**3 * self._rounds
        self()

    def __call__(self) -> float:
        """Operations a second, of CPU time where that is what computes."""
        clock = Clock(self._values.device)
        for _ in range(self._rounds):
            self._layer(self._values)
        return self._operations / clock.read()["compute_seconds"]


class Clock:
    """Seconds from here on."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._synchronize()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def _synchronize(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    def read(self) -> dict[str, float]:
        """On the wall, of the CPU, and those that the computing device worked."""
        self._synchronize()
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"seconds": wall, "cpu_seconds": cpu, "compute_seconds": wall if self._cuda else cpu}


class PeakMemory:
    """Peak memory of what runs, in 1e6 bytes: of the process, or on a GPU from ``reset`` on."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._others = 0

    def reset(self, others: int) -> None:
        """From now on; what was there before and is none of the network's does not count."""
        self._others = others
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> float:
        """So far."""
        if self._cuda:
            return (torch.cuda.max_memory_allocated() - self._others) / 1e6
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def trace(run: Callable[[], None], device: torch.device, path: Path) -> None:
    """Writes what a run does: ``PATH.json`` for chrome://tracing, ``PATH.txt`` the top kernels."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
    profile.export_chrome_trace(f"{path}.json")
    key = f"self_{device.type}_time_total"
    table = profile.key_averages().table(sort_by=key, row_limit=TOP_KERNELS)
    Path(f"{path}.txt").write_text(table, encoding="utf-8")


class Subject:
    """What is measured: a network on batches, or a pipeline.

    Args:
        name: Of the network.
        settings: As model.py sends them.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        device, batch = torch.device(settings["device"]), settings["batch"]
        model = random_cwsam(settings).to(device)
        self.architecture = model.architecture
        rounds = ROUNDS[device.type]
        self.error = float("nan")
        self.run: Callable[[], None]
        if name.startswith("piped_"):
            piped = Piped(model, name.removeprefix("piped_"), batch, rounds)
            self.run, self.tiles = piped, piped.tiles
            self.run()
            return
        images = some_images(batch, self.architecture.tile_size).to(device)
        network = network_of(name, model)
        # Also warms up.
        self.error = error_against_plain(network, model, images, settings)
        self.tiles = rounds * batch

        def run() -> None:
            for _ in range(rounds):
                network(images)

        self.run = run


@torch.inference_mode()
def main() -> None:
    """Writes a line about the network, then one for each run or trace."""
    name, memory = sys.argv[1].split(":")[:2]
    settings: dict[str, Any] = json.loads(sys.argv[2])
    device = torch.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    if memory == "tuned":
        tune_allocator()
    subject = Subject(name, settings)
    peak = PeakMemory(device)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    ceiling = Ceiling(name, device)
    peak.reset(torch.cuda.memory_allocated() - before if device.type == "cuda" else 0)
    tile = {
        "operations": operations(subject.architecture),
        "pixels": subject.architecture.tile_size**2,
        "error": subject.error,
    }
    print(json.dumps(tile), flush=True)
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "trace":
            trace(subject.run, device, Path(path))
            print("{}", flush=True)
            continue
        clock = Clock(device)
        subject.run()
        run = {k: v / subject.tiles for k, v in clock.read().items()}
        print(json.dumps(run | {"peak_mb": peak.read(), "ceiling": ceiling()}), flush=True)


def some_images(batch: int, size: int) -> Tensor:
    """The same tiles whatever the batch, shape (B, 3, T, T)."""
    seeds = (torch.Generator().manual_seed(i + 1) for i in range(batch))
    return torch.stack([torch.randn(3, size, size, generator=g) for g in seeds])


def error_against_plain(
    network: Network, model: Cwsam, images: Tensor, settings: dict[str, Any]
) -> float:
    """Relative error of the first tile's logits; the plain ones are kept in a file."""
    path = Path(settings["folder"]) / f"{settings['backbone']}.pt"
    if path.exists():
        exact = torch.load(path, weights_only=True)
    else:
        exact = model.cpu()(images[:1].cpu())
        torch.save(exact, path)
        model.to(images.device)
    ours = network(images)[:1].cpu().double()
    return float((ours - exact).norm() / exact.double().norm())


if __name__ == "__main__":
    main()
