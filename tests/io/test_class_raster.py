"""What a class raster is: one answer for vectorize, evaluate and the labels of finetune."""

import contextlib

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from class_rasters import NORTH_UP, codes, unhurried, write_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from cwsam_geo import EvaluateOptions, VectorizeOptions, evaluate, vectorize
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import locate

CLASSES = np.array([10, 20, 30, 60])


def scene():
    return CLASSES[np.indices((40, 50)).sum(0) // 11 % 4]


def areas(path, tmp_path, **options):
    """Pixels of each class in the polygons of a raster, which has a CRS whose unit is a pixel."""
    result = vectorize(path, tmp_path / "out.fgb", VectorizeOptions(**options, overwrite=True))
    frame = geopandas.read_file(tmp_path / "out.fgb")
    frame["px"] = frame.geometry.area / 100
    assert result.count == len(frame)
    return {v: round(n) for v, n in frame.groupby("class_id").px.sum().items()}


def counted(array, valid):
    return {
        int(v): int(n) for v, n in zip(*np.unique(array[valid], return_counts=True), strict=True)
    }


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("nodata", [None, 20, -9999])
def test_every_integer_type_is_codes(tmp_path, dtype, nodata):
    fits = nodata is None or np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max
    path = write_classes(
        tmp_path / "map.tif", scene().astype(dtype), nodata=nodata if fits else None
    )
    expected = counted(scene(), scene() != nodata)
    assert areas(path, tmp_path) == expected
    assert {
        c: int(n) for c, n in zip(expected, evaluate(path, path).counts.diagonal(), strict=True)
    } == expected


@pytest.mark.parametrize(
    ("dtype", "nodata", "hole"),
    [
        ("float32", None, np.nan),
        ("float64", np.nan, np.nan),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38),
        ("float32", -9999, -9999),
        ("float64", 0, 0),
        ("int64", None, None),
        ("int64", -9999, -9999),
        ("int64", -(2**63), -(2**63)),
        ("int64", None, -(2**63)),
        ("uint64", 255, 255),
    ],
)
def test_whole_numbers_of_any_type_are_codes(tmp_path, dtype, nodata, hole):
    array = scene().astype(dtype)
    valid = np.ones(array.shape, bool)
    if hole is not None:
        valid[3:9, 4:20] = False
        array[~valid] = hole
    path = write_classes(tmp_path / "map.tif", array, nodata=nodata)
    assert areas(path, tmp_path) == counted(scene(), valid)
    result = evaluate(path, path)
    assert result.counts.diagonal().tolist() == list(counted(scene(), valid).values())
    # Onto another grid, where GDAL resamples it.
    shifted = write_classes(
        tmp_path / "other.tif",
        scene().astype(np.uint8),
        transform=NORTH_UP @ Affine.translation(2, 1),
    )
    onto = locate(ClassRaster(shifted).grid, "other.tif")
    reader = ClassRaster(path, onto)
    values, good = reader.read(reader.grid.window)
    assert (good[:-1, :-2] == valid[1:, 2:]).all()
    assert (values[:-1, :-2] == scene()[1:, 2:])[good[:-1, :-2]].all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (scene() + np.float32(0.5), "not whole numbers"),
        (scene() + np.float64(3e9), "beyond 32 bits"),
        (scene() + 2**40, "beyond 32 bits"),
        (np.where(scene() == 10, np.inf, scene()), "beyond 32 bits"),
    ],
)
def test_what_is_no_code_is_refused_by_both(tmp_path, array, words):
    path = write_classes(tmp_path / "map.tif", array)
    for run in (lambda: vectorize(path, tmp_path / "out.gpkg"), lambda: evaluate(path, path)):
        with pytest.raises(SceneError, match=words) as caught:
            run()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.gpkg").exists()


@pytest.mark.parametrize("nodata", [None, 10])
def test_alpha_bands_and_nodata_both_make_holes(tmp_path, nodata):
    alpha = np.full(scene().shape, 255, np.uint8)
    alpha[5:9] = 0
    path = write_classes(
        tmp_path / "map.tif", np.stack([scene().astype(np.uint8), alpha]), nodata=nodata
    )
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    valid = (alpha > 0) & (scene() != nodata)
    assert areas(path, tmp_path) == counted(scene(), valid)
    assert evaluate(path, path).counts.diagonal().tolist() == list(counted(scene(), valid).values())


def several(path, names, dtype="float64", label=3):
    """Bands with names as Earth Engine exports Dynamic World: shares, and the class in one."""
    bands = np.stack([np.full(scene().shape, 0.25)] * len(names)).astype(dtype)
    bands[label - 1] = scene()
    write_classes(path, bands)
    with rasterio.open(path, "r+") as file:
        file.descriptions = names
    return path


def test_the_band_that_is_called_label_holds_the_classes(tmp_path):
    path = several(tmp_path / "dw.tif", ["water", "trees", "label", "bare"])
    said = []
    vectorize(path, tmp_path / "out.fgb", on_event=said.append)
    assert [e["text"] for e in said if e["event"] == "warning"] == [
        f"{path}: band 3 (label) of 4 is read as the class codes"
    ]
    assert areas(path, tmp_path) == counted(scene(), scene() > 0)
    plain = write_classes(tmp_path / "plain.tif", scene().astype(np.uint8))
    result = evaluate(plain, path)
    assert result.scores.overall_accuracy == 1
    assert "band 3 (label) of 4" in result.remarks[0]


def test_a_band_is_chosen_by_number_and_by_name(tmp_path):
    path = several(tmp_path / "years.tif", ["2019", "2020", "landuse"], "int16")
    with pytest.raises(SceneError, match=r"has 3 bands \(1 2019, 2 2020, 3 landuse\).*--band"):
        vectorize(path, tmp_path / "out.fgb")
    for band in (3, "3", "landuse"):
        assert areas(path, tmp_path, band=band) == counted(scene(), scene() > 0)
    assert list(areas(path, tmp_path, band="2020")) == [0]  # a name goes before a number
    with pytest.raises(UsageError, match=r"no band 'soil'; its bands are 1 2019, 2 2020"):
        vectorize(path, tmp_path / "out.fgb", VectorizeOptions(band="soil", overwrite=True))
    plain = write_classes(tmp_path / "plain.tif", scene().astype(np.uint8))
    by_name = EvaluateOptions(band="landuse")
    assert evaluate(plain, path, by_name).scores.overall_accuracy == 1
    assert evaluate(path, plain, EvaluateOptions(map_band=3)).scores.overall_accuracy == 1


def test_the_palette_of_the_class_band_counts(tmp_path):
    path = several(tmp_path / "two.tif", ["quality", "label"], "uint8", label=2)
    names = f"<CategoryNames>{'<Category/>' * 10}<Category>ten</Category></CategoryNames>"
    described = f'<PAMRasterBand band="2">{names}</PAMRasterBand>'
    path.with_name("two.tif.aux.xml").write_text(f"<PAMDataset>{described}</PAMDataset>")
    assert ClassRaster(path).names.names == {10: "ten"}


def test_black_entries_of_a_palette_are_colours_but_no_classes_unless_they_occur(tmp_path):
    path = write_classes(tmp_path / "map.tif", scene().astype(np.uint8) // 30)  # 0, 1, 2
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (1, 2, 3, 255), 2: (9, 9, 9, 255)})
    raster = ClassRaster(path)
    assert [e.code for e in raster.legend().entries] == [1, 2]
    assert [e.code for e in raster.legend({0: 5, 1: 5}).entries] == [0, 1, 2]
    assert raster.names.color(0) == "#000000"


@settings(unhurried, max_examples=30)
@given(
    array=codes(),
    dtype=st.sampled_from(["float32", "int64", "int16", "uint32"]),
    nodata=st.booleans(),
)
def test_the_type_of_a_raster_changes_no_polygon(tmp_path_factory, array, dtype, nodata):
    folder = tmp_path_factory.mktemp("types")
    frames = []
    for kind in ("uint8", dtype):
        path = write_classes(
            folder / f"{kind}.tif", array.astype(kind), nodata=0 if nodata else None
        )
        vectorize(path, folder / f"{kind}.parquet", VectorizeOptions(overwrite=True))
        frames.append(geopandas.read_parquet(folder / f"{kind}.parquet"))
    assert frames[0].class_id.tolist() == frames[1].class_id.tolist()
    assert frames[0].geometry.geom_equals(frames[1].geometry).all()


@pytest.mark.parametrize("names", [["confidence (%)"], ["water (%)", "land (%)"]])
def test_confidence_and_probabilities_of_predict_are_no_classes(tmp_path, names):
    path = tmp_path / "percent.tif"
    array = np.full((len(names), 8, 8), 60, np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=8, count=len(names), dtype="uint8",
        crs="EPSG:32633", transform=NORTH_UP,
    ) as out:  # fmt: skip
        out.write(array)
        out.descriptions = names
    truth = write_classes(tmp_path / "truth.tif", array[0])
    message = r"percent\.tif: holds 1 \w+ \(%\).*, not class codes; give the class map"
    with pytest.raises(SceneError, match=message):
        vectorize(path, tmp_path / "out.gpkg")
    with pytest.raises(SceneError, match=message):
        evaluate(path, truth)
    assert not (tmp_path / "out.gpkg").exists()
    # Whoever names the band means it.
    assert vectorize(path, tmp_path / "out.gpkg", VectorizeOptions(band=1)).count == 1


def test_a_raster_placed_by_control_points_is_read_on_a_straight_grid(tmp_path):
    array = np.random.default_rng(0).integers(1, 5, (60, 80)).astype(np.uint8)
    points = [
        GroundControlPoint(row, col, *(NORTH_UP * (col, row)))
        for row in (0, 30, 60) for col in (0, 40, 80)
    ]  # fmt: skip
    path = write_classes(tmp_path / "g.tif", array, crs=None, transform=None, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(32633))
    # Two rows lower and three columns further to the right than the raster.
    onto = SceneGrid(60, 80, NORTH_UP * Affine.translation(3, 2), CRS.from_epsg(32633))
    with contextlib.closing(ClassRaster(path, locate(onto, "map"))) as raster:
        found, valid = raster.read(onto.window)
    np.testing.assert_array_equal(found[:58, :77], array[2:, 3:])
    assert valid.sum() == 58 * 77
