"""Polygons of random class rasters: whole, valid, fitting together, the same for any strips."""

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from class_rasters import NORTH_UP, ArrayStrips, codes, strip_rows, unhurried, write_classes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwsam_geo.vectorization import strips as strips_module
from cwsam_geo.vectorization.coverage import strip as strip_module
from cwsam_geo.vectorization.coverage.chains import order_chains
from cwsam_geo.vectorization.coverage.lattice import LiveCorners
from cwsam_geo.vectorization.coverage.polygons import Drawing, polygons
from cwsam_geo.vectorization.options import VectorizeOptions
from cwsam_geo.vectorization.vectorize import vectorize


def shapes_of(array, rows, confidence=None, **drawing):
    """Shapely geometries and codes of an array in pixel coordinates."""
    found, values, means = [], [], []
    for some in polygons(ArrayStrips(array, rows), Drawing(**drawing), confidence):
        if len(some.codes) == 0:
            continue
        flat = shapely.from_ragged_array(
            shapely.GeometryType.MULTIPOLYGON,
            some.rings.points.astype(float),
            (some.rings.offsets, some.polygons, some.features),
        )
        found += list(flat)
        values += some.codes.tolist()
        means += (some.sums / np.maximum(some.counts, 1)).tolist()
    if confidence is not None:
        return np.array(found, object), np.array(values, int), np.array(means)
    return np.array(found, object), np.array(values, int)


def canonical(shapes, values):
    return sorted((int(v), shapely.normalize(s).wkt) for s, v in zip(shapes, values, strict=True))


def burned(shapes, values, shape):
    pairs = [(s, int(v)) for s, v in zip(shapes, values, strict=True)]
    return rasterio.features.rasterize(pairs, shape) if pairs else np.zeros(shape, np.uint8)


@unhurried
@given(codes(), strip_rows, st.booleans())
def test_polygons_burned_back_are_the_raster(array, rows, diagonal):
    shapes, values = shapes_of(array, rows, diagonal=diagonal)
    assert shapely.is_valid(shapes).all()
    assert (burned(shapes, values, array.shape) == array).all()
    assert shapely.area(shapes).sum() == (array > 0).sum()


@unhurried
@given(codes(), strip_rows, st.booleans())
def test_polygons_do_not_depend_on_the_strips(array, rows, diagonal):
    in_strips = shapes_of(array, rows, diagonal=diagonal)
    at_once = shapes_of(array, len(array), diagonal=diagonal)
    assert canonical(*in_strips) == canonical(*at_once)


@unhurried
@given(codes(), strip_rows)
def test_polygons_are_those_of_gdal(array, rows):
    shapes, values = shapes_of(array, rows)
    theirs = list(rasterio.features.shapes(array, mask=array > 0))
    assert len(theirs) == len(shapes)
    ours = {}
    for shape, value in zip(shapes, values, strict=True):
        ours.setdefault((value, shape.bounds, shape.area), []).append(shape)
    for geometry, value in theirs:
        shape = shapely.geometry.shape(geometry)
        assert any(shapely.equals(shape, o) for o in ours[int(value), shape.bounds, shape.area])


@unhurried
@given(codes(), strip_rows)
def test_eight_connected_features_are_those_of_gdal(array, rows):
    _, values = shapes_of(array, rows, diagonal=True)
    theirs = rasterio.features.shapes(array, mask=array > 0, connectivity=8)
    assert sorted(values) == sorted(int(value) for _, value in theirs)


@unhurried
@given(
    codes(largest=24),
    strip_rows,
    st.sampled_from([None, 0.5, 1.0, 2.0, 5.0, 20.0]),
    st.booleans(),
)
def test_simplified_and_smoothed_polygons_stay_a_coverage(array, rows, tolerance, smooth):
    limits = None if tolerance is None else np.full(len(array) + 1, tolerance**2)
    shapes, _ = shapes_of(array, rows, limits=limits, smooth=smooth)
    plain, _ = shapes_of(array, rows)
    assert len(shapes) == len(plain)
    parts = shapely.get_parts(shapes)
    assert shapely.is_valid(parts).all()
    assert (shapely.area(parts) > 0).all()
    assert shapely.coverage_is_valid(parts)
    united = shapely.union_all(parts).area
    assert shapely.area(parts).sum() == pytest.approx(united, rel=1e-9)
    if (array > 0).all():
        assert united == pytest.approx(array.size, rel=1e-9)


@pytest.mark.parametrize("tolerance", [1.0, 3.0, 8.0])
def test_simplification_takes_out_as_much_as_geos(tolerance):
    rng = np.random.default_rng(5)
    noise = rng.random((3, 12, 12)).repeat(16, 1).repeat(16, 2)
    y, x = np.mgrid[:192, :192]
    waves = np.stack([np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)])
    array = (np.argmax(noise + waves, 0) + 1).astype(np.uint8)
    shapes, values = shapes_of(array, 50, limits=np.full(193, tolerance**2))
    plain, _ = shapes_of(array, 50)
    theirs = shapely.coverage_simplify(shapely.segmentize(plain, 1), tolerance)
    ours, geos = (shapely.get_num_coordinates(s).sum() for s in (shapes, theirs))
    assert ours == pytest.approx(geos, rel=0.15)
    assert shapely.area(shapes).sum() == array.size
    for value in (1, 2, 3):
        area = shapely.area(shapes[values == value]).sum()
        assert area == pytest.approx((array == value).sum(), rel=0.01 * tolerance)


def test_smoothing_rounds_corners_and_keeps_the_frame():
    array = np.ones((30, 30), np.uint8)
    array[10:20, 10:20] = 2
    shapes, values = shapes_of(array, 7, smooth=True)
    island = shapes[values == 2][0]
    assert shapely.area(island) < 100
    assert shapely.get_num_coordinates(island) > 8
    assert shapely.area(shapes[values == 1][0]) + shapely.area(island) == pytest.approx(900)
    assert shapes[values == 1][0].bounds == (0, 0, 30, 30)


@unhurried
@given(codes(), strip_rows)
def test_confidence_is_the_mean_over_the_pixels(array, rows):
    rng = np.random.default_rng(array.size)
    values, valid = rng.random(array.shape), rng.random(array.shape) < 0.9

    def read(top, count):
        part = slice(top, top + count)
        return np.where(valid, values, 0)[part], valid[part]

    shapes, _, means = shapes_of(array, rows, confidence=read)
    for shape, mean in zip(shapes, means, strict=True):
        inside = rasterio.features.rasterize([shape], array.shape).astype(bool) & valid
        assert mean == pytest.approx(values[inside].mean() if inside.any() else 0)


@unhurried
@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
def test_chains_are_put_in_order(places, cuts):
    places = np.array(places)
    following = np.full(12, -1)
    starts = sorted({0, *cuts})
    expected = set()
    for start, stop in zip(starts, [*starts[1:], 12], strict=True):
        chain = places[start:stop]
        following[chain[:-1]] = chain[1:]
        if start % 2:
            following[chain[-1]] = chain[0]
            chain = np.roll(chain, -int(np.argmin(chain)))
        expected.add((tuple(chain.tolist()), bool(start % 2)))
    chains = order_chains(following)
    split = np.split(chains.order, chains.offsets[1:-1])
    assert {(tuple(c.tolist()), bool(k)) for c, k in zip(split, chains.closed, strict=True)} == (
        expected
    )


@unhurried
@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=3, max_size=3, unique=True
    ),
    st.sets(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=12),
)
def test_corners_in_triangles_are_found(corners, others):
    live = LiveCorners(15, 15)
    live.add(np.array([*corners, *others]))
    triangle = np.array(corners)
    area = shapely.convex_hull(shapely.multipoints(corners))
    expected = any(
        shapely.intersects(area, shapely.Point(p)) for p in others if p not in set(corners)
    )
    found = live.in_triangles(triangle[None].astype(float), triangle[None])
    assert found[0] == expected


@pytest.mark.parametrize("changes", [1, 7, 1 << 20])
def test_crowded_strips_are_cut_without_a_trace(changes, monkeypatch):
    array = (np.indices((40, 40)).sum(0) % 2 + 1).astype(np.uint8)
    monkeypatch.setattr(strip_module, "STRIP_CHANGES", changes)
    shapes, values = shapes_of(array, 16)
    assert len(shapes) == 1600
    assert (burned(shapes, values, array.shape) == array).all()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(codes(largest=40), st.sampled_from([16, 32, None]), strip_rows)
def test_files_burned_back_are_the_raster(tmp_path, monkeypatch, array, block, rows):
    tiled = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
    raster = write_classes(tmp_path / "classes.tif", array, nodata=0, **tiled)
    monkeypatch.setattr(strips_module, "STRIP_PIXELS", rows * array.shape[1])
    result = vectorize(raster, tmp_path / "out.fgb", VectorizeOptions(overwrite=True))
    frame = pyogrio.read_dataframe(tmp_path / "out.fgb")
    assert len(frame) == result.count
    back = np.zeros_like(array)
    if len(frame):
        pairs = zip(frame.geometry, frame.class_id, strict=True)
        back = rasterio.features.rasterize(pairs, array.shape, transform=NORTH_UP)
        assert frame.geometry.is_valid.all()
        assert shapely.coverage_is_valid(frame.geometry.values)
    assert (back == array).all()


def one_file(tmp_path, array, options=None, suffix="gpkg", **profile):
    raster = write_classes(tmp_path / "classes.tif", array, **profile)
    events = []
    output = tmp_path / f"out.{suffix}"
    result = vectorize(raster, output, options, on_event=events.append)
    return pyogrio.read_dataframe(output, layer=0), result, events


def test_all_nodata_gives_an_empty_layer_with_all_columns(tmp_path):
    frame, result, _ = one_file(tmp_path, np.full((30, 20), 255, np.uint8), nodata=255)
    assert result.count == 0
    assert result.classes == ()
    assert len(frame) == 0
    assert list(frame.columns) == ["class_id", "class_name", "area_m2", "geometry"]
    assert frame.crs.to_epsg() == 32633


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (60, 50)])
def test_one_class_is_one_rectangle(tmp_path, shape):
    frame, result, _ = one_file(tmp_path, np.full(shape, 3, np.uint8), nodata=255)
    assert result.count == 1
    height, width = shape
    box = shapely.box(400_000, 5_500_000 - 10 * height, 400_000 + 10 * width, 5_500_000)
    assert shapely.normalize(frame.geometry[0]) == shapely.normalize(box)
    assert frame.geometry.area[0] == 100 * height * width


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("nodata", [None, 0, 7, "least", "most"])
def test_whole_number_types_keep_their_values(tmp_path, dtype, nodata):
    limits = np.iinfo(dtype)
    values = [limits.min, limits.min + 1, 0, 1, 7, 100, limits.max - 1, limits.max]
    nodata = {"least": limits.min, "most": limits.max}.get(nodata, nodata)
    array = np.array([values], dtype).repeat(3, 0)
    frame, result, _ = one_file(tmp_path, array, nodata=nodata)
    expected = sorted(set(values) - {nodata})
    assert sorted(set(frame.class_id)) == expected
    assert [c.value for c in result.classes] == expected
    assert frame.geometry.area.sum() == 300 * sum(v != nodata for v in values)


def test_255_classes(tmp_path):
    array = np.arange(255, dtype=np.uint8).reshape(15, 17)
    frame, result, _ = one_file(tmp_path, array, nodata=255)
    assert result.count == 255
    assert set(frame.class_id) == set(range(255))


def test_256_classes_without_nodata(tmp_path):
    frame, *_ = one_file(tmp_path, np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert set(frame.class_id) == set(range(256))


def test_checkerboard_is_announced_and_survived(tmp_path, monkeypatch):
    from cwsam_geo.vectorization import vectorize as job

    monkeypatch.setattr(job, "_MANY", 10_000)
    array = (np.indices((300, 300)).sum(0) % 2).astype(np.uint8)
    frame, result, events = one_file(tmp_path, array, suffix="fgb", nodata=255)
    assert result.count == len(frame) == 90_000
    warnings = [e["text"] for e in events if e["event"] == "warning"]
    assert len(warnings) == 1
    assert "--min-area" in warnings[0]


def test_checkerboard_with_connectivity_8_is_two_features(tmp_path):
    array = (np.indices((20, 20)).sum(0) % 2).astype(np.uint8)
    options = VectorizeOptions(connectivity=8)
    frame, *_ = one_file(tmp_path, array, options, nodata=255)
    assert len(frame) == 2
    assert frame.geometry.is_valid.all()
    assert set(frame.geom_type) == {"MultiPolygon"}


def test_mask_band_leaves_pixels_out(tmp_path):
    raster = write_classes(tmp_path / "classes.tif", np.ones((20, 20), np.uint8))
    with rasterio.open(raster, "r+") as dataset:
        mask = np.full((20, 20), 255, np.uint8)
        mask[:, :5] = 0
        dataset.write_mask(mask)
    vectorize(raster, tmp_path / "out.gpkg")
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer=0)
    assert frame.geometry.area.sum() == 20 * 15 * 100


def test_events_tell_the_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(strips_module, "STRIP_PIXELS", 1000)
    array = np.ones((100, 50), np.uint8)
    _, result, events = one_file(tmp_path, array, VectorizeOptions(min_area=300), nodata=255)
    assert events[0]["event"] == "start"
    progress = [e for e in events if e["event"] == "progress"]
    assert progress[-1]["rows"] == progress[-1]["total"] == 200
    done = events[-1]
    assert done["event"] == "done"
    assert done["polygons"] == result.count == 1
    assert done["classes"][0]["area_m2"] == pytest.approx(500_000, rel=1e-3)
