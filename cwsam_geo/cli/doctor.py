"""``cwsam-geo doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cwsam_geo.doctor.examine import Check


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Examine this installation, and say what to do about what is wrong.

    Versions, GDAL's drivers, PROJ's databases, devices, memory, disks, and whether the models that
    come with the package give the numbers that were stored with them. The exit code is 1 if
    something does not work.
    """
    from cwsam_geo.doctor.examine import examine

    found = examine(lambda check: None if as_json else _say(check))
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    ctx.exit(0 if found.healthy else 1)


def _say(check: Check) -> None:
    mark = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}[check.status]
    click.echo(f"{mark}  {check.name}: {check.found}")
    if check.advice:
        click.echo(f"         {check.advice}")
