"""``cwsam-geo vectorize``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import json_option, output_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter


@click.command("vectorize")
@click.argument("landcover", metavar="LANDCOVER", type=click.Path())
@output_option("Polygons to write: *.gpkg, *.fgb, *.parquet or *.geojson.")
@click.option(
    "--min-area",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="M2",
    help="Hand regions smaller than this to their largest neighbour.",
)
@click.option(
    "--simplify",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="M",
    help="Simplify boundaries; neighbours keep fitting together.",
)
@click.option("--smooth", is_flag=True, help="Round the corners of boundaries.")
@click.option(
    "--connectivity",
    type=click.Choice(["4", "8"]),
    default="4",
    show_default=True,
    help="8: regions that touch at a corner are one (multi)polygon.",
)
@click.option("--classes", metavar="NAME|CODE,...", help="Only these classes.")
@click.option("--dissolve", is_flag=True, help="One multipolygon for each class.")
@click.option("--t-srs", metavar="CRS", help="CRS of the output.  [default: the raster's]")
@click.option(
    "--confidence",
    metavar="PATH",
    type=click.Path(),
    help="Raster of the same grid: adds its mean over each polygon.",
)
@click.option("--layer", metavar="NAME", help="Name of the layer.  [default: the output's]")
@overwrite_option
@json_option
@quiet_option
def command(
    landcover: str, output: str, overwrite: bool, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Turn a class raster into polygons that fit together.

    LANDCOVER is a raster of class codes, of predict or of another tool. Neighbouring polygons
    share their vertices, without gaps or overlaps, also when simplified or smoothed. The suffix
    of the output chooses the format: GeoPackage (coloured in QGIS), FlatGeobuf, GeoParquet, or
    GeoJSON (always WGS84).

    Columns: class_id, class_name, area_m2, and mean_confidence with --confidence. Without a CRS
    lengths and areas are in pixels, and the column is called area.
    """
    from cwsam_geo.vectorization import VectorizeOptions, vectorize

    classes = given.pop("classes")
    options = VectorizeOptions(
        connectivity=int(given.pop("connectivity")),
        classes=None if classes is None else tuple(c for c in classes.split(",") if c.strip()),
        **given,
    )
    with VectorizeReporter(as_json, quiet) as report:
        vectorize(landcover, output, options, overwrite=overwrite, on_event=report)


class VectorizeReporter(Reporter):
    """Prints what ``vectorize`` tells."""

    unit = "row"

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar."""
        self.advance(event["rows"], event["total"], f"{event['polygons']} polygons")

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Says what was written."""
        self.close_bar()
        counts = ", ".join(f"{c['class_name']} {c['polygons']}" for c in event["classes"])
        self.say(
            f"{event['output']}: {event['polygons']} polygons"
            f"{f' ({counts})' if counts else ''}, {event['seconds']:.1f} s"
        )
