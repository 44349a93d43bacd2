"""What surrounds the commands: examples, completion, and rasterio's rio."""

import os
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from paths import EXAMPLES as EXAMPLE_FILES
from paths import ROOT

from cwsam_geo.cli.examples import EXAMPLES
from cwsam_geo.cli.main import COMMANDS, cli
from cwsam_geo.cli.rio import cwsam


def commands():
    """Every command by its full name, those of groups too."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        yield name, command
        yield from ((f"{name} {child}", c) for child, c in getattr(command, "commands", {}).items())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_command_shows_examples_that_can_be_typed(name, command):
    shown = CliRunner().invoke(cli, [*name.split(), "--help"]).output
    assert EXAMPLES[name]
    for line in EXAMPLES[name]:
        assert line.split("  ")[0] in " ".join(shown.split())
        words = shlex.split(line.split(" > ")[0])
        words = words[1 + len(name.split()) :] if line.startswith(f"cwsam-geo {name}") else None
        assert words is not None
        # Parses all options and arguments, and runs nothing.
        if not isinstance(command, click.Group):
            command.make_context(name, words)


def completed(words):
    """What a bash with completion offers for the last word."""
    done = subprocess.run(
        [sys.executable, "-m", "cwsam_geo.cli.main"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_CWSAM_GEO_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["cwsam-geo", *words]),
            "COMP_CWORD": str(len(words)),
        },
    )
    return [line.partition(",") for line in done.stdout.splitlines()]


def test_shells_complete_commands_options_and_files():
    assert ("plain", ",", "predict") in completed(["pre"])
    assert ("plain", ",", "--vectors") in completed(["predict", "--vec"])
    # "file" tells bash to complete names of files.
    assert completed(["predict", "sce"])[0][0] == "file"
    assert completed(["preview", "map.tif", "--scene", "sce"])[0][0] == "file"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_command_says_how_to_switch_completion_on(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert f"_CWSAM_GEO_COMPLETE={shell}_source cwsam-geo" in done.output
    assert CliRunner().invoke(cli, ["completion"], env={"SHELL": "/bin/tcsh"}).exit_code == 2


def test_rio_has_the_commands(tmp_path):
    """As an installed package registers it."""
    info = tmp_path / "plugin-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 0\n")
    entry = "[rasterio.rio_plugins]\ncwsam = cwsam_geo.cli.rio:cwsam\n"
    (info / "entry_points.txt").write_text(entry)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    code = "import sys; from rasterio.rio.main import main_group; main_group()"
    truth = str(EXAMPLE_FILES / "scene_truth.tif")
    done = subprocess.run(
        [sys.executable, "-c", code, "cwsam", "areas", truth],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert "water" in done.stdout


def test_errors_in_rio_are_one_line(tmp_path):
    done = CliRunner().invoke(cwsam, ["areas", str(tmp_path / "missing.tif")])
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "no such file" in done.output
    assert len(done.output.splitlines()) == 1


def test_the_plugin_is_registered():
    text = (ROOT / "pyproject.toml").read_text()
    group = text.split('[project.entry-points."rasterio.rio_plugins"]')[1].split("[")[0]
    assert group.strip() == 'cwsam = "cwsam_geo.cli.rio:cwsam"'
