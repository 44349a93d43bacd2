"""Rasters in zip archives, as portals hand them out."""

import zipfile

import numpy as np
import pytest
import rasterio
from class_rasters import write_classes

from cwsam_geo.areas.class_areas import class_areas
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.evaluate import evaluate

LEGEND = {1: ("water", "#0000ff"), 2: ("land", "#00aa00")}


@pytest.fixture
def made(tmp_path):
    """A class raster whose names are in the .aux.xml beside it."""
    codes = np.random.default_rng(0).integers(1, 3, (30, 40)).astype(np.uint8)
    return write_classes(tmp_path / "truth.tif", codes, LEGEND)


def zipped(archive, *files):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file, name in files:
            out.write(file, name)
    return archive


def test_a_zipped_raster_is_a_reference(tmp_path, made):
    preview = tmp_path / "preview.png"
    with rasterio.open(
        preview, "w", driver="PNG", width=4, height=4, count=1, dtype="uint8"
    ) as out:
        out.write(np.ones((1, 4, 4), np.uint8))
    archive = zipped(
        tmp_path / "truth.zip",
        (made, "data/truth.tif"),
        (made, "__MACOSX/data/._truth.tif"),
        (preview, "data/preview.png"),
    )
    result = evaluate(made, archive)
    assert result.scores.overall_accuracy == 1
    assert int(result.counts.sum()) == 30 * 40
    assert [c.pixels for c in class_areas(archive).classes] == [
        c.pixels for c in class_areas(made).classes
    ]


def test_several_rasters_are_listed(tmp_path, made):
    archive = zipped(tmp_path / "two.zip", (made, "a.tif"), (made, "b.tif"))
    with pytest.raises(UsageError, match=r"two\.zip: holds 2 rasters; .* give one of them: a\.tif"):
        evaluate(made, archive)


def test_a_damaged_archive_is_one_line(tmp_path, made):
    archive = tmp_path / "half.zip"
    archive.write_bytes(zipped(tmp_path / "whole.zip", (made, "a.tif")).read_bytes()[:200])
    with pytest.raises(UsageError, match=r"half\.zip: is not a complete zip archive; get it again"):
        evaluate(made, archive)
