"""One network in a process of its own, for model.py: runs a batch for every line it reads."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from restated import Restated
from torch import Tensor, nn

from cwsam_geo.model.adapters import ADAPTER_RATIO
from cwsam_geo.model.build import BACKBONES, Architecture, Cwsam
from cwsam_geo.model.decoder import MASK_RATIO
from cwsam_geo.model.encoder import MLP_RATIO
from cwsam_geo.model.fast import accelerate, tune_allocator
from cwsam_geo.model.fast.arithmetic import choose_arithmetic
from cwsam_geo.model.fast.linear import Linear

CEILING_SIZE = {"cpu": 2048, "cuda": 8192}


def random_cwsam(settings: dict[str, Any]) -> Cwsam:
    """The same random weights in every process; nothing is zero."""
    torch.manual_seed(0)
    backbone = BACKBONES[settings["backbone"]]
    quirks = dict.fromkeys(("scrambled_prompt", "attend_padding", "classes_fastest"), True)
    model = Cwsam(Architecture(backbone, settings["classes"], backbone.tile_size, **quirks)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.5 * parameter.shape[1] ** -0.5)
    return model


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


def network_of(name: str, cwsam: Cwsam) -> Callable[[Tensor], Tensor]:
    """``restated``, ``plain``, ``autocast``, ``fast_PRECISION`` or ``compiled_PRECISION``."""
    device = cwsam.encoder.pos_embed.device.type
    if name == "restated":
        return Restated(cwsam).to(device)
    if name == "plain":
        return cwsam
    if name == "autocast":

        def autocast(images: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16):
                logits: Tensor = cwsam(images)
            return logits.float()

        return autocast
    way, precision = name.split("_")
    fast: nn.Module = accelerate(cwsam, precision, compile=way == "compiled")  # type: ignore[arg-type]
    return fast


class Ceiling:
    """The rate of one large matrix product in a network's number format."""

    def __init__(self, name: str, device: torch.device) -> None:
        half = name == "autocast" or name.endswith("bf16")
        size = CEILING_SIZE[device.type]
        arithmetic = choose_arithmetic(device, "bf16" if half else "fp32")
        self._layer = Linear(torch.randn(size, size, device=device), None, arithmetic)
        self._values = torch.randn(size, size, device=device, dtype=arithmetic.dtype)
        self._operations = 2.0 * size**3
        self()

    def __call__(self) -> float:
        """Operations a second, of CPU time where that is what computes."""
        clock = Clock(self._values.device)
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


def peak_mb(device: torch.device) -> float:
    """Peak memory so far, in 1e6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@torch.inference_mode()
def main() -> None:
    """Writes a line about the network, then one for each run."""
    name, memory = sys.argv[1].split(":")
    settings: dict[str, Any] = json.loads(sys.argv[2])
    device = torch.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    if memory == "tuned":
        tune_allocator()
    model = random_cwsam(settings).to(device)
    architecture = model.architecture
    network = network_of(name, model)
    size, batch = architecture.tile_size, settings["batch"]
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    images = images.to(device)
    # Also warms up.
    error = error_against_plain(network, model, images, settings)
    del model
    ceiling = Ceiling(name, device)
    about = {
        "operations": batch * operations(architecture),
        "pixels": batch * size**2,
        "error": error,
    }
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        clock = Clock(device)
        network(images)
        run = clock.read()
        print(json.dumps(run | {"ceiling": ceiling(), "peak_mb": peak_mb(device)}), flush=True)


def error_against_plain(
    network: Callable[[Tensor], Tensor], model: Cwsam, images: Tensor, settings: dict[str, Any]
) -> float:
    """Relative error of the logits; the plain ones are computed once and kept in a file."""
    path = Path(settings["folder"]) / f"{settings['backbone']}.pt"
    if path.exists():
        exact = torch.load(path, weights_only=True)
    else:
        exact = model.cpu()(images.cpu())
        torch.save(exact, path)
        model.to(images.device)
    ours = network(images).cpu().double()
    return float((ours - exact).norm() / exact.double().norm())


if __name__ == "__main__":
    main()
