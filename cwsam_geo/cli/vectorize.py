"""``cwsam-geo vectorize``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import json_option, output_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.core.counting import how_many


@click.command("vectorize")
@click.argument("landcover", metavar="LANDCOVER", type=click.Path())
@output_option("Vector file to write: *.gpkg, *.fgb, *.parquet, *.geojson, *.shp or *.kml.")
@click.option(
    "--min-area",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="M2",
    help="Merge regions smaller than this area, in m2, into their largest neighbour.",
)
@click.option(
    "--simplify",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="M",
    help="Simplify boundaries with this tolerance in metres, without gaps between neighbours.",
)
@click.option("--smooth", is_flag=True, help="Round the corners of the boundaries.")
@click.option(
    "--connectivity",
    type=click.Choice(["4", "8"]),
    default="4",
    show_default=True,
    help="Neighbours of a pixel; with 8, regions that touch at a corner are one multipolygon.",
)
@click.option(
    "--classes", metavar="NAME|CODE,...", help="Write only the polygons of these classes."
)
@click.option("--dissolve", is_flag=True, help="Write one multipolygon for each class.")
@click.option("--t-srs", metavar="CRS", help="CRS of the output.  [default: the raster's]")
@click.option(
    "--confidence",
    metavar="PATH",
    type=click.Path(),
    help="Raster on the same grid, whose mean is written for each polygon.",
)
@click.option(
    "--layer", metavar="NAME", help="Name of the output layer.  [default: the output's file name]"
)
@click.option(
    "--band",
    metavar="N|NAME",
    help="Band of LANDCOVER that holds the class codes.  [default: the only one, or the one called "
    "label, class, landcover, ...]",
)
@overwrite_option
@json_option
@quiet_option
def command(landcover: str, output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Turn a class raster into polygons that fit together.

    LANDCOVER is a raster of class codes, from predict or another tool: whole numbers of any type.
    Class names are read where predict, GDAL, QGIS and ArcGIS keep them. Neighbouring polygons share
    their vertices, without gaps or overlaps, also after --simplify and --smooth. The suffix of the
    output selects the format: GeoPackage (with colours for QGIS), FlatGeobuf, GeoParquet,
    shapefile, or GeoJSON and KML (always in WGS84).

    The columns are class_id, class_name, area_m2 (on the ellipsoid), and mean_confidence with
    --confidence. Without a CRS, lengths and areas are in units of the coordinates or in pixels, and
    the column is called area.
    """
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize

    classes = values.pop("classes")
    options = VectorizeOptions(
        connectivity=int(values.pop("connectivity")),
        classes=None if classes is None else tuple(c for c in classes.split(",") if c.strip()),
        **values,
    )
    with VectorizeReporter(as_json, quiet) as report:
        vectorize(landcover, output, options, report)


class VectorizeReporter(Reporter):
    """Prints the events of ``vectorize``."""

    unit = "row"

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts the rows of the raster."""
        self.advance(event["rows"], event["total"], how_many(event["polygons"], "polygon"))

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the number of polygons of each class."""
        self.close_bar()
        counts = ", ".join(f"{c['class_name']} {c['polygons']}" for c in event["classes"])
        self.say(
            f"{event['output']}: {how_many(event['polygons'], 'polygon')}"
            f"{f' ({counts})' if counts else ''}, {event['seconds']:.1f} s"
        )
