"""A model's tensors by name: checks, interpolation of positions to a tile size, hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cwsam_geo.errors import ModelError
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.network.cwsam import Cwsam

Shape = tuple[int, ...]
_SHOWN = 5
"""Names that an error message lists at most."""


class _WithoutValues(TorchFunctionMode):
    """Leaves out the initial values of tensors on the ``meta`` device, which have none.

    To draw random numbers for them, torch would import its compiler with sympy. This takes as long
    as importing torch itself.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.randn:
            function = torch.empty
        values = (*args, *(kwargs or {}).values())
        tensor = next((value for value in values if isinstance(value, Tensor)), None)
        if tensor is not None and getattr(function, "__name__", "") in _INITIALISERS:
            return tensor
        return function(*args, **(kwargs or {}))


_INITIALISERS = frozenset(
    {
        *("normal_", "uniform_", "kaiming_uniform_", "trunc_normal_", "xavier_uniform_"),
        *("fill_", "zero_", "zeros_", "ones_", "constant_", "mul", "__rmul__"),
    }
)
"""Names of torch's functions that give tensors values, and by which these are scaled."""


def skeleton(architecture: Architecture) -> Cwsam:
    """Makes a model without memory for its tensors (on torch's ``meta`` device)."""
    with torch.device("meta"), _WithoutValues():
        return Cwsam(architecture)


@lru_cache(maxsize=16)
def _shapes(architecture: Architecture) -> tuple[dict[str, Shape], frozenset[str]]:
    model = skeleton(architecture)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    return shapes, frozenset(model.trainable_parameters())


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Returns the shapes of all tensors of a model, by name."""
    return dict(_shapes(architecture)[0])


def trainable_names(architecture: Architecture) -> frozenset[str]:
    """Returns the names of the tensors that fine-tuning trains."""
    return _shapes(architecture)[1]


def check_tensors(
    tensors: Mapping[str, Tensor], architecture: Architecture, names: Iterable[str]
) -> None:
    """Checks that exactly the tensors ``names`` are present, in the architecture's shapes.

    The encoder's positions may be for another tile size; ``fit_positions`` interpolates them.

    Raises:
        ModelError: Tensors are missing, unexpected, of a wrong shape or not floating-point; the
            message names them.
    """
    shapes, required = expected_shapes(architecture), set(names)
    missing, unexpected = sorted(required - set(tensors)), sorted(set(tensors) - required)
    if missing or unexpected:
        parts = [
            f"{what} {_some(keys)}"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise ModelError(f"tensors do not match the architecture: {'; '.join(parts)}")
    misfits = [
        f"{name} is {list(tensors[name].shape)}, not {list(shapes[name])}"
        for name in sorted(required)
        if not _fits(name, tuple(tensors[name].shape), shapes[name], architecture)
    ]
    if misfits:
        raise ModelError(f"tensors of a wrong shape: {_some(misfits)}")
    integers = [name for name in sorted(required) if not tensors[name].dtype.is_floating_point]
    if integers:
        raise ModelError(f"tensors that are not of floating-point numbers: {_some(integers)}")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Checks that no tensor holds NaN or infinity, as after a training that diverged.

    A model with such tensors would assign the first class to every pixel.

    Raises:
        ModelError: Tensors hold values that are not finite; the message names them.
    """
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ModelError(f"tensors with values that are not finite numbers: {_some(broken)}")


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{', '.join(items[:_SHOWN])}{more}"


def _fits(name: str, shape: Shape, expected: Shape, architecture: Architecture) -> bool:
    if shape == expected:
        return True
    if name not in position_names(architecture) or len(shape) != len(expected):
        return False
    # The position embedding is (1, h, w, D), a table of relative positions (2 * size - 1, d).
    if len(shape) == 4:
        return shape[0] == 1 and shape[1] == shape[2] >= 1 and shape[3] == expected[3]
    return shape[0] % 2 == 1 and shape[1] == expected[1]


def position_names(architecture: Architecture) -> list[str]:
    """Returns the names of the encoder's tensors whose shape depends on the tile size."""
    tables = [
        f"encoder.blocks.{i}.attn.rel_pos_{axis}"
        for i in architecture.backbone.global_blocks
        for axis in "hw"
    ]
    return ["encoder.pos_embed", *tables]


def fit_positions(tensors: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Interpolates positions that were made for another tile size.

    Returns:
        All tensors of the model; those with the right shape are the same objects as before.
    """
    shapes, fitted = expected_shapes(architecture), dict(tensors)
    for name in position_names(architecture):
        tensor, shape = tensors[name], shapes[name]
        if tuple(tensor.shape) == shape:
            continue
        if tensor.ndim == 4:
            # Position embedding (1, h, w, D): bicubic.
            image = tensor.float().permute(0, 3, 1, 2)
            image = F.interpolate(image, shape[1:3], mode="bicubic", align_corners=False)
            fitted[name] = image.permute(0, 2, 3, 1).contiguous()
        else:
            # Relative positions (2 * size - 1, d): linear, like SAM's ``get_rel_pos``.
            line = F.interpolate(tensor.float().T[None], shape[0], mode="linear")
            fitted[name] = line[0].T.contiguous()
    return fitted


def assemble(tensors: Mapping[str, Tensor], architecture: Architecture) -> Cwsam:
    """Makes a model from its tensors, in float32, on their device, in evaluation mode.

    Raises:
        ModelError: See ``check_tensors``.
    """
    check_tensors(tensors, architecture, expected_shapes(architecture))
    fitted = fit_positions(tensors, architecture)
    model = skeleton(architecture)
    # Copied, so that training the model does not change the bundle it was made from.
    state = {n: t.detach().to(torch.float32, copy=True).contiguous() for n, t in fitted.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Computes a hash of tensors that does not depend on the file that holds them.

    The hash covers name, dtype, shape and bytes (row-major) of each tensor, in order of names.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
