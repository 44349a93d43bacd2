"""The info command: scenes, models, and what predict would do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from doubles import legend
from models import MICRO, gray_bundle, random_bundle
from scene_rasters import UTM, write

from cwsam_geo.cli.main import main
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.info.describe import describe
from cwsam_geo.info.options import InfoOptions
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.prediction.memory import expected_memory
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import predict_scene


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    full = random_bundle(legend(5))
    full.save(folder / "s1.safetensors")
    gray_bundle(legend(3)).save(folder / "gray.safetensors")
    return folder


@pytest.fixture
def scene(tmp_path):
    values = np.random.default_rng(0).normal(-12, 3, (2, 100, 130)).astype(np.float32)
    values[1] -= 7
    values[:, :10] = np.nan
    return write(tmp_path / "scene.tif", values, ["VV", "VH"], nodata=np.nan, compress="deflate")


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["info", *map(str, arguments)])
    out, err = capfd.readouterr()
    return stopped.value.code, out, err


def test_a_scene(scene):
    found = describe([str(scene)])
    json.dumps(found)
    assert found["kind"] == "scene"
    assert (found["height"], found["width"], found["count"]) == (100, 130, 2)
    assert (found["driver"], found["dtype"], found["compression"]) == (
        "GTiff",
        "float32",
        "DEFLATE",
    )
    assert found["names"] == ["VV", "VH"]
    assert found["crs"] == "EPSG:32633"
    assert found["transform"] == list(UTM)[:6]
    assert found["pixel_size"] == [10, 10]
    assert found["rotation"] == 0
    assert found["valid"] == pytest.approx(0.9)
    assert found["complete"]
    assert found["units"]["units"] == "db"
    assert [s["name"] for s in found["statistics"]] == ["VV", "VH"]
    assert found["statistics"][0]["p50"] == pytest.approx(-12, abs=0.2)
    assert "predict" not in found


def test_what_predict_would_do_is_what_it_does(scene, models, tmp_path):
    model = models / "s1.safetensors"
    plan = describe([str(scene)], InfoOptions(model=model, overlap=16))["predict"]
    events = []
    predict_scene(
        scene,
        tmp_path / "map.tif",
        PredictOptions(model=model, overlap=16, device="cpu"),
        on_event=events.append,
    )
    told = {kind: [e for e in events if e["event"] == kind] for kind in ("decision", "warning")}
    assert plan["decisions"] == [e["text"] for e in told["decision"]]
    assert plan["warnings"] == [e["text"] for e in told["warning"]]
    done = next(e for e in events if e["event"] == "done")
    assert plan["tiles"] == done["tiles"]
    assert plan["bands"] == {"VV": 1, "VH": 2}
    assert plan["tile_size"] == MICRO.tile_size
    assert plan["memory"] > 2**28


def test_bands_are_numbered_as_in_the_file(tmp_path, models, capfd):
    rng = np.random.default_rng(0)
    vh, vv = rng.normal(-18, 2, (30, 30)), rng.normal(-11, 2, (30, 30))
    path = write(tmp_path / "s.tif", np.stack([vh, np.zeros((30, 30)), vv]).astype(np.float32))
    model = models / "s1.safetensors"
    found = describe([str(path)], InfoOptions(model=model, bidx=(3, 1)))
    assert found["bands"] == [3, 1]
    assert found["predict"]["bands"] == {"VV": 3, "VH": 1}
    assert "band 3 as VV, band 1 as VH" in found["predict"]["decisions"][0]
    options = PredictOptions(model=model, bidx=(3, 1), bounds=(0, -30, 20, 0), nodata="none")
    with rasterio.open(path, "r+") as file:
        file.transform = Affine(1, 0, 0.5, 0, -1, 0)
    predict_scene(path, tmp_path / "map.tif", options)
    with rasterio.open(tmp_path / "map.tif") as file:
        settings = json.loads(file.tags()["CWSAM_GEO_SETTINGS"])
    assert settings["bands"] == {"VV": 3, "VH": 1}
    assert settings["bounds"] == [0, -30, 20, 0]
    assert settings["nodata"] == "none"


def test_refusals_are_part_of_the_answer(tmp_path, models, capfd):
    numbers = np.random.default_rng(0).rayleigh(90, (2, 30, 30)).astype(np.uint16)
    path = write(tmp_path / "s1_vv_vh.tif", numbers)
    options = InfoOptions(model=models / "s1.safetensors")
    assert "calibrate it first" in describe([str(path)], options)["predict"]["refuses"]
    code, out, _ = run(capfd, path, "-m", models / "s1.safetensors")
    assert code == 0
    assert "would refuse" in out
    code, out, _ = run(capfd, path, "-m", models / "s1.safetensors", "--units", "amplitude")
    assert "far from the model's training data" in out
    code, out, _ = run(capfd, path, "-m", models / "gray.safetensors", "-b", "2")
    assert "stretch: amplitude 0 to" in out
    assert "2 VH" in out
    assert "1 VV" not in out


def test_a_model(models, capfd):
    path = models / "s1.safetensors"
    found = describe([str(path)])
    json.dumps(found)
    assert found["kind"] == "model"
    assert found["bundle"] == "full"
    assert [c["name"] for c in found["classes"]] == legend(5).names
    assert found["preprocess"]["bands"] == ("VV", "VH")
    bundle = random_bundle(legend(5))
    assert found["parameters"] == sum(t.numel() for t in bundle.tensors.values())
    assert 0 < found["trained_parameters"] < found["parameters"]
    code, out, _ = run(capfd, path)
    assert code == 0
    assert "VH (-40 to 5, -18 where missing) in dB" in out
    assert "trained: True" in out


def test_json_has_no_numbers_that_json_does_not_know(tmp_path, capfd):
    path = write(tmp_path / "s.tif", np.full((2, 9, 9), -12, np.float32), nodata=-np.inf)
    code, out, err = run(capfd, path, "--json")
    assert code == 0, err
    assert json.loads(out, parse_constant=pytest.fail)["declares_nodata"]


def test_json_is_one_object(scene, models, capfd):
    for arguments in (
        (scene,),
        (scene, "-m", models / "gray.safetensors"),
        (models / "s1.safetensors",),
    ):
        code, out, err = run(capfd, *arguments, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["kind"] in ("scene", "model")


@pytest.fixture
def maps(scene, models, tmp_path):
    """The three rasters that predict writes."""
    outputs = PredictOutputs(tmp_path / "confidence.tif", tmp_path / "probs.tif")
    options = PredictOptions(model=models / "s1.safetensors", device="cpu", overlap=16)
    predict_scene(scene, tmp_path / "map.tif", options, outputs)
    return {
        "classes": tmp_path / "map.tif",
        "confidence": tmp_path / "confidence.tif",
        "probabilities": tmp_path / "probs.tif",
    }


@pytest.mark.parametrize("content", ["classes", "confidence", "probabilities"])
def test_what_predict_wrote_is_told_with_how_it_was_made(maps, capfd, content, models):
    path = maps[content]
    code, out, err = run(capfd, path, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert (found["kind"], found["content"], found["path"]) == ("map", content, str(path))
    assert (found["height"], found["width"], found["crs"]) == (100, 130, "EPSG:32633")
    assert found["nodata"] == 255
    assert found["classes"] == legend(5).to_list()
    assert found["model"]["file"] == "s1.safetensors"
    assert len(found["model"]["sha256"]) == 64
    assert found["settings"]["overlap"] == 16
    assert found["input"].endswith("scene.tif")
    code, out, err = run(capfd, path)
    assert (code, err) == (0, "")
    said = {
        "classes": ("class map", "cwsam-geo vectorize", "cwsam-geo evaluate"),
        "confidence": ("confidence", "--confidence"),
        "probabilities": ("every class", "class 0 (%)"),
    }[content]
    for text in (*said, "EPSG:32633", "100 x 130 px", "0 class 0 #", "s1.safetensors", "overlap"):
        assert text in out
    code, out, err = run(capfd, path, "-m", models / "s1.safetensors")
    assert (code, out) == (2, "")
    assert "not a scene" in err


def test_a_class_map_of_another_program(tmp_path, capfd):
    codes = np.random.default_rng(0).integers(0, 3, (30, 40)).astype(np.uint8)
    named = write(tmp_path / "named.tif", codes, tags={"LEGEND": legend(3).to_json()}, crs=None)
    code, out, err = run(capfd, named)
    assert (code, err) == (0, "")
    assert "class map" in out
    assert "no CRS" in out
    assert "2 class 2 #" in out
    assert describe([str(named)])["model"] is None
    scene = write(tmp_path / "vv.tif", codes - np.float32(12), tags={"LEGEND": "sigma nought"})
    assert describe([str(scene)])["kind"] == "scene"
    twice = legend(1).to_list() * 2
    broken = write(tmp_path / "broken.tif", codes, tags={"LEGEND": json.dumps(twice)})
    code, _, err = run(capfd, broken)
    assert (code, err.count("\n")) == (1, 1)
    assert "tag LEGEND: legend: code 0" in err
    foreign = write(tmp_path / "foreign.tif", codes, tags={"LEGEND": "{"})
    assert describe([str(foreign)])["kind"] == "scene"


def test_a_map_of_predict_that_lost_its_legend_has_that_of_its_palette(maps):
    path = maps["classes"].with_name("lost.tif")
    with rasterio.open(maps["classes"]) as file:
        tags = {k: v for k, v in file.tags().items() if k.startswith("CWSAM_GEO")}
        write(path, file.read(), tags=tags, nodata=255)
        with rasterio.open(path, "r+") as lost:
            lost.write_colormap(1, file.colormap(1))
    found = describe([str(path)])
    assert (found["content"], found["legend"]) == ("classes", "palette")
    assert [c["color"] for c in found["classes"]] == [e.color for e in legend(5).entries]


def test_other_pictures_with_a_palette_are_refused(tmp_path, capfd):
    path = write(tmp_path / "picture.tif", np.zeros((9, 9), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255)})
    code, out, err = run(capfd, path)
    assert (code, out) == (1, "")
    assert "colour table" in err


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"transform": UTM * UTM.rotation(30)}, "rotated by"),
        ({"crs": None}, "no CRS, pixels of 10 x 10"),
        ({"nodata": -9999}, "-9999"),
        ({"tiled": True, "blockxsize": 16, "blockysize": 32}, "blocks of 32 x 16 px"),
    ],
)
def test_quirks_of_scenes_are_shown(tmp_path, capfd, profile, said):
    values = np.random.default_rng(0).normal(-12, 3, (1, 64, 64)).astype(np.float32)
    code, out, _ = run(capfd, write(tmp_path / "vv.tif", values, **profile))
    assert code == 0
    assert said in out


def test_units_that_cannot_be_told_are_said_so(tmp_path, capfd):
    path = write(tmp_path / "labels.tif", np.arange(9, dtype=np.uint8).reshape(3, 3))
    code, out, _ = run(capfd, path)
    assert code == 0
    assert "like a class map" in out


def test_what_is_neither_scene_nor_model(tmp_path, models, capfd):
    for path in ("missing.tif", "missing.safetensors", "no-such-model"):
        code, out, err = run(capfd, tmp_path / path)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")
        assert len(err.splitlines()) == 1
    code, out, err = run(capfd, "sam_vit_b")
    assert (code, out) == (1, "")
    assert "finetune --init sam_vit_b" in err
    (tmp_path / "sam.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match="cwsam-geo convert"):
        describe([str(tmp_path / "sam.pth")])
    with pytest.raises(UsageError, match="give it alone"):
        describe([str(models / "s1.safetensors"), "scene.tif"])
    assert run(capfd, "a.tif", "--nodata", "x")[0] == 2


def test_memory_does_not_grow_with_height():
    architecture = Architecture(BACKBONES["small"], 9, 256)

    def memory(height, width=26102, count=2):
        grid = SceneGrid(height, width, UTM, None, count)
        plan = TilePlan(height, width, 256, 32, architecture.stride)
        return expected_memory(architecture, plan, grid)

    assert memory(16705) == memory(100_000) < 2e9
    assert memory(16705) > memory(16705, width=10_000)
    assert memory(16705) > memory(16705, count=1)


def test_every_real_scene_can_be_described(shared_data, models, capfd):
    scenes = [*shared_data.glob("formats/*.tif"), *shared_data.glob("terramind/*.tif")]
    scenes += [*shared_data.glob("sen1floods11/*S1Hand.tif"), *shared_data.glob("sf_airsar/*.tif")]
    for path in scenes:
        found = describe([str(path)], InfoOptions(model=models / "s1.safetensors"))
        json.dumps(found)
        assert ("refuses" in found["predict"]) != ("tiles" in found["predict"])


def test_pixels_of_another_size_than_the_models_are_warned_of_as_predict_does(tmp_path, capfd):
    bundle = random_bundle(legend(5))
    provenance = {**bundle.provenance, "data": {"pixel_size_m": [[10, 10], [10, 10]]}}
    header = replace(bundle.header, provenance=provenance)
    model = replace(bundle, header=header).save(tmp_path / "ten.safetensors")
    values = np.random.default_rng(0).normal(-12, 3, (2, 70, 70)).astype(np.float32)
    values[1] -= 7
    scenes = [
        write(
            tmp_path / f"{side}.tif", values, ["VV", "VH"], transform=UTM * Affine.scale(side / 10)
        )
        for side in (10, 30)
    ]
    for scene, warns in zip(scenes, (False, True), strict=True):
        told = []
        predict_scene(
            scene,
            tmp_path / f"{scene.stem}_map.tif",
            PredictOptions(model=str(model), device="cpu", precision="fp32"),
            on_event=told.append,
        )
        by_predict = [
            e["text"] for e in told if e["event"] == "warning" and "on the ground" in e["text"]
        ]
        found = describe([str(scene)], InfoOptions(model=str(model)))["predict"]["warnings"]
        assert bool(by_predict) == warns
        assert [text for text in found if "on the ground" in text] == by_predict
    assert "trained on pixels of 10 x 10 m" in run(capfd, model)[1]
