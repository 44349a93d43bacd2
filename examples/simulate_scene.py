"""Simulates a Sentinel-1 scene (VV, VH) with its land cover, of any size, as GeoTIFFs.

    python simulate_scene.py scene.tif scene_truth.tif --height 768 --width 1024

The truth is a class raster on the scene's grid, as ``cwsam-geo predict`` writes them, so that
``cwsam-geo evaluate`` can compare the two. Scenes are made strip by strip; a whole Sentinel-1
scene of 26,000 x 17,000 pixels needs some hundred megabytes of memory. What is simulated, and
from which sources, stands in ``simulator/radar.py`` and ``simulator/landscape.py``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Threads share the blocks; threads of the linear algebra would only be in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

sys.path.insert(0, str(Path(__file__).parent))

from simulator.landscape import LEGEND
from simulator.scene import BLOCK_SHAPE, Scene, SceneSpec

from cwsam_geo.atomic import atomic_output, check_output
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError
from cwsam_geo.io.raster_sink import RasterLayout, RasterSink, raster_sink

UNITS_TEXT = {"db": "dB", "power": "power", "amplitude": "amplitude"}


@dataclass(frozen=True)
class Storage:
    """How the scene is stored.

    Attributes:
        layout: ``tiled`` (256 x 256) or ``strip`` (one line each, as GRD products are).
        compress: GDAL's name of the compression, or ``none``.
        step: Values are rounded to multiples of this; 0 keeps them as they are. Powers of two
            (0.0625 dB) compress best.
    """

    layout: str = "tiled"
    compress: str = "deflate"
    step: float = 0.0

    def profile(self, grid: SceneGrid) -> dict[str, Any]:
        """Options for ``rasterio.open``."""
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": grid.height,
            "width": grid.width,
            "count": grid.count,
            "dtype": grid.dtype,
            "nodata": grid.nodata,
            "crs": grid.crs,
            "transform": grid.transform,
            "interleave": "band",
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }
        if self.compress != "none":
            predictor = 3 if grid.dtype == "float32" else 2
            profile |= {"compress": self.compress, "predictor": predictor}
            profile |= {"zlevel": 6} if self.compress == "deflate" else {"zstd_level": 1}
        if self.layout == "tiled":
            return profile | {"tiled": True, "blockxsize": 256, "blockysize": 256}
        return profile | {"tiled": False, "blockysize": 1}


def write_scene(
    scene_path: str | os.PathLike[str],
    truth_path: str | os.PathLike[str] | None,
    spec: SceneSpec,
    storage: Storage | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
) -> None:
    """Simulates a scene and writes it, with its truth, strip by strip.

    Args:
        scene_path: GeoTIFF of backscatter to write.
        truth_path: GeoTIFF of class codes to write, uint8, nodata 255, with palette and legend;
            None for no truth.
        spec: What to simulate.
        storage: How the scene is stored.
        jobs: Threads; all processors when None.
        overwrite: Replace files that are there.

    Raises:
        UsageError: An output exists, both outputs are the same, or the CRS is unknown.
        OutputError: An output cannot be written.
    """
    grid, storage = spec.grid, storage or Storage()
    if truth_path is not None:
        if Path(truth_path).resolve() == Path(scene_path).resolve():
            raise UsageError(f"{truth_path}: the scene and its truth need different names")
        check_output(truth_path, overwrite)
    jobs = jobs or os.cpu_count() or 1
    scene = Scene(spec)
    try:
        with (
            atomic_output(scene_path, overwrite) as temporary,
            rasterio.open(temporary, "w", **storage.profile(grid)) as target,
            _truth_sink(truth_path, grid, overwrite) as sink,
        ):
            target.descriptions = spec.bands
            target.units = (UNITS_TEXT[spec.units],) * grid.count
            target.update_tags(SIMULATED=f"cwsam-geo examples/simulate_scene.py, seed {spec.seed}")
            _write_strips(scene, storage.step, jobs, (target, sink))
    except RasterioError as error:
        raise OutputError(f"{scene_path}: cannot be written: {error}") from error


@contextlib.contextmanager
def _truth_sink(
    path: str | os.PathLike[str] | None, grid: SceneGrid, overwrite: bool
) -> Iterator[RasterSink | None]:
    if path is None:
        yield None
        return
    layout = RasterLayout(
        format="GTiff",
        legend=LEGEND,
        descriptions=("land cover",),
        tags={"LEGEND": LEGEND.to_json()},
    )
    with raster_sink(path, grid, layout, overwrite) as sink:
        yield sink


def _write_strips(
    scene: Scene, step: float, jobs: int, outputs: tuple[Any, RasterSink | None]
) -> None:
    target, sink = outputs
    height, width = scene.spec.height, scene.spec.width
    for top in range(0, height, BLOCK_SHAPE[0]):
        window = Window(top, 0, min(BLOCK_SHAPE[0], height - top), width)
        values, classes = scene.read(window, jobs)
        if step:
            values = np.rint(values / np.float32(step)) * np.float32(step)
        target.write(
            values.astype(scene.spec.dtype, copy=False),
            window=RasterWindow(0, top, width, window.height),
        )
        if sink is not None:
            sink.write(window, classes)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("scene", type=click.Path())
@click.argument("truth", type=click.Path(), required=False)
@click.option("--height", type=click.IntRange(1), default=768, help="Rows.")
@click.option("--width", type=click.IntRange(1), default=1024, help="Columns.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which landscape and speckle.")
@click.option("--bands", default="vv,vh", help="vv, vh or both, in this order.")
@click.option("--units", type=click.Choice(list(UNITS_TEXT)), default="db", help="Of the values.")
@click.option("--dtype", type=click.Choice(["float32", "uint16"]), default="float32")
@click.option("--nodata", type=float, help="Value outside the swath.  [default: NaN; 0 in uint16]")
@click.option("--crs", default="EPSG:32633", help="Map projection, in metres; pixels are 10 m.")
@click.option("--tilt", type=float, default=4.0, help="Lean of the swath in degrees; 0: no border.")
@click.option("--looks", type=float, default=6.0, help="Equivalent number of looks.")
@click.option("--layout", type=click.Choice(["tiled", "strip"]), default="tiled")
@click.option(
    "--compress", type=click.Choice(["deflate", "zstd", "none"]), default="deflate", help="Codec."
)
@click.option("--step", type=click.FloatRange(0), default=0.0, help="Round values to multiples.")
@click.option("--jobs", type=click.IntRange(1), help="Threads.  [default: all processors]")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def main(**options: Any) -> None:
    """Simulate a Sentinel-1 SCENE and its land cover TRUTH, two GeoTIFFs on one grid."""
    storage = Storage(**{k: options.pop(k) for k in ("layout", "compress", "step")})
    outputs = {k: options.pop(k) for k in ("scene", "truth", "jobs", "overwrite")}
    options["bands"] = tuple(b.strip().upper() for b in options["bands"].split(","))
    try:
        write_scene(
            outputs["scene"],
            outputs["truth"],
            SceneSpec(**options),
            storage,
            jobs=outputs["jobs"],
            overwrite=outputs["overwrite"],
        )
    except CwsamGeoError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
