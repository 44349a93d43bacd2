"""Bands and files that are delivered beside backscatter are never taken for it."""

import numpy as np
import pytest
from scene_rasters import write
from specs import spec

from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.quantities import file_beside, quantity_beside
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source

RNG = np.random.default_rng(3)
DB = np.stack([RNG.normal(level, 4, (40, 50)) for level in (-11, -18)]).astype(np.float32)
ANGLE = np.linspace(30, 45, 2000, dtype=np.float32).reshape(40, 50)
MASK = np.ones((40, 50), np.float32)


def plan(path, model=None, **options):
    with open_source(path if isinstance(path, list) else str(path), **options) as source:
        return plan_reading(source, model or spec())


@pytest.mark.parametrize(
    "name",
    ["angle", "localIncidenceAngle", "incidenceAngleFromEllipsoid", "dataMask", "shadowMask",
     "layover_shadow_mask", "elevation", "DEM", "number_of_looks", "date", "qa", "lia",
     "VV_angle", "VV_count", "VV_stdDev", "coherence", "VV/VH ratio"],
)  # fmt: skip
def test_a_band_with_the_name_of_another_quantity_is_left_out(tmp_path, name):
    """The last of three bands; the first two have no names, and are taken in their order."""
    path = write(tmp_path / "s.tif", np.stack([*DB, ANGLE]), ["", "", name])
    reading = plan(path)
    assert reading.numbers == (1, 2)
    assert reading.scene_bands == SceneBands("db", (0, 1))
    # It may come first, and the names of the others may be in the file's name.
    first = write(tmp_path / "s1_vh_vv.tif", np.stack([ANGLE, *DB[::-1]]), [name, "", ""])
    assert plan(first).numbers == (3, 2)


@pytest.mark.parametrize(
    "text",
    ["", "Band 1", "sigma0", "gamma nought", "Intensity", "amplitude of the area", "backscatter",
     "mean", "Layer_1", "S1A_20200101", "date of the radar backscatter image", "HV"],
)  # fmt: skip
def test_names_that_may_be_backscatter(text):
    assert not quantity_beside(text)


def test_a_scene_that_is_only_another_quantity_is_refused(tmp_path):
    for path in (
        write(tmp_path / "a.tif", ANGLE, ["angle"]),
        write(tmp_path / "S1A_IW_20200101_RTC10_G_gpuned_AB12_inc_map.tif", ANGLE),
        write(tmp_path / "OPERA_L2_RTC-S1_T137_30_v1.0_mask.tif", MASK),
        write(tmp_path / "scene_VV_mask.tif", MASK),
    ):
        with pytest.raises(SceneError, match=r"no backscatter .*-b 1 if it is") as caught:
            plan(path, spec(("VV",)))
        assert "\n" not in str(caught.value)
        with open_source(str(path)) as source:
            assert source.names == (None,)


def test_a_mask_in_a_file_of_its_own_is_left_out(tmp_path):
    files = [
        write(tmp_path / "s_VV.tif", DB[0]),
        write(tmp_path / "s_VH.tif", DB[1]),
        write(tmp_path / "s_ls_map.tif", MASK),
    ]
    assert plan([str(f) for f in files[::-1]]).numbers == (3, 2)


@pytest.mark.parametrize(
    ("stem", "other"),
    [
        ("S1A_RTC20_G_gpuned_1234_inc_map", True),
        ("S1A_RTC20_G_gpuned_1234_ls_map", True),
        ("S1A_RTC20_G_gpuned_1234_dem", True),
        ("S1A_RTC20_G_gpuned_1234_rgb", True),
        ("S1A_RTC20_G_gpuned_1234_area", True),
        ("S1A_RTC20_G_gpuned_1234_VV", False),
        ("OPERA_L2_RTC-S1-STATIC_v1.0_local_incidence_angle", True),
        ("OPERA_L2_RTC-S1-STATIC_v1.0_number_of_looks", True),
        ("OPERA_L2_RTC-S1_S1A_30_v1.0_mask", True),
        ("study_area_VV", False),
        ("area_of_interest_s1", False),
        ("masked_vv", False),
        ("scene", False),
    ],
)
def test_names_of_files(stem, other):
    assert (file_beside(stem) is not None) == other


@pytest.mark.parametrize("values", [MASK, 255 * MASK, np.where(ANGLE < 33, 0, 1)])
@pytest.mark.parametrize("units", ["db", "power"])
def test_a_mask_without_a_name_is_not_taken_for_a_polarisation(tmp_path, values, units):
    """What Sentinel Hub sends for [VV, dataMask]: two bands without names."""
    vv = DB[0] if units == "db" else 10 ** (DB[0] / 10)
    path = write(tmp_path / "response.tif", np.stack([vv, values]).astype(np.float32))
    with pytest.raises(SceneError, match=r"band 2 holds nothing but .*like a mask.*-b"):
        plan(path)
    assert plan(path, spec(fill=(None, -20.0)), bidx=[1]).numbers == (1, None)


@pytest.mark.parametrize("units", ["db", "power"])
def test_angles_without_a_name_are_not_taken_for_a_polarisation(tmp_path, units):
    vv = DB[0] if units == "db" else 10 ** (DB[0] / 10)
    path = write(tmp_path / "export.tif", np.stack([vv, ANGLE]))
    with pytest.raises(SceneError, match=r"band 2 holds values from 30.* like incidence angles"):
        plan(path)


@pytest.mark.parametrize("border", [0, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_export_of_earth_engine(tmp_path, border, dtype):
    """VV, VH and angle in dB; its border is 0, -inf or NaN, and 0 may occur inside."""
    values = np.stack([*DB, ANGLE]).astype(dtype)
    values[:, :5] = border
    values[:2, 20, 20] = 0
    path = write(tmp_path / "ee.tif", values, ["VV", "VH", "angle"])
    with open_source(str(path)) as source:
        reading = plan_reading(source, spec())
        _, valid = reading.source.read(source.grid.window)
    assert reading.units.units == "db"
    assert reading.numbers == (1, 2)
    assert not reading.warnings
    assert not valid[:5].any()
    assert valid[5:].all()
    said = any("in every band along the scene's edge: nodata" in r for r in reading.remarks)
    assert said == (not np.isnan(border))
    with open_source(str(path), nodata="none") as source:
        kept = plan_reading(source, spec(), "db")
        _, valid = kept.source.read(source.grid.window)
    assert valid.all() == (not np.isnan(border))


def test_zeros_inside_a_scene_in_decibels_are_warned_of(tmp_path):
    values = DB.copy()
    values[:, 10:15, 10:40] = 0
    path = write(tmp_path / "s.tif", values, ["VV", "VH"])
    (warning,) = plan(path).warnings
    assert warning.startswith("7.5 % of the pixels are 0 or -inf dB in every band inside")
    assert warning.endswith("--nodata 0")
    assert not plan(path, nodata=0).warnings


def test_0_is_an_ordinary_value_of_whole_decibels(tmp_path):
    values = np.rint(DB).astype(np.int16)
    values[:, :1] = 0
    path = write(tmp_path / "s.tif", values, ["VV", "VH"])
    with open_source(str(path)) as source:
        reading = plan_reading(source, spec())
        assert reading.source.read(source.grid.window)[1].all()
