"""``cwsam-geo predict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cwsam_geo.cli.options import (
    auto_or_count,
    creation_options,
    json_option,
    output_option,
    overwrite_option,
    quiet_option,
    reading_options,
)
from cwsam_geo.cli.reporting import Reporter

# Copy of the names in cwsam_geo.prediction.blend, which imports numpy; a test compares the two.
BLENDS = ("cosine", "linear", "gaussian", "flat")


@click.command("predict")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@output_option("Class raster to write, a GeoTIFF of uint8 codes with nodata 255.")
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    help="Model bundle, by name or path.  [default: s1-landcover]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to compute on: auto, cpu, cuda, cuda:N or mps.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Floating-point precision of the model.",
)
@click.option(
    "--batch-size",
    callback=auto_or_count,
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Number of tiles per batch, halved when memory runs out.",
)
@reading_options
@click.option(
    "--blend",
    type=click.Choice(BLENDS),
    default="linear",
    show_default=True,
    help="Weighting of neighbouring tiles in their overlap.",
)
@click.option(
    "--bounds",
    type=float,
    nargs=4,
    metavar="W S E N",
    help="Map only this rectangle, given in the scene's CRS, exactly as the whole map has it.",
)
@click.option(
    "--aoi", metavar="FILE", help="Map only the area inside the polygons of this vector file."
)
@click.option(
    "--confidence",
    metavar="PATH",
    help="Also write a raster of the winning class's probability, in per cent.",
)
@click.option(
    "--probabilities",
    metavar="PATH",
    help="Also write a raster of every class's probability, in per cent.",
)
@click.option(
    "--vectors", metavar="PATH", help="Also write the classes as polygons, like vectorize."
)
@click.option(
    "--tta",
    is_flag=True,
    help="Average the predictions over four flips, at four times the cost.",
)
@click.option(
    "--compile",
    is_flag=True,
    help="Compile the model for the GPU, which takes minutes once and then runs faster.",
)
@click.option(
    "--of",
    "raster_format",
    type=click.Choice(["COG", "GTiff"]),
    default="COG",
    show_default=True,
    help="Format of the rasters: cloud optimized or plain GeoTIFF.",
)
@click.option(
    "--co",
    "creation_options",
    callback=creation_options,
    multiple=True,
    metavar="NAME=VALUE",
    help="GDAL creation option of the rasters; repeatable.",
)
@overwrite_option
@json_option
@quiet_option
def command(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **values: Any
) -> None:
    """Map a scene: write a raster of land-cover classes.

    SCENE is any raster that GDAL reads, or a URL. Several single-band files (vv.tif vh.tif) are the
    bands of one scene. The result is a Cloud Optimized GeoTIFF on the scene's grid, with the class
    names and colours of the model.
    """
    from cwsam_geo.prediction.options import DEFAULT_MODEL, PredictOptions, PredictOutputs
    from cwsam_geo.prediction.predict_scene import predict_scene

    options = PredictOptions(
        model=values["model"] or DEFAULT_MODEL,
        bounds=values["bounds"] or None,
        **{k: values[k] for k in _OPTIONS},
    )
    outputs = PredictOutputs(
        confidence=values["confidence"],
        probabilities=values["probabilities"],
        vectors=values["vectors"],
        format=values["raster_format"],
        creation_options=values["creation_options"],
        overwrite=values["overwrite"],
    )
    with PredictReporter(as_json, quiet) as report:
        predict_scene(scenes, output, options, outputs, report)


# Options that go to PredictOptions unchanged.
_OPTIONS = (
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
    "aoi",
    "tta",
    "compile",
)


class PredictReporter(Reporter):
    """Prints the events of ``predict_scene``."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json, quiet)
        self._vectors: Reporter | None = None

    def show(self, event: Mapping[str, Any]) -> None:
        """Prints one event; events of the polygons look like those of ``vectorize``."""
        if event.get("stage") == "vectors":
            from cwsam_geo.cli.vectorize import VectorizeReporter

            if self._vectors is None:
                self._vectors = VectorizeReporter(self._as_json, self._quiet)
            self._vectors.show(event)
        else:
            super().show(event)

    def on_start(self, event: Mapping[str, Any]) -> None:
        """Prints the size of the scene and the settings."""
        self.say(
            f"{event['width']} x {event['height']} px on {event['device']} "
            f"({event['precision']}), tiles of {event['tile_size']} px, "
            f"overlap {event['overlap']}"
        )

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts tiles."""
        self.advance(event["tiles"], event["total"], f"{event['mpx_per_second']:.2f} Mpx/s")

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the share of each class in the map."""
        self.close_bar()
        total = sum(event["pixels"].values())
        shares = ", ".join(f"{n} {100 * v / total:.1f} %" for n, v in event["pixels"].items())
        self.say(f"{event['output']}: {shares} ({event['seconds']:.1f} s)")
