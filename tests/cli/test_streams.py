"""Standard streams that are closed, broken or full: the output is written all the same."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from doubles import legend
from models import random_bundle
from rio_cogeo.cogeo import cog_validate
from scene_rasters import write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    random_bundle(legend(3)).save(folder / "model.safetensors")
    vv = np.random.default_rng(0).normal(-11, 4, (150, 150)).astype(np.float32)
    write(folder / "scene.tif", np.stack([vv, vv - 7]), ("VV", "VH"))
    return folder


def shell(place, arguments, streams, **options):
    program = f'exec "{sys.executable}" -m cwsam_geo.cli.main {arguments} {streams}'
    return subprocess.run(program, shell=True, cwd=place, timeout=300, **options).returncode


@pytest.mark.parametrize(
    "streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", pytest.param("2>/dev/full", id="full")]
)
def test_a_map_is_written_without_standard_streams(place, streams):
    """A map opened as file number 2 would also get what libraries in C print there."""
    predict = "predict scene.tif -o map.tif --vectors map.gpkg -m model.safetensors --overwrite"
    assert shell(place, predict, streams) == 0
    with rasterio.open(place / "map.tif") as file:
        assert (file.read(1) != 255).all()
    assert cog_validate(place / "map.tif")[0]
    assert shell(place, "vectorize map.tif -o again.gpkg --overwrite", streams) == 0
    assert (place / "again.gpkg").stat().st_size > 0


def test_a_reader_of_the_progress_that_has_gone_does_not_end_the_run(place):
    read, write_end = os.pipe()
    os.close(read)
    predict = "predict scene.tif -o gone.tif -m model.safetensors"
    assert shell(place, predict, "", stderr=write_end) == 0
    os.close(write_end)
    assert cog_validate(place / "gone.tif")[0]


def test_an_error_without_a_place_to_print_it_has_its_exit_code(place):
    assert shell(place, "predict missing.tif -o none.tif -m model.safetensors", "2>&-") == 1
    assert shell(place, "predict scene.tif -o none.txt -m model.safetensors", "2>/dev/full") == 2
    assert not (place / "none.tif").exists()
