"""cwsam-geo in QGIS: land cover from SAR scenes in the Processing toolbox.

The plugin runs the program ``cwsam-geo`` as a process of its own and imports nothing of it, so that
QGIS's Python needs neither PyTorch nor rasterio.
"""

# SPDX-License-Identifier: GPL-2.0-or-later


def classFactory(iface):  # noqa: N802 (QGIS calls this name)
    """Makes the plugin for QGIS."""
    from .plugin import CwsamGeoPlugin

    return CwsamGeoPlugin(iface)
