"""STAC items of maps and models.

pystac checks them with the schemas of STAC that it brings, and reads their extensions. No package
brings the schemas of all extensions; those in the folder that ``CWSAM_GEO_STAC_SCHEMAS`` names are
used too (``classification_v2.0.0.json``).
"""

import json
import os
import re
from pathlib import Path

import jsonschema
import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from class_rasters import write_classes
from doubles import legend
from models import random_bundle
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from scene_rasters import write

from cwsam_geo.cli.main import main
from cwsam_geo.errors import UsageError
from cwsam_geo.info.model_item import model_item
from cwsam_geo.prediction.map_item import map_item, write_item
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import predict_scene

CLASSES = legend(3, first=3)
LEGEND = {1: ("water", "#0000ff"), 2: ("crops/grass", "#00aa00")}

_folder = os.environ.get("CWSAM_GEO_STAC_SCHEMAS")
SCHEMAS = Path(_folder) if _folder else None


def checked(found):
    """The item as pystac has it, after it was checked with STAC's schemas."""
    assert JsonSchemaSTACValidator().validate_core(
        found, pystac.STACObjectType.ITEM, found["stac_version"]
    )
    for name in found["stac_extensions"]:
        assert re.fullmatch(
            r"https://stac-extensions\.github\.io/[a-z]+/v\d\.\d\.\d/schema\.json", name
        )
        if SCHEMAS is not None:
            check_extension(found, name)
    return pystac.Item.from_dict(found)


def check_extension(found, address):
    """Checks an item with the schema of an extension, if it is in the folder."""
    name, version = address.split("/")[3:5]
    path = SCHEMAS / f"{name}_{version}.json"
    if path.is_file():
        jsonschema.Draft7Validator(json.loads(path.read_text())).validate(found)


@pytest.mark.skipif(SCHEMAS is None, reason="CWSAM_GEO_STAC_SCHEMAS names no folder of schemas")
@pytest.mark.parametrize("name", ["classification", "processing", "raster"])
def test_an_item_that_breaks_the_schema_of_an_extension_is_noticed(tmp_path, name):
    path = write_classes(tmp_path / "map.tif", np.array([[1, 2]], np.uint8), LEGEND)
    found = map_item(path, tmp_path / "i.json")
    (address,) = (a for a in found["stac_extensions"] if f"/{name}/" in a)
    check_extension(found, address)
    asset = found["assets"]["map"]
    asset["classification:classes"][0]["name"] = "no word"
    asset["raster:bands"][0]["data_type"] = "byte"
    found["properties"]["processing:lineage"] = 1
    with pytest.raises(jsonschema.ValidationError):
        check_extension(found, address)


def test_predict_writes_an_item_with_all_outputs(tmp_path):
    random_bundle(CLASSES).save(tmp_path / "m.safetensors")
    rng = np.random.default_rng(0)
    db = rng.normal(-11, 4, (2, 60, 80)).astype(np.float32)
    scene = write(
        *(tmp_path / "S1A_IW_GRDH_1SDV_20210401T052623_20210401T052648_037.tif", db),
        **{"descriptions": ("VV", "VH"), "nodata": np.nan},
    )
    (tmp_path / "out").mkdir()
    outputs = PredictOutputs(
        confidence=tmp_path / "confidence.tif",
        areas=tmp_path / "out" / "areas.csv",
        stac=tmp_path / "out" / "map.json",
    )
    predict_scene(
        *(scene, tmp_path / "out" / "map.tif", PredictOptions(model=tmp_path / "m.safetensors")),
        outputs,
    )
    item = checked(json.loads((tmp_path / "out" / "map.json").read_text(encoding="utf-8")))
    for asset in item.assets.values():
        assert (tmp_path / "out" / asset.href).resolve().is_file(), asset.href
    assert set(item.assets) == {"map", "confidence", "areas", "style"}
    assert item.common_metadata.start_datetime.isoformat() == "2021-04-01T05:26:23+00:00"
    classes = ClassificationExtension.ext(item.assets["map"]).classes
    assert [c.value for c in classes] == [*(e.code for e in CLASSES.entries), 255]
    assert classes[0].color_hint == CLASSES.entries[0].color[1:].upper()
    projection = ProjectionExtension.ext(item)
    assert projection.epsg == 32633
    assert projection.shape == [60, 80]
    assert projection.transform[:6] == [10, 0, 500000, 0, -10, 5600000]
    (band,) = RasterExtension.ext(item.assets["map"]).bands
    assert band.nodata == 255
    assert band.spatial_resolution == 10
    assert "m.safetensors" in item.properties["processing:lineage"]
    assert item.properties["processing:software"]["cwsam-geo"]
    assert item.bbox[2] - item.bbox[0] == pytest.approx(800 / 71000, rel=0.02)
    assert shapely.box(*item.bbox).contains(shapely.from_geojson(json.dumps(item.geometry)))


def test_names_of_classes_become_valid_words(tmp_path):
    path = write_classes(tmp_path / "map.tif", np.array([[1, 2]], np.uint8), LEGEND)
    classes = map_item(path, tmp_path / "i.json")["assets"]["map"]["classification:classes"]
    assert [c["name"] for c in classes] == ["water", "crops-grass", "nodata"]
    assert classes[1]["description"] == "crops/grass"


def test_a_footprint_across_the_antimeridian_has_two_parts(tmp_path):
    path = write_classes(
        *(tmp_path / "map.tif", np.ones((100, 200), np.uint8), LEGEND),
        **{"crs": "EPSG:4326", "transform": Affine(0.01, 0, 179, 0, -0.01, 10)},
    )
    found = checked(map_item(path, tmp_path / "i.json"))
    assert found.bbox == [179, 9, -179, 10]
    parts = shapely.get_parts(shapely.from_geojson(json.dumps(found.geometry)))
    assert sorted(p.bounds for p in parts) == [(-180, 9, -179, 10), (179, 9, 180, 10)]


def test_a_map_without_a_place_has_an_item(tmp_path):
    path = write_classes(tmp_path / "map.tif", np.array([[1]], np.uint8), LEGEND, crs=None)
    found = map_item(path, tmp_path / "i.json")
    assert found["geometry"] is None
    assert "bbox" not in found
    checked(found)
    with pytest.raises(UsageError, match=r"\*\.json"):
        write_item(path, tmp_path / "item.txt", ())


def test_a_model_is_an_item_with_its_input_and_output(tmp_path, capsys):
    random_bundle(CLASSES).save(tmp_path / "m.safetensors")
    item = checked(model_item(tmp_path / "m.safetensors"))
    model = MLMExtension.ext(item)
    assert model.mlm_name == "model-m"
    assert [i.name for i in model.input] == ["backscatter"]
    # The bands of the input are its channels; the extension wants the bands described, too.
    difference = {"name": "VV-VH", "format": "numexpr", "expression": "VV - VH"}
    assert item.properties["mlm:input"][0]["bands"] == ["VV", "VH", difference]
    assert item.properties["bands"] == [{"name": "VV"}, {"name": "VH"}]
    assert item.assets["model"].extra_fields["bands"] == item.properties["bands"]
    assert model.input[0].input.dim_order == ["batch", "bands", "height", "width"]
    assert item.properties["mlm:hyperparameters"]["temperature"] == 1
    assert model.input[0].input.shape[:2] == [-1, 3]
    assert model.output[0].result.shape[1] == len(CLASSES)
    with pytest.raises(SystemExit) as stopped:
        main(["info", str(tmp_path / "m.safetensors"), "--stac"])
    assert not stopped.value.code
    checked(json.loads(capsys.readouterr().out))
    with pytest.raises(SystemExit) as stopped:
        main(["info", str(tmp_path / "m.safetensors"), "--stac", "-b", "1"])
    assert stopped.value.code == 2
