"""SAM's own building blocks, taken from the installed segment-anything.

``import segment_anything`` imports torchvision, which CWSAM does not need. The ``modeling``
subpackage needs torch only, so it is loaded on its own under a private name. This does not
interfere with a user's ``import segment_anything``.
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
    except ValueError:  # a module of that name without a spec is loaded already
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
    # Registered before it runs, because its relative imports look it up there.
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
"""Linear layers with ReLU between them; the mask decoder's hypernetwork is one."""
TwoWayTransformer: Callable[..., nn.Module] = _transformer.TwoWayTransformer
"""Maps image embedding, its positional encoding and tokens to tokens and image tokens."""
PositionEmbeddingRandom: Callable[..., nn.Module] = _prompt.PositionEmbeddingRandom
"""Random Fourier features, shape (D, h, w), of a grid (h, w)."""
get_rel_pos: Callable[[int, int, Tensor], Tensor] = _encoder.get_rel_pos
"""Looks up relative positions (q, k, D) in a table (2 * size - 1, D)."""
window_partition: Callable[[Tensor, int], tuple[Tensor, tuple[int, int]]]
window_partition = _encoder.window_partition
"""Pads tokens (B, h, w, D) and cuts them into windows (B * windows, size, size, D).

It also returns the padded height and width.
"""
window_unpartition: Callable[[Tensor, int, tuple[int, int], tuple[int, int]], Tensor]
window_unpartition = _encoder.window_unpartition
"""Puts windows together again to tokens (B, h, w, D) without padding."""
