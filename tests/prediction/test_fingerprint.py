"""Two runs with equal fingerprints make the same map; any other setting changes the fingerprint."""

import dataclasses
import os
import zipfile

import numpy as np
import pytest
from range_server import file_server
from scene_rasters import write

from cwsam_geo.prediction.fingerprint import (
    FINGERPRINT_TAG,
    ModelIdentity,
    as_text,
    difference,
    fingerprint,
    read_fingerprint,
)
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.scene.source import open_source

MODEL = ModelIdentity("a" * 64, "fp32", "cpu")
OPTIONS = [f.name for f in dataclasses.fields(PredictOptions)]


@pytest.fixture
def scene(tmp_path):
    values = np.random.default_rng(0).normal(-12, 3, (2, 40, 30)).astype("f4")
    return write(tmp_path / "scene.tif", values, ("VV", "VH"))


def of(scene, options=None, rasters=None, model=MODEL):
    with open_source(scene) as source:
        return fingerprint(source, options or PredictOptions(), rasters or {"classes": 1}, model)


def test_it_is_the_same_for_the_same_run(scene):
    assert of(scene) == of(scene)
    assert difference(of(scene), of(scene)) is None
    # NaN is as equal as any other value.
    nan = PredictOptions(nodata=float("nan"))
    assert difference(of(scene, nan), of(scene, nan)) is None


@pytest.mark.parametrize("name", sorted({*OPTIONS} - {"model", "device", "precision", "aoi"}))
def test_each_option_changes_it_and_is_named(scene, name):
    options = PredictOptions()
    object.__setattr__(options, name, 7)  # whatever it is, it is not the default
    assert f"--{name.replace('_', '-')} was " in difference(of(scene), of(scene, options))


def test_the_model_the_device_and_the_rasters_change_it(scene):
    assert "model was aaaaaaaaaaaa..., now bbbbbbbbbbbb..." in difference(
        of(scene), of(scene, model=dataclasses.replace(MODEL, sha256="b" * 64))
    )
    for name, value in (("precision", "bf16"), ("device", "cuda")):
        other = of(scene, model=dataclasses.replace(MODEL, **{name: value}))
        assert f"{name} was " in difference(of(scene), other)
    more = of(scene, rasters={"classes": 1, "confidence": 1})
    assert difference(of(scene), more) == "raster confidence was none, now 1"


def test_a_scene_that_changed_is_named(scene):
    before = of(scene)
    os.utime(scene, (1e9, 1e9))
    assert "file scene.tif was " in difference(before, of(scene))
    # What a viewer leaves beside a scene changes nothing.
    before = of(scene)
    scene.with_name("scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert difference(before, of(scene)) is None


def test_a_nodata_value_in_a_sidecar_changes_it(scene):
    before = of(scene)
    scene.with_name("scene.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-12</NoDataValue></PAMRasterBand>'
        "</PAMDataset>"
    )
    assert "band 1 was " in difference(before, of(scene))


def test_the_archive_around_a_scene_counts(scene, tmp_path):
    archive = tmp_path / "scene.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(scene, "scene.tif")
    before = of(f"/vsizip/{archive}/scene.tif")
    assert list(before["file"]) == ["scene.zip"]
    os.utime(archive, (1e9, 1e9))
    assert "file scene.zip was " in difference(before, of(f"/vsizip/{archive}/scene.tif"))


def test_a_server_tells_of_its_file(scene, tmp_path):
    with file_server(tmp_path) as address:
        url = f"http://{address}/scene.tif?key=secret"
        before = of(url)
        assert "ETag" in before["file"]["scene.tif"]
        assert "secret" not in str(before)
        assert difference(before, of(url)) is None
        write(scene, np.zeros((2, 40, 30), "f4"), ("VV", "VH"))
        assert "file scene.tif was " in difference(before, of(url))


def test_it_is_kept_in_a_tag(scene):
    known = of(scene)
    assert read_fingerprint({FINGERPRINT_TAG: as_text(known)}) == known
    assert read_fingerprint({}) is None
    assert read_fingerprint({FINGERPRINT_TAG: "[1"}) is None
