"""A micro model and made-up labelled tiles, for tests of training."""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from cwsam_geo.core.legend import Legend
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.training.loop import ComputeSettings, Trainer, TrainingData
from cwsam_geo.finetuning.training.processes import OneProcess
from cwsam_geo.finetuning.training.state import RunState, load_checkpoint
from cwsam_geo.model.network.architecture import Architecture, Backbone
from cwsam_geo.model.network.cwsam import Cwsam

MICRO = Backbone(
    "custom",
    dim=32,
    depth=2,
    heads=2,
    global_blocks=(1,),
    patch_size=8,
    window=3,
    decoder_dim=16,
    decoder_mlp_dim=32,
    tile_size=32,
)
TILE = 32
CLASSES = 3
SETS = np.vstack([np.zeros((1, CLASSES), bool), np.eye(CLASSES, dtype=bool)])
LEGEND = Legend.from_list(
    [{"code": i, "name": f"class {i}", "color": [40 * i, 80, 200]} for i in range(1, CLASSES + 1)]
)


class MadeUpTiles:
    """Tiles whose classes are levels of brightness, in squares of 8 px."""

    def __init__(self, count, seed=0, labelled=True):
        self.count, self.seed, self.labelled = count, seed, labelled

    def __len__(self):
        return self.count

    def sample(self, epoch, index):
        random = np.random.default_rng([self.seed, epoch, index])
        classes = np.kron(random.integers(0, CLASSES, (4, 4)), np.ones((8, 8), int))
        image = random.normal(classes - 1.0, 0.3, (3, TILE, TILE)).astype(np.float32)
        return image, ((classes + 1) * self.labelled).astype(np.uint16)


class FixedTiles(MadeUpTiles):
    """The same in every epoch."""

    def sample(self, epoch, index):
        return super().sample(0, index)


class Failing(FixedTiles):
    """Tiles of which none can be had."""

    def __init__(self, *errors):
        super().__init__(4)
        self.errors = errors

    def sample(self, epoch, index):
        raise self.errors[index % len(self.errors)]


def micro_model(seed=0, scope="full"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Cwsam(Architecture(MICRO, CLASSES, TILE))
    if scope == "adapters":
        model.freeze()
    return model


def made_up_data(training=8, validation=4, labelled=True):
    return TrainingData(
        training=MadeUpTiles(training, 1, labelled),
        validation=FixedTiles(validation, 2),
        sets=SETS,
        ignore=(),
        class_weights=(1.0,) * CLASSES,
    )


def cpu(**kwargs):
    return ComputeSettings(OneProcess(torch.device("cpu")), **kwargs)


def run_with_checkpoint(path, die_in_epoch=None, batch_size=2, processes=None):
    """Trains a fixed run; kills its own process in the middle of an epoch where asked to."""
    recipe = Recipe(epochs=4, lr=1e-3, scope="full", warmup=0.2, average=0.9, seed=3)
    settings = {"seed": 3}

    def on_event(event):
        if event["event"] == "progress" and (event["epoch"], event["step"]) == (die_in_epoch, 2):
            os.kill(os.getpid(), 9)

    state = load_checkpoint(path, settings) if path.exists() else RunState(batch_size)
    processes = processes or OneProcess(torch.device("cpu"))
    place = ComputeSettings(processes, checkpoint=path, settings=settings)
    return Trainer(micro_model(), recipe, made_up_data(), place, on_event).run(state)


if __name__ == "__main__":
    from cwsam_geo.finetuning.training.processes import join_processes

    torch.set_num_threads(1)
    if sys.argv[2] == "together":
        run_with_checkpoint(Path(sys.argv[1]), processes=join_processes("cpu"))
    else:
        run_with_checkpoint(Path(sys.argv[1]), int(sys.argv[2]))
