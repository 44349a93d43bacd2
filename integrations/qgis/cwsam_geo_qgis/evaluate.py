"""``cwsam-geo evaluate`` in the toolbox: a map beside a reference."""

# SPDX-License-Identifier: GPL-2.0-or-later

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMatrix,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsVectorLayer,
)

from .algorithm import POLYGONS, ProgramAlgorithm

_SCORES = {
    "MIOU": ("miou", "Mean IoU"),
    "OVERALL_ACCURACY": ("overall_accuracy", "Overall accuracy"),
    "KAPPA": ("kappa", "Kappa"),
}


class Evaluate(ProgramAlgorithm):
    """Compares a map with a reference."""

    COMMAND = "evaluate"
    TITLE = "Evaluate land cover"
    HELP = (
        "Compares a map with a reference: a class raster on any grid, polygons, or a random sample "
        "of points, for which accuracy and areas are estimated with confidence intervals (Olofsson "
        "et al. 2014). The report is a page with scores of each class and the confusion matrix.\n\n"
        "Values of the reference are matched with the map's classes by code, name or colour; where "
        "that does not do, the table says which value is which class (or ignore)."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802 (QGIS calls this name)
        """Adds the parameters."""
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Land cover"))
        self.add(
            QgsProcessingParameterMapLayer(
                "REFERENCE",
                "Reference",
                types=[QgsProcessing.TypeRaster, QgsProcessing.TypeVectorAnyGeometry],
            ),
            "Class raster, polygons or points.",
        )
        self.add(
            QgsProcessingParameterField(
                "COLUMN",
                "Column of the classes, for polygons and points",
                parentLayerParameterName="REFERENCE",
                optional=True,
            ),
            "Empty if there is only one that can be meant.",
        )
        self.add(
            QgsProcessingParameterMatrix(
                "MAPPING",
                "Values of the reference and their class in the map",
                numberRows=1,
                hasFixedNumberRows=False,
                headers=["Value of the reference", "Class of the map, or ignore"],
                optional=True,
            ),
            "Empty to match by code, name or colour.",
        )
        self.add(
            QgsProcessingParameterString("IGNORE", "Leave out this class", optional=True),
            "Name or code of a reference class that does not count, such as a background.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence raster", optional=True),
            "Also report how often the map is right where it says it is sure.",
        )
        self.add(
            QgsProcessingParameterFeatureSource(
                "AOI", "Compare only inside these polygons", [POLYGONS], optional=True
            ),
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Report", "HTML files (*.html)"),
        )
        self.add(
            QgsProcessingParameterFileDestination(
                "CSV",
                "Table of scores and confusion matrix",
                "CSV files (*.csv)",
                optional=True,
                createByDefault=False,
            ),
        )
        for name, (_, title) in _SCORES.items():
            self.addOutput(QgsProcessingOutputNumber(name, title))

    def inputs(self, parameters, context):
        """Arguments of the command for all parameters but the outputs."""
        arguments = [self.raster_file(parameters, "INPUT", context)]
        arguments += self._reference(parameters, context)
        for value, target in self._pairs(parameters, context):
            arguments.append(f"--map={value}={target}")
        ignored = self.parameterAsString(parameters, "IGNORE", context)
        if ignored:
            arguments.append(f"--ignore={ignored}")
        confidence = self.raster_file(parameters, "CONFIDENCE", context)
        if confidence:
            arguments += ["--confidence", confidence]
        area = self.area(parameters, "AOI", context)
        if area:
            arguments += ["--aoi", area]
        return arguments

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802 (QGIS calls this name)
        """Runs the command."""
        report = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        arguments, results = ["--html", report], {"OUTPUT": report}
        table = self.parameterAsFileOutput(parameters, "CSV", context)
        if table:
            arguments += ["--csv", table]
            results["CSV"] = table
        done = self.execute(arguments, feedback)
        for name, (key, title) in _SCORES.items():
            results[name] = done["overall"][key]
            value = done["overall"][key]
            feedback.pushInfo(f"{title}: {'-' if value is None else f'{value:.4f}'}")
        return results

    def _reference(self, parameters, context):
        value = parameters["REFERENCE"]
        layer = self.parameterAsLayer(parameters, "REFERENCE", context)
        if not isinstance(layer, QgsVectorLayer):
            return [self.raster_file(parameters, "REFERENCE", context)]
        if not layer.isValid():
            raise QgsProcessingException(f"{value}: QGIS cannot read this layer")
        path, name = self.vector_file(layer, context)
        arguments = [path] if name is None else [path, "--layer", name]
        column = self.parameterAsString(parameters, "COLUMN", context)
        return [*arguments, f"--column={column}"] if column else arguments

    def _pairs(self, parameters, context):
        cells = [str(c).strip() for c in self.parameterAsMatrix(parameters, "MAPPING", context)]
        pairs = list(zip(cells[::2], cells[1::2]))
        for value, target in pairs:
            if bool(value) != bool(target):
                raise QgsProcessingException(
                    f"The table has a row with one cell only ({value or target}): give both the "
                    "value of the reference and the class of the map"
                )
        return [(value, target) for value, target in pairs if value]
