"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cwsam_geo.cli.values import auto_or_count, band_list, creation_options, nodata_value

if TYPE_CHECKING:
    from cwsam_geo.prediction.options import PredictOptions, PredictOutputs

F = TypeVar("F", bound=Callable[..., Any])

# Copy of the units in cwsam_geo.scene.units, which imports numpy; a test compares the two.
UNITS = ("auto", "db", "power", "amplitude")

# Copy of the names in cwsam_geo.scene.reading, which imports numpy; a test compares the two.
BORDER_NOISE = ("mask", "keep")

# Copy of the names in cwsam_geo.prediction.blend, which imports numpy; a test compares the two.
BLENDS = ("cosine", "linear", "gaussian", "flat")


def output_option(help_text: str) -> Callable[[F], F]:
    """``-o/--output PATH``, required."""
    return click.option(
        "-o", "--output", required=True, metavar="PATH", type=click.Path(), help=help_text
    )


def overwrite_option(function: F) -> F:
    """``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace output files that exist.")(
        function
    )


def json_option(function: F) -> F:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print events as NDJSON on standard output."
    )(function)


def quiet_option(function: F) -> F:
    """``--quiet``."""
    return click.option(
        "-q", "--quiet", is_flag=True, help="Print errors only, without progress bar and remarks."
    )(function)


def together(function: F, options: Iterable[Callable[[F], F]]) -> F:
    """Adds options to a command; ``--help`` lists them in reverse order."""
    for option in options:
        function = option(function)
    return function


def model_options(function: F) -> F:
    """Options of predict and batch on the model, and where and how it computes."""
    return together(
        function,
        (
            click.option(
                "--batch-size",
                callback=auto_or_count,
                metavar="auto|N",
                default="auto",
                show_default=True,
                help="Number of tiles per batch, halved when memory runs out.",
            ),
            click.option(
                "--precision",
                type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
                default="auto",
                show_default=True,
                help="Floating-point precision of the model.",
            ),
            click.option(
                "--device",
                default="auto",
                show_default=True,
                help="Device to compute on: auto, cpu, cuda, cuda:N or mps.",
            ),
            click.option(
                "-m",
                "--model",
                metavar="NAME|PATH",
                help="Model bundle, by name or path.  [default: s1-water]",
            ),
        ),
    )


def mapping_options(function: F) -> F:
    """Options of predict and batch on which part of a scene is mapped, and how carefully."""
    return together(
        function,
        (
            click.option(
                "--compile",
                is_flag=True,
                help="Compile the model for the GPU, which takes minutes once and then runs "
                "faster.",
            ),
            click.option(
                "--min-confidence",
                type=float,
                default=0,
                metavar="PERCENT",
                help="Give pixels of which the model is less certain the class unclassified.",
            ),
            click.option(
                "--despeckle",
                is_flag=True,
                help="Filter speckle (refined Lee, 7 x 7 pixels) before the model sees the scene; "
                "maps of s1-water are no better for it.",
            ),
            click.option(
                "--tta",
                is_flag=True,
                help="Average over four views of each tile, mirrored and moved, at four times the "
                "cost.",
            ),
            click.option(
                "--aoi",
                metavar="FILE",
                help="Map only the area inside the polygons of this vector file.",
            ),
            click.option(
                "--bounds",
                type=float,
                nargs=4,
                metavar="W S E N",
                help="Map only this rectangle, given in the scene's CRS, exactly as the whole map "
                "has it.",
            ),
            click.option(
                "--blend",
                type=click.Choice(BLENDS),
                default="linear",
                show_default=True,
                help="Weighting of neighbouring tiles in their overlap.",
            ),
        ),
    )


def qml_option(function: F) -> F:
    """``--qml``."""
    return click.option(
        "--qml/--no-qml",
        default=True,
        show_default=True,
        help="Write a style beside the map, with which QGIS lists only the map's classes. A style "
        "that you have made or changed is kept.",
    )(function)


def further_outputs(function: F) -> F:
    """Options of predict and batch on what is written besides the class raster.

    ``batch`` takes names with fields instead of paths.
    """
    return together(
        function,
        (
            click.option(
                "--stac",
                metavar="PATH",
                help="Also write a STAC item of the map and its other outputs, *.json.",
            ),
            qml_option,
            click.option(
                "--areas",
                metavar="PATH",
                help="Also write the area of each class, as *.csv or *.json.",
            ),
            click.option(
                "--report",
                metavar="PATH",
                help="Also write a report of the map: one HTML file that works without the "
                "internet.",
            ),
            click.option(
                "--vectors",
                metavar="PATH",
                help="Also write the classes as polygons, like vectorize.",
            ),
            click.option(
                "--probabilities",
                metavar="PATH",
                help="Also write a raster of every class's probability, in per cent.",
            ),
            click.option(
                "--confidence",
                metavar="PATH",
                help="Also write a raster of the winning class's probability, in per cent.",
            ),
        ),
    )


def predict_outputs(values: Mapping[str, Any]) -> PredictOutputs:
    """The values of ``further_outputs``, ``raster_options`` and ``--overwrite`` as one object."""
    from cwsam_geo.prediction.options import PredictOutputs

    names = ("confidence", "probabilities", "vectors", "report", "areas", "qml", "stac")
    return PredictOutputs(
        format=values["raster_format"],
        creation_options=values["creation_options"],
        overwrite=values["overwrite"],
        **{name: values[name] for name in names},
    )


def raster_options(function: F) -> F:
    """Options on the format of the rasters that a command writes."""
    return together(
        function,
        (
            click.option(
                "--co",
                "creation_options",
                callback=creation_options,
                multiple=True,
                metavar="NAME=VALUE",
                help="GDAL creation option of the rasters; repeatable.",
            ),
            click.option(
                "--of",
                "raster_format",
                type=click.Choice(["COG", "GTiff"]),
                default="COG",
                show_default=True,
                help="Format of the rasters: cloud optimized or plain GeoTIFF.",
            ),
        ),
    )


# Options that go to PredictOptions unchanged.
_PREDICT_OPTIONS = (
    "device",
    "precision",
    "batch_size",
    "overlap",
    "blend",
    "bidx",
    "units",
    "nodata",
    "scale",
    "offset",
    "border_noise",
    "despeckle",
    "aoi",
    "tta",
    "compile",
    "min_confidence",
    "t_srs",
    "res",
)


def predict_options(values: Mapping[str, Any]) -> PredictOptions:
    """The values of the options on model, reading, mapping and map grid as one object.

    Raises:
        UsageError: They contradict each other.
    """
    from cwsam_geo.prediction.options import DEFAULT_MODEL, PredictOptions

    least = values["min_confidence"]
    # A share such as 0.7 is refused with the other values that are no whole per cent.
    values = {**values, "min_confidence": int(least) if least == int(least) else least}
    return PredictOptions(
        model=values["model"] or DEFAULT_MODEL,
        bounds=values["bounds"] or None,
        **{name: values[name] for name in _PREDICT_OPTIONS},
    )


def reading_options(function: F) -> F:
    """Options of predict and info on how a scene is read and divided into tiles."""
    return together(
        function,
        (
            click.option(
                "--border-noise",
                type=click.Choice(BORDER_NOISE),
                default="mask",
                show_default=True,
                help="Noise along the borders of Sentinel-1 products from before March 2018: "
                "nodata (mask), or data.",
            ),
            click.option(
                "--nodata",
                metavar="V",
                callback=nodata_value,
                help='Nodata value, instead of the declared one; "none" if no value is nodata.',
            ),
            click.option(
                "--scale",
                type=float,
                metavar="F",
                help="Factor from stored to true values, instead of the file's own.",
            ),
            click.option(
                "--offset",
                type=float,
                metavar="V",
                help="Added to stored values times the scale, instead of the file's own.",
            ),
            click.option(
                "--units",
                type=click.Choice(UNITS),
                default="auto",
                show_default=True,
                help="Units of the scene's values; complex values are converted to power.",
            ),
            click.option(
                "-b",
                "--bidx",
                callback=band_list,
                metavar="1,2,...",
                help="Bands of the scene to use, counted from 1.",
            ),
            click.option(
                "--overlap",
                type=click.IntRange(min=0),
                metavar="PX",
                help="Pixels shared by neighbouring tiles, at most half a tile.  "
                "[default: an eighth]",
            ),
        ),
    )
