import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_ops import NumpyOps

from cwsam_geo.core.grid import Window
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.errors import UsageError
from cwsam_geo.model.runtime.torch_ops import TorchOps
from cwsam_geo.prediction.blend import BLENDS, Blender, profile, shares


@st.composite
def plans(draw):
    stride = draw(st.sampled_from([1, 2, 4]))
    tile = stride * draw(st.integers(2, 12))
    overlap = draw(st.integers(0, tile // 2))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    return TilePlan(height, width, tile, overlap, stride)


def padded(scene, window):
    """The window of an array, edge values repeated where it reaches past the array."""
    rows = np.arange(window.row, window.bottom).clip(0, scene.shape[-2] - 1)
    cols = np.arange(window.col, window.right).clip(0, scene.shape[-1] - 1)
    return scene[..., rows[:, None], cols]


@given(plans())
def test_settled_rectangles_partition_the_scene(plan):
    times = np.zeros((plan.height, plan.width), int)
    for tile in plan:
        times[tile.settles.slices] += 1
        # Inside the tile, or within half a logit above and to the left of it.
        grown = Window(
            max(0, tile.window.row - plan.stride // 2),
            max(0, tile.window.col - plan.stride // 2),
            10**6,
            10**6,
        )
        assert tile.settles.intersect(grown) == tile.settles
        assert tile.settles.bottom <= tile.window.bottom
        assert tile.settles.right <= tile.window.right
    assert (times == 1).all()
    assert [t.index for t in plan] == list(range(len(plan)))


@given(plans())
def test_tiles_stay_inside_but_for_less_than_a_stride(plan):
    for tile in plan:
        assert tile.window.row % plan.stride == 0
        assert tile.window.col % plan.stride == 0
        if plan.height >= plan.tile_size:
            assert tile.window.bottom < plan.height + plan.stride
        if plan.width >= plan.tile_size:
            assert tile.window.right < plan.width + plan.stride


def test_an_impossible_overlap_is_refused():
    with pytest.raises(UsageError, match="choose 0 to 8"):
        TilePlan(100, 100, 16, 9)


@given(plans(), st.sampled_from(BLENDS))
def test_shares_add_up_to_one_and_are_positive(plan, blend):
    offsets = [o // plan.stride for o in plan.row_offsets]
    n = plan.tile_size // plan.stride
    parts = shares(offsets, profile(blend, n, plan.overlap // plan.stride))
    total = np.zeros(offsets[-1] + n)
    for offset, part in zip(offsets, parts, strict=True):
        assert (part > 0).all()
        total[offset : offset + n] += part
    np.testing.assert_allclose(total, 1)


def run(plan, classes, blend, logits_of, probabilities=False):
    blender = Blender(
        plan, classes, blend, NumpyOps(), confidence=probabilities, probabilities=probabilities
    )
    out = np.full((plan.height, plan.width), -1)
    percent = np.full((classes, plan.height, plan.width), -1)
    for tile in plan:
        for settled in blender.feed([tile], [logits_of(tile)]):
            assert (out[settled.window.slices] == -1).all()
            out[settled.window.slices] = settled.decision().channels
            if probabilities:
                percent[(slice(None), *settled.window.slices)] = settled.decision().probabilities
    return out, percent


@settings(deadline=None)
@given(plans(), st.sampled_from(BLENDS), st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_at_full_resolution_every_pixel_keeps_its_class(plan, blend, classes, seed):
    plan = TilePlan(plan.height, plan.width, plan.tile_size, plan.overlap, 1)
    scene = np.random.default_rng(seed).integers(0, classes, (plan.height, plan.width))

    def one_hot(tile):
        return np.eye(classes, dtype=np.float32)[padded(scene, tile.window)].transpose(2, 0, 1)

    out, _ = run(plan, classes, blend, one_hot)
    np.testing.assert_array_equal(out, scene)


@settings(deadline=None, max_examples=150)
@given(plans(), st.sampled_from(BLENDS), st.booleans(), st.integers(0, 2**32 - 1))
def test_tiled_logits_are_those_of_the_whole_scene_brought_to_full_resolution(
    plan, blend, probabilities, seed
):
    """A predictor that looks at nothing but a logit's own pixels leaves no seam at any stride."""
    classes, s = 3, plan.stride
    rows, cols = (-(-n // s) + plan.tile_size // s for n in (plan.height, plan.width))
    whole = np.random.default_rng(seed).normal(size=(classes, rows, cols)).astype(np.float32)

    def cut(tile):
        w = Window(
            *(v // s for v in (tile.window.row, tile.window.col)), *[plan.tile_size // s] * 2
        )
        return whole[(slice(None), *w.slices)]

    last_row, last_col = (
        (o[-1] + plan.tile_size) // s for o in (plan.row_offsets, plan.col_offsets)
    )
    fine = NumpyOps().upsample(whole[:, :last_row, :last_col], s)[:, : plan.height, : plan.width]
    expected = NumpyOps().decide(fine, True, True)()
    out, percent = run(plan, classes, blend, cut, probabilities)
    top_two = np.sort(fine, 0)[-2:]
    clear = top_two[1] - top_two[0] > 1e-4  # a tie may fall either way by rounding
    np.testing.assert_array_equal(out[clear], expected.channels[clear])
    if probabilities:
        assert np.abs(percent - expected.probabilities).max() <= 1


@settings(deadline=None)
@given(plans(), st.sampled_from(BLENDS), st.integers(0, 2**32 - 1))
def test_a_tile_without_data_leaves_its_neighbours_probabilities_alone(plan, blend, seed):
    """Constant logits stay constant wherever at least one tile was fed."""
    rng = np.random.default_rng(seed)
    n = plan.tile_size // plan.stride
    logits = np.broadcast_to(np.float32([1, 0])[:, None, None], (2, n, n))
    blender = Blender(plan, 2, blend, NumpyOps(), confidence=True)
    fed = np.zeros((plan.height, plan.width), bool)
    confidence = np.zeros((plan.height, plan.width), int)
    for tile in plan:
        given_one = rng.random() < 0.7
        if given_one:
            fed[tile.window.intersect(Window(0, 0, plan.height, plan.width)).slices] = True
        for settled in blender.feed([tile], [logits if given_one else None]):
            confidence[settled.window.slices] = settled.decision().confidence
    assert (confidence[fed] == 73).all()  # softmax of (1, 0)


@settings(deadline=None)
@given(plans(), st.sampled_from(BLENDS), st.booleans(), st.integers(0, 2**32 - 1))
def test_how_many_tiles_come_at_a_time_changes_no_pixel(plan, blend, probabilities, seed):
    """Also where some of the tiles have no data, and where rounding decides between two classes."""
    rng = np.random.default_rng(seed)
    n = plan.tile_size // plan.stride
    logits = [rng.normal(size=(3, n, n)).astype(np.float32) for _ in plan]
    for values in logits:
        values[1] = np.nextafter(values[0], np.float32(np.inf))
    fed = [values if rng.random() < 0.8 else None for values in logits]

    def run_with(sizes):
        ops = TorchOps(torch.device("cpu"))
        blender = Blender(plan, 3, blend, ops, confidence=probabilities)
        out = np.full((2, plan.height, plan.width), -1)
        for row in plan.rows:
            tiles = list(plan.row(row))
            while tiles:
                group, tiles = tiles[: (size := next(sizes))], tiles[size:]
                chosen = [
                    None if fed[t.index] is None else torch.tensor(fed[t.index]) for t in group
                ]
                for settled in blender.feed(group, chosen):
                    assert (out[0][settled.window.slices] == -1).all()
                    decision = settled.decision()
                    out[0][settled.window.slices] = decision.channels
                    if probabilities:
                        out[1][settled.window.slices] = decision.confidence
        assert (out[0] >= 0).all()
        return out

    one_by_one = run_with(itertools.repeat(1))
    groups = run_with(iter(lambda: int(rng.integers(1, 5)), None))
    np.testing.assert_array_equal(groups, one_by_one)


def test_what_is_held_does_not_grow_with_the_height_of_the_scene():
    def most_held(height):
        plan = TilePlan(height, 400, 64, 16, 4)
        blender = Blender(plan, 5, "cosine", NumpyOps())
        most = 0
        for tile in plan:
            list(blender.feed([tile], [np.zeros((5, 16, 16), np.float32)]))
            most = max(most, blender.held_values)
        return most

    low, high = most_held(400), most_held(4000)
    assert low == high
    # One row of unfinished overlap above, one below, one row of logits, one tile.
    width = 100 + 1
    assert low <= 5 * (16 * width + width + 16 * 16)


def test_tiles_out_of_order_are_refused():
    plan = TilePlan(64, 64, 32, 0)
    blender = Blender(plan, 2, "flat", NumpyOps())
    with pytest.raises(ValueError, match="tile 1 was fed, but the next one is tile 0"):
        blender.feed([plan.tile(0, 1)], [None])


@settings(deadline=None, max_examples=60)
@given(plans(), st.floats(0.05, 20), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_temperature_changes_probabilities_and_no_class(plan, temperature, close, seed):
    """Neither does asking for probabilities, even where two classes differ by the last bit."""
    rng = np.random.default_rng(seed)
    shape = (3, plan.tile_size // plan.stride, plan.tile_size // plan.stride)
    tiles = {t.index: rng.normal(size=shape).astype(np.float32) for t in plan}
    if close:
        for logits in tiles.values():
            logits[1] = np.nextafter(logits[0], np.float32(np.inf))

    def run_at(temperature, **wanted):
        blender = Blender(plan, 3, "linear", NumpyOps(), temperature=temperature, **wanted)
        decisions = [
            (settled.window, settled.decision())
            for tile in plan
            for settled in blender.feed([tile], [tiles[tile.index]])
        ]
        classes = np.full((plan.height, plan.width), -1)
        percent = np.zeros((3, plan.height, plan.width))
        for window, decision in decisions:
            classes[window.slices] = decision.channels
            if wanted:
                percent[(slice(None), *window.slices)] = decision.probabilities
        return classes, percent / 100

    classes, _ = run_at(1.0)
    same, one = run_at(1.0, probabilities=True)
    again, other = run_at(temperature, probabilities=True)
    np.testing.assert_array_equal(same, classes)
    np.testing.assert_array_equal(again, classes)
    # p ** (1 / T), normalised; per cents are rounded, so only probabilities that are not small.
    powers = one ** (1 / temperature)
    expected = powers / powers.sum(0)
    clear = (one > 0.2).all(0)
    assert np.abs(expected - other)[:, clear].max(initial=0) < 0.01 + 0.08 / temperature
