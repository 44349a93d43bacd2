"""``cwsam-geo batch``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from cwsam_geo.cli.grid_options import grid_options
from cwsam_geo.cli.importing import large_modules
from cwsam_geo.cli.mosaic import MosaicReporter
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
from cwsam_geo.cli.predict import PredictReporter
from cwsam_geo.cli.process_options import predict_run, process_options
from cwsam_geo.core.counting import how_many

_LISTED = 40
"""Scenes of the table at the end; of more scenes, only those without a map are listed."""


@click.command("batch")
@click.argument("scenes", nargs=-1, metavar="SCENES...")
@output_option("Name of each map, such as maps/{stem}_landcover.tif, or a folder; a path or URL.")
@click.option(
    "--list",
    "lists",
    multiple=True,
    metavar="FILE",
    help="Text file with a scene on each line, as @FILE among SCENES; - for standard input.",
)
@model_options
@reading_options
@mapping_options
@grid_options
@further_outputs
@click.option(
    "--summary", metavar="FILE", help="Write what became of each scene as a table, .csv or .json."
)
@click.option(
    "--mosaic",
    metavar="FILE",
    help="Also put all maps together, like mosaic: a GeoTIFF, or a VRT that refers to them.",
)
@process_options
@raster_options
@overwrite_option
@json_option
@quiet_option
def command(scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **values: Any) -> int:
    """Map many scenes, each to a map of its own.

    SCENES are rasters, Sentinel-1 products or URLs, folders of them, quoted patterns
    ('scenes/*.tif'), @LIST (a text file with a scene on each line) or STAC items (.json). Files
    that differ in the polarisation only (a_vv.tif, a_vh.tif) are the bands of one scene.

    The paths of all outputs of a scene are names with these fields: {stem} (the scene's file name),
    {parent} (its folder's), {id} (of its STAC item) and {date} (YYYYMMDD).

    A scene that fails does not stop the others; the exit code is then 1. Scenes that have their map
    already, made from the same file with the same model and settings, are skipped, so the same
    command goes on after an interruption. --overwrite replaces maps that were made otherwise.

    --devices and --dask map several scenes at a time, and parts of the last ones.
    """
    with large_modules():
        from cwsam_geo.batch.predict_scenes import predict_scenes
        from cwsam_geo.batch.run import BatchReports

    given = [*scenes, *(f"@{name}" for name in values["lists"])]
    if not given:
        raise click.UsageError("no scenes given: name files, folders, patterns or @LIST")
    with BatchReporter(as_json, quiet) as report:
        result = predict_scenes(
            given,
            output,
            predict_options(values),
            predict_outputs(values),
            BatchReports(summary=values["summary"], mosaic=values["mosaic"]),
            report,
            predict_run(values),
        )
    return 0 if result.complete else 1


class BatchReporter(PredictReporter):
    """Prints the events of ``predict_scenes``."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json, quiet)
        self._mosaic: MosaicReporter | None = None
        self._begun: set[int] = set()
        self._shares: dict[int, float] = {}
        self._together = False
        self._ended = self._total = 0
        self._index: int | None = None

    def say(self, text: str) -> None:
        """Prints a line; of several scenes at a time, it names its scene."""
        super().say(f"[{self._index}] {text}" if self._together and self._index else text)

    def show(self, event: Mapping[str, Any]) -> None:
        """Prints one event; failures are printed even where remarks go to a program."""
        if event.get("stage") == "mosaic":
            if self._mosaic is None:
                self._mosaic = MosaicReporter(self._as_json, self._quiet)
            self._mosaic.show(event)
            return
        self._index = event.get("index")
        super().show(event)
        if event["event"] == "result" and event["status"] == "failed" and self._as_json:
            self.say(f"Failed: {event['error']}")

    def on_scene(self, event: Mapping[str, Any]) -> None:
        """Prints which scene is next."""
        self._begun.add(event["index"])
        if len(self._begun) > 1 and not self._together:
            # Several scenes at a time: from now on the bar counts scenes.
            self.close_bar()
            self._together, self.unit = True, "scene"
        self._total = event["total"]
        super().say(f"[{event['index']}/{event['total']}] {event['scene']}")

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the share of each class in a map."""
        if not self._together:
            self.close_bar()
        self.say_shares(event)

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts tiles, or scenes if several are mapped at a time."""
        if not self._together:
            super().on_progress(event)
            return
        # A scene counts in parts while it is mapped.
        self._shares[event["index"]] = event["tiles"] / event["total"]
        done = self._ended + sum(self._shares.values())
        self.advance(round(done, 2), self._total, f"{len(self._begun)} at work")

    def on_geocoding(self, event: Mapping[str, Any]) -> None:
        """Moves the bar of a map grid, unless the bar counts scenes."""
        if not self._together:
            super().on_geocoding(event)

    def on_result(self, event: Mapping[str, Any]) -> None:
        """Prints why a scene failed, or that it has its map."""
        self._begun.discard(event["index"])
        self._shares.pop(event["index"], None)
        self._ended += 1
        if not self._together:
            self.close_bar()
        if event["status"] == "failed":
            self.say(f"Failed: {event['error']}")
        elif event["status"] == "outside":
            self.say(f"Not mapped: {event['error']}")
        elif event["status"] == "finished":
            self.say(f"{event['output']}: finished earlier, from the same scene and settings")

    def on_summary(self, event: Mapping[str, Any]) -> None:
        """Prints a table of the scenes."""
        self.close_bar()
        scenes = event["scenes"]
        shown = [s for s in scenes if len(scenes) <= _LISTED or s["status"] not in _EXPECTED]
        for line in _table(shown):
            self.say(line)
        counts = ", ".join(f"{count} {status}" for status, count in event["counts"].items())
        self.say(f"{how_many(len(scenes), 'scene')}: {counts} ({event['seconds']:.0f} s)")


_WITH_MAP = ("mapped", "finished")
_EXPECTED = (*_WITH_MAP, "outside")


def _table(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table: scene, status, size, time, and the map or the error."""
    rows = [("scene", "status", "Mpx", "s", "map or error")] if scenes else []
    for scene in scenes:
        pixels, seconds = scene["pixels"], scene["seconds"]
        rows.append(
            (
                scene["scene"],
                scene["status"],
                "" if pixels is None else f"{sum(pixels.values()) / 1e6:.1f}",
                "" if seconds is None else f"{seconds:.0f}",
                scene["error"] or (scene["output"] if scene["status"] in _WITH_MAP else ""),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)] if rows else []
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
