"""Writes a mosaic as GDAL's virtual raster: an XML file that refers to the maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import rasterio

from cwsam_geo.atomic import atomic_output, real_file
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.errors import SceneError
from cwsam_geo.io.aux_xml import category_names
from cwsam_geo.io.raster_file import environment
from cwsam_geo.mosaicking.layers import Layer


def write_vrt(
    target: Path,
    grid: SceneGrid,
    placed: Sequence[tuple[Layer, Window]],
    tags: Mapping[str, str],
    overwrite: bool,
) -> None:
    """Writes a VRT of maps whose pixels coincide; where they overlap, the first one counts.

    Args:
        placed: The maps, each with its window of the mosaic.
        tags: Tags of the mosaic.

    Raises:
        SceneError: A map has a mask, or codes of more than 8 bits.
        OutputError: The file cannot be written.
    """
    for layer, _ in placed:
        if not layer.plain:
            raise SceneError(
                f"{layer.path}: has a mask, or is no raster of one uint8 band, so a VRT cannot "
                "refer to it; write a *.tif"
            )
    legend = placed[0][0].legend
    folder = real_file(target).absolute().parent
    with atomic_output(target, overwrite) as temporary:
        _write_header(temporary, grid, legend, tags)
        root = ET.parse(temporary).getroot()
        band = root.find("VRTRasterBand")
        assert band is not None
        if legend is not None:
            band.append(category_names(legend))
        # The later source covers the earlier one.
        for layer, window in reversed(placed):
            _source(band, layer, window, folder)
        ET.indent(root)
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=False)
        # GDAL must be able to read it.
        with environment(remote=False), rasterio.open(temporary) as written:
            written.read(1, window=((0, 1), (0, 1)))


def _write_header(
    path: Path, grid: SceneGrid, legend: Legend | None, tags: Mapping[str, str]
) -> None:
    """Writes a VRT without sources: GDAL knows the order of the axes of each CRS."""
    profile: dict[str, Any] = {"driver": "VRT", "count": 1, "dtype": "uint8", "nodata": NODATA}
    with rasterio.open(
        path,
        "w",
        height=grid.height,
        width=grid.width,
        crs=grid.crs,
        transform=grid.transform,
        **profile,
    ) as written:
        if legend is not None:
            written.write_colormap(1, legend.colormap)
        written.set_band_description(1, "class")
        written.update_tags(**tags)


def _source(band: ET.Element, layer: Layer, window: Window, folder: Path) -> None:
    grid = layer.grid
    source = ET.SubElement(band, "ComplexSource" if grid.nodata is not None else "SimpleSource")
    try:
        name, relative = os.path.relpath(layer.path.absolute(), folder), "1"
    except ValueError:  # Another drive on Windows.
        name, relative = str(layer.path.absolute()), "0"
    ET.SubElement(source, "SourceFilename", relativeToVRT=relative).text = name
    ET.SubElement(source, "SourceBand").text = "1"
    rows, cols = grid.block_shape
    ET.SubElement(
        source,
        "SourceProperties",
        RasterXSize=str(grid.width),
        RasterYSize=str(grid.height),
        DataType="Byte",
        BlockXSize=str(cols),
        BlockYSize=str(rows),
    )
    for tag, col, row in (("SrcRect", 0, 0), ("DstRect", window.col, window.row)):
        ET.SubElement(
            source, tag, xOff=str(col), yOff=str(row), xSize=str(grid.width), ySize=str(grid.height)
        )
    if grid.nodata is not None:
        ET.SubElement(source, "NODATA").text = f"{grid.nodata:g}"
