"""``cwsam-geo evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import click

from cwsam_geo.cli.options import (
    json_option,
    overwrite_option,
    quiet_option,
)
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.cli.values import class_pairs, sizes


@click.command("evaluate")
@click.argument("map_path", metavar="MAP")
@click.argument("reference", metavar="REFERENCE")
@click.option(
    "--map",
    "mapping",
    callback=class_pairs,
    multiple=True,
    metavar="REF=CLASS,...",
    help="Map a code, name or colour (#rrggbb) of the reference to a class of the map or to "
    '"ignore"; repeatable.',
)
@click.option(
    "--merge",
    callback=class_pairs,
    multiple=True,
    metavar="CLASS=CLASS,...",
    help="Count the first class of the map as the second, for a coarser reference; repeatable.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODE|NAME",
    help="Leave out the pixels of this reference class, such as a background; repeatable.",
)
@click.option(
    "--confidence",
    metavar="PATH",
    help="Confidence raster of MAP (predict --confidence); also report how reliable it is.",
)
@click.option("--aoi", metavar="FILE", help="Compare only inside the polygons of this vector file.")
@click.option(
    "--column", metavar="NAME", help="Column of a vector reference that holds the classes."
)
@click.option("--layer", metavar="NAME", help="Layer of a vector reference to read.")
@click.option(
    "--band",
    metavar="N|NAME",
    help="Band of a REFERENCE raster that holds the class codes.  [default: the only one, or the "
    "one called label, class, landcover, ...]",
)
@click.option(
    "--map-band", metavar="N|NAME", help="Band of MAP that holds the class codes, likewise."
)
@click.option(
    "--stratum",
    metavar="NAME",
    help="Column with each point's stratum, if the points were not drawn by the map's classes.",
)
@click.option(
    "--stratum-size",
    "stratum_sizes",
    callback=sizes,
    multiple=True,
    metavar="NAME=SIZE,...",
    help="Size of each stratum on the map: area or pixels, all in one unit; repeatable.",
)
@click.option(
    "--legend",
    metavar="FILE",
    help="YAML file with the classes of the map, instead of the legend in the map itself.",
)
@click.option("-o", "--output", "json", metavar="PATH", help="Write the report as a JSON file.")
@click.option("--csv", metavar="PATH", help="Write scores and confusion matrix as a CSV table.")
@click.option(
    "--html",
    metavar="PATH",
    help="Write the report as an HTML page with a zoomable map, which needs no internet.",
)
@click.option(
    "--scene",
    multiple=True,
    metavar="PATH",
    help="Scene that MAP was made from, shown in the HTML page; repeatable, for a file per band.",
)
@click.option("--png", metavar="PATH", help="Write the confusion matrix as a PNG image.")
@overwrite_option
@json_option
@quiet_option
def command(map_path: str, reference: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Compare a map with a reference and report its accuracy.

    MAP is a raster of class codes. REFERENCE is a class raster on any grid and in any CRS, an RGB
    picture in the colours of the map's classes, or polygons with class names or codes (gpkg,
    geojson, shp or a zip archive of it, fgb, parquet). Where polygons overlap, the one that is
    later in the file counts.

    REFERENCE may also be a random sample of points, in one of these formats or as a CSV table with
    columns lon and lat, x and y, or wkt. Accuracy and class areas are then estimated with 95 %
    confidence intervals, after Olofsson et al. (2014). The strata are the map's classes, unless
    --stratum says otherwise.

    Values of REFERENCE that --map does not list are matched by their code, name or colour. The
    class under `ignore:` in the --legend file is left out, unless --ignore names other classes.
    """
    from cwsam_geo.evaluation.evaluate import evaluate
    from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions, EvaluateOutputs
    from cwsam_geo.io.legend_file import read_legend
    from cwsam_geo.io.vector_file import VectorLayer

    options = EvaluateOptions(
        mapping=ClassMapping(values["mapping"], values["merge"], values["ignore"]),
        layer=VectorLayer(values["column"], values["layer"], values["stratum"]),
        band=values["band"],
        map_band=values["map_band"],
        confidence=values["confidence"],
        aoi=values["aoi"],
        stratum_sizes=values["stratum_sizes"],
        legend=read_legend(values["legend"]) if values["legend"] else None,
    )
    reports = {key: values[key] for key in ("json", "csv", "html", "png")}
    outputs = EvaluateOutputs(**reports, scene=values["scene"], overwrite=values["overwrite"])
    with EvaluateReporter(as_json, quiet) as report:
        evaluate(map_path, reference, options, outputs, report)


class EvaluateReporter(Reporter):
    """Prints the events of ``evaluate``."""

    unit = "px"
    # Most comparisons take less than a second: no bar flashes up for them.
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True, "delay": 1, "leave": False}

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts the pixels of the map."""
        self.advance(event["pixels"], event["total"])

    def on_report(self, event: Mapping[str, Any]) -> None:
        """Prints the report as tables."""
        from cwsam_geo.evaluation.report import text_report

        self.close_bar()
        click.echo(text_report(event))
