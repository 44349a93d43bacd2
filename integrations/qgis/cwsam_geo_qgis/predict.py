"""``cwsam-geo predict`` in the toolbox: a scene becomes a land-cover map."""

# SPDX-License-Identifier: GPL-2.0-or-later

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from .algorithm import POLYGONS, ProgramAlgorithm

UNITS = ["auto", "db", "power", "amplitude"]
DEVICES = ["auto", "cpu", "cuda", "mps"]
DEFAULT_MODEL = "(default)"
"""Entry of the model list that leaves the choice to the program."""


class Predict(ProgramAlgorithm):
    """Maps a scene."""

    COMMAND = "predict"
    TITLE = "Predict land cover"
    HELP = (
        "Maps a SAR scene to land-cover classes. The map has the scene's grid, nodata stays "
        "nodata, and the layer comes with the classes' names and colours. A Sentinel-1 product as "
        "delivered lies in the view of the radar: lay its map on a map grid.\n\n"
        "Bands are found by their names (VV, VH), and units from metadata and values; the log says "
        "what was decided, and a message asks where that is not possible. A whole Sentinel-1 scene "
        "takes minutes to half an hour on a laptop: try an extent first. The map of an extent is "
        "exactly that part of the whole map."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802 (QGIS calls this name)
        """Adds the parameters."""
        from .provider import known_models

        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Scene", optional=True),
            "A GeoTIFF or any other raster of GDAL.",
        )
        self.add(
            QgsProcessingParameterFile(
                "PRODUCT", "Product that QGIS does not open, instead of a layer", optional=True
            ),
            "A Sentinel-1 product (its .zip, or manifest.safe in the .SAFE folder) or a SNAP .dim.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("SECOND", "Second band of the scene", optional=True),
            "If each band is a file of its own: the file with the other polarisation (VH).",
        )
        names = [DEFAULT_MODEL, *known_models()]
        self.add(
            QgsProcessingParameterEnum(
                "MODEL", "Model", options=names, defaultValue=names[0], usesStaticStrings=True
            ),
            "A model that cwsam-geo knows; to use a file of your own, choose it below.",
        )
        self.add(
            QgsProcessingParameterFile(
                "MODEL_FILE",
                "Model file, instead of a model of the list",
                fileFilter="Model bundles (*.safetensors)",
                optional=True,
            ),
            "A bundle that cwsam-geo finetune has made.",
        )
        self.add(
            QgsProcessingParameterExtent("EXTENT", "Map only this extent", optional=True),
            "Exactly the part of the whole map that lies in this rectangle.",
        )
        self.add(
            QgsProcessingParameterFeatureSource(
                "AOI", "Map only inside these polygons", [POLYGONS], optional=True
            ),
            "Pixels outside become nodata.",
        )
        self.add(
            QgsProcessingParameterNumber(
                "MIN_CONFIDENCE", "Least confidence (%)", optional=True, minValue=1, maxValue=100
            ),
            "Pixels below it become unclassified; empty to keep all.",
        )
        self.add(
            QgsProcessingParameterBoolean("MAP_GRID", "Lay on a map grid", defaultValue=False),
            "North-up, in the UTM zone of the scene, or in the CRS that you choose below. For "
            "products with control points, such as a Sentinel-1 GRD.",
        )
        self._add_advanced()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Land cover"))
        self.add(
            QgsProcessingParameterRasterDestination(
                "CONFIDENCE", "Confidence (%)", optional=True, createByDefault=False
            ),
            "Probability of each pixel's class, in per cent.",
        )
        self.add(
            QgsProcessingParameterVectorDestination(
                "VECTORS", "Polygons", POLYGONS, optional=True, createByDefault=False
            ),
            "The classes as polygons that fit together; Vectorize has more options.",
        )

    def _add_advanced(self):
        self.add(
            QgsProcessingParameterCrs("GRID_CRS", "CRS of the map grid", optional=True),
            "Empty for the UTM zone of the scene.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "RESOLUTION",
                "Pixel size on the map grid",
                QgsProcessingParameterNumber.Double,
                optional=True,
                minValue=0,
            ),
            "In the units of the CRS; empty for the scene's own.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "UNITS", "Units of the scene", UNITS, defaultValue="auto", usesStaticStrings=True
            ),
            "What the values are, where the file does not say it.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("BANDS", "Bands", optional=True),
            "Numbers of the bands in the model's order, such as 2,1; empty to find them by name.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("NODATA", "Nodata value", optional=True),
            "A value that the file does not declare; none if every value is data.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean("TTA", "Average over four flips", defaultValue=False),
            "Slightly better, at four times the cost.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "DEVICE", "Device", DEVICES, defaultValue="auto", usesStaticStrings=True
            ),
            "auto uses a GPU where PyTorch finds one.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("BATCH_SIZE", "Batch size", optional=True, minValue=1),
            "Tiles at a time; empty to choose by the memory.",
            advanced=True,
        )

    def inputs(self, parameters, context):
        """Arguments of the command for all parameters but the outputs."""
        scenes = [self.raster_file(parameters, name, context) for name in ("INPUT", "SECOND")]
        scenes.append(self.parameterAsFile(parameters, "PRODUCT", context))
        scenes = [scene for scene in scenes if scene]
        if not scenes:
            raise QgsProcessingException("Give a scene: a layer, or the file of a product")
        return [*scenes, *self._choices(parameters, context), *self._part(parameters, context)]

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802 (QGIS calls this name)
        """Runs the command."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        arguments, results = ["-o", output], {"OUTPUT": output}
        for name, option in (("CONFIDENCE", "--confidence"), ("VECTORS", "--vectors")):
            path = self.parameterAsOutputLayer(parameters, name, context)
            if path:
                arguments += [option, path]
                results[name] = path
        done = self.execute(arguments, feedback)
        total = sum(done["pixels"].values())
        for name, pixels in done["pixels"].items():
            feedback.pushInfo(f"{name}: {100 * pixels / total:.1f} %")
        return results

    def _choices(self, parameters, context):
        model = self.parameterAsString(parameters, "MODEL_FILE", context)
        if not model:
            listed = self.parameterAsEnumString(parameters, "MODEL", context)
            model = "" if listed == DEFAULT_MODEL else listed
        choices = {
            "--model": model,
            "--units": self.parameterAsEnumString(parameters, "UNITS", context),
            "--device": self.parameterAsEnumString(parameters, "DEVICE", context),
            "--bidx": self.parameterAsString(parameters, "BANDS", context),
            "--nodata": self.parameterAsString(parameters, "NODATA", context),
        }
        for name, option in (
            ("BATCH_SIZE", "--batch-size"),
            ("MIN_CONFIDENCE", "--min-confidence"),
        ):
            if parameters.get(name) is not None:
                choices[option] = self.parameterAsInt(parameters, name, context)
        # "=" keeps a negative nodata value from being read as an option.
        arguments = [f"{name}={value}" for name, value in choices.items() if value != ""]
        if self.parameterAsBool(parameters, "TTA", context):
            arguments.append("--tta")
        return [*arguments, *self._map_grid(parameters, context)]

    def _map_grid(self, parameters, context):
        crs = self.parameterAsCrs(parameters, "GRID_CRS", context)
        # Whoever chooses a CRS wants the grid.
        if not (crs.isValid() or self.parameterAsBool(parameters, "MAP_GRID", context)):
            return []
        arguments = ["--t-srs", (crs.authid() or crs.toWkt()) if crs.isValid() else "auto"]
        if parameters.get("RESOLUTION"):
            arguments += ["--res", str(self.parameterAsDouble(parameters, "RESOLUTION", context))]
        return arguments

    def _part(self, parameters, context):
        area = self.area(parameters, "AOI", context)
        arguments = [] if area is None else ["--aoi", area]
        if self.parameterAsExtent(parameters, "EXTENT", context).isEmpty():
            return arguments
        if area is not None:
            raise QgsProcessingException("Give an extent or polygons, not both")
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if layer is None or not layer.crs().isValid():
            raise QgsProcessingException(
                "QGIS does not know the scene's coordinates, so an extent cannot be cut from it; "
                "draw a polygon and give that instead"
            )
        extent = self.parameterAsExtent(parameters, "EXTENT", context, layer.crs())
        sides = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
        return ["--bounds", *(repr(side) for side in sides)]
