"""``finetune`` and its command, on small scenes that are written and read."""

import json
import os
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
import yaml
from models import random_bundle
from rasterio.transform import from_origin
from sam_checkpoint import sam_state

from cwsam_geo.cli.main import main
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.metrics import Scores
from cwsam_geo.core.reliability import fit_temperature, log_probabilities
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.region_file import load_region
from cwsam_geo.finetuning.report.files import OutputPaths
from cwsam_geo.model.bundles.bundle import ModelBundle, read_header
from cwsam_geo.model.bundles.tensors import expected_shapes, tensors_sha256, trainable_names
from cwsam_geo.model.runtime.predictor import load_model
from cwsam_geo.model.store import load_full

CLASSES = [
    {"code": 1, "name": "water", "color": "#0000ff"},
    {"code": 5, "name": "trees", "color": "#00ff00"},
]
TILE = 64
SHAPE = (192, 256)


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(path, bands, dtype, origin=(500_000, 5_500_000), crs="EPSG:32633", names=()):
    bands = np.atleast_3d(bands.T).T if bands.ndim == 2 else bands
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=dtype, crs=crs, transform=from_origin(*origin, 10, 10),
    ) as out:  # fmt: skip
        out.write(bands.astype(dtype))
        for i, name in enumerate(names, 1):
            out.set_band_description(i, name)
    return path


def write_scene(folder, name="a", seed=0, **where):
    """A scene of dark water and bright trees in squares, and its labels (1, 5 and 0 for none)."""
    random = np.random.default_rng(seed)
    rows, cols = SHAPE[0] // 32, SHAPE[1] // 32
    trees = np.kron(random.integers(0, 2, (rows, cols)), np.ones((32, 32))).astype(bool)
    level = np.where(trees, -8.0, -20.0)
    scene = np.stack([level, level - 6]) + random.normal(0, 1.5, (2, *SHAPE))
    labels = np.where(trees, 5, 1)
    labels[:8] = 0
    write(folder / f"{name}.tif", scene, "float32", names=("VV", "VH"), **where)
    write(folder / f"{name}_labels.tif", labels, "uint8", **where)


def region(folder, init, train=None, **more):
    content = {
        "classes": CLASSES,
        "scenes": [
            {"scene": "a.tif", "labels": "a_labels.tif", "units": "db",
             "map": {0: "ignore", 1: "water", 5: "trees"}},
        ],
        "init": str(init),
        "train": {"epochs": 2, "lr": 3e-3, "tile_size": TILE, "samples": 8, "batch_size": 4,
                  "device": "cpu", **(train or {})},
        "validation": {"block_size_px": 64, "fraction": 0.25, "gap_px": 8},
        **more,
    }  # fmt: skip
    path = folder / "region.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def base(tmp_path):
    """A small full model that has not been trained."""
    torch.manual_seed(0)
    legend = Legend.from_list([{**CLASSES[0]}, {"code": 9, "name": "ice", "color": "#ffffff"}])
    bundle = random_bundle(legend, trained=False)
    bundle.save(tmp_path / "base.safetensors")
    return bundle


@pytest.fixture
def place(tmp_path, base):
    write_scene(tmp_path)
    region(tmp_path, "base.safetensors")
    return tmp_path


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["finetune", *map(str, arguments)])
    return stop.value.code


# What is written


def test_adapters_card_metrics_pictures_and_split_are_written(place, base):
    events = []
    result = finetune(place / "region.yaml", place / "region.safetensors", on_event=events.append)
    paths = OutputPaths.beside(place / "region.safetensors")
    assert set(result.files) == {
        paths.card, paths.metrics, paths.curves, paths.confusion, paths.split
    }  # fmt: skip
    assert not list(place.glob(".*tmp*"))
    assert not paths.checkpoint.exists()
    adapters = ModelBundle.load(result.bundle)
    assert set(adapters.tensors) == trainable_names(adapters.architecture)
    assert (adapters.kind, result.kind) == ("adapters", "adapters")
    assert adapters.header.base.sha256 == base.frozen_sha256()
    assert adapters.legend.to_list() == CLASSES
    assert adapters.preprocess.bands == ("VV", "VH")
    assert adapters.preprocess.quantiles is not None
    report = json.loads(paths.metrics.read_text())
    assert report["validation"]["overall"]["miou"] == result.miou
    assert adapters.provenance["metrics"]["validation"] == report["validation"]
    assert adapters.provenance["trained"] is True
    west, south, east, north = shapely.from_geojson(
        json.dumps(adapters.provenance["data"]["footprint"])
    ).bounds
    assert 14 < west < east < 16
    assert 49 < south < north < 50
    assert np.allclose(adapters.provenance["data"]["pixel_size_m"], 10, rtol=1e-3)
    card = paths.card.read_text()
    assert "- pixels: 10 x 10 m on the ground" in card
    assert f"{result.miou:.4f}" in card
    assert "base.safetensors" in card
    assert {f["properties"]["split"] for f in json.loads(paths.split.read_text())["features"]} == {
        "train", "val"
    }  # fmt: skip
    for picture in (paths.curves, paths.confusion):
        assert picture.read_bytes().startswith(b"\x89PNG")
    kinds = [e["event"] for e in events]
    # The first estimate comes from a trial before the first step, the second from measured steps.
    assert kinds.index("start") < kinds.index("estimate") < kinds.index("progress")
    assert kinds.count("estimate") == 1  # the run has four steps
    assert [e["seconds_left"] == 0 for e in events if e["event"] == "epoch"] == [False, True]
    assert kinds[-1] == "done"
    assert kinds.count("epoch") == 2
    assert all(json.dumps(e) for e in events)


def test_the_bundle_predicts_with_the_reported_accuracy_and_confidence(place):
    epochs = {"epochs": 4, "samples": 24}
    result = finetune(region(place, "base.safetensors", epochs), place / "m.safetensors")
    assert result.miou > 0.5
    model = load_model(result.bundle)
    report = json.loads((place / "m_metrics.json").read_text())
    config = load_region(place / "region.yaml")
    with region_data(config) as data:
        matrix = np.zeros((2, 2), np.int64)
        pixels = []
        for i in range(len(data.validation)):
            image, labels = data.validation.sample(0, i)
            with torch.no_grad():
                logits = model(torch.from_numpy(image)[None])
            up = torch.nn.functional.interpolate(logits, (TILE, TILE), mode="bilinear")
            mapped = up.argmax(1)[0].numpy()
            np.add.at(matrix, (labels[labels > 0] - 1, mapped[labels > 0]), 1)
            pixels.append(up[0].numpy()[:, labels > 0].T)
    labelled = np.concatenate(pixels)
    assert matrix.tolist() == report["validation"]["matrix"]["counts"]
    assert Scores.of(matrix).miou == result.miou
    calibration = report["validation"]["calibration"]
    temperature = model.temperatures.common
    assert temperature == calibration["temperature"]
    (calibration,) = calibration["parts"]
    assert calibration["bands"] == list(model.preprocess.bands)
    assert calibration["before"]["count"] == matrix.sum()
    for when in ("before", "after"):
        assert calibration[when]["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    confidence = np.exp(log_probabilities(labelled, temperature).max(1))
    assert calibration["after"]["mean_confidence"] == pytest.approx(confidence.mean(), abs=1e-5)
    errors = [calibration[w]["expected_calibration_error"] for w in ("before", "after")]
    assert errors[1] < errors[0]
    assert f"divided by {temperature:.3f}" in (place / "m.md").read_text()


def test_a_full_model_of_random_weights(place):
    path = region(place, "small", {"scope": "full", "epochs": 1, "samples": 4})
    result = finetune(path, place / "full.safetensors")
    bundle = ModelBundle.load(result.bundle)
    assert result.kind == bundle.kind == "full"
    assert set(bundle.tensors) == set(expected_shapes(bundle.architecture))
    assert load_full(result.bundle).build().architecture.backbone.name == "small"


def test_a_trained_model_that_goes_on_keeps_its_scale(place, tmp_path):
    bundle = random_bundle(Legend.from_list(CLASSES))
    bundle.save(tmp_path / "trained.safetensors")
    finetune(region(place, "trained.safetensors"), place / "m.safetensors")
    kept = read_header(place / "m.safetensors").preprocess
    own = bundle.preprocess
    assert (kept.mean, kept.std, kept.clip) == (own.mean, own.std, own.clip)
    assert kept.quantiles != own.quantiles
    path = region(place, "trained.safetensors", preprocess={"scaling": "db"})
    finetune(path, place / "new.safetensors")
    assert read_header(place / "new.safetensors").preprocess.mean != own.mean


def test_test_areas_are_scored_but_decide_nothing(place):
    write_scene(place, "b", seed=1, origin=(600_000, 5_500_000))
    content = yaml.safe_load((place / "region.yaml").read_text())
    content["scenes"].append(
        {**content["scenes"][0], "scene": "b.tif", "labels": "b_labels.tif", "split": "test"}
    )
    content["preprocess"] = {"optional": ["VH"]}
    (place / "region.yaml").write_text(yaml.safe_dump(content))
    result = finetune(place / "region.yaml", place / "m.safetensors")
    report = json.loads((place / "m_metrics.json").read_text())
    assert report["test"]["overall"]["miou"] == result.test_miou
    pixels = sum(c["support"] for c in report["test"]["classes"])
    assert pixels == SHAPE[0] * SHAPE[1] - 8 * SHAPE[1]
    reliability = report["test"]["reliability"]
    assert reliability["count"] == pixels
    assert reliability["accuracy"] == pytest.approx(report["test"]["overall"]["overall_accuracy"])
    card = (place / "m.md").read_text()
    assert f"On {pixels:,} labelled pixels of test areas, which decided nothing" in card
    assert "A scene may lack VH: the mean stands for it." in card


def test_each_set_of_bands_has_a_temperature_of_its_own(place):
    content = yaml.safe_load((place / "region.yaml").read_text())
    content["preprocess"] = {"optional": ["VH"]}
    content["train"] |= {"epochs": 3, "samples": 24}
    (place / "region.yaml").write_text(yaml.safe_dump(content))
    events = []
    finetune(place / "region.yaml", place / "m.safetensors", on_event=events.append)
    model = load_model(place / "m.safetensors")
    with region_data(load_region(place / "region.yaml"), model.preprocess) as data:
        parts = data.by_bands(data.validation, others=True)
        assert [part.bands for part in parts] == [("VV", "VH"), ("VV",)]
        for part in parts:
            logits, channels = [], []
            for i in range(len(part.tiles)):
                image, labels = part.tiles.sample(0, i)
                with torch.no_grad():
                    found = model(torch.from_numpy(image)[None])
                up = torch.nn.functional.interpolate(found, (TILE, TILE), mode="bilinear")
                logits.append(up[0].numpy()[:, labels > 0].T)
                channels.append(labels[labels > 0].astype(int) - 1)
            expected = fit_temperature(np.concatenate(logits), np.concatenate(channels))
            assert model.temperatures.of(part.bands) == pytest.approx(expected, rel=0.06)
    assert set(model.temperatures.by_bands) == {("VV", "VH"), ("VV",)}
    report = json.loads((place / "m_metrics.json").read_text())["validation"]["calibration"]
    assert report["temperature"] == model.temperatures.to_json()
    assert [p["bands"] for p in report["parts"]] == [["VV", "VH"], ["VV"]]
    assert len({p["before"]["accuracy"] for p in report["parts"]}) == 2
    told = [e["text"] for e in events if e["event"] == "decision" and "temperature" in e["text"]]
    assert len(told) == 2
    assert "for VV;" in told[1]
    card = (place / "m.md").read_text()
    for part in report["parts"]:
        which = ", ".join(part["bands"])
        assert f"Confidence for scenes with {which} is the softmax" in card


def test_scenes_of_one_name_are_told_apart_with_their_own_labels(place):
    content = yaml.safe_load((place / "region.yaml").read_text())
    template = content["scenes"][0]
    content["scenes"] = []
    for seed, name in enumerate(("x", "y")):
        (place / name).mkdir()
        write_scene(place / name, "s", seed, origin=(500_000 + 100_000 * seed, 5_500_000))
        (place / name / "s_labels.tif").rename(place / f"lab_{name}.tif")
        files = {"scene": f"{name}/s.tif", "labels": f"lab_{name}.tif"}
        content["scenes"].append({**template, **files})
    (place / "region.yaml").write_text(yaml.safe_dump(content))
    finetune(place / "region.yaml", place / "m.safetensors")
    told = read_header(place / "m.safetensors").provenance["data"]["scenes"]
    assert [(s["scene"], s["labels"]) for s in told] == [
        ("x/s.tif", "lab_x.tif"), ("y/s.tif", "lab_y.tif"),
    ]  # fmt: skip
    assert "- 2 scenes: x/s.tif, y/s.tif" in (place / "m.md").read_text()


def test_scenes_of_single_band_files_are_told_with_their_labels(place):
    with rasterio.open(place / "a.tif") as source:
        for i, name in enumerate(("vv", "vh"), 1):
            write(place / f"a_{name}.tif", source.read(i), "float32", names=(name.upper(),))
    content = yaml.safe_load((place / "region.yaml").read_text())
    content["scenes"][0]["scene"] = ["a_vv.tif", "a_vh.tif"]
    (place / "region.yaml").write_text(yaml.safe_dump(content))
    finetune(place / "region.yaml", place / "m.safetensors")
    (told,) = read_header(place / "m.safetensors").provenance["data"]["scenes"]
    assert (told["scene"], told["labels"]) == ("a_vv.tif", "a_labels.tif")


def test_pictures_are_left_out_where_matplotlib_is_missing(place, monkeypatch):
    for module in ("cwsam_geo.finetuning.report.files", "cwsam_geo.finetuning.finetune"):
        monkeypatch.setattr(f"{module}.can_draw", lambda: False)
    events = []
    result = finetune(place / "region.yaml", place / "m.safetensors", on_event=events.append)
    assert not list(place.glob("*.png"))
    assert {f.suffix for f in result.files} == {".md", ".json", ".geojson"}
    assert [e for e in events if e["event"] == "warning" and "matplotlib" in e["text"]]


def test_tensorboard_events(place):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finetune(place / "region.yaml", place / "m.safetensors", FinetuneOptions(tensorboard=True))
    events = EventAccumulator(str(place / "m_events")).Reload()
    assert len(events.Scalars("validation/miou")) == 2
    assert "validation_iou/trees" in events.Tags()["scalars"]


# From SAM


def trained_names_of_sam(depth):
    """Exactly what must be trained and saved, spelled out."""
    both = ("weight", "bias")
    adapters = [
        f"{place}_adapter.{layer}.{p}"
        for place in ("attention", "mlp")
        for layer in ("down", "up")
        for p in both
    ]
    names = {f"encoder.blocks.{i}.{a}" for i in range(depth) for a in adapters}
    prompt = ["image_embed.proj", "token_embed", "shared"]
    prompt += [f"block_layers.{i}" for i in range(depth)]
    names |= {f"encoder.prompt.{n}.{p}" for n in prompt for p in both}
    names |= {f"decoder.{t}.weight" for t in ("no_mask_embed", "iou_token", "mask_tokens")}
    attention = [f"{n}_proj.{p}" for n in ("q", "k", "v", "out") for p in both]
    for layer in (0, 1):
        where = f"decoder.transformer.layers.{layer}"
        kinds = ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
        names |= {f"{where}.{k}.{a}" for k in kinds for a in attention}
        names |= {f"{where}.norm{i}.{p}" for i in range(1, 5) for p in both}
        names |= {f"{where}.mlp.lin{i}.{p}" for i in (1, 2) for p in both}
    names |= {f"decoder.transformer.final_attn_token_to_image.{a}" for a in attention}
    names |= {f"decoder.transformer.norm_final_attn.{p}" for p in both}
    names |= {f"decoder.upscaling.{i}.{p}" for i in (0, 1, 3) for p in both}
    names |= {f"decoder.hypernetwork.layers.{i}.{p}" for i in range(3) for p in both}
    return names | {f"decoder.class_upscaling.{i}.{p}" for i in (0, 1, 3) for p in both}


def check_adapters_of(place, checkpoint, depth, train=None):
    before = checkpoint.read_bytes()
    result = finetune(region(place, checkpoint.name, train), place / "sam_region.safetensors")
    adapters = ModelBundle.load(result.bundle)
    assert set(adapters.tensors) == trained_names_of_sam(depth)
    assert adapters.header.base.name == checkpoint.name
    assert checkpoint.read_bytes() == before
    full = load_full(result.bundle)
    assert set(full.tensors) == set(expected_shapes(full.architecture))
    return result.bundle.stat().st_size / len(before)


def test_sams_checkpoint_trains_and_saves_exactly_the_expected_keys(place):
    torch.save(sam_state(), place / "sam_tiny.pth")
    check_adapters_of(place, place / "sam_tiny.pth", depth=2)


@pytest.mark.slow
def test_sams_vit_b_trains_and_saves_exactly_the_expected_keys(place):
    state = vit_b_state()
    torch.save(state, place / "sam_vit_b.pth")
    one_step = {"epochs": 1, "samples": 1, "batch_size": 1}
    assert check_adapters_of(place, place / "sam_vit_b.pth", 12, one_step) < 0.2


def vit_b_state():
    """SAM ViT-B's names and shapes with random weights."""
    from cwsam_geo.model.network import sam

    modeling = sys.modules[sam._PRIVATE]
    model = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=1024, patch_size=16, embed_dim=768, depth=12, num_heads=12, out_chans=256,
            qkv_bias=True, use_rel_pos=True, window_size=14, global_attn_indexes=(2, 5, 8, 11),
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3, transformer_dim=256,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
            ),
        ),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )  # fmt: skip
    return model.state_dict()


# Interrupted runs


def kill_in_epoch(place, epoch):
    """Trains ``killed.safetensors`` in a process of its own, which dies in an epoch."""
    code = (
        "import os, torch\n"
        "torch.set_num_threads(1)\n"
        "from cwsam_geo.finetuning.finetune import finetune\n"
        "def tell(event):\n"
        f"    if event['event'] == 'progress' and event['epoch'] == {epoch}:\n"
        "        os.kill(os.getpid(), 9)\n"
        "finetune('region.yaml', 'killed.safetensors', on_event=tell)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -9


def test_a_killed_run_resumes_to_the_same_model(place):
    path = region(place, "base.safetensors", {"epochs": 3})
    finetune(path, place / "whole.safetensors")
    kill_in_epoch(place, 3)
    assert (place / "killed_checkpoint.pt").exists()
    assert not (place / "killed.safetensors").exists()
    with pytest.raises(UsageError, match="pass --resume"):
        finetune(path, place / "killed.safetensors")
    resume, other = FinetuneOptions(resume=True), load_region(path, {"train": {"lr": 0.1}})
    with pytest.raises(UsageError, match=r"other settings: train\.lr"):
        finetune(other, place / "killed.safetensors", resume)
    finetune(path, place / "killed.safetensors", resume)
    whole, resumed = (ModelBundle.load(place / f"{n}.safetensors") for n in ("whole", "killed"))
    assert tensors_sha256(whole.tensors) == tensors_sha256(resumed.tensors)
    assert whole.provenance["metrics"] == resumed.provenance["metrics"]
    assert not (place / "killed_checkpoint.pt").exists()


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_run_killed_in_its_first_epoch_starts_again(place, how):
    path, output = place / "region.yaml", place / "killed.safetensors"
    finetune(path, place / "whole.safetensors")
    kill_in_epoch(place, 1)
    with pytest.raises(UsageError, match=r"pass --resume .* or --overwrite to start anew"):
        finetune(path, output)
    finetune(path, output, FinetuneOptions(**{how: True}))
    whole, again = (ModelBundle.load(place / f"{n}.safetensors") for n in ("whole", "killed"))
    assert tensors_sha256(whole.tensors) == tensors_sha256(again.tensors)
    assert not (place / "killed_checkpoint.pt").exists()


def test_without_a_checkpoint_resume_names_what_is_in_the_way(place):
    (place / "m_split.geojson").write_text("mine")
    with pytest.raises(UsageError, match=r"leave out --resume .* --overwrite, .*m_split\.geojson"):
        finetune(place / "region.yaml", place / "m.safetensors", FinetuneOptions(resume=True))
    assert (place / "m_split.geojson").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "epoch", "words"),
    [
        ("progress", 2, "keeps the run up to epoch 1; go on with --resume"),
        ("epoch", 2, "keeps the run up to epoch 1; go on with --resume"),
        ("progress", 1, "the first epoch is not finished; start it again with --resume"),
        ("epoch", 1, "the first epoch is not finished; start it again with --resume"),
    ],
)
def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(place, kind, epoch, words):
    told = []

    def tell(event):
        told.append(event)
        if event["event"] == kind and event["epoch"] == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(place / "region.yaml", place / "m.safetensors", on_event=tell)
    assert told[-1]["event"] == "warning"
    assert told[-1]["text"] == f"{place / 'm_checkpoint.pt'}: {words}"
    assert not (place / "m.safetensors").exists()
    told.clear()
    resume = FinetuneOptions(resume=True)
    finetune(place / "region.yaml", place / "m.safetensors", resume, told.append)
    (start,) = [event for event in told if event["event"] == "start"]
    assert start["epochs_done"] == epoch - 1


def _another_precision(content):
    content["train"]["precision"] = "bf16"


def _another_ignored_class(content):
    content["ignore"] = "trees"


def _another_test_scene(content):
    content["scenes"][1]["split"] = "test"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_another_precision, r'precision \("fp32", now "bf16"\)'),
        (_another_ignored_class, r"ignore \(null, now 5\)"),
        (_another_test_scene, r'scenes \(\[null, "val"\], now \[null, "test"\]\)'),
    ],
)
def test_a_resumed_run_is_the_same_run(place, change, words):
    write_scene(place, "b", seed=1, origin=(600_000, 5_500_000))
    path = place / "region.yaml"
    content = yaml.safe_load(path.read_text())
    files = {"scene": "b.tif", "labels": "b_labels.tif", "split": "val"}
    content["scenes"].append({**content["scenes"][0], **files})
    path.write_text(yaml.safe_dump(content))

    def stop(event):
        if event["event"] == "progress" and event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(path, place / "m.safetensors", on_event=stop)
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=f"other settings: {words}; give the same ones"):
        finetune(path, place / "m.safetensors", FinetuneOptions(resume=True))


def test_partial_labels_belong_to_the_run_and_the_card_says_how_they_count(place):
    path = region(place, "base.safetensors", {"epochs": 2})
    content = yaml.safe_load(path.read_text())
    content["classes"].append({"code": 7, "name": "bare", "color": "#aaaaaa"})
    labels = rasterio.open(place / "a_labels.tif").read(1)
    labels[:, ::3] = 9
    write(place / "a_labels.tif", labels, "uint8")

    def write_map(meaning):
        content["scenes"][0]["map"] = {0: "ignore", 1: "water", 5: "trees", 9: meaning}
        path.write_text(yaml.safe_dump(content))

    def stop(event):
        if event["event"] == "progress" and event["epoch"] == 2:
            raise KeyboardInterrupt

    write_map(["trees", "bare"])
    with pytest.raises(KeyboardInterrupt):
        finetune(path, place / "m.safetensors", on_event=stop)
    write_map(["water", "bare"])
    resume = FinetuneOptions(resume=True)
    with pytest.raises(UsageError, match="other settings: partial_labels"):
        finetune(path, place / "m.safetensors", resume)
    write_map(["trees", "bare"])
    result = finetune(path, place / "m.safetensors", resume)
    card = (place / "m.md").read_text()
    assert "trees or bare) counts only where the map gives none of them" in card
    told = ModelBundle.load(result.bundle).provenance["data"]["partial_labels"]
    assert told == [["trees", "bare"]]


def test_the_same_seed_gives_the_same_model_and_another_seed_another(place):
    path = region(place, "base.safetensors", {"epochs": 1})
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = load_region(path, {"train": {"seed": seed}})
        result = finetune(config, place / f"{name}_model.safetensors")
        hashes.append(tensors_sha256(ModelBundle.load(result.bundle).tensors))
    assert hashes[0] == hashes[1] != hashes[2]


# The command


def test_command_with_flags_that_win_over_the_file(place, capsys):
    code = run("region.yaml", "-o", "m.safetensors", "--epochs", 1, "--lr", "1e-3", "--seed", 7,
               "--batch-size", 2, "--loss", "ce+dice", "--json")  # fmt: skip
    assert code == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert events[-1]["event"] == "done"
    recipe = json.loads((place / "m_metrics.json").read_text())["recipe"]
    wanted = {"epochs": 1, "lr": 1e-3, "seed": 7, "batch_size": 2, "loss": "ce+dice"}
    assert {key: recipe[key] for key in wanted} == wanted


def test_command_without_a_file(place, capsys):
    (place / "legend.yaml").write_text(yaml.safe_dump({"classes": CLASSES}))
    labels = rasterio.open(place / "a_labels.tif").read(1)
    write(place / "plain.tif", np.where(labels == 0, 1, labels), "uint8")
    code = run("--scene", "a.tif", "--labels", "plain.tif", "--legend", "legend.yaml", "-o",
               "m.safetensors", "--init", "base.safetensors", "--epochs", 1, "--tile-size", 32,
               "--device", "cpu")  # fmt: skip
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert captured.out == ""
    assert "epoch 1/1: loss" in captured.err
    assert read_header(place / "m.safetensors").preprocess.tile_size == 32


def test_quiet_says_nothing(place, capsys):
    assert run("region.yaml", "-o", "m.safetensors", "--epochs", 1, "-q") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def one_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_outputs_that_are_there_are_not_replaced(place, capsys):
    for name in ("m.safetensors", "m.md", "m_curves.png", "m_split.geojson"):
        (place / name).write_text("mine")
        assert run("region.yaml", "-o", "m.safetensors") == 2
        assert "--overwrite" in one_line(capsys)
        assert (place / name).read_text() == "mine"
        (place / name).unlink()
    (place / "m.safetensors").write_text("mine")
    assert run("region.yaml", "-o", "m.safetensors", "--overwrite", "--epochs", 1, "-q") == 0
    assert ModelBundle.load(place / "m.safetensors").kind == "adapters"


def test_files_that_are_read_are_not_replaced(place, capsys):
    before = (place / "base.safetensors").read_bytes()
    assert run("region.yaml", "-o", "base.safetensors", "--overwrite") == 2
    assert "is an input of this training" in one_line(capsys)
    finetune(place / "region.yaml", place / "m.safetensors", FinetuneOptions())
    again = ("--init", "m.safetensors", "--overwrite")
    assert run("region.yaml", "-o", "base.safetensors", *again) == 2
    assert "is an input of this training" in one_line(capsys)
    assert (place / "base.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["region.yaml", "-o", "m.pt"], r"\*.safetensors"),
        (["region.yaml", "-o", "none/m.safetensors"], "does not exist"),
        (["none.yaml", "-o", "m.safetensors"], "none.yaml"),
        (["region.yaml", "-o", "m.safetensors", "--init", "none"], "no such model"),
        (["region.yaml", "-o", "m.safetensors", "--init", "sam_vit_l"], "models download"),
        (["region.yaml", "-o", "m.safetensors", "--init", "small"], "--scope full"),
        (["region.yaml", "-o", "m.safetensors", "--loss", "mse"], "lovasz"),
        (["region.yaml", "-o", "m.safetensors", "--lr", "-1"], "lr"),
        (["region.yaml", "-o", "m.safetensors", "--tile-size", "20"], "multiple of 8"),
        (["region.yaml", "-o", "m.safetensors", "--device", "cuda:99"], "cuda"),
        (["region.yaml", "-o", "m.safetensors", "--batch-size", "some"], "batch_size"),
        (["region.yaml", "-o", "m.safetensors", "--resume"], "no checkpoint to resume"),
        (["region.yaml", "-o", "m.safetensors", "--scene", "a.tif"], "not both"),
        (["--scene", "a.tif", "-o", "m.safetensors"], "--labels, --legend"),
    ],
    ids=lambda v: " ".join(v[3:]) if isinstance(v, list) else None,
)  # fmt: skip
def test_wrong_wishes_are_one_clear_line(place, capsys, arguments, words):
    assert run(*arguments) in (1, 2)
    assert words.replace("\\", "") in one_line(capsys)
    assert not list(place.glob("m*"))


def _one_class(content, place):
    content["classes"] = CLASSES[:1]
    content["scenes"][0]["map"] = {0: "ignore", 1: "water", 5: "ignore"}


def _all_ignored(content, place):
    content["scenes"][0]["map"] = {0: "ignore", 1: "ignore", 5: "ignore"}


def _far_away(content, place):
    labels = rasterio.open(place / "a_labels.tif").read(1)
    write(place / "a_labels.tif", labels, "uint8", origin=(700_000, 5_500_000))


def _without_crs(content, place):
    labels = rasterio.open(place / "a_labels.tif").read(1)
    write(place / "a_labels.tif", labels, "uint8", crs=None)


def _unknown_code(content, place):
    del content["scenes"][0]["map"][0]


def _two_columns(content, place):
    shape = shapely.box(400_000, 5_400_000, 600_000, 5_500_000)
    geopandas.GeoDataFrame({"a": [1], "b": [1]}, geometry=[shape], crs="EPSG:32633").to_file(
        place / "l.gpkg"
    )
    content["scenes"][0]["labels"] = "l.gpkg"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_one_class, "has one class"),
        (_all_ignored, "no scene has a labelled pixel"),
        (_far_away, "do not overlap"),
        (_without_crs, "has no CRS"),
        (_unknown_code, "codes without a class: 0 ("),
        (_two_columns, "which column holds the classes? name it (`column:`): a, b"),
    ],
)
def test_labels_that_do_not_serve_are_one_clear_line(place, capsys, change, words):
    content = yaml.safe_load((place / "region.yaml").read_text())
    change(content, place)
    (place / "region.yaml").write_text(yaml.safe_dump(content))
    assert run("region.yaml", "-o", "m.safetensors") in (1, 2)
    assert words in one_line(capsys)
    assert not list(place.glob("m*"))


def test_a_damaged_checkpoint_is_one_clear_line(place, capsys):
    (place / "m_checkpoint.pt").write_bytes(b"nothing")
    assert run("region.yaml", "-o", "m.safetensors", "--resume") == 1
    assert "not a readable checkpoint" in one_line(capsys)


def test_the_base_that_is_missing_is_named(place):
    result = finetune(place / "region.yaml", place / "m.safetensors")
    (place / "base.safetensors").unlink()
    with pytest.raises(ModelError, match=r"base\.safetensors"):
        load_full(result.bundle)
