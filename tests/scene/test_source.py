"""Scenes on disk and behind a server: what is read, what is valid, what is refused."""

import contextlib
import os
import re
import shutil
import threading
import warnings
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from range_server import file_server
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.env import getenv
from scene_rasters import UTM, write

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.raster_file import (
    display_name,
    environment,
    gdal_message,
    is_remote,
    open_dataset,
)
from cwsam_geo.scene.bands import ZeroPower
from cwsam_geo.scene.sampling import sample_statistics
from cwsam_geo.scene.source import open_source

ZERO = ZeroPower((0.0,))


def read(*paths, window=None, **options):
    with open_source(list(paths), **options) as source:
        return source.read(window or source.grid.window)


@pytest.fixture
def noise():
    return np.random.default_rng(1).normal(-12, 4, (2, 30, 40)).astype(np.float32)


# What is read


def test_grid_and_values(tmp_path, noise):
    path = write(tmp_path / "s.tif", noise, ["VV", "VH"], tiled=True, blockxsize=16, blockysize=16)
    with open_source(path) as source:
        grid = source.grid
        assert (grid.height, grid.width, grid.count) == (30, 40, 2)
        assert (grid.dtype, grid.block_shape, grid.nodata) == ("float32", (16, 16), None)
        assert grid.transform == UTM
        assert grid.crs == CRS.from_epsg(32633)
        assert source.names == ("VV", "VH")
        assert source.label == str(path)
        assert not source.complex
        values, valid = source.read(Window(3, 5, 7, 11))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, noise[:, 3:10, 5:16])
    assert valid.all()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_type_layout_and_window(tmp_path, data):
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)))
    nodata = data.draw(st.sampled_from([None, 0, 7]))
    layout = data.draw(
        st.sampled_from(
            [
                {"blockysize": 1},
                {"tiled": True, "blockxsize": 16, "blockysize": 16},
                {"interleave": "pixel", "compress": "deflate"},
            ]
        )
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    stored = rng.integers(0, 9, shape).astype(dtype)
    path = write(tmp_path / "a.tif", stored, nodata=nodata, photometric="minisblack", **layout)
    row = data.draw(st.integers(0, shape[1] - 1))
    col = data.draw(st.integers(0, shape[2] - 1))
    height = data.draw(st.integers(1, shape[1] - row))
    width = data.draw(st.integers(1, shape[2] - col))
    window = Window(row, col, height, width)
    values, valid = read(path, window=window)
    expected = stored[(slice(None), *window.slices)]
    np.testing.assert_array_equal(values, expected.astype(np.float32))
    np.testing.assert_array_equal(valid, (expected != nodata).all(0) | (nodata is None))


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_thin_scenes(tmp_path, shape):
    stored = np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)
    values, valid = read(write(tmp_path / "thin.tif", stored))
    np.testing.assert_array_equal(values[0], stored)
    assert valid.all()


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_becomes_intensity(tmp_path, dtype):
    stored = np.array([[3 + 4j, 0, -6 + 8j]], np.complex64)
    path = write(tmp_path / "slc_hh.tif", stored, dtype=dtype)
    with open_source(path) as source:
        assert source.complex
        assert source.names == ("HH",)
        assert source.grid.dtype in ("complex64", "complex128")
        values, valid = source.read(source.grid.window)
        assert values.tolist() == [[[25, 0, 100]]]
        assert valid.all()
        _, valid = source.with_bands([0]).with_zero(ZERO).read(source.grid.window)
    assert valid.tolist() == [[True, False, True]]


def test_scale_and_offset_are_applied_after_nodata(tmp_path):
    stored = np.array([[0, 100, 3000, 65535]], np.uint16)
    path = write(tmp_path / "q.tif", stored, scales=(0.01,), offsets=(-50.0,), nodata=65535)
    values, valid = read(path)
    np.testing.assert_allclose(values[0, 0, :3], [-50, -49, -20])
    assert valid.tolist() == [[True, True, True, False]]


def test_scale_of_one_band_leaves_the_others(tmp_path):
    stored = np.array([[[2, 4]], [[2, 4]]], np.int32)
    path = write(tmp_path / "q.tif", stored, scales=(0.5, 1.0), offsets=(0.0, 0.0))
    values, _ = read(path)
    assert values.tolist() == [[[1, 2]], [[2, 4]]]


def test_double_precision_nodata_is_compared_before_the_cast(tmp_path):
    lowest = -1.7976931348623157e308
    stored = np.array([[-12.5, lowest, 1e300, np.nan]], np.float64)
    values, valid = read(write(tmp_path / "d.tif", stored, nodata=lowest))
    assert values.dtype == np.float32
    assert valid.tolist() == [[True, False, False, False]]
    near = np.array([[16777217.0, 16777216.0]], np.float64)
    _, valid = read(write(tmp_path / "n.tif", near, nodata=16777217.0))
    assert valid.tolist() == [[False, True]]


# What is valid


@pytest.mark.parametrize(
    ("declared", "given_", "expected"),
    [
        (None, None, [1, 1, 0, 0, 1]),
        (-99.0, None, [1, 0, 0, 0, 1]),
        (np.nan, None, [1, 1, 0, 0, 1]),
        (-99.0, 5.0, [0, 1, 0, 0, 1]),
        (-99.0, "none", [1, 1, 0, 0, 1]),
        (-99.0, np.nan, [1, 1, 0, 0, 1]),
        (None, 0.0, [1, 1, 0, 0, 0]),
    ],
)
def test_nodata(tmp_path, declared, given_, expected):
    stored = np.array([[5, -99, np.nan, np.inf, 0]], np.float32)
    _, valid = read(write(tmp_path / "n.tif", stored, nodata=declared), nodata=given_)
    assert valid.astype(int).tolist() == [expected]


def test_nodata_counts_in_any_band(tmp_path):
    stored = np.full((2, 1, 3), -12, np.float32)
    stored[0, 0, 0] = np.nan
    stored[1, 0, 1] = -9999
    _, valid = read(write(tmp_path / "n.tif", stored, nodata=-9999))
    assert valid.tolist() == [[False, False, True]]


def test_undeclared_lowest_float_is_no_data(tmp_path):
    stored = np.array([[-12, np.finfo(np.float32).min, np.finfo(np.float32).max]], np.float32)
    _, valid = read(write(tmp_path / "n.tif", stored))
    assert valid.tolist() == [[True, False, False]]


@pytest.mark.parametrize("declared", [None, 0])
def test_zero_in_one_band_of_several_is_data(tmp_path, declared):
    stored = np.array([[[0, 5, 0]], [[0, 0, 5]]], np.uint16)
    path = write(tmp_path / "z.tif", stored, nodata=declared)
    with open_source(path) as source:
        joint = source.with_bands([0, 1]).with_zero(ZERO)
        assert joint.read(source.grid.window)[1].tolist() == [[False, True, True]]
        plain = source.read(source.grid.window)[1].tolist()
        assert plain == ([[True, True, True]] if declared is None else [[False, False, False]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("split", [False, True])
def test_minus_infinity_in_one_band_is_power_0_in_decibels(tmp_path, dtype, split):
    inf = np.inf
    stored = np.array([[[-12, -inf, -13, inf]], [[-inf, -inf, -20, -20]]], dtype)
    if split:
        files = [write(tmp_path / f"{i}.tif", band) for i, band in enumerate(stored)]
    else:
        files = [write(tmp_path / "s.tif", stored)]
    with open_source(files) as source:
        values, valid = source.read(source.grid.window)
        assert valid.tolist() == [[True, False, True, False]]
        assert values[1, 0, 0] == -100
        # In power it cannot be, and where nothing is nodata it is data in every band.
        power = source.with_zero(ZERO)
        assert power.read(source.grid.window)[1].tolist() == [[False, False, True, False]]
        kept = source.with_zero(ZeroPower((-inf,), nodata=False))
        assert kept.read(source.grid.window)[1].tolist() == [[True, True, True, False]]


def test_the_lowest_double_is_no_power_0(tmp_path):
    stored = np.array([[[-12, -1e300]], [[-18, -18]]], np.float64)
    assert read(write(tmp_path / "d.tif", stored))[1].tolist() == [[True, False]]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("declared", [None, 0])
def test_zeros_are_stored_zeros_whatever_the_offset(tmp_path, dtype, declared):
    stored = np.array([[[0, 2, 0, 90]], [[0, 2, 70, 90]]], dtype)
    path = write(
        tmp_path / "o.tif", stored, nodata=declared, scales=(0.5, 0.5), offsets=(-1.0, -1.0)
    )
    with open_source(path) as source:
        values, valid = source.with_zero(ZERO).read(source.grid.window)
    assert valid.tolist() == [[False, True, True, True]]
    # A value that scale and offset move to 0 is measured.
    assert values[:, 0, 1].tolist() == [0, 0]


def test_internal_mask(tmp_path):
    stored = np.full((2, 2, 2), 100, np.uint16)
    mask = np.array([[255, 0], [255, 255]], np.uint8)
    path = write(tmp_path / "m.tif", stored, mask=mask)
    with open_source(path) as source:
        assert source.masked
        assert source.declares_nodata
        assert source.read(source.grid.window)[1].tolist() == [[True, False], [True, True]]
    assert read(path, nodata="none")[1].all()


def test_mask_and_nodata_add_up(tmp_path):
    stored = np.array([[7, 100, 100]], np.uint16)
    mask = np.array([[255, 0, 255]], np.uint8)
    path = write(tmp_path / "m.tif", stored, mask=mask)
    assert read(path, nodata=7)[1].tolist() == [[False, False, True]]


def test_alpha_band_is_a_mask_and_no_data_band(tmp_path):
    stored = np.array([[[10, 20]], [[255, 0]]], np.uint8)
    path = write(tmp_path / "a.tif", stored, colorinterp=[ColorInterp.gray, ColorInterp.alpha])
    with open_source(path) as source:
        assert source.grid.count == 1
        assert source.read(source.grid.window)[1].tolist() == [[True, False]]
    values, valid = read(path, bidx=[2])
    assert values.tolist() == [[[255, 0]]]
    assert valid.all()


ALPHA_TYPES = ["uint8", "uint16", "int16", "int32", "float32", "float64", "complex64"]


def write_alpha(path, dtype, polarisations=("VV", "VH"), holes=(1,), **profile):
    """A row of four pixels, -12 to -9 in each band, and alpha: 0 in the holes, else above."""
    count = len(polarisations)
    stored = np.tile(np.arange(4) + (100 if dtype[0] == "u" else -12), (count + 1, 1, 1))
    stored[count, 0] = [255, 200, 1, 255]
    stored[count, 0, list(holes)] = 0
    meanings = [ColorInterp.gray, *[ColorInterp.undefined] * (count - 1), ColorInterp.alpha]
    return write(path, stored.astype(dtype), polarisations, colorinterp=meanings, **profile)


@pytest.mark.parametrize("dtype", ALPHA_TYPES)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("polarisations", [("VV",), ("VV", "VH"), ("HH", "HV", "VV")])
def test_alpha_of_any_type_beside_any_number_of_bands(tmp_path, dtype, interleave, polarisations):
    path = write_alpha(tmp_path / "a.tif", dtype, polarisations, interleave=interleave)
    with open_source(path) as source:
        assert source.names == polarisations
        assert source.masked
        stats = sample_statistics(source)
        first = source.with_bands([0])
        values, valid = source.read(source.grid.window)
        assert source.read(Window(0, 1, 1, 2))[1].tolist() == [[False, True]]
        assert first.read(source.grid.window)[1].tolist() == valid.tolist()
    assert valid.tolist() == [[True, False, True, True]]
    assert values.shape == (len(polarisations), 1, 4)
    assert values.flags.c_contiguous
    assert stats.valid == 0.75


def test_alpha_adds_to_declared_nodata_scales_and_choices(tmp_path):
    path = write_alpha(
        tmp_path / "a.tif", "int16", nodata=-12, scales=(0.5, 0.5, 0.5), offsets=(1.0, 1.0, 1.0)
    )
    values, valid = read(path)
    assert valid.tolist() == [[False, False, True, True]]
    assert values[0, 0, 2:].tolist() == [-4, -3.5]
    assert read(path, bidx=[2])[1].tolist() == valid.tolist()
    assert read(path, bidx=[2, 1])[1].tolist() == valid.tolist()
    assert read(path, nodata=-9)[1].tolist() == [[True, False, True, False]]
    assert read(path, nodata="none")[1].all()
    # An alpha band that is asked for is data.
    assert read(path, bidx=[1, 3], nodata=99)[1].all()


def test_alpha_adds_to_a_mask(tmp_path):
    mask = np.array([[255, 255, 255, 0]], np.uint8)
    path = write_alpha(tmp_path / "a.tif", "float32", mask=mask)
    assert read(path)[1].tolist() == [[True, False, True, False]]


def test_each_of_several_files_has_its_alpha(tmp_path):
    vv = write_alpha(tmp_path / "vv.tif", "float32", ["VV"], holes=[0])
    vh = write_alpha(tmp_path / "vh.tif", "float32", ["VH"], holes=[3])
    assert read(vv, vh)[1].tolist() == [[False, True, True, False]]
    with open_source([vv, vh]) as source:
        alone = source.with_bands([1])
        assert alone.read(source.grid.window)[1].tolist() == [[True, True, True, False]]


def test_alpha_leaves_zeros_what_they_are(tmp_path):
    with open_source(write_alpha(tmp_path / "a.tif", "float32")) as source:
        assert not source.declares_nodata


def virtual(path, files):
    """A VRT of single-band files, each a band of its own type."""
    names = {"float32": "Float32", "int16": "Int16", "uint8": "Byte"}
    bands = ""
    for i, (file, dtype, meaning) in enumerate(files, 1):
        bands += (
            f'<VRTRasterBand dataType="{names[dtype]}" band="{i}">'
            f"<ColorInterp>{meaning}</ColorInterp><SimpleSource><SourceFilename>{file}"
            "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="1">{bands}</VRTDataset>')
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_of_different_types(tmp_path):
    # gdalbuildvrt -addalpha makes alpha 8-bit, whatever the data.
    rows = {"float32": [-12.5, -11, -9, -8], "int16": [3, 4, 5, 6], "uint8": [255, 0, 1, 255]}
    files = []
    for dtype, row in rows.items():
        file = write(tmp_path / f"{dtype}.tif", np.array([row], dtype))
        files.append((file, dtype, "Alpha" if dtype == "uint8" else "Undefined"))
    values, valid = read(virtual(tmp_path / "all.vrt", files))
    assert values.tolist() == [[rows["float32"]], [rows["int16"]]]
    assert valid.tolist() == [[True, False, True, True]]
    assert read(tmp_path / "all.vrt", bidx=[1, 3])[1].all()
    assert read(virtual(tmp_path / "two.vrt", files[::2]))[1].tolist() == valid.tolist()


def test_fourth_polarisation_is_no_alpha_band(tmp_path):
    # GDAL writes any four 8-bit bands as red, green, blue and alpha.
    stored = np.full((4, 2, 2), 9, np.uint8)
    stored[3, 0, 0] = 0
    plain = write(tmp_path / "plain.tif", stored)
    assert read(plain)[0].shape == (3, 2, 2)
    named = write(tmp_path / "named.tif", stored, ["HH", "HV", "VH", "VV"])
    values, valid = read(named)
    assert values.shape == (4, 2, 2)
    assert valid.all()
    assert read(named, bidx=[1, 2])[1].all()


def test_all_nan(tmp_path):
    _, valid = read(write(tmp_path / "nan.tif", np.full((2, 4, 4), np.nan, np.float32)))
    assert not valid.any()


# Georeferencing


def test_rotated_transform_to_the_last_bit(tmp_path, noise):
    transform = Affine(
        -0.028569629858371578, -2.4998367499198335, 593124.119663189,
        2.4998367499198335, -0.028569629858371578, 5749208.249577077,
    )  # fmt: skip
    with open_source(write(tmp_path / "r.tif", noise, transform=transform)) as source:
        assert tuple(source.grid.transform) == tuple(transform)


def test_control_points_only(tmp_path, noise):
    gcps = [
        GroundControlPoint(row=r, col=c, x=11 + c / 100, y=43 - r / 100, z=5.0)
        for r in (0, 29)
        for c in (0, 39)
    ]
    path = tmp_path / "gcps.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", width=40, height=30, count=2, dtype="float32"
        ) as out:
            out.write(noise)
            out.gcps = (gcps, CRS.from_epsg(4326))
    with open_source(path) as source:
        grid = source.grid
    assert grid.crs is None
    assert grid.gcp_crs == CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y, p.z) for p in grid.gcps] == [
        (p.row, p.col, p.x, p.y, p.z) for p in gcps
    ]


def test_no_georeferencing_is_no_fuss(tmp_path, noise):
    path = write(tmp_path / "bare.tif", noise, transform=Affine.identity(), crs=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_source(path) as source:
            assert not source.grid.georeferenced
            assert source.grid.crs is None


# Bands and their names


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("s1a-iw-grd-vv-20210401t052623-001.tiff", 1, ("VV",)),
        ("scene_VH.tif", 1, ("VH",)),
        ("hh.tif", 1, ("HH",)),
        ("scene_vv_vh.tif", 2, ("VV", "VH")),
        ("scene_vh_vv.tif", 2, ("VH", "VV")),
        ("scene_vv_vh.tif", 3, (None, None, None)),
        ("scene.tif", 2, (None, None)),
        ("savvy.tif", 1, (None,)),
    ],
)
def test_names_from_the_file_name(tmp_path, name, count, expected):
    path = write(tmp_path / name, np.ones((count, 2, 2), np.float32))
    with open_source(path) as source:
        assert source.names == expected


def test_names_from_descriptions_and_tags(tmp_path):
    stored = np.ones((4, 2, 2), np.float32)
    texts = ["Sigma0_VV_db", "gamma0-hv", "VV/VH ratio", "angle"]
    with open_source(write(tmp_path / "x_vh.tif", stored, texts)) as source:
        assert source.names == ("VV", "HV")
        assert source.numbers == (1, 2)
    tagged = write(tmp_path / "y.tif", stored[:2], tags={"POLARISATION": "VH,VV"})
    with open_source(tagged) as source:
        assert source.names == ("VH", "VV")


def test_chosen_bands_in_the_chosen_order(tmp_path, noise):
    path = write(tmp_path / "s.tif", noise, ["VV", "VH"])
    with open_source(path, bidx=[2, 1]) as source:
        assert source.names == ("VH", "VV")
        np.testing.assert_array_equal(source.read(source.grid.window)[0], noise[::-1])


@pytest.mark.parametrize("bidx", [[3], [0], [1, 1], []])
def test_impossible_band_choice(tmp_path, noise, bidx):
    path = write(tmp_path / "s.tif", noise)
    with pytest.raises(UsageError, match="-b"):
        open_source(path, bidx=bidx)


def test_several_files_are_the_bands(tmp_path, noise):
    nudged = UTM * Affine.translation(1e-6, 0)
    vv = write(tmp_path / "vv.tif", noise[0], nodata=-9999)
    vh = write(tmp_path / "vh.tif", noise[1].astype(np.float64), transform=nudged)
    with open_source([vv, vh]) as source:
        assert source.names == ("VV", "VH")
        assert source.grid.transform == UTM
        assert source.grid.count == 2
        assert source.label == f"{vv} + {vh}"
        values, valid = source.read(Window(2, 3, 10, 10))
        np.testing.assert_array_equal(values, noise[:, 2:12, 3:13])
        assert valid.all()
        fewer = source.with_bands([1])
        assert (fewer.names, fewer.grid.count, fewer.label) == (("VH",), 1, source.label)
        np.testing.assert_array_equal(fewer.read(fewer.grid.window)[0], noise[1:])
    with open_source([vv, vh], bidx=[2]) as source:
        assert source.names == ("VH",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transform": UTM * Affine.translation(0.5, 0)}, "shifted by up to 0.5 px"),
        ({"crs": "EPSG:32634"}, "EPSG:32634 against EPSG:32633"),
        ({"crs": None}, "no CRS against EPSG:32633"),
        ({"rows": 5}, "5 x 40 px against 30 x 40"),
    ],
)
def test_files_of_different_grids(tmp_path, noise, change, said):
    a = write(tmp_path / "a.tif", noise[0])
    rows = change.pop("rows", 30)
    b = write(tmp_path / "b.tif", noise[1][:rows], **change)
    with pytest.raises(SceneError, match=said):
        open_source([a, b])


def test_several_files_of_several_bands(tmp_path, noise):
    path = write(tmp_path / "a.tif", noise)
    with pytest.raises(SceneError, match="has 2 bands"):
        open_source([path, path])


# What is refused, in one line


def broken_files(folder):
    (folder / "text.tif").write_text("this is not an image\n")
    (folder / "page.tif").write_text("<html><body>404</body></html>")
    (folder / "empty.tif").write_bytes(b"")
    (folder / "head.tif").write_bytes(b"II*\0")
    (folder / "folder").mkdir()
    return {
        "text.tif": "looks like text",
        "page.tif": "web page",
        "empty.tif": "0 bytes",
        "head.tif": "not a raster",
        "folder": "is a folder",
        "missing.tif": "no such file",
    }


def test_what_is_no_raster(tmp_path):
    for name, said in broken_files(tmp_path).items():
        with pytest.raises(SceneError, match=said) as error:
            open_source(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, noise):
    path = write(tmp_path / "s.tif", noise)
    path.chmod(0)
    with pytest.raises(SceneError, match="permission"):
        open_source(path)


def test_truncated_file_names_the_rows(tmp_path):
    stored = np.random.default_rng(0).normal(size=(400, 100)).astype(np.float32)
    path = write(tmp_path / "t.tif", stored, blockysize=1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_source(path) as source:
        source.read(Window(0, 0, 10, 100))
        with pytest.raises(SceneError, match=r"t\.tif: rows 300 to 399 cannot be read") as error:
            source.read(Window(300, 0, 100, 100))
    assert "get it again" in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_file_without_its_directory(tmp_path, noise):
    # Tags added late move the directory to the end of the file.
    path = write(tmp_path / "t.tif", np.tile(noise, (1, 9, 9)))
    with rasterio.open(path, "r+") as out:
        out.update_tags(NOTE="x" * 100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError, match="that the file is complete"):
        open_source(path)


def test_class_maps_are_no_scenes(tmp_path):
    path = tmp_path / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8", transform=UTM
    ) as out:
        out.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    with pytest.raises(SceneError, match="colour table"):
        open_source(path)


def test_windows_outside_are_a_programming_error(tmp_path, noise):
    with (
        open_source(write(tmp_path / "s.tif", noise)) as source,
        pytest.raises(ValueError, match="not inside"),
    ):
        source.read(Window(0, 0, 31, 10))


# Sentinel-1 products and archives


@pytest.fixture
def product(tmp_path, noise):
    folder = tmp_path / "S1A_IW_GRDH_1SDV_20210401.SAFE"
    (folder / "measurement").mkdir(parents=True)
    (folder / "manifest.safe").write_text("<xml/>")
    for i, name in enumerate(
        ["vv-20210401t0-20210401t1-1-1-001", "vh-20210401t0-20210401t1-1-1-002"]
    ):
        stored = (noise[i] + 100).astype(np.uint16)
        write(folder / "measurement" / f"s1a-iw-grd-{name}.tiff", stored)
    return folder


def test_a_product_is_its_measurements(product, tmp_path):
    archive = tmp_path / "S1A.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in product.rglob("*"):
            out.write(file, file.relative_to(tmp_path))
    for location in (product, product / "manifest.safe", archive):
        with open_source(location) as source:
            assert set(source.names) == {"VV", "VH"}
            assert source.label == str(location)
            assert source.read(Window(0, 0, 5, 5))[1].all()


def test_a_product_of_three_swaths_is_refused(product):
    first = next((product / "measurement").iterdir())
    shutil.copy(first, first.with_name(first.name.replace("-iw-", "-iw2-")))
    with pytest.raises(SceneError, match="2 swaths"):
        open_source(product)


def test_archives_hold_one_raster(tmp_path, noise):
    path = write(tmp_path / "s.tif", noise)
    for names, fails in ((["s.tif"], False), (["a.tif", "b.tif"], True), ([], True)):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
            for name in names:
                out.write(path, name)
        with pytest.raises(SceneError, match="rasters") if fails else contextlib.nullcontext():
            open_source(tmp_path / "x.zip").close()


# Over a network


@pytest.fixture
def server(tmp_path):
    with file_server(tmp_path) as address:
        yield address


def test_scenes_over_http(tmp_path, noise, server):
    write(tmp_path / "s_vv_vh.tif", noise, tiled=True, blockxsize=16, blockysize=16)
    for url in (
        f"http://{server}/s_vv_vh.tif",
        f"/vsicurl/http://{server}/s_vv_vh.tif",
        f"http://{server}/s_vv_vh.tif?signature=secret",
    ):
        with open_source(url) as source:
            assert source.names == ("VV", "VH")
            assert "secret" not in source.label
            values, _ = source.read(Window(1, 2, 20, 30))
        np.testing.assert_array_equal(values, noise[:, 1:21, 2:32])


def test_failures_over_http(tmp_path, server):
    (tmp_path / "page.tif").write_text("<html></html>" * 20)
    for path, said in (
        ("missing.tif?token=secret", "not found"),
        ("forbidden.tif", "access denied|not found"),
        ("page.tif", "not a raster"),
    ):
        with pytest.raises(SceneError, match=said) as error:
            open_source(f"http://{server}/{path}")
        assert "secret" not in str(error.value)
    with pytest.raises(SceneError, match="address and the network"):
        open_source("http://127.0.0.1:9/s.tif")


def test_addresses():
    assert is_remote("https://example.com/a.tif")
    assert is_remote("s3://bucket/a.tif")
    assert is_remote("/vsis3/bucket/a.tif")
    assert is_remote("/vsizip//vsicurl/https://example.com/a.zip/a.tif")
    assert not is_remote("/data/a.tif")
    assert not is_remote("/vsizip//data/a.zip/a.tif")
    assert display_name("https://me:pw@example.com/a.tif?sig=x") == "https://example.com/a.tif"
    assert display_name("a?b.tif") == "a?b.tif"


def test_the_users_gdal_options_win(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "9")
    with environment(remote=True):
        options = getenv()
    assert "GDAL_HTTP_MAX_RETRY" not in options
    assert options["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    with environment(remote=False):
        assert "GDAL_DISABLE_READDIR_ON_OPEN" not in getenv()


def test_reasons_are_one_line_without_secrets():
    error = SceneError("went\nwrong at /vsicurl/https://x/y.tif?sig=abc.")
    assert gdal_message(error) == "went wrong at /vsicurl/https://x/y.tif"


# Reading in another thread


def test_reads_in_another_thread(tmp_path, noise):
    path = write(tmp_path / "s.tif", noise)
    found = []
    with open_source(path) as source:
        thread = threading.Thread(target=lambda: found.append(source.read(source.grid.window)))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(found[0][0], noise)


# Real scenes


def test_every_real_scene_opens(shared_data):
    # The folders also hold labels and pictures, which are no scenes.
    scenes = [p for p in shared_data.glob("*/*.tif") if not re.search("label|LULC", p.name, re.I)]
    scenes += list(shared_data.glob("sen12_pairs/*/*s1*.png"))[:3]
    scenes += list(shared_data.glob("places/*/s1*.tif"))
    scenes += list(shared_data.glob("safe/*.SAFE"))
    assert len(scenes) > 30
    for path in scenes:
        with open_source(path) as source:
            window = source.grid.window.intersect(Window(0, 0, 300, source.grid.width))
            values, valid = source.read(window)
            assert values.shape == (source.grid.count, *valid.shape)
            assert np.isfinite(values[:, valid]).all()


def test_real_scenes_read_as_rasterio_reads_them(shared_data):
    for path in shared_data.glob("sen1floods11/*_S1Hand.tif"):
        with rasterio.open(path) as dataset:
            stored, mask = dataset.read(), dataset.read_masks().all(axis=0)
        values, valid = read(path)
        np.testing.assert_array_equal(values, stored)
        np.testing.assert_array_equal(valid, mask)


def test_real_complex_bands(shared_data):
    paths = [shared_data / "formats" / f"rotated_complex_{p}.tif" for p in ("vv", "vh")]
    with open_source(paths) as source:
        assert source.names == ("VV", "VH")
        values, _ = source.read(source.grid.window)
        transform = source.grid.transform
    with open_dataset(paths[1]) as dataset:
        assert transform == dataset.transform
        np.testing.assert_allclose(values[1], np.abs(dataset.read(1)) ** 2, rtol=1e-6)


def test_real_nodata(shared_data):
    formats = shared_data / "formats"
    _, valid = read(formats / "gf3_quadpol_uint16_nocrs.tif")
    assert valid.mean() == pytest.approx(0.768, abs=0.001)
    _, valid = read(formats / "rotated_4band_nan.tif")
    assert valid.mean() == pytest.approx(0.608, abs=0.001)
    with open_source(formats / "s1_vv_db_utm_nodata-99.tif") as source:
        assert source.nodata == (-99.0,)
        assert source.names == ("VV",)
