"""``cwsam-geo preview``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import (
    UNITS,
    json_option,
    output_option,
    overwrite_option,
    quiet_option,
)
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.cli.values import band_list, class_pairs, nodata_value


@click.command("preview")
@click.argument("paths", nargs=-1, required=True, metavar="MAP|SCENE...")
@output_option("Picture to write: *.png, *.pdf or *.svg.")
@click.option(
    "--scene",
    multiple=True,
    metavar="PATH",
    help="Scene of MAP, shown beside or below it; repeatable for single-band files.",
)
@click.option(
    "--vectors",
    metavar="FILE",
    help="Polygons to draw over the scene: those of vectorize in the classes' colours, others as "
    "outlines.",
)
@click.option(
    "--reference",
    metavar="FILE",
    help="Class raster or polygons to show beside MAP, and where the two agree.",
)
@click.option(
    "--layout",
    type=click.Choice(["side", "blend"]),
    default="side",
    show_default=True,
    help="Show scene and map beside each other, or the map over the scene.",
)
@click.option(
    "--opacity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Opacity of the classes' colours over the scene.",
)
@click.option(
    "--size",
    type=click.IntRange(300, 10_000),
    default=1600,
    show_default=True,
    metavar="PX",
    help="Longer side of the picture in pixels; text and lines scale with it.",
)
@click.option(
    "--coordinates",
    type=click.Choice(["degrees", "map", "none"]),
    default="degrees",
    show_default=True,
    help="Numbers along the edges: longitude and latitude, or coordinates of the CRS.",
)
@click.option("--title", default="", metavar="TEXT", help="Line above the picture.")
@click.option(
    "--color/--gray",
    "color",
    default=None,
    help="Show two polarisations in false colour, or one in grey.  [default: colour for a scene "
    "alone]",
)
@click.option(
    "-b",
    "--bidx",
    callback=band_list,
    metavar="1,2,...",
    help="Bands of the scene to show, counted from 1: one, or three as red, green and blue.",
)
@click.option(
    "--units",
    type=click.Choice(UNITS),
    default="auto",
    show_default=True,
    help="Units of the scene's values.",
)
@click.option(
    "--nodata",
    metavar="V",
    callback=nodata_value,
    help='Nodata value of the scene, instead of the declared one; "none" if no value is nodata.',
)
@click.option(
    "--scale", type=float, metavar="F", help="Factor from stored to true values of the scene."
)
@click.option(
    "--offset", type=float, metavar="V", help="Added to stored values of the scene times the scale."
)
@click.option(
    "--map",
    "mapping",
    callback=class_pairs,
    multiple=True,
    metavar="REF=CLASS,...",
    help='Map a code, name or colour of the reference to a class of MAP or to "ignore"; '
    "repeatable.",
)
@click.option(
    "--column", metavar="NAME", help="Column of --reference or --vectors that holds the classes."
)
@click.option("--layer", metavar="NAME", help="Layer of --reference or --vectors to read.")
@click.option("--band", metavar="N|NAME", help="Band of a --reference raster that holds the codes.")
@overwrite_option
@json_option
@quiet_option
def command(paths: tuple[str, ...], output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Draw a map or scene: legend, scale bar, north arrow, coordinates.

    MAP is a class raster, of predict or another program. SCENE is a raster, or several single-band
    files: two polarisations are shown in false colour (red co-polarisation, green
    cross-polarisation, blue their ratio), one band in grey. Overviews or a sample of the pixels
    are read, so that large rasters take seconds.
    """
    from cwsam_geo.evaluation.options import ClassMapping
    from cwsam_geo.io.vector_file import VectorLayer
    from cwsam_geo.pictures.options import PreviewOptions, ReferenceOptions, SceneOptions
    from cwsam_geo.pictures.preview import preview

    reading = ("bidx", "units", "nodata", "scale", "offset", "color")
    shown = ("vectors", "reference", "layout", "opacity", "size", "coordinates", "title")
    options = PreviewOptions(
        scene=values["scene"] or None,
        reading=SceneOptions(**{k: values[k] for k in reading}),
        comparing=ReferenceOptions(
            mapping=ClassMapping(map=values["mapping"]),
            layer=VectorLayer(values["column"], values["layer"]),
            band=values["band"],
        ),
        overwrite=values["overwrite"],
        **{k: values[k] for k in shown},
    )
    with PreviewReporter(as_json, quiet) as report:
        preview(paths, output, options, report)


class PreviewReporter(Reporter):
    """Prints the events of ``preview``."""

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints what the picture shows."""
        self.say(f"{event['output']}: {', '.join(event['panels'])}")
