"""Raw tiles preprocessed by torch are what numpy's preprocessing gives."""

import numpy as np
import pytest
import torch
from doubles import ArraySink, ArraySource, legend
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_bundle

from cwsam_geo.core.preprocess import (
    SCALINGS,
    UNITS,
    ImageStack,
    PreprocessSpec,
    SceneBands,
    to_power,
)
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.runtime.raw_tiles import RawStack, preprocess
from cwsam_geo.model.runtime.transfer import Uploads
from cwsam_geo.prediction.pipeline import MapSettings, Sinks, map_scene

CPU = torch.device("cpu")
K3 = legend(3)


@st.composite
def specs(draw):
    """A model of one or two bands, and a scene of up to three that may lack the second."""
    scaling = draw(st.sampled_from(SCALINGS))
    number = st.floats(-30, 30, width=32)
    clip = {"db": (-40.0, 10.0), "linear": (0.0, 0.5), "amplitude8": (0.0, 1.0)}[scaling]
    two = draw(st.booleans())
    names = ("A", "B")[: 1 + two]
    terms = st.sampled_from(["A", "B", "A-B", "B-A"] if two else ["A"])
    spec = PreprocessSpec(
        bands=names,
        channels=draw(st.tuples(terms, terms, terms)),
        scaling=scaling,
        clip=(clip,) * len(names),
        mean=draw(st.tuples(number, number, number)),
        std=draw(st.tuples(*[st.floats(0.5, 9, width=32)] * 3)),
        tile_size=8,
        fill=(None, draw(number))[: len(names)],
    )
    count = draw(st.integers(1, 3))
    places = st.integers(0, count - 1)
    positions = (draw(places), draw(st.none() | places))[: len(names)]
    stretch = draw(st.none() | st.tuples(st.floats(0, 1), st.floats(2, 900)))
    scene = SceneBands(
        draw(st.sampled_from(UNITS)), positions, stretch if scaling == "amplitude8" else None
    )
    return spec, scene, count


def raw_tiles(scene, count, seed, tiles=3, holes=0.3):
    """Values as such a scene has them, with zeros and negative power, and dirt where not valid."""
    rng = np.random.default_rng(seed)
    decibels = rng.uniform(-50, 15, (tiles, count, 8, 8)).astype(np.float32)
    values = decibels
    if scene.units != "db":
        values = to_power(decibels, "db")
        values = np.sqrt(values) if scene.units == "amplitude" else values
        values[rng.random(values.shape) < 0.1] = 0
        if scene.units == "power":
            values[rng.random(values.shape) < 0.05] *= -0.01
    valid = rng.random((tiles, 8, 8)) >= holes
    dirt = rng.choice(np.float32([np.nan, np.inf, -9999, 0, 1e30]), values.shape)
    return np.where(valid[:, None], values, dirt), valid


@settings(deadline=None, max_examples=300)
@given(specs(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_preprocessing_on_the_device_is_numpys(case, seed, holes):
    spec, scene, count = case
    values, valid = raw_tiles(scene, count, seed, holes=holes)
    got = preprocess(torch.from_numpy(values), torch.from_numpy(valid), spec, scene)
    assert got.dtype == torch.float32
    expected = np.stack([spec.apply(v, ok, scene) for v, ok in zip(values, valid, strict=True)])
    # Rounding of float32, before the mean is taken away and after.
    size = np.abs(np.concatenate([[100.0], spec.mean])).max() / min(spec.std)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=4e-7 * size)
    outside = ~np.broadcast_to(valid[:, None], expected.shape)
    assert (got.numpy()[outside] == 0).all()


@settings(deadline=None)
@given(specs(), st.integers(0, 99), st.integers(1, 6), st.booleans())
def test_parts_of_a_stack_are_the_tiles_that_were_added(case, seed, size, fixed):
    """Any size of part; with fixed shapes the batch is full and only its head is meant."""
    spec, scene, count = case
    tiles = max(1, size - seed % 3)
    values, valid = raw_tiles(scene, count, seed, tiles)
    raw, images = RawStack(spec, scene, size, CPU, fixed), ImageStack(spec, scene, size)
    for stack in (raw, images):
        for v, ok in zip(values, valid, strict=True):
            stack.add(v, ok)
        assert len(stack) == tiles
    for part in range(1, size + 1):
        for start in range(0, tiles, part):
            here, expected = raw.part(start, part), images.part(start, part)
            assert len(here) == len(expected) == min(part, tiles - start)
            got = here.images(Uploads(CPU))
            assert len(got) == (part if fixed else len(here))
            assert (got[len(here) :] == 0).all()
            np.testing.assert_allclose(got[: len(here)], expected, rtol=1e-5, atol=1e-4)


def test_a_stack_keeps_its_own_copy():
    spec, scene = random_bundle(K3).preprocess, SceneBands("power", (0, 1))
    stack = RawStack(spec, scene, 1, CPU)
    values, valid = np.ones((2, 64, 64), np.float32), np.ones((64, 64), bool)
    stack.add(values, valid)
    before = stack.part(0, 1).images(Uploads(CPU)).clone()
    values[:], valid[:] = 7, False
    assert torch.equal(stack.part(0, 1).images(Uploads(CPU)), before)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("tta", [False, True])
def test_a_map_from_raw_tiles_is_the_map_from_images(fixed, tta):
    """The whole way, with tiles that lack data and batches that are not full."""

    class RawPredictor(TorchPredictor):
        shapes = ()

        def stack(self, spec, scene, size):
            return RawStack(spec, scene, size, self.device, fixed)

        def _logits(self, tiles):
            self.shapes += (len(tiles.values),)
            return super()._logits(tiles)

    bundle = random_bundle(K3)
    rng = np.random.default_rng(3)
    valid = np.ones((150, 290), bool)
    valid[:70, :130] = False
    source = ArraySource(rng.gamma(4, 0.02, (2, 150, 290)), valid)
    job = MapSettings(bundle.preprocess, K3, SceneBands("power", (0, 1)), 16, batch_size=4)
    model = LoadedModel(bundle, CPU, "fp32", "fast")
    maps = []
    predictors = TorchPredictor(model, tta), RawPredictor(model, tta)
    for predictor in predictors:
        sinks = Sinks(ArraySink(150, 290), None, ArraySink(150, 290, 3))
        map_scene(source, predictor, job, sinks)
        maps.append((sinks.classes.values, sinks.probabilities.values.astype(int)))
    (classes, percent), (raw_classes, raw_percent) = maps
    assert (classes == raw_classes).mean() > 0.999
    assert np.abs(percent - raw_percent).max() <= 1
    assert len(np.unique(classes)) > 2
    shapes = predictors[1].shapes
    assert (set(shapes) == {3}) if fixed else (min(shapes) < 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("fixed", [False, True])
def test_a_map_made_on_a_gpu_is_the_cpus(fixed):
    """Pinned uploads, decisions that come late and the writer's thread, all at once."""
    bundle = random_bundle(K3)
    rng = np.random.default_rng(3)
    source = ArraySource(rng.gamma(4, 0.02, (2, 700, 900)))
    job = MapSettings(bundle.preprocess, K3, SceneBands("power", (0, 1)), 16, batch_size=6)
    maps = []
    for device in (CPU, torch.device("cuda", 0)):
        model = LoadedModel(bundle, device, "fp32", "fast")
        model.compiled = fixed
        sinks = Sinks(ArraySink(700, 900), ArraySink(700, 900))
        summary = map_scene(source, TorchPredictor(model), job, sinks)
        assert 0 < summary.model_seconds <= summary.seconds
        maps.append((sinks.classes.values, sinks.confidence.values.astype(int)))
    (classes, percent), (gpu_classes, gpu_percent) = maps
    assert (classes == gpu_classes).mean() > 0.999
    assert np.abs(percent - gpu_percent).max() <= 2
