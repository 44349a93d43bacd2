"""The command line as a whole: what reaches it, and what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from class_rasters import write_classes

from cwsam_geo.cli.main import main

ROOT = Path(__file__).parents[2]


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return stopped.value.code or 0, capfd.readouterr().err


@pytest.mark.parametrize("crs", ["EPSG:999999", "ESRI:99999", "PROJCS[bad", "+proj=foo", ""])
def test_a_wrong_crs_is_one_line(tmp_path, capfd, crs):
    path = write_classes(tmp_path / "map.tif", np.ones((4, 4), np.uint8), crs="EPSG:32633")
    code, err = run(capfd, "vectorize", path, "-o", tmp_path / "v.gpkg", "--t-srs", crs, "-q")
    assert code == 2
    assert err == f"Error: --t-srs {crs!r}: is no CRS; give for example EPSG:4326\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_a_model_that_is_no_download(tmp_path, capfd, content, says):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    code, err = run(capfd, "info", path)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{path}: {says}" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has names in Unicode")
def test_paths_that_the_locale_cannot_spell(tmp_path):
    folder = tmp_path / "größe"
    folder.mkdir()
    write_classes(folder / "ü.tif", np.ones((4, 4), np.uint8), crs="EPSG:32633")
    command = [sys.executable, "-m", "cwsam_geo.cli.main", "info", str(folder / "ü.tif")]

    def info(**variables):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHON"))}
        env |= {"PYTHONPATH": str(ROOT), "LC_ALL": "C"} | variables
        return subprocess.run(command, env=env, capture_output=True, timeout=300)

    assert info().returncode == 0  # Python reads the C locale as UTF-8 ...
    told_not_to = info(PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert told_not_to.returncode == 2
    assert told_not_to.stderr.count(b"\n") == 1
    assert b"set PYTHONUTF8=1" in told_not_to.stderr
