"""Class rasters in few pixels."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from class_rasters import write_classes
from rasterio.io import MemoryFile

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import grid_of
from cwsam_geo.rendering.class_view import paint, view_classes, view_percent
from cwsam_geo.rendering.png import png_bytes

LEGEND = {1: ("water", "#0000ff"), 2: ("land", "#00aa00"), 9: ("ice", "#ffffff")}


@pytest.fixture
def raster(tmp_path):
    codes = np.full((90, 120), 2, np.uint8)
    codes[:, 60:] = 1
    codes[:30] = 255
    return write_classes(tmp_path / "map.tif", codes, LEGEND, nodata=255)


def test_classes_are_read_in_few_pixels_and_painted(raster):
    view = view_classes(raster, size=40)
    assert view.codes.shape == (30, 40)
    assert not view.valid[:10].any()
    assert view.valid[10:].all()
    assert (view.codes[10:, :20] == 2).all()
    assert (view.codes[10:, 20:] == 1).all()
    assert [(e.code, e.name) for e in view.entries] == [(1, "water"), (2, "land"), (9, "ice")]
    picture = paint(view.codes, view.valid, view.entries)
    assert picture[0, 0].tolist() == [0, 0, 0, 0]
    assert picture[-1, 0].tolist() == [0, 170, 0, 255]
    assert picture[-1, -1].tolist() == [0, 0, 255, 255]


def test_a_raster_is_read_on_any_grid(raster):
    with rasterio.open(raster) as file:
        own = grid_of(file)
    onto = SceneGrid(45, 60, own.transform @ Affine.scale(2), own.crs)
    view = view_classes(raster, onto=onto)
    assert (view.codes[15:, :30] == 2).all()
    assert (view.codes[15:, 30:] == 1).all()
    assert not view.valid[:15].any()


def test_values_without_a_legend_have_colours_too(tmp_path):
    path = write_classes(tmp_path / "map.tif", np.array([[3, 700]], np.int32))
    entries = view_classes(path, size=10).entries
    assert [e.code for e in entries] == [3, 700]
    assert len({e.rgb for e in entries}) == 2


def test_measurements_are_no_classes(tmp_path):
    codes = np.arange(400, dtype=np.int32).reshape(20, 20)
    path = write_classes(tmp_path / "map.tif", codes)
    with pytest.raises(SceneError, match="400 different values"):
        _ = view_classes(path, size=20).entries


def test_percentages_are_reduced(tmp_path):
    percent = np.full((40, 40), 80, np.uint8)
    percent[:20] = 255
    path = write_classes(tmp_path / "c.tif", percent, nodata=255)
    values, valid = view_percent(path, 10)
    assert values.shape == (10, 10)
    assert (values[valid] == 80).all()
    assert valid.mean() == 0.5


def test_a_picture_becomes_a_png():
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
    with MemoryFile(png_bytes(picture), ext=".png") as file, file.open() as read:
        np.testing.assert_array_equal(np.moveaxis(read.read(), 0, 2), picture)
