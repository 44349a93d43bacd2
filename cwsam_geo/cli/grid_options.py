"""Options of predict and batch on the grid of the map."""

from __future__ import annotations

import click

from cwsam_geo.cli.options import F, together


def grid_options(function: F) -> F:
    """``--t-srs`` and ``--res``."""
    return together(
        function,
        (
            click.option(
                "--res",
                type=float,
                metavar="SIZE",
                help="Pixel size on this grid, in units of its CRS.  [default: about the scene's]",
            ),
            click.option(
                "--t-srs",
                metavar="auto|CRS",
                help="Lay the map on a north-up grid of this CRS (nearest neighbour), also from "
                "control points; auto: the zone of UTM.  [default: the scene's grid]",
            ),
        ),
    )
