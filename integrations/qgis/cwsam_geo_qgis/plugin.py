"""Registers the Processing provider while the plugin is loaded."""

# SPDX-License-Identifier: GPL-2.0-or-later

from qgis.core import QgsApplication

from .provider import CwsamGeoProvider


class CwsamGeoPlugin:
    """The plugin, as QGIS loads and unloads it.

    Args:
        iface: QGIS's interface; None in ``qgis_process``.
    """

    def __init__(self, iface):
        self.iface = iface
        self.provider = None

    def initProcessing(self):  # noqa: N802 (QGIS calls this name)
        """Adds the provider; ``qgis_process`` calls this alone."""
        self.provider = CwsamGeoProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802 (QGIS calls this name)
        """Adds the provider, and asks the program for its models in the background."""
        self.initProcessing()
        self.provider.refresh_models_in_background()

    def unload(self):
        """Removes the provider."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
