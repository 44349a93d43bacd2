"""How much the position of the tiles matters: maps of a scene whose tiles lie elsewhere.

    python experiments/tile_position.py SCENE... --shift 30,64,101

The first rows and columns of a scene are cut off, so that all tiles lie so many pixels further down
and to the right. The map of the rest is compared with the same part of the map of the whole scene:
the share of pixels whose class differs, and the IoU of the first class, over all scenes. Every
difference comes from the position of the tiles; ``predict --bounds`` avoids it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray

import cwsam_geo
from cwsam_geo.core.legend import NODATA


@click.command()
@click.argument("scenes", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-m", "--model", default="s1-water", show_default=True)
@click.option("--shift", "shifts", default="30,64,101", show_default=True, metavar="PX,...")
@click.option("--overlap", type=int, help="Overlap of the tiles in pixels.")
@click.option("--tta", is_flag=True, help="Average over four flips.")
def main(scenes: tuple[str, ...], model: str, shifts: str, **options: Any) -> None:
    """Maps each scene whole and shifted, and prints how much the maps differ."""
    how = cwsam_geo.PredictOptions(model=model, **options)
    for shift in map(int, shifts.split(",")):
        counts = sum(_compared(Path(scene), how, shift) for scene in scenes)
        different, pixels, both, either = np.asarray(counts).tolist()
        print(
            f"shifted by {shift} px: {100 * different / pixels:.2f} % of the pixels differ, "
            f"IoU of the first class {both / max(either, 1):.3f}"
        )


def _compared(scene: Path, how: cwsam_geo.PredictOptions, shift: int) -> NDArray[np.int64]:
    """Pixels that differ and that are compared; of the first class in both maps and in either."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _map(scene, Path(folder, "whole.tif"), how)[shift:, shift:]
        rest = _map(_cut(scene, Path(folder, "cut.tif"), shift), Path(folder, "rest.tif"), how)
    valid = (whole != NODATA) & (rest != NODATA)
    first = min(np.unique(whole[valid]), default=0)
    a, b = (whole == first) & valid, (rest == first) & valid
    counts = ((whole != rest) & valid).sum(), valid.sum(), (a & b).sum(), (a | b).sum()
    return np.array(counts, np.int64)


def _map(scene: Path, output: Path, how: cwsam_geo.PredictOptions) -> NDArray[np.uint8]:
    cwsam_geo.predict_scene(scene, output, how)
    with rasterio.open(output) as file:
        classes: NDArray[np.uint8] = file.read(1)
    return classes


def _cut(scene: Path, output: Path, shift: int) -> Path:
    """The scene without its first rows and columns."""
    with rasterio.open(scene) as file:
        window = rasterio.windows.Window(shift, shift, file.width - shift, file.height - shift)
        profile = {"driver": "GTiff", "crs": file.crs, "transform": file.window_transform(window),
                   "height": window.height, "width": window.width, "count": file.count,
                   "dtype": file.dtypes[0], "nodata": file.nodata}  # fmt: skip
        with rasterio.open(output, "w", **profile) as part:
            part.write(file.read(window=window))
            part.descriptions, part.units = file.descriptions, file.units
    return output


if __name__ == "__main__":
    main()
