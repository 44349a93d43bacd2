"""Writes class names where GDAL, QGIS and ArcGIS look for them: in the ``.aux.xml`` of a raster.

GeoTIFF has a palette but no class names. GDAL keeps what a format cannot hold in an XML file beside
the raster, its Persistent Auxiliary Metadata. Here that is a list of category names, which QGIS
shows as the layer's legend, and a raster attribute table with code, number of pixels, name and
colour of each class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from cwsam_geo.core.legend import Legend

AUX_XML = ".aux.xml"
"""What GDAL appends to the name of a raster."""

# Types (GDALRATFieldType) and usages (GDALRATFieldUsage) as numbers, as GDAL writes them.
_INTEGER, _REAL, _STRING = 0, 1, 2
_COUNT, _NAME, _VALUE, _RED, _GREEN, _BLUE, _ALPHA = 1, 2, 5, 6, 7, 8, 9
# Characters that XML cannot hold.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_COLUMNS = (
    ("Value", _INTEGER, _VALUE),
    # As ArcGIS writes it. An integer of 32 bits may be too small.
    ("Count", _REAL, _COUNT),
    ("Class", _STRING, _NAME),
    ("Red", _INTEGER, _RED),
    ("Green", _INTEGER, _GREEN),
    ("Blue", _INTEGER, _BLUE),
    ("Alpha", _INTEGER, _ALPHA),
)


def write_class_names(raster: Path, legend: Legend, counts: Sequence[int]) -> None:
    """Writes the names of the classes in band 1 of a raster to the ``.aux.xml`` beside it.

    What GDAL has written to that file stays.

    Args:
        raster: The raster.
        legend: The classes.
        counts: Number of pixels of each code from 0 to 255.
    """
    path = raster.with_name(raster.name + AUX_XML)
    root = ET.parse(path).getroot() if path.exists() else ET.Element("PAMDataset")
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ET.SubElement(root, "PAMRasterBand", band="1")
    for name in ("CategoryNames", "GDALRasterAttributeTable"):
        for older in band.findall(name):
            band.remove(older)
    band.extend([category_names(legend), _attribute_table(legend, counts)])
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=False)


def category_names(legend: Legend) -> ET.Element:
    """The names of the classes as GDAL's element ``CategoryNames``."""
    # The position in the list is the code, so codes between those of the classes need a name too.
    names = {e.code: _text(e.name) for e in legend.entries}
    element = ET.Element("CategoryNames")
    for code in range(max(names) + 1):
        ET.SubElement(element, "Category").text = names.get(code, "")
    return element


def _attribute_table(legend: Legend, counts: Sequence[int]) -> ET.Element:
    element = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    for i, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(element, "FieldDefn", index=str(i))
        for key, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(column, key).text = str(value)
    for i, entry in enumerate(sorted(legend.entries, key=lambda e: e.code)):
        row = ET.SubElement(element, "Row", index=str(i))
        for value in (entry.code, counts[entry.code], _text(entry.name), *entry.rgb, 255):
            ET.SubElement(row, "F").text = str(value)
    return element


def _text(name: str) -> str:
    return _CONTROL.sub(" ", name)
