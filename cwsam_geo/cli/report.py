"""``cwsam-geo report``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import (
    json_option,
    output_option,
    overwrite_option,
    quiet_option,
)
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.cli.values import band_list, class_pairs, nodata_value


@click.command("report")
@click.argument("map_path", metavar="MAP")
@output_option("HTML file to write.")
@click.option(
    "--scene",
    multiple=True,
    metavar="PATH",
    help="Scene that MAP was made from; repeatable, for a file per band.",
)
@click.option(
    "-b",
    "--bidx",
    callback=band_list,
    metavar="1,2,...",
    help="Bands of the scene to show, counted from 1.",
)
@click.option(
    "--nodata",
    metavar="V",
    callback=nodata_value,
    help='Nodata value of the scene, instead of the declared one; "none" if no value is nodata.',
)
@click.option(
    "--confidence", metavar="FILE", help="Raster that predict --confidence wrote with MAP."
)
@click.option("--vectors", metavar="FILE", help="Polygons whose outlines are drawn over the map.")
@click.option(
    "--reference",
    metavar="FILE",
    help="Reference to compare MAP with, as in evaluate: a raster, polygons or points.",
)
@click.option(
    "--map",
    "mapping",
    callback=class_pairs,
    multiple=True,
    metavar="REF=CLASS,...",
    help="Map a code, name or colour of the reference to a class of the map; repeatable.",
)
@click.option(
    "--merge",
    callback=class_pairs,
    multiple=True,
    metavar="CLASS=CLASS,...",
    help="Count the first class of the map as the second; repeatable.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODE|NAME",
    help="Leave out the pixels of this reference class; repeatable.",
)
@click.option("--column", metavar="NAME", help="Column of a vector reference with the classes.")
@click.option(
    "-m", "--model", metavar="NAME|PATH", help="Model whose card is shown.  [default: MAP's]"
)
@click.option(
    "--map-band",
    metavar="N|NAME",
    help="Band of MAP with the class codes.  [default: the only one, or the one called label, ...]",
)
@click.option("--title", metavar="TEXT", help="Title of the report.  [default: the name of MAP]")
@overwrite_option
@json_option
@quiet_option
def command(map_path: str, output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Write a report of a map: one HTML file that works without the internet.

    The report has a zoomable map, the areas of the classes, the settings and the model's card. With
    --confidence it has the confidence at each place and its histogram, with --reference the
    accuracy. The file is at most about 15 MB, whatever the map's size: a large map is shown at a
    lower resolution.

    Example: cwsam-geo report landcover.tif --scene scene.tif -o report.html
    """
    from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions
    from cwsam_geo.io.vector_file import VectorLayer
    from cwsam_geo.map_report.options import ReportOptions, ReportScene
    from cwsam_geo.map_report.report_map import report_map

    options = ReportOptions(
        scene=ReportScene(values["scene"], values["bidx"], values["nodata"]),
        confidence=values["confidence"],
        vectors=values["vectors"],
        reference=values["reference"],
        comparison=EvaluateOptions(
            mapping=ClassMapping(values["mapping"], values["merge"], values["ignore"]),
            layer=VectorLayer(values["column"]),
        ),
        model=values["model"],
        title=values["title"],
        band=values["map_band"],
        overwrite=values["overwrite"],
    )
    with ReportReporter(as_json, quiet) as report:
        report_map(map_path, output, options, report)


class ReportReporter(Reporter):
    """Prints the events of ``report``."""

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the path and the size of the report."""
        self.say(f"{event['output']}: {event['bytes'] / 1e6:.1f} MB")
