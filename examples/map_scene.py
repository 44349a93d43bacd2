"""From a scene to polygons and figures: predict, vectorize, evaluate.

    python map_scene.py OUTPUT_FOLDER

Maps the example scene beside this file and writes everything into OUTPUT_FOLDER, which is made.
Every step is one function of ``cwsam_geo``; above it stands the same step for the command line.
To map a scene of your own, change the four names below.
"""

import sys
from pathlib import Path

import cwsam_geo

EXAMPLES = Path(__file__).resolve().parent
SCENE = EXAMPLES / "scene.tif"
TRUTH = EXAMPLES / "scene_truth.tif"
MODEL = "demo"  # knows simulated scenes, as this one is
MIN_AREA = 2000  # square metres: smaller polygons go to their largest neighbour


def main(folder: Path) -> None:
    """Maps the scene, makes polygons of the map, and compares the map with the truth."""
    landcover = folder / "landcover.tif"
    confidence = folder / "confidence.tif"
    polygons = folder / "landcover.gpkg"

    # 1. The map: a class raster on the scene's own grid, and how sure the model is, in per cent.
    #    cwsam-geo predict scene.tif -o landcover.tif -m MODEL --confidence confidence.tif
    summary = cwsam_geo.predict_scene(
        SCENE,
        landcover,
        cwsam_geo.PredictOptions(model=MODEL),
        cwsam_geo.PredictOutputs(confidence=confidence),
    )
    print(f"{landcover.name}: {sum(summary.pixels.values()):,} pixels")

    # 2. Polygons that fit together, for a GIS; the GeoPackage brings its colours to QGIS.
    #    cwsam-geo vectorize landcover.tif -o landcover.gpkg --min-area 2000 --simplify 15
    #        --confidence confidence.tif
    result = cwsam_geo.vectorize(
        landcover,
        polygons,
        cwsam_geo.VectorizeOptions(min_area=MIN_AREA, simplify=15, confidence=confidence),
    )
    print(f"{polygons.name}: {result.count} polygons")
    for each in result.classes:
        print(f"  {each.name:12} {each.count:5} polygons {each.area / 1e6:8.2f} km2")

    # 3. How good is it? The truth may be any class raster, polygons, or a sample of points.
    #    cwsam-geo evaluate landcover.tif scene_truth.tif
    evaluation = cwsam_geo.evaluate(landcover, TRUTH)
    scores = evaluation.scores
    print(f"mIoU {scores.miou:.4f}, overall accuracy {scores.overall_accuracy:.4f}")
    for name, iou in zip(evaluation.classes.legend.names, scores.iou, strict=True):
        print(f"  {name:12} IoU {iou:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python map_scene.py OUTPUT_FOLDER")
    output = Path(sys.argv[1])
    if output.exists():
        sys.exit(f"{output} exists; give the name of a new folder")
    output.mkdir(parents=True)
    main(output)
