"""SAM's own building blocks, taken from the installed segment-anything.

``import segment_anything`` runs an ``__init__`` that needs torchvision, which CWSAM does not. The
``modeling`` subpackage needs torch only, so it is loaded on its own under a private name; a user's
``import segment_anything`` is neither needed nor disturbed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from cwsam_geo.errors import ModelError

_PRIVATE = "_cwsam_geo_sam_modeling"
_MISSING = "segment-anything is not installed; run: pip install segment-anything"


def _load_modeling() -> ModuleType:
    if _PRIVATE in sys.modules:
        return sys.modules[_PRIVATE]
    try:
        package = importlib.util.find_spec("segment_anything")
    except ValueError:
        package = None
    folders = [Path(f) for f in (package.submodule_search_locations or [])] if package else []
    inits = [f / "modeling" / "__init__.py" for f in folders]
    init = next((i for i in inits if i.is_file()), None)
    if init is None:
        raise ModelError(_MISSING)
    spec = importlib.util.spec_from_file_location(
        _PRIVATE, init, submodule_search_locations=[str(init.parent)]
    )
    if spec is None or spec.loader is None:
        raise ModelError(_MISSING)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PRIVATE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_PRIVATE]
        raise
    return module


_load_modeling()
_common = importlib.import_module(f"{_PRIVATE}.common")
_encoder = importlib.import_module(f"{_PRIVATE}.image_encoder")
_decoder = importlib.import_module(f"{_PRIVATE}.mask_decoder")
_prompt = importlib.import_module(f"{_PRIVATE}.prompt_encoder")
_transformer = importlib.import_module(f"{_PRIVATE}.transformer")

LayerNorm2d: Callable[..., nn.Module] = _common.LayerNorm2d
"""Layer norm over the channels of (B, C, H, W)."""
MLPBlock: Callable[..., nn.Module] = _common.MLPBlock
"""Linear, GELU, Linear."""
PatchEmbed: Callable[..., nn.Module] = _encoder.PatchEmbed
"""Image (B, C, H, W) to tokens (B, h, w, D)."""
MLP: Callable[..., nn.Module] = _decoder.MLP
"""Linear layers with ReLU between them: the mask decoder's hypernetwork."""
TwoWayTransformer: Callable[..., nn.Module] = _transformer.TwoWayTransformer
"""Image embedding, its positional encoding and tokens to tokens and image tokens."""
PositionEmbeddingRandom: Callable[..., nn.Module] = _prompt.PositionEmbeddingRandom
"""Random Fourier features of a grid (h, w): (D, h, w)."""
get_rel_pos: Callable[[int, int, Tensor], Tensor] = _encoder.get_rel_pos
"""Relative positions (q, k, D) out of a table (2 * size - 1, D)."""
window_partition: Callable[[Tensor, int], tuple[Tensor, tuple[int, int]]]
window_partition = _encoder.window_partition
"""Tokens (B, h, w, D) to padded windows (B * windows, size, size, D), and the padded shape."""
window_unpartition: Callable[[Tensor, int, tuple[int, int], tuple[int, int]], Tensor]
window_unpartition = _encoder.window_unpartition
"""The way back: windows to tokens (B, h, w, D) without padding."""
