"""Draws a scene, its class raster, and its polygons over the scene.

python make_picture.py scene.tif landcover.tif landcover.gpkg picture.png
"""

import json
import sys

import geopandas
import matplotlib
import numpy as np
import rasterio.plot
from matplotlib import pyplot
from matplotlib.patches import Patch

matplotlib.use("Agg")


def draw(scene: str, classes: str, polygons: str, picture: str) -> None:
    """Writes the picture: band 1 from its 2 to its 98 % quantile, classes in their colours."""
    with rasterio.open(scene) as file:
        band, extent = file.read(1, masked=True), rasterio.plot.plotting_extent(file)
    with rasterio.open(classes) as file:
        codes, palette = file.read(1), file.colormap(1)
        legend = json.loads(file.tags()["LEGEND"])
    frame = geopandas.read_file(polygons, layer=0)
    colors = {entry["code"]: entry["color"] for entry in legend}
    low, high = np.percentile(band[np.isfinite(band)].compressed(), [2, 98])
    table = np.array([palette.get(code, (0, 0, 0, 0)) for code in range(256)], np.uint8)

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    axes[0].imshow(band, cmap="gray", vmin=low, vmax=high, extent=extent)
    axes[1].imshow(table[codes], extent=extent, interpolation="nearest")
    axes[2].imshow(band, cmap="gray", vmin=low, vmax=high, extent=extent)
    fill = frame.class_id.map(colors)
    frame.plot(ax=axes[2], color=fill, edgecolor="black", linewidth=0.4, alpha=0.55)
    axes[2].set_xlim(axes[1].get_xlim())
    axes[2].set_ylim(axes[1].get_ylim())
    for ax in axes:
        ax.set_axis_off()
    handles = [Patch(color=entry["color"], label=entry["name"]) for entry in legend]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    draw(*sys.argv[1:])
