"""Spatial splits: who is for what, and how far training stays from the rest."""

import json

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.region.config import BlockOptions
from cwsam_geo.finetuning.report.data_summary import write_split
from cwsam_geo.finetuning.split.assignment import BlockTable, assign_blocks
from cwsam_geo.finetuning.split.blocks import SplitScene, draw_split
from cwsam_geo.finetuning.split.roles import TEST, TRAIN, UNUSED, VAL
from cwsam_geo.finetuning.targets.class_sets import CellCounts, cell_shape, count_cells
from cwsam_geo.io.geolocation import locate

SETS = np.vstack([np.zeros((1, 3), bool), np.eye(3, dtype=bool), [[True, True, False]]])
UTM = CRS.from_epsg(32633)


def grid(height, width, transform=None, crs=None, gcps=()):
    return SceneGrid(
        height,
        width,
        transform or Affine.identity(),
        None if gcps else crs,
        gcps=gcps,
        gcp_crs=crs if gcps else None,
    )


def split_scene(scene_grid, labels=None, split=None, name="scene.tif", seed=0):
    shape = scene_grid.height, scene_grid.width
    if labels is None:
        labels = np.random.default_rng(seed).integers(0, 5, shape)
    cells = count_cells(labels.astype(np.uint16), Window(0, 0, *shape), cell_shape(scene_grid))
    return SplitScene(locate(scene_grid, name), cells, split)


class Drawn:
    def __init__(self, scenes, options=None, tile=(64, 8), seed=0):
        self.locations = [s.location for s in scenes]
        self.split = draw_split(scenes, SETS, options or BlockOptions(), tile, seed)
        self.roles = [
            r.of(loc.grid.window) for r, loc in zip(self.split.scenes, self.locations, strict=True)
        ]


def nearest_distance(a, b):
    """Least number of pixels between a pixel of a and one of b, along the farther axis."""
    from scipy.ndimage import distance_transform_cdt

    if not a.any() or not b.any():
        return np.inf
    return int(distance_transform_cdt(~b, "chessboard")[a].min())


@given(
    st.integers(200, 400),
    st.integers(200, 400),
    st.sampled_from([32, 64, 96]),
    st.integers(0, 32),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_training_keeps_its_distance(height, width, block, gap, test_fraction, seed):
    options = BlockOptions(
        block_size_px=block, fraction=0.3, test_fraction=test_fraction, gap_px=gap
    )
    overlap = 8
    drawn = Drawn([split_scene(grid(height, width))], options, (64, overlap), seed)
    (roles,) = drawn.roles
    held = (roles == VAL) | (roles == TEST)
    # Centres are more than the gap apart: between them lie that many pixels, of neither.
    assert nearest_distance(roles == TRAIN, held) > max(gap, overlap)
    assert (roles == VAL).any()
    assert (roles == TEST).any() == bool(test_fraction)
    assert ((roles == UNUSED) | (roles == TRAIN) | held).all()


def test_any_window_has_the_roles_of_the_whole():
    drawn = Drawn([split_scene(grid(300, 260))], BlockOptions(block_size_px=50))
    (roles,) = drawn.roles
    rng = np.random.default_rng(1)
    for _ in range(30):
        row, col = rng.integers(0, 200, 2)
        window = Window(int(row), int(col), *(int(v) for v in rng.integers(1, 60, 2)))
        assert (drawn.split.scenes[0].of(window) == roles[window.slices]).all()


def test_the_same_seed_gives_the_same_split():
    def draw(seed):
        return Drawn([split_scene(grid(500, 500))], BlockOptions(block_size_px=50), seed=seed)

    first, again, other = draw(1), draw(1), draw(2)
    assert first.split.blocks == again.split.blocks
    assert first.split.blocks != other.split.blocks


def test_shares_and_classes():
    labels = np.ones((640, 640), int)
    labels[:, 320:] = 2
    # A rare class in two corners.
    labels[:20, :20] = labels[-20:, -20:] = 3
    for seed in range(5):
        drawn = Drawn(
            [split_scene(grid(640, 640), labels)], BlockOptions(block_size_px=64), seed=seed
        )
        (roles,) = drawn.roles
        assert (roles == VAL).mean() == pytest.approx(0.25, abs=0.05)
        for code in (1, 2, 3):
            assert (labels[roles == VAL] == code).any()
            assert (labels[roles == TRAIN] == code).any()


def test_few_blocks_still_leave_training():
    drawn = Drawn([split_scene(grid(900, 1024))], tile=(512, 64))
    (roles,) = drawn.roles
    assert (roles == TRAIN).mean() > 0.5
    assert 0.15 < (roles == VAL).mean() < 0.4
    assert "blocks of 256 px" in drawn.split.remarks[0]


def test_too_few_blocks_are_refused():
    scene = split_scene(grid(100, 100))
    with pytest.raises(UsageError, match="the labels lie in 1 block"):
        Drawn([scene], BlockOptions(block_size_px=200))
    with pytest.raises(UsageError, match="3 are needed"):
        Drawn([split_scene(grid(100, 64))], BlockOptions(block_size_px=50, test_fraction=0.2))


def test_metres_need_a_crs():
    with pytest.raises(UsageError, match=r"scene\.tif: has no CRS.*block_size_px"):
        Drawn([split_scene(grid(300, 300))], BlockOptions(block_size_m=500))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size_px": 8}, r"a: .*block_size_px 8 makes blocks of 8 px.*give 32 or more"),
        ({"block_size_px": 31}, "give 32 or more"),
        ({"block_size_m": 160}, r"block_size_m 160 makes blocks of 16 px.*give 320 or more"),
    ],
)
def test_blocks_smaller_than_the_cells_that_labels_are_counted_in_are_refused(options, words):
    """Few of them would hold a cell's centre, and only these are drawn."""
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    scene = split_scene(grid(640, 640, place, UTM), name="a")
    with pytest.raises(UsageError, match=words):
        Drawn([scene], BlockOptions(**options), tile=(32, 0))


@pytest.mark.parametrize("block", [32, 40, 50])
def test_small_blocks_keep_the_share(block):
    drawn = Drawn([split_scene(grid(960, 960))], BlockOptions(block_size_px=block), tile=(32, 0))
    assert (drawn.roles[0] == VAL).mean() == pytest.approx(0.25, abs=0.02)


def test_coarse_scenes_beside_fine_ones_keep_the_share():
    fine, coarse = (
        Affine(size, 0, left, 0, -size, 5_000_000) for size, left in ((10, 500_000), (80, 505_120))
    )
    scenes = [
        split_scene(grid(512, 512, fine, UTM), name="fine"),
        split_scene(grid(100, 100, coarse, UTM), name="coarse", seed=1),
    ]
    drawn = Drawn(scenes, tile=(64, 8))
    assert 0.1 < (drawn.roles[1] == VAL).mean() < 0.5
    assert drawn.split.remarks == ("blocks of 256 px: smaller ones are too small for coarse",)
    with pytest.raises(UsageError, match=r"coarse: .*block_size_m 640 makes blocks of 8 px.*2560"):
        Drawn(scenes, BlockOptions(block_size_m=640), tile=(64, 8))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", Affine(10, 0, 500_000, 0, -10, 5_000_000)),
        ("EPSG:4326", Affine(1e-4, 0, 15, 0, -7e-5, 60)),
        ("EPSG:3857", Affine(20, 0, 1_600_000, 0, -20, 8_400_000)),
        ("EPSG:2263", Affine(33, 0, 980_000, 0, -33, 200_000)),
    ],
)
def test_blocks_are_as_large_on_the_ground_as_asked(crs, transform):
    scene = split_scene(grid(600, 600, transform, CRS.from_user_input(crs)))
    drawn = Drawn([scene], BlockOptions(block_size_m=800))
    geod = pyproj.Geod(ellps="WGS84")
    location = drawn.locations[0]
    west, south, east, north = location.bounds_in(CRS.from_epsg(4326))
    side = geod.inv(west, (south + north) / 2, east, (south + north) / 2)[2]
    plane = drawn.split.planes[0]
    size = [(b.box[2] - b.box[0]) * plane.unit for b in drawn.split.blocks]
    # The grid is fitted to the scene: a whole number of blocks, near the size that was asked for.
    assert min(size) > 800 * 0.75
    assert max(size) < 800 * 1.35
    assert side / max(size) > 3


def test_scenes_of_one_place_agree():
    """Two dates on different grids, one of them in degrees: no ground is in both parts."""
    a = split_scene(grid(400, 400, Affine(10, 0, 500_000, 0, -10, 5_000_000), UTM), name="a")
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    west, north = to_degrees.transform(500_900, 4_999_600)
    place = Affine(1.1e-4, 0, west, 0, -0.8e-4, north)
    b = split_scene(grid(350, 380, place, CRS.from_epsg(4326)), name="b", seed=2)
    drawn = Drawn([a, b], BlockOptions(block_size_m=500))
    rows, cols = np.mgrid[0:350, 0:380] + 0.5
    x, y = pyproj.Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(
        place.c + place.a * cols, place.f + place.e * rows
    )
    col, row = np.floor((x - 500_000) / 10).astype(int), np.floor((5_000_000 - y) / 10).astype(int)
    both = (row >= 0) & (row < 400) & (col >= 0) & (col < 400)
    here, there = drawn.roles[1][both], drawn.roles[0][row[both], col[both]]
    assert both.sum() > 30_000
    assert (here == VAL).any()
    assert not ((here == TRAIN) & (there == VAL)).any()
    assert not ((here == VAL) & (there == TRAIN)).any()


def test_pictures_are_divided_as_wholes():
    scenes = [split_scene(grid(64, 64), name=f"{i}.png", seed=i) for i in range(20)]
    drawn = Drawn(scenes)
    kinds = [set(np.unique(r).tolist()) for r in drawn.roles]
    assert all(len(k) == 1 for k in kinds)
    assert sum(k == {VAL} for k in kinds) == 5


def test_scenes_with_a_split_of_their_own():
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    far = Affine(10, 0, 600_000, 0, -10, 5_000_000)
    scenes = [
        split_scene(grid(200, 200, place, UTM), split="train", name="a"),
        split_scene(grid(200, 200, far, UTM), split="val", name="b"),
        split_scene(grid(200, 200, place, UTM), split="test", name="c"),
    ]
    drawn = Drawn(scenes)
    for found, role in zip(drawn.roles, (TRAIN, VAL, TEST), strict=True):
        assert (found == role).all()
    assert drawn.split.blocks == ()
    assert drawn.split.remarks == (
        "c (test) covers ground that a is trained on: its scores will flatter the model",
    )


def test_a_training_scene_leaves_out_what_others_are_validated_on():
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    scenes = [
        split_scene(grid(300, 300, place, UTM), name="drawn"),
        split_scene(grid(300, 300, place, UTM), split="train", name="train"),
    ]
    drawn = Drawn(scenes, BlockOptions(block_size_px=60))
    assert not ((drawn.roles[0] == VAL) & (drawn.roles[1] != UNUSED)).any()
    assert (drawn.roles[1] == TRAIN).any()


@pytest.mark.parametrize("split", ["train", "val"])
def test_nothing_to_train_or_validate_on(split):
    missing = "validation" if split == "train" else "training"
    with pytest.raises(UsageError, match=f"no scene is for {missing}"):
        Drawn([split_scene(grid(100, 100), split=split)])


def test_scene_with_control_points():
    place = Affine(1e-4, 0, 15, 0, -7e-5, 60)
    gcps = tuple(
        GroundControlPoint(row=r, col=c, x=(place * (c, r))[0], y=(place * (c, r))[1], z=0.0)
        for r in (0, 150, 300)
        for c in (0, 150, 300)
    )
    scene = split_scene(grid(300, 300, None, CRS.from_epsg(4326), gcps))
    drawn = Drawn([scene], BlockOptions(block_size_px=60))
    (roles,) = drawn.roles
    assert (roles == VAL).mean() == pytest.approx(0.25, abs=0.08)
    assert nearest_distance(roles == TRAIN, roles == VAL) > 8


def test_geojson_shows_what_is_where(tmp_path):
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    scenes = [
        split_scene(grid(300, 300, place, UTM), name="a.tif"),
        split_scene(grid(64, 64), split="test", name="b.png"),
    ]
    drawn = Drawn(scenes, BlockOptions(block_size_px=60))
    path = tmp_path / "split.geojson"
    write_split(drawn.split, drawn.locations, path)
    features = json.loads(path.read_text())["features"]
    to_pixels = pyproj.Transformer.from_crs("EPSG:4326", UTM, always_xy=True)
    rows, cols = np.mgrid[0:300, 0:300] + 0.5
    x, y = 500_000 + 10 * cols, 5_000_000 - 10 * rows
    seen = np.full((300, 300), "", object)
    for feature in features:
        shape = shapely.geometry.shape(feature["geometry"])
        if "pixels_of" in feature["properties"]:
            assert feature["properties"] == {
                "split": "test",
                "scenes": ["b.png"],
                "pixels_of": "b.png",
            }
            assert shape.bounds == (0, 0, 64, 64)
            continue
        moved = shapely.transform(
            shape, lambda p: np.column_stack(to_pixels.transform(p[:, 0], p[:, 1]))
        )
        seen[shapely.contains_xy(moved, x, y)] = feature["properties"]["split"]
    assert ((seen == "val") == (drawn.roles[0] == VAL)).mean() > 0.999
    with pytest.raises(UsageError, match="overwrite"):
        write_split(drawn.split, drawn.locations, path)


@st.composite
def tables(draw):
    n = draw(st.integers(3, 40))
    seed = draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 50, (n, 3)) * rng.integers(0, 2, (n, 3)) + 1e-9
    places = np.column_stack([rng.integers(0, 2, n), rng.permutation(n), rng.integers(0, 5, n)])
    return BlockTable(classes, classes.sum(1), places, np.full(n, 0.2))


@given(tables(), st.floats(0.05, 0.6), st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_purpose_gets_a_block(table, val, test, seed):
    roles = assign_blocks(table, val, test, seed)
    assert {TRAIN, VAL} <= set(roles.tolist())
    assert (TEST in roles) == bool(test)
    assert (assign_blocks(table, val, test, seed) == roles).all()


def test_cells_without_labels_are_no_blocks():
    labels = np.zeros((640, 640), int)
    labels[:100, :100], labels[300:420, 500:] = 1, 2
    drawn = Drawn([split_scene(grid(640, 640), labels)], BlockOptions(block_size_px=64))
    assert len(drawn.split.blocks) < 20
    empty = CellCounts((20, 20), *(np.zeros(0, np.int64),) * 3)
    assert empty.per_set(5).tolist() == [0] * 5
