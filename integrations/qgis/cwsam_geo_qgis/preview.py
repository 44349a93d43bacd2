"""``cwsam-geo preview`` in the toolbox: a picture of a map or a scene, with its legend."""

# SPDX-License-Identifier: GPL-2.0-or-later

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsVectorLayer,
)

from .algorithm import ProgramAlgorithm

LAYOUTS = ["side", "blend"]


class Preview(ProgramAlgorithm):
    """Draws a picture."""

    COMMAND = "preview"
    TITLE = "Preview land cover"
    HELP = (
        "Draws a map, a scene, or both, as a picture for a report: with legend, scale bar, north "
        "arrow and coordinates. It reads overviews or a sample only, so that a whole scene takes "
        "seconds. A reference is shown beside the map, with the places where the two agree."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802 (QGIS calls this name)
        """Adds the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Land cover, or a scene"),
            "A map of Predict, or a SAR scene alone.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("SCENE", "Scene of the map", optional=True),
            "Shown beside the map, or below it.",
        )
        self.add(
            QgsProcessingParameterEnum(
                "LAYOUT", "Scene and map", LAYOUTS, defaultValue="side", usesStaticStrings=True
            ),
            "side: beside each other; blend: the map over the scene.",
        )
        polygons = [QgsProcessing.TypeVectorPolygon]
        self.add(
            QgsProcessingParameterVectorLayer("VECTORS", "Polygons", polygons, optional=True),
            "Drawn over the scene.",
        )
        self.add(
            QgsProcessingParameterMapLayer(
                "REFERENCE",
                "Reference",
                types=[QgsProcessing.TypeRaster, QgsProcessing.TypeVectorPolygon],
                optional=True,
            ),
            "Class raster or polygons, shown beside the map.",
        )
        self.add(QgsProcessingParameterString("TITLE", "Title", optional=True))
        self.add(
            QgsProcessingParameterNumber(
                "SIZE", "Longer side (px)", defaultValue=1600, minValue=300, maxValue=10_000
            )
        )
        pictures = "PNG files (*.png);;PDF files (*.pdf);;SVG files (*.svg)"
        self.add(QgsProcessingParameterFileDestination("OUTPUT", "Picture", pictures))

    def inputs(self, parameters, context):
        """Arguments of the command for all parameters but the outputs."""
        arguments = [self.raster_file(parameters, "INPUT", context)]
        scene = self.raster_file(parameters, "SCENE", context)
        if scene:
            layout = self.parameterAsEnumString(parameters, "LAYOUT", context)
            arguments += ["--scene", scene, "--layout", layout]
        polygons = self.parameterAsVectorLayer(parameters, "VECTORS", context)
        if polygons is not None:
            arguments += ["--vectors", self.vector_file(polygons, context)[0]]
        reference = self.parameterAsLayer(parameters, "REFERENCE", context)
        if isinstance(reference, QgsVectorLayer):
            arguments += ["--reference", self.vector_file(reference, context)[0]]
        elif reference is not None:
            arguments += ["--reference", self.raster_file(parameters, "REFERENCE", context)]
        title = self.parameterAsString(parameters, "TITLE", context)
        if title:
            arguments.append(f"--title={title}")
        return [*arguments, "--size", self.parameterAsInt(parameters, "SIZE", context)]

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802 (QGIS calls this name)
        """Runs the command."""
        output = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        self.execute(["-o", output], feedback)
        feedback.pushInfo(f"Picture: {output}")
        return {"OUTPUT": output}
