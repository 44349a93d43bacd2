"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cwsam_geo.cli.parameters import band_list, nodata_value

F = TypeVar("F", bound=Callable[..., Any])

# As in cwsam_geo.units, which imports numpy; a test compares them.
UNITS = ("auto", "db", "power", "amplitude")


def output_option(help_text: str) -> Callable[[F], F]:
    """``-o/--output PATH``, required."""
    return click.option(
        "-o", "--output", required=True, metavar="PATH", type=click.Path(), help=help_text
    )


def overwrite_option(function: F) -> F:
    """``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")(
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
        "-q", "--quiet", is_flag=True, help="No progress bar and no remarks; errors only."
    )(function)


def reading_options(function: F) -> F:
    """What a scene's files mean to a model, and how it is cut: the same for predict and info."""
    for option in (
        click.option(
            "--nodata",
            metavar="V",
            callback=nodata_value,
            help='Value that is nodata, instead of the declared one; "none" where nothing is.',
        ),
        click.option(
            "--units",
            type=click.Choice(UNITS),
            default="auto",
            show_default=True,
            help="What the scene's values are; complex ones are squared to power.",
        ),
        click.option(
            "-b", "--bidx", callback=band_list, metavar="1,2,...", help="Bands of the scene to use."
        ),
        click.option(
            "--overlap",
            type=click.IntRange(min=0),
            metavar="PX",
            help="Pixels that neighbouring tiles share, up to half a tile.  [default: an eighth]",
        ),
    ):
        function = option(function)
    return function
