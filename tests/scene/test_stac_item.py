"""A STAC item as a scene: of a file, of an address, of a catalogue that signs."""

import json

import numpy as np
import pytest
import rasterio
from models import random_bundle
from stac_items import UTM33, power, rtc_item
from stac_server import STORAGE, Fault, serving, through_proxy
from training_scenes import LEGEND, PLACE, blobs, region, write_raster

from cwsam_geo.errors import SceneError
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.region.region_file import parse_region
from cwsam_geo.info.describe import describe
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.prediction.predict_scene import predict_scene
from cwsam_geo.scene.acquisition import SCENE_TAG, Acquisition
from cwsam_geo.scene.source import open_source
from cwsam_geo.scene.stac_item import parse_item, read_item


@pytest.fixture
def catalogue(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as catalogue:
        yield catalogue


def arrays(shape=(150, 130)):
    rng = np.random.default_rng(0)
    vv, vh = power(rng, shape), power(rng, shape, -18)
    vv[:, :20] = vh[:, :20] = -32768
    return {"VH": vh, "VV": vv}


@pytest.fixture
def item(catalogue):
    base = f"{catalogue.url}/files"
    return catalogue.add(rtc_item(catalogue.folder, base, "20240604T0526", arrays(), UTM33))


def local(tmp_path, item, **changes):
    path = tmp_path / "item.json"
    path.write_text(json.dumps({**item, **changes}))
    return path


def test_an_item_is_the_scene_of_its_polarisations(catalogue, item, tmp_path):
    expected = arrays()
    address = f"{catalogue.api}/collections/sentinel-1-rtc/items/{item['id']}"
    for place in (address, local(tmp_path, item)):
        with open_source([place]) as source:
            values, valid = source.read(source.grid.window)
            assert source.names == ("VV", "VH")
            assert source.acquisition == Acquisition(
                items=(item["id"],),
                collection="sentinel-1-rtc",
                start="2024-06-04T05:26:03Z",
                end="2024-06-04T05:26:03Z",
                platform="sentinel-1a",
                orbit="descending",
                relative_orbit=168,
                source=str(place),
            )
        np.testing.assert_array_equal(valid, expected["VV"] != -32768)
        np.testing.assert_array_equal(values[0][valid], expected["VV"][valid])
        np.testing.assert_array_equal(values[1][valid], expected["VH"][valid])


def test_paths_of_an_item_of_the_users_own_are_relative_to_it(catalogue, item, tmp_path):
    for key in ("vv", "vh"):
        href = item["assets"][key]["href"].replace(f"{catalogue.url}/files/", "")
        item["assets"][key]["href"] = f"served/{href}"
    with open_source(local(tmp_path, item)) as source:
        assert source.names == ("VV", "VH")


def test_nodata_scale_and_unit_of_the_item_count_where_the_file_says_nothing(catalogue, tmp_path):
    base = f"{catalogue.url}/files"
    item = rtc_item(catalogue.folder, base, "a", arrays(), UTM33)
    for key in ("vv", "vh"):
        path = catalogue.folder / f"GRD/2024/a/measurement/iw-{key}.rtc.tiff"
        with rasterio.open(path, "r+") as raster:
            raster.nodata = None
        item["assets"][key]["raster:bands"] = [{"nodata": -32768, "scale": 2.0, "unit": "dB"}]
    with open_source(local(tmp_path, item)) as source:
        values, valid = source.read(source.grid.window)
        assert not valid[:, :20].any()
        assert valid[:, 20:].all()
        np.testing.assert_allclose(values[0][valid], 2 * arrays()["VV"][valid])
        assert any("dB" in hint for hint in source.hints)
    with open_source(local(tmp_path, item), nodata="none") as source:
        assert source.read(source.grid.window)[1].all()
        assert source.replaced == (-32768,)


def test_the_map_and_its_description_keep_what_the_catalogue_says(item, tmp_path):
    model = tmp_path / "model.safetensors"
    random_bundle(LEGEND).save(model)
    scene = local(tmp_path, item)
    target = tmp_path / "map.tif"
    predict_scene(scene, target, PredictOptions(model=model))
    with rasterio.open(target) as raster:
        kept = Acquisition.from_tags(raster.tags())
        assert raster.tags()["CWSAM_GEO_INPUT"] == str(scene)
        # Nodata of the scene is nodata of the map.
        assert (raster.read(1)[:, :20] == 255).all()
    assert kept is not None
    assert kept.items == (item["id"],)
    assert describe(target)["acquisition"]["orbit"] == "descending"
    found = describe(scene)
    assert found["acquisition"]["relative_orbit"] == 168
    assert found["units"]["units"] == "power"
    assert found["names"] == ["VV", "VH"]


def test_a_map_of_a_map_does_not_invent_an_acquisition():
    assert Acquisition.from_tags({}) is None
    for broken in ("", "[]", "{", '{"items": 3}', '{"unknown": 1}'):
        assert Acquisition.from_tags({SCENE_TAG: broken}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "FeatureCollection"}, "a STAC FeatureCollection; give the address of one of"),
        ({"type": "Collection"}, "a STAC Collection; give the address of one of its items"),
        ({"assets": {}}, "no asset of this STAC item is a raster of VV, VH, HH or HV"),
        ({"assets": []}, "assets are no JSON objects"),
        ({"assets": {"vv": {"type": "image/tiff"}}}, "asset 'vv' has no address"),
        (
            {"assets": {"vv": {"href": "ftp://host/vv.tif"}}},
            "is none of https, http, s3 and gs; download the raster",
        ),
        (
            {"assets": {"vv": {"href": "http://a/b.tif"}, "VV": {"href": "http://a/c.tif"}}},
            "its assets vv, VV all name VV",
        ),
    ],
)
def test_what_is_no_usable_item_is_refused_in_one_line(item, tmp_path, change, message):
    with pytest.raises(SceneError, match=message) as raised:
        open_source(local(tmp_path, item, **change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd", "../x.tif", "/vsizip/a.zip"])
def test_an_item_of_the_network_names_no_local_file(href):
    data = {"type": "Feature", "assets": {"vv": {"href": href, "type": "image/tiff"}}}
    place = "https://host/collections/c/items/i"
    try:
        asset = parse_item(data, place).asset("vv")
    except SceneError:
        return
    assert asset.href.startswith("https://host/")


def test_assets_as_other_catalogues_name_them():
    opera = {
        "type": "Feature",
        "id": "OPERA_L2_RTC-S1_T069-147170-IW1_20231001T170512Z_20231002T000000Z_S1A_30_v1.0",
        "collection": "OPERA_L2_RTC-S1_V1_1",
        "properties": {"datetime": "2023-10-01T17:05:12.000Z"},
        "assets": {
            "0_VV": {"href": "https://cumulus.asf.earthdatacloud.nasa.gov/x_VV.tif"},
            "0_VH": {
                "href": "https://cumulus.asf.earthdatacloud.nasa.gov/x_VH.tif",
                "type": "application/octet-stream",
            },
            "s3_0_VV": {"href": "s3://asf-cumulus-prod-opera-products/x_VV.tif"},
            "0_mask": {"href": "https://cumulus.asf.earthdatacloud.nasa.gov/x_mask.tif"},
            "metadata": {"href": "https://cmr.earthdata.nasa.gov/x.xml", "type": "application/xml"},
        },
    }
    item = parse_item(opera, "https://cmr.earthdata.nasa.gov/stac/ASF/collections/a/items/b")
    assert {k: v.href[:8] for k, v in item.rasters().items()} == {
        "VV": "https://",
        "VH": "https://",
    }
    assert (item.platform, item.relative_orbit, item.orbit) == ("sentinel-1a", 69, None)
    assert item.units == "power"
    grd = {
        "type": "Feature",
        "id": "S1A_IW_GRDH_1SDV_20240604T052603_20240604T052628_054172_069690",
        "collection": "sentinel-1-grd",
        "properties": {"datetime": "2024-06-04T05:26:03Z", "platform": "sentinel-1a"},
        "assets": {
            "vv": {"href": "s3://sentinel-s1-l1c/GRD/x/measurement/iw-vv.tiff"},
            "schema-calibration-vv": {"href": "s3://b/iw-vv.xml", "type": "application/xml"},
            "thumbnail": {"href": "s3://b/vv.tif", "roles": ["thumbnail"]},
        },
    }
    item = parse_item(grd, "https://earth-search.aws.element84.com/v1/collections/c/items/i")
    assert list(item.rasters()) == ["VV"]
    assert item.units is None


def test_a_missing_item_is_one_clear_line(catalogue):
    address = f"{catalogue.api}/collections/sentinel-1-rtc/items/gone"
    with pytest.raises(SceneError, match=r"items/gone: cannot be read \(HTTP 404"):
        read_item(address)


def test_other_json_files_are_no_items(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(SceneError, match="not a raster that GDAL can read"):
        open_source(path)


def test_assets_of_the_planetary_computer_are_signed_and_the_signature_stays_secret(
    catalogue, tmp_path, monkeypatch
):
    signing = pytest.importorskip("planetary_computer.sas")
    signing.TOKEN_CACHE.clear()
    through_proxy(monkeypatch, catalogue)
    item = rtc_item(catalogue.folder, f"http://{STORAGE}/rtc", "a", arrays(), UTM33)
    with open_source(local(tmp_path, item)) as source:
        assert source.read(source.grid.window)[1][:, 20:].all()
        assert "sig=" in source.parts[0].path
        assert "sig=" not in source.label + str(source.acquisition) + "".join(source.hints)
    assert len(catalogue.paths("/sas/token/rtcstorage/rtc")) == 1
    catalogue.faults.append(Fault("/sas/", status=401, times=9))
    signing.TOKEN_CACHE.clear()
    with pytest.raises(SceneError, match=r"iw-vv.rtc.tiff: the Planetary Computer does not sign"):
        open_source(local(tmp_path, item))


def test_a_region_may_name_items_as_scenes(catalogue, tmp_path):
    rng = np.random.default_rng(1)
    labels = blobs(rng, (192, 192))
    base = f"{catalogue.url}/files"
    bands = {"VV": power(rng, labels.shape), "VH": power(rng, labels.shape, -18)}
    item = rtc_item(catalogue.folder, base, "a", bands, PLACE)
    write_raster(tmp_path / "labels.tif", labels)
    local(tmp_path, item)
    scenes = [{"scene": "item.json", "labels": "labels.tif", "split": s} for s in ("train", "val")]
    config = parse_region(region(scenes, train={"scope": "full"}), tmp_path, "region")
    with region_data(config) as data:
        assert data.spec.bands == ("VV", "VH")
        assert data.class_pixels.sum() == labels.size
        image, _ = data.training.sample(0, 0)
    assert np.isfinite(np.asarray(image)).all()
