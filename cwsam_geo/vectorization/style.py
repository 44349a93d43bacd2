"""The QGIS style in a GeoPackage, with which the layer opens in the legend's colours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from xml.etree import ElementTree

# The table from which QGIS reads the styles of a GeoPackage's layers.
_TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
    f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""
# Registers the table as one without geometry.
_CONTENTS = """
INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)
"""
_ROW = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,
    styleName, styleQML, styleSLD, useAsDefault, description, owner)
VALUES ('', '', ?, ?, ?, ?, '', 1, 'colours of the classes', '')
"""

Category = tuple[int, str, str]
"""Value, name and ``#rrggbb`` of a class."""


def embed_style(
    path: str | os.PathLike[str], layer: str, geometry: str, classes: Sequence[Category]
) -> None:
    """Stores a style in a GeoPackage as the default of a layer.

    Args:
        path: The GeoPackage.
        geometry: Name of the layer's geometry column.
        classes: Classes to colour by ``class_id``.
    """
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(_TABLE)
        database.execute(_CONTENTS)
        database.execute(_ROW, (layer, geometry, layer[:30], qml(classes)))


def qml(classes: Sequence[Category]) -> str:
    """The XML of a QGIS style that colours features by ``class_id``."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol",
        attr="class_id",
        symbollevels="0",
        enableorderby="0",
        forceraster="0",
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for i, (value, name, color) in enumerate(classes):
        ElementTree.SubElement(
            categories,
            "category",
            render="true",
            symbol=str(i),
            value=str(value),
            label=name,
            type="long",
        )
        _symbol(symbols, str(i), color)
    ElementTree.SubElement(root, "layerGeometryType").text = "2"
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(
        root, encoding="unicode"
    )


def _symbol(symbols: ElementTree.Element, name: str, color: str) -> None:
    symbol = ElementTree.SubElement(
        symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0"
    )
    layer = ElementTree.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    )
    rgb = ",".join(str(v) for v in bytes.fromhex(color[1:]))
    settings = {
        "color": f"{rgb},255",
        "style": "solid",
        "outline_style": "no",
        "outline_color": f"{rgb},255",
        "joinstyle": "miter",
    }
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in settings.items():
        ElementTree.SubElement(options, "Option", type="QString", name=key, value=value)
        # QGIS before 3.26 reads "prop" elements instead.
        ElementTree.SubElement(layer, "prop", k=key, v=value)
