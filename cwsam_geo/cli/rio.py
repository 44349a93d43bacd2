"""``rio cwsam``: the commands as a plugin of rasterio's command line."""

from __future__ import annotations

from typing import Any

import click

from cwsam_geo.cli.main import LazyGroup, describe, share_the_processor


class RioGroup(LazyGroup):
    """The commands of ``cwsam-geo`` in rasterio's ``rio``, with their messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; prints an error as one line."""
        share_the_processor()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            message, code = describe(error)
            click.echo(message, err=True)
            ctx.exit(code)


@click.group(
    "cwsam", cls=RioGroup, short_help="Land-cover maps and polygons from whole SAR scenes."
)
def cwsam() -> None:
    """Land-cover maps and polygons from whole SAR scenes with CWSAM."""
