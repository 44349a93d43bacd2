"""Training of the land-cover model: what is trained is kept, and the head stays as it was."""

import sys
from pathlib import Path

import pytest
import torch

from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.network.architecture import BACKBONES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import landcover_places  # noqa: E402
from galileo_start import input_spec  # noqa: E402
from landcover_places import CLASSES, MEAN, STD, Recipe, fresh_bundle, trained  # noqa: E402


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """How often ``finetune`` has run; here it adds 1 to every weight."""
    start = tmp_path / "start.safetensors"
    spec = input_spec(64, MEAN, STD)
    bundle = fresh_bundle(BACKBONES["tiny"], CLASSES, spec, 8)
    bundle.save(start)
    runs = []

    def finetune(region, path, options, listen):
        runs.append(path)
        tensors = {n: tensor + 1 for n, tensor in bundle.tensors.items()}
        provenance = {**bundle.provenance, "data": {}, "metrics": {"miou": 1.0}}
        header = landcover_places.replace(bundle.header, provenance=provenance)
        ModelBundle(header, tensors).save(path, overwrite=True)

    monkeypatch.setattr(landcover_places, "finetune", finetune)
    monkeypatch.setattr(Recipe, "init", lambda self, left_out: str(start))
    monkeypatch.setattr(Recipe, "region", lambda self, left_out: None)
    return runs


def test_a_fold_is_trained_once_with_the_same_recipe(tmp_path, trainings):
    for _ in range(2):
        trained(Recipe(tmp_path, tmp_path, "tiny", {"seed": 0}), "fold_a", ("slovakia",))
    assert len(trainings) == 1
    trained(Recipe(tmp_path, tmp_path, "tiny", {"seed": 1}), "fold_a", ("slovakia",))
    assert len(trainings) == 2


def test_the_head_is_that_of_the_start_and_all_else_that_of_finetune(tmp_path, trainings):
    path = trained(Recipe(tmp_path, tmp_path, "tiny", {}), "fold_a", ("slovakia",))
    start = ModelBundle.load(tmp_path / "start.safetensors")
    found = ModelBundle.load(path)
    assert "metrics" not in found.provenance
    for name, tensor in found.tensors.items():
        change = 0 if name.startswith("texture.") else 1
        torch.testing.assert_close(tensor, start.tensors[name] + change)
