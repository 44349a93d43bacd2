"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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
