"""Rows of a map that are computed on their own, and the parts that keep them."""

import functools
import itertools
import json

import numpy as np
import pytest
from doubles import PLAIN_BANDS, ArraySink, ArraySource, ContextPredictor, MaskedPart, legend
from doubles import plain_spec as spec_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import ModelError, OutputError
from cwsam_geo.io.raster_part import BlockSink
from cwsam_geo.io.raster_sink import BLOCK
from cwsam_geo.io.shared_folder import shared_folder
from cwsam_geo.prediction.parts import Part, Parts, PartWriter, segments
from cwsam_geo.prediction.pipeline import MapSettings, Sinks, map_scene
from cwsam_geo.prediction.shard import Shard

CLASSES = legend(3)
BANDS = {"classes": 1, "confidence": 1, "probabilities": 3}


class BatchPredictor(ContextPredictor):
    """Rounds differently in batches of another size or with other tiles, as a processor may."""

    def __call__(self, batch):
        return super().__call__(batch) + np.float32(0.01 * len(batch) + 0.1 * batch[0].mean())


@st.composite
def cut_scenes(draw):
    """A scene with holes, a part of it with a ragged edge, and rows at which the map is cut."""
    stride = draw(st.sampled_from([1, 2, 4]))
    tile = stride * draw(st.integers(2, 10))
    height, width = draw(st.integers(2, 120)), draw(st.integers(1, 90))
    top, left = draw(st.integers(0, height - 2)), draw(st.integers(0, width - 1))
    rows = draw(st.integers(2, height - top))
    return {
        "shape": (height, width),
        "window": Window(top, left, rows, draw(st.integers(1, width - left))),
        "cuts": sorted(draw(st.sets(st.integers(1, rows - 1), max_size=4))),
        "tile": tile,
        "stride": stride,
        "settings": MapSettings(
            spec_of(tile),
            CLASSES,
            PLAIN_BANDS,
            draw(st.integers(0, tile // 2)),
            draw(st.sampled_from(["linear", "cosine", "flat"])),
            draw(st.integers(1, 5)),
        ),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


class Noted:
    """Takes a checkpoint after every row of tiles, and checks that the pixels are written."""

    def __init__(self, sinks, rows):
        self.sinks, self.rows, self.empty, self.last = sinks, rows, {}, None

    def due(self):
        return True

    def take(self, rows, empty_tiles):
        assert self.rows.start <= rows <= self.rows.stop
        written = self.sinks.classes.times[self.rows.start : rows]
        assert (written == 1).all()
        self.empty.update(empty_tiles)
        self.last = rows


@settings(deadline=None, max_examples=150)
@given(cut_scenes())
def test_rows_are_the_same_whatever_rows_are_computed_together(case):
    """Bit by bit: classes, percentages, counts. A network answers by batch, too."""
    rng, window = np.random.default_rng(case["seed"]), case["window"]
    valid = rng.random(case["shape"]) > 0.3
    source = ArraySource(rng.normal(size=case["shape"]), valid, (7, 16))
    part = MaskedPart(window, rng.random(case["shape"]) > rng.choice([0, 0.5, 0.98]))

    def mapped(rows):
        sinks = Sinks(*(ArraySink(window.height, window.width, n) for n in (None, None, 3)))
        predictor = BatchPredictor(case["tile"], 3, case["stride"], case["seed"])
        noted = Noted(sinks, rows)
        summary = map_scene(
            source, predictor, case["settings"], sinks, part=part, shard=Shard(rows, noted)
        )
        assert noted.last == rows.stop
        assert sum(noted.empty.values()) == summary.empty_tiles
        assert (sinks.classes.times[rows.start : rows.stop] == 1).all()
        assert sinks.classes.times.sum() == len(rows) * window.width
        stack = [sinks.classes.values[None], sinks.confidence.values[None]]
        return np.concatenate([*stack, sinks.probabilities.values]), noted.empty, summary

    whole, empty, summary = mapped(range(window.height))
    borders = [0, *case["cuts"], window.height]
    counts = {}
    for start, stop in itertools.pairwise(borders):
        some, some_empty, some_summary = mapped(range(start, stop))
        np.testing.assert_array_equal(some[:, start:stop], whole[:, start:stop])
        # A row of tiles that two shards compute has the same empty tiles in both.
        assert some_empty.items() <= empty.items()
        for code, n in some_summary.pixels.items():
            counts[code] = counts.get(code, 0) + n
    assert counts == summary.pixels


def test_values_that_are_not_finite_never_become_durable():
    class Overflowing(ContextPredictor):
        finished = 0

        def finish(self):
            self.finished += 1
            if self.finished > 2:
                raise ModelError("the model's values overflow")
            return 0.0

    rows = range(100)
    sinks = Sinks(ArraySink(100, 30))
    noted = Noted(sinks, rows)
    source = ArraySource(np.random.default_rng(0).normal(size=(100, 30)))
    job = MapSettings(spec_of(16), CLASSES, PLAIN_BANDS, 4)
    with pytest.raises(ModelError):
        map_scene(source, Overflowing(16, 3), job, sinks, shard=Shard(rows, noted))
    assert noted.last < 100


# Parts

HEIGHT, WIDTH = 3 * BLOCK + 70, BLOCK + 40


def rasters(seed=0):
    """Values of each raster, shape (bands, h, w), in areas as class maps have them."""
    rng = np.random.default_rng(seed)
    small = {
        n: rng.integers(0, 5, (b, HEIGHT // 10 + 1, WIDTH // 10 + 1)) for n, b in BANDS.items()
    }
    return {
        n: v.repeat(10, 1).repeat(10, 2)[:, :HEIGHT, :WIDTH].astype("u1") for n, v in small.items()
    }


def store(folder):
    return Parts(shared_folder(folder), BANDS, (HEIGHT, WIDTH))


def write_rows(parts, values, rows, steps, empty=None):
    """Writes rows as a run does that settles some rows at a time."""
    writer = PartWriter(parts, rows, "this computer", 0)
    sinks = {
        name: BlockSink(HEIGHT, WIDTH, bands, functools.partial(writer.add, name))
        for name, bands in BANDS.items()
    }
    start = rows.start
    for stop in [*steps, rows.stop]:
        for name, sink in sinks.items():
            sink.write(Window(start, 0, stop - start, WIDTH), values[name][:, start:stop])
        if writer.due():
            writer.take(stop, empty or {})
        start = stop
    writer.close()


def read_back(parts, found):
    values = {name: np.full((bands, HEIGHT, WIDTH), 77, "u1") for name, bands in BANDS.items()}
    for rows, part in segments(found, HEIGHT):
        for name in BANDS if part else ():
            for block, array in parts.blocks(part, name, rows):
                assert (values[name][(slice(None), *block.slices)] == 77).all()
                values[name][(slice(None), *block.slices)] = array
    return values


@settings(deadline=None, max_examples=10)
@given(st.sets(st.integers(1, HEIGHT - 1), max_size=6), st.integers(0, 99))
def test_parts_hold_what_was_written(tmp_path_factory, steps, seed):
    folder = tmp_path_factory.mktemp("parts")
    parts, values = store(folder / "p"), rasters(seed)
    parts.folder.create()
    write_rows(parts, values, range(HEIGHT), sorted(steps), {0: 3})
    found = parts.found()
    assert all(part.rows.start % BLOCK == 0 for part in found)
    assert all(parts.intact(part) for part in found)
    assert found[-1].empty_tiles == {0: 3}
    for name, array in read_back(parts, found).items():
        np.testing.assert_array_equal(array, values[name])
    parts.folder.clear()
    assert not (folder / "p").exists()


def test_rows_that_no_part_has_are_missing(tmp_path):
    parts, values = store(tmp_path / "p"), rasters()
    parts.folder.create()
    write_rows(parts, values, range(BLOCK, 3 * BLOCK), [])
    assert [(r, p is None) for r, p in segments(parts.found(), HEIGHT)] == [
        (range(BLOCK), True), (range(BLOCK, 3 * BLOCK), False), (range(3 * BLOCK, HEIGHT), True)
    ]  # fmt: skip
    # Two processes may have computed the same rows.
    write_rows(parts, values, range(2 * BLOCK, HEIGHT), [])
    write_rows(parts, values, range(BLOCK), [])
    assert all(part for _, part in segments(parts.found(), HEIGHT))
    for name, array in read_back(parts, parts.found()).items():
        np.testing.assert_array_equal(array, values[name])


def test_what_has_no_record_or_another_checksum_does_not_count(tmp_path):
    parts = store(tmp_path / "p")
    parts.folder.create()
    write_rows(parts, rasters(), range(HEIGHT), [BLOCK])
    first, last = parts.found()
    file = tmp_path / "p" / first.files["classes"].name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert not parts.intact(first)
    assert parts.intact(last)
    with pytest.raises(OutputError, match="--resume"):
        list(parts.blocks(first, "classes", first.rows))
    file.unlink()
    assert not parts.intact(first)
    for record in (tmp_path / "p").glob("*.json"):
        record.write_text(record.read_text()[:-9])
    assert parts.found() == []


def test_a_record_cannot_name_files_elsewhere():
    part = Part(range(BLOCK), {}, {}, "x")
    values = json.loads(part.to_json())
    values["files"] = {"classes": {"name": "../../etc/passwd", "size": 1, "sha256": ""}}
    with pytest.raises(ValueError, match="elsewhere"):
        Part.from_json(json.dumps(values))


def test_a_pause_leaves_no_files_and_loses_only_its_rows(tmp_path):
    parts, values = store(tmp_path / "p"), rasters()
    parts.begin = parts.folder.create
    writer = PartWriter(parts, range(HEIGHT), "x", 0, pause=1e-9)
    sink = BlockSink(HEIGHT, WIDTH, 1, functools.partial(writer.add, "classes"))
    steps = [300, 700, 1100, HEIGHT]
    start = 0
    for stop in steps:
        sink.write(Window(start, 0, stop - start, WIDTH), values["classes"][:, start:stop])
        assert (tmp_path / "p").exists() == (start > 0)
        writer.take(stop, {})
        start = stop
    rows = [part.rows for part in parts_of_classes(parts)]
    assert rows == [range(0, BLOCK), range(BLOCK, 2 * BLOCK), range(2 * BLOCK, HEIGHT)]


def parts_of_classes(parts):
    return Parts(parts.folder, {"classes": 1}, parts.shape).found()
