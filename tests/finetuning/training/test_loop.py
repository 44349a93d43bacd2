import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paths import SUPPORT
from training_doubles import (
    CLASSES,
    SETS,
    TILE,
    Failing,
    FixedTiles,
    MadeUpTiles,
    cpu,
    made_up_data,
    micro_model,
    run_with_checkpoint,
)

from cwsam_geo.core.metrics import Scores, confusion_matrix
from cwsam_geo.errors import CwsamGeoError, ModelError, SceneError, UsageError
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.targets.losses import SegmentationLoss, upsampled
from cwsam_geo.finetuning.training import batches, loop
from cwsam_geo.finetuning.training.batches import (
    EpochBatches,
    ProcessShare,
    TileBatches,
    batch_loader,
)
from cwsam_geo.finetuning.training.loop import Trainer, validation_matrix
from cwsam_geo.finetuning.training.state import RunState, load_checkpoint, save_checkpoint
from cwsam_geo.finetuning.training.step import kernels, learning_rate, make_optimizer, saved_names
from cwsam_geo.finetuning.training.weight_mean import WeightMean
from cwsam_geo.model.fast.cwsam import accelerate

QUICK = Recipe(epochs=2, lr=1e-3, scope="full")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(recipe=QUICK, data=None, place=None, state=None, model=None):
    events = []
    model = model or micro_model(scope=recipe.scope)
    trainer = Trainer(model, recipe, data or made_up_data(), place or cpu(), events.append)
    return trainer.run(state or RunState(2)), events


def assert_same(one, two):
    assert set(one) == set(two)
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_loss_falls_and_the_classes_are_learned():
    recipe = replace(QUICK, epochs=8, lr=4e-3)
    state, _ = train(recipe, made_up_data(training=16))
    assert state.history[-1].loss < 0.6 * state.history[0].loss
    assert state.best.miou > 0.5


@pytest.mark.parametrize("scope", ["adapters", "full"])
def test_gradients_reach_every_trained_tensor_and_no_other(scope):
    model = micro_model(scope=scope)
    # Zero layers of fresh adapters let no gradient through to those before them.
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    images, labels = torch.randn(2, 3, TILE, TILE), torch.randint(1, 4, (2, TILE, TILE))
    SegmentationLoss("ce+dice", SETS, [1.0] * CLASSES)(model(images), labels).backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = set(model.trainable_parameters())
    assert reached == (wanted if scope == "adapters" else {n for n, _ in model.named_parameters()})


def test_adapters_alone_are_trained_and_kept():
    model = micro_model(scope="adapters")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state, _ = train(replace(QUICK, scope="adapters"), model=model)
    trained = set(model.trainable_parameters())
    assert set(state.best.tensors) == set(state.tensors) == trained
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed <= trained
    assert {n for n in changed if "adapter" in n}
    assert {n for n in changed if n.startswith("decoder.")}


def test_a_scope_that_the_model_does_not_follow_is_refused():
    with pytest.raises(AssertionError, match="other parameters"):
        saved_names(micro_model(), replace(QUICK, scope="adapters"))


@pytest.mark.parametrize("option", [{}, {"loss": "focal+dice+lovasz"}, {"accumulate": 2}])
def test_batches_without_labels_change_nothing_but_by_decay(option):
    recipe = replace(QUICK, weight_decay=0.0, **option)
    model = micro_model()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state, _ = train(recipe, made_up_data(labelled=False), model=model)
    assert [r.loss for r in state.history] == [0, 0]
    assert_same(before, state.tensors)


def test_validation_without_labels_is_one_clear_error():
    data = replace(made_up_data(), validation=MadeUpTiles(2, labelled=False))
    with pytest.raises(UsageError, match="validation area has no pixel"):
        train(data=data)


def test_a_loss_that_is_no_number_stops_the_run():
    model = micro_model()
    model.encoder.pos_embed.data.fill_(math.nan)
    with pytest.raises(ModelError, match=r"epoch 1, step 1: the loss is nan; lower --lr"):
        train(model=model)


def test_memory_that_runs_out_is_told_with_the_batch(monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    model = micro_model()
    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(MemoryError, match="2 tiles at once"):
        train(model=model)


@pytest.mark.parametrize("option", [{"checkpointing": True}, {"workers": 1}])
def test_checkpointing_and_workers_change_nothing_in_the_result(option):
    plain, _ = train()
    workers = option.pop("workers", 0)
    other, _ = train(replace(QUICK, **option), place=cpu(workers=workers))
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(other.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_accumulated_batches_are_one_large_batch():
    one, _ = train(state=RunState(4))
    two, _ = train(replace(QUICK, accumulate=2), state=RunState(2))
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-3, atol=1e-4)


def test_bf16_trains_too_and_fp16_needs_a_gpu():
    state, _ = train(place=cpu(precision="bf16"))
    assert {t.dtype for t in state.tensors.values()} == {torch.float32}
    with pytest.raises(UsageError, match="fp16"):
        train(place=cpu(precision="fp16"))


def test_the_best_epoch_is_kept_and_patience_ends_the_run():
    # A rate that destroys what it learned: later epochs are not better.
    recipe = Recipe(epochs=30, lr=0.5, lr_end=0.5, scope="full", patience=3, clip_norm=0)
    state, events = train(recipe)
    mious = [r.miou for r in state.history]
    assert state.best.miou == max(mious) == mious[state.best.epoch - 1]
    assert state.epochs_done == state.best.epoch + 3 < 30
    told = [e for e in events if e["event"] == "epoch"]
    assert [e["epoch"] for e in told if e["best"]][-1] == state.best.epoch
    model = micro_model()
    model.load_state_dict(state.best.tensors)
    tiles = batch_loader(made_up_data().validation, TileBatches(4, 3, ProcessShare()), 0)
    fast = accelerate(model.eval(), "fp32")
    matrix = validation_matrix(fast, tiles, SETS, torch.device("cpu"), "fp32")
    assert (matrix == state.best.matrix).all()
    assert Scores.of(matrix).miou == state.best.miou


def test_the_fast_network_validates_with_the_scores_of_the_trained_one(monkeypatch):
    recipe = replace(QUICK, epochs=4, lr=4e-3, seed=3)
    data = made_up_data(training=16, validation=16)
    used = []
    monkeypatch.setattr(loop, "accelerate", lambda *how: used.append(how[1]) or accelerate(*how))
    fast, _ = train(recipe, data)
    assert used == ["fp32"] * 4
    monkeypatch.setattr(loop, "has_fast_network", lambda device: False)
    plain, _ = train(recipe, data)
    assert used == ["fp32"] * 4
    assert [r.loss for r in fast.history] == [r.loss for r in plain.history]
    assert_same(fast.tensors, plain.tensors)
    curves = [[r.miou for r in state.history] for state in (fast, plain)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    assert len({round(miou, 3) for miou in curves[0]}) > 2  # there is something to compare


def test_the_time_of_the_run_is_estimated_within_ten_steps_and_after_every_epoch():
    recipe = replace(QUICK, epochs=6)
    _, events = train(recipe, made_up_data(training=4))
    kinds = [e["event"] for e in events]
    assert kinds.count("estimate") == 1
    assert kinds[: kinds.index("estimate")].count("progress") <= 10
    estimate = events[kinds.index("estimate")]
    assert estimate["seconds_left"] > 0
    assert estimate["step_seconds"] > 0
    left = [e["seconds_left"] for e in events if e["event"] == "epoch"]
    assert left[-1] == 0
    assert all(seconds > 0 for seconds in left[:-1])


def test_the_last_epoch_is_kept_where_the_recipe_says_so(monkeypatch):
    """The validation is made up: the second epoch is the best, whatever the training does."""
    # Of 100 pixels of each class, so many are right, and the others have the next class.
    made_up = [
        r * np.eye(CLASSES, dtype=int) + (100 - r) * np.roll(np.eye(CLASSES, dtype=int), 1, 1)
        for r in (50, 90, 40)
    ]
    matrices = iter(made_up)
    monkeypatch.setattr(Trainer, "_matrix", lambda self, tiles: next(matrices))
    recipe = Recipe(epochs=3, lr=1e-3, scope="full", keep="last")
    state, told = train(recipe)
    mious = [r.miou for r in state.history]
    assert mious == [Scores.of(matrix).miou for matrix in made_up]
    assert state.best.epoch == 3
    assert state.best.miou == mious[-1] < max(mious)
    # What it says is best is, kept or not.
    assert [e["best"] for e in told if e["event"] == "epoch"] == [True, True, False]
    for name, tensor in state.best.tensors.items():
        assert torch.equal(tensor, state.tensors[name])


def test_the_running_mean_of_the_weights_is_validated_and_kept():
    recipe = replace(QUICK, average=0.9, keep="last", epochs=2)
    state, events = train(recipe)
    plain, _ = train(replace(recipe, average=0.0))
    # The mean changes nothing in the training itself.
    assert_same(state.tensors, plain.tensors)
    assert [e["loss"] for e in events if e["event"] == "epoch"] == [r.loss for r in plain.history]
    assert any(not torch.equal(t, state.tensors[n]) for n, t in state.best.tensors.items())
    model = micro_model()
    model.load_state_dict(state.best.tensors)
    tiles = batch_loader(made_up_data().validation, TileBatches(4, 3, ProcessShare()), 0)
    matrix = validation_matrix(model, tiles, SETS, torch.device("cpu"), "fp32")
    assert (matrix == state.best.matrix).all()


def test_the_running_mean_is_that_of_the_definition():
    model, values = torch.nn.Linear(1, 1, bias=False), [3.0, 5.0, -1.0, 2.0]
    with torch.no_grad():
        model.weight.fill_(9.0)
    mean, expected = WeightMean(model, 0.25), 9.0
    for n, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        mean.update(model)
        decay = min(0.25, (n + 1) / (n + 10))
        expected = decay * expected + (1 - decay) * value
    with mean.shown(model):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == values[-1]


def test_validation_counts_pixels_at_full_resolution_and_partial_labels_where_they_are_wrong():
    sets = np.vstack([SETS, [[True, True, False]]])
    random = np.random.default_rng(0)
    tiles = [random.integers(0, 5, (2, TILE, TILE)) for _ in range(2)]
    images = [torch.randn(2, 3, TILE, TILE) for _ in tiles]
    model = micro_model().eval()
    batches = [(i, torch.from_numpy(t)) for i, t in zip(images, tiles, strict=True)]
    found = validation_matrix(model, batches, sets, torch.device("cpu"), "fp32")
    with torch.no_grad():
        fine = upsampled(model(torch.cat(images)), (TILE, TILE))
    mapped, either = fine.argmax(1).numpy(), fine[:, :2].argmax(1).numpy()
    labels = np.concatenate(tiles)
    expected = confusion_matrix(labels - 1, mapped, CLASSES, (labels > 0) & (labels < 4))
    # Row 4 is class 0 or 1: class 2 is wrong for certain there, and only that counts.
    wrong = (labels == 4) & (mapped == 2)
    assert wrong.any()
    expected += confusion_matrix(either, mapped, CLASSES, wrong)
    assert (found == expected).all()


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_weights(tmp_path):
    whole = run_with_checkpoint(tmp_path / "whole.pt")
    stopped = tmp_path / "stopped.pt"
    code = [sys.executable, str(SUPPORT / "training_doubles.py")]
    done = subprocess.run([*code, str(stopped), "3"], env=ONE_THREAD)
    assert done.returncode == -9
    assert load_checkpoint(stopped, {"seed": 3}).epochs_done == 2
    resumed = run_with_checkpoint(stopped)
    assert_same(whole.tensors, resumed.tensors)
    assert_same(whole.best.tensors, resumed.best.tensors)
    without_time = [[replace(r, seconds=0) for r in s.history] for s in (whole, resumed)]
    assert without_time[0] == without_time[1]
    assert whole.best.miou == resumed.best.miou


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    pytest.importorskip("lightning_fabric")
    one = run_with_checkpoint(tmp_path / "one.pt", batch_size=4)
    script = str(SUPPORT / "training_doubles.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", script, str(tmp_path / "two.pt"), "together"]
    subprocess.run(command, env=ONE_THREAD, check=True)
    two = load_checkpoint(tmp_path / "two.pt", {"seed": 3})
    assert two.epochs_done == 4
    assert (two.best.matrix.sum(), two.batch_size) == (one.best.matrix.sum(), 2)
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-2, atol=1e-3)


def test_resuming_a_run_that_is_done_does_nothing(tmp_path):
    run_with_checkpoint(tmp_path / "c.pt")
    again = run_with_checkpoint(tmp_path / "c.pt")
    assert again.epochs_done == 4


def test_checkpoints_of_other_settings_and_damaged_ones_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    state, _ = train(place=cpu(checkpoint=path, settings={"lr": 1.0, "seed": 1}))
    assert load_checkpoint(path, {"lr": 1.0, "seed": 1}).epochs_done == state.epochs_done
    with pytest.raises(UsageError, match=r"other settings: lr \(1.0, now 2.0\)"):
        load_checkpoint(path, {"lr": 2.0, "seed": 1})
    older = r"c\.pt: an older version wrote it without precision.*start anew with --overwrite"
    with pytest.raises(UsageError, match=older):
        load_checkpoint(path, {"lr": 1.0, "seed": 1, "precision": "fp32", "ignore": None})
    mixed = r"lr \(1.0, now 2.0\), precision \(not recorded, now \"fp32\"\)"
    with pytest.raises(UsageError, match=mixed):
        load_checkpoint(path, {"lr": 2.0, "seed": 1, "precision": "fp32"})
    with pytest.raises(UsageError, match="no checkpoint to resume"):
        load_checkpoint(tmp_path / "none.pt", {})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        load_checkpoint(path, {"lr": 1.0, "seed": 1})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, RunState(2), {})
    state, _ = train()
    state.tensors = {"encoder.nothing": torch.zeros(1)}
    with pytest.raises(ModelError, match="another model"):
        train(state=state)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 7, 16])
def test_processes_share_an_epoch_without_doubles(world, samples):
    shares = [EpochBatches(samples, 2, 2, ProcessShare(rank, world)) for rank in range(world)]
    for share in shares:
        share.epoch = 5
    batches = [list(share) for share in shares]
    assert len({len(b) for b in batches}) == 1
    assert len(batches[0]) % 2 == 0
    keys = sorted(key for own in batches for batch in own for key in batch)
    assert keys == [(5, i) for i in range(len(keys))]
    assert samples <= len(keys) < samples + 2 * 2 * world


SHM = "unable to allocate shared memory(shm) for file </torch_7_0>: No space left on device (28)"


SHORTAGES = {
    SHM: "--shm-size=2g",
    "unable to open shared memory object </torch_7_0> in read-write mode": "--shm-size=2g",
    "Too many open files. Communication with the workers is no longer possible.": "ulimit -n",
    "received 0 items of ancdata": "ulimit -n",
    "DataLoader worker (pid 7) is killed by signal: Killed. ": "fewer workers",
}


def test_what_workers_run_out_of_is_one_line_with_both_ways_out():
    """One worker meets them all: torch waits five seconds for the end of one that has failed."""
    keys = [[]]
    batches = batch_loader(Failing(*map(RuntimeError, SHORTAGES)), keys, 1)
    for index, (text, advice) in enumerate(SHORTAGES.items()):
        keys[0] = [(0, index)]
        with pytest.raises(CwsamGeoError) as caught:
            next(iter(batches))
        message = str(caught.value)
        assert "\n" not in message, text
        assert advice in message, text
        assert "--workers 0 (in the region file: workers: 0)" in message, text


def test_workers_load_for_gpus_where_shared_memory_has_room(monkeypatch):
    room = {"free": 1 << 40}
    monkeypatch.setattr(batches.shutil, "disk_usage", lambda path: SimpleNamespace(**room))
    monkeypatch.setattr(batches.os, "cpu_count", lambda: 16)
    cpu_device, gpu = torch.device("cpu"), torch.device("cuda")
    assert batches.worker_count(None, cpu_device, 1 << 20) == 0
    assert batches.worker_count(None, gpu, 1 << 20) == 4
    assert batches.worker_count(7, gpu, 1 << 20) == 7
    assert batches.worker_count(0, gpu, 1 << 20) == 0
    room["free"] = 64 << 20  # as in a container: no worker rather than one that is killed
    assert batches.worker_count(None, gpu, 1 << 20) == 0
    assert batches.worker_count(None, gpu, 1 << 16) == 4
    monkeypatch.setattr(batches.os, "cpu_count", lambda: 2)
    assert batches.worker_count(None, gpu, 1 << 16) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_workers_are_those_of_the_sample(workers):
    error = SceneError("scene.tif: cannot be read (line 3); the file is damaged or incomplete")
    batches = batch_loader(Failing(error), TileBatches(4, 2, ProcessShare()), workers)
    with pytest.raises(SceneError) as caught:
        next(iter(batches))
    assert str(caught.value) == str(error)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_validation_tiles_each_once(world):
    shares = [list(TileBatches(7, 2, ProcessShare(rank, world))) for rank in range(world)]
    assert sorted(i for own in shares for b in own for _, i in b) == list(range(7))
    assert max(len(b) for own in shares for b in own) <= 2


def test_samples_become_tensors():
    samples = FixedTiles(3)
    images, labels = next(iter(batch_loader(samples, TileBatches(3, 3, ProcessShare()), 0)))
    assert images.shape == (3, 3, TILE, TILE)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (labels[2].numpy() == samples.sample(0, 2)[1]).all()


def test_the_learning_rate_rises_and_falls_as_published():
    recipe = Recipe(epochs=1)
    rates = [learning_rate(i, 100, recipe) for i in range(100)]
    assert rates[0] == recipe.lr == 2e-4
    assert rates[-1] == pytest.approx(1e-7)
    assert rates == sorted(rates, reverse=True)
    assert rates[33] == pytest.approx(1e-7 + (2e-4 - 1e-7) * 0.75)
    warm = [learning_rate(i, 100, replace(recipe, warmup=0.1)) for i in range(100)]
    assert warm[:11] == sorted(warm[:11])
    assert max(warm) == warm[10] == recipe.lr
    assert learning_rate(0, 1, recipe) == recipe.lr


def test_weight_decay_is_for_kernels_only():
    model = micro_model(scope="adapters")
    optimizer = make_optimizer(model, QUICK)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, others = ([names[id(p)] for p in g["params"]] for g in optimizer.param_groups)
    assert {*decayed, *others} == set(model.trainable_parameters())
    assert "decoder.mask_tokens.weight" in others
    assert "decoder.class_upscaling.3.weight" in decayed
    assert not [n for n in decayed if n.endswith("bias")]
    assert "encoder.pos_embed" not in kernels(model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr_end": 1.0},
        {"warmup": 1.0},
        {"batch_size": 0},
        {"accumulate": 0},
        {"loss": "mse"},
        {"class_weights": "some"},
        {"scope": "head"},
        {"patience": -1},
        {"seed": -1},
        {"average": 1.0},
        {"clip_norm": -1.0},
        {"weight_decay": -0.1},
    ],
    ids=str,
)
def test_recipes_out_of_bounds_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Recipe(**wrong)
