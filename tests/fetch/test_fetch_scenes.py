"""Scenes of a catalogue on the loopback interface, written and opened again."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from stac_items import UTM33, power, rtc_item, write_cog
from stac_server import STORAGE, Fault, serving, through_proxy

from cwsam_geo.errors import CwsamGeoError, OutputError, SceneError, UsageError
from cwsam_geo.fetch.fetch_scenes import fetch_scenes
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.io.web import Patience
from cwsam_geo.scene.acquisition import Acquisition

pytest.importorskip("pystac_client")

FAST = Patience(attempts=4, pause_s=0.01, timeout_s=5)
DATES = "2024-06-01/2024-06-30"


@pytest.fixture(autouse=True)
def impatient_gdal(monkeypatch):
    """GDAL leaves all repetitions to the package, which makes failures fast."""
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")


@pytest.fixture
def catalogue(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as catalogue:
        yield catalogue


def bbox(left, top, width, height, crs="EPSG:32633", size=10):
    """Degrees around a rectangle of pixels, inside it by half a pixel."""
    x, y, half = 500_000 + left * size, 5_600_000 - top * size, size / 2
    return transform_bounds(
        crs, "EPSG:4326", x + half, y - height * size + half, x + width * size - half, y - half,
    )  # fmt: skip


def add(catalogue, name="a", arrays=None, transform=UTM33, crs="EPSG:32633", base=None, **more):
    rng = np.random.default_rng(sum(map(ord, name)))
    if arrays is None:
        arrays = {"VV": power(rng, (200, 200)), "VH": power(rng, (200, 200), -18)}
    base = base or f"{catalogue.url}/files"
    return catalogue.add(rtc_item(catalogue.folder, base, name, arrays, transform, crs, **more))


def fetch(catalogue, folder, events=None, **more):
    options = {"date": DATES, "source": catalogue.api, "bbox": [bbox(20, 30, 100, 80)]} | more
    listen = (lambda _: None) if events is None else events.append
    return fetch_scenes(folder, FetchOptions(**options), listen, FAST)


def texts(events, kind="warning"):
    return [e["text"] for e in events if e["event"] == kind]


def test_a_scene_has_the_values_of_the_catalogue_on_the_grid_of_the_place(catalogue, tmp_path):
    rng = np.random.default_rng(1)
    vv, vh = power(rng, (200, 200)), power(rng, (200, 200), -18)
    vv[40:50, 60:90] = vh[40:50, 60:90] = -32768
    vh[60, 60] = 0
    item = add(catalogue, arrays={"VV": vv, "VH": vh})
    result = fetch(catalogue, tmp_path / "out")
    assert [p.name for p in result.scenes] == ["scene_1.tif"]
    with rasterio.open(result.scenes[0]) as scene:
        cols, rows = ~UTM33 * (scene.transform.c, scene.transform.f)
        # The grid is that of the catalogue's pixels, and holds the whole rectangle.
        assert (cols, rows) == (round(cols), round(rows))
        assert cols <= 20
        assert rows <= 30
        part = (
            slice(int(rows), int(rows) + scene.height),
            slice(int(cols), int(cols) + scene.width),
        )
        for band, full in ((1, vv), (2, vh)):
            expected = np.where(full == -32768, np.nan, full)[part]
            np.testing.assert_array_equal(scene.read(band), expected)
        assert np.isnan(scene.nodata)
        assert scene.descriptions == ("VV", "VH")
        assert scene.units == ("power", "power")
        assert scene.crs.to_epsg() == 32633
        tags = scene.tags()
    assert tags["DATE"] == "2024-06-04T05:26:03Z"
    assert tags["ORBIT"] == "descending"
    assert tags["ITEMS"] == item["id"]
    assert tags["LICENCE"] == "CC-BY-4.0"
    assert "Copernicus Sentinel data 2024" in tags["ATTRIBUTION"]
    kept = Acquisition.from_tags(tags)
    assert kept.relative_orbit == 168
    assert kept.source == catalogue.api


def test_only_the_windows_that_are_needed_are_read(catalogue, tmp_path):
    rng = np.random.default_rng(1)
    shape = 1200, 1200
    add(catalogue, arrays={"VV": power(rng, shape), "VH": power(rng, shape, -18)})
    fetch(catalogue, tmp_path / "out")
    size = sum(p.stat().st_size for p in catalogue.folder.rglob("*.tiff"))
    assert catalogue.bytes_sent < size / 10
    assert all(r[2] for r in catalogue.paths(r"\.tiff$") if r[0] == "GET")


def test_slices_of_one_pass_are_one_scene_and_other_passes_are_others(catalogue, tmp_path):
    rng = np.random.default_rng(2)
    whole = {"VV": power(rng, (200, 200)), "VH": power(rng, (200, 200), -18)}
    # Two slices of one pass that overlap by ten lines, and a pass of another day.
    upper = {k: v[:80] for k, v in whole.items()}
    lower = {k: v[70:] for k, v in whole.items()}
    add(catalogue, "one", upper, start="2024-06-04T05:26:03Z")
    add(catalogue, "two", lower, UTM33 * Affine.translation(0, 70), start="2024-06-04T05:26:28Z")
    add(catalogue, "three", start="2024-06-16T05:26:03Z")
    result = fetch(catalogue, tmp_path / "out")
    assert [p.name for p in result.scenes] == ["scene_1.tif", "scene_2.tif"]
    with rasterio.open(result.scenes[0]) as scene:
        assert len(Acquisition.from_tags(scene.tags()).items) == 2
        row, col = (int(v) for v in ((~UTM33) * (scene.transform.c, scene.transform.f))[::-1])
        expected = whole["VV"][row : row + scene.height, col : col + scene.width]
        np.testing.assert_array_equal(scene.read(1), expected)
        grid = scene.transform, scene.shape
    with rasterio.open(result.scenes[1]) as scene:
        assert (scene.transform, scene.shape) == grid


def test_a_scene_of_the_neighbouring_zone_lies_where_it_should(catalogue, tmp_path):
    """A ramp along the easting of zone 33, stored in zone 32, is a ramp in zone 33 again."""
    from rasterio.warp import Resampling, reproject

    size = 400
    ramp = np.tile(np.arange(size, dtype=np.float32) + 1, (size, 1))
    west, south, east, north = 499_000, 5_597_000, 503_000, 5_601_000
    bounds = transform_bounds("EPSG:32633", "EPSG:32632", west, south, east, north)
    there = Affine(10, 0, round(bounds[0], -1), 0, -10, round(bounds[3], -1))
    stored = np.full((600, 600), -32768, np.float32)
    reproject(
        ramp, stored, src_transform=Affine(10, 0, west, 0, -10, north), src_crs="EPSG:32633",
        dst_transform=there, dst_crs="EPSG:32632", resampling=Resampling.cubic,
        src_nodata=-32768, dst_nodata=-32768,
    )  # fmt: skip
    add(catalogue, arrays={"VV": stored, "VH": stored}, transform=there, crs="EPSG:32632")
    result = fetch(catalogue, tmp_path / "out")
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.crs.to_epsg() == 32633
        found = scene.read(1)
        centres = scene.transform.c + 10 * (np.arange(scene.width) + 0.5)
    expected = (centres - west) / 10 + 0.5
    # Interpolated twice: a tenth of a pixel, a metre on the ground.
    assert np.nanmax(np.abs(found - expected)) < 0.1
    assert not np.isnan(found).any()


def test_across_180_degrees(catalogue, tmp_path):
    rng = np.random.default_rng(3)
    arrays = {"VV": power(rng, (300, 300)), "VH": power(rng, (300, 300), -18)}
    x, y = 818_000, 8_110_000
    item = add(catalogue, "date_line", arrays, Affine(10, 0, x, 0, -10, y), "EPSG:32760")
    west, south, east, north = transform_bounds(
        "EPSG:32760", "EPSG:4326", x + 300, y - 2700, x + 2700, y - 300
    )
    assert west > 179
    assert east < -179
    # As catalogues have it: a footprint on each side.
    west0, south0, east0, north0 = item["bbox"]
    parts = [
        [[[a, south0], [b, south0], [b, north0], [a, north0], [a, south0]]]
        for a, b in ((west0, 180.0), (-180.0, east0))
    ]
    item["geometry"] = {"type": "MultiPolygon", "coordinates": parts}
    events = []
    result = fetch(catalogue, tmp_path / "out", events, bbox=[(west, south, east, north)])
    assert [e["cover"] for e in events if e["event"] == "scene"] == [pytest.approx(1, abs=0.01)]
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.width < 300
        assert not np.isnan(scene.read()).any()


def test_pages_are_followed(catalogue, tmp_path):
    for day in range(1, 8):
        add(catalogue, f"day{day}", start=f"2024-06-{day:02}T05:26:03Z")
    catalogue.page = 3
    events = []
    fetch(catalogue, tmp_path / "out", events, dry_run=True)
    assert len([e for e in events if e["event"] == "scene"]) == 7
    assert not (tmp_path / "out").exists()


def test_the_best_passes_come_first(catalogue, tmp_path):
    rng = np.random.default_rng(4)
    small = {"VV": power(rng, (60, 200)), "VH": power(rng, (60, 200), -18)}
    add(catalogue, "small", small, start="2024-06-02T05:26:03Z")
    add(catalogue, "large", start="2024-06-14T05:26:03Z")
    add(catalogue, "later", start="2024-06-26T05:26:03Z", orbit="ascending")
    events = []
    fetch(catalogue, tmp_path / "out", events, dry_run=True)
    found = [(e["date"][:10], round(100 * e["cover"])) for e in events if e["event"] == "scene"]
    assert found[:2] == [("2024-06-14", 100), ("2024-06-26", 100)]
    assert found[2][0] == "2024-06-02"
    assert 20 < found[2][1] < 50
    events.clear()
    fetch(catalogue, tmp_path / "out", events, dry_run=True, orbit="ascending")
    assert [e["date"][:10] for e in events if e["event"] == "scene"] == ["2024-06-26"]
    events.clear()
    fetch(catalogue, tmp_path / "out", events, dry_run=True, max_scenes=1)
    assert [e["date"][:10] for e in events if e["event"] == "scene"] == ["2024-06-14"]
    assert "1 of 3 passes are taken" in texts(events, "decision")[0]


def test_a_missing_asset_leaves_its_pass_out(catalogue, tmp_path):
    rng = np.random.default_rng(5)
    add(catalogue, "hh", {"HH": power(rng, (200, 200)), "HV": power(rng, (200, 200))})
    with pytest.raises(UsageError, match="no scene with VV and VH") as raised:
        fetch(catalogue, tmp_path / "out")
    assert "\n" not in str(raised.value)
    add(catalogue, "vv", start="2024-06-16T05:26:03Z")
    events = []
    result = fetch(catalogue, tmp_path / "out", events)
    assert len(result.scenes) == 1
    assert (
        "1 pass without VV and VH was left out: 2024-06-04 05:26 sentinel-1a" in (texts(events)[0])
    )
    assert "has HH, HV" in texts(events)[0]
    result = fetch(catalogue, tmp_path / "hh", bands=("HH", "HV"))
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.descriptions == ("HH", "HV")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"date": "2023-01-01/2023-01-31"}, "no scene of sentinel-1-rtc from 2023-01-01/2023"),
        ({"bbox": [(0, 0, 0.1, 0.1)]}, "the area 0 0 0.1 0.1: no scene of sentinel-1-rtc"),
        ({"collection": "sentinel-9"}, "has no collection sentinel-9; name another"),
        ({"orbit": "ascending"}, "in ascending orbits"),
        ({"bbox": [(0, 0, 10, 10)]}, "fetch takes up to 1,000 Mpx: give a smaller area"),
        ({"crs": "EPSG:99999"}, "--crs EPSG:99999: is no CRS"),
        ({"crs": "EPSG:4326"}, "is not in metres; give --res in its units"),
        ({"source": "planetary"}, "is none of planetary-computer, earth-search, opera"),
        ({"labels": "corine"}, "--labels corine: is none of worldcover, esri-lulc"),
    ],
)
def test_what_cannot_be_found_is_one_clear_line(catalogue, tmp_path, more, message):
    add(catalogue)
    with pytest.raises(CwsamGeoError, match=message.replace("(", r"\(")) as raised:
        fetch(catalogue, tmp_path / "out", **more)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_failures_that_pass_are_waited_out(catalogue, tmp_path):
    add(catalogue)
    whole = fetch(catalogue, tmp_path / "whole").scenes[0].read_bytes()
    catalogue.faults += [
        Fault(r"iw-vv.*tiff$", status=503, skip=1, times=2),
        Fault(r"iw-vh.*tiff$", status=429, headers={"Retry-After": "1"}, times=3),
        Fault(r"iw-vh.*tiff$", kind="break", times=2),
        Fault(r"/stac/search", status=500, times=1),
    ]
    events = []
    result = fetch(catalogue, tmp_path / "out", events)
    assert all(fault.times == 0 for fault in catalogue.faults)
    assert result.scenes[0].read_bytes() == whole
    assert any("asked again in 1 s" in text for text in texts(events))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(r"iw-vh.*tiff$", status=404, times=99), "is gone from the server (HTTP 404"),
        (
            Fault(r"iw-vh.*tiff$", status=500, times=99),
            "cannot be read, after 4 attempts (HTTP 500",
        ),
        (Fault(r"iw-vh.*tiff$", status=403, times=99), "access denied (HTTP 403"),
        (Fault(r"iw-vh.*tiff$", kind="break", times=999), "cannot be read, after 4 attempts"),
        (Fault(r"search", status=503, times=99), "the search (HTTP 503"),
        (Fault(r"search", status=200, body=b"<html>", times=99), "the search ("),
        (Fault(r"stac$", status=404, times=99), "is no STAC API, or cannot be reached (HTTP 404"),
    ],
)
def test_failures_that_stay_are_one_clear_line_and_leave_nothing(
    catalogue, tmp_path, fault, message
):
    add(catalogue)
    catalogue.faults.append(fault)
    with pytest.raises(SceneError) as raised:
        fetch(catalogue, tmp_path / "out")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert {p.name for p in (tmp_path / "out").glob("*")} <= {"fetch.json"}


def test_an_interrupted_run_goes_on_without_reading_again(catalogue, tmp_path):
    for day in (2, 14, 26):
        add(catalogue, f"day{day}", start=f"2024-06-{day:02}T05:26:03Z")
    catalogue.faults.append(Fault(r"day14.*iw-vh.*tiff$", status=500, times=99))
    with pytest.raises(SceneError, match="run the command again to go on from here"):
        fetch(catalogue, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fetch.json", "scene_1.tif"]
    first = (tmp_path / "out" / "scene_1.tif").stat().st_mtime_ns
    catalogue.faults.clear()
    catalogue.requests.clear()
    events = []
    result = fetch(catalogue, tmp_path / "out", events)
    assert [p.name for p in result.scenes] == ["scene_1.tif", "scene_2.tif", "scene_3.tif"]
    assert (tmp_path / "out" / "scene_1.tif").stat().st_mtime_ns == first
    assert not catalogue.paths("day2/")
    assert not catalogue.paths("search")
    assert "goes on with what an earlier run has found" in texts(events, "decision")[0]
    # Another request into the same folder is refused, until it may be replaced.
    with pytest.raises(UsageError, match=r"other settings brought \(date differ\)"):
        fetch(catalogue, tmp_path / "out", date="2024-06-14")
    events.clear()
    result = fetch(catalogue, tmp_path / "out", events, date="2024-06-14", overwrite=True)
    assert "scene_2.tif, scene_3.tif are of an earlier fetch" in texts(events)[0]
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.tags()["DATE"].startswith("2024-06-14")


def test_files_of_others_are_not_replaced(catalogue, tmp_path):
    add(catalogue)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scene_1.tif").write_text("mine")
    with pytest.raises(UsageError, match=r"scene_1.tif: exists already"):
        fetch(catalogue, tmp_path / "out")
    assert (tmp_path / "out" / "scene_1.tif").read_text() == "mine"


def test_a_damaged_record_is_one_clear_line(catalogue, tmp_path):
    add(catalogue)
    fetch(catalogue, tmp_path / "out")
    for text in ("{", "[]", '{"version": 7}', '{"version": 1, "request": 3}'):
        (tmp_path / "out" / "fetch.json").write_text(text)
        with pytest.raises(UsageError, match=r"fetch.json: cannot be read as the record"):
            fetch(catalogue, tmp_path / "out")


def test_a_signature_that_ends_early_is_renewed(catalogue, tmp_path, monkeypatch):
    signing = pytest.importorskip("planetary_computer.sas")
    signing.TOKEN_CACHE.clear()
    through_proxy(monkeypatch, catalogue)
    for day in (2, 14):
        add(
            catalogue,
            f"day{day}",
            base=f"http://{STORAGE}/rtc",
            start=f"2024-06-{day:02}T05:26:03Z",
        )
    # The service promises an hour, but the storage takes each signature for a moment only.
    catalogue.lifetime_s = 0.3
    result = fetch(catalogue, tmp_path / "out")
    assert len(result.scenes) == 2
    record = json.loads((tmp_path / "out" / "fetch.json").read_text())
    assert "sig=" not in json.dumps(record)
    catalogue.lifetime_s = -1
    with pytest.raises(SceneError, match=r"access denied .HTTP 403"):
        fetch(catalogue, tmp_path / "late")


def test_grd_as_delivered_is_refused_with_what_to_do(catalogue, tmp_path):
    item = add(catalogue)
    from rasterio.control import GroundControlPoint

    for key in ("vv", "vh"):
        path = catalogue.folder / f"GRD/2024/a/measurement/iw-{key}.rtc.tiff"
        points = [
            GroundControlPoint(row=r, col=c, x=15 + c / 1e4, y=50 - r / 1e4)
            for r in (0, 200)
            for c in (0, 200)
        ]
        with rasterio.open(
            path, "w", driver="GTiff", width=200, height=200, count=1, dtype="uint16",
            gcps=points, crs="EPSG:4326",
        ) as out:  # fmt: skip
            out.write(np.ones((200, 200), np.uint16), 1)
    assert item["assets"]["vv"]
    with pytest.raises(SceneError, match=r"holds GRD as delivered.*take --source planetary"):
        fetch(catalogue, tmp_path / "out")


def test_a_scene_without_data_in_the_area_is_left_out(catalogue, tmp_path):
    empty = np.full((200, 200), -32768, np.float32)
    add(catalogue, "empty", {"VV": empty, "VH": empty})
    with pytest.raises(SceneError, match="1 scene found, but none with data in the area"):
        fetch(catalogue, tmp_path / "none")
    add(catalogue, "full", start="2024-06-16T05:26:03Z")
    events = []
    result = fetch(catalogue, tmp_path / "out", events)
    assert [p.name for p in result.scenes] == ["scene_2.tif"]
    assert any("has no data in the area" in text for text in texts(events))


def test_the_median_of_several_dates_has_less_speckle(catalogue, tmp_path):
    rng = np.random.default_rng(7)
    stack = []
    for i, day in enumerate((2, 8, 14, 20, 26)):
        arrays = {"VV": power(rng, (200, 200)), "VH": power(rng, (200, 200), -18)}
        arrays["VV"][:, : 10 * i] = -32768
        stack.append(np.where(arrays["VV"] == -32768, np.nan, arrays["VV"]))
        add(catalogue, f"day{day}", arrays, start=f"2024-06-{day:02}T05:26:03Z")
    events = []
    result = fetch(catalogue, tmp_path / "out", events, composite="median")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fetch.json", "scene_1.tif"]
    with rasterio.open(result.scenes[0]) as scene:
        row, col = (int(v) for v in ((~UTM33) * (scene.transform.c, scene.transform.f))[::-1])
        part = np.array(stack)[:, row : row + scene.height, col : col + scene.width]
        np.testing.assert_allclose(scene.read(1), np.nanmedian(part, axis=0), rtol=1e-6)
        assert scene.tags()["CONTENT"] == "median of 5 dates"
        kept = Acquisition.from_tags(scene.tags())
    assert len(kept.items) == 5
    assert (kept.start[:10], kept.end[:10]) == ("2024-06-02", "2024-06-26")
    (remark,) = [t for t in texts(events, "decision") if t.startswith("speckle")]
    one, several = (float(v) for v in remark.split("(")[1].split(" looks")[0].split(" and "))
    assert 3 < one < 7
    assert several > 2 * one
    # Nothing is fetched again.
    catalogue.requests.clear()
    fetch(catalogue, tmp_path / "out", composite="median")
    assert not catalogue.paths("tiff")


def test_places_of_a_file_are_scenes_of_their_own(catalogue, tmp_path):
    import geopandas
    import shapely

    add(catalogue)
    boxes = [shapely.box(*bbox(20, 30, 40, 40)), shapely.box(*bbox(90, 90, 50, 30))]
    path = tmp_path / " wood & water.gpkg"
    geopandas.GeoDataFrame(geometry=boxes, crs="EPSG:4326").to_crs(3857).to_file(path)
    result = fetch(catalogue, tmp_path / "out", bbox=(), places=[path])
    assert [p.name for p in result.scenes] == [
        "wood_water_1_scene_1.tif",
        "wood_water_2_scene_1.tif",
    ]
    result = fetch(catalogue, tmp_path / "aoi", bbox=(), aoi=path)
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.width > 110


def test_a_coarser_grid_averages_power(catalogue, tmp_path):
    flat = np.full((200, 200), 0.1, np.float32)
    flat[::2] = 0.3
    add(catalogue, arrays={"VV": flat, "VH": flat})
    result = fetch(catalogue, tmp_path / "out", resolution=40)
    with rasterio.open(result.scenes[0]) as scene:
        assert scene.res == (40, 40)
        np.testing.assert_allclose(scene.read(1)[1:-1, 1:-1], 0.2, atol=1e-6)


@pytest.mark.parametrize("stated", ["file", "catalogue"])
def test_scaled_integers_become_their_true_values(catalogue, tmp_path, stated):
    item = add(catalogue)
    stored = np.arange(200 * 200, dtype=np.int16).reshape(200, 200) % 900 + 1
    stored[60:70] = -1
    for key in ("vv", "vh"):
        path = catalogue.folder / f"GRD/2024/a/measurement/iw-{key}.rtc.tiff"
        write_cog(path, stored, UTM33, "EPSG:32633", nodata=-1)
        item["assets"][key]["raster:bands"] = [{"nodata": -1}]
        if stated == "catalogue":
            item["assets"][key]["raster:bands"][0]["scale"] = 0.001
        else:
            with rasterio.open(path, "r+") as raster:
                raster.scales = (0.001,)
    result = fetch(catalogue, tmp_path / "out")
    with rasterio.open(result.scenes[0]) as scene:
        row, col = (int(v) for v in ((~UTM33) * (scene.transform.c, scene.transform.f))[::-1])
        part = stored[row : row + scene.height, col : col + scene.width]
        np.testing.assert_allclose(scene.read(1), np.where(part == -1, np.nan, part / 1000), 1e-6)


def test_a_full_disk_is_told_before_anything_is_read(catalogue, tmp_path):
    from disks import small_disk

    add(catalogue)
    with small_disk(tmp_path / "disk", 40) as disk:
        with pytest.raises(OutputError, match="the disk is full"):
            fetch(catalogue, disk / "out")
        assert not catalogue.paths("tiff")
