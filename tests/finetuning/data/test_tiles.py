"""Tiles: the same for the same key, true to the split, and what the model takes."""

import itertools
import pickle
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from training_scenes import PLACE, UTM, blobs, region, write_raster, write_scene

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.finetuning.data.augment import replace_part, times_power, vary
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.region.region_file import parse_region
from cwsam_geo.finetuning.split.roles import TRAIN, UNUSED, VAL

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
PLAIN = {"augment": []}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def truth(rng):
    return blobs(rng, (320, 380))


@pytest.fixture
def folder(tmp_path, rng, truth):
    write_scene(tmp_path / "scene_vv_vh.tif", rng, truth)
    write_raster(tmp_path / "labels.tif", truth)
    return tmp_path


SCENE = {"scene": "scene_vv_vh.tif", "labels": "labels.tif"}
BLOCKS = {"block_size_px": 80}


def configured(folder, scenes=(SCENE,), **more):
    return parse_region(
        region(list(scenes), **{"validation": BLOCKS, **more}), folder, "region.yaml"
    )


def same(a, b):
    return all((x == y).all() and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_samples_are_functions_of_seed_epoch_and_index(folder):
    keys = [(0, 0), (0, 1), (3, 0), (2, 10_000)]
    with region_data(configured(folder)) as data:
        first = [data.training.sample(*key) for key in keys]
        again = [data.training.sample(*key) for key in reversed(keys)][::-1]
        sent = pickle.loads(pickle.dumps(data.training))
        there = [sent.sample(*key) for key in keys]
        sent.close()
    with region_data(configured(folder)) as data:
        anew = [data.training.sample(*key) for key in keys]
    with region_data(configured(folder, train={"seed": 1})) as data:
        other = [data.training.sample(*key) for key in keys]
    for a, b, c, d in zip(first, again, there, anew, strict=True):
        assert same(a, b)
        assert same(a, c)
        assert same(a, d)
    assert not any(same(a, b) for a, b in itertools.pairwise(first))
    assert not any(same(a, b) for a, b in zip(first, other, strict=True))


def test_samples_are_what_the_loop_takes(folder):
    with region_data(configured(folder)) as data:
        assert len(data.training) == 32
        for tiles in (data.training, data.validation):
            image, labels = tiles.sample(0, 0)
            assert (image.shape, image.dtype) == ((3, 64, 64), np.float32)
            assert (labels.shape, labels.dtype) == ((64, 64), np.uint16)
            assert image.flags.c_contiguous
            assert labels.flags.c_contiguous
            assert np.isfinite(image).all()
        assert data.sets.shape == (4, 3)
        assert data.ignore == ()
        assert data.test is None


def placed(data, key):
    """Where a training sample lies, as it is drawn."""
    rng = np.random.default_rng([data.training._seed, *key])
    return data.training.window(rng)


def test_mosaics_are_parts_of_tiles_with_their_own_labels(folder):
    train = {"augment": ["mosaic"], "samples": 8}
    with region_data(configured(folder, train=train)) as data:
        tiles = data.training
        for index in range(8):
            image, labels = tiles.sample(1, index)
            assert same((image, labels), tiles.sample(1, index))
            plain = tiles._tile(np.random.default_rng([0, 1, index]))
            assert [t.shape for t in plain] == [image.shape, labels.shape]
            assert not (image == plain[0]).all()
            # The classes' levels are far apart: each pixel has the label of its own place.
            levels = [image[0][labels == row].mean() for row in np.unique(labels[labels > 0])]
            spread = [image[0][labels == row].std() for row in np.unique(labels[labels > 0])]
            assert max(spread) < 0.3
            assert len(levels) < 2 or np.diff(levels).min() > 0.7


@given(st.integers(4, 40), st.integers(0, 2**32))
def test_a_part_is_replaced_on_one_side_of_a_cut(size, seed):
    image, labels = np.zeros((3, size, size), np.float32), np.zeros((size, size), np.uint16)
    replace_part((image, labels), (image + 1, labels + 1), np.random.default_rng(seed))
    assert (image == labels).all()
    lines = labels.all(0), labels.all(1)
    cut = next(line for line in lines if 0 < line.sum() < size)
    assert (np.diff(cut.astype(int)) >= 0).all()
    assert labels.sum() == size * cut.sum()


def test_training_tiles_show_nothing_of_validation(folder, truth):
    with region_data(configured(folder, train=PLAIN)) as data:
        roles = data.split.scenes[0].of(data.locations[0].grid.window)
        seen = np.zeros(truth.shape, bool)
        for index in range(60):
            image, labels = data.training.sample(0, index)
            scene, window = placed(data, (0, index))
            assert scene == 0
            part = roles[window.slices]
            assert (image[:, part != TRAIN] == 0).all()
            assert (labels[part != TRAIN] == 0).all()
            expected = np.select([truth == 1, truth == 2, truth == 4], [1, 2, 3])[window.slices]
            assert (labels == np.where(part == TRAIN, expected, 0)).all()
            seen[window.slices] |= (image != 0).any(0)
        assert not (seen & (roles != TRAIN)).any()
        assert seen[roles == TRAIN].mean() > 0.5
        assert (roles == UNUSED).any()


def test_every_validation_pixel_is_in_one_tile(folder, truth):
    with region_data(configured(folder, train={"overlap": 16})) as data:
        roles = data.split.scenes[0].of(data.locations[0].grid.window)
        counted = np.zeros(4, int)
        for index in range(len(data.validation)):
            image, labels = data.validation.sample(0, index)
            assert same((image, labels), data.validation.sample(7, index))
            # What is around is shown, whatever it is for.
            assert (image != 0).any(0).all()
            counted += np.bincount(labels.ravel(), minlength=4)
        held = truth[roles == VAL]
        assert counted[1:].tolist() == [(held == code).sum() for code in (1, 2, 4)]


def test_class_pixels_are_those_of_training(folder, truth):
    with region_data(configured(folder)) as data:
        roles = data.split.scenes[0].of(data.locations[0].grid.window)
        found = [((truth == code) & (roles == TRAIN)).sum() for code in (1, 2, 4)]
        assert data.class_pixels.tolist() == found


def test_test_tiles(folder, truth):
    blocks = {**BLOCKS, "test_fraction": 0.2}
    with region_data(configured(folder, validation=blocks)) as data:
        assert data.test is not None
        counted = sum((data.test.sample(0, i)[1] > 0).sum() for i in range(len(data.test)))
        assert counted == pytest.approx(0.2 * truth.size, rel=0.5)


def test_rare_classes_come_up(tmp_path, rng):
    truth = np.ones((320, 320), np.uint8)
    truth[:160] = 2
    truth[200:206, 30:36] = 4
    truth[20:26, 280:286] = 4
    write_scene(tmp_path / "scene_vv_vh.tif", rng, truth)
    write_raster(tmp_path / "labels.tif", truth)
    blocks = {"block_size_px": 80}

    def share(balance):
        train = {"balance": balance}
        with region_data(configured(tmp_path, train=train, validation=blocks)) as data:
            samples = [data.training.sample(0, i)[1] for i in range(60)]
        return np.mean([(labels == 3).any() for labels in samples])

    assert share(1.0) > 0.25
    assert share(0.0) < 0.15


def test_statistics_are_those_of_training_pixels(folder, truth):
    with rasterio.open(folder / "scene_vv_vh.tif", "r+") as file:
        values = file.read()
        with region_data(configured(folder)) as data:
            roles = data.split.scenes[0].of(data.locations[0].grid.window)
        # Whatever is outside of training must not matter.
        values[:, roles != TRAIN] = 30
        file.write(values)
    with region_data(configured(folder)) as data:
        spec = data.spec
        assert spec.bands == ("VV", "VH")
        assert spec.channels == ("VV", "VH", "VV-VH")
        assert (spec.scaling, spec.tile_size) == ("db", 64)
        used = values[:, roles == TRAIN].astype(float)
        low, high = np.percentile(used, [0.5, 99.5], axis=1)
        assert np.array(spec.clip) == pytest.approx(np.column_stack([low, high]), abs=0.05)
        clipped = used.clip(low[:, None], high[:, None])
        channels = np.stack([*clipped, clipped[0] - clipped[1]])
        assert spec.mean == pytest.approx(channels.mean(1), abs=0.05)
        assert spec.std == pytest.approx(channels.std(1), abs=0.05)
        assert np.array(spec.quantiles) == pytest.approx(
            np.percentile(used, [5, 50, 95], axis=1).T, abs=0.05
        )


def test_a_start_keeps_its_scale(folder):
    with region_data(configured(folder)) as data:
        base = data.spec
    other = PreprocessSpec.from_dict({**base.to_dict(), "mean": (1.0, 2.0, 3.0), "tile_size": 32})
    with region_data(configured(folder), base=other) as data:
        assert data.spec.mean == (1, 2, 3)
        assert data.spec.tile_size == 64
        assert data.spec.clip == base.clip


def test_what_the_user_says_of_inputs(folder):
    inputs = {
        "bands": ["VH", "VV"],
        "channels": ["VH", "VH", "VV"],
        "mean": [0, 0, 0],
        "std": [1, 2, 3],
        "scaling": "linear",
    }
    with region_data(configured(folder, preprocess=inputs)) as data:
        assert data.spec.bands == ("VH", "VV")
        assert data.spec.channels == ("VH", "VH", "VV")
        assert (data.spec.mean, data.spec.std) == ((0, 0, 0), (1, 2, 3))
        assert data.spec.scaling == "linear"
        assert np.max(data.spec.clip) < 2


def test_clips_that_the_user_gives(folder):
    inputs = {"clip": [[-30, 5], [-40, 0]]}
    with region_data(configured(folder, preprocess=inputs)) as data:
        assert data.spec.clip == ((-30, 5), (-40, 0))


def test_an_optional_band_is_left_out_of_some_tiles(folder):
    train = {**PLAIN, "samples": 64}
    with region_data(configured(folder, train=train)) as data:
        whole = [data.training.sample(0, i) for i in range(64)]
    inputs = {"optional": ["VH"]}
    with region_data(configured(folder, train=train, preprocess=inputs)) as data:
        spec, tiles = data.spec, [data.training.sample(0, i) for i in range(64)]
        fixed = data.validation.sample(0, 0)
    vv, vh = spec.fill
    assert vv is None
    assert vh == pytest.approx(spec.mean[1], abs=1e-3)
    assert fixed[0][1].std() > 0.1
    lacking = 0
    for (image, labels), (full, there) in zip(tiles, whole, strict=True):
        assert (labels == there).all()
        assert (image[0] == full[0]).all()
        lacking += (abs(image[1]) < 1e-3).all() and not (abs(full[1]) < 1e-3).all()
    assert 4 <= lacking <= 28


def test_where_all_bands_are_optional_each_is_left_out_of_some_tiles_but_never_all(folder):
    train, inputs = {**PLAIN, "samples": 200}, {"optional": ["VV", "VH"]}
    with region_data(configured(folder, train=train, preprocess=inputs)) as data:
        assert data.spec.fill == pytest.approx(data.spec.mean[:2], abs=1e-3)
        images = [data.training.sample(0, i)[0] for i in range(200)]
    lacks = np.array([(abs(image[:2]) < 1e-3).all((1, 2)) for image in images])
    # A share of 1 - 0.75^2 lacks a band: either of them alike.
    assert not lacks.all(1).any()
    assert lacks.mean(0) == pytest.approx([0.22, 0.22], abs=0.08)


def test_a_training_scene_may_lack_an_optional_band(folder, truth):
    with rasterio.open(folder / "scene_vv_vh.tif") as source:
        write_raster(folder / "only_vv.tif", source.read(1), descriptions=["VV"])
    with region_data(configured(folder, train=PLAIN, preprocess={"optional": ["VH"]})) as data:
        spec = data.spec
    inputs = {"bands": ["VV", "VH"], "optional": ["VH"]}
    lone = {**SCENE, "scene": "only_vv.tif"}
    config = configured(folder, [SCENE, lone], train=PLAIN, preprocess=inputs)
    with region_data(config) as data:
        # What is known of VH comes from the scene that has it.
        assert data.spec.fill[1] == pytest.approx(spec.fill[1], abs=0.2)
        assert data.spec.std[:2] == pytest.approx(spec.std[:2], rel=0.1)
        images = [data.training.sample(0, i)[0] for i in range(32)]
    lacking = sum(bool((abs(image[1]) < 0.1).all()) for image in images)
    assert 8 <= lacking <= 30
    config = configured(folder, [lone], train=PLAIN, preprocess=inputs)
    with pytest.raises(UsageError, match="no training scene has VH"), region_data(config):
        pass


def test_classes_are_drawn_from_labels_that_name_them_alone(folder, rng):
    known = np.ones((320, 380), np.uint8)
    known[:, 300:] = 4
    known[:16, :16] = 2
    write_scene(folder / "a_vv_vh.tif", rng, known)
    write_raster(folder / "a.tif", np.where(known == 4, 9, known).astype(np.uint8))
    scene = {
        "scene": "a_vv_vh.tif",
        "labels": "a.tif",
        "map": {1: 1, 2: 2, 9: [2, 4]},
        "split": "train",
    }
    train = {**PLAIN, "balance": 1, "tile_size": 16, "samples": 300}
    with region_data(configured(folder, [scene, SCENE | {"split": "val"}], train=train)) as data:
        rows = np.concatenate([data.training.sample(0, i)[1].ravel() for i in range(300)])
        trees = next(i for i, s in enumerate(data.sets) if s.tolist() == [False, True, False])
    # A third of the tiles look at the one corner (0.2 %) whose label is trees and nothing else.
    assert np.mean(rows == trees) > 0.05


def test_fixed_tiles_are_shown_with_each_set_of_bands(folder):
    with rasterio.open(folder / "scene_vv_vh.tif") as source:
        write_raster(folder / "only_vv.tif", source.read(1), descriptions=["VV"])
    inputs = {"bands": ["VV", "VH"], "optional": ["VH"]}
    lone = {**SCENE, "scene": "only_vv.tif"}
    with region_data(configured(folder, [SCENE, lone], preprocess=inputs)) as data:
        whole = data.validation
        both, vv = data.by_bands(whole, others=True)
        assert (both.bands, vv.bands) == (("VV", "VH"), ("VV",))
        assert len(vv.tiles) == len(whole)
        assert 0 < len(both.tiles) < len(whole)
        pixels = sum(int((whole.sample(0, i)[1] > 0).sum()) for i in range(len(whole)))
        assert vv.labelled == whole.labelled == pixels
        for i in range(len(whole)):
            (image, labels), (seen, same_labels) = whole.sample(0, i), vv.tiles.sample(0, i)
            assert (labels == same_labels).all()
            assert (image[0] == seen[0]).all()
            assert abs(seen[1]).max() < 1e-3
        assert all(both.tiles.sample(0, i)[0][1].std() > 0.1 for i in range(len(both.tiles)))
        apart = data.by_bands(whole, others=False)
        assert sum(len(part.tiles) for part in apart) == len(whole)
        assert sum(part.labelled for part in apart) == whole.labelled


def test_a_model_may_go_on_with_scenes_that_lack_an_optional_band(folder, truth, rng):
    with region_data(configured(folder, preprocess={"optional": ["VH"]})) as data:
        spec = data.spec
    write_scene(folder / "both.tif", rng, truth)
    with rasterio.open(folder / "both.tif") as source:
        write_raster(folder / "only_vv.tif", source.read(1), descriptions=["VV"])
    scene = {**SCENE, "scene": "only_vv.tif"}
    with region_data(configured(folder, [scene]), spec) as data:
        image = data.training.sample(0, 0)[0]
        assert np.isfinite(image).all()
        assert (abs(image[1]) < 1e-3).all()
        assert data.spec.fill == spec.fill
        assert data.spec.quantiles[1] == spec.quantiles[1]
        assert data.spec.quantiles[0] == pytest.approx(spec.quantiles[0], abs=1)


@pytest.mark.parametrize(
    "inputs",
    [
        {"mean": [1]},
        {"channels": ["VV"]},
        {"bands": list("abcde")},
        {"clip": [[-30, 5]]},
        {"clip": [[-30], [5]]},
        {"clip": [[5, -30], [-40, 0]]},
        {"clip": [[-30, float("nan")], [-40, 0]]},
        {"optional": ["HH"]},
        {"bands": ["VV"], "optional": ["VV"]},
    ],
)
def test_inputs_that_do_not_fit(folder, inputs):
    with pytest.raises(UsageError), region_data(configured(folder, preprocess=inputs)):
        pass


def test_an_optional_band_that_the_first_scene_lacks_must_be_named(folder, rng):
    vv = rng.normal(-10, 3, (320, 380)).astype(np.float32)
    write_raster(folder / "only_vv.tif", vv, descriptions=("VV",))
    config = configured(
        folder, [{**SCENE, "scene": "only_vv.tif"}, SCENE], preprocess={"optional": ["VH"]}
    )
    message = r"none of the bands VV of .*only_vv\.tif; name all"
    with pytest.raises(UsageError, match=message), region_data(config):
        pass


def test_what_a_map_names_and_no_label_has_is_told_once(folder, rng, truth):
    table = np.zeros((5, 3), np.uint8)
    table[[1, 2, 4]] = [[0, 0, 255], [0, 255, 0], [255, 0, 0]]
    pictures = {"a": truth, "b": np.where(truth == 4, 3, truth)}
    for name, codes in pictures.items():
        write_raster(folder / f"{name}.tif", np.moveaxis(table[codes], -1, 0))
    # Black is in one of the two, and #00fe00 is a slip: green trains by the legend's colour.
    names = {"#FF0000": "built", "#000000": "ignore", "#00FE00": "water"}
    scenes = [SCENE | {"labels": f"{name}.tif", "map": names} for name in pictures]
    codes = {1: "water", 2: "trees", 4: "built", 77: "ignore"}
    told = []
    with region_data(configured(folder, [*scenes, SCENE | {"map": codes}]), tell=told.append):
        pass
    assert [t for t in told if "map" in t] == ["map: no pixel is labelled #00fe00"]


ONLY_PARTIAL = {1: ["water", "trees"], 2: ["trees", "built"], 4: ["water", "built"]}


@pytest.mark.parametrize(
    ("scenes", "more", "words"),
    [
        (
            [SCENE | {"map": ONLY_PARTIAL}],
            {},
            "every label is one of several classes.*add labels that name one class",
        ),
        (
            [SCENE | {"split": "train"}, SCENE | {"map": ONLY_PARTIAL, "split": "val"}],
            {},
            "every label for validation is one of several classes.*`split: val`",
        ),
        (
            [SCENE | {"map": {1: "water", 2: "trees", 4: "ignore"}, "split": "train"},
             SCENE | {"map": {1: "ignore", 2: "ignore", 4: "built"}, "split": "val"}],
            {"ignore": "built"},
            "every label for validation is built, which is ignored",
        ),
    ],
)  # fmt: skip
def test_labels_that_cannot_validate_are_told_before_training(folder, scenes, more, words):
    with pytest.raises(UsageError, match=words), region_data(configured(folder, scenes, **more)):
        pass


def polygons(path, classes, offset=0):
    """Squares of 60 pixels side by side."""
    left, top = PLACE.c + 600 * offset, PLACE.f
    boxes = [shapely.box(left + 600 * i, top - 600, left + 600 * (i + 1), top)
             for i in range(len(classes))]  # fmt: skip
    frame = geopandas.GeoDataFrame({"cover": classes}, geometry=boxes, crs=UTM)
    frame.to_file(path)


def test_polygons_without_a_class(folder, rng, truth):
    empty = r"l\.gpkg: 3 features here, but none with a class: the column 'cover' is empty"
    polygons(folder / "l.gpkg", [None, None, None])
    with (
        pytest.raises(UsageError, match=empty),
        region_data(configured(folder, [SCENE | {"labels": "l.gpkg", "column": "cover"}])),
    ):
        pass
    polygons(folder / "l.gpkg", ["water", "trees", None, "built", "water"])
    write_scene(folder / "other_vv_vh.tif", rng, truth)
    shared = {"scene": "{name}_vv_vh.tif", "labels": "l.gpkg"}
    told = []
    with region_data(configured(folder, [shared]), tell=told.append):
        pass
    assert [t for t in told if "without a class" in t] == [
        f"{folder / 'l.gpkg'}: 1 feature without a class was left out"
    ]


def test_partial_labels_reach_the_tiles(folder):
    class_map = {1: "water", 2: ["trees", "built"], 4: "built"}
    scenes = [{**SCENE, "map": class_map}]
    with region_data(configured(folder, scenes)) as data:
        assert data.sets[4].tolist() == [False, True, True]
        rows = np.unique([data.training.sample(0, i)[1] for i in range(30)])
        assert set(rows.tolist()) == {0, 1, 3, 4}
        assert data.class_pixels[1] == 0


def test_pictures_of_a_folder(tmp_path, rng):
    """Eight-bit pictures and labels of 40 pixels, smaller than a tile."""
    for i in range(8):
        labels = blobs(rng, (40, 44), size=8)
        values = np.select([labels == 1, labels == 2], [30, 90], 200)
        noisy = (values * rng.uniform(0.5, 1.5, labels.shape)).clip(1, 255).astype(np.uint8)
        write_raster(tmp_path / f"sar_{i}.png", noisy, None, None, driver="PNG")
        write_raster(tmp_path / f"lab_{i}.png", labels, None, None, driver="PNG")
    scenes = [{"scene": "sar_{n}.png", "labels": "lab_{n}.png", "nodata": "none"}]
    with region_data(configured(tmp_path, scenes, validation={})) as data:
        assert data.spec.scaling == "amplitude8"
        assert data.spec.bands == ("gray",)
        whole = [{int(v) for v in np.unique(s.of(Window(0, 0, 40, 44)))} for s in data.split.scenes]
        assert sorted(whole, key=str) == [{TRAIN}] * 6 + [{VAL}] * 2
        for index in range(10):
            image, labels = data.training.sample(0, index)
            shown = (image != 0).any(0)
            assert shown.sum() == 40 * 44
            assert (labels[~shown] == 0).all()
            assert (labels > 0).sum() == 40 * 44


def test_scenes_without_labels_are_left_out(folder, rng, truth):
    write_scene(
        folder / "second_vv_vh.tif", rng, truth, transform=PLACE * Affine.translation(500, 0)
    )
    place = PLACE * Affine.translation(500, 0)
    write_raster(folder / "second.tif", np.full_like(truth, 9), place)
    told = []
    scenes = [
        {**SCENE, "map": {1: 1, 2: 2, 4: 4}},
        {"scene": "second_vv_vh.tif", "labels": "second.tif", "map": {9: "ignore"}},
    ]
    with region_data(configured(folder, scenes), tell=told.append) as data:
        assert len(data.split.names) == 1
    assert "1 scene without a label was not used: second_vv_vh.tif" in told
    with (
        pytest.raises(UsageError, match="no scene has a labelled pixel"),
        region_data(configured(folder, scenes[1:])),
    ):
        pass


def test_labels_of_one_class_are_refused(folder, truth):
    scenes = [{**SCENE, "map": {1: 1, 2: "ignore", 4: "ignore"}}]
    with (
        pytest.raises(LegendError, match="all labels to train on are water"),
        region_data(configured(folder, scenes)),
    ):
        pass


def test_missing_classes_are_told(folder):
    told = []
    scenes = [{**SCENE, "map": {1: 1, 2: 2, 4: "ignore"}}]
    with region_data(configured(folder, scenes), tell=told.append):
        pass
    assert "no label for training is built" in told
    assert "no label for validation is built" in told


def test_gaps_that_leave_nothing(folder):
    blocks = {"block_size_px": 64, "gap_px": 300}
    with (
        pytest.raises(UsageError, match="no labelled pixel is left for training"),
        region_data(configured(folder, validation=blocks)),
    ):
        pass


def test_no_scene_for_training(folder):
    scenes = [{**SCENE, "split": "val"}]
    with (
        pytest.raises(UsageError, match="no scene is for training"),
        region_data(configured(folder, scenes)),
    ):
        pass


def test_units_that_cannot_be_told_ask_for_them(folder, truth):
    values = (truth.astype(np.uint16) * 700) + 300
    write_raster(folder / "scene_vv_vh.tif", np.stack([values, values // 2]))
    with pytest.raises(SceneError, match="units"), region_data(configured(folder)):
        pass
    with region_data(configured(folder, [{**SCENE, "units": "amplitude"}])) as data:
        assert data.spec.scaling == "db"


def test_scale_and_offset_of_a_scene(folder, truth):
    def sampled(scene):
        with region_data(configured(folder, [scene])) as data:
            return data.spec.quantiles, data.training.sample(0, 0)[0]

    write_raster(folder / "scene_vv_vh.tif", np.stack([truth * 4.0 - 20, truth * 4.0 - 28]))
    quantiles, image = sampled({**SCENE, "units": "db"})
    stored = np.stack([truth * 4.0 + 44, truth * 4.0 + 36]) * 16
    write_raster(folder / "scene_vv_vh.tif", stored.astype(np.int16))
    scaled = {**SCENE, "units": "db", "scale": 0.0625, "offset": -64}
    assert sampled(scaled)[0] == quantiles
    np.testing.assert_array_equal(sampled(scaled)[1], image)


def test_label_rasters_are_removed(folder):
    with region_data(configured(folder)) as data:
        path = data.training._reader.scenes[0].labels
        assert path.exists()
    assert not path.parent.exists()


def test_another_process_draws_the_same(folder, tmp_path):
    """Hash seeds and open files differ there; samples do not."""
    with region_data(configured(folder)) as data:
        here = data.training.sample(1, 2)
        sent = tmp_path / "tiles.pickle"
        sent.write_bytes(pickle.dumps(data.training))
        code = (
            "import pickle, sys, numpy as np\n"
            f"tiles = pickle.load(open({str(sent)!r}, 'rb'))\n"
            f"np.savez({str(tmp_path / 'there.npz')!r}, *tiles.sample(1, 2))\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    there = np.load(tmp_path / "there.npz")
    assert same(here, (there["arr_0"], there["arr_1"]))


images = st.integers(0, 2**32).map(
    lambda s: np.random.default_rng(s).gamma(4, 0.1, (2, 24, 24)).astype(np.float32)
)


@given(images, st.integers(0, 2**32), st.sampled_from(["db", "power", "amplitude"]))
@settings(max_examples=40, deadline=None)
def test_flips_and_turns_keep_pixels_and_labels_together(image, seed, units):
    labels = np.arange(24 * 24).reshape(24, 24)
    rng = np.random.default_rng(seed)
    turned, (moved,) = vary(image, (labels,), units, {"flip", "rot90"}, rng)
    assert (turned.reshape(2, -1) == image.reshape(2, -1)[:, moved.ravel()]).all()
    assert sorted(moved.ravel().tolist()) == labels.ravel().tolist()
    same_image, (same_labels,) = vary(image, (labels,), units, (), np.random.default_rng(seed))
    assert (same_image == image).all()
    assert (same_labels == labels).all()


@given(
    images, st.integers(0, 2**32), st.sampled_from([("gain",), ("speckle",), ("gain", "speckle")])
)
@settings(max_examples=40, deadline=None)
def test_units_do_not_change_what_speckle_and_gain_do(power, seed, kinds):
    results = []
    for units, to, back in (
        ("power", lambda p: p, lambda v: v),
        ("amplitude", np.sqrt, np.square),
        ("db", lambda p: 10 * np.log10(p), lambda v: 10 ** (v / 10)),
    ):
        varied, _ = vary(
            to(power).astype(np.float32), (), units, kinds, np.random.default_rng(seed)
        )
        assert varied.dtype == np.float32
        results.append(back(varied.astype(np.float64)))
    assert results[1] == pytest.approx(results[0], rel=1e-3)
    assert results[2] == pytest.approx(results[0], rel=1e-3)
    assert (results[0] > 0).all()


def test_speckle_keeps_the_mean():
    rng = np.random.default_rng(0)
    power = np.ones((1, 200, 200), np.float32)
    means = [vary(power, (), "power", {"speckle"}, rng)[0] for _ in range(40)]
    assert np.mean(means) == pytest.approx(1, abs=0.005)
    assert any(m.std() > 0.1 for m in means)
    assert any(m.std() == 0 for m in means)


def test_times_power_in_decibels():
    values = np.array([[-10.0]], np.float32)
    assert times_power(values, np.array([[2.0]], np.float32), "db")[0, 0] == pytest.approx(
        -6.99, abs=0.01
    )


def test_real_scene(shared_data):
    """San Francisco: linear intensity without a CRS, five classes, unlabelled pixels."""
    colors = ["#aa8866", "#008800", "#0000ff", "#ff0000", "#00ff00"]
    names = ["bare", "mountain", "water", "urban", "vegetation"]
    data = {
        "classes": [
            {"code": i, "name": n, "color": c}
            for i, (n, c) in enumerate(zip(names, colors, strict=True), 1)
        ],
        "scenes": [
            {
                "scene": "sf_airsar/sf_airsar_hh_hv_vv_linear.tif",
                "labels": "sf_airsar/sf_airsar_labels.tif",
                "map": {0: "ignore", **{i: i for i in range(1, 6)}},
            }
        ],
        "train": {"tile_size": 128},
    }
    config = parse_region(data, shared_data, "sf")
    with region_data(config) as found:
        assert found.spec.channels == ("HH", "HV", "VV")
        assert found.spec.scaling == "db"
        assert (found.class_pixels > 0).all()
        held = sum(
            np.bincount(found.validation.sample(0, i)[1].ravel(), minlength=6)
            for i in range(len(found.validation))
        )
        assert (held[1:] > 0).all()
        share = held[1:].sum() / (held[1:].sum() + found.class_pixels.sum())
        assert 0.2 < share < 0.4
        image, _ = found.training.sample(0, 0)
        assert np.abs(image.mean()) < 2
