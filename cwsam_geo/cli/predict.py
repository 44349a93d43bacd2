"""``cwsam-geo predict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import click

from cwsam_geo.cli.grid_options import grid_options
from cwsam_geo.cli.importing import large_modules
from cwsam_geo.cli.options import (
    further_outputs,
    json_option,
    mapping_options,
    model_options,
    output_option,
    overwrite_option,
    predict_options,
    predict_outputs,
    quiet_option,
    raster_options,
    reading_options,
)
from cwsam_geo.cli.process_options import predict_run, process_options
from cwsam_geo.cli.reporting import Reporter


@click.command("predict")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@output_option("Class raster to write, a GeoTIFF of uint8 codes with nodata 255; a path or URL.")
@model_options
@reading_options
@mapping_options
@grid_options
@further_outputs
@raster_options
@process_options
@overwrite_option
@json_option
@quiet_option
def command(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **values: Any
) -> None:
    """Map a scene: write a raster of land-cover classes.

    SCENE is any raster that GDAL reads, a URL, or a STAC item. Several single-band files (vv.tif
    vh.tif) are the bands of one scene. The result is a Cloud Optimized GeoTIFF on the scene's grid,
    with the class names and colours of the model.
    """
    with large_modules():
        from cwsam_geo.prediction.predict_scene import predict_scene

    options, outputs = predict_options(values), predict_outputs(values)
    with PredictReporter(as_json, quiet) as report:
        predict_scene(scenes, output, options, outputs, report, run=predict_run(values))


class _LayingReporter(Reporter):
    unit = "px"
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True}


class PredictReporter(Reporter):
    """Prints the events of ``predict_scene``."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json, quiet)
        self._vectors: Reporter | None = None
        self._laying: _LayingReporter | None = None

    def show(self, event: Mapping[str, Any]) -> None:
        """Prints one event; those of polygons and report look like those of their commands."""
        if event.get("stage") == "vectors":
            from cwsam_geo.cli.vectorize import VectorizeReporter

            if self._vectors is None:
                self._vectors = VectorizeReporter(self._as_json, self._quiet)
            self._vectors.show(event)
        elif event.get("stage") == "report":
            from cwsam_geo.cli.report import ReportReporter

            ReportReporter(self._as_json, self._quiet).show(event)
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

    def on_geocoding(self, event: Mapping[str, Any]) -> None:
        """Moves a bar that counts the pixels which are laid on the map grid."""
        if self._laying is None:
            self.close_bar()
            self._laying = _LayingReporter(self._as_json, self._quiet)
        self._laying.advance(event["pixels"], event["total"], "map grid")
        if event["pixels"] == event["total"]:
            self._laying.close_bar()
            self._laying = None

    def on_areas(self, event: Mapping[str, Any]) -> None:
        """Prints the area of each class."""
        words = []
        for c in event["classes"]:
            area = f"{c['pixels']:,} px" if c["km2"] is None else f"{c['km2']:,.2f} km2"
            words.append(f"{c['name']} {area}")
        self.say(f"{event['output']}: {', '.join(words)}")

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the share of each class in the map."""
        self.close_bar()
        self.say_shares(event)

    def say_shares(self, event: Mapping[str, Any]) -> None:
        """Prints the share of each class, of an event ``done``."""
        total = sum(event["pixels"].values())
        shares = ", ".join(f"{n} {100 * v / total:.1f} %" for n, v in event["pixels"].items())
        self.say(f"{event['output']}: {shares} ({event['seconds']:.1f} s)")
