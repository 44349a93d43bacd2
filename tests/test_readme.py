"""What the README shows, run again."""

import re
import shlex
import shutil

import pytest
import rasterio
from paths import ROOT

from cwsam_geo.cli.main import COMMANDS, main

README = (ROOT / "README.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fresh folder with the examples, as in a checkout."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def run(line):
    words = shlex.split(line)
    assert words[0] == "cwsam-geo"
    with pytest.raises(SystemExit) as stopped:
        main(words[1:])
    assert not stopped.value.code, line


def test_the_commands_shown_for_the_example_scene_work(folder, monkeypatch):
    monkeypatch.chdir(folder)
    lines = [line for block in blocks("console") for line in block.splitlines()]
    for line in lines:
        # region.yaml and its scenes are the reader's own.
        if "region" not in line:
            run(line)
    assert (folder / "landcover.gpkg").is_file()
    assert (folder / "report.html").is_file()
    with rasterio.open(folder / "landcover.tif") as raster:
        assert raster.crs.to_epsg() == 32633
        assert raster.shape == (768, 1024)


def test_the_python_example_works(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert (folder / "python.tif").is_file()


def test_the_region_shown_is_one_that_finetune_reads(folder, monkeypatch):
    from cwsam_geo.errors import CwsamGeoError
    from cwsam_geo.finetuning.region.region_file import load_region

    (text,) = blocks("yaml")
    (folder / "region.yaml").write_text(text)
    # All keys are known; only the reader's scenes are missing.
    with pytest.raises(CwsamGeoError, match=r"more.*|a_vv_vh"):
        load_region(folder / "region.yaml", {})


def test_every_command_and_file_that_is_named_exists():
    for name in re.findall(r"cwsam-geo ([a-z]+)\b", README):
        assert name in COMMANDS
    for name in re.findall(r"(?:examples|tests|benchmarks|experiments|docs)/[\w./]+\w", README):
        assert (ROOT / name).exists(), name
