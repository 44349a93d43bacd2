"""Scenes in few pixels."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling
from scene_rasters import UTM, write

from cwsam_geo.core.grid import Window
from cwsam_geo.rendering.coarse import Cells, coarse_shape
from cwsam_geo.rendering.scene_view import view_scene
from cwsam_geo.rendering.stretch import fit_stretch
from cwsam_geo.scene.source import open_source

NAMES = {"descriptions": ("VV", "VH")}


def speckle(shape, level, seed=0):
    """Four-look intensity around a level in dB."""
    rng = np.random.default_rng(seed)
    power = rng.gamma(4, 1 / 4, shape) * 10 ** (level / 10)
    return power.astype(np.float32)


def viewed(path, size, **options):
    with open_source(path) as source:
        return view_scene(source, size, **options)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 9), st.randoms())
def test_cells_partition_the_pixels(height, width, size, step, random):
    values = np.random.default_rng(random.randrange(2**32)).random((1, height, width))
    shape = coarse_shape(height, width, size)
    assert max(shape) <= max(size, 1)
    sums = np.zeros((1, *shape))
    cells = Cells(Window(0, 0, height, width), shape)
    for row in range(0, height, step):
        for col in range(0, width, step):
            window = Window(row, col, step, step).intersect(Window(0, 0, height, width))
            cells.add(sums, values[(slice(None), *window.slices)], window)
    assert sums.sum() == pytest.approx(values.sum())
    if shape == (height, width):
        np.testing.assert_array_equal(sums, values)


@pytest.mark.parametrize("tiled", [True, False])
def test_a_view_is_the_mean_power_of_each_cell(tmp_path, tiled):
    power = np.stack([speckle((256, 512), -10), speckle((256, 512), -17, 1)])
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {"blockysize": 1}
    path = write(tmp_path / "s.tif", 10 * np.log10(power), nodata=np.nan, **NAMES, **layout)
    view = viewed(path, 128)
    assert view.names == ("VV", "VH")
    assert view.values.shape == (2, 64, 128)
    assert view.valid.all()
    assert view.grid.transform == UTM @ Affine.scale(4)
    expected = 10 * np.log10(power.reshape(2, 64, 4, 128, 4).mean((2, 4)))
    np.testing.assert_allclose(view.values, expected, atol=1e-3)


def test_of_strips_a_few_lines_stand_for_each_row_of_the_picture(tmp_path):
    levels = np.linspace(-20, -5, 800)[:, None]
    power = np.stack([speckle((800, 400), levels)])
    path = write(tmp_path / "s.tif", 10 * np.log10(power), nodata=np.nan, blockysize=1)
    view = viewed(path, 50)
    expected = 10 * np.log10(power.reshape(1, 50, 16, 25, 16).mean((2, 4)))
    # 64 of 256 pixels of each cell are read.
    assert np.abs(view.values - expected).max() < 1


def test_overviews_are_read_where_a_file_has_them(tmp_path):
    path = write(
        *(tmp_path / "s.tif", np.full((1024, 1024), -12, np.float32)),
        **{"tiled": True, "blockxsize": 256, "blockysize": 256, "nodata": np.nan},
    )
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.nearest)
    # Overwrite the pixels with what no picture should read.
    with rasterio.open(path, overview_level=1) as file:
        assert file.shape == (256, 256)
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(np.full((1024, 1024), -3, np.float32), 1)
    assert viewed(path, 200).values == pytest.approx(-12)
    assert viewed(path, 1024).values == pytest.approx(-3)


def test_zeros_along_the_edge_are_no_data_and_zeros_inside_are_dark_water(tmp_path):
    power = np.stack([speckle((400, 400), -10), speckle((400, 400), -17, 1)])
    power[:, :, :60] = 0
    power[:, 200:260, 200:260] = 0
    view = viewed(write(tmp_path / "s.tif", power, **NAMES), 100)
    assert view.units == "power"
    assert not view.valid[:, :15].any()
    assert view.valid[:, 15:].all()
    rgb = fit_stretch(view).apply(view.values, view.valid)
    assert not rgb[55:60, 55:60, :2].any()


def test_a_part_is_read_at_its_own_resolution(tmp_path):
    db = np.arange(100 * 120, dtype=np.float32).reshape(100, 120) / 1000 - 15
    path = write(tmp_path / "s.tif", db, nodata=np.nan)
    view = viewed(path, 500, window=Window(20, 30, 40, 50))
    np.testing.assert_allclose(view.values[0], db[20:60, 30:80], atol=1e-3)
    assert view.grid.transform == UTM @ Affine.translation(30, 20)


def test_values_of_unknown_units_are_shown_as_they_are(tmp_path):
    path = write(
        tmp_path / "s.tif", np.linspace(50, 900, 10000, dtype=np.float32).reshape(100, 100)
    )
    view = viewed(path, 100)
    assert view.units is None
    assert "--units" in view.remarks[0]
    assert view.values.max() == pytest.approx(900)
    rgb = fit_stretch(view).apply(view.values, view.valid)
    assert rgb[0, 0].max() == 0
    assert rgb[-1, -1].min() == 255


def test_without_data_there_is_a_picture_all_the_same(tmp_path):
    view = viewed(write(tmp_path / "s.tif", np.full((50, 1), np.nan, np.float32)), 20)
    assert view.values.shape == (1, 20, 1)
    assert not view.valid.any()
    assert not fit_stretch(view).apply(view.values, view.valid).any()


def test_two_polarisations_become_false_colour_and_one_becomes_grey(tmp_path):
    power = np.stack([speckle((64, 64), -17), speckle((64, 64), -10, 1)])
    view = viewed(write(tmp_path / "s.tif", power, ("VH", "VV")), 64)
    stretch = fit_stretch(view)
    assert [c.name for c in stretch.channels] == ["VV", "VH", "VV/VH"]
    # Any part of the scene is stretched alike.
    whole = stretch.apply(view.values, view.valid)
    part = stretch.apply(view.values[:, 10:20, 5:9], view.valid[10:20, 5:9])
    np.testing.assert_array_equal(part, whole[10:20, 5:9])
    grey = fit_stretch(view, color=False).apply(view.values, view.valid)
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize(
    "name",
    [
        "formats/gf3_quadpol_uint16_nocrs.tif",
        "formats/umbra_x_uint8_zero_is_data.tiff",
        "formats/iceye_grd_10px_gcps_tags.tif",
        "formats/rotated_complex_hh.tif",
        "sen1floods11/India_900498_S1Hand.tif",
    ],
)
def test_real_scenes_have_contrast(shared_data, name):
    view = viewed(shared_data / name, 300)
    assert max(view.values.shape[1:]) <= 300
    rgb = fit_stretch(view).apply(view.values, view.valid)
    assert rgb[view.valid].std() > 20


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 4), st.integers(1, 25))
def test_every_cell_gets_rows_of_its_own_when_rows_are_left_out(height, cells_down, rows, read):
    part = Window(0, 0, height, 3)
    cells = Cells(part, (min(height, cells_down), 1))
    step = cells.step(rows)
    sums, counts = np.zeros((1, *cells.shape)), np.zeros((1, *cells.shape))
    # The value of a pixel is the number of its cell.
    values = np.searchsorted(cells._rows, np.arange(height), side="right") - 1.0
    for row in range(0, height, read):
        window = Window(row, 0, read, 3).intersect(part)
        column = values[row : window.bottom : step]
        if len(column):
            block = np.repeat(column[:, None], 3, axis=1)[None]
            cells.add(sums, block, window, step)
            cells.add(counts, np.ones_like(block), window, step)
    seen = counts[0, :, 0] > 0
    np.testing.assert_array_equal(sums[0, seen, 0] / counts[0, seen, 0], np.flatnonzero(seen))
    if read >= height:
        assert seen.all()
