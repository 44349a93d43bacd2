"""``evaluate`` on files, compared with pixel-by-pixel arithmetic that shares no code with it."""

import json

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from sklearn.metrics import confusion_matrix

from cwsam_geo.core import windows
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import CwsamGeoError, LegendError, SceneError, UsageError
from cwsam_geo.evaluation import pixels as tally
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.vectorization.vectorize import vectorize

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform", "ignore:'crs' was")

UTM = "EPSG:32633"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
LEGEND = Legend.from_list(
    [
        {"code": 1, "name": "water", "color": "#0000ff"},
        {"code": 2, "name": "trees", "color": "#008b00"},
        {"code": 4, "name": "built", "color": "#ff0000"},
    ]
)
PIXEL_NAMES = ["water", "trees", "built"]


def write(path, array, transform=NORTH_UP, crs=UTM, **more):
    bands = array if array.ndim == 3 else array[np.newaxis]
    legend = more.pop("legend", None)
    gcps = more.pop("gcps", None)
    profile = {
        "driver": more.pop("driver", "GTiff"),
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype,
    }
    if transform is not None and gcps is None:
        profile["transform"] = transform
    if crs is not None and gcps is None:
        profile["crs"] = crs
    with rasterio.open(path, "w", **profile, **more) as out:
        out.write(bands)
        if gcps is not None:
            out.gcps = (gcps, CRS.from_user_input(crs))
        if legend is not None:
            out.update_tags(LEGEND=legend.to_json())
    return path


def classes(rng, shape, codes=(1, 2, 4)):
    """Blobs of codes, so that neighbours often agree."""
    coarse = rng.choice(codes, (shape[0] // 4 + 1, shape[1] // 4 + 1))
    return np.kron(coarse, np.ones((4, 4))).astype(np.uint8)[: shape[0], : shape[1]]


def expected(reference, mapped, codes=(1, 2, 4)):
    return confusion_matrix(reference, mapped, labels=list(codes))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def map_array(rng):
    array = classes(rng, (60, 80))
    array[:5, :7] = 255
    return array


@pytest.fixture
def map_file(tmp_path, map_array):
    return write(tmp_path / "map.tif", map_array, nodata=255, legend=LEGEND)


def test_same_grid(tmp_path, rng, map_array, map_file):
    truth = classes(rng, map_array.shape)
    truth[30:40, :] = 0
    # Files of one product differ by rounding; that is still the same grid.
    shifted = NORTH_UP * Affine.translation(1e-9, 0)
    reference = write(tmp_path / "truth.tif", truth, shifted, nodata=0)
    result = evaluate(map_file, reference)
    both = (map_array != 255) & (truth != 0)
    assert (result.counts == expected(truth[both], map_array[both])).all()
    assert result.classes.legend.names == PIXEL_NAMES
    assert result.kind == "raster"
    assert result.coverage == {
        "compared": both.sum(),
        "ignored": 0,
        "without_reference": ((map_array != 255) & (truth == 0)).sum(),
        "without_map": ((map_array == 255) & (truth != 0)).sum(),
    }


def test_a_code_without_a_class_is_listed_with_its_pixels(tmp_path, map_array, map_file):
    truth = np.full(map_array.shape, 1, np.uint8)
    truth[-2:] = 7
    truth[-3] = 0
    reference = write(tmp_path / "truth.tif", truth)
    with pytest.raises(LegendError, match=r"truth.tif.*7 \(160\), 0 \(80\).*1 water.*--map"):
        evaluate(map_file, reference)
    mapping = ClassMapping(map={"7": "built", "0": "ignore"})
    result = evaluate(map_file, reference, EvaluateOptions(mapping))
    assert result.counts[2].sum() == 160
    assert result.coverage["ignored"] == 80
    assert (
        evaluate(map_file, reference, EvaluateOptions(ClassMapping(ignore=("7", "0")))).coverage[
            "ignored"
        ]
        == 240
    )


def test_mapping_moves_codes_and_ignores_a_class(tmp_path, rng, map_array, map_file):
    truth = classes(rng, map_array.shape, codes=(10, 20, 30))
    reference = write(tmp_path / "truth.tif", truth.astype(np.int16))
    mapping = ClassMapping(map={"10": "water", "20": "2", "30": "built"}, ignore=("trees",))
    result = evaluate(map_file, reference, EvaluateOptions(mapping))
    both = (map_array != 255) & (truth != 20)
    moved = np.select([truth == 10, truth == 30], [1, 4])
    assert (result.counts == expected(moved[both], map_array[both])).all()
    # Pixels that the map calls trees are errors, and trees have no score of their own.
    assert result.counts[:, 1].any()
    assert result.scores.counted.tolist() == [True, False, True]


def test_merging_classes_of_the_map(tmp_path, rng, map_array, map_file):
    truth = classes(rng, map_array.shape, codes=(1, 2))
    reference = write(tmp_path / "truth.tif", truth)
    result = evaluate(map_file, reference, EvaluateOptions(ClassMapping(merge={"built": "trees"})))
    merged = np.where(map_array == 4, 2, map_array)
    shown = map_array != 255
    assert result.classes.legend.names == ["water", "trees"]
    assert (result.counts == expected(truth[shown], merged[shown], (1, 2))).all()


@pytest.mark.parametrize(
    "mapping", [ClassMapping(map={"1": "lava"}), ClassMapping(merge={"lava": "water"})]
)
def test_a_class_that_is_not_there_is_an_error(map_file, mapping):
    with pytest.raises(LegendError, match=r"lava.*1 water"):
        evaluate(map_file, map_file, EvaluateOptions(mapping))


def test_chained_merges_and_misspelt_names_are_errors(map_file):
    chained = ClassMapping(merge={"water": "trees", "trees": "built"})
    with pytest.raises(UsageError, match="merged away"):
        evaluate(map_file, map_file, EvaluateOptions(chained))
    with pytest.raises(UsageError, match="backgrund"):
        evaluate(map_file, map_file, EvaluateOptions(ClassMapping(ignore=("backgrund",))))


GRIDS = {
    "finer, shifted": (UTM, Affine(3.7, 0, 499_931.3, 0, -4.1, 5_000_087.9), (180, 260)),
    "coarser": (UTM, Affine(41, 0, 499_900, 0, -37, 5_000_111), (19, 24)),
    "rotated": (
        UTM,
        Affine.translation(500_300, 5_000_150) * Affine.rotation(33) * Affine.scale(8, -8),
        (90, 90),
    ),
    "other zone": ("EPSG:32632", None, (120, 150)),
    "degrees": ("EPSG:4326", None, (110, 140)),
    "south up": (UTM, Affine(9, 0, 500_050, 0, 9, 4_999_450), (70, 70)),
}


def around(crs, shape, bounds=(500_000, 4_999_400, 500_800, 5_000_000)):
    """A grid of a shape that covers the map's bounds in another CRS."""
    to = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    west, south, east, north = to.transform_bounds(*bounds)
    return Affine((east - west) / shape[1], 0, west, 0, (south - north) / shape[0], north)


def nearest(array, transform, crs, shape, onto=NORTH_UP, onto_crs=UTM):
    """Codes at the centres of the map's pixels, -1 outside, and how near a pixel edge they are."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = onto * (cols, rows)
    x, y = pyproj.Transformer.from_crs(onto_crs, crs, always_xy=True).transform(x, y)
    col, row = ~transform * (x, y)
    inside = (col >= 0) & (row >= 0) & (col < array.shape[1]) & (row < array.shape[0])
    codes = np.full(shape, -1)
    codes[inside] = array[row[inside].astype(int), col[inside].astype(int)]
    edge = np.minimum(np.abs(col - np.round(col)), np.abs(row - np.round(row)))
    return codes, edge


@pytest.mark.parametrize("name", GRIDS)
def test_reference_on_another_grid(tmp_path, rng, map_array, map_file, name):
    crs, transform, shape = GRIDS[name]
    transform = transform or around(crs, shape)
    truth = classes(rng, shape)
    truth[3:9, 5:30] = 0
    reference = write(tmp_path / "truth.tif", truth, transform, crs, nodata=0)
    codes, edge = nearest(truth, transform, crs, map_array.shape)
    # Where the centre of a pixel falls on an edge, either neighbour is the nearest.
    unsure = map_array.copy()
    unsure[edge < 0.03] = 255
    sure = write(tmp_path / "sure.tif", unsure, nodata=255, legend=LEGEND)
    both = (unsure != 255) & (codes > 0)
    result = evaluate(sure, reference)
    assert both.sum() > 900
    assert (result.counts == expected(codes[both], unsure[both])).all()
    assert evaluate(map_file, reference).coverage["compared"] >= both.sum()


def test_no_new_codes_by_resampling(tmp_path, map_array, map_file):
    """Between 1 and 4 there would be 2 and 3, if codes were mixed."""
    truth = np.where(np.indices((200, 260)).sum(0) % 2, 1, 4).astype(np.float32)
    reference = write(tmp_path / "truth.tif", truth, around("EPSG:4326", truth.shape), "EPSG:4326")
    result = evaluate(map_file, reference)
    assert result.counts[1].sum() == 0
    assert result.counts[0].any()
    assert result.counts[2].any()


def test_values_that_are_not_whole_are_refused(tmp_path, map_array, map_file):
    reference = write(tmp_path / "truth.tif", np.full(map_array.shape, 1.5, np.float32))
    with pytest.raises(SceneError, match="whole numbers"):
        evaluate(map_file, reference)


def test_nan_is_nodata_in_a_float_reference(tmp_path, map_array, map_file):
    truth = np.full(map_array.shape, np.nan, np.float32)
    truth[20:30] = 2
    reference = write(tmp_path / "truth.tif", truth)
    assert evaluate(map_file, reference).coverage["compared"] == 800


def rgb(codes, legend=LEGEND):
    table = np.zeros((256, 3), np.uint8)
    for entry in legend.entries:
        table[entry.code] = entry.rgb
    return np.moveaxis(table[codes], -1, 0)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_reference_as_a_picture(tmp_path, rng, map_array, suffix):
    truth = classes(rng, map_array.shape)
    plain = write(tmp_path / "map.tif", map_array, None, None, nodata=255, legend=LEGEND)
    driver = "PNG" if suffix == ".png" else "GTiff"
    picture = write(tmp_path / f"truth{suffix}", rgb(truth), None, None, driver=driver)
    result = evaluate(plain, picture)
    shown = map_array != 255
    assert result.kind == "picture"
    assert (result.counts == expected(truth[shown], map_array[shown])).all()


def test_unknown_colours_are_counted_and_may_be_mapped(tmp_path, rng, map_array):
    truth = classes(rng, map_array.shape)
    truth[-1] = 9
    plain = write(tmp_path / "map.tif", map_array, None, None, nodata=255, legend=LEGEND)
    picture = write(tmp_path / "truth.tif", rgb(truth), None, None)
    with pytest.raises(LegendError, match=r"#000000 \(80\)"):
        evaluate(plain, picture)
    black = EvaluateOptions(ClassMapping(map={"#000000": "ignore"}))
    assert evaluate(plain, picture, black).coverage["ignored"] == 80


def test_jpeg_colours_are_refused_with_a_hint(tmp_path, rng, map_array):
    truth = classes(rng, map_array.shape)
    plain = write(tmp_path / "map.tif", map_array, None, None, nodata=255, legend=LEGEND)
    picture = write(tmp_path / "truth.jpg", rgb(truth), None, None, driver="JPEG", QUALITY="60")
    with pytest.raises(LegendError, match="JPEG compression"):
        evaluate(plain, picture)


def test_picture_on_another_grid(tmp_path, rng, map_array, map_file):
    truth = np.full((100, 120), 2, np.uint8)
    reference = write(
        tmp_path / "truth.tif", rgb(truth), around("EPSG:4326", truth.shape), "EPSG:4326"
    )
    result = evaluate(map_file, reference)
    # Outside of the picture, black must not appear.
    assert result.counts[1].sum() == result.coverage["compared"] > 4000


def frame(shapes, crs=UTM, **columns):
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)


def half(left, top, right, bottom):
    """A rectangle in pixels of the map, in its CRS."""
    return shapely.box(
        500_000 + 10 * left, 5_000_000 - 10 * bottom, 500_000 + 10 * right, 5_000_000 - 10 * top
    )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb", ".parquet"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_polygons_with_names(tmp_path, map_array, map_file, suffix, crs):
    shapes = [half(0, 0, 30, 60), half(30, 10, 70, 60), half(5, 5, 15, 15)]
    path = tmp_path / f"truth{suffix}"
    table = frame(shapes, kind=["water", "TREES", "built"]).to_crs(crs)
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        # A spatial index of FlatGeobuf would change the order, and with it which one is on top.
        table.to_file(path, **({"SPATIAL_INDEX": "NO"} if suffix == ".fgb" else {}))
    result = evaluate(map_file, path)
    truth = np.zeros(map_array.shape, np.uint8)
    truth[:, :30], truth[10:, 30:70], truth[5:15, 5:15] = 1, 2, 4
    both = (map_array != 255) & (truth != 0)
    assert result.kind == "polygons"
    assert (result.counts == expected(truth[both], map_array[both])).all()


def test_polygons_with_codes_layers_and_columns(tmp_path, map_array, map_file):
    path = tmp_path / "truth.gpkg"
    frame([half(0, 0, 80, 60)], code=[2.0], note=["x"]).to_file(path, layer="old")
    frame([half(0, 0, 80, 60), half(0, 0, 9, 9)], code=[4, None], note=["x", "y"]).to_file(
        path, layer="new"
    )
    with pytest.raises(UsageError, match="--layer: old, new"):
        evaluate(map_file, path)
    with pytest.raises(UsageError, match=r"--column.*code, note"):
        evaluate(map_file, path, EvaluateOptions(layer=VectorLayer(layer="new")))
    with pytest.raises(UsageError, match="no column 'kode'"):
        evaluate(map_file, path, EvaluateOptions(layer=VectorLayer("kode", "new")))
    result = evaluate(map_file, path, EvaluateOptions(layer=VectorLayer("code", "new")))
    assert result.counts[2].sum() == (map_array != 255).sum()
    assert "1 feature without a class" in result.remarks[0]


def test_the_polygons_of_vectorize_are_a_reference_and_an_area(tmp_path, map_array, map_file):
    """Beside the polygons, the file holds their style, a table; QGIS writes one too."""
    path = tmp_path / "regions.gpkg"
    vectorize(map_file, path)
    options = EvaluateOptions(layer=VectorLayer("class_name"), aoi=path)
    result = evaluate(map_file, path, options)
    assert result.scores.overall_accuracy == 1
    assert result.coverage["compared"] == (map_array != 255).sum()
    with pytest.raises(UsageError, match=r"no layer 'x'; it has: regions$"):
        evaluate(map_file, path, EvaluateOptions(layer=VectorLayer("class_name", "x")))
    with pytest.raises(UsageError, match=r"'layer_styles' is a table without geometries.*regions$"):
        evaluate(map_file, path, EvaluateOptions(layer=VectorLayer("class_name", "layer_styles")))


def test_an_unknown_name_is_listed_with_its_pixels(tmp_path, map_file):
    path = tmp_path / "truth.gpkg"
    frame([half(0, 20, 80, 60), half(0, 10, 10, 20)], kind=["water", "lava"]).to_file(path)
    with pytest.raises(LegendError, match=r"lava \(100\)"):
        evaluate(map_file, path)


def test_lines_are_no_reference(tmp_path, map_file):
    path = tmp_path / "truth.gpkg"
    frame(
        [shapely.LineString([(500_000, 5_000_000), (500_500, 4_999_500)])], kind=["water"]
    ).to_file(path)
    with pytest.raises(UsageError, match="lines"):
        evaluate(map_file, path)


def test_large_polygons_are_the_same_in_small_windows(
    tmp_path, rng, map_array, map_file, monkeypatch
):
    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    radius = 250 + 20 * np.sin(40 * angle)
    ring = np.column_stack([500_400 + radius * np.cos(angle), 4_999_700 + radius * np.sin(angle)])
    path = tmp_path / "truth.gpkg"
    frame([half(0, 0, 80, 60), shapely.Polygon(ring)], kind=["water", "trees"]).to_file(path)
    whole = evaluate(map_file, path).counts
    monkeypatch.setattr(windows, "_WINDOW_PIXELS", 80 * 7)
    assert (evaluate(map_file, path).counts == whole).all()
    assert whole[1].sum() == pytest.approx(np.pi * 25**2, rel=0.05)


def test_area_of_interest(tmp_path, rng, map_array, map_file):
    truth = classes(rng, map_array.shape)
    reference = write(tmp_path / "truth.tif", truth)
    path = tmp_path / "aoi.geojson"
    frame([half(40, 20, 60, 50)]).to_crs("EPSG:4326").to_file(path)
    result = evaluate(map_file, reference, EvaluateOptions(aoi=path))
    part = np.s_[20:50, 40:60]
    assert (result.counts == expected(truth[part].ravel(), map_array[part].ravel())).all()
    assert result.coverage["without_reference"] == 0
    far = tmp_path / "far.geojson"
    frame([half(4000, 20, 4060, 50)]).to_file(far)
    with pytest.raises(UsageError, match=r"far.geojson"):
        evaluate(map_file, reference, EvaluateOptions(aoi=far))


@pytest.mark.parametrize("kind", ["raster", "polygons"])
@pytest.mark.parametrize("pixels", [100, 1 << 22])
def test_mapped_pixels_far_from_the_reference_have_none(
    tmp_path, map_array, map_file, monkeypatch, kind, pixels
):
    monkeypatch.setattr(windows, "_WINDOW_PIXELS", pixels)
    reference = tmp_path / "truth.gpkg"
    if kind == "raster":
        place = NORTH_UP * Affine.translation(20, 30)
        reference = write(tmp_path / "truth.tif", map_array[30:40, 20:30], place)
    else:
        frame([half(20, 30, 30, 40)], code=[1]).to_file(reference)
    shown = map_array != 255
    seen = []
    result = evaluate(map_file, reference, on_event=seen.append)
    assert result.coverage == {
        "compared": 100,
        "ignored": 0,
        "without_reference": shown.sum() - 100,
        "without_map": 0,
    }
    *steps, report = seen
    assert steps[-1] == {"event": "progress", "pixels": 60 * 80, "total": 60 * 80}
    assert report == {"event": "report", **result.to_dict()}
    aoi = tmp_path / "aoi.gpkg"
    frame([half(0, 0, 25, 60)]).to_file(aoi)
    inside = evaluate(map_file, reference, EvaluateOptions(aoi=aoi)).coverage
    assert inside["compared"] == 50
    assert inside["without_reference"] == shown[:, :25].sum() - 50


def test_codes_far_from_the_reference_need_no_class(tmp_path, map_array):
    map_array[50:] = 9
    mapped = write(tmp_path / "map.tif", map_array, nodata=255, legend=LEGEND)
    reference = tmp_path / "truth.gpkg"
    frame([half(20, 30, 30, 40)], code=[1]).to_file(reference)
    assert evaluate(mapped, reference).coverage["compared"] == 100


def gcps_for(transform, shape):
    corners = [(r, c) for r in (0, shape[0] / 2, shape[0]) for c in (0, shape[1] / 2, shape[1])]
    places = {(r, c): transform * (c, r) for r, c in corners}
    return [GroundControlPoint(row=r, col=c, x=x, y=y, z=0.0) for (r, c), (x, y) in places.items()]


def test_map_with_control_points(tmp_path, rng, map_array):
    """A Sentinel-1 GRD has control points in degrees; references do not."""
    to_degrees = around("EPSG:4326", map_array.shape)
    gcps = gcps_for(to_degrees, map_array.shape)
    mapped = write(
        tmp_path / "map.tif", map_array, None, "EPSG:4326", gcps=gcps, nodata=255, legend=LEGEND
    )
    truth = classes(rng, (70, 90))
    place = around(UTM, truth.shape)
    codes, edge = nearest(truth, place, UTM, map_array.shape, to_degrees, "EPSG:4326")
    unsure = np.where(edge < 0.03, 255, map_array).astype(np.uint8)
    write(tmp_path / "map.tif", unsure, None, "EPSG:4326", gcps=gcps, nodata=255, legend=LEGEND)
    reference = write(tmp_path / "truth.tif", truth, place, UTM, nodata=0)
    both = (unsure != 255) & (codes > 0)
    assert (evaluate(mapped, reference).counts == expected(codes[both], unsure[both])).all()

    same = write(tmp_path / "same.tif", map_array, None, "EPSG:4326", gcps=gcps, nodata=255)
    assert evaluate(mapped, same).scores.overall_accuracy == 1

    polygons = tmp_path / "truth.gpkg"
    frame([half(0, 0, 80, 60)], kind=["water"]).to_file(polygons)
    covered = evaluate(mapped, polygons).coverage["compared"]
    assert covered == pytest.approx((unsure != 255).sum(), rel=0.05)


def test_crs_only_on_one_side(tmp_path, map_array, map_file):
    bare = write(tmp_path / "bare.tif", map_array, None, None)
    with pytest.raises(UsageError, match=r"bare.tif: has no CRS, but .*map.tif has EPSG:32633"):
        evaluate(map_file, bare)
    with pytest.raises(UsageError, match=r"map.tif: has the CRS EPSG:32633, but .*bare.tif"):
        evaluate(bare, map_file)
    points = tmp_path / "truth.gpkg"
    frame([half(0, 0, 9, 9)], crs=None, kind=["water"]).to_file(points)
    with pytest.raises(UsageError, match=r"truth.gpkg: has no CRS"):
        evaluate(map_file, points)


def test_pictures_of_different_shape(tmp_path, map_array):
    a = write(tmp_path / "a.tif", map_array, None, None)
    b = write(tmp_path / "b.tif", map_array[:-1], None, None)
    with pytest.raises(SceneError, match=r"b.tif: 59 x 80 px do not fit the 60 x 80 px of .*a.tif"):
        evaluate(a, b)


def test_planes_without_crs_are_laid_over_each_other(tmp_path, map_array):
    a = write(tmp_path / "a.tif", map_array, NORTH_UP, None, nodata=255)
    b = write(tmp_path / "b.tif", map_array[10:], NORTH_UP * Affine.translation(0, 10), None)
    result = evaluate(a, b)
    assert result.scores.overall_accuracy == 1
    assert result.coverage["compared"] == 50 * 80


@pytest.mark.parametrize("down", [1, -1])
def test_polygons_drawn_on_a_picture(tmp_path, map_array, down):
    """Rows count down from 0 in GDAL; QGIS draws them at negative heights."""
    plain = write(tmp_path / "map.tif", map_array, None, None, nodata=255, legend=LEGEND)
    path = tmp_path / "truth.gpkg"
    box = shapely.box(10, min(down * 20, down * 50), 40, max(down * 20, down * 50))
    frame([box], crs=None, kind=["water"]).to_file(path)
    result = evaluate(plain, path)
    assert (result.counts[0] == expected(np.ones(900), map_array[20:50, 10:40].ravel())[0]).all()


def test_no_overlap(tmp_path, map_array, map_file):
    away = NORTH_UP * Affine.translation(1000, 0)
    reference = write(tmp_path / "truth.tif", map_array, away)
    with pytest.raises(UsageError, match=r"does not overlap.*EPSG:32633"):
        evaluate(map_file, reference)
    path = tmp_path / "truth.gpkg"
    frame([half(2000, 0, 2010, 10)], kind=["water"]).to_file(path)
    with pytest.raises(UsageError, match="does not overlap"):
        evaluate(map_file, path)


def test_nothing_in_common(tmp_path, map_array, map_file):
    blank = write(tmp_path / "truth.tif", np.zeros_like(map_array), nodata=0)
    with pytest.raises(UsageError, match="no pixel in common"):
        evaluate(map_file, blank)
    water = write(tmp_path / "water.tif", np.ones_like(map_array))
    with pytest.raises(UsageError, match="every pixel is ignored"):
        evaluate(map_file, water, EvaluateOptions(ClassMapping(ignore=("water",))))


def test_legend_from_the_palette_or_the_codes(tmp_path, map_array):
    bare = write(tmp_path / "bare.tif", map_array, nodata=255)
    assert evaluate(bare, bare).classes.legend.names == ["1", "2", "4"]
    with rasterio.open(bare, "r+") as file:
        file.write_colormap(1, {e.code: (*e.rgb, 255) for e in LEGEND.entries})
    legend = evaluate(bare, bare).classes.legend
    assert [(e.code, e.rgb) for e in legend.entries] == [(e.code, e.rgb) for e in LEGEND.entries]
    truth = write(tmp_path / "truth.tif", np.full_like(map_array, 7))
    with pytest.raises(LegendError, match="7"):
        evaluate(bare, truth)


@pytest.mark.parametrize(
    ("kind", "form"),
    [("raster", int), *((k, f) for k in ("polygons", "points") for f in (int, float, str))],
)
def test_codes_of_the_reference_are_classes_where_the_map_has_no_legend(
    tmp_path, map_array, kind, form
):
    bare = write(tmp_path / "bare.tif", np.where(map_array == 4, 2, map_array), nodata=255)
    truth = np.full(map_array.shape, 3, np.uint8)
    truth[:, :30] = 1
    boxes = [half(0, 0, 30, 60), half(30, 0, 80, 60)]
    shapes = boxes if kind == "polygons" else [box.centroid for box in boxes]
    reference = tmp_path / "truth.gpkg"
    if kind == "raster":
        reference = write(tmp_path / "truth.tif", truth)
    else:
        frame(shapes, code=[form(1), form(3)]).to_file(reference)
    result = evaluate(bare, reference)
    assert result.classes.legend.names == ["1", "2", "3"]
    if kind != "points":
        shown = map_array != 255
        merged = np.where(map_array == 4, 2, map_array)
        assert (result.counts == expected(truth[shown], merged[shown], (1, 2, 3))).all()


def test_a_map_outside_its_legend_is_an_error(tmp_path, map_array):
    mapped = write(tmp_path / "map.tif", np.where(map_array == 4, 9, map_array), legend=LEGEND)
    with pytest.raises(LegendError, match=r"map.tif: codes without a class in its legend: 9 \("):
        evaluate(mapped, mapped)


def test_names_that_disagree_are_remarked(tmp_path, map_array, map_file):
    other = Legend.from_list(
        [
            {"code": 1, "name": "Water", "color": "#0000ff"},
            {"code": 2, "name": "snow", "color": "#ffffff"},
            {"code": 4, "name": "built", "color": "#ff0000"},
        ]
    )
    reference = write(tmp_path / "truth.tif", map_array, nodata=255, legend=other)
    (remark,) = evaluate(map_file, reference).remarks
    assert "2 ('trees' in the map, 'snow' in the reference)" in remark


def test_a_photograph_is_no_reference(tmp_path, map_file, monkeypatch, rng):
    noise = rng.integers(0, 256, (3, 60, 80)).astype(np.uint8)
    reference = write(tmp_path / "photo.tif", noise)
    monkeypatch.setattr(tally, "_MOST_VALUES", 1000)
    with pytest.raises(LegendError, match="shows no classes"):
        evaluate(map_file, reference)


@pytest.mark.parametrize(
    ("bands", "dtype"), [(2, np.uint8), (3, np.uint16), (1, np.complex64), (5, np.uint8)]
)
def test_what_is_no_class_raster_is_refused(tmp_path, map_file, bands, dtype):
    array = np.ones((bands, 60, 80), dtype)
    options = {"photometric": "MINISBLACK", "ALPHA": "UNSPECIFIED"} if bands == 2 else {}
    reference = write(tmp_path / "truth.tif", array, **options)
    with pytest.raises(SceneError, match=r"truth.tif"):
        evaluate(map_file, reference)


@pytest.mark.parametrize("name", ["gone.tif", "gone.gpkg", "text.tif", "text.gpkg", "text.parquet"])
def test_unreadable_references_are_one_line(tmp_path, map_file, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("hello")
    with pytest.raises(CwsamGeoError, match=name) as caught:
        evaluate(map_file, tmp_path / name)
    assert "\n" not in str(caught.value)


sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(sizes, st.tuples(st.integers(1, 64), st.integers(1, 400)), st.data())
@settings(max_examples=60)
def test_windows_partition_any_area(shape, block, data):
    top, left = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    area = Window(top, left, shape[0] - top, shape[1] - left)
    seen = np.zeros(shape, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_WINDOW_PIXELS", 1000)
        for window in windows.windows_over(area, block):
            assert window.height * window.width <= max(2000, block[0] * block[1])
            seen[window.slices] += 1
    assert (seen[area.slices] == 1).all()
    assert seen.sum() == area.height * area.width


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_tally_counts_pairs(data):
    values = data.draw(st.lists(st.integers(-5, 2**24), min_size=1, max_size=30))
    codes = data.draw(st.lists(st.integers(0, 255), min_size=len(values), max_size=len(values)))
    counter = tally.PairTally("x")
    for _ in range(2):
        counter.add(np.array(values, np.int32), np.array(codes, np.uint8))
    pairs = list(zip(values, codes, strict=True))
    assert list(counter.pairs()) == [(v, c, 2 * pairs.count((v, c))) for v, c in sorted(set(pairs))]


def sample_points(rng, map_array, truth, n, place=NORTH_UP, crs=UTM, **columns):
    rows, cols = rng.integers(0, map_array.shape[0], n), rng.integers(0, map_array.shape[1], n)
    x, y = place * (cols + rng.uniform(0.01, 0.99, n), rows + rng.uniform(0.01, 0.99, n))
    return rows, cols, frame(geopandas.points_from_xy(x, y), crs, kind=truth[rows, cols], **columns)


def test_points_give_area_adjusted_estimates(tmp_path, rng, map_array, map_file):
    truth = np.where(rng.random(map_array.shape) < 0.8, classes(rng, map_array.shape), map_array)
    rows, cols, table = sample_points(rng, map_array, truth, 300)
    table = table[truth[rows, cols] != 255]
    path = tmp_path / "points.gpkg"
    table.to_crs("EPSG:4326").to_file(path)
    result = evaluate(map_file, path)
    at = map_array[rows, cols]
    used = (at != 255) & (truth[rows, cols] != 255)
    assert result.kind == "points"
    assert (result.counts == expected(truth[rows, cols][used], at[used])).all()
    assert result.coverage["compared"] == used.sum()
    sample = result.sample
    # Written out for three strata, after equations 4, 5, 7, 9, 10 and 11 of the paper.
    n = result.counts.T.astype(float)
    pixels = np.array([(map_array == c).sum() for c in (1, 2, 4)])
    w, ni = pixels / pixels.sum(), n.sum(1)
    p = w[:, None] * n / ni[:, None]
    u = np.diag(p) / p.sum(1)
    area = p.sum(0)
    se_area = np.sqrt((((w[:, None] * p) - p**2) / (ni[:, None] - 1)).sum(0))
    assert sample.estimates.users.value == pytest.approx(u)
    assert sample.estimates.users.error == pytest.approx(np.sqrt(u * (1 - u) / (ni - 1)))
    assert float(sample.estimates.overall.value) == pytest.approx(np.trace(p))
    assert float(sample.estimates.overall.error) == pytest.approx(
        np.sqrt((w**2 * u * (1 - u) / (ni - 1)).sum())
    )
    assert sample.estimates.area.value == pytest.approx(area)
    assert sample.estimates.area.error == pytest.approx(se_area)
    # UTM at its central meridian: a metre of map is 1 / 0.9996 m of ground.
    assert sample.unit == "m2"
    assert sample.mapped == pytest.approx(pixels * 100 / 0.9996**2, rel=1e-5)
    assert result.scores.overall_accuracy == pytest.approx(np.trace(p))


def test_areas_in_degrees_vary_with_the_row(tmp_path):
    """A map of half a hemisphere: 1 in its northern half, 2 in its southern."""
    array = np.where(np.arange(90) < 45, 1, 2).astype(np.uint8)[:, None].repeat(180, 1)
    mapped = write(tmp_path / "map.tif", array, Affine(1, 0, 0, 0, -1, 90), "EPSG:4326")
    path = tmp_path / "points.gpkg"
    lon = np.tile([10.5, 50.5, 90.5], 2)
    lat = np.repeat([60.5, 30.5], 3)
    frame(geopandas.points_from_xy(lon, lat), "EPSG:4326", kind=[1, 1, 2, 2, 2, 1]).to_file(path)
    sample = evaluate(mapped, path).sample
    geod = pyproj.Geod(ellps="WGS84")
    edge = np.linspace(0, 180, 2000)
    for i, (low, high) in enumerate([(45, 90), (0, 45)]):
        ring_lon = np.concatenate([edge, edge[::-1]])
        ring_lat = np.concatenate([np.full(2000, low), np.full(2000, high)])
        area = abs(geod.polygon_area_perimeter(ring_lon, ring_lat)[0])
        assert sample.mapped[i] == pytest.approx(area, rel=1e-4)


def test_web_mercator_areas_are_true_areas(tmp_path):
    array = np.ones((300, 300), np.uint8)
    array[150:] = 2
    place = Affine(100, 0, 1_000_000, 0, -100, 8_400_000)
    mapped = write(tmp_path / "map.tif", array, place, "EPSG:3857")
    x, y = place * (np.array([10.5, 20.5, 10.5, 20.5]), np.array([10.5, 10.5, 200.5, 200.5]))
    path = tmp_path / "points.gpkg"
    frame(geopandas.points_from_xy(x, y), "EPSG:3857", kind=[1, 1, 2, 1]).to_file(path)
    sample = evaluate(mapped, path).sample
    to_degrees = pyproj.Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    geod = pyproj.Geod(ellps="WGS84")
    for i in range(2):
        north, south = 8_400_000 - 15_000 * i, 8_385_000 - 15_000 * i
        edge = np.linspace(1_000_000, 1_030_000, 500)
        lon, lat = to_degrees.transform(
            np.concatenate([edge, edge[::-1]]), np.repeat([north, south], 500)
        )
        area = abs(geod.polygon_area_perimeter(lon, lat)[0])
        assert sample.mapped[i] == pytest.approx(area, rel=3e-5)


def test_points_outside_ignored_and_missing_strata(tmp_path, rng, map_array, map_file):
    shapes = [half(c, r, c + 1, r + 1).centroid for r, c in [(30, 30), (30, 31), (500, 3), (1, 1)]]
    truth = [int(map_array[30, 30]), 99, 1, 1]
    path = tmp_path / "points.gpkg"
    frame(shapes, kind=truth).to_file(path)
    with pytest.raises(LegendError, match=r"99 \(1\)"):
        evaluate(map_file, path)
    result = evaluate(map_file, path, EvaluateOptions(ClassMapping(map={"99": "ignore"})))
    assert result.coverage == {"compared": 1, "ignored": 1, "without_map": 1}
    assert any("no point lies on" in r for r in result.remarks)
    assert result.sample.unsampled > 0


def test_the_mapped_area_is_the_whole_maps_where_strata_have_no_point(
    tmp_path, map_array, map_file
):
    path = tmp_path / "points.gpkg"
    rows, cols = (places[::20] for places in np.nonzero(map_array == 2))
    shapes = [half(c, r, c + 1, r + 1).centroid for r, c in zip(rows, cols, strict=True)]
    frame(shapes, kind=[("trees", "water")[i % 2] for i in range(len(shapes))]).to_file(path)
    pixels = np.array([(map_array == c).sum() for c in (1, 2, 4)])
    for mapping, mapped in (
        (ClassMapping(), pixels),
        (ClassMapping(merge={"built": "trees"}), pixels[:2]),
    ):
        result = evaluate(map_file, path, EvaluateOptions(mapping))
        wanted = mapped + (np.array([0, pixels[2]]) if mapping.merge else 0)
        assert result.sample.mapped == pytest.approx(wanted * 100 / 0.9996**2, rel=1e-5)
        assert result.sample.total == pytest.approx(pixels[1] * 100 / 0.9996**2, rel=1e-5)
        missed = (pixels[0] + pixels[2]) / pixels.sum()
        assert result.sample.share_without_points == pytest.approx(missed, rel=1e-5)
        report = result.to_dict()["sample"]
        assert report["share_without_points"] == result.sample.share_without_points


def test_points_nowhere(tmp_path, map_file):
    path = tmp_path / "points.gpkg"
    # Near enough to be read, but on the map's nodata.
    frame([half(1, 1, 2, 2).centroid], kind=["water"]).to_file(path)
    with pytest.raises(UsageError, match="none of its points"):
        evaluate(map_file, path)


def test_points_within_an_area_of_interest(tmp_path, rng, map_array, map_file):
    truth = np.where(map_array == 255, 1, map_array)
    rows, cols, table = sample_points(rng, map_array, truth, 800)
    path, aoi = tmp_path / "points.gpkg", tmp_path / "aoi.gpkg"
    table.to_file(path)
    frame([half(20, 10, 60, 60), half(0, 0, 3, 3)]).to_file(aoi)
    result = evaluate(map_file, path, EvaluateOptions(aoi=aoi))
    sample = result.sample
    inside = (rows >= 10) & (cols >= 20) & (cols < 60)
    # The corner has no class in the map; points outside the area do not count at all.
    corner = ((rows < 3) & (cols < 3)).sum()
    assert result.coverage == {"compared": inside.sum(), "ignored": 0, "without_map": corner}
    assert corner
    assert sum(s.points for s in sample.strata) == inside.sum()
    assert sample.total == pytest.approx(50 * 40 * 100 / 0.9996**2, rel=1e-5)


def test_points_without_crs_count_pixels(tmp_path, map_array):
    plain = write(tmp_path / "map.tif", map_array, None, None, nodata=255, legend=LEGEND)
    path = tmp_path / "points.gpkg"
    cols, rows = np.meshgrid(np.arange(0, 80, 4) + 0.5, np.arange(0, 60, 4) + 0.5)
    shapes = geopandas.points_from_xy(cols.ravel(), rows.ravel())
    frame(shapes, crs=None, kind=["water"] * cols.size).to_file(path)
    result = evaluate(plain, path)
    assert result.sample.unit == "pixels"
    assert result.sample.total == (map_array != 255).sum()


def test_report_is_plain_json(tmp_path, map_file):
    report = evaluate(map_file, map_file).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["overall"]["miou"] == 1
    assert report["classes"][0]["name"] == "water"


def test_real_labels(tmp_path, shared_data):
    """A scene and its label, whose transforms differ by rounding; -1 is no data, but undeclared."""
    label = shared_data / "sen1floods11" / "India_900498_LabelHand.tif"
    with rasterio.open(shared_data / "sen1floods11" / "India_900498_S1Hand.tif") as scene:
        water = (scene.read(2) < -19).astype(np.uint8)
        mapped = write(tmp_path / "map.tif", water, scene.transform, scene.crs)
    with rasterio.open(label) as file:
        truth = file.read(1)
    result = evaluate(mapped, label, EvaluateOptions(ClassMapping(map={"-1": "ignore"})))
    known = truth >= 0
    assert (result.counts == expected(truth[known], water[known], (0, 1))).all()
    assert result.coverage["ignored"] == (~known).sum()


def test_importable_from_the_package():
    """Also once the modules behind it are loaded: none of them may bear the function's name."""
    import cwsam_geo

    assert cwsam_geo.evaluate is evaluate
    assert cwsam_geo.EvaluateOptions is EvaluateOptions
