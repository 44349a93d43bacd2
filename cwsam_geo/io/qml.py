"""Writes a QGIS style beside a class raster, which QGIS applies when it opens the raster.

A palette in a GeoTIFF has 256 entries, and QGIS lists them all as classes. The style lists only the
classes of the legend, with their names.

The last line of a style holds a checksum of the lines above. QGIS leaves it out of the styles that
it saves, and whoever edits the file breaks it: so a user's own style is known, and never replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from xml.etree import ElementTree

from cwsam_geo.atomic import atomic_output, check_output
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import UsageError

_NULL_GEOMETRY = 4
"""QGIS's number of layers without a geometry. QGIS also offers the style of ``map.tif`` to polygons
in ``map.gpkg``, and refuses it there because their geometry is another one."""

_SIGNED = re.compile(r"(?P<style>.*)<!-- cwsam-geo (?P<checksum>[0-9a-f]{64}) -->\s*", re.DOTALL)

_LARGEST = 1 << 20
"""Bytes of a style that cwsam-geo may have written: 255 classes take 30 kB."""


def qml_path(raster: str | os.PathLike[str]) -> Path:
    """Where QGIS looks for the style of a raster."""
    return Path(raster).with_suffix(".qml")


def has_users_style(raster: str | os.PathLike[str]) -> bool:
    """Whether a style lies beside a raster that cwsam-geo has not written as it is."""
    path = qml_path(raster)
    return os.path.lexists(path) and _written(path) is None


def check_qml(
    raster: str | os.PathLike[str], legend: Legend, overwrite: bool = False
) -> str | None:
    """Checks that the style of a raster can be written.

    Returns:
        A remark, if the user has a style there: it is kept. Else None.

    Raises:
        UsageError: A style that cwsam-geo wrote is there, has other classes, and may not be
            replaced. QGIS would show the raster with them.
        OutputError: The folder cannot be written.
    """
    path = qml_path(raster)
    if has_users_style(raster):
        return f"{path}: a style that you have made or changed, so it is kept"
    if path.exists() and not overwrite and _written(path) != raster_qml(legend):
        raise UsageError(
            f"{path}: is left over from an earlier map and names other classes; remove it, or "
            "pass --overwrite"
        )
    check_output(path, overwrite=True)
    return None


def write_qml(raster: str | os.PathLike[str], legend: Legend, overwrite: bool = False) -> None:
    """Writes the style of the classes in band 1 of a raster, unless the user has a style there.

    Raises:
        UsageError: See ``check_qml``.
        OutputError: The style cannot be written.
    """
    if check_qml(raster, legend, overwrite) is not None:
        return
    style = raster_qml(legend)
    with atomic_output(qml_path(raster), overwrite=True) as temporary:
        signed = f"{style}<!-- cwsam-geo {_checksum(style)} -->\n"
        temporary.write_text(signed, encoding="utf-8", newline="")


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
    ElementTree.SubElement(root, "layerGeometryType").text = str(_NULL_GEOMETRY)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return f"{doctype}{ElementTree.tostring(root, encoding='unicode')}\n"


def _written(path: Path) -> str | None:
    """The style in a file as cwsam-geo wrote it; None for any other file."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        found = _SIGNED.fullmatch(path.read_bytes().decode())
    except (OSError, ValueError):  # ValueError: not UTF-8
        return None
    if found is None or _checksum(found["style"]) != found["checksum"]:
        return None
    return found["style"]


def _checksum(style: str) -> str:
    return hashlib.sha256(style.encode()).hexdigest()
