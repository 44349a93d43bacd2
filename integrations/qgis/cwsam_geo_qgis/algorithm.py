"""What the algorithms share: inputs as files, the run of the program, its progress."""

# SPDX-License-Identifier: GPL-2.0-or-later

import os
from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterDefinition,
    QgsProcessingUtils,
    QgsProviderRegistry,
    QgsVectorFileWriter,
)
from qgis.PyQt.QtGui import QIcon

from . import program

POLYGONS = QgsProcessing.TypeVectorPolygon

_COUNTS = ("tiles", "rows", "pixels")
"""Keys of progress events that count what is done, out of ``total``."""


class ProgramAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that is one command of ``cwsam-geo``.

    A subclass has ``COMMAND`` (its name on the command line), ``TITLE`` and ``HELP``, and says in
    ``inputs`` what the parameters mean on the command line.
    """

    COMMAND = ""
    TITLE = ""
    HELP = ""

    def __init__(self):
        super().__init__()
        self._inputs = []

    def name(self):
        """Name in scripts and models."""
        return self.COMMAND

    def displayName(self):  # noqa: N802 (QGIS calls this name)
        """Name in the toolbox."""
        return self.TITLE

    def shortHelpString(self):  # noqa: N802 (QGIS calls this name)
        """Text beside the parameters."""
        return self.HELP

    def icon(self):
        """Icon in the toolbox."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))

    def createInstance(self):  # noqa: N802 (QGIS calls this name)
        """A new object of the class."""
        return type(self)()

    def canExecute(self):  # noqa: N802 (QGIS calls this name)
        """Whether the program is there, and what to do if it is not."""
        from .provider import program_path

        return (True, "") if program_path() else (False, program.MISSING)

    def add(self, parameter, help_text="", advanced=False):
        """Adds a parameter, with the text that the user sees when the mouse rests on it."""
        parameter.setHelp(help_text)
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)

    # Inputs

    def inputs(self, parameters, context):
        """Arguments of the command for all parameters but the outputs."""
        raise NotImplementedError

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802 (QGIS's name)
        """Turns layers into files here, in QGIS's main thread: layers belong to it."""
        self._inputs = self.inputs(parameters, context)
        return True

    def raster_file(self, parameters, name, context):
        """Path or GDAL name of a raster, also of a product that QGIS does not open as a layer.

        Returns:
            None where an optional raster is not given.
        """
        value = parameters.get(name)
        if isinstance(value, str) and os.path.exists(value):
            return value
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            if value in (None, ""):
                return None
            raise QgsProcessingException(self.invalidRasterError(parameters, name))
        if layer.dataProvider().name() != "gdal":
            raise QgsProcessingException(
                f"{layer.name()}: comes from {layer.dataProvider().name()}, not from a file; "
                "export it first (Layer > Save As, raw data)"
            )
        return layer.source()

    def vector_file(self, layer, context):
        """Path and layer name of a vector layer, as QGIS filters it.

        A layer with a filter, or one that is no file, is exported to a temporary GeoPackage.
        """
        if layer.dataProvider().name() == "ogr" and not layer.subsetString():
            parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
            path = parts.get("path", "")
            # OGR names layers of some formats by number.
            if os.path.exists(path) and parts.get("layerId") is None:
                return path, parts.get("layerName")
        return self.exported(layer, layer.crs(), context), None

    def exported(self, source, crs, context):
        """Writes features, only the selected ones where the user chose so, to a GeoPackage."""
        path = QgsProcessingUtils.generateTempFilename("features.gpkg")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", "features"
        writer = QgsVectorFileWriter.create(
            path, source.fields(), source.wkbType(), crs, context.transformContext(), options
        )
        if writer.hasError() != QgsVectorFileWriter.NoError:
            raise QgsProcessingException(f"{path}: {writer.errorMessage()}")
        for feature in source.getFeatures():
            writer.addFeature(feature)
        del writer  # closes the file
        return path

    def area(self, parameters, name, context):
        """Path of a file with the polygons of an area of interest; None where there is none."""
        source = self.parameterAsSource(parameters, name, context)
        return None if source is None else self.exported(source, source.sourceCrs(), context)

    # The run

    def execute(self, arguments, feedback):
        """Runs the command, shows its progress and remarks, and returns its last event.

        Args:
            arguments: Options and paths of the outputs; those of ``inputs`` come before them.
            feedback: QGIS's feedback.

        Raises:
            QgsProcessingException: The program is not there, has failed, or was cancelled.
        """
        from .provider import program_path

        path = program_path()
        if path is None:
            raise QgsProcessingException(program.MISSING)
        line = [path, self.COMMAND, *(str(a) for a in (*self._inputs, *arguments))]
        line += ["--overwrite", "--json", "--quiet"]
        feedback.pushCommandInfo(" ".join(f'"{a}"' if " " in a else a for a in line))
        last = {}

        def on_event(event):
            last.update(event)
            self.show(event, feedback)

        try:
            program.run(line, on_event, feedback.isCanceled)
        except program.ProgramError as error:
            raise QgsProcessingException(str(error)) from None
        return last

    def show(self, event, feedback):
        """Shows an event as progress or text."""
        kind = event.get("event")
        if kind == "warning":
            feedback.pushWarning(event["text"])
        elif kind == "decision":
            feedback.pushInfo(event["text"])
        elif kind == "start" and "device" in event:
            feedback.pushInfo(f"{event['width']} x {event['height']} px on {event['device']}")
        elif kind == "progress" and event.get("total"):
            done = next((event[key] for key in _COUNTS if key in event), 0)
            feedback.setProgress(100 * done / event["total"])
