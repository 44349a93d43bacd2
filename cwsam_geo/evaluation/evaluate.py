"""The function behind ``cwsam-geo evaluate``."""

from __future__ import annotations

import os

from cwsam_geo.evaluation.options import EvaluateOptions
from cwsam_geo.evaluation.overlay import Overlay, Progress
from cwsam_geo.evaluation.pixels import (
    evaluate_pixels,
)
from cwsam_geo.evaluation.points import evaluate_points
from cwsam_geo.evaluation.result import Evaluation
from cwsam_geo.io.vector_file import Features


def evaluate(
    map_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
    options: EvaluateOptions | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compares a class raster with a reference.

    The comparison runs on the map's grid, window by window. A reference raster on another grid or
    in another CRS is resampled by nearest neighbour; polygons are rasterised. A pixel counts where
    both the map and the reference have a class. Points are treated as a stratified sample: the
    map's classes are the strata, and accuracy and areas are estimated after Olofsson et al. (2014,
    doi:10.1016/j.rse.2014.02.015).

    Args:
        map_path: Class raster with codes 0 to 254; 255 and the declared nodata value are nodata.
            The classes come from its ``LEGEND`` tag, from GDAL's or ESRI's attribute table, from
            GDAL's category names, or from its palette.
        reference_path: Class raster, RGB picture in the classes' colours, or vector file of
            polygons or points.
        options: Matching of classes, area of interest and legend.
        progress: Called after each window with the pixels done and the pixels in total.

    Raises:
        UsageError: The two files cannot be aligned, or do not overlap.
        LegendError: A code has no class. The message lists such codes with their counts.
        SceneError: A file cannot be read.
    """
    comparison = Overlay(map_path, reference_path, options or EvaluateOptions(), progress)
    try:
        if isinstance(comparison.reference, Features):
            return evaluate_points(comparison, comparison.reference)
        assert comparison.reference is not None
        return evaluate_pixels(comparison, comparison.reference)
    finally:
        comparison.close()
