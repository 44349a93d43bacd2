"""``cwsam-geo completion``."""

from __future__ import annotations

import os
from pathlib import PurePath

import click

_LINES = {
    "bash": ("~/.bashrc", 'eval "$(_CWSAM_GEO_COMPLETE=bash_source cwsam-geo)"'),
    "zsh": ("~/.zshrc", 'eval "$(_CWSAM_GEO_COMPLETE=zsh_source cwsam-geo)"'),
    "fish": (
        "~/.config/fish/completions/cwsam-geo.fish",
        "_CWSAM_GEO_COMPLETE=fish_source cwsam-geo | source",
    ),
}
"""The file that each shell reads at its start, and the line that switches completion on."""


@click.command("completion")
@click.argument("shell", required=False, type=click.Choice(sorted(_LINES)))
def command(shell: str | None) -> None:
    """Say how to switch on completion of commands, options and files in a shell.

    SHELL is by default the one of the environment variable SHELL.
    """
    name = shell or PurePath(os.environ.get("SHELL", "")).name
    if name not in _LINES:
        raise click.UsageError(f"name your shell: {', '.join(sorted(_LINES))}")
    file, line = _LINES[name]
    click.echo(f"Add this line to {file}, then open a new terminal:\n\n    {line}")
