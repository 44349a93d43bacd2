"""Zeros along the edge of a scene are told from zeros inside it."""

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene_rasters import write
from scipy import ndimage
from specs import spec

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.scene import edge
from cwsam_geo.scene.edge import edge_area
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source


def connected(mask):
    """The areas of a mask that touch its edge, by labelling all of it at once."""
    labels, _ = ndimage.label(mask)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask & np.isin(labels, rim[rim > 0])


def spiral(side):
    """A path of one pixel that opens at the edge and winds to the middle."""
    mask = np.zeros((side, side), bool)
    row, col, (down, right) = 0, 0, (0, 1)
    length, turns = side - 1, 0
    while length > 0:
        for _ in range(length):
            mask[row, col] = True
            row, col = row + down, col + right
        down, right = right, -down
        turns += 1
        length -= 2 if turns > 2 and turns % 2 else 0
    return mask


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_the_area_is_that_of_the_whole_scene_whatever_the_cells(monkeypatch, data):
    height, width = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    mask = rng.random((height, width)) < data.draw(st.sampled_from([0, 0.3, 0.55, 0.65, 0.9, 1]))
    if data.draw(st.booleans()):
        mask = spiral(max(height, width))[:height, :width]
    block = data.draw(st.sampled_from([(1, None), (3, None), (4, 4), (7, 5), (50, 50)]))
    monkeypatch.setattr(edge, "_CELL_PIXELS", data.draw(st.integers(1, 300)))
    monkeypatch.setattr(edge, "_CELL_SIDE", data.draw(st.integers(1, 20)))
    grid = SceneGrid(height, width, None, None, block_shape=(block[0], block[1] or width))
    reads = np.zeros((height, width), int)

    def without_echo(window):
        reads[window.slices] += 1
        return mask[window.slices]

    area = pickle.loads(pickle.dumps(edge_area(grid, without_echo)))
    expected = connected(mask)
    np.testing.assert_array_equal(area.of(grid.window), expected)
    assert reads.max() == 1
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(row, col, height, width).intersect(grid.window)
    np.testing.assert_array_equal(area.of(window), expected[window.slices])


def test_cells_that_the_area_does_not_reach_are_not_read():
    grid = SceneGrid(4096, 4096, None, None, block_shape=(512, 512))
    read = []

    def without_echo(window):
        read.append((window.row // 512, window.col // 512))
        mask = np.zeros((window.height, window.width), bool)
        if window.col == 0:
            mask[:, :30] = True
        return mask

    area = edge_area(grid, without_echo)
    assert len(read) == len(set(read)) == 28  # the outermost of 8 x 8 cells
    assert area.of(Window(100, 20, 1, 20)).tolist() == [[True] * 10 + [False] * 10]
    assert sum(map(len, area.packed.values())) < 4000


UNITS = ("power", "amplitude", "db")


def stored_as(power, units):
    with np.errstate(divide="ignore"):
        values = {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}
    return values[units].astype(np.float32)


@pytest.fixture
def swath():
    """Power of a swath with a slanted border, a bay in it that turns a corner, and a lake."""
    rng = np.random.default_rng(0)
    power = 10 ** (rng.normal([[[-11.0]], [[-18.0]]], 4, (2, 90, 70)) / 10)
    border = np.add.outer(np.arange(90) // 9, np.zeros(70, int)) > np.arange(70)
    border[40:45, :30] = True  # the bay
    border[45:60, 25:30] = True
    lake = np.zeros((90, 70), bool)
    lake[20:35, 40:60] = True
    power[:, border | lake] = 0
    power[1, 65:70, 50:60] = 0  # in one band only
    return power, border, lake


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("layout", ["strips", "tiles", "files"])
def test_no_power_is_nodata_at_the_edge_and_data_inside(tmp_path, swath, units, layout):
    power, border, lake = swath
    stored = stored_as(power, units)
    options = {}
    if layout == "tiles":
        options |= {"tiled": True, "blockxsize": 16, "blockysize": 16}
    paths = [write(tmp_path / "vv_vh.tif", stored, ["VV", "VH"], **options)]
    if layout == "files":
        paths = [
            write(tmp_path / f"{n}.tif", b, **options)
            for n, b in zip(("vv", "vh"), stored, strict=True)
        ]
    with open_source(paths) as whole:
        reading = plan_reading(whole, spec(), units)
        values, valid = reading.source.read(whole.grid.window)
        np.testing.assert_array_equal(valid, ~border)
        db = spec().scaled(values, reading.scene_bands)
        assert (db[:, lake] == -100).all()
        # Any window of it says the same.
        window = Window(30, 10, 40, 45)
        np.testing.assert_array_equal(reading.source.read(window)[1], ~border[window.slices])
    share = lake.mean()
    assert reading.stats.inner == pytest.approx(share)
    (warning,) = reading.warnings
    value = "-inf" if units == "db" else "0"
    assert f"{100 * share:.3g} % of the pixels are {value} in every band inside" in warning
    assert f"pass --nodata {value}" in warning
    (said,) = [r for r in reading.remarks if "along the scene's edge" in r]
    assert f"{100 * border.mean():.3g} %" in said


@pytest.mark.parametrize("units", ["power", "amplitude"])
def test_zeros_that_the_file_declares_are_nodata_inside_too(tmp_path, swath, units):
    power, border, lake = swath
    path = write(tmp_path / "s.tif", stored_as(power, units), ["VV", "VH"], nodata=0)
    with open_source(path) as whole:
        reading = plan_reading(whole, spec(), units)
        valid = reading.source.read(whole.grid.window)[1]
    np.testing.assert_array_equal(valid, ~(border | lake))
    (said,) = [r for r in reading.remarks if "as the file declares" in r]
    assert f"{100 * (border | lake).mean():.3g} %" in said
    assert "-unsetnodata" in said


@pytest.mark.parametrize("units", UNITS)
def test_the_users_option_decides_for_all_pixels_without_power(tmp_path, swath, units):
    power, border, lake = swath
    path = write(tmp_path / "s.tif", stored_as(power, units), ["VV", "VH"])
    for option, nodata in ((-np.inf if units == "db" else 0, border | lake), ("none", None)):
        with open_source(path, nodata=option) as whole:
            reading = plan_reading(whole, spec(), units)
            valid = reading.source.read(whole.grid.window)[1]
        np.testing.assert_array_equal(valid, True if nodata is None else ~nodata)
        assert not any("inside the scene" in w for w in reading.warnings)


def test_nodata_of_another_kind_connects_zeros_with_the_edge(tmp_path, swath):
    # A swath that was warped: NaN around it, and its own border of zeros within.
    power, border, _ = swath
    stored = np.full((2, 110, 90), 7, np.uint16)
    stored[:, 10:-10, 10:-10] = np.rint(np.sqrt(power) * 500)
    frame = stored[0] == 7
    frame[10:-10, 10:-10] = False
    border = np.pad(border, 10)
    path = write(tmp_path / "s.tif", np.where(frame, 65535, stored), ["VV", "VH"], nodata=65535)
    with open_source(path) as whole:
        reading = plan_reading(whole, spec(), "amplitude")
        valid = reading.source.read(whole.grid.window)[1]
    np.testing.assert_array_equal(valid, ~(frame | border))


def test_one_band_alone_is_read_by_the_same_rule(tmp_path, swath):
    power, border, _ = swath
    path = write(tmp_path / "s.tif", stored_as(power[1:], "power"), ["VH"])
    with open_source(path) as whole:
        valid = plan_reading(whole, spec(("VH",))).source.read(whole.grid.window)[1]
    np.testing.assert_array_equal(valid, ~border)
