import json
import os
import subprocess
import sys
import textwrap
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from disks import small_disk
from doubles import UTM, legend
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SUPPORT
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.env import get_gdal_config
from rio_cogeo.cogeo import cog_validate

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.io.raster_sink import BLOCK, BlockAssembler, RasterLayout, raster_sink

# Digits that a decimal round trip would lose.
ROTATED = Affine(-0.028569629858371578, 2.4998367499198335, 593124.119663189,
                 2.4998367499198335, 0.028569629858371578, 5749208.249577077)  # fmt: skip


def grid(height, width, transform=None, crs=UTM, **more):
    return SceneGrid(height, width, transform or Affine(10, 0, 5e5, 0, -10, 6e6), crs, **more)


def write(path, values, on, layout, overwrite=False, step=300):
    height, width = values.shape[1:]
    with raster_sink(path, on, layout, overwrite) as sink:
        for row in range(0, height, step):
            for col in range(0, width, step):
                window = Window(row, col, step, step).intersect(Window(0, 0, height, width))
                sink.write(window, values[(slice(None), *window.slices)])


def random_classes(height, width, bands=1):
    return np.random.default_rng(0).integers(0, 5, (bands, height, width)).astype(np.uint8)


@pytest.mark.parametrize("name", ["COG", "GTiff"])
@pytest.mark.parametrize(("height", "width"), [(1300, 700), (1, 900), (900, 1), (1, 1)])
def test_pixels_and_georeferencing_come_back(tmp_path, name, height, width):
    values, names = random_classes(height, width), legend(5)
    layout = RasterLayout(
        format=name,
        legend=names,
        tags={"LEGEND": names.to_json()},
        descriptions=("class",),
    )
    path = tmp_path / "map.tif"
    write(path, values, grid(height, width, ROTATED), layout)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(), values)
        assert tuple(raster.transform) == tuple(ROTATED)
        assert raster.crs == UTM
        assert raster.nodata == 255
        assert raster.dtypes == ("uint8",)
        assert raster.descriptions == ("class",)
        palette = raster.colormap(1)
        assert {c: palette[c][:3] for c in range(5)} == {e.code: e.rgb for e in names.entries}
        assert json.loads(raster.tags()["LEGEND"]) == names.to_list()
        assert raster.colorinterp[0].name == "palette"
    assert sorted(os.listdir(tmp_path)) == ["map.tif", "map.tif.aux.xml"]


def test_a_cog_is_valid_and_its_overviews_are_modes(tmp_path):
    values = np.zeros((1, 2100, 1500), np.uint8)
    values[0, 1::2, 1::2] = 4  # one in four: a mean or nearest overview could show it
    values[0, :, 1000:] = 255
    path = tmp_path / "map.tif"
    write(path, values, grid(2100, 1500), RasterLayout(legend=legend(5)))
    valid, errors, warnings = cog_validate(path)
    assert valid
    assert not errors
    assert not warnings
    with rasterio.open(path) as raster:
        assert raster.overviews(1)[:2] == [2, 4]
        small = raster.read(1, out_shape=(1050, 750))
        assert set(np.unique(small[:, :500])) == {0}
        assert set(np.unique(small[:, 500:])) == {255}


@pytest.mark.parametrize("told", [None, "64MB"])
def test_the_copy_that_makes_the_cog_keeps_to_a_small_cache(tmp_path, monkeypatch, told):
    """GDAL's own is a twentieth of the machine's memory, and a whole scene fills it."""
    if told:
        monkeypatch.setenv("GDAL_CACHEMAX", told)
    copy, seen = rasterio.shutil.copy, []

    def watched(*arguments, **options):
        seen.append(get_gdal_config("GDAL_CACHEMAX"))
        copy(*arguments, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", watched)
    # A limit of its own, since an earlier test may have left any.
    with rasterio.Env(GDAL_CACHEMAX=77 << 20):
        write(tmp_path / "map.tif", np.zeros((1, 9, 9), np.uint8), grid(9, 9), RasterLayout())
        assert seen == [(77 if told else 128) << 20]
        assert get_gdal_config("GDAL_CACHEMAX") == 77 << 20


def test_a_scene_of_control_points_keeps_them(tmp_path):
    points = tuple(
        GroundControlPoint(row=r, col=c, x=10 + c / 1000, y=50 - r / 1000, z=3.25, id=f"{r}-{c}")
        for r in (0, 600)
        for c in (0, 700)
    )
    on = grid(601, 701, Affine.identity(), None, gcps=points, gcp_crs=CRS.from_epsg(4326))
    path = tmp_path / "map.tif"
    write(path, random_classes(601, 701), on, RasterLayout())
    with rasterio.open(path) as raster:
        read, crs = raster.gcps
        assert [(p.row, p.col, p.x, p.y, p.z) for p in read] == [
            (p.row, p.col, p.x, p.y, p.z) for p in points
        ]
        assert crs == CRS.from_epsg(4326)
        assert raster.crs is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_georeferencing_gets_none(tmp_path):
    path = tmp_path / "map.tif"
    write(path, random_classes(20, 30), grid(20, 30, Affine.identity(), None), RasterLayout())
    with rasterio.open(path) as raster:
        assert raster.crs is None
        assert raster.transform.is_identity


def test_creation_options_are_passed_on(tmp_path):
    path = tmp_path / "map.tif"
    layout = RasterLayout(options={"compress": "LZW", "BLOCKSIZE": "256"})
    write(path, random_classes(600, 600), grid(600, 600), layout)
    with rasterio.open(path) as raster:
        assert raster.compression.name == "lzw"
        assert raster.block_shapes == [(256, 256)]


@pytest.mark.parametrize("palette", [True, False])
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("COG", {"COMPRESS": "LERC", "MAX_Z_ERROR": "5"}, "values"),
        ("COG", {"NBITS": "4"}, "4 bit"),
        ("GTiff", {"NBITS": "1"}, "values"),
        ("COG", {"COMPRESS": "JPEG"}, "values|palette"),
        ("GTiff", {"COMPRESS": "JPEG"}, "values|JPEG"),
        ("COG", {"TILING_SCHEME": "GoogleMapsCompatible"}, "grid|nodata"),
        ("COG", {"TARGET_SRS": "EPSG:3857"}, "grid|nodata"),
        ("GTiff", {"PROFILE": "BASELINE"}, "beside"),
        ("GTiff", {"TFW": "YES"}, "beside"),
    ],
)
def test_options_that_would_spoil_the_raster_are_refused(tmp_path, name, options, said, palette):
    classes = legend(5) if palette else None
    layout = RasterLayout(format=name, options=options, legend=classes)
    with pytest.raises(UsageError, match=said):
        write(tmp_path / "map.tif", random_classes(60, 60), grid(60, 60), layout)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["COG", "GTiff"])
@pytest.mark.parametrize(
    "options",
    [
        {"COMPRESS": "LERC"},
        {"COMPRESS": "ZSTD", "NUM_THREADS": "2"},
        {"COMPRESS": "NONE"},
        {"BIGTIFF": "YES"},
    ],
)
def test_options_that_keep_the_raster_are_taken(tmp_path, name, options):
    values = random_classes(60, 60)
    layout = RasterLayout(format=name, options=options, legend=legend(5))
    write(tmp_path / "map.tif", values, grid(60, 60), layout)
    with rasterio.open(tmp_path / "map.tif") as raster:
        np.testing.assert_array_equal(raster.read(), values)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(100, 900), st.integers(0, 2**31))
def test_blocks_are_given_once_and_whole(height, width, tile, seed):
    values = np.random.default_rng(seed).integers(0, 255, (2, height, width)).astype(np.uint8)
    assembler, out = BlockAssembler(height, width, 2), np.zeros((2, height, width), np.uint8)
    times = np.zeros((height, width), int)
    most = 0
    for t in TilePlan(height, width, tile, tile // 4):
        w = t.settles
        for block, array in assembler.add(w, values[(slice(None), *w.slices)]):
            assert block.row % BLOCK == block.col % BLOCK == 0
            out[(slice(None), *block.slices)] = array
            times[block.slices] += 1
        most = max(most, assembler.open_blocks)
    np.testing.assert_array_equal(out, values)
    assert (times == 1).all()
    assert assembler.open_blocks == 0
    # Open: one unfinished row of blocks, and the column in work.
    assert most <= -(-width // BLOCK) + -(-(tile + BLOCK) // BLOCK) + 1


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = tmp_path / "map.tif"
    path.write_text("earlier")
    values, on = random_classes(10, 10), grid(10, 10)
    with pytest.raises(UsageError, match="--overwrite"):
        write(path, values, on, RasterLayout())
    assert path.read_text() == "earlier"
    write(path, values, on, RasterLayout(), overwrite=True)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(), values)


def test_a_replaced_raster_is_new_at_every_scale(tmp_path):
    path, layout = tmp_path / "map.tif", RasterLayout(format="GTiff")
    write(path, np.zeros((1, 800, 800), np.uint8), grid(800, 800), layout)
    with (
        rasterio.Env(TIFF_USE_OVR=True, GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, "r+") as raster,
    ):
        raster.build_overviews([4])
        raster.write_mask(np.zeros((800, 800), bool))
    statistics = '<MDI key="STATISTICS_MAXIMUM">0</MDI>'
    (tmp_path / "map.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><Metadata>{statistics}</Metadata></PAMRasterBand>'
        "</PAMDataset>"
    )
    with rasterio.open(path) as raster:
        assert raster.overviews(1)
        assert raster.tags(1)["STATISTICS_MAXIMUM"] == "0"
    assert {p.suffix for p in tmp_path.iterdir()} == {".tif", ".ovr", ".xml", ".msk"}
    write(path, np.ones((1, 800, 800), np.uint8), grid(800, 800), layout, overwrite=True)
    assert os.listdir(tmp_path) == ["map.tif"]
    with rasterio.open(path) as raster:
        assert (raster.read(1, out_shape=(200, 200)) == 1).all()
        assert raster.dataset_mask().all()
        assert "STATISTICS_MAXIMUM" not in raster.tags(1)


@pytest.mark.parametrize("name", ["COG", "GTiff"])
def test_a_link_keeps_leading_to_the_raster(tmp_path, name):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "2024.tif", tmp_path / "map.tif"
    link.symlink_to(real)
    for seed in (0, 1):
        values = np.random.default_rng(seed).integers(0, 5, (1, 60, 60)).astype(np.uint8)
        write(link, values, grid(60, 60), RasterLayout(format=name), overwrite=bool(seed))
        for path in (link, real):
            with rasterio.open(path) as raster:
                np.testing.assert_array_equal(raster.read(), values)
    assert link.is_symlink()
    assert os.listdir(tmp_path / "store") == ["2024.tif"]


def named(path):
    """Category names and attribute table of band 1 as GDAL reads them from its sidecar."""
    band = ET.parse(f"{path}.aux.xml").getroot().find("PAMRasterBand")
    assert band.get("band") == "1"
    categories = [c.text or "" for c in band.find("CategoryNames")]
    table = band.find("GDALRasterAttributeTable")
    usages = [int(c.find("Usage").text) for c in table.findall("FieldDefn")]
    rows = [[cell.text for cell in row] for row in table.findall("Row")]
    return categories, usages, rows


@pytest.mark.parametrize("name", ["COG", "GTiff"])
def test_class_names_lie_where_gdal_looks_for_them(tmp_path, name):
    classes = Legend.from_list(
        [
            {"code": 5, "name": "Röhricht & <Moor>\x07", "color": "#0102ff"},
            {"code": 2, "name": "water", "color": "#00ff00"},
        ]
    )
    path = tmp_path / "map.tif"
    values = np.full((1, 20, 20), 5, np.uint8)
    write(path, values, grid(20, 20), RasterLayout(format=name, legend=classes))
    assert sorted(os.listdir(tmp_path)) == ["map.tif", "map.tif.aux.xml"]
    categories, usages, rows = named(path)
    assert categories == ["", "", "water", "", "", "Röhricht & <Moor> "]
    assert usages == [5, 1, 2, 6, 7, 8, 9]
    assert rows == [
        ["2", "0", "water", "0", "255", "0", "255"],
        ["5", "400", "Röhricht & <Moor> ", "1", "2", "255", "255"],
    ]
    # GDAL takes the sidecar for a part of the raster, and copies it with the raster.
    with rasterio.open(path) as raster:
        assert [os.path.basename(f) for f in raster.files] == ["map.tif", "map.tif.aux.xml"]
    rasterio.shutil.copy(path, tmp_path / "copy.tif", driver="GTiff")
    assert named(tmp_path / "copy.tif")[0] == categories


def test_names_are_replaced_with_the_raster_and_go_with_it(tmp_path):
    path, values = tmp_path / "map.tif", np.full((1, 20, 20), 1, np.uint8)
    write(path, values, grid(20, 20), RasterLayout(legend=legend(5)))
    write(path, values, grid(20, 20), RasterLayout(legend=legend(2)), overwrite=True)
    assert len(named(path)[0]) == 2
    with pytest.raises(UsageError, match="exists already"):
        write(path, values, grid(20, 20), RasterLayout(legend=legend(3)))
    path.unlink()
    with pytest.raises(UsageError, match=r"map\.tif\.aux\.xml: is left over"):
        write(path, values, grid(20, 20), RasterLayout(legend=legend(3)))
    write(path, values, grid(20, 20), RasterLayout(), overwrite=True)
    assert os.listdir(tmp_path) == ["map.tif"]


def test_names_are_found_by_a_link_too_and_stay_those_of_the_file(tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "2024.tif", tmp_path / "map.tif"
    link.symlink_to(real)
    values = np.full((1, 20, 20), 1, np.uint8)
    write(link, values, grid(20, 20), RasterLayout(legend=legend(5)))
    assert named(link) == named(real)
    write(real, values, grid(20, 20), RasterLayout(legend=legend(3)), overwrite=True)
    assert named(link) == named(real)
    write(link, values, grid(20, 20), RasterLayout(legend=legend(2)), overwrite=True)
    assert named(link) == named(real)
    assert len(named(real)[0]) == 2
    assert sorted(os.listdir(tmp_path / "store")) == ["2024.tif", "2024.tif.aux.xml"]


def test_a_failed_write_leaves_no_names(tmp_path):
    def fail(overwrite):
        with raster_sink(
            tmp_path / "map.tif", grid(20, 20), RasterLayout(legend=legend(5)), overwrite
        ):
            raise OutputError("stopped")

    with pytest.raises(OutputError):
        fail(False)
    assert os.listdir(tmp_path) == []
    values = np.full((1, 20, 20), 1, np.uint8)
    write(tmp_path / "map.tif", values, grid(20, 20), RasterLayout(legend=legend(2)))
    with pytest.raises(OutputError):
        fail(True)
    assert len(named(tmp_path / "map.tif")[0]) == 2


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("map.png", UsageError, "name the output"),
        ("nowhere/map.tif", OutputError, "does not exist"),
        (".", UsageError, "name the output"),
    ],
)
def test_an_unusable_output_is_refused_before_any_work(tmp_path, name, error, match):
    with (
        pytest.raises(error, match=match),
        raster_sink(tmp_path / name, grid(5, 5), RasterLayout()),
    ):
        pytest.fail("the sink was opened")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, ValueError])
def test_a_run_that_stops_leaves_the_earlier_output_and_nothing_else(tmp_path, stop):
    path = tmp_path / "map.tif"
    path.write_text("earlier")

    def stopped():
        with raster_sink(path, grid(800, 800), RasterLayout(), True) as sink:
            sink.write(Window(0, 0, 512, 512), np.zeros((512, 512), np.uint8))
            raise stop

    with pytest.raises(stop):
        stopped()
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["map.tif"]


def test_a_raster_with_a_hole_is_not_put_in_place(tmp_path):
    path = tmp_path / "map.tif"
    with (
        pytest.raises(OutputError, match="incomplete"),
        raster_sink(path, grid(600, 600), RasterLayout()) as sink,
    ):
        sink.write(Window(0, 0, 300, 300), np.zeros((300, 300), np.uint8))
    assert os.listdir(tmp_path) == []


FULL_DISK = """
    import numpy as np, sys
    sys.path.insert(0, {tests!r})
    from doubles import *
    from cwsam_geo.core.grid import SceneGrid, Window
    from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
    side = {side}
    noise = np.random.default_rng(0).integers(0, 255, (side, side)).astype(np.uint8)
    grid = SceneGrid(side, side, ArraySource(noise[:2, :2]).grid.transform, UTM)
    with raster_sink({path!r}, grid, RasterLayout(), True) as sink:
        sink.write(Window(0, 0, side, side), noise)
"""


@pytest.mark.parametrize(("megabytes", "side"), [(1, 3000), (18, 3000), (25, 3000), (1 / 64, 40)])
def test_a_full_disk_is_one_line_and_leaves_the_earlier_output(tmp_path, megabytes, side):
    """18 MB fill up while the pixels stream, 25 MB would while the COG is made."""
    with small_disk(tmp_path / "disk", int(1024 * megabytes)) as disk:
        path = disk / "map.tif"
        path.write_text("earlier")
        tests = str(SUPPORT)
        code = textwrap.dedent(FULL_DISK).format(tests=tests, path=str(path), side=side)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert "OutputError" in done.stderr.splitlines()[-1]
        assert "the disk is full" in done.stderr.splitlines()[-1]
        assert done.stderr.startswith("Traceback")  # GDAL has not written lines of its own
        assert path.read_text() == "earlier"
        assert os.listdir(disk) == ["map.tif"]


def test_creation_options_are_not_blamed_for_a_full_disk(tmp_path, monkeypatch, capfd):
    layout = RasterLayout(options={"COMPRESS": "LZW"})
    with small_disk(tmp_path / "disk", 16) as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.raises(OutputError, match="the disk is full"):
            write(tmp_path / "map.tif", random_classes(60, 60), grid(60, 60), layout)
    assert not capfd.readouterr().err
