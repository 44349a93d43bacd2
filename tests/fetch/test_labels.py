"""Labels of global land-cover maps, and the region file that goes with them."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from labelled_catalogue import MUNICH, labelled_place, land_cover_item
from rasterio.warp import transform
from stac_items import write_cog
from stac_server import serving

from cwsam_geo.errors import CwsamGeoError, LegendError, UsageError
from cwsam_geo.fetch.fetch_scenes import fetch_scenes
from cwsam_geo.fetch.land_cover import CLASSES, LAND_COVER
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.finetuning.region.region_file import load_region
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.web import Patience

pytest.importorskip("pystac_client")

FAST = Patience(attempts=3, pause_s=0.01, timeout_s=5)


@pytest.fixture(autouse=True)
def impatient_gdal(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")


@pytest.fixture
def catalogue(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as catalogue:
        yield catalogue


def fetch(catalogue, folder, events=None, **more):
    options = {
        "date": "2024-06-01/2024-06-30", "source": catalogue.api, "bbox": [MUNICH],
        "labels": "worldcover",
    } | more  # fmt: skip
    listen = (lambda _: None) if events is None else events.append
    return fetch_scenes(folder, FetchOptions(**options), listen, FAST)


def test_labels_lie_on_the_grid_of_the_scenes_and_are_those_of_the_map(catalogue, tmp_path):
    codes, west, north = labelled_place(catalogue)
    result = fetch(catalogue, tmp_path / "out")
    (path,) = result.labels
    with rasterio.open(result.scenes[0]) as scene, rasterio.open(path) as labels:
        assert (labels.transform, labels.crs, labels.shape) == (
            scene.transform, scene.crs, scene.shape,
        )  # fmt: skip
        found = labels.read(1)
        cols, rows = np.meshgrid(np.arange(labels.width) + 0.5, np.arange(labels.height) + 0.5)
        x, y = labels.transform * (cols.ravel(), rows.ravel())
        tags = labels.tags()
    lon, lat = (np.array(v) for v in transform("EPSG:32632", "EPSG:4326", x, y))
    place = Affine(12000, 0, -12000 * west, 0, -12000, 12000 * north)
    col, row = place * (lon, lat)
    # Away from borders of the map's pixels, where rounding decides.
    sure = (np.abs(col % 1 - 0.5) < 0.45) & (np.abs(row % 1 - 0.5) < 0.45)
    expected = codes[row.astype(int), col.astype(int)]
    np.testing.assert_array_equal(found.ravel()[sure], expected[sure])
    assert tags["LICENCE"] == "CC-BY-4.0"
    assert "ESA WorldCover" in tags["ATTRIBUTION"]
    legend = ClassRaster(path).legend()
    assert legend is not None
    assert "Tree cover" in legend.names


def test_the_region_file_says_classes_meanings_and_licences(catalogue, tmp_path):
    labelled_place(catalogue)
    result = fetch(catalogue, tmp_path / "out")
    region = load_region(result.region)
    assert region.legend.names == ["water", "trees", "low vegetation", "built-up", "bare"]
    assert [s.name for s in region.scenes] == ["scene_1.tif", "scene_2.tif"]
    names = region.legend.names
    meanings = {k: [names[i] for i in v] for k, v in region.scenes[0].map.items()}
    assert meanings["80"] == ["water"]
    assert meanings["40"] == ["low vegetation"]
    assert meanings["20"] == ["trees", "low vegetation"]
    assert meanings["70"] == []
    assert meanings == {k: [names[i] for i in v] for k, v in region.scenes[1].map.items()}
    assert region.init == "s1-water"
    assert "CC-BY-4.0" in region.licence
    assert "Copernicus Sentinel data 2024" in region.licence
    text = result.region.read_text()
    assert text.startswith("# Made by `cwsam-geo fetch`")
    assert "processed by the ESA WorldCover consortium" in text.split("classes:")[0]
    # What the user changes there stays.
    result.region.write_text(text.replace("epochs: 20", "epochs: 3"))
    fetch(catalogue, tmp_path / "out")
    assert "epochs: 3" in result.region.read_text()


def test_classes_that_do_not_occur_are_left_out(catalogue, tmp_path):
    rng = np.random.default_rng(0)
    shape = 500, 700
    codes = rng.choice(np.array([20, 30, 80], np.uint8), shape)
    labelled_place(catalogue, codes=codes)
    region = load_region(fetch(catalogue, tmp_path / "out").region)
    assert region.legend.names == ["water", "low vegetation"]
    # Shrubs are trees or low vegetation; without a class of trees they are the latter.
    assert region.scenes[0].map["20"] == (1,)
    assert region.scenes[0].map["10"] == ()


def test_one_class_is_no_region(catalogue, tmp_path):
    labelled_place(catalogue, codes=np.full((500, 700), 80, np.uint8))
    with pytest.raises(LegendError, match="the labels hold water only, and a model needs two"):
        fetch(catalogue, tmp_path / "out")


def test_several_places_are_validated_by_place(catalogue, tmp_path):
    places = []
    for i in range(4):
        bounds = (11.2 + 0.1 * i, 47.90, 11.23 + 0.1 * i, 47.92)
        labelled_place(catalogue, bounds, days=(4,), seed=i)
        places.append(bounds)
    result = fetch(catalogue, tmp_path / "out", bbox=places)
    assert len(result.scenes) == len(result.labels) == 4
    region = load_region(result.region)
    roles = [s.split for s in region.scenes]
    assert roles.count("val") == 1
    assert roles.count("train") == 3
    # Each scene has the labels of its own place.
    for scene in region.scenes:
        place = scene.pair.scene[0].rsplit("/", 1)[1].split("_scene")[0]
        assert scene.pair.labels.endswith(f"{place}_labels.tif")


def test_the_open_sea_has_no_labels(catalogue, tmp_path):
    labelled_place(catalogue)
    catalogue.items = [i for i in catalogue.items if i["collection"] != "esa-worldcover"]
    with pytest.raises(UsageError, match=r"has no map of the area .* is it open sea"):
        fetch(catalogue, tmp_path / "out")
    # The tile is there, but holds nothing.
    land_cover_item(catalogue, np.zeros((600, 900), np.uint8), 11.19, 47.94)
    with pytest.raises(UsageError, match=r"has not one label in labels.tif's area"):
        fetch(catalogue, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "fetch.json", "scene_1.tif", "scene_2.tif",
    }  # fmt: skip
    catalogue.collections.pop("esa-worldcover")
    with pytest.raises(UsageError, match="has no collection esa-worldcover"):
        fetch(catalogue, tmp_path / "other")


def test_tiles_of_a_map_are_joined_and_the_nearest_year_counts(catalogue, tmp_path):
    codes, west, north = labelled_place(catalogue, days=(4,))
    whole = fetch(catalogue, tmp_path / "whole").labels[0]
    catalogue.items = [i for i in catalogue.items if i["collection"] != "esa-worldcover"]
    half = codes.shape[1] // 2
    land_cover_item(catalogue, codes[:, :half].copy(), west, north, name="tile_1")
    land_cover_item(catalogue, codes[:, half:].copy(), west + half / 12000, north, name="tile_2")
    land_cover_item(catalogue, np.full_like(codes, 10), west, north, year=2020, name="tile_0")
    joined = fetch(catalogue, tmp_path / "joined").labels[0]
    with rasterio.open(whole) as a, rasterio.open(joined) as b:
        np.testing.assert_array_equal(a.read(1), b.read(1))
        assert b.tags()["ITEMS"] == "tile_1 tile_2"


def test_the_map_of_esri_is_that_of_the_nearest_year(catalogue, tmp_path):
    labelled_place(catalogue, days=(4,))
    rng = np.random.default_rng(2)
    for year in (2022, 2023):
        codes = rng.choice(np.array([1, 2, 4, 5, 7, 8, 11], np.uint8), (700, 700))
        name = f"32U_{year}0101-{year + 1}0101.tif"
        grid = Affine(10, 0, 662_000, 0, -10, 5_312_000)
        write_cog(catalogue.folder / name, codes, grid, "EPSG:32632", nodata=0)
        catalogue.add(
            {
                "type": "Feature", "stac_version": "1.0.0", "id": f"32U-{year}",
                "collection": "io-lulc-annual-v02", "bbox": [6, 40, 12, 56], "geometry": None,
                "properties": {
                    "datetime": None, "io:tile_id": "32U",
                    "start_datetime": f"{year}-01-01T00:00:00Z",
                    "end_datetime": f"{year + 1}-01-01T00:00:00Z",
                },
                "assets": {"data": {"href": f"{catalogue.url}/files/{name}"}}, "links": [],
            }
        )  # fmt: skip
    result = fetch(catalogue, tmp_path / "out", labels="esri-lulc")
    with rasterio.open(result.labels[0]) as labels:
        left, top = ~grid * (labels.transform.c, labels.transform.f)
        part = codes[int(top) : int(top) + labels.height, int(left) : int(left) + labels.width]
        np.testing.assert_array_equal(labels.read(1), part)
        assert labels.tags()["ITEMS"] == "32U-2023"
    region = load_region(result.region)
    assert region.legend.names == ["water", "trees", "low vegetation", "built-up", "bare"]
    assert "Impact Observatory" in region.licence


def test_codes_that_the_map_does_not_have_are_refused(catalogue, tmp_path):
    labelled_place(catalogue, codes=np.full((500, 700), 33, np.uint8))
    with pytest.raises(LegendError, match="holds codes that are no classes of it: 33"):
        fetch(catalogue, tmp_path / "out")
    assert not (tmp_path / "out" / "labels.tif").exists()


def test_a_class_raster_of_the_users_own(catalogue, tmp_path):
    labelled_place(catalogue, days=(4,))
    first = fetch(catalogue, tmp_path / "first")
    result = fetch(catalogue, tmp_path / "own", labels=str(first.labels[0]))
    region = load_region(result.region)
    assert region.legend.names == [
        "Tree cover",
        "Grassland",
        "Cropland",
        "Built-up",
        "Bare / sparse vegetation",
        "Permanent water bodies",
    ]
    with rasterio.open(first.labels[0]) as a, rasterio.open(result.labels[0]) as b:
        np.testing.assert_array_equal(a.read(1), b.read(1))


def test_the_meanings_name_classes_of_the_region():
    names = {c.name for c in CLASSES} | {"ignore"}
    for cover in LAND_COVER.values():
        assert set(cover.meanings) == {int(c) for c in cover.legend.codes}
        for meaning in cover.meanings.values():
            assert {meaning} if isinstance(meaning, str) else set(meaning) <= names


def test_labels_cannot_be_added_to_a_folder_that_lacks_the_scenes(catalogue, tmp_path):
    labelled_place(catalogue, days=(4,))
    fetch(catalogue, tmp_path / "out", labels=None)
    catalogue.requests.clear()
    result = fetch(catalogue, tmp_path / "out")
    assert result.region is not None
    assert not catalogue.paths(r"rtc\.tiff")
    with pytest.raises(CwsamGeoError):
        fetch(catalogue, tmp_path / "out", date="2024-06-16")
