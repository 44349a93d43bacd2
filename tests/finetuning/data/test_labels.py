"""Labels on a scene's grid: strict maps, partial labels, counts by cell."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from training_scenes import LEGEND, PLACE, UTM, blobs, write_raster, write_scene

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.finetuning.data.labels import LabelRaster, scan_labels
from cwsam_geo.finetuning.region.config import LabelledScene
from cwsam_geo.finetuning.region.pairs import Pair
from cwsam_geo.finetuning.targets.class_sets import CELL, ClassSets, count_cells, joined
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform", "ignore:'crs' was")
SHAPE = (150, 210)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def truth(rng):
    return blobs(rng, SHAPE)


@pytest.fixture
def scene(tmp_path, rng, truth):
    return write_scene(tmp_path / "scene.tif", rng, truth)


def scan(
    scene,
    labels,
    target,
    class_map=None,
    shared=False,
    layer=None,
    legend=LEGEND,
    remarks=False,
    **more,
):
    """The labels as rows of the class sets, the sets, and the counts."""
    entry = LabelledScene(
        Pair((str(scene),), str(labels), shared), layer or VectorLayer(), map=class_map, **more
    )
    sets = ClassSets.of(legend, [class_map])
    with open_source(str(scene)) as source:
        scanned = scan_labels(entry, source, legend, sets, target)
        window = source.grid.window
    raster = LabelRaster(target)
    rows = raster.read(window)
    raster.close()
    return (rows, sets, scanned.cells, *((scanned.remarks,) if remarks else ()))


def rows_of(codes):
    """Rows of single classes, as the legend has them."""
    return np.select([codes == 1, codes == 2, codes == 4], [1, 2, 3], 0)


def test_labels_in_the_classes_own_codes(tmp_path, scene, truth):
    labels = write_raster(tmp_path / "labels.tif", np.where(truth == 2, 0, truth), nodata=0)
    rows, sets, cells = scan(scene, labels, tmp_path / "out.tif")
    assert (rows == rows_of(np.where(truth == 2, 0, truth))).all()
    assert sets.table.tolist() == [
        [False, False, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    assert cells.per_set(4).tolist() == [0, (truth == 1).sum(), 0, (truth == 4).sum()]


def test_partial_labels_are_sets(tmp_path, scene, truth):
    labels = write_raster(tmp_path / "labels.tif", np.where(truth == 4, 9, truth).astype(np.int16))
    class_map = {"1": (0,), "2": (), "9": (0, 2)}
    rows, sets, _ = scan(scene, labels, tmp_path / "out.tif", class_map)
    assert (rows == np.select([truth == 1, truth == 4], [1, 4], 0)).all()
    assert sets.table[4].tolist() == [True, False, True]


@pytest.mark.parametrize("class_map", [None, {"1": (0,), "2": (1,)}])
def test_a_code_without_an_entry_is_listed_with_its_pixels(tmp_path, scene, class_map):
    codes = np.full(SHAPE, 1, np.int16)
    codes[:2], codes[-1] = 7, -3
    labels = write_raster(tmp_path / "labels.tif", codes)
    with pytest.raises(
        LegendError,
        match=r"labels\.tif.*7 \(420\), -3 \(210\); 630 of 31500.*1 water.*`map:`",
    ):
        scan(scene, labels, tmp_path / "out.tif", class_map)


def test_codes_that_the_map_leaves_out_are_the_classes_own(tmp_path, scene, truth):
    labels = write_raster(tmp_path / "labels.tif", np.where(truth == 1, 0, truth))
    rows, _, _, remarks = scan(scene, labels, tmp_path / "out.tif", {"0": ()}, remarks=True)
    assert (rows == rows_of(np.where(truth == 1, 0, truth))).all()
    assert remarks == ()


def test_codes_that_equal_a_class_by_chance_are_told(tmp_path, scene, truth):
    """Where the map shows that the codes are not the classes' own, an own code may be missing."""
    labels = write_raster(tmp_path / "labels.tif", truth)
    class_map = {"1": (1,), "2": (0,)}
    rows, _, _, remarks = scan(scene, labels, tmp_path / "out.tif", class_map, remarks=True)
    assert (rows == np.select([truth == 1, truth == 2], [2, 1], 3)).all()
    (remark,) = remarks
    assert "labels.tif: codes without an entry in `map:` count as the class" in remark
    assert "4 (built); if one means something else, add `4: CLASS` under `map:`" in remark
    whole = {**class_map, "4": (2,)}
    assert scan(scene, labels, tmp_path / "out.tif", whole, remarks=True)[3] == ()


def test_a_legend_in_the_labels_that_names_other_classes_is_told(tmp_path, scene, truth):
    labels = write_raster(tmp_path / "labels.tif", truth)
    names = [
        {"code": 1, "name": "Water", "color": "#0000ff"},
        {"code": 2, "name": "snow", "color": "#ffffff"},
    ]
    with rasterio.open(labels, "r+") as file:
        file.update_tags(LEGEND=json.dumps(names))
    (remark,) = scan(scene, labels, tmp_path / "out.tif", remarks=True)[3]
    assert "2 ('trees' in `classes:`, 'snow' in the labels)" in remark
    assert "Water" not in remark


def test_no_label_where_the_scene_has_no_data(tmp_path, rng, truth):
    scene = write_scene(tmp_path / "s.tif", rng, truth)
    with rasterio.open(scene, "r+") as file:
        values = file.read()
        values[0, 20:50, 30:90] = np.nan
        file.write(values)
    labels = write_raster(tmp_path / "labels.tif", truth)
    rows, _, cells = scan(scene, labels, tmp_path / "out.tif")
    assert (rows[20:50, 30:90] == 0).all()
    assert cells.per_set(4).sum() == truth.size - 30 * 60


def test_labels_on_another_grid_and_crs(tmp_path, scene):
    """Nearest neighbour: between codes 1 and 4 no 2 comes up."""
    codes = np.where(np.indices((300, 400)).sum(0) // 6 % 2, 1, 4).astype(np.uint8)
    place = Affine(0.0001, 0, 14.998, 0, -0.00008, 45.154)
    labels = write_raster(tmp_path / "labels.tif", codes, place, "EPSG:4326", nodata=0)
    rows, _, cells = scan(scene, labels, tmp_path / "out.tif")
    assert set(np.unique(rows).tolist()) == {1, 3}
    assert cells.per_set(4)[2] == 0
    assert (rows > 0).mean() > 0.9


def test_labels_as_a_picture(tmp_path, rng, truth):
    scene = write_scene(tmp_path / "s.tif", rng, truth, transform=None, crs=None)
    table = np.zeros((5, 3), np.uint8)
    for entry in LEGEND.entries:
        table[entry.code] = entry.rgb
    picture = np.moveaxis(table[truth], -1, 0)
    labels = write_raster(tmp_path / "l.png", picture, None, None, driver="PNG")
    rows, _, _ = scan(scene, labels, tmp_path / "out.tif")
    assert (rows == rows_of(truth)).all()
    picture[:, 0] = 77
    labels = write_raster(tmp_path / "l.png", picture, None, None, driver="PNG")
    with pytest.raises(LegendError, match=r"colours.*#4d4d4d \(210\)"):
        scan(scene, labels, tmp_path / "out.tif")
    rows, _, _ = scan(scene, labels, tmp_path / "out.tif", {"#4d4d4d": ()})
    assert (rows[1:] == rows_of(truth[1:])).all()
    assert (rows[0] == 0).all()
    jpeg = write_raster(tmp_path / "l.jpg", picture, None, None, driver="JPEG", QUALITY="50")
    with pytest.raises(LegendError, match="JPEG compression"):
        scan(scene, jpeg, tmp_path / "out.tif")


@pytest.mark.parametrize(
    ("suffix", "item", "words"),
    [
        ("png", "water", r"`map:` water: no colour of .*l\.png, which is a picture"),
        ("png", "1", r"`map:` 1: no colour of .*l\.png, which is a picture"),
        ("tif", "water", r"`map:` water: no code of .*l\.tif, whose labels are whole numbers"),
        ("tif", "#0000ff", r"`map:` #0000ff: no code of .*l\.tif"),
        ("tif", "01", r"`map:` 01: no code of .*l\.tif"),
    ],
)
def test_a_map_of_what_the_labels_cannot_hold_is_refused(tmp_path, rng, truth, suffix, item, words):
    scene = write_scene(tmp_path / "s.tif", rng, truth, transform=None, crs=None)
    if suffix == "png":
        picture = np.zeros((3, *SHAPE), np.uint8)
        labels = write_raster(tmp_path / "l.png", picture, None, None, driver="PNG")
    else:
        labels = write_raster(tmp_path / "l.tif", truth, None, None)
    whole = {"#000000": (0,)} if suffix == "png" else {"1": (0,), "2": (1,), "4": (2,)}
    scan(scene, labels, tmp_path / "out.tif", whole)
    with pytest.raises(UsageError, match=words):
        scan(scene, labels, tmp_path / "out.tif", whole | {item: (1,)})


def test_classes_that_share_a_colour_cannot_be_decoded(tmp_path, rng, truth):
    from cwsam_geo.core.legend import Legend

    twins = Legend.from_list([{"code": i, "name": str(i), "color": "#0000ff"} for i in (1, 2)])
    scene = write_scene(tmp_path / "s.tif", rng, truth, transform=None, crs=None)
    picture = np.zeros((3, *SHAPE), np.uint8)
    picture[2] = 255
    labels = write_raster(tmp_path / "l.png", picture, None, None, driver="PNG")
    with pytest.raises(LegendError, match=r"1 and 2 share a colour.*`#0000ff: CLASS` under `map:`"):
        scan(scene, labels, tmp_path / "out.tif", legend=twins)
    rows, _, _ = scan(scene, labels, tmp_path / "out.tif", {"#0000ff": (1,)}, legend=twins)
    assert (rows == 2).all()


def box(left, top, right, bottom):
    x, y = PLACE.c, PLACE.f
    return shapely.box(x + 10 * left, y - 10 * bottom, x + 10 * right, y - 10 * top)


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_labels_as_polygons(tmp_path, scene, crs):
    path = tmp_path / "labels.gpkg"
    table = geopandas.GeoDataFrame(
        {"landcover": ["lake", "wood"], "id": [1, 2]},
        geometry=[box(10, 20, 90, 70), box(100, 0, 210, 150)],
        crs=UTM,
    )
    table.to_crs(crs).to_file(path)
    class_map = {"lake": (0,), "wood": (1, 2)}
    rows, _, _ = scan(scene, path, tmp_path / "out.tif", class_map, layer=VectorLayer("landcover"))
    expected = np.zeros(SHAPE)
    expected[20:70, 10:90], expected[:, 100:] = 1, 4
    assert (rows == expected).all()


@pytest.mark.parametrize(
    "class_map", [None, {"lake": (0,)}, {"Lake": (0,), "Lava": ()}, {"#0000ff": ()}]
)
def test_names_mean_the_same_in_any_case(tmp_path, scene, class_map):
    path = tmp_path / "labels.gpkg"
    first = "LAKE" if class_map and "#0000ff" not in class_map else "WATER"
    geopandas.GeoDataFrame(
        {"c": [first, "Built"]}, geometry=[box(10, 20, 90, 70), box(100, 0, 210, 150)], crs=UTM
    ).to_file(path)
    rows, _, _ = scan(scene, path, tmp_path / "out.tif", class_map)
    expected = np.zeros(SHAPE)
    expected[20:70, 10:90], expected[:, 100:] = 1, 3
    assert (rows == expected).all()


def test_labels_in_one_of_several_bands(tmp_path, scene, truth):
    other = np.full_like(truth, 2)
    labels = write_raster(tmp_path / "labels.tif", np.stack([other, truth]), nodata=0)
    target = tmp_path / "out.tif"
    with pytest.raises(SceneError, match=r"labels\.tif: has 2 bands.*--band"):
        scan(scene, labels, target)
    rows, _, _ = scan(scene, labels, target, label_band="2")
    assert (rows == rows_of(truth)).all()
    polygons = tmp_path / "labels.gpkg"
    geopandas.GeoDataFrame({"c": [1]}, geometry=[box(0, 0, 9, 9)], crs=UTM).to_file(polygons)
    with pytest.raises(UsageError, match="--band is for rasters"):
        scan(scene, polygons, target, label_band="2")


def test_points_are_no_labels(tmp_path, scene):
    path = tmp_path / "labels.gpkg"
    geopandas.GeoDataFrame(
        {"c": ["water"]}, geometry=[box(10, 20, 90, 70).centroid], crs=UTM
    ).to_file(path)
    with pytest.raises(UsageError, match="points"):
        scan(scene, path, tmp_path / "out.tif")


def test_labels_elsewhere(tmp_path, scene, truth):
    far = PLACE * Affine.translation(5000, 0)
    labels = write_raster(tmp_path / "labels.tif", truth, far)
    with pytest.raises(UsageError, match=r"labels\.tif: the labels do not overlap the scene"):
        scan(scene, labels, tmp_path / "out.tif")
    _, _, cells = scan(scene, labels, tmp_path / "out.tif", shared=True)
    assert not len(cells.cells)


def test_labels_without_crs_for_a_scene_with_one(tmp_path, rng, scene, truth):
    labels = write_raster(tmp_path / "labels.tif", truth, None, None)
    with pytest.raises(
        UsageError, match=r"labels\.tif: has no CRS, but .*scene\.tif has EPSG:32633"
    ):
        scan(scene, labels, tmp_path / "out.tif")
    bare = write_scene(tmp_path / "bare.tif", rng, truth, transform=None, crs=None)
    small = write_raster(tmp_path / "small.tif", truth[1:], None, None)
    with pytest.raises(SceneError, match="do not fit"):
        scan(bare, small, tmp_path / "out.tif")


def test_more_sets_than_a_byte_holds(tmp_path, rng):
    """200 classes and their pairs: rows beyond 255 come back as they were."""
    from cwsam_geo.core.legend import Legend

    many = Legend.from_list(
        [{"code": i, "name": f"c{i}", "color": f"#0000{i:02x}"} for i in range(200)]
    )
    codes = (np.arange(SHAPE[0] * SHAPE[1]) % 400).reshape(SHAPE).astype(np.uint16)
    class_map = {
        str(i): (i,) if i < 200 else tuple(sorted({i - 200, (i - 199) % 200})) for i in range(400)
    }
    scene = write_scene(tmp_path / "s.tif", rng, codes)
    labels = write_raster(tmp_path / "l.tif", codes)
    rows, sets, cells = scan(scene, labels, tmp_path / "out.tif", class_map, legend=many)
    allowed = sets.table[rows]
    assert len(sets.table) == 401
    for code in (0, 199, 200, 399):
        where = np.argwhere(codes == code)[0]
        assert tuple(np.flatnonzero(allowed[tuple(where)])) == class_map[str(code)]
    assert cells.per_set(401).sum() == codes.size


@given(
    st.integers(0, 70),
    st.integers(0, 70),
    hnp.arrays(
        np.uint16, st.tuples(st.integers(1, 90), st.integers(1, 90)), elements=st.integers(0, 3)
    ),
)
@settings(max_examples=60)
def test_counts_by_cell(row, col, labels):
    window = Window(row, col, *labels.shape)
    shape = (6, 6)
    counts = count_cells(labels, window, shape)
    expected = np.zeros((*shape, 4), int)
    for (r, c), value in np.ndenumerate(labels):
        expected[(r + row) // CELL, (c + col) // CELL, value] += 1
    found = np.zeros((36, 4), int)
    found[counts.cells, counts.sets] = counts.pixels
    assert (found.reshape(6, 6, 4)[..., 1:] == expected[..., 1:]).all()
    assert (counts.labelled() == expected[..., 1:].sum(-1)).all()
    twice = joined([counts, counts], shape)
    assert (twice.pixels == 2 * counts.pixels).all()
    assert (twice.cells == counts.cells).all()
