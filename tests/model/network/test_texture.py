"""The texture head: its statistics against their definitions, and bundles with and without it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from doubles import legend
from models import MICRO, random_bundle

from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import ModelError
from cwsam_geo.finetuning.start import find_start
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.network import texture
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.network.texture import STATISTICS, local_statistics

STRIDE, SIZE = 2, 64


def some_images(batch=2, seed=0):
    return torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def by_name(images):
    """Statistics by kind and window, each (B, C, h, w)."""
    parts = local_statistics(images, STRIDE).split(images.shape[1], 1)
    names = [(kind, size) for size in texture.WINDOWS for kind in ("level", "deviation")]
    names += [("structure", size) for size in texture.STRUCTURE_WINDOWS]
    names += [("bright", 0), ("dark", 0)]
    assert len(parts) == len(names) == STATISTICS
    return dict(zip(names, parts, strict=True))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 31), (16, 10)])
def test_levels_and_deviations_are_those_of_the_pixels_in_the_window(row, column):
    images = some_images()
    found = by_name(images)
    for size in texture.WINDOWS:
        half = size // 2
        rows = slice(max(row - half, 0) * STRIDE, (row + half + 1) * STRIDE)
        columns = slice(max(column - half, 0) * STRIDE, (column + half + 1) * STRIDE)
        part = images[1, 2, rows, columns].numpy().astype(np.float64)
        level, deviation = (found[kind, size][1, 2, row, column] for kind in ("level", "deviation"))
        np.testing.assert_allclose(level, part.mean(), atol=1e-5)
        np.testing.assert_allclose(deviation, part.std(), atol=1e-4)


def test_another_level_of_the_whole_tile_changes_levels_and_no_texture():
    images = some_images()
    before, after = by_name(images), by_name(images + 1.5)
    for (kind, size), values in before.items():
        expected = values + 1.5 if kind == "level" else values
        torch.testing.assert_close(after[kind, size], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_statistics_and_head_turn_with_the_tile():
    model = head_model()
    images = some_images()
    for turn in (lambda t: t.flip(-1), lambda t: torch.rot90(t, 1, (-2, -1))):
        torch.testing.assert_close(
            model.texture(turn(images)), turn(model.texture(images)), atol=1e-4, rtol=1e-4
        )


def test_flat_images_have_no_texture_and_finite_gradients():
    model = head_model()
    images = torch.zeros(1, 3, SIZE, SIZE, requires_grad=True)
    model.texture(images).sum().backward()
    assert torch.isfinite(images.grad).all()
    deviations = by_name(images.detach())["deviation", 15]
    assert float(deviations.max()) < 2e-3


def named(*names):
    return Legend.from_list(
        [{"code": i, "name": n, "color": f"#{i}{i}ff{i}{i}"} for i, n in enumerate(names)]
    )


def head_bundle(names=("water", "land")):
    return random_bundle(named(*names), texture_dim=8)


def head_model():
    return head_bundle().build()


@torch.inference_mode()
def test_the_head_adds_to_the_class_masks_and_is_trained_with_them():
    model = head_model()
    plain = Cwsam(dataclasses.replace(model.architecture, texture_dim=0)).eval()
    state = {n: t for n, t in model.state_dict().items() if not n.startswith("texture.")}
    plain.load_state_dict(state)
    images = some_images()
    torch.testing.assert_close(model(images), plain(images) + model.texture(images))
    new = set(model.trainable_parameters()) - set(plain.trainable_parameters())
    assert new == {n for n in model.state_dict() if n.startswith("texture.")}


def test_a_bundle_keeps_its_head_and_one_without_is_written_as_before(tmp_path):
    bundle = head_bundle()
    again = ModelBundle.load(bundle.save(tmp_path / "head.safetensors"))
    assert again.architecture == bundle.architecture
    images = some_images()
    with torch.inference_mode():
        torch.testing.assert_close(again.build()(images), bundle.build()(images))
    without = random_bundle(legend(2)).header
    assert "texture_dim" not in json.loads(without.to_json())["architecture"]
    assert Architecture.from_dict(without.architecture.to_dict()).texture_dim == 0


@pytest.mark.parametrize("dim", [-1, 10**6, 2.0, True, "8"])
def test_a_head_of_an_impossible_size_is_refused(dim):
    with pytest.raises(ModelError, match="texture_dim"):
        Architecture(MICRO, 2, 64, texture_dim=dim)


def test_new_classes_keep_the_heads_weights_of_the_old_ones_by_name(tmp_path):
    old = head_bundle(("water", "land"))
    path = old.save(tmp_path / "old.safetensors")
    start = find_start(path, named("trees", "land", "water"), 64, seed=1)
    weight = "texture.layers.6.weight"
    torch.testing.assert_close(start.tensors[weight][2], old.tensors[weight][0])
    torch.testing.assert_close(start.tensors[weight][1], old.tensors[weight][1])
    assert start.tensors[weight].shape[0] == 3
    start.build("full")
