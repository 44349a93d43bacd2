"""The Processing provider: its algorithms, its options, and the models it offers."""

# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider, QgsSettings, QgsTask
from qgis.PyQt.QtGui import QIcon

from . import program
from .evaluate import Evaluate
from .predict import Predict
from .preview import Preview
from .vectorize import Vectorize

PATH = "CWSAM_GEO_PATH"
"""Name of the option with the program's path."""

_MODELS = "cwsam_geo/models"
"""Key of QGIS's settings under which the names of the models are kept between two starts: asking
the program for them takes seconds, too long for the start of QGIS."""


def program_path():
    """Path of the program; None where it is not there."""
    return program.find(ProcessingConfig.getSetting(PATH) or "")


def known_models():
    """Names of the models that the program listed last."""
    kept = QgsSettings().value(_MODELS, [])
    # Qt's settings return a list of one text as the text.
    return [kept] if isinstance(kept, str) else list(kept or [])


class CwsamGeoProvider(QgsProcessingProvider):
    """Algorithms that run ``cwsam-geo``."""

    def __init__(self):
        super().__init__()
        self._task = None

    def load(self):
        """Adds the option with the program's path, and the algorithms."""
        text = "Path of the program cwsam-geo, or of its virtual environment (empty: search)"
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(self.name(), PATH, text, "", valuetype=Setting.FILE, validator=None)
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Removes the option."""
        ProcessingConfig.removeSetting(PATH)

    def loadAlgorithms(self):  # noqa: N802 (QGIS calls this name)
        """Adds the algorithms."""
        for algorithm in (Predict, Vectorize, Evaluate, Preview):
            self.addAlgorithm(algorithm())

    def refresh_models(self):
        """Asks the program for its models; the list stays as it is where that fails."""
        path = program_path()
        if path is None:
            return
        try:
            names = program.models(path)
        except program.ProgramError:
            return
        self._keep(names)

    def refresh_models_in_background(self):
        """As ``refresh_models``, while QGIS goes on."""
        path = program_path()
        if path is None:
            return
        self._task = QgsTask.fromFunction(
            "cwsam-geo: list the models",
            lambda task: program.models(path),
            on_finished=lambda error, names=None: None if error else self._keep(names),
        )
        QgsApplication.taskManager().addTask(self._task)

    def _keep(self, names):
        if names and names != known_models():
            QgsSettings().setValue(_MODELS, names)
            self.refreshAlgorithms()

    def id(self):
        """Prefix of the algorithms: ``cwsam_geo:predict``."""
        return "cwsam_geo"

    def name(self):
        """Name in the toolbox."""
        return "cwsam-geo"

    def icon(self):
        """Icon in the toolbox."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))

    def svgIconPath(self):  # noqa: N802 (QGIS calls this name)
        """Path of the icon."""
        return str(Path(__file__).with_name("icon.svg"))

    def supportsNonFileBasedOutput(self):  # noqa: N802 (QGIS calls this name)
        """False: the program writes files, no layers in memory or in a database."""
        return False

    def supportedOutputVectorLayerExtensions(self):  # noqa: N802 (QGIS calls this name)
        """Suffixes that ``cwsam-geo vectorize`` writes; GeoPackage comes with its style."""
        return ["gpkg", "fgb", "geojson", "shp", "parquet", "kml"]

    def supportedOutputRasterLayerExtensions(self):  # noqa: N802 (QGIS calls this name)
        """Suffixes that ``cwsam-geo predict`` writes."""
        return ["tif"]

    def defaultVectorFileExtension(self, hasGeometry=True):  # noqa: N802, N803 (QGIS's names)
        """Suffix of temporary vector layers."""
        return "gpkg"

    def defaultRasterFileExtension(self):  # noqa: N802 (QGIS calls this name)
        """Suffix of temporary rasters."""
        return "tif"
