"""The command group: lazy commands, logging, and errors to exit codes."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from cwsam_geo import __version__
from cwsam_geo.errors import CwsamGeoError, is_out_of_memory

COMMANDS = {
    "predict": ("predict", "Map a scene: class raster out of a SAR GeoTIFF."),
    "vectorize": ("vectorize", "Turn a class raster into polygons that fit together."),
    "finetune": ("finetune", "Train a model for a region on labelled scenes."),
    "evaluate": ("evaluate", "Compare a class raster with a reference."),
    "info": ("info", "Say what a scene or model is, and what would happen to it."),
    "convert": ("convert", "Turn an upstream SAM or CWSAM checkpoint into a model bundle."),
    "models": ("models", "List and download SAM's checkpoints."),
}
"""Command name to module and one-line help; the module is imported when the command is used."""


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cwsam_geo.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cwsam-geo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Land-cover maps and polygons from whole SAR scenes with CWSAM."""
    ctx.obj = {"debug": debug}
    logging.basicConfig(
        stream=sys.stderr,
        format="%(levelname)s: %(message)s",
        level=logging.DEBUG if debug else logging.WARNING,
        force=True,
    )
    for noisy in ("rasterio", "fiona", "pyogrio", "matplotlib", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING if debug else logging.CRITICAL)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``cwsam-geo``: every error a user can cause is one line.

    Exit code 2 for wrong usage, 1 for other errors, 130 after Ctrl-C, 143 after SIGTERM,
    129 after SIGHUP (a terminal that was closed).
    """
    arguments = sys.argv[1:] if argv is None else argv
    _share_the_processor()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and nohup ignores it
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), _terminated)
    debug = "--debug" in arguments
    # --debug is welcome anywhere on the line.
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code = cli.main(
            ["--debug", *arguments] if debug else arguments,
            prog_name="cwsam-geo",
            standalone_mode=False,
        )
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; nothing unfinished was put in place")
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = describe(error)
        _say(message)
        sys.exit(code)


def _show(error: click.ClickException) -> None:
    """Click's errors, as ours, in one line."""
    if type(error).__name__ == "NoArgsIsHelpError":  # since Click 8.2; its message is the help
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    advice = f"; see {context.command_path} --help" if context else ""
    _say(f"Error: {_one_line(error.format_message()).rstrip('.')}{advice}")


def _share_the_processor() -> None:
    """Shortens how long idle threads of OpenMP spin, before torch starts them.

    On a machine that computes something else besides, threads that spin while they wait take the
    time of those they wait for: a run was measured to take 30 times as long, and 5 times with this.
    On a machine of our own it costs nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def describe(error: BaseException) -> tuple[str, int]:
    """One line for an error, and the exit code that goes with it."""
    kind = type(error).__name__
    if isinstance(error, CwsamGeoError):
        return f"Error: {_one_line(str(error)) or kind}", error.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f"{error.filename}: " if error.filename else ""
        return f"Error: {where}the disk is full; free some space or write elsewhere", 1
    if is_out_of_memory(error):
        return "Error: out of memory; use a smaller --batch-size or another machine", 1
    if isinstance(error, OSError):
        return f"Error: {_one_line(str(error)) or kind}", 1
    return (
        f"Error: unexpected {kind}: {_one_line(str(error)) or kind} "
        "(this is a bug in cwsam-geo: run again with --debug and report the traceback)",
        1,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(message: str) -> None:
    click.echo(message, err=True)


def _terminated(signum: int, frame: FrameType | None) -> Any:
    # Unwinds the stack, so that temporary files are removed.
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
