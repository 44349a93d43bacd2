"""The command group: loads commands lazily, sets up logging, turns errors into exit codes."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from cwsam_geo._version import __version__
from cwsam_geo.cli.examples import epilog
from cwsam_geo.errors import explained, one_line

COMMANDS = {
    "fetch": ("fetch", "Fetch scenes of a place, and labels for them, from a STAC catalogue."),
    "predict": ("predict", "Map a scene: turn a SAR GeoTIFF into a class raster."),
    "batch": ("batch", "Map many scenes; a scene that fails does not stop the others."),
    "mosaic": ("mosaic", "Put neighbouring maps together to one raster."),
    "vectorize": ("vectorize", "Turn a class raster into polygons that fit together."),
    "finetune": ("finetune", "Train a model for a region on labelled scenes."),
    "evaluate": ("evaluate", "Compare a class raster with a reference."),
    "report": ("report", "Write a report of a map: one HTML file with a zoomable map."),
    "areas": ("areas", "Measure how much ground each class of a map covers."),
    "preview": ("preview", "Draw a map or scene: legend, scale bar, coordinates."),
    "info": ("info", "Describe a scene, map or model, and what predict would do."),
    "convert": ("convert", "Turn an upstream SAM or CWSAM checkpoint into a model bundle."),
    "models": ("models", "List models, and download SAM's checkpoints."),
    "completion": ("completion", "Say how to switch on completion in a shell."),
    "doctor": ("doctor", "Examine this installation, and say what is wrong."),
}
"""Module and one-line help of each command; a module is imported when its command runs."""


class LazyGroup(click.Group):
    """Imports a command's module only when the command runs, so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns a command; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cwsam_geo.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        _finish(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


_FILES = re.compile(r"PATH|FILE|SCENE|MAP|MODEL|REFERENCE|LANDCOVER|REGION|\bIN\b|DIR")
"""In the placeholder of an option or argument that takes files."""


def _finish(command: click.Command, name: str) -> None:
    """Adds examples to a command's help, and completion of file names to its parameters."""
    command.epilog = epilog(name)
    for parameter in command.params:
        if parameter.type is click.STRING and _FILES.search(parameter.metavar or ""):
            # Shells complete nothing for a text; the value stays the same text.
            parameter.type = click.Path()
    for child in getattr(command, "commands", {}).values():
        _finish(child, f"{name} {child.name}")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cwsam-geo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and debug messages.")
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
    # These libraries log warnings of their own; errors reach the user as exceptions.
    for noisy in ("rasterio", "fiona", "pyogrio", "matplotlib", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING if debug else logging.CRITICAL)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``cwsam-geo``. Prints errors as one line and exits.

    The exit code is 0 on success, 2 for wrong usage, 1 for other errors, 130 after Ctrl-C, 143
    after SIGTERM and 129 after SIGHUP (a closed terminal).

    Args:
        argv: Arguments without the program's name; None for those of the process.
    """
    arguments = sys.argv[1:] if argv is None else argv
    _open_standard_streams()
    share_the_processor()
    # Windows has no SIGHUP. Under nohup SIGHUP is ignored and must stay so.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), _terminated)
    debug = "--debug" in arguments
    # Click accepts a group's option only before the command; --debug works anywhere.
    arguments = [a for a in arguments if a != "--debug"]
    try:
        _check_encoding(arguments)
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
        _say("interrupted; unfinished outputs were discarded")
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = describe(error)
        _say(message)
        sys.exit(code)


def _show(error: click.ClickException) -> None:
    """Prints an error of Click as one line."""
    # Since Click 8.2 a call without a command raises this error, whose message is the help.
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    advice = f"; see {context.command_path} --help" if context else ""
    _say(f"Error: {one_line(error.format_message()).rstrip('.')}{advice}")


def _open_standard_streams() -> None:
    """Gives a program that runs without standard streams streams to nowhere.

    Services, pythonw and ``2>&-`` start it so: ``sys.stderr`` is then None. The number 2 is free
    too, so the next file that is opened, perhaps the map, would get it, and messages of GDAL and
    other libraries in C would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _check_encoding(arguments: list[str]) -> None:
    """Refuses arguments that Python cannot read in the encoding of this locale.

    GDAL takes paths in UTF-8 and would look for another file.
    """
    encoding = sys.getfilesystemencoding()
    for argument in arguments:
        try:
            argument.encode("ascii" if encoding.lower() not in ("utf-8", "utf8") else "utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(argument).decode("utf-8", "replace")
            advice = (
                "rename the file"
                if encoding.lower() in ("utf-8", "utf8")
                else "set PYTHONUTF8=1 in the environment, or LC_ALL=C.UTF-8"
            )
            raise click.UsageError(
                f"{shown}: has characters that are not {encoding}, the encoding of file names "
                f"here; {advice}"
            ) from None


def share_the_processor() -> None:
    """Limits how long idle OpenMP threads spin. Must run before torch starts the threads.

    Threads of libgomp spin while they wait. If other programs compete for the processor, they take
    time from the threads that they wait for: one run took 30 times as long, and 5 times with this
    limit. On a machine with no other load the limit costs nothing.
    """
    # Settings of the user take precedence. GOMP_SPINCOUNT counts iterations of the waiting loop.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def describe(error: BaseException) -> tuple[str, int]:
    """The one-line message and the exit code for an error."""
    text, code = explained(error)
    return f"Error: {text}", code


def _say(message: str) -> None:
    # The exit code counts even if nobody can read the message.
    with contextlib.suppress(OSError, ValueError):
        click.echo(message, err=True)


def _terminated(signum: int, frame: FrameType | None) -> Any:
    # SystemExit unwinds the stack, so that context managers remove temporary files.
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
