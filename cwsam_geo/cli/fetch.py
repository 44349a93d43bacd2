"""``cwsam-geo fetch``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import click

from cwsam_geo.cli.options import json_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter


def _band_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip().upper() for part in value.split(","))


@click.command("fetch")
@click.option(
    "--bbox",
    type=float,
    nargs=4,
    multiple=True,
    metavar="W S E N",
    help="Place, in degrees; repeatable. Across 180 degrees W is greater than E.",
)
@click.option(
    "--aoi", metavar="FILE", help="Vector file: the rectangle around its polygons is the place."
)
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="FILE",
    help="Vector file: the rectangle around each polygon is a place of its own; repeatable.",
)
@click.option("--date", required=True, metavar="DAY|FIRST/LAST", help="As 2024-06-01/2024-08-31.")
@click.option(
    "-o", "--output", required=True, metavar="DIR", type=click.Path(), help="Folder to write to."
)
@click.option(
    "--source",
    default="planetary-computer",
    show_default=True,
    metavar="NAME|URL",
    help="planetary-computer, opera, earth-search (list only), or the address of a STAC API.",
)
@click.option(
    "--collection", metavar="ID", help="Collection of the source.  [default: its Sentinel-1]"
)
@click.option(
    "--orbit", type=click.Choice(["ascending", "descending"]), help="Only passes of this direction."
)
@click.option(
    "--bands",
    default="VV,VH",
    show_default=True,
    callback=_band_names,
    metavar="P,...",
    help="Polarisations that a scene must have; they become its bands.",
)
@click.option(
    "--res",
    "resolution",
    type=float,
    metavar="R",
    help="Side of a pixel in units of the CRS.  [default: 10 m]",
)
@click.option(
    "--crs",
    metavar="EPSG:...",
    help="CRS of the scenes.  [default: the UTM zone of the place's centre]",
)
@click.option(
    "--max-scenes",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most so many scenes of a place: those that cover most of it.",
)
@click.option(
    "--composite",
    type=click.Choice(["median"]),
    help="Make one scene of all dates, with less speckle.",
)
@click.option(
    "--labels",
    metavar="NAME|PATH|URL",
    help="Also write labels and a region.yaml: worldcover, esri-lulc, or a class raster.",
)
@click.option("--dry-run", is_flag=True, help="List the scenes and their size; write nothing.")
@overwrite_option
@json_option
@quiet_option
def command(output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Fetch Sentinel-1 scenes, and labels for them, from a STAC catalogue.

    One GeoTIFF is written for each pass of a satellite over a place: scene_1.tif covers most of the
    place. Only the pixels of the place are read. The same command continues an interrupted run.
    """
    from cwsam_geo.fetch.fetch_scenes import fetch_scenes
    from cwsam_geo.fetch.options import FetchOptions

    with FetchReporter(as_json, quiet, values["dry_run"]) as report:
        fetch_scenes(output, FetchOptions(**values), report)


class FetchReporter(Reporter):
    """Prints the events of ``fetch_scenes``."""

    unit = "px"
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True}

    def __init__(self, as_json: bool, quiet: bool, dry_run: bool) -> None:
        super().__init__(as_json, quiet)
        # The list is the result of a dry run, and a remark of any other.
        self._dry_run = dry_run

    def on_scene(self, event: Mapping[str, Any]) -> None:
        """Prints one line on a scene that was found."""
        date = (event["date"] or "no date").replace("T", " ")[:16]
        track = event["relative_orbit"]
        count = len(event["items"])
        line = (
            f"{event['file'] or '':<16} {date:<16}  {event['platform'] or '':<12} "
            f"{event['orbit'] or '':<10} {'' if track is None else track:>4}  "
            f"{100 * event['cover']:3.0f} %  {event['width']} x {event['height']} px  "
            f"{event['bytes'] / 1e6:,.0f} MB" + (f"  {count} items" if count > 1 else "")
        )
        if self._dry_run:
            click.echo(line.rstrip())
        else:
            self.say(line)

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts pixels."""
        self.advance(event["pixels"], event["total"])

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints what was written, and what to do next."""
        self.close_bar()
        scenes = event["scenes"]
        more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        self.say(f"{scenes[0]}{more} ({event['seconds']:.1f} s)")
        if event["region"]:
            self.say(f"next: cwsam-geo finetune {event['region']} -o model.safetensors")
