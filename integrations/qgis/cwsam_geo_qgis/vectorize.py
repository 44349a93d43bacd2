"""``cwsam-geo vectorize`` in the toolbox: a class raster becomes polygons."""

# SPDX-License-Identifier: GPL-2.0-or-later

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from .algorithm import POLYGONS, ProgramAlgorithm

CONNECTIVITY = ["4", "8"]


class Vectorize(ProgramAlgorithm):
    """Turns a class raster into polygons."""

    COMMAND = "vectorize"
    TITLE = "Vectorize land cover"
    HELP = (
        "Turns a class raster into polygons that fit together: neighbours share their vertices, "
        "without gaps or overlaps, also after simplifying and smoothing. Class names and colours "
        "are those of the raster. A GeoPackage brings its style; area_m2 is the true area on the "
        "ellipsoid."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802 (QGIS calls this name)
        """Adds the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Land cover"),
            "A map of Predict, or a class raster of another program.",
        )
        for name, title, text in (
            ("MIN_AREA", "Least area (m²)", "Smaller regions go to their largest neighbour."),
            ("SIMPLIFY", "Simplify by (m)", "Tolerance of the boundaries; 0 keeps the pixels."),
        ):
            number = QgsProcessingParameterNumber(
                name, title, QgsProcessingParameterNumber.Double, defaultValue=0, minValue=0
            )
            self.add(number, text)
        self.add(
            QgsProcessingParameterBoolean("SMOOTH", "Round the corners", defaultValue=False), ""
        )
        self.add(
            QgsProcessingParameterString("CLASSES", "Only these classes", optional=True),
            "Names or codes, separated by commas; empty for all.",
        )
        self.add(
            QgsProcessingParameterBoolean(
                "DISSOLVE", "One multipolygon for each class", defaultValue=False
            )
        )
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence raster", optional=True),
            "Each polygon gets its mean.",
        )
        self.add(
            QgsProcessingParameterCrs("TARGET_CRS", "CRS of the polygons", optional=True),
            "Empty for the raster's.",
        )
        self.add(
            QgsProcessingParameterEnum(
                "CONNECTIVITY",
                "Neighbours of a pixel",
                CONNECTIVITY,
                defaultValue="4",
                usesStaticStrings=True,
            ),
            "With 8, regions that touch at a corner are one.",
            advanced=True,
        )
        self.add(QgsProcessingParameterVectorDestination("OUTPUT", "Polygons", POLYGONS))
        self.addOutput(QgsProcessingOutputNumber("POLYGONS", "Number of polygons"))

    def inputs(self, parameters, context):
        """Arguments of the command for all parameters but the outputs."""
        arguments = [self.raster_file(parameters, "INPUT", context)]
        for name, option in (("MIN_AREA", "--min-area"), ("SIMPLIFY", "--simplify")):
            value = self.parameterAsDouble(parameters, name, context)
            if value:
                arguments += [option, repr(value)]
        for name, option in (("SMOOTH", "--smooth"), ("DISSOLVE", "--dissolve")):
            if self.parameterAsBool(parameters, name, context):
                arguments.append(option)
        arguments += [
            "--connectivity",
            self.parameterAsEnumString(parameters, "CONNECTIVITY", context),
        ]
        classes = self.parameterAsString(parameters, "CLASSES", context)
        if classes:
            arguments.append(f"--classes={classes}")
        confidence = self.raster_file(parameters, "CONFIDENCE", context)
        if confidence:
            arguments += ["--confidence", confidence]
        crs = self.parameterAsCrs(parameters, "TARGET_CRS", context)
        if crs.isValid():
            # A CRS without an authority's code is given as its definition.
            arguments += ["--t-srs", crs.authid() or crs.toWkt()]
        return arguments

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802 (QGIS calls this name)
        """Runs the command."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        done = self.execute(["-o", output], feedback)
        for entry in done["classes"]:
            feedback.pushInfo(f"{entry['class_name']}: {entry['polygons']} polygons")
        return {"OUTPUT": output, "POLYGONS": done["polygons"]}
