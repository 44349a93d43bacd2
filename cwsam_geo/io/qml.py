"""Writes a QGIS style beside a class raster, which QGIS applies when it opens the raster.

A palette in a GeoTIFF has 256 entries, and QGIS lists them all as classes. The style lists only the
classes of the legend, with their names.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

from cwsam_geo.atomic import atomic_output
from cwsam_geo.core.legend import Legend


def qml_path(raster: str | os.PathLike[str]) -> Path:
    """Where QGIS looks for the style of a raster."""
    return Path(raster).with_suffix(".qml")


def write_qml(raster: str | os.PathLike[str], legend: Legend, overwrite: bool = False) -> None:
    """Writes the style of the classes in band 1 of a raster.

    Raises:
        UsageError: The style exists and may not be replaced.
        OutputError: The style cannot be written.
    """
    with atomic_output(qml_path(raster), overwrite) as temporary:
        temporary.write_text(raster_qml(legend), encoding="utf-8")


def raster_qml(legend: Legend) -> str:
    """The XML of a QGIS style for a band of class codes."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for entry in sorted(legend.entries, key=lambda e: e.code):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(entry.code),
            color=entry.color,
            alpha="255",
            label=entry.name,
        )
    ElementTree.SubElement(root, "blendMode").text = "0"
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + ElementTree.tostring(root, encoding="unicode")
