"""``cwsam-geo mosaic``."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import click

from cwsam_geo.cli.options import (
    json_option,
    output_option,
    overwrite_option,
    qml_option,
    quiet_option,
    raster_options,
)
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.core.counting import how_many


@click.command("mosaic")
@click.argument("maps", nargs=-1, required=True, metavar="MAPS...")
@output_option("Mosaic to write: a GeoTIFF, or a VRT that refers to the maps.")
@click.option(
    "--confidence",
    multiple=True,
    metavar="FILE",
    help="Raster of confidence of each map, also as a quoted pattern; repeatable. Where maps "
    "overlap, the higher confidence counts; without these, the first map.",
)
@click.option("--confidence-output", metavar="PATH", help="Also write the confidence that counted.")
@click.option(
    "--t-srs",
    "crs",
    metavar="CRS",
    help="CRS of the mosaic, to which the maps are resampled (nearest neighbour).",
)
@click.option(
    "--tr", "resolution", type=float, metavar="SIZE", help="Pixel size of the mosaic in this CRS."
)
@click.option("--like", metavar="FILE", help="Raster whose grid the mosaic gets.")
@qml_option
@raster_options
@overwrite_option
@json_option
@quiet_option
def command(maps: tuple[str, ...], output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Put neighbouring maps together to one raster.

    MAPS are class rasters of one legend, also as quoted patterns ('maps/*_landcover.tif'). If their
    pixels coincide, they are copied without a change. Otherwise choose a grid with --t-srs or
    --like: no pixel is moved unasked.
    """
    from cwsam_geo.mosaicking.mosaic import mosaic
    from cwsam_geo.mosaicking.options import MosaicOptions

    options = MosaicOptions(
        confidence=_files(values["confidence"]),
        confidence_output=values["confidence_output"],
        crs=values["crs"],
        resolution=values["resolution"],
        like=values["like"],
        format=values["raster_format"],
        creation_options=values["creation_options"],
        qml=values["qml"],
        overwrite=values["overwrite"],
    )
    with MosaicReporter(as_json, quiet) as report:
        mosaic(_files(maps), output, options, report)


def _files(given: Sequence[str]) -> list[str]:
    """The files given, with those that match patterns, sorted."""
    files: list[str] = []
    for text in given:
        if os.path.exists(text) or not glob.has_magic(text):
            files.append(text)
            continue
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise click.UsageError(f"{text}: no file has such a name")
        files += matches
    return files


class MosaicReporter(Reporter):
    """Prints the events of ``mosaic``."""

    unit = "px"
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True}

    def on_start(self, event: Mapping[str, Any]) -> None:
        """Prints the size of the mosaic."""
        how = ", resampled by nearest neighbour" if event["resampled"] else ""
        self.say(
            f"{how_many(event['maps'], 'map')} on {event['width']} x {event['height']} px{how}"
        )

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts pixels."""
        self.advance(event["pixels"], event["total"])

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the share of each class, and how far the maps agree."""
        self.close_bar()
        if event["overlap_pixels"]:
            share = 100 * event["overlap_differing"] / event["overlap_pixels"]
            self.say(f"maps differ on {share:.1f} % of the pixels where they overlap")
        total = sum(event["pixels"].values())
        shares = ", ".join(f"{n} {100 * v / total:.1f} %" for n, v in event["pixels"].items())
        self.say(f"{event['output']}: {shares or 'refers to the maps'} ({event['seconds']:.1f} s)")
