"""The page that ``finetune --report`` writes, taken apart again."""

import json

import numpy as np
import pytest
import torch
import yaml
from models import random_bundle
from pages import Page
from training_scenes import CLASSES, LEGEND, blobs, write_raster, write_scene

from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    labels = blobs(rng, (192, 256), size=32)
    write_scene(tmp_path / "a.tif", rng, labels)
    write_raster(tmp_path / "a_labels.tif", labels)
    torch.manual_seed(0)
    random_bundle(LEGEND, trained=False).save(tmp_path / "base.safetensors")
    region = {
        "classes": [{**CLASSES[0], "name": EVIL}, *CLASSES[1:]],
        "scenes": [{"scene": "a.tif", "labels": "a_labels.tif", "units": "db"}],
        "init": "base.safetensors",
        "train": {"epochs": 2, "lr": 3e-3, "tile_size": 64, "samples": 4, "batch_size": 2,
                  "device": "cpu"},
        "validation": {"block_size_px": 64, "fraction": 0.25, "gap_px": 8},
    }  # fmt: skip
    (tmp_path / "region.yaml").write_text(yaml.safe_dump(region))
    return tmp_path


def test_the_page_has_the_figures_of_the_json_and_needs_nothing(place):
    result = finetune("region.yaml", "model.safetensors", FinetuneOptions(report="report.html"))
    assert place.joinpath("report.html") in [p.absolute() for p in result.files]
    page = Page(place / "report.html")
    report = json.loads((place / "model_metrics.json").read_text())
    assert page.fetched == []
    assert page.scripts == []
    assert page.policy.startswith("default-src 'none'; script-src 'none'")
    assert EVIL in page.text
    for record in report["history"]:
        assert f"{record['loss']:.4f}" in page.texts
    for row in report["validation"]["matrix"]["counts"]:
        for count in row:
            assert any(t.strip().startswith(f"{count:,}") for t in page.texts)
    after = report["validation"]["calibration"]["parts"][0]["after"]
    assert f"{100 * after['expected_calibration_error']:.1f} %" in page.text
    drawn = [v for t, v in page.tags if v.get("class", "").startswith("split-shape")]
    roles = [v["class"].split("split-")[-1] for v in drawn]
    assert roles.count("train") == report["data"]["blocks"]["train"]
    assert roles.count("val") == report["data"]["blocks"]["val"]
    tiles = [v["alt"] for t, v in page.tags if t == "img"]
    assert tiles[:3] == ["Scene of tile 1", "Label of tile 1", "Map of tile 1"]
    assert "labelled pixels are wrong, mostly" in page.text


def test_a_page_in_the_way_stops_before_training(place):
    (place / "report.html").write_text("mine")
    events = []
    with pytest.raises(UsageError, match=r"report\.html: exists already"):
        finetune(
            "region.yaml", "model.safetensors", FinetuneOptions(report="report.html"), events.append
        )
    assert not [e for e in events if e["event"] == "start"]
    with pytest.raises(UsageError, match="is an input of this training too"):
        finetune(
            "region.yaml",
            "model.safetensors",
            FinetuneOptions(report="a_labels.tif", overwrite=True),
        )
    assert (place / "report.html").read_text() == "mine"
