"""Neighbouring maps put together, written and read again."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from cwsam_geo.cli.main import main
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.io.class_names import class_names
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
from cwsam_geo.mosaicking import layers
from cwsam_geo.mosaicking.mosaic import mosaic
from cwsam_geo.mosaicking.options import MosaicOptions

LEGEND = Legend.from_list(
    [
        {"code": 1, "name": "water", "color": "#0000ff"},
        {"code": 2, "name": "land", "color": "#00aa00"},
        {"code": 7, "name": "ice", "color": "#ffffff"},
    ]
)
UTM = CRS.from_epsg(32633)
ORIGIN = 500_000, 6_000_000
PLAIN = MosaicOptions(format="GTiff")


def grid(col, row, height, width, crs=UTM, size=10.0):
    x, y = ORIGIN[0] + col * size, ORIGIN[1] - row * size
    return SceneGrid(height, width, Affine(size, 0, x, 0, -size, y), crs)


def write(path, place, values, legend=LEGEND, description="class", **tags):
    layout = RasterLayout(
        format="GTiff", legend=legend, descriptions=(description,), tags=tags | (
            {} if legend is None else {"LEGEND": legend.to_json()})
    )  # fmt: skip
    with raster_sink(path, place, layout, overwrite=True) as sink:
        sink.write(place.window, np.asarray(values, np.uint8))
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


@st.composite
def cases(draw):
    """Maps anywhere on one grid of pixels: (column, row, codes, confidence) of each."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    placed = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        codes = rng.choice([1, 2, 7, 255], shape).astype(np.uint8)
        confidence = np.where(codes == 255, 255, rng.integers(0, 101, shape)).astype(np.uint8)
        col, row = draw(st.integers(-30, 30)), draw(st.integers(-30, 30))
        placed.append((col, row, codes, confidence))
    return placed


def expected(placed, by_confidence):
    left, top = min(c for c, *_ in placed), min(r for _, r, *_ in placed)
    right = max(c + m.shape[1] for c, _, m, _ in placed)
    bottom = max(r + m.shape[0] for _, r, m, _ in placed)
    out = np.full((bottom - top, right - left), 255, np.uint8)
    best = np.full(out.shape, -1)
    for col, row, codes, confidence in placed:
        for i in range(codes.shape[0]):
            for j in range(codes.shape[1]):
                y, x = row - top + i, col - left + j
                score = int(confidence[i, j]) if by_confidence else 0
                if codes[i, j] != 255 and (out[y, x] == 255 or score > best[y, x]):
                    out[y, x], best[y, x] = codes[i, j], score
    return out, best, (left, top)


@settings(max_examples=12, deadline=None)
@given(cases())
def test_every_pixel_has_the_class_that_counts_and_lies_where_it_was(tmp_path_factory, placed):
    folder = tmp_path_factory.mktemp("mosaic")
    maps, confidences = [], []
    for i, (col, row, codes, confidence) in enumerate(placed):
        place = grid(col, row, *codes.shape)
        maps.append(write(folder / f"m{i}.tif", place, codes))
        confidences.append(write(folder / f"c{i}.tif", place, confidence, None, "confidence (%)"))
    mosaic(maps, folder / "first.tif", PLAIN)
    mosaic(maps, folder / "first.vrt")
    options = MosaicOptions(confidences, folder / "percent.tif", format="GTiff")
    mosaic(maps, folder / "best.tif", options)
    first, _, (left, top) = expected(placed, by_confidence=False)
    best, percent, _ = expected(placed, by_confidence=True)
    np.testing.assert_array_equal(read(folder / "first.tif"), first)
    np.testing.assert_array_equal(read(folder / "first.vrt"), first)
    np.testing.assert_array_equal(read(folder / "best.tif"), best)
    np.testing.assert_array_equal(read(folder / "percent.tif"), np.where(percent < 0, 255, percent))
    for name in ("first.tif", "first.vrt", "best.tif", "percent.tif"):
        with rasterio.open(folder / name) as file:
            assert file.transform == grid(left, top, 1, 1).transform
            assert file.crs == UTM


@pytest.fixture
def pair(tmp_path):
    """Two maps that overlap, with their rasters of confidence, as predict writes them."""
    rng = np.random.default_rng(0)
    for name, col in (("a", 0), ("b", 500)):
        place = grid(col, 40 * (name == "b"), 600, 700)
        shared = {"CWSAM_GEO_SETTINGS": "{}", "TIFFTAG_DATETIME": "2024:01:01 00:00:00"}
        tags = shared | {"CWSAM_GEO_INPUT": f"{name}.tif", "CWSAM_GEO_MODEL": '{"file": "m"}'}
        write(tmp_path / f"{name}.tif", place, rng.choice([1, 2], (600, 700)), **tags)
        confidence = rng.integers(40, 101, (600, 700))
        write(tmp_path / f"{name}_c.tif", place, confidence, None, "confidence (%)", **tags)
    return tmp_path


def test_the_mosaic_is_a_cog_with_the_legend_and_the_tags_that_all_maps_share(pair):
    events = []
    mosaic([pair / "a.tif", pair / "b.tif"], pair / "m.tif", on_event=events.append)
    assert cog_validate(pair / "m.tif") == (True, [], [])
    (pair / "m.qml").unlink()  # each of the two writes it
    mosaic([pair / "a.tif", pair / "b.tif"], pair / "m.vrt")
    assert (pair / "m.qml").exists()
    for name in ("m.tif", "m.vrt"):
        with rasterio.open(pair / name) as file:
            tags = file.tags()
            assert json.loads(tags["LEGEND"]) == LEGEND.to_list()
            assert tags["CWSAM_GEO_MODEL"] == '{"file": "m"}'
            assert "CWSAM_GEO_INPUT" not in tags
            assert json.loads(tags["CWSAM_GEO_MOSAIC"]) == {
                "overlap": "first",
                "maps": ["a.tif", "b.tif"],
            }
            assert file.nodata == 255
            assert file.colormap(1)[7] == (255, 255, 255, 255)
            assert class_names(file, 1, name).names == {1: "water", 2: "land", 7: "ice"}
    done = events[-1]
    both = 560 * 200
    assert done["overlap_pixels"] == both
    assert 0.45 < done["overlap_differing"] / both < 0.55
    assert sum(done["pixels"].values()) == 640 * 1200


def test_rasters_of_confidence_are_found_by_their_run_whatever_their_order(pair):
    maps = [pair / "a.tif", pair / "b.tif"]
    for name, order in (("x", "ab"), ("y", "ba")):
        options = MosaicOptions([pair / f"{n}_c.tif" for n in order], format="GTiff")
        mosaic(maps, pair / f"{name}.tif", options)
    np.testing.assert_array_equal(read(pair / "x.tif"), read(pair / "y.tif"))
    assert (read(pair / "x.tif") != read(pair / "b.tif")[0, 0]).any()


def test_few_files_are_open_at_a_time(pair, monkeypatch):
    monkeypatch.setattr(layers, "_MOST_OPEN", 1)
    options = MosaicOptions([pair / "a_c.tif", pair / "b_c.tif"], format="GTiff")
    mosaic([pair / "a.tif", pair / "b.tif"], pair / "m.tif", options)
    assert (read(pair / "m.tif") == 255).sum() == 640 * 1200 - 2 * 600 * 700 + 560 * 200


def test_memory_does_not_grow_with_the_mosaic(pair, monkeypatch):
    """Windows are no larger than the budget, though the mosaic is."""
    monkeypatch.setattr("cwsam_geo.core.windows._WINDOW_PIXELS", 512 * 512)
    largest = []
    mosaic(
        [pair / "a.tif", pair / "b.tif"],
        pair / "m.tif",
        PLAIN,
        lambda e: largest.append(e["pixels"]) if e["event"] == "progress" else None,
    )
    assert max(np.diff([0, *largest])) <= 512 * 512


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (grid(0.4, 0, 30, 30), "lie 0.4 of a pixel beside"),
        (grid(0, -0.5, 30, 30), "lie 0.5 of a pixel beside"),
        (grid(0, 0, 30, 30, size=20.0), "20 wide against 10"),
        (grid(0, 0, 30, 30, CRS.from_epsg(32634)), r"EPSG:32634.*--t-srs EPSG:32633"),
        (SceneGrid(30, 30, Affine.identity(), None), "lies nowhere"),
    ],
)
def test_no_pixel_is_moved_unasked(pair, place, said):
    other = write(pair / "other.tif", place, np.ones((30, 30)))
    for output in ("m.tif", "m.vrt"):
        with pytest.raises(SceneError, match=said):
            mosaic([pair / "a.tif", other], pair / output)
        assert not (pair / output).exists()


def test_a_chosen_crs_takes_maps_of_all_zones_and_copies_those_in_it(pair):
    values = np.random.default_rng(1).choice([1, 2], (400, 300))
    place = SceneGrid(400, 300, Affine(10, 0, 195_000, 0, -10, 6_000_000), CRS.from_epsg(32634))
    write(pair / "east.tif", place, values)
    options = MosaicOptions(crs="EPSG:32633", format="GTiff")
    mosaic([pair / "a.tif", pair / "b.tif", pair / "east.tif"], pair / "m.tif", options)
    with rasterio.open(pair / "m.tif") as file, rasterio.open(pair / "a.tif") as first:
        assert file.crs == UTM
        assert file.transform.a == 10
        col, row = ~file.transform * (first.transform.c, first.transform.f)
        assert (col, row) == (round(col), round(row))
        part = file.read(1)[round(row) : round(row) + 600, round(col) : round(col) + 700]
        np.testing.assert_array_equal(part, first.read(1))
        # The other map is turned, and keeps its classes in about the same number.
        rest = file.read(1)[:, round(col) + 1500 :]
    assert np.isin(rest, [1, 2, 255]).all()
    assert (rest != 255).sum() == pytest.approx(values.size, rel=0.02)
    assert (rest == 1).sum() / (rest != 255).sum() == pytest.approx((values == 1).mean(), abs=0.02)


def test_a_mosaic_like_another_raster_has_its_grid(pair):
    write(pair / "like.tif", grid(100.5, 50.5, 90, 80), np.ones((90, 80)))
    mosaic([pair / "a.tif"], pair / "m.tif", MosaicOptions(like=pair / "like.tif", format="GTiff"))
    with rasterio.open(pair / "m.tif") as file:
        assert file.transform == grid(100.5, 50.5, 90, 80).transform
        # The centre of each pixel lies on the corner of four; nearest takes one of these.
        assert file.shape == (90, 80)
        assert (file.read(1) != 255).all()


def test_a_map_placed_by_control_points_needs_a_chosen_grid(pair):
    a = grid(0, 0, 600, 700)
    points = tuple(
        GroundControlPoint(row, col, *(a.transform * (col, row)))
        for row in (0, 300, 600) for col in (0, 350, 700)
    )  # fmt: skip
    place = SceneGrid(600, 700, Affine.identity(), None, gcps=points, gcp_crs=UTM)
    write(pair / "g.tif", place, read(pair / "a.tif"))
    with pytest.raises(SceneError, match="control points; choose the CRS"):
        mosaic([pair / "g.tif"], pair / "m.tif")
    options = MosaicOptions(crs="EPSG:32633", resolution=10, format="GTiff")
    mosaic([pair / "g.tif"], pair / "m.tif", options)
    with rasterio.open(pair / "m.tif") as file:
        assert file.crs == UTM
        found = file.read(1)[-600:, :700]
    assert (found == read(pair / "a.tif")).mean() > 0.99


OTHER = Legend.from_list([{"code": 1, "name": "forest", "color": "#00ff00"}])


@pytest.mark.parametrize(
    ("legend", "said"),
    [
        (OTHER, "code 1 is 'water' in .*a.tif and 'forest' in"),
        (None, "has no class names"),
    ],
)
def test_maps_of_other_classes_are_refused(pair, legend, said):
    write(pair / "o.tif", grid(0, 0, 30, 30), np.ones((30, 30)), legend)
    with pytest.raises(LegendError, match=said):
        mosaic([pair / "a.tif", pair / "o.tif"], pair / "m.tif")


def test_maps_without_any_legend_have_none_together(tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}.tif", grid(20 * i, 0, 30, 30), np.full((30, 30), i), None)
    mosaic([tmp_path / "1.tif", tmp_path / "0.tif"], tmp_path / "m.tif", PLAIN)
    np.testing.assert_array_equal(read(tmp_path / "m.tif")[0], [0] * 20 + [1] * 30)
    assert not (tmp_path / "m.qml").exists()


def test_another_nodata_value_and_masks_are_respected(tmp_path):
    place = grid(0, 0, 30, 30)
    write(tmp_path / "a.tif", place, np.ones((30, 30)), None)
    values = np.full((30, 30), 2, np.uint8)
    values[:10] = 0
    profile = {"driver": "GTiff", "height": 30, "width": 30, "count": 1, "dtype": "uint8",
               "crs": UTM, "transform": place.transform}  # fmt: skip
    with rasterio.open(tmp_path / "zero.tif", "w", nodata=0, **profile) as file:
        file.write(values, 1)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "mask.tif", "w", **profile) as file,
    ):
        file.write(values, 1)
        file.write_mask(values != 0)
    expected = np.where(values == 0, 1, 2)
    for name in ("zero", "mask"):
        mosaic([tmp_path / f"{name}.tif", tmp_path / "a.tif"], tmp_path / f"{name}_m.tif", PLAIN)
        np.testing.assert_array_equal(read(tmp_path / f"{name}_m.tif"), expected)
    mosaic([tmp_path / "zero.tif", tmp_path / "a.tif"], tmp_path / "m.vrt")
    np.testing.assert_array_equal(read(tmp_path / "m.vrt"), expected)
    with pytest.raises(SceneError, match=r"has a mask.*write a \*.tif"):
        mosaic([tmp_path / "mask.tif"], tmp_path / "x.vrt")


@pytest.mark.parametrize(
    ("options", "output", "said"),
    [
        ({"crs": "EPSG:1"}, "m.tif", "is no CRS that PROJ knows"),
        ({"confidence": ["a_c.tif"]}, "m.tif", "1 raster for 2 maps"),
        ({"confidence": ["a_c.tif", "a_c.tif"]}, "m.tif", "not on the grid|the same raster"),
        ({"confidence": ["a_c.tif", "b_c.tif"]}, "m.vrt", "neither compare confidence"),
        ({}, "a.tif", "exists already"),
        ({"overwrite": True}, "a.tif", "is one of the maps"),
        ({}, "m.png", r"name the output \*.tif"),
    ],
)
def test_what_cannot_be_done_is_refused(pair, monkeypatch, options, output, said):
    monkeypatch.chdir(pair)
    before = read("a.tif")
    with pytest.raises((UsageError, SceneError), match=said):
        mosaic(["a.tif", "b.tif"], output, MosaicOptions(**options))
    np.testing.assert_array_equal(read("a.tif"), before)


@pytest.mark.parametrize(
    "options",
    [{"like": "x", "crs": "y"}, {"resolution": 10}, {"confidence_output": "c.tif"},
     {"crs": "EPSG:4326", "resolution": 0}],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(UsageError):
        MosaicOptions(**options)


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return stopped.value.code or 0, out, err


def test_the_command_takes_patterns(pair, capfd, monkeypatch):
    monkeypatch.chdir(pair)
    code, out, err = run(
        capfd, "mosaic", "?.tif", "-o", "m.tif", "--confidence", "?_c.tif", "--of", "GTiff"
    )
    assert code == 0, err
    assert out == ""
    assert "2 maps on 1200 x 640 px" in err
    assert "% of the pixels where they overlap" in err
    assert "m.tif: water" in err
    (pair / "own.qml").write_text("my own style")
    code, _, err = run(capfd, "mosaic", "[ab].tif", "-o", "own.tif")
    assert code == 0, err
    assert "own.qml: a style that you have made or changed, so it is kept" in err
    assert (pair / "own.qml").read_text() == "my own style"
    assert run(capfd, "mosaic", "[ab].tif", "-o", "none.vrt", "--no-qml")[0] == 0
    assert not (pair / "none.qml").exists()
    code, _, err = run(capfd, "mosaic", "no*.tif", "-o", "n.tif")
    assert code == 2
    assert "no*.tif: no file has such a name" in err
