"""Options of predict on where a run computes, and how it goes on after a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from cwsam_geo.cli.options import F, together

if TYPE_CHECKING:
    from cwsam_geo.prediction.options import PredictRun


def process_options(function: F) -> F:
    """Options of predict and batch on where a run computes, and how it goes on after a failure."""
    return together(
        function,
        (
            click.option(
                "--resume/--no-resume",
                default=None,
                help="Go on where an earlier run of this output stopped, or begin again.",
            ),
            click.option(
                "--parts",
                metavar="DIR|URL",
                help="Keep finished rows here until the map is complete.  [default: beside it]",
            ),
            click.option(
                "--dask",
                metavar="ADDRESS",
                help="Compute on a Dask cluster: tcp://HOST:8786, local or local:N (workers).",
            ),
            click.option(
                "--devices",
                metavar="N|all|LIST",
                help="Compute on several devices: 4, all, cuda:0,cuda:2 or cpu:2 (processes).",
            ),
        ),
    )


def predict_run(values: Mapping[str, Any]) -> PredictRun:
    """The values of ``process_options`` as one object.

    Raises:
        UsageError: They contradict each other.
    """
    from cwsam_geo.prediction.options import PredictRun

    return PredictRun(
        resume=values["resume"],
        devices=values["devices"],
        dask=values["dask"],
        parts=values["parts"],
    )
