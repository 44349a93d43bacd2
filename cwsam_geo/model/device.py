"""Devices, precisions, and batch sizes that fit into memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch

from cwsam_geo.errors import UsageError
from cwsam_geo.model.network.architecture import MLP_RATIO, Architecture

# Parameters of mallopt, with their names and numbers from <malloc.h>.
_M_TRIM_THRESHOLD = -1

_M_MMAP_MAX = -4

Precision = Literal["fp32", "bf16", "fp16"]
"""Number format of the model's arithmetic; weights and logits are always float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_TRIAL = 256
"""Side of the matrices whose product shows whether a precision is emulated."""

_EMULATED = 2.0
"""A precision that is slower than fp32 by this factor gains nothing, so its use is warned of."""

_MAX_CPU_BATCH = 16
"""Tiles per batch on a CPU."""

_MAX_CUDA_BATCH = 64
"""Tiles per batch on CUDA."""

_MAX_CUDA_PIXELS = 16 << 20
"""Pixels per batch on CUDA: 16 of SAM's tiles, 65,000 tokens. More only delay the results."""

_CUDA_SHARE = 0.5
"""Share of the free memory that a batch may use; the rest allows for errors of the estimate."""

_CUDA_CONTEXT = 1 << 30
"""Bytes of free memory left to CUDA itself."""


def resolve_device(name: str) -> torch.device:
    """Returns the device named ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is CUDA if available, else MPS if available, else the CPU.

    Raises:
        UsageError: This machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        # Not a name that torch knows: the last check below refuses this stand-in.
        device = torch.device("meta")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"--device {name}: torch finds no CUDA device; use --device cpu")
        if (device.index or 0) >= count:
            raise UsageError(f"--device {name}: there are CUDA devices 0 to {count - 1} only")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name}: torch finds no Apple GPU; use --device cpu")
    if device.type not in {"cpu", "mps"}:
        raise UsageError(f"--device {name}: not one of auto, cpu, cuda, cuda:N, mps")
    return torch.device(device.type)


def resolve_precision(name: str, device: torch.device, fast: bool = False) -> Precision:
    """Returns the precision named ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 on CUDA (fp16 on GPUs without bf16) and fp32 elsewhere. For the fast network,
    which only predicts, it is bf16 also on CPUs with bf16 products: 1.7 times faster there.

    Raises:
        UsageError: The name is unknown, or the device does not support the precision.
    """
    if name == "auto":
        if device.type == "cpu" and fast:
            return "bf16" if cpu_multiplies_bf16() else "fp32"
        if device.type != "cuda":
            return "fp32"
        return "bf16" if _has_bf16(device) else "fp16"
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name}: not one of auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: is for GPUs; use bf16 or fp32 on the CPU")
    if name == "bf16" and device.type == "cuda" and not _has_bf16(device):
        raise UsageError(f"--precision bf16: {device} does not support it; use fp16 or fp32")
    return name


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which the plain network computes in a precision; without effect for fp32."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def device_kind(name: str) -> torch.device:
    """A device of another machine, by its kind: ``cpu``, ``cuda`` or ``mps``."""
    return torch.device(name)


def thread_count() -> int:
    """Threads that torch uses on a CPU."""
    return torch.get_num_threads()


def use_threads(count: int) -> None:
    """Limits the threads that torch uses on a CPU."""
    torch.set_num_threads(count)


def cuda_count() -> int:
    """Number of CUDA devices."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def computer_name(device: torch.device) -> str:
    """What computes, in words: results of equal names have equal bits."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{_processor()} with {threads} thread{'s' if threads > 1 else ''}"


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products in bf16 (x86: AVX-512 or AMX)."""
    # Older versions of torch lack these private functions: then assume no support.
    checks = [
        getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")
    ]
    return any(bool(is_supported()) for is_supported in checks if is_supported is not None)


def precision_warning(precision: Precision, device: torch.device) -> str | None:
    """Warns if this processor only emulates a precision; None if it does not.

    The factor by which it is slower is measured on a small product, in a fraction of a second.
    """
    if device.type != "cpu" or precision == "fp32" or cpu_multiplies_bf16():
        return None
    times = {}
    for name in ("fp32", precision):
        matrix = torch.ones(_TRIAL, _TRIAL, dtype=DTYPES[name])
        matrix @ matrix  # the first product also prepares the library
        began = time.perf_counter()
        matrix @ matrix
        times[name] = time.perf_counter() - began
    factor = times[precision] / times["fp32"]
    if factor < _EMULATED:
        return None
    return (
        f"--precision {precision}: this processor only emulates {precision}, about {factor:.0f} "
        "times slower than fp32; pass --precision fp32 or auto"
    )


def check_compile(device: torch.device) -> None:
    """Checks that torch.compile makes sense on a device.

    Raises:
        UsageError: The device is not CUDA: compiling would take minutes and gain nothing.
    """
    if device.type != "cuda":
        raise UsageError(f"--compile: is for CUDA devices; on {device} it gains nothing")


def _has_bf16(device: torch.device) -> bool:
    # Ampere (compute capability 8.0) is the first generation with bf16 arithmetic.
    return torch.cuda.get_device_capability(device) >= (8, 0)


def auto_batch_size(architecture: Architecture, device: torch.device) -> int:
    """Chooses the number of tiles per batch.

    On a CPU a batch has about 512 x 512 pixels, but at least one tile and at most sixteen. On CUDA
    it is what fits into half of the free memory; if memory still runs out, the pipeline halves the
    batch. The bounds have not been tuned on a GPU yet.
    """
    size = architecture.tile_size
    if device.type != "cuda":
        return min(max((512 // size) ** 2, 1), _MAX_CPU_BATCH)
    free, _ = torch.cuda.mem_get_info(device)
    usable = max(0, free - _CUDA_CONTEXT) * _CUDA_SHARE
    limit = min(_MAX_CUDA_BATCH, _MAX_CUDA_PIXELS // size**2)
    return max(min(int(usable // fused_tile_bytes(architecture)), limit), 1)


def tile_bytes(architecture: Architecture) -> int:
    """Estimates the plain network's peak memory per tile in bytes, without gradients.

    The peak is in a global block's attention, in the decoder's class convolution or in its input.
    """
    backbone = architecture.backbone
    tokens = architecture.grid_size**2
    # Position biases of all pairs of tokens, twice.
    attention = 2 * backbone.heads * tokens * tokens
    logits = (architecture.tile_size // architecture.stride) ** 2
    # K groups of D/8 features at the resolution of the logits, twice.
    features = 2 * architecture.num_classes * backbone.decoder_dim // 8 * logits
    # D/4 channels at twice the resolution of the logits, three times.
    upscaled = 3 * backbone.decoder_dim // 4 * 4 * logits
    return 4 * max(attention, features, upscaled)


def fused_tile_bytes(architecture: Architecture) -> int:
    """Estimates the fast network's peak memory per tile on a GPU, in bytes, in float32.

    The peak is in a global block's attention, in its MLP or in the decoder's last layers. torch's
    profiler measured 244 MB on a CPU with vit_b and 10 classes, without the attention scores,
    which fused kernels do not store. bf16 takes half.
    """
    backbone = architecture.backbone
    tokens, width = architecture.grid_size**2, backbone.decoder_dim // 8
    # Per token: qkv twice, queries and keys with position channels, products with the positions.
    per_head = 2 * (backbone.dim // backbone.heads + 2 * architecture.grid_size)
    attention = 6 * backbone.dim + backbone.heads * (per_head + 4 * architecture.grid_size)
    mlp = 2 * (MLP_RATIO * backbone.dim + backbone.dim // 4) + 4 * backbone.dim
    # Input at twice the resolution of the logits, and K groups of D/8 features twice.
    logits = (architecture.tile_size // architecture.stride) ** 2
    decoder = logits * (4 * 2 * width + 2 * architecture.num_classes * width)
    return 4 * max(tokens * attention, tokens * mlp, decoder)


@functools.cache
def tune_allocator() -> bool:
    """Makes glibc reuse large pieces of memory instead of returning them to the system.

    By default glibc maps new memory for every tensor over 32 MB. The operating system zeroes its
    pages one by one at first use, and gets them back when the tensor is freed. This takes a third
    of a large model's time on a CPU. The setting applies to the whole process, whose memory then
    stays at its peak until it ends.

    Returns:
        Whether the setting was applied; it exists for glibc only.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    # Never map memory for a single allocation, and never shrink the heap.
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
