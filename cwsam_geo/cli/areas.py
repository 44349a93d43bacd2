"""``cwsam-geo areas``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import click

from cwsam_geo.cli.options import json_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter


@click.command("areas")
@click.argument("path", metavar="MAP")
@click.option("-o", "--output", metavar="PATH", help="Table to write: *.csv or *.json.")
@click.option(
    "--band",
    metavar="N|NAME",
    help="Band of MAP that holds the class codes.  [default: the only one, or the one called "
    "label, class, landcover, ...]",
)
@overwrite_option
@json_option
@quiet_option
def command(
    path: str, output: str | None, band: str | None, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Measure how much ground each class of a map covers.

    MAP is a class raster, of predict or another program. Areas are those on the ellipsoid of its
    CRS, not in the plane of its projection. Without a CRS, pixels are counted.
    """
    from cwsam_geo.areas.class_areas import measure

    with AreasReporter(as_json, quiet) as report:
        measure(path, output, band, overwrite, report)


class AreasReporter(Reporter):
    """Prints the events of ``areas``."""

    unit = "px"
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True, "delay": 1, "leave": False}

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts pixels."""
        self.advance(event["pixels"], event["total"])

    def on_areas(self, event: Mapping[str, Any]) -> None:
        """Prints the table."""
        self.close_bar()
        rows = [(str(c["code"]), c["name"], *_numbers(c)) for c in event["classes"]]
        rows.append(("", "all", *_numbers({**event, "pixels": None, "percent": None})))
        head = ("code", "class", "pixels", "km2", "%")
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(5)]
        for row in [head, *rows]:
            code, name, *numbers = (t.rjust(w) for t, w in zip(row, widths, strict=True))
            name = name.strip().ljust(widths[1])
            click.echo("  ".join([code, name, *numbers]))


def _numbers(row: Mapping[str, Any]) -> tuple[str, str, str]:
    pixels = "" if row["pixels"] is None else f"{row['pixels']:,}"
    km2 = "" if row["km2"] is None else f"{row['km2']:,.3f}"
    return pixels, km2, "" if row["percent"] is None else f"{row['percent']:.2f}"
