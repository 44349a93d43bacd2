import threading

import numpy as np
import pytest
from doubles import (
    PLAIN_BANDS,
    ArraySink,
    ArraySource,
    ContextPredictor,
    MaskedPart,
    OwnValuePredictor,
    legend,
    plain_spec,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import ImageStack
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.errors import ModelError, OutputError, SceneError
from cwsam_geo.prediction import pipeline as predict
from cwsam_geo.prediction.blend import BLENDS
from cwsam_geo.prediction.pipeline import MapSettings, Sinks, even_batch, map_scene


@st.composite
def cases(draw):
    tile = draw(st.integers(2, 40))
    shape = draw(
        st.one_of(
            st.tuples(st.integers(1, 90), st.integers(1, 90)),
            st.tuples(st.just(1), st.integers(1, 200)),
            st.tuples(st.integers(1, 200), st.just(1)),
        )
    )
    return {
        "shape": shape,
        "tile": tile,
        "overlap": draw(st.integers(0, tile // 2)),
        "blend": draw(st.sampled_from(BLENDS)),
        "batch": draw(st.integers(1, 5)),
        "largest": draw(st.integers(1, 5)),
        "hole_size": draw(st.sampled_from([1, 16, 50])),
        "block_rows": draw(st.sampled_from([1, 7, 64])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def job(case, classes):
    return MapSettings(
        plain_spec(case["tile"]),
        classes,
        PLAIN_BANDS,
        case["overlap"],
        case["blend"],
        case["batch"],
    )


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([0.0, 0.3, 1.0]), st.integers(2, 12))
def test_each_pixels_own_class_comes_back(case, holes, classes):
    """Any tile size, overlap, blend, batch and shape; nodata exactly where there is no data.

    Also where whole tiles have none, and where memory runs out in the middle of a row.
    """
    rng = np.random.default_rng(case["seed"])
    truth = rng.integers(0, classes, case["shape"])
    size, (height, width) = case["hole_size"], case["shape"]
    squares = rng.random((height // size + 1, width // size + 1)) >= holes
    valid = np.kron(squares, np.ones((size, size), bool))[:height, :width]
    values = np.where(valid, truth, np.nan)
    source = ArraySource(values, valid, (case["block_rows"], 64))
    predictor = OwnValuePredictor(case["tile"], classes, case["largest"])
    sink = ArraySink(*case["shape"])
    names = legend(classes, first=100)  # codes are not channels
    summary = map_scene(source, predictor, job(case, names), Sinks(sink))
    np.testing.assert_array_equal(sink.values, np.where(valid, truth + 100, 255))
    assert (sink.times == 1).all()
    assert max(predictor.batches, default=0) <= min(case["batch"], case["largest"])
    counted = dict(zip(*np.unique(sink.values, return_counts=True), strict=True))
    assert summary.pixels == counted
    assert summary.tiles >= sum(predictor.batches) == summary.tiles - summary.empty_tiles
    # A block of rows is read by one band of tiles only; one-line strips are read once.
    if case["block_rows"] == 1:
        assert (source.rows_read == 1).all()


@st.composite
def parts(draw):
    """A scene, how it is mapped, and a window of it: anywhere, at its edges, of any size."""
    stride = draw(st.sampled_from([1, 2, 3, 4, 8]))
    tile = stride * draw(st.integers(2, 10))

    def side(most):
        length = draw(st.integers(1, most))
        start = draw(st.integers(0, length - 1))
        return length, start, draw(st.integers(1, length - start))

    (height, row, rows), (width, col, cols) = side(120), side(120)
    return {
        "shape": (height, width),
        "window": Window(row, col, rows, cols),
        "tile": tile,
        "stride": stride,
        "overlap": draw(st.integers(0, tile // 2)),
        "blend": draw(st.sampled_from(BLENDS)),
        "batch": draw(st.integers(1, 5)),
        "holes": draw(st.sampled_from([0.0, 0.4, 0.9])),
        "outside": draw(st.sampled_from([None, 0.3, 0.95])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def squares(rng, shape, share, size):
    """True in squares of random places, which cover about ``share`` of the scene."""
    rows, cols = (n // size + 1 for n in shape)
    chosen = rng.random((rows, cols)) < share
    return np.kron(chosen, np.ones((size, size), bool))[: shape[0], : shape[1]]


def map_all(case, source, part=None):
    predictor = ContextPredictor(case["tile"], 3, case["stride"], case["seed"])
    shape = case["shape"] if part is None else (part.window.height, part.window.width)
    sinks = Sinks(ArraySink(*shape), ArraySink(*shape), ArraySink(*shape, 3))
    summary = map_scene(source, predictor, job(case, legend(3)), sinks, part=part)
    assert (sinks.classes.times == 1).all()
    values = [sinks.classes.values[None], sinks.confidence.values[None], sinks.probabilities.values]
    return np.concatenate(values), predictor, summary


@settings(deadline=None, max_examples=300)
@given(parts())
def test_the_map_of_a_part_is_that_part_of_the_whole_map(case):
    """Bit by bit, with percentages: a network sees the same tiles, and they are blended alike."""
    rng, window = np.random.default_rng(case["seed"]), case["window"]
    values = rng.normal(size=case["shape"])
    valid = ~squares(rng, case["shape"], case["holes"], 7)
    source = ArraySource(values, valid, block_shape=(7, 16))
    whole, all_tiles, _ = map_all(case, source)
    inside = np.ones(case["shape"], bool)
    if case["outside"] is not None:
        inside = ~squares(rng, case["shape"], case["outside"], 9)
    mapped, few_tiles, summary = map_all(case, source, MaskedPart(window, inside))
    expected = np.where(inside, whole, 255)[(slice(None), *window.slices)]
    np.testing.assert_array_equal(mapped, expected)
    assert sum(few_tiles.batches) <= sum(all_tiles.batches)
    assert sum(few_tiles.batches) == summary.tiles - summary.empty_tiles
    counted = dict(zip(*np.unique(mapped[0], return_counts=True), strict=True))
    assert summary.pixels == counted


@settings(deadline=None)
@given(parts())
def test_the_plan_of_a_part_has_the_tiles_of_the_whole_plan_that_reach_it(case):
    plan = TilePlan(*case["shape"], case["tile"], case["overlap"], case["stride"], case["window"])
    for tile in plan:
        assert not tile.reaches.intersect(case["window"]).empty
    whole = TilePlan(*case["shape"], case["tile"], case["overlap"], case["stride"])
    touching = [t for t in whole if not t.reaches.intersect(case["window"]).empty]
    assert len(plan) == len(touching)
    times = np.zeros(case["shape"], int)
    for tile in plan:
        times[tile.settles.slices] += 1
    assert (
        times.sum()
        == times[case["window"].slices].sum()
        == case["window"].height * case["window"].width
    )
    assert times.max() == 1


def test_tiles_between_distant_areas_are_skipped():
    inside = np.zeros((400, 400), bool)
    inside[:10, :10] = inside[-10:, -10:] = True
    case = {"shape": (400, 400), "tile": 40, "stride": 4, "overlap": 8, "blend": "linear",
            "batch": 4, "seed": 0}  # fmt: skip
    source = ArraySource(np.random.default_rng(0).normal(size=(400, 400)))
    _, predictor, summary = map_all(case, source, MaskedPart(Window(0, 0, 400, 400), inside))
    assert sum(predictor.batches) == summary.tiles - summary.empty_tiles <= 5
    assert summary.tiles > 100


def test_a_part_reads_only_what_its_tiles_cover():
    source = ArraySource(np.ones((1000, 60)))
    part = MaskedPart(Window(500, 20, 10, 10), np.ones((1000, 60), bool))
    case = {"shape": (1000, 60), "tile": 16, "stride": 1, "overlap": 4, "blend": "flat",
            "batch": 4, "seed": 0}  # fmt: skip
    map_all(case, source, part)
    assert source.rows_read.sum() <= 4 * 16


def test_empty_tiles_never_reach_the_model():
    valid = np.zeros((64, 64), bool)
    valid[:8, :8] = True
    predictor = OwnValuePredictor(16, 3)
    case = {"tile": 16, "overlap": 0, "blend": "flat", "batch": 4}
    source = ArraySource(np.ones((64, 64)), valid)
    summary = map_scene(source, predictor, job(case, legend(3)), Sinks(ArraySink(64, 64)))
    assert predictor.batches == [1]
    assert summary.empty_tiles == 15


def test_batches_do_not_cross_a_row_of_tiles():
    predictor = OwnValuePredictor(16, 2)
    case = {"tile": 16, "overlap": 0, "blend": "flat", "batch": 4}
    source = ArraySource(np.ones((32, 48)))
    map_scene(source, predictor, job(case, legend(2)), Sinks(ArraySink(32, 48)))
    assert predictor.batches == [3, 3]


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on():
    truth = np.random.default_rng(1).integers(0, 4, (60, 200))
    predictor = OwnValuePredictor(16, 4, largest_batch=3)
    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 16}
    sink = ArraySink(60, 200)
    summary = map_scene(ArraySource(truth), predictor, job(case, legend(4)), Sinks(sink))
    np.testing.assert_array_equal(sink.values, truth)
    assert summary.batch_size == 2


def test_a_tile_that_does_not_fit_is_an_error():
    predictor = OwnValuePredictor(16, 4, largest_batch=0)
    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 2}
    with pytest.raises(MemoryError):
        map_scene(
            ArraySource(np.ones((20, 20))),
            predictor,
            job(case, legend(4)),
            Sinks(ArraySink(20, 20)),
        )


def test_a_part_that_is_filled_up_is_halved_too():
    """A compiled network sees batches of one size: a single tile can be too much of a batch."""

    class FilledUp(ImageStack):
        def part(self, start, count):
            tiles = super().part(start, count)
            return np.concatenate([tiles, np.zeros((count - len(tiles), *tiles.shape[1:]), "f4")])

    truth = np.random.default_rng(3).integers(0, 4, (40, 200))
    valid = np.ones((40, 200), bool)
    valid[:16, 12:] = False  # one tile with data in the first row
    predictor = OwnValuePredictor(16, 4, largest_batch=3)
    predictor.stack = FilledUp
    case = {"tile": 16, "overlap": 4, "blend": "linear", "batch": 16}
    sink = ArraySink(40, 200)
    summary = map_scene(ArraySource(truth, valid), predictor, job(case, legend(4)), Sinks(sink))
    np.testing.assert_array_equal(sink.values, np.where(valid, truth, 255))
    assert summary.batch_size == 2


@pytest.mark.parametrize(
    ("budget", "batch", "most"), [(1 << 20, 1, 3), (1, 1, 2), (1 << 20, 4, 12), (1, 4, 8)]
)
def test_what_waits_to_be_written_is_bounded_in_bytes_too(monkeypatch, budget, batch, most):
    """With many classes and probabilities a batch of decided tiles would fill the memory.

    A batch settles as a whole: one is written while as many wait as the budget allows.
    """
    monkeypatch.setattr(predict, "_WAITING_BYTES", budget)
    gate = threading.Event()

    class Slow(ArraySink):
        def write(self, window, values):
            gate.wait(10)
            super().write(window, values)

    reached = []

    def on_progress(progress):
        reached.append(progress.tiles)
        if progress.tiles == batch:
            threading.Timer(0.3, lambda: (reached.append("open"), gate.set())).start()

    case = {"tile": 16, "overlap": 0, "blend": "flat", "batch": batch}
    sinks = Sinks(ArraySink(160, 64), None, Slow(160, 64, 3))
    source = ArraySource(np.ones((160, 64)))
    map_scene(source, OwnValuePredictor(16, 3), job(case, legend(3)), sinks, on_progress)
    assert reached[reached.index("open") - 1] <= most


def test_a_failure_of_the_reader_reaches_the_caller():
    class Broken(ArraySource):
        def read(self, window):
            if window.row > 30:
                raise SceneError("broken at row 31")
            return super().read(window)

    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 2}
    with pytest.raises(SceneError, match="row 31"):
        map_scene(
            Broken(np.ones((600, 20)), block_shape=(8, 20)),
            OwnValuePredictor(16, 2),
            job(case, legend(2)),
            Sinks(ArraySink(600, 20)),
        )


def own_threads():
    return [t for t in threading.enumerate() if t.name.startswith("cwsam-geo")]


@pytest.mark.parametrize("error", [OutputError("the disk is full"), KeyboardInterrupt()])
def test_a_failure_of_the_writer_reaches_the_caller(error):
    class Full(ArraySink):
        def write(self, window, values):
            if window.row > 100:
                raise error
            super().write(window, values)

    predictor = OwnValuePredictor(16, 2)
    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 2}
    sink = Full(900, 20)
    source = ArraySource(np.ones((900, 20)), block_shape=(8, 20))
    with pytest.raises(type(error)):
        map_scene(source, predictor, job(case, legend(2)), Sinks(sink))
    assert sum(predictor.batches) < 40  # the rest was not computed
    assert (sink.times[:95] == 1).all()
    assert not own_threads()


def test_an_interrupt_ends_both_threads():
    def interrupt(progress):
        if progress.tiles == 6:
            raise KeyboardInterrupt

    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 2}
    sinks = Sinks(ArraySink(900, 20))
    with pytest.raises(KeyboardInterrupt):
        map_scene(
            ArraySource(np.ones((900, 20))),
            OwnValuePredictor(16, 2),
            job(case, legend(2)),
            sinks,
            interrupt,
        )
    assert not own_threads()


def test_what_a_device_notices_late_still_fails_the_run():
    class Late(OwnValuePredictor):
        def finish(self):
            raise ModelError("numbers are beyond bf16")

    case = {"tile": 16, "overlap": 4, "blend": "cosine", "batch": 2}
    sinks = Sinks(ArraySink(20, 20))
    with pytest.raises(ModelError, match="beyond"):
        map_scene(ArraySource(np.ones((20, 20))), Late(16, 2), job(case, legend(2)), sinks)


@given(st.integers(1, 99), st.integers(1, 400))
def test_batches_of_a_row_are_as_many_as_needed_and_even(limit, tiles):
    size = even_batch(limit, tiles)
    batches = -(-tiles // limit)
    assert 1 <= size <= limit
    assert -(-tiles // size) == batches
    assert size * batches - tiles < batches  # nothing smaller would do


def test_confidence_and_probabilities_are_per_cent_and_nodata_is_255():
    truth = np.random.default_rng(2).integers(0, 3, (50, 70))
    valid = np.ones((50, 70), bool)
    valid[10:30, 20:60] = False
    case = {"tile": 16, "overlap": 6, "blend": "linear", "batch": 2}
    sinks = Sinks(ArraySink(50, 70), ArraySink(50, 70), ArraySink(50, 70, 3))
    map_scene(ArraySource(truth, valid), OwnValuePredictor(16, 3), job(case, legend(3)), sinks)
    logits = -np.abs(truth - np.arange(3)[:, None, None])
    expected = np.exp(logits) / np.exp(logits).sum(0) * 100
    np.testing.assert_allclose(sinks.probabilities.values[:, valid], expected[:, valid], atol=0.51)
    np.testing.assert_array_equal(
        sinks.confidence.values[valid], sinks.probabilities.values.max(0)[valid]
    )
    assert (sinks.confidence.values[~valid] == 255).all()
    assert (sinks.probabilities.values[:, ~valid] == 255).all()
