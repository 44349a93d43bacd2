"""Trains ``s1-landcover``'s four classes, leaving sites out in turn, or on everything.

    python experiments/landcover_places.py --output FOLDER folds    # leave sites out, then judge
    python experiments/landcover_places.py --output FOLDER train    # on all sites
    python experiments/landcover_places.py --output FOLDER dunes    # leave out one desert patch

Both go through this package's own ``finetune``. Sites are left out in four groups (``FOLDS`` in
places_data.py): a model of a group has seen none of its sites, no other date and no neighbour. What
is done is kept in FOLDER and not done again with the same recipe, and an interrupted training goes
on from its last epoch, so the command can be stopped and given again. ``--folds a,c`` shares folds
out among processes.

All deserts are one site, so the groups do not tell what a model of some deserts makes of others.
``dunes`` does: it leaves out each desert patch in turn, and the other sites of group a, and judges
the texture head with VV alone.

The last epoch is kept, so the sites left out, which are shown as "validation", choose nothing.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from galileo_start import galileo_bundle, input_spec
from places_data import (
    AMPLITUDE_OFFSET_DB,
    CAP,
    CLASSES,
    FLOOR_DB,
    FOLDS,
    PARTIAL_CAP,
    SHIFT_DB,
    SURE,
    LabelledPlace,
    floods,
    in_folds,
    places,
    shared_data,
    training_scenes,
)
from texture_start import HeadRecipe, fresh_bundle, with_texture

from cwsam_geo import load_model
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.region.region_file import parse_region
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.device import tune_allocator
from cwsam_geo.model.network.architecture import BACKBONES
from cwsam_geo.model.store import find_model

NAME = "s1-landcover"
MEAN, STD = (-11.5, -18.5, 7.0), (5.0, 5.5, 4.0)
INPUT: dict[str, Any] = {
    "bands": ["VV", "VH"],
    "optional": ["VV", "VH"],
    "clip": [[-32, 5], [-40, 0]],
    "mean": list(MEAN),
    "std": list(STD),
}
TRAIN: dict[str, Any] = {
    "scope": "full",
    "epochs": 1,
    "samples": 320,
    "batch_size": 8,
    "keep": "last",
    "lr": 1e-4,
    "warmup": 0.1,
    "weight_decay": 0.05,
    "average": 0.97,
    "tile_size": 128,
    "loss": "ce",
    "class_weights": [1.0, 1.2, 0.8, 1.2],
    "balance": 1.0,
    "augment": ["flip", "rot90", "speckle", "mosaic"],
    "device": "cpu",
    "precision": "fp32",
}
PIXEL_SIZE_M = [[7.86, 10.0], [9.94, 10.0]]
"""Smallest and largest side of the scenes' pixels, along a row and along a column; the training
files have no CRS. The few of Belgium, which have 20 m, are left out."""

LICENCE = (
    "CC BY-SA 4.0, as TerraMesh asks of what is derived from it; of some of the scenes no licence "
    "is stated, or it is unclear: see the card"
)


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    Attributes:
        data: Folder with ``places``, ``sen1floods11`` and ``galileo_nano``.
        folder: Where all that is made is kept.
        start: A backbone, ``galileo`` (with ``patch`` and ``depth``), or the path of a bundle.
        train: What wins over TRAIN.
        patch: Side of a token of ``galileo``, in pixels.
        depth: Blocks of ``galileo``.
        texture: Hidden channels of a texture head (texture_start.py); 0 for none.
        pseudo: A teacher labels what nobody labelled (teacher.py).
        again: Scenes with VV come a second time, in VV alone at another level.
        without: Sites that never take part.
    """

    data: Path
    folder: Path
    start: str
    train: dict[str, Any]
    patch: int = 8
    depth: int = 4
    texture: int = 64
    pseudo: bool = False
    again: bool = False
    without: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the training."""
        return {**TRAIN, **self.train}

    @property
    def said(self) -> dict[str, Any]:
        """All that a result depends on but the scenes."""
        start: list[Any] = [self.start]
        start += [self.patch, self.depth] if self.start == "galileo" else []
        start += [self.texture, asdict(self.head)] if self.texture else []
        data: list[Any] = [CAP, PARTIAL_CAP, AMPLITUDE_OFFSET_DB, *self.without]
        data += [SURE] if self.pseudo else []
        data += [SHIFT_DB, FLOOR_DB] if self.again else []
        return {"train": self.settings, "start": start, "data": data, "input": INPUT}

    @property
    def head(self) -> HeadRecipe:
        """How the texture head learns before the network does."""
        return HeadRecipe(seed=self.train.get("seed", 0))

    def init(self, left_out: tuple[str, ...]) -> str:
        """What ``finetune`` starts from."""
        if self.start != "galileo" and not (self.texture and self.start in BACKBONES):
            return self.start
        size = self.settings["tile_size"]
        said = hashlib.sha256(json.dumps([self.said["start"], size, left_out]).encode())
        path = self.folder / f"start_{said.hexdigest()[:8]}.safetensors"
        if not path.exists():
            bundle = self.fresh(size)
            if self.texture:
                seen = [p for p in self.listed() if p.site not in left_out]
                bundle = with_texture(bundle, seen, self.head)
            bundle.save(path, overwrite=True)  # Another process may have been quicker.
        return str(path.resolve())

    def fresh(self, size: int) -> ModelBundle:
        """Galileo's blocks or random weights, before the texture head has learned."""
        if self.start != "galileo":
            spec = input_spec(size, MEAN, STD)
            return fresh_bundle(BACKBONES[self.start], CLASSES, spec, self.texture)
        encoder = self.data / "galileo_nano" / "encoder.pt"
        sizes = (self.patch, self.depth, size)
        return galileo_bundle(encoder, CLASSES, sizes, MEAN, STD, self.texture)

    def listed(self) -> list[LabelledPlace]:
        """All labelled scenes that take part."""
        listed = places(self.data / "places") + floods(self.data / "sen1floods11")
        return [p for p in listed if p.site not in self.without]

    def scenes(self, left_out: tuple[str, ...]) -> list[dict[str, Any]]:
        """All files with their sites; those of the sites left out have true labels only."""
        listed = self.listed()
        seen = [p for p in listed if p.site not in left_out]
        said = json.dumps([self.said["data"], left_out])
        folder = self.folder / f"scenes-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
        teacher = None
        if self.pseudo:
            # Imported where it is needed: scikit-learn takes a second.
            from teacher import taught

            teacher = taught(seen)
        others = [p for p in listed if p.site in left_out]
        return training_scenes(seen, folder, teacher, self.again) + training_scenes(others, folder)

    def region(self, left_out: tuple[str, ...]) -> RegionConfig:
        """What ``finetune`` is told.

        Args:
            left_out: Sites that are shown as validation only; none: blocks of all sites are.
        """
        listed = []
        for scene in self.scenes(left_out):
            site = scene.pop("site")
            scene.pop("place")
            split = {"split": "val" if site in left_out else "train"} if left_out else {}
            listed.append({**scene, **split})
        content = {
            "classes": CLASSES,
            "scenes": listed,
            "init": self.init(left_out),
            "preprocess": INPUT,
            "train": self.settings,
            "validation": {"block_size_px": 64, "fraction": 0.05},
            "licence": LICENCE,
        }
        where = f"land cover without {', '.join(left_out)}" if left_out else "land cover"
        return parse_region(content, Path.cwd(), where)


def trained(recipe: Recipe, name: str, left_out: tuple[str, ...]) -> Path:
    """The bundle of a fold; it is trained where it is not there with the same recipe."""
    path = recipe.folder / f"{name}.safetensors"
    note = recipe.folder / f"{name}_recipe.json"
    # As it is read again: JSON has no tuples.
    said = json.loads(json.dumps({**recipe.said, "left_out": left_out}))
    known = json.loads(note.read_text())["said"] == said if note.exists() else False
    if known and path.exists():
        return path
    tuned = recipe.folder / "tuned" / path.name
    tuned.parent.mkdir(exist_ok=True)
    resume = known and tuned.with_name(f"{name}_checkpoint.pt").exists()
    note.write_text(json.dumps({"said": said}))
    began, cpu = time.perf_counter(), time.process_time()
    options = FinetuneOptions(overwrite=not resume, resume=resume)
    finetune(recipe.region(left_out), tuned, options, lambda event: _tell(name, event))
    start = ModelBundle.load(find_model(recipe.init(left_out)))
    with_head_of(start, ModelBundle.load(tuned)).save(path, overwrite=True)
    spent = {
        "minutes": (time.perf_counter() - began) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    note.write_text(json.dumps({"said": said, "spent": spent}))
    return path


def with_head_of(start: ModelBundle, tuned: ModelBundle) -> ModelBundle:
    """What ``finetune`` made, with the texture head that it started from, and no temperature.

    Whole tiles of a few places teach the head how these places look: with the head that
    ``finetune`` leaves, other places are mapped worse than before it.
    """
    head = {n: tensor for n, tensor in start.tensors.items() if n.startswith("texture.")}
    # The scores are those of the weights that finetune left, not of these.
    provenance = {k: v for k, v in tuned.provenance.items() if k != "metrics"}
    if head:
        provenance["texture_head"] = "as texture_start.py left it; finetune changed the rest"
    provenance["data"] = {**provenance["data"], "pixel_size_m": PIXEL_SIZE_M}
    # What stands for a missing band is what the head has learned it with.
    preprocess = replace(tuned.preprocess, fill=start.preprocess.fill)
    header = replace(
        tuned.header, preprocess=preprocess, provenance=provenance, temperatures=Temperatures()
    )
    return ModelBundle(header, {**tuned.tensors, **head})


def judge_dunes(recipe: Recipe) -> None:
    """Maps each desert patch, and the floods of group a, in VV alone without having seen them."""
    from judge import How, judge

    size = recipe.settings["tile_size"]
    groups = set(FOLDS["a"]) - {"desert"}
    listed = [p for p in recipe.listed() if p.site not in groups]
    floods_left = [p for p in recipe.listed() if p.site in groups and p.flood]
    for patch in sorted({p.place for p in listed if p.site == "desert"}):
        seen = [p for p in listed if p.place != patch]
        path = recipe.folder / f"without_{patch}.safetensors"
        with_texture(recipe.fresh(size), seen, recipe.head).save(path, overwrite=True)
        model = load_model(path, network="fast")
        judged = [p for p in listed if p.place == patch] + floods_left
        how = How(temperature=1.0, baselines=False, modes=("vv",))
        found = judge(judged, lambda _, m=model: m, recipe.folder / patch, how)["modes"]["vv"]
        water = found["floods"]["model"]["classes"]["water"]["iou"]
        click.echo(
            f"{patch}: {found['desert']['model']:.1%} mapped as water; floods' water {water:.1%}"
        )


def _tell(name: str, event: Any) -> None:
    kind = event["event"]
    if kind == "epoch":
        iou = [None if v is None else round(v, 3) for v in event["iou"]]
        click.echo(
            f"{name} epoch {event['epoch']}: loss {event['loss']:.3f}, left out {iou}, "
            f"{event['seconds']:.0f} s"
        )
    elif kind == "warning" and "far from the model's training data" not in event["text"]:
        click.echo(f"{name}: {event['text']}", err=True)


@click.command()
@click.argument("what", type=click.Choice(["folds", "train", "dunes"]))
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for models.")
@click.option("--start", default="tiny", show_default=True, help="tiny, small, galileo or PATH.")
@click.option("--patch", default=8, show_default=True, help="Pixels of a token of galileo.")
@click.option("--depth", default=4, show_default=True, help="Blocks of galileo.")
@click.option("--texture", default=64, show_default=True, help="Channels of its texture head.")
@click.option("--folds", "which", default="all", show_default=True, help="Such as a,c.")
@click.option("--threads", default=1, show_default=True)
@click.option("--train", "settings", default="{}", help="JSON that wins over the recipe.")
@click.option("--pseudo", is_flag=True, help="A teacher labels the other pixels.")
@click.option("--again", is_flag=True, help="Scenes again in VV alone, darker or brighter.")
@click.option("--without", multiple=True, help="A site that never takes part; repeatable.")
@click.option("--windows", is_flag=True, help="Judge one window of large scenes, for speed.")
@click.option("--judge/--no-judge", default=True, help="Judge the folds when all are there.")
def main(what: str, output: Path, threads: int, which: str, judge: bool, **given: Any) -> None:
    """Trains a model without some sites in turn and judges it there, or on all of them."""
    torch.set_num_threads(threads)
    tune_allocator()
    output.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        given["data"],
        output,
        given["start"],
        json.loads(given["settings"]),
        given["patch"],
        given["depth"],
        given["texture"],
        given["pseudo"],
        given["again"],
        tuple(given["without"]),
    )
    if what == "train":
        click.echo(trained(recipe, NAME, ()))
        return
    if what == "dunes":
        judge_dunes(recipe)
        return
    for fold in in_folds(which):
        click.echo(trained(recipe, f"fold_{fold}", FOLDS[fold]))
    if judge and all((output / f"fold_{fold}.safetensors").exists() for fold in FOLDS):
        from judge import How, judge_folds

        # Without the bundles' temperatures, which finetune fitted on the sites that are judged.
        how = How(temperature=1.0, windows=given["windows"], cache=output / "forests")
        bundles = {f: output / f"fold_{f}.safetensors" for f in FOLDS}
        judge_folds(recipe.data, bundles, output / "judged", how)


if __name__ == "__main__":
    main()
