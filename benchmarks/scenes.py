"""Scenes for the benchmarks, of any size, made by the simulator in examples/ and kept."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

# The simulator's threads share the blocks; numpy's own would only be in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from simulate_scene import Storage, write_scene
from simulator.scene import SceneSpec

FULL_HEIGHT, FULL_WIDTH = 16_685, 25_788
"""Rows and columns of a real Sentinel-1 IW GRDH scene: 430 Mpx."""

UNCOMPRESSED = Storage(compress="none")


def size_of(megapixels: float) -> tuple[int, int]:
    """Rows and columns of a scene of about so many million pixels, shaped as a real one."""
    share = (megapixels * 1e6 / (FULL_HEIGHT * FULL_WIDTH)) ** 0.5
    return max(1, round(FULL_HEIGHT * share)), max(1, round(FULL_WIDTH * share))


def benchmark_scene(
    folder: Path,
    size: tuple[int, int],
    storage: Storage = UNCOMPRESSED,
    spec: SceneSpec | None = None,
) -> Path:
    """A simulated scene in ``folder``; it is made once.

    Args:
        folder: Where scenes are kept.
        size: Rows and columns.
        storage: How it is stored.
        spec: What is in it, but for its size; by default VV and VH in dB with a border of nodata
            that leans by one degree, so that nearly every tile holds data.

    Returns:
        Its path.
    """
    height, width = size
    spec = replace(spec or SceneSpec(1, 1, tilt=1.0), height=height, width=width)
    parts = (
        "-".join(spec.bands), spec.units, spec.dtype, spec.seed, spec.tilt, storage.layout,
        storage.compress, storage.step,
    )  # fmt: skip
    name = f"scene_{height}x{width}_{'_'.join(map(str, parts))}.tif"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        write_scene(path, None, spec, storage)
    return path
