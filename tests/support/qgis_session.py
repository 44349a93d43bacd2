"""A session of QGIS without a window; QGIS's own Python runs this, which has no cwsam_geo.

    python3 qgis_session.py JOB.json

JOB.json names the folder of plugins, the program, files and a folder for results; what happened
goes to ``results.json`` in that folder.
"""

import json
import os
import sys
from pathlib import Path

JOB = json.loads(Path(sys.argv[1]).read_text())
FOLDER = Path(JOB["folder"])

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize  # noqa: E402

app = QgsApplication([], False)
app.initQgis()
sys.path[:0] = [os.path.join(app.pkgDataPath(), "python", "plugins"), JOB["plugins"]]

import processing  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402
from processing.core.ProcessingConfig import ProcessingConfig  # noqa: E402


class Log(QgsProcessingFeedback):
    """Keeps what a run says; cancels it at its first progress if asked to."""

    def __init__(self, cancels=False):
        super().__init__(False)
        self.infos, self.warnings, self.progress = [], [], []
        self.progressChanged.connect(self._moved)
        self._cancels = cancels

    def _moved(self, value):
        self.progress.append(value)
        if self._cancels:
            self.cancel()

    def pushInfo(self, text):  # noqa: N802
        self.infos.append(text)

    def pushWarning(self, text):  # noqa: N802
        self.warnings.append(text)

    def reportError(self, text, fatalError=False):  # noqa: N802, N803
        self.warnings.append(text)


def run(name, parameters, cancels=False):
    """Runs an algorithm: its results or its error, and what it said."""
    log = Log(cancels)
    said = {"infos": log.infos, "warnings": log.warnings, "progress": log.progress}
    try:
        return {"results": processing.run(f"cwsam_geo:{name}", parameters, feedback=log), **said}
    except QgsProcessingException as error:
        return {"error": str(error), **said}


def classes_of(layer):
    """Values, labels and colours, as the legend of QGIS shows them."""
    renderer = layer.renderer()
    if isinstance(layer, QgsRasterLayer):
        entries = [(c.value, c.label, c.color.name()) for c in renderer.classes()]
    else:
        entries = [(c.value(), c.label(), c.symbol().color().name()) for c in renderer.categories()]
    return {"renderer": renderer.type(), "classes": entries}


def picture(layers, name, pixels=480):
    """Draws layers as QGIS's canvas does; returns the colour of the middle of each tenth."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(layers[-1].extent())
    settings.setOutputSize(QSize(pixels, pixels))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    image.save(str(FOLDER / name))
    centres = [int((i + 0.5) * pixels / 10) for i in range(10)]
    return [[image.pixelColor(x, y).name() for x in centres] for y in centres]


def main():
    Processing.initialize()
    from cwsam_geo_qgis import classFactory

    plugin = classFactory(None)
    plugin.initProcessing()
    registry = app.processingRegistry()
    found = {"algorithms": sorted(a.name() for a in plugin.provider.algorithms())}
    found["help"] = {a.name(): a.shortHelpString() for a in plugin.provider.algorithms()}

    # Without the program
    (FOLDER / "empty").mkdir()
    ProcessingConfig.setSettingValue("CWSAM_GEO_PATH", str(FOLDER / "empty"))
    predict = registry.algorithmById("cwsam_geo:predict")
    found["missing"] = {
        "can_execute": list(predict.canExecute()),
        "run": run("vectorize", {"INPUT": JOB["scene"], "OUTPUT": str(FOLDER / "no.gpkg")}),
    }
    # What QGIS sets for its own Python must not reach the program.
    os.environ.update({"PYTHONHOME": "/nowhere", "PROJ_LIB": "/nowhere", "GDAL_DATA": "/nowhere"})
    ProcessingConfig.setSettingValue("CWSAM_GEO_PATH", JOB["program"])
    plugin.provider.refresh_models()
    models = registry.algorithmById("cwsam_geo:predict").parameterDefinition("MODEL").options()
    found["models"] = models

    # A part of a scene
    scene = QgsRasterLayer(JOB["scene"], "scene")
    outputs = {
        "OUTPUT": str(FOLDER / "map.tif"),
        "CONFIDENCE": str(FOLDER / "confidence.tif"),
        "VECTORS": str(FOLDER / "polygons.gpkg"),
    }
    found["predict"] = run(
        "predict",
        {
            "INPUT": scene,
            "MODEL_FILE": JOB["model"],
            "EXTENT": JOB["extent"],
            "BATCH_SIZE": 1,  # progress is told once per batch
            **outputs,
        },
    )
    area = QgsVectorLayer(JOB["area"], "area")
    area.setSubsetString("kind = 'wanted'")
    found["aoi"] = run(
        "predict",
        {
            "PRODUCT": JOB["scene"],
            "MODEL_FILE": JOB["model"],
            "AOI": area,
            "OUTPUT": str(FOLDER / "a.tif"),
        },
    )
    found["map_grid"] = run(
        "predict",
        {
            "INPUT": scene,
            "MODEL_FILE": JOB["model"],
            "GRID_CRS": QgsCoordinateReferenceSystem("EPSG:4326"),
            "RESOLUTION": 0.0002,
            "OUTPUT": str(FOLDER / "grid.tif"),
        },
    )
    mapped = QgsRasterLayer(outputs["OUTPUT"], "map")
    polygons = QgsVectorLayer(outputs["VECTORS"], "polygons")
    QgsProject.instance().addMapLayers([scene, mapped, polygons])
    found["map_style"] = classes_of(mapped)
    bare = FOLDER / "bare"
    bare.mkdir()
    for ending in (".tif", ".tif.aux.xml"):
        (bare / f"map{ending}").write_bytes((FOLDER / f"map{ending}").read_bytes())
    found["palette"] = classes_of(QgsRasterLayer(str(bare / "map.tif"), "bare"))
    # QGIS offers the style of the raster to polygons of the same name, too.
    beside = FOLDER / "beside"
    beside.mkdir()
    for name in ("map.tif", "map.tif.aux.xml", "map.qml"):
        (beside / name).write_bytes((FOLDER / name).read_bytes())
    (beside / "map.gpkg").write_bytes(Path(outputs["VECTORS"]).read_bytes())
    found["same_name"] = classes_of(QgsVectorLayer(str(beside / "map.gpkg"), "same name"))
    QgsRasterLayer(str(beside / "map.tif"), "same name").saveDefaultStyle()
    found["polygon_style"] = classes_of(polygons)
    found["map_picture"] = picture([mapped], "map.png")
    found["polygon_picture"] = picture([polygons, mapped], "polygons.png")

    # Of the other commands
    found["vectorize"] = run(
        "vectorize",
        {
            "INPUT": mapped,
            "CONFIDENCE": outputs["CONFIDENCE"],
            "MIN_AREA": 500,
            "TARGET_CRS": QgsCoordinateReferenceSystem("EPSG:4326"),
            "OUTPUT": "TEMPORARY_OUTPUT",
        },
    )
    layer = QgsVectorLayer(found["vectorize"]["results"]["OUTPUT"], "v")
    found["vectorized"] = {
        "crs": layer.crs().authid(),
        "fields": layer.fields().names(),
        "count": layer.featureCount(),
    }
    found["evaluate"] = run(
        "evaluate",
        {
            "INPUT": mapped,
            "REFERENCE": JOB["reference"],
            "MAPPING": ["7", "class 0", "8", "ignore", "", ""],
            "CONFIDENCE": outputs["CONFIDENCE"],
            "OUTPUT": str(FOLDER / "report.html"),
            "CSV": str(FOLDER / "report.csv"),
        },
    )
    reference = QgsVectorLayer(outputs["VECTORS"], "reference")
    reference.setSubsetString(f"class_name = '{JOB['class']}'")
    found["evaluate_polygons"] = run(
        "evaluate",
        {"INPUT": mapped, "REFERENCE": reference, "COLUMN": "class_name", "AOI": area,
         "OUTPUT": str(FOLDER / "polygons.html")},
    )  # fmt: skip
    found["preview"] = run(
        "preview",
        {"INPUT": mapped, "SCENE": scene, "VECTORS": polygons, "SIZE": 800,
         "OUTPUT": str(FOLDER / "preview.png")},
    )  # fmt: skip
    found["refused"] = run("vectorize", {"INPUT": scene, "OUTPUT": str(FOLDER / "no.gpkg")})
    found["half_a_pair"] = run(
        "evaluate",
        {"INPUT": mapped, "REFERENCE": JOB["reference"], "MAPPING": ["7", ""],
         "OUTPUT": str(FOLDER / "no.html")},
    )  # fmt: skip
    found["no_scene"] = run("predict", {"OUTPUT": str(FOLDER / "no.tif")})
    found["cancelled"] = run(
        "predict",
        {"INPUT": JOB["large"], "MODEL_FILE": JOB["model"], "OUTPUT": str(FOLDER / "never.tif")},
        cancels=True,
    )
    plugin.unload()
    found["unloaded"] = registry.algorithmById("cwsam_geo:predict") is None
    return found


(FOLDER / "results.json").write_text(json.dumps(main()))
app.exitQgis()
