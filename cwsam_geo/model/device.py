"""Devices, precisions, and what fits into memory."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from cwsam_geo.errors import UsageError
from cwsam_geo.model.build import Architecture
from cwsam_geo.model.encoder import MLP_RATIO

Precision = Literal["fp32", "bf16", "fp16"]
"""Number format of the model's arithmetic; weights and logits are float32 in all of them."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_MAX_CPU_BATCH = 4
_MAX_CUDA_BATCH = 64
# More pixels at once only delay what comes back: 16 of SAM's tiles are 65,000 tokens.
_MAX_CUDA_PIXELS = 16 << 20
_CUDA_SHARE = 0.5
_CUDA_CONTEXT = 1 << 30


def resolve_device(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is CUDA where it works, else MPS where it works, else the CPU.

    Raises:
        UsageError: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
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
    """The precision of a name: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 on CUDA (fp16 on GPUs without it), fp32 elsewhere. For the fast network it is
    bf16 on processors that multiply bf16 too, where that was measured to be 1.7 times faster.

    Args:
        name: What the user wants.
        device: Where to compute.
        fast: Whether it is for the fast network, which only predicts.

    Raises:
        UsageError: The name is not known, or the device cannot do it.
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
        raise UsageError(f"--precision bf16: {device} has none; use fp16 or fp32")
    return name


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for products in bf16 (x86: AVX-512 or AMX)."""
    # Older torch does not tell.
    known = [
        getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")
    ]
    return any(bool(supported()) for supported in known if supported is not None)


def check_compile(device: torch.device) -> None:
    """Checks that torch.compile pays on a device.

    Raises:
        UsageError: It takes minutes there and gains nothing.
    """
    if device.type != "cuda":
        raise UsageError(f"--compile: is for CUDA devices; on {device} it gains nothing")


def _has_bf16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def auto_batch_size(architecture: Architecture, device: torch.device) -> int:
    """A number of tiles to compute at once: about one large tile on a CPU, what fits on CUDA.

    On CUDA half of the memory that is free is counted on; where even that turns out too much, the
    pipeline halves the batch. The bounds have not been tuned on a GPU yet.

    Args:
        architecture: Of the model.
        device: Where it computes.
    """
    size = architecture.tile_size
    if device.type != "cuda":
        return min(max((512 // size) ** 2, 1), _MAX_CPU_BATCH)
    free, _ = torch.cuda.mem_get_info(device)
    usable = max(0, free - _CUDA_CONTEXT) * _CUDA_SHARE
    most = min(_MAX_CUDA_BATCH, _MAX_CUDA_PIXELS // size**2)
    return max(min(int(usable // fused_tile_bytes(architecture)), most), 1)


def tile_bytes(architecture: Architecture) -> int:
    """About how much memory a tile takes at its peak, in bytes, without gradients.

    The larger of a global block's attention (biases of all pairs, twice) and of the decoder's
    class convolution (K groups of D/8 features at the logits' resolution, twice).
    """
    backbone = architecture.backbone
    tokens = architecture.grid_size**2
    attention = 2 * backbone.heads * tokens * tokens
    logits = (architecture.tile_size // architecture.stride) ** 2
    features = 2 * architecture.num_classes * backbone.decoder_dim // 8 * logits
    upscaled = 3 * backbone.decoder_dim // 4 * 4 * logits
    return 4 * max(attention, features, upscaled)


def fused_tile_bytes(architecture: Architecture) -> int:
    """About how much memory a tile takes in the fast network on a GPU, in bytes, in float32.

    The larger of a global block's attention (qkv twice, queries and keys with their positions,
    products with the positions), its MLP, and the decoder's last layers (their input at twice the
    logits' resolution, K groups of D/8 features twice). On a CPU torch's profiler gave 244 MB for
    this network with vit_b and 10 classes, scores left out as fused kernels do; bf16 takes half.
    """
    backbone = architecture.backbone
    tokens, width = architecture.grid_size**2, backbone.decoder_dim // 8
    by_head = 2 * (backbone.dim // backbone.heads + 2 * architecture.grid_size)
    attention = 6 * backbone.dim + backbone.heads * (by_head + 4 * architecture.grid_size)
    mlp = 2 * (MLP_RATIO * backbone.dim + backbone.dim // 4) + 4 * backbone.dim
    logits = (architecture.tile_size // architecture.stride) ** 2
    decoder = logits * (4 * 2 * width + 2 * architecture.num_classes * width)
    return 4 * max(tokens * attention, tokens * mlp, decoder)
