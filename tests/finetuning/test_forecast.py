from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training_doubles import CLASSES, TILE, cpu, made_up_data, micro_model

from cwsam_geo.finetuning import forecast
from cwsam_geo.finetuning.forecast import Forecast
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.training.estimate import RunSize
from cwsam_geo.finetuning.training.loop import Trainer
from cwsam_geo.model.bundles.tensors import tensors_sha256
from cwsam_geo.model.network.architecture import Architecture, Backbone
from cwsam_geo.model.network.cwsam import Cwsam

SIZE = RunSize(epochs=50, steps=32, step_tiles=2, validation_tiles=20)
WIDER = Backbone(
    "custom", dim=256, depth=2, heads=2, global_blocks=(1,), patch_size=8, window=2,
    decoder_dim=16, decoder_mlp_dim=32, tile_size=32,
)  # fmt: skip


def announced(model, recipe, size=SIZE, epochs_done=0):
    """The events of a forecast."""
    events = []
    stepper = Trainer(model, recipe, made_up_data(), cpu()).stepper
    config = SimpleNamespace(recipe=recipe)
    Forecast(config, stepper, size, epochs_done).announce(events.append)
    return events


def test_a_short_run_is_estimated_without_a_warning_and_nothing_changes():
    model = micro_model()
    before, state = tensors_sha256(model.state_dict()), torch.get_rng_state()
    (event,) = announced(model, Recipe(scope="full"))
    assert event["event"] == "estimate"
    assert 0 < event["seconds_left"] < forecast.LONG
    assert event["step_seconds"] > 0
    assert tensors_sha256(model.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_a_long_run_is_warned_of_with_what_would_shorten_it(monkeypatch):
    """Two minutes a tile; the small network, not a blank one, takes six seconds."""

    def seconds(attempt, device):
        attempt(1)
        return 6.0 if attempt.__self__.model.architecture.backbone.name == "small" else 120.0

    monkeypatch.setattr(forecast, "trial_seconds", seconds)
    model = Cwsam(Architecture(WIDER, CLASSES, TILE))
    state = torch.get_rng_state()
    estimate, warning = announced(model, Recipe(scope="full", patience=5))
    assert torch.equal(torch.get_rng_state(), state)
    # 50 epochs of 32 x 2 training tiles and 20 validation tiles, which cost 0.3 of one.
    assert estimate["seconds_left"] == pytest.approx(50 * (64 + 0.3 * 20) * 120)
    text = warning["text"]
    assert warning["event"] == "warning"
    assert "\n" not in text
    assert "at most about 4 d 21 h: 50 epochs of 32 steps, 4 min each" in text
    assert "--epochs 1 (about 2 h 20 min)" in text
    assert "--init small --scope full (about 5 h 50 min)" in text
    assert "a machine with a GPU" in text
    assert "--resume" in text


def test_what_does_not_apply_is_not_proposed(monkeypatch):
    def seconds(attempt, device):
        return 1000.0 if model.encoder.checkpointing else 700.0

    monkeypatch.setattr(forecast, "trial_seconds", seconds)
    model = micro_model()  # smaller than the one that would be proposed
    recipe = Recipe(scope="full", checkpointing=True)
    _, warning = announced(model, recipe, replace(SIZE, epochs=2), epochs_done=1)
    assert model.encoder.checkpointing
    assert "1 epoch of 32 steps" in warning["text"]
    assert "--init" not in warning["text"]
    assert "--epochs" not in warning["text"]
    assert "checkpointing: false in train:" in warning["text"]
