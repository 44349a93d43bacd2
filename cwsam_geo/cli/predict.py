"""``cwsam-geo predict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import (
    json_option,
    output_option,
    overwrite_option,
    quiet_option,
    reading_options,
)
from cwsam_geo.cli.parameters import auto_or_count, creation_options
from cwsam_geo.cli.reporting import Reporter

# As in cwsam_geo.blend, which imports numpy; a test compares them.
BLENDS = ("cosine", "linear", "gaussian", "flat")


@click.command("predict")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@output_option("Class raster to write: a GeoTIFF of uint8 codes, nodata 255.")
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    help="Model bundle, by name or path.  [default: s1-landcover]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the model.",
)
@click.option(
    "--batch-size",
    callback=auto_or_count,
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Tiles at once; halved when memory runs out.",
)
@reading_options
@click.option(
    "--blend",
    type=click.Choice(BLENDS),
    default="linear",
    show_default=True,
    help="How neighbouring tiles are mixed where they overlap.",
)
@click.option(
    "--bounds",
    type=float,
    nargs=4,
    metavar="W S E N",
    help="Map only this rectangle, in the scene's CRS.",
)
@click.option("--aoi", metavar="FILE", help="Map only the polygons of this vector file.")
@click.option("--confidence", metavar="PATH", help="Also write the winner's probability in %.")
@click.option("--probabilities", metavar="PATH", help="Also write every class's probability in %.")
@click.option("--vectors", metavar="PATH", help="Also write polygons, as vectorize does.")
@click.option("--tta", is_flag=True, help="Average over four flips, at four times the cost.")
@click.option(
    "--compile",
    is_flag=True,
    help="Compile the model for the GPU: minutes first, then faster.",
)
@click.option(
    "--of",
    "raster_format",
    type=click.Choice(["COG", "GTiff"]),
    default="COG",
    show_default=True,
    help="Kind of GeoTIFF.",
)
@click.option(
    "--co",
    "creation_options",
    callback=creation_options,
    multiple=True,
    metavar="NAME=VALUE",
    help="GDAL creation option; repeatable.",
)
@overwrite_option
@json_option
@quiet_option
def command(scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Map a scene: write a raster of land-cover classes.

    SCENE is anything GDAL reads, also a URL; several single-band files (vv.tif vh.tif) are taken
    as the bands of one scene. The result is a Cloud Optimized GeoTIFF on the scene's own grid,
    with the class names and colours of the model.
    """
    from cwsam_geo.api import predict_scene
    from cwsam_geo.options import DEFAULT_MODEL, PredictOptions, PredictOutputs

    options = PredictOptions(
        model=given["model"] or DEFAULT_MODEL,
        bounds=given["bounds"] or None,
        **{k: given[k] for k in _OPTIONS},
    )
    outputs = PredictOutputs(
        confidence=given["confidence"],
        probabilities=given["probabilities"],
        vectors=given["vectors"],
        format=given["raster_format"],
        creation_options=given["creation_options"],
        overwrite=given["overwrite"],
    )
    with PredictReporter(as_json, quiet) as report:
        predict_scene(scenes, output, options, outputs, report)


_OPTIONS = (
    "device",
    "precision",
    "batch_size",
    "overlap",
    "blend",
    "bidx",
    "units",
    "nodata",
    "aoi",
    "tta",
    "compile",
)


class PredictReporter(Reporter):
    """Prints what ``predict_scene`` tells."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json, quiet)
        self._vectors: Reporter | None = None

    def show(self, event: Mapping[str, Any]) -> None:
        """Prints one event; those of the polygons as ``vectorize`` prints them."""
        if event.get("stage") == "vectors":
            from cwsam_geo.cli.vectorize import VectorizeReporter

            if self._vectors is None:
                self._vectors = VectorizeReporter(self._as_json, self._quiet)
            self._vectors.show(event)
        else:
            super().show(event)

    def on_start(self, event: Mapping[str, Any]) -> None:
        """Says what is done with what."""
        self.say(
            f"{event['width']} x {event['height']} px on {event['device']} "
            f"({event['precision']}), tiles of {event['tile_size']} px, "
            f"overlap {event['overlap']}"
        )

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar."""
        self.advance(event["tiles"], event["total"], f"{event['mpx_per_second']:.2f} Mpx/s")

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Says what the map holds."""
        self.close_bar()
        total = sum(event["pixels"].values())
        shares = ", ".join(f"{n} {100 * v / total:.1f} %" for n, v in event["pixels"].items())
        self.say(f"{event['output']}: {shares} ({event['seconds']:.1f} s)")
