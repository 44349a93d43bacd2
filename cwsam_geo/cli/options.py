"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cwsam_geo.cli.parameters import band_list, nodata_value

F = TypeVar("F", bound=Callable[..., Any])

# Copy of the units in cwsam_geo.units, which imports numpy; a test compares the two.
UNITS = ("auto", "db", "power", "amplitude")


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


def reading_options(function: F) -> F:
    """Options of predict and info on how a scene is read and divided into tiles."""
    for option in (
        click.option(
            "--nodata",
            metavar="V",
            callback=nodata_value,
            help='Nodata value, instead of the declared one; "none" if no value is nodata.',
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
            help="Pixels shared by neighbouring tiles, at most half a tile.  [default: an eighth]",
        ),
    ):
        function = option(function)
    return function
