"""The models in the box: there, documented, small, and right about water."""

import dataclasses

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from paths import ROOT

import cwsam_geo
from cwsam_geo.cli.predict import command
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.prediction.options import DEFAULT_MODEL

WEIGHTS = ROOT / "weights"
SCENE = ROOT / "examples" / "scene.tif"
TRUTH = ROOT / "examples" / "scene_truth.tif"
CORNER = (398000.0, 5262720.0, 399280.0, 5264000.0)


def iou(mapped, reference, known):
    return (mapped & reference & known).sum() / ((mapped | reference) & known).sum()


def mapped(scene, path, **options):
    cwsam_geo.predict_scene(scene, path, cwsam_geo.PredictOptions(**options))
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_every_model_has_a_card_and_all_are_small():
    bundles = sorted(WEIGHTS.glob("*.safetensors"))
    assert f"{DEFAULT_MODEL}.safetensors" in [b.name for b in bundles]
    assert sum(b.stat().st_size for b in bundles) < 25e6
    for bundle in bundles:
        assert "## Accuracy" in bundle.with_suffix(".md").read_text()
        header = ModelBundle.load(bundle).header
        assert header.provenance["trained"]
        assert header.pixel_sizes.nearest((10, 10)) == (10, 10)


def test_the_water_models_former_name_is_that_of_land_cover_now_with_a_remark(tmp_path):
    def decisions(model):
        told = []
        options = cwsam_geo.PredictOptions(model=model, bounds=CORNER)
        cwsam_geo.predict_scene(SCENE, tmp_path / f"{model}.tif", options, on_event=told.append)
        return [e["text"] for e in told if e["event"] == "decision"]

    remark = (
        "s1-landcover is another model now; the one that had this name before is called s1-water"
    )
    assert decisions("s1-landcover") == [remark, *decisions("s1-water")]
    with rasterio.open(tmp_path / "s1-landcover.tif") as raster:
        assert set(np.unique(raster.read(1))) <= {1, 2, 3, 4, 255}
    plan = cwsam_geo.describe(SCENE, cwsam_geo.InfoOptions(model="s1-landcover"))["predict"]
    assert plan["decisions"][0] == remark
    assert cwsam_geo.describe("s1-landcover")["provenance"]["name"] == "s1-landcover"
    with pytest.warns(FutureWarning, match="is called s1-water"):
        cwsam_geo.load_model("s1-landcover")


def test_the_default_model_finds_water_in_the_example_scene(tmp_path):
    codes = mapped(SCENE, tmp_path / "map.tif")
    with rasterio.open(TRUTH) as raster:
        truth = raster.read(1)
    assert set(np.unique(codes)) == {1, 2, 255}
    assert ((codes == 255) == (truth == 255)).all()
    # Simulated, and so unlike what it was trained on: it takes dark bare fields for water.
    assert (codes == 1)[truth == 0].mean() > 0.9
    assert iou(codes == 1, truth == 0, truth != 255) > 0.4


def test_a_scene_without_vh_is_mapped_too_and_the_user_is_told(tmp_path):
    alone = tmp_path / "vv.tif"
    with rasterio.open(SCENE) as source:
        profile = {**source.profile, "count": 1}
        with rasterio.open(alone, "w", **profile) as target:
            target.write(source.read(1), 1)
            target.set_band_description(1, "VV")
    done = CliRunner().invoke(
        command, [str(alone), "-o", str(tmp_path / "map.tif"), "--units", "db"]
    )
    assert done.exit_code == 0, done.output
    assert "VH" in done.output
    with rasterio.open(tmp_path / "map.tif") as raster, rasterio.open(TRUTH) as truth:
        codes, true = raster.read(1), truth.read(1)
    assert (codes == 1)[true == 0].mean() > 0.8
    assert iou(codes == 1, true == 0, true != 255) > 0.3


@pytest.mark.parametrize("name", ["India_900498", "Nigeria_812045", "Sri-Lanka_534068"])
def test_water_is_water_in_real_scenes(shared_data, tmp_path, name):
    """These floods were trained on; experiments/floods.py says how good it is on others."""
    scene = shared_data / "sen1floods11" / f"{name}_S1Hand.tif"
    codes = mapped(scene, tmp_path / "map.tif", units="db")
    with rasterio.open(str(scene).replace("S1Hand", "LabelHand")) as raster:
        label = raster.read(1)
    assert iou(codes == 1, label == 1, (label >= 0) & (codes != 255)) > 0.7


def test_a_lake_in_vv_alone(shared_data, tmp_path):
    scene = shared_data / "formats" / "s1_vv_db_utm_nodata-99.tif"
    codes = mapped(scene, tmp_path / "map.tif")
    height, width = codes.shape
    middle = codes[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
    assert (middle == 1).mean() > 0.6
    assert 0.1 < (codes == 1).mean() < 0.6


def test_the_water_model_is_calibrated_for_both_bands_and_that_changes_no_class(tmp_path):
    bundle = ModelBundle.load(WEIGHTS / f"{DEFAULT_MODEL}.safetensors")
    assert bundle.temperatures.by_bands == {("VV", "VH"): 0.557}
    header = dataclasses.replace(bundle.header, temperatures=Temperatures())
    dataclasses.replace(bundle, header=header).save(tmp_path / "plain.safetensors")
    codes, sure = {}, {}
    for name, model in (("own", DEFAULT_MODEL), ("plain", tmp_path / "plain.safetensors")):
        outputs = cwsam_geo.PredictOutputs(confidence=tmp_path / f"{name}_c.tif")
        options = cwsam_geo.PredictOptions(model=model, bounds=CORNER)
        cwsam_geo.predict_scene(SCENE, tmp_path / f"{name}.tif", options, outputs)
        for found, end in ((codes, ""), (sure, "_c")):
            with rasterio.open(tmp_path / f"{name}{end}.tif") as raster:
                found[name] = raster.read(1)
    np.testing.assert_array_equal(codes["own"], codes["plain"])
    data = codes["own"] != 255
    assert (sure["own"] >= sure["plain"])[data].all()
    assert sure["own"][data].mean() > sure["plain"][data].mean() + 3


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("ben_austria_danube_61_39", 1),
        ("terramesh_282D_brazil", 2),
        ("terramesh_38D_tanzania_lake", 3),
    ],
)
def test_land_cover_is_found_in_real_scenes(shared_data, tmp_path, place, code):
    """These places were trained on; the model's card says how good it is on others."""
    scene = shared_data / "places" / place / "s1.tif"
    codes = mapped(scene, tmp_path / "map.tif", units="db", model="s1-landcover")
    with rasterio.open(scene.with_name("label4.tif")) as raster:
        label = raster.read(1)
    assert (codes[label == code] == code).mean() > 0.6
