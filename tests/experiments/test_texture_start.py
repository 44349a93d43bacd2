"""A texture head's start: which logits it learns from, and that it learns from them."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.model.network.architecture import BACKBONES
from cwsam_geo.model.network.texture import local_statistics

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import texture_start  # noqa: E402
from galileo_start import input_spec  # noqa: E402
from places_data import CLASSES, LabelledPlace  # noqa: E402

MEAN, STD = (-11.5, -18.5, 7.0), (5.0, 5.5, 4.0)
SIZE = 64
SPEC = input_spec(SIZE, MEAN, STD)


@pytest.fixture
def scenes(tmp_path):
    """Three sites of dark water beside bright land; of the flood only water or not is known."""
    found = []
    for number, site in enumerate(("here", "there", "flood_somewhere")):
        rng = np.random.default_rng(number)
        codes = np.ones((SIZE, SIZE), np.uint8)
        codes[:, 32:] = 0 if site.startswith("flood") else 3
        level = np.where(np.arange(SIZE) < 32, -22.0, -12.0)
        values = np.stack([level + rng.normal(0, 1.5, (SIZE, SIZE)) - 7 * band for band in (0, 1)])
        scene, labels = tmp_path / f"s1_{site}.tif", tmp_path / f"label4_{site}.tif"
        for path, array in ((scene, values.astype(np.float32)), (labels, codes[None])):
            profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "dtype": array.dtype}
            with rasterio.open(path, "w", count=len(array), **profile) as file:
                file.write(array)
                if len(array) == 2:
                    file.descriptions = ("VV", "VH")
        found.append(LabelledPlace(site, site, scene, labels, site.startswith("flood")))
    return found


def chances(scenes, deserts=1.0, **recipe):
    """How often each kind of label is drawn, and each site's share of water."""
    recipe = texture_start.HeadRecipe(**recipe)
    seen = texture_start.drawn(scenes, 2, SPEC, "both", recipe, deserts)
    by_label, water = {}, []
    for allowed, chance in zip(seen.allowed.round().int().tolist(), seen.chance, strict=True):
        by_label[tuple(allowed)] = by_label.get(tuple(allowed), 0) + chance
        water += [chance] if allowed == [1, 0, 0, 0] else []
    shares = np.array(water).reshape(-1, texture_start.PIXELS).sum(1)
    return by_label, shares / shares.sum()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_classes_are_drawn_by_the_number_of_their_sites(scenes, monkeypatch):
    monkeypatch.setattr(texture_start, "PIXELS", 100)
    # Two sites of two classes, and a flood of water and "not water".
    water, open_land, land = (1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 1, 1)
    found, _ = chances(scenes, site_power=0.0)
    assert found == pytest.approx({water: 1 / 3, open_land: 1 / 3, land: 1 / 3})
    found, _ = chances(scenes, site_power=1.0)
    assert found == pytest.approx({water: 3 / 6, open_land: 2 / 6, land: 1 / 6})


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_sites_are_drawn_equally_but_deserts_more_often(scenes, monkeypatch):
    monkeypatch.setattr(texture_start, "PIXELS", 100)
    np.testing.assert_allclose(chances(scenes)[1], 1 / 3)
    sand = dataclasses.replace(scenes[1], site="desert")
    found = chances([scenes[0], sand, scenes[2]], deserts=3.0)[1]
    np.testing.assert_allclose(found, [1 / 5, 3 / 5, 1 / 5])


def test_a_gain_changes_levels_as_a_brighter_scene_does():
    rng = np.random.default_rng(0)
    values = rng.normal(-15, 2, (2, SIZE, SIZE)).astype(np.float32)
    valid, bands = np.ones((SIZE, SIZE), bool), {"both": (0, 1), "vv": (0, None), "vh": (None, 0)}
    for mode, places in bands.items():
        own = values[[i for i, place in enumerate(places) if place is not None]]
        one, two = (
            local_statistics(
                torch.from_numpy(SPEC.apply(v, valid, SceneBands("db", places)))[None], 2
            )
            for v in (own, own + 1)
        )
        gain = texture_start._gain(2, SPEC, mode)
        torch.testing.assert_close(
            two - one, gain[None, :, None, None].expand_as(one), atol=1e-3, rtol=1e-3
        )


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_the_head_has_learned_and_the_masks_add_nothing_yet(scenes):
    bundle = texture_start.fresh_bundle(BACKBONES["tiny"], CLASSES, SPEC, 16)
    recipe = texture_start.HeadRecipe(steps=60, batch=128, sand_steps=40)
    model = texture_start.with_texture(bundle, scenes, recipe).build()
    with rasterio.open(scenes[0].scene) as file:
        image = SPEC.apply(file.read(), np.ones((SIZE, SIZE), bool), SceneBands("db", (0, 1)))
    images = torch.from_numpy(image)[None]
    with torch.inference_mode():
        logits = model(images)
        torch.testing.assert_close(logits, model.texture(images))
        found = logits.argmax(1)[0]
    assert (found[:, :8] == 0).float().mean() > 0.95
    assert (found[:, 24:] == 2).float().mean() > 0.95


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_learning_sand_hardly_moves_the_answers_to_both_bands(scenes):
    sand = dataclasses.replace(scenes[1], site="desert")
    listed = [scenes[0], sand, scenes[2]]
    bundle = texture_start.fresh_bundle(BACKBONES["tiny"], CLASSES, SPEC, 16)
    with rasterio.open(scenes[0].scene) as file:
        image = SPEC.apply(file.read(), np.ones((SIZE, SIZE), bool), SceneBands("db", (0, 1)))

    def answers(**more):
        # So few steps that the head is not sure yet, and the second stage has much to change.
        recipe = texture_start.HeadRecipe(steps=20, batch=128, sand_rate=1e-2, **more)
        model = texture_start.with_texture(bundle, listed, recipe).build()
        with torch.inference_mode():
            return model(torch.from_numpy(image)[None]).log_softmax(1)

    before = answers(sand_steps=0)
    pinned, free = (
        (answers(sand_steps=60, pin=pin) - before).abs().mean().item() for pin in (30.0, 0.0)
    )
    assert 0 < pinned < free / 3
