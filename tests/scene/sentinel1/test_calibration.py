"""Sentinel-1 products as they are delivered: sigma nought by their own tables."""

import copy
import json
import re
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st
from models import gray_bundle, random_bundle
from products import (
    NAME,
    STEM,
    Tables,
    annotation_xml,
    bilinear,
    control_points,
    document,
    write_measurement,
    write_product,
    zipped,
)
from specs import spec

from cwsam_geo.cli.main import main
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import amplitude8_spec
from cwsam_geo.errors import SceneError
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.region.region_file import load_region
from cwsam_geo.info.describe import describe
from cwsam_geo.info.options import InfoOptions
from cwsam_geo.scene.crop import part_in_area, part_in_bounds
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.sentinel1 import xml as product_xml
from cwsam_geo.scene.sentinel1.calibration import FLOOR
from cwsam_geo.scene.sentinel1.product import missing_table, table_files
from cwsam_geo.scene.sentinel1.tables import read_sigma_nought
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = Legend.from_list(
    [
        {"code": 1, "name": "water", "color": "#0000ff"},
        {"code": 2, "name": "land", "color": "#00ff00"},
    ]
)


def digital_numbers(shape, seed=0, mean=150):
    """Single-look amplitude, never 0."""
    values = np.random.default_rng(seed).rayleigh(mean, shape)
    return (np.rint(values) + 1).astype(np.uint16)


def numbers_of(tables, seed=0):
    return {name: digital_numbers(t.shape, seed + i) for i, (name, t) in enumerate(tables.items())}


@pytest.fixture
def tables():
    return {"VV": Tables(), "VH": Tables(level=620, noise=1500)}


@pytest.fixture
def bands(tables):
    return numbers_of(tables)


@pytest.fixture
def product(tmp_path, bands, tables):
    return write_product(tmp_path, bands, tables)


def sigma_nought(*paths, **options):
    """VV and VH as ``predict`` reads them."""
    with open_source(list(paths), **options) as source:
        reading = plan_reading(source, spec())
        values, valid = reading.source.read(source.grid.window)
        order = [reading.source.names.index(name) for name in ("VV", "VH")]
        return values[order], valid, reading


def table(product, kind="calibration", polarisation="vv"):
    return next((product / "annotation" / "calibration").glob(f"{kind}-*-{polarisation}-*.xml"))


# Values


@pytest.mark.parametrize("layout", ["modern", "old", "none"])
def test_sigma_nought_at_the_nodes_and_between_them(tmp_path, layout):
    tables = {"VV": Tables(layout=layout), "VH": Tables(layout=layout, level=620, noise=900)}
    bands = numbers_of(tables)
    values, valid, reading = sigma_nought(write_product(tmp_path, bands, tables))
    assert valid.all()
    for plane, name in zip(values, ("VV", "VH"), strict=True):
        expected = tables[name].expected(bands[name])
        np.testing.assert_allclose(plane, expected, rtol=1e-5, atol=1e-8)
        assert layout == "none" or (expected == FLOOR).any()
    assert reading.scene_bands.units == "power"
    noise = "not removed (the product has no noise table)" if layout == "none" else "removed"
    assert reading.remarks[0] == (
        f"units: power, sigma nought, by the product's calibration tables, thermal noise {noise}"
    )


def test_the_level_comes_back(tmp_path, tables):
    """Digital numbers made of a level give the level, but for their rounding."""
    level = {"VV": 0.1, "VH": 0.02}
    bands = {name: t.numbers(level[name]) for name, t in tables.items()}
    values, _, _ = sigma_nought(write_product(tmp_path, bands, tables))
    for plane, name in zip(values, ("VV", "VH"), strict=True):
        assert np.abs(10 * np.log10(plane / level[name])).max() < 0.1


@given(st.data())
def test_windows_are_parts_of_the_whole_scene(tmp_path_factory, data):
    product, whole = _once(tmp_path_factory)
    height, width = whole.shape[1:]
    row = data.draw(st.integers(0, height - 1))
    col = data.draw(st.integers(0, width - 1))
    window = Window(
        row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col))
    )
    with open_source(product) as source:
        values, _ = source.calibrated().read(window)
    np.testing.assert_array_equal(values, whole[(slice(None), *window.slices)])


_KEPT = {}


def _once(factory):
    if not _KEPT:
        tables = {"VV": Tables(), "VH": Tables(level=620)}
        product = write_product(factory.mktemp("windows"), numbers_of(tables), tables)
        with open_source(product) as source:
            _KEPT["product"] = product, source.calibrated().read(source.grid.window)[0]
    return _KEPT["product"]


def test_wherever_the_product_lies_its_values_are_the_same(product, bands, tables, tmp_path):
    expected, _, _ = sigma_nought(product)
    files = sorted((product / "measurement").iterdir())
    archive = zipped(product)
    inside = [f"/vsizip/{archive}/{f.relative_to(tmp_path)}" for f in files]
    braces = [f"/vsizip/{{{archive}}}/{f.relative_to(tmp_path)}" for f in files]
    for paths in ([product], [product / "manifest.safe"], [archive], files, inside, braces):
        values, _, _ = sigma_nought(*paths)
        np.testing.assert_array_equal(values, expected)
    with open_source(files[0]) as source:
        one, _ = source.calibrated().read(source.grid.window)
    np.testing.assert_array_equal(one[0], expected[1])  # VH, by the alphabet
    swapped, _, _ = sigma_nought(product, bidx=[2, 1])
    np.testing.assert_array_equal(swapped, expected)


def repacked(product, name_of):
    """The product as an archive whose members have other names."""
    archive = product.parent / "repacked.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in filter(Path.is_file, sorted(product.rglob("*"))):
            member = zipfile.ZipInfo("member")
            member.filename = name_of(file.relative_to(product.parent).as_posix())
            out.writestr(member, file.read_bytes())
    return archive


@pytest.mark.parametrize(
    "name_of", [lambda name: name.replace("/", "\\"), lambda name: f"./{name}"]
)
def test_archives_of_other_makers(product, name_of):
    expected, _, _ = sigma_nought(product)
    values, _, _ = sigma_nought(repacked(product, name_of))
    np.testing.assert_array_equal(values, expected)


def test_what_macos_leaves_beside_files_is_not_the_scene(product):
    expected, _, _ = sigma_nought(product)
    for file in filter(Path.is_file, list(product.rglob("*"))):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7 attributes")
    archive = zipped(product)
    with zipfile.ZipFile(archive, "a") as out:
        for name in (n for n in out.namelist() if "/." not in n and not n.endswith("/")):
            folder, _, file = name.rpartition("/")
            out.writestr(f"__MACOSX/{folder}/._{file}", b"\0\5\x16\7 attributes")
    for location in (product, archive):
        values, _, _ = sigma_nought(location)
        np.testing.assert_array_equal(values, expected)


def test_a_relative_path_inside_the_product(product, monkeypatch):
    expected, _, _ = sigma_nought(product)
    monkeypatch.chdir(product / "measurement")
    values, _, _ = sigma_nought(*sorted(f.name for f in (product / "measurement").iterdir()))
    np.testing.assert_array_equal(values, expected)


def test_products_as_cogs_are_found(tmp_path, bands, tables):
    product = write_product(tmp_path, bands, tables)
    for file in list((product / "measurement").iterdir()):
        file.rename(file.with_name(f"{file.stem}-cog.tiff"))
    values, _, _ = sigma_nought(product)
    np.testing.assert_allclose(values[0], tables["VV"].expected(bands["VV"]), rtol=1e-5, atol=1e-8)


def test_over_a_network_tables_are_not_looked_for():
    for name in ("https://x.org/P.SAFE/measurement/a.tiff", "/vsis3/b/P.SAFE/measurement/a.tiff"):
        assert table_files(name) is None
        assert missing_table(name) is None


def test_complex_numbers_are_squared_first(tmp_path):
    tables = {"VV": Tables(layout="old")}
    rng = np.random.default_rng(0)
    stored = rng.normal(0, 100, tables["VV"].shape) + 1j * rng.normal(0, 100, tables["VV"].shape)
    stored = (np.rint(stored.real) + 1j * np.rint(stored.imag)).astype(np.complex64)
    product = write_product(tmp_path, {"VV": stored}, tables, STEM.replace("grd", "slc"))
    with open_source(product) as source:
        reading = plan_reading(source, spec(fill=(None, -20.0)))
        values, _ = reading.source.read(source.grid.window)
    np.testing.assert_allclose(
        values[0], tables["VV"].expected(np.abs(stored)), rtol=1e-5, atol=1e-7
    )
    assert "SLC" in " ".join(reading.warnings)


def test_azimuth_blocks_without_limits_are_the_whole_raster_and_the_first_counts(tmp_path, bands):
    tables = {"VV": Tables()}
    product = write_product(tmp_path, {"VV": bands["VV"]}, tables)
    path = table(product, "noise")
    text = path.read_text()
    start = text.index("<firstAzimuthLine>")
    stop = text.index("</lastRangeSample>") + len("</lastRangeSample>")
    path.write_text(text[:start] + text[stop:])
    lines, factors = tables["VV"].blocks[0][5:]
    tables["VV"].blocks = [("", 0, 0, 149, 229, lines, factors)]
    with open_source(product) as source:
        values, _ = source.calibrated().read(source.grid.window)
    np.testing.assert_allclose(values[0], tables["VV"].expected(bands["VV"]), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("lines", [[-70, -20, 80], [-30, 0, 60], [90, 120, 190]])
def test_noise_given_for_some_lines_holds_for_the_others(tmp_path, bands, lines):
    """As real ones of WV and of some IW SLC products, whose vectors end inside the raster."""
    tables = {"VV": Tables()}
    tables["VV"].noise_lines = lines
    product = write_product(tmp_path, {"VV": bands["VV"]}, tables)
    with open_source(product) as source:
        values, _ = source.calibrated().read(source.grid.window)
    np.testing.assert_allclose(values[0], tables["VV"].expected(bands["VV"]), rtol=1e-5, atol=1e-8)


def test_noise_of_one_line_holds_for_all(tmp_path, bands):
    tables = {"VV": Tables(layout="old")}
    product = write_product(tmp_path, {"VV": bands["VV"]}, tables)
    path = table(product, "noise")
    start, _, rest = path.read_text().partition("<noiseVector>")
    first, end = rest.partition("</noiseVector>")[0], "</noiseVector></noiseVectorList></noise>"
    path.write_text(start.replace('count="3"', 'count="1"') + "<noiseVector>" + first + end)
    tables["VV"].noise = tables["VV"].noise[:1] * 3
    tables["VV"].noise_pixels = tables["VV"].noise_pixels[:1] * 3
    with open_source(product) as source:
        values, _ = source.calibrated().read(source.grid.window)
    np.testing.assert_allclose(values[0], tables["VV"].expected(bands["VV"]), rtol=1e-5, atol=1e-8)


# What is data


@pytest.mark.parametrize("declared", [None, 65535, 0])
def test_zeros_of_all_bands_are_nodata_and_those_of_one_band_are_dark(
    tmp_path, bands, tables, declared
):
    for stored in bands.values():
        stored[:20] = 0
    bands["VH"][40:50] = 0
    product = write_product(tmp_path, bands, tables, nodata=declared)
    values, valid, reading = sigma_nought(product)
    assert not valid[:20].any()
    assert valid[20:].all()
    assert (values[1, 40:50] == np.float32(FLOOR)).all()
    assert (values[:, 20:] >= np.float32(FLOOR)).all()
    # Where the files declare 0 themselves, nothing needs saying.
    assert any("0 in every band" in text for text in reading.remarks) == (declared != 0)
    kept, valid, _ = sigma_nought(product, nodata="none")
    assert valid.all()
    assert (kept[:, :20] == 0).all()


def test_a_nodata_value_is_that_of_the_file(product, bands):
    _, valid, _ = sigma_nought(product, nodata=float(bands["VV"][3, 3]))
    gone = (bands["VV"] == bands["VV"][3, 3]) | (bands["VH"] == bands["VV"][3, 3])
    np.testing.assert_array_equal(valid, ~gone)


# When it is done


def test_units_that_are_given_and_models_of_8_bits_mean_the_digital_numbers(product, bands):
    for model, units in ((spec(), "amplitude"), (amplitude8_spec(64), "auto")):
        with open_source(product) as source:
            reading = plan_reading(source, model, units)
            values, _ = reading.source.read(source.grid.window)
        assert reading.units.units == "amplitude"
        assert reading.source.calibration is None
        first = reading.source.names[0]
        np.testing.assert_array_equal(values[0], bands[first])


def test_without_tables_the_refusal_says_what_is_missing(product, tmp_path):
    shutil.rmtree(product / "annotation")
    with pytest.raises(SceneError, match=r"lacks annotation/calibration/calibration-.*whole"):
        sigma_nought(product)
    with pytest.raises(SceneError, match=r"lacks annotation/calibration/calibration-"):
        sigma_nought(zipped(product))
    with open_source(product) as source:
        assert plan_reading(source, spec(), "amplitude").scene_bands.units == "amplitude"


def test_a_measurement_file_that_was_taken_out_of_its_product(product, tmp_path):
    file = next((product / "measurement").glob("*-vv-*"))
    away = shutil.copy(file, tmp_path)
    with pytest.raises(SceneError, match=r"whole \.SAFE of a Sentinel-1 product") as caught:
        sigma_nought(away, next((product / "measurement").glob("*-vh-*")))
    assert "\n" not in str(caught.value)


def test_one_band_without_tables_keeps_the_others_from_use(product):
    table(product, polarisation="vh").unlink()
    with pytest.raises(SceneError, match=r"lacks annotation/calibration/calibration-\S+-vh-"):
        sigma_nought(product)
    with open_source(product) as source:
        # VV alone has its own.
        reading = plan_reading(source, spec(bands=("VV",)))
    assert reading.source.calibration is not None


def test_noise_of_one_band_missing_or_in_the_units_of_old_processors(tmp_path, bands, tables):
    product = write_product(tmp_path, bands, tables)
    table(product, "noise", "vh").unlink()
    values, _, reading = sigma_nought(product)
    assert "not removed (VH: the product has no noise table)" in reading.remarks[0]
    tables["VH"].layout = "none"
    np.testing.assert_allclose(values[1], tables["VH"].expected(bands["VH"]), rtol=1e-5)
    old = Tables(layout="old")
    old.noise = [1e-6 * n for n in old.noise]
    table(product, "noise", "vv").write_text(old.noise_xml())
    _, _, reading = sigma_nought(product)
    assert "VV: the noise table is empty or in units from before mid-2015" in reading.remarks[0]
    assert "VH: the product has no noise table" in reading.remarks[0]


def test_noise_that_is_too_high_to_be_true_is_not_removed(tmp_path, bands, tables):
    tables["VV"].noise = [500 * n for n in tables["VV"].noise]
    values, _, reading = sigma_nought(write_product(tmp_path, bands, tables))
    assert "VV: the noise table has more noise than Sentinel-1 can have" in reading.remarks[0]
    tables["VV"].layout = "none"
    np.testing.assert_allclose(values[0], tables["VV"].expected(bands["VV"]), rtol=1e-5)


@pytest.mark.parametrize("told", ["true", "false", "broken"])
def test_noise_that_the_processor_removed_is_not_removed_again(tmp_path, bands, tables, told):
    product = write_product(tmp_path, bands, tables)
    for file in (product / "measurement").iterdir():
        information = f"<thermalNoiseCorrectionPerformed>{told}</thermalNoiseCorrectionPerformed>"
        information = f"<processingInformation>{information}</processingInformation>"
        text = document("product", f"<imageAnnotation>{information}</imageAnnotation>")
        annotation = product / "annotation" / f"{file.stem}.xml"
        annotation.write_text(text[:-9] if told == "broken" else text)
    for location in (product, zipped(product)):
        values, _, reading = sigma_nought(location)
        kept = "not removed (its processor removed it already)" in reading.remarks[0]
        assert kept == (told == "true")
        for band, name in zip(values, ("VV", "VH"), strict=True):
            tables[name].layout = "none" if kept else "modern"
            expected = tables[name].expected(bands[name])
            np.testing.assert_allclose(band, expected, rtol=1e-5, atol=1e-8)


def test_values_far_from_a_model_of_digital_numbers_get_a_hint(product):
    # Trained on digital numbers: 40 dB and more.
    own = spec(quantiles=((30.0, 39.0, 46.0), (30.0, 39.0, 46.0)))
    with open_source(product) as source:
        reading = plan_reading(source, own)
        assert "--units amplitude" in reading.warnings[0]
        assert not plan_reading(source, own, "amplitude").warnings
        low = spec(quantiles=((-44.0, -42.0, -40.0), (-44.0, -42.0, -40.0)))
        warned = plan_reading(source, low).warnings[0]
        assert "far from" in warned
        assert "--units" not in warned


# Tables that cannot be trusted

BILLION = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<calibration>&b;</calibration>"
)


def _flat(text):
    for old, new in ((50, 10), (101, 20), (157, 30)):
        text = text.replace(f"<line>{old}<", f"<line>{new}<")
    return text


def _later(text):
    return re.sub(r"<line>(\d+)<", lambda match: f"<line>{int(match[1]) + 150}<", text)


def _swap(old, new, count=1):
    return lambda text: text.replace(old, new, count)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("calibration", lambda text: text[: len(text) // 2], "is not XML"),
        ("calibration", lambda text: "", "is not XML"),
        ("calibration", lambda text: BILLION, "document type"),
        ("calibration", _swap("calibrationVectorList", "list", 2), "no calibrationVectorList"),
        ("calibration", _swap('List count="4"', 'List count="5"'), "should have 5 members"),
        ("calibration", _swap('<pixel count="7">', '<pixel count="6">'), "should have 6"),
        ("calibration", _swap('<pixel count="7">0 ', '<pixel count="6">'), "6 pixels, but 7"),
        ("calibration", _swap(">0 40 80 ", ">0 80 40 "), "do not increase"),
        ("calibration", _swap("<line>50", "<line>-1"), "lines do not increase"),
        ("calibration", _swap("<line>50", "<line>fifty"), "'fifty', not a number"),
        ("calibration", _swap("<line>50", "<line>inf"), "line is inf"),
        ("calibration", _flat, "the raster has 150"),
        ("calibration", _swap(">600 ", ">nan "), "are not positive numbers"),
        ("calibration", _swap(">600 ", ">0 "), "are not positive numbers"),
        ("calibration", _swap(">600 ", ">six "), "not all numbers"),
        ("calibration", _swap("sigmaNought", "sigma", 2), "no sigmaNought"),
        ("calibration", lambda text: "<a>" + "<b/>" * 100_001 + "</a>", "elements"),
        ("noise", _swap("noiseRangeLut", "lut", 2), "no noiseRangeLut"),
        ("noise", _swap(">2000 ", ">-2000 "), "are not non-negative numbers"),
        ("noise", _swap("<lastRangeSample>114", "<lastRangeSample>-4"), "no pixel in it"),
        ("noise", _swap('<line count="16">0 10 ', '<line count="16">10 0 '), "do not increase"),
        ("noise", _swap("<line>149<", "<line>-3<"), "lines do not increase"),
        ("noise", _later, "lines go from 150 to 299, but the raster has 150"),
        ("noise", lambda text: "<noise/>", "no noiseVectorList"),
    ],
)
def test_broken_tables_are_one_clear_line(product, kind, change, words):
    path = table(product, kind)
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)
    with pytest.raises(SceneError) as caught:
        sigma_nought(product)
    text = str(caught.value)
    assert text.startswith(f"{path}: a broken {kind} table (")
    assert words in text
    assert "\n" not in text
    assert ("delete this file" if kind == "noise" else "--units amplitude") in text


def test_tables_that_do_not_reach_the_right_edge(tmp_path, bands):
    small = Tables((150, 120))
    with pytest.raises(SceneError, match="go from 0 to 119, but the raster has 230"):
        sigma_nought(write_product(tmp_path, bands, {"VV": small, "VH": small}))


@pytest.mark.parametrize("cut", [slice(0, 100), slice(None, None, 2)])
def test_tables_of_a_larger_raster(product, bands, cut):
    """Measurement files that were cut or made coarser in place."""
    for file, name in zip(sorted((product / "measurement").iterdir()), ("VH", "VV"), strict=True):
        write_measurement(file, bands[name][:, cut])
    with pytest.raises(SceneError, match=r"go from 0 to 229, but the raster has 1(00|15)"):
        sigma_nought(product)


def with_noise(product, change):
    """Sigma nought of the product after ``change`` of the root of each noise table."""
    for path in (product / "annotation" / "calibration").glob("noise-*"):
        tree = ElementTree.parse(path)
        change(tree.getroot())
        tree.write(path)
    return sigma_nought(product)[0]


def set_numbers(element, values):
    element.text = " ".join(str(v) for v in values)
    element.set("count", str(len(values)))


@pytest.mark.parametrize("layout", ["modern", "old"])
@pytest.mark.parametrize("part", [slice(-1), slice(4), slice(1), slice(2, 5)])
def test_noise_vectors_that_end_before_the_edge(tmp_path, layout, part):
    """The last value holds for the columns behind it, the first for those before it."""
    tables = {"VV": Tables(layout=layout), "VH": Tables(layout=layout, level=620, noise=1500)}
    bands = numbers_of(tables)
    for own in tables.values():
        own.noise_pixels = [pixels[part] for pixels in own.noise_pixels]
        own.noise = [noise[part] for noise in own.noise]
    values = sigma_nought(write_product(tmp_path, bands, tables))[0]
    for plane, name in zip(values, ("VV", "VH"), strict=True):
        np.testing.assert_allclose(plane, tables[name].expected(bands[name]), rtol=1e-5, atol=1e-8)


def test_noise_vectors_beside_the_raster_are_refused(product):
    def move(root):
        for pixels in root.iter("pixel"):
            set_numbers(pixels, [int(p) + 230 for p in pixels.text.split()])

    with pytest.raises(SceneError, match="go from 230 to 460, but the raster has 230"):
        with_noise(product, move)


@pytest.mark.parametrize("tag", ["pixel", "noiseRangeLut"])
def test_nan_in_a_noise_vector_is_left_out(tmp_path, tables, bands, tag):
    for own in tables.values():
        own.noise = [n + 300 * (np.arange(len(n)) == 2) for n in own.noise]  # a spike at node 2
    product = write_product(tmp_path, bands, tables)

    def spoil(root):
        for element in root.iter(tag):
            values = element.text.split()
            set_numbers(element, [*values[:2], "NaN", *values[3:]])
        # A factor that would change everything.
        factors = next(root.iter("noiseAzimuthLut"))
        set_numbers(factors, ["nan", *factors.text.split()[1:]])

    for own in tables.values():
        own.noise = [np.delete(noise, 2) for noise in own.noise]
        own.noise_pixels = [pixels[:2] + pixels[3:] for pixels in own.noise_pixels]
        first, *others = own.blocks
        own.blocks = [(*first[:5], first[5][1:], first[6][1:]), *others]
    values = with_noise(product, spoil)
    for plane, name in zip(values, ("VV", "VH"), strict=True):
        np.testing.assert_allclose(plane, tables[name].expected(bands[name]), rtol=1e-5, atol=1e-8)


def test_a_noise_vector_of_nothing_but_nan_is_left_out(product, tables, bands):
    def spoil(root):
        element = list(root.iter("noiseRangeLut"))[1]
        set_numbers(element, ["nan"] * len(element.text.split()))

    values = with_noise(product, spoil)
    for own in tables.values():
        for column in (own.noise_lines, own.noise_pixels, own.noise):
            del column[1]
    for plane, name in zip(values, ("VV", "VH"), strict=True):
        np.testing.assert_allclose(plane, tables[name].expected(bands[name]), rtol=1e-5, atol=1e-8)


def test_noise_without_any_number_is_refused(product):
    def spoil(root):
        for element in root.iter("noiseRangeLut"):
            set_numbers(element, ["nan"] * len(element.text.split()))

    with pytest.raises(SceneError, match=r"noiseRangeLut holds no numbers.*delete this file"):
        with_noise(product, spoil)


@pytest.mark.parametrize("what", ["range vector", "pixel", "azimuth line"])
def test_what_is_repeated_in_a_noise_table_counts_once(product, what):
    before = sigma_nought(product)[0]

    def repeat(root):
        vectors = root.find("noiseRangeVectorList")
        if what == "range vector":
            again = copy.deepcopy(vectors[1])
            set_numbers(again.find("noiseRangeLut"), ["7"] * len(again.find("pixel").text.split()))
            vectors.insert(2, again)
            vectors.set("count", "4")
            return
        vector, nodes, values = (
            (vectors[1], "pixel", "noiseRangeLut")
            if what == "pixel"
            else (next(root.iter("noiseAzimuthVector")), "line", "noiseAzimuthLut")
        )
        for tag, second in ((nodes, None), (values, "7")):
            numbers = vector.find(tag).text.split()
            set_numbers(vector.find(tag), [*numbers[:2], second or numbers[1], *numbers[2:]])

    np.testing.assert_array_equal(with_noise(product, repeat), before)


def test_a_document_type_is_refused_in_any_encoding(product):
    text = BILLION.replace('"1.0"', '"1.0" encoding="utf-16"')
    table(product).write_bytes(text.encode("utf-16"))
    with pytest.raises(SceneError, match="document type"):
        sigma_nought(product)


def test_huge_tables_are_not_read(product, monkeypatch):
    archive = zipped(product)
    monkeypatch.setattr(product_xml, "LARGEST", 1 << 10)
    for location in (product, archive):
        with pytest.raises(SceneError, match="is larger than 0 MB"):
            sigma_nought(location)


def test_damaged_members_of_an_archive(product):
    archive = zipped(product)
    data = bytearray(archive.read_bytes())
    place = data.index(b"calibration-s1b-iw-grd-vv") + 120
    data[place : place + 200] = bytes(200)
    archive.write_bytes(data)
    with pytest.raises(SceneError, match=r"broken calibration table \(.*cannot be read"):
        sigma_nought(archive)


# The commands


def flood(shape=(256, 384), seed=0):
    """Sigma nought of water (-22 and -28 dB) left, land (-9 and -15 dB) right, with speckle."""
    rng = np.random.default_rng(seed)
    water = np.arange(shape[1]) < shape[1] // 2
    level = {"VV": np.where(water, -22.0, -9.0), "VH": np.where(water, -28.0, -15.0)}
    # Of 4.4 looks, as a GRD.
    speckle = {name: rng.gamma(4.4, 1 / 4.4, shape) for name in level}
    return {name: 10 ** (db / 10) * speckle[name] for name, db in level.items()}, water


@pytest.fixture
def flooded(tmp_path):
    truth, water = flood()
    tables = {"VV": Tables((256, 384)), "VH": Tables((256, 384), noise=400)}
    bands = {name: tables[name].numbers(truth[name]) for name in truth}
    for stored in bands.values():
        stored[:, :16] = 0
    return write_product(tmp_path, bands, tables), water


def run(capfd, *arguments):
    """Runs a command that succeeds, and gives what it says."""
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    said = capfd.readouterr().err
    assert not stopped.value.code, said
    return said


def test_predict_maps_a_product_with_the_bundled_model(flooded, tmp_path, capfd):
    product, water = flooded
    said = run(capfd, "predict", product, "-o", tmp_path / "map.tif")
    assert "sigma nought, by the product's calibration tables, thermal noise removed" in said
    assert "Warning" not in said
    with rasterio.open(tmp_path / "map.tif") as file:
        codes, settings = file.read(1), json.loads(file.tags()["CWSAM_GEO_SETTINGS"])
        points, crs = file.gcps
        legend = Legend.from_list(json.loads(file.tags()["LEGEND"]))
    names = dict(zip(legend.codes.tolist(), legend.names, strict=True)) | {255: "nodata"}
    named = np.vectorize(names.get)(codes)
    assert (named[:, :16] == "nodata").all()
    assert (named[:, 16:] != "nodata").all()
    assert (named[:, 16:][:, water[16:]] == "water").mean() > 0.95
    assert (named[:, ~water] == "land").mean() > 0.95
    assert (settings["units"], settings["calibration"][:13]) == ("power", "sigma nought,")
    places = [
        [(p.row, p.col, p.x, p.y) for p in ps] for ps in (points, control_points(codes.shape))
    ]
    np.testing.assert_allclose(*places)
    assert crs.to_epsg() == 4326


def test_info_says_that_the_tables_are_used(product, tmp_path):
    random_bundle(CLASSES).save(tmp_path / "s1.safetensors")
    gray_bundle(CLASSES).save(tmp_path / "gray.safetensors")
    found = describe([str(product)], InfoOptions(model=tmp_path / "s1.safetensors"))
    assert found["calibration"].startswith("sigma nought")
    assert found["units"] == {"units": "power", "reason": found["calibration"]}
    assert found["statistics"][0]["p50"] < 1
    assert found["predict"]["units"] == "power"
    gray = describe([str(product)], InfoOptions(model=tmp_path / "gray.safetensors", bidx=(1,)))
    assert gray["predict"]["units"] == "amplitude"
    given = describe([str(product)], InfoOptions(units="amplitude"))
    assert given["calibration"] is None
    assert given["statistics"][0]["p50"] > 1
    table(product).write_text("<calibration/>")
    broken = describe([str(product)], InfoOptions(model=tmp_path / "s1.safetensors"))
    assert "broken calibration table" in broken["units"]["reason"]
    assert "broken calibration table" in broken["predict"]["refuses"]


def labelled(folder, water):
    labels = np.tile(np.where(water, 1, 2).astype(np.uint8), (256, 1))
    write_measurement(folder / "labels.tif", labels)
    content = {
        "classes": CLASSES.to_list(),
        "scenes": [{"scene": NAME, "labels": "labels.tif"}],
        "init": "tiny",
        "train": {"tile_size": 64, "epochs": 1, "samples": 4, "batch_size": 2, "scope": "full",
                  "device": "cpu"},
        "validation": {"block_size_px": 64, "fraction": 0.25, "gap_px": 8},
    }  # fmt: skip
    (folder / "region.yaml").write_text(yaml.safe_dump(content))
    return folder / "region.yaml"


def test_training_sees_what_predict_sees(flooded, tmp_path):
    product, water = flooded
    region = labelled(tmp_path, water)
    expected, _, _ = sigma_nought(product)
    with region_data(load_region(region)) as data:
        vv = [
            q for name, q in zip(data.spec.bands, data.spec.quantiles, strict=True) if name == "VV"
        ]
        assert vv[0][0] == pytest.approx(-24, abs=3)
        assert vv[0][2] == pytest.approx(-7, abs=3)
        scene = data.training._reader.scenes[0].file
        assert scene.calibrated
        with scene.open() as source:
            values, _ = source.read(source.grid.window)
            place = source.names.index("VV")
        np.testing.assert_array_equal(values[place], expected[0])
        shutil.rmtree(product / "annotation")
        with pytest.raises(SceneError, match="tables are gone"):
            scene.open()


def test_finetune_on_a_product_and_predict_with_it(flooded, tmp_path, capfd):
    product, water = flooded
    model = tmp_path / "own.safetensors"
    run(capfd, "finetune", labelled(tmp_path, water), "-o", model)
    said = run(capfd, "predict", product, "-o", tmp_path / "map.tif", "-m", model)
    assert "far from" not in said


# Place


def placed(grid):
    return [(p.row, p.col, p.x, p.y, p.z) for p in grid.gcps], grid.gcp_crs


def test_bands_of_two_products_are_no_scene(product, bands, tables, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_product(tmp_path / "other", bands, tables)
    vv = next((product / "measurement").glob("*-vv-*"))
    vh = next((other / "measurement").glob("*-vh-*"))
    with open_source([vv, vh]) as source:
        assert source.names == ("VV", "VH")
    with rasterio.open(vh, "r+") as file:
        points, crs = file.gcps
        for point in points:
            point.x += 0.01
        file.gcps = points, crs
    with pytest.raises(SceneError, match=r"-vh-\S+ is not on the grid of \S+-vv-.*control points"):
        open_source([vv, vh])


def test_control_points_of_the_annotation_where_the_files_have_none(tmp_path, bands, tables):
    product = write_product(tmp_path, bands, tables, placed=False)
    with open_source(product) as source:
        assert not source.grid.georeferenced
    for file in list((product / "measurement").iterdir()):
        shape = bands["VV"].shape
        (product / "annotation" / f"{file.stem}.xml").write_text(annotation_xml(shape))
    expected = [(p.row, p.col, p.x, p.y, p.z) for p in control_points(shape)]
    for location in (product, zipped(product), file):
        with open_source(location) as source:
            points, crs = placed(source.grid)
            np.testing.assert_allclose(points, expected, rtol=1e-12)
            assert crs.to_epsg() == 4326


def test_the_files_own_control_points_win(product, bands):
    with open_source(product) as source:
        own = placed(source.grid)
    for file in (product / "measurement").iterdir():
        (product / "annotation" / f"{file.stem}.xml").write_text("broken")
    with open_source(product) as source:
        assert placed(source.grid) == own


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:-40], "is not XML"),
        (lambda text: text.replace("geolocationGrid>", "other>"), "no geolocationGrid"),
        (lambda text: text.replace('count="20"', 'count="21"'), "should have 21 members"),
        (lambda text: text.replace("<latitude>4", "<latitude>x4", 1), "latitude is 'x4"),
    ],
)
def test_a_broken_annotation_is_one_clear_line(tmp_path, bands, tables, change, says):
    product = write_product(tmp_path, bands, tables, placed=False)
    for file in (product / "measurement").iterdir():
        annotation = product / "annotation" / f"{file.stem}.xml"
        annotation.write_text(change(annotation_xml(bands["VV"].shape)))
    with pytest.raises(SceneError, match=rf"-iw-grd-v\S*\.xml.*{says}.*delete this file") as caught:
        open_source(product)
    assert "\n" not in str(caught.value)


def test_a_part_of_a_product_is_what_the_whole_has_there(product, tmp_path):
    with open_source(product) as source:
        with pytest.raises(SceneError, match="--aoi"):
            part_in_bounds(source.grid, source.label, (11.0, 47.9, 11.01, 48.0))
        whole = source.calibrated()
        values, _ = whole.read(source.grid.window)
        ring = [[11 + 1e-4 * c + 2e-5 * r, 48 - 9e-5 * r + 2e-5 * c] for c, r in
                ((60, 40), (190, 40), (190, 120), (60, 120), (60, 40))]  # fmt: skip
        area = {"type": "Polygon", "coordinates": [ring]}
        (tmp_path / "area.geojson").write_text(json.dumps(area))
        part = part_in_area(whole.grid, whole.label, tmp_path / "area.geojson")
        found, _ = whole.read(part.window)
        grid = whole.grid.crop(part.window)
    row, col = (-round(getattr(grid.gcps[0], axis)) for axis in ("row", "col"))
    assert (row, col) == (pytest.approx(40, abs=1), pytest.approx(60, abs=1))
    assert (part.window.row, part.window.col) == (row, col)
    assert part.contains(part.window).mean() > 0.9
    np.testing.assert_array_equal(found, values[(slice(None), *part.window.slices)])


# Real tables


def test_the_real_product_lies_where_gdal_puts_it(shared_data):
    product = next(shared_data.glob("safe/*5371.SAFE"))
    with rasterio.open(product) as file, open_source(product) as source:
        points, crs = file.gcps
        assert len(points) == 210
        assert source.grid.gcp_crs == crs
        expected = [(p.row, p.col, p.x, p.y, p.z) for p in points]
        np.testing.assert_allclose(placed(source.grid)[0], expected, atol=1e-9)


def test_real_tables_as_computed_by_other_means(shared_data):
    from xml.etree import ElementTree

    product = next(shared_data.glob("safe/*5371.SAFE"))
    shape = 16705, 26102
    found = read_sigma_nought(table_files(str(next((product / "measurement").iterdir()))), *shape)
    roots = {
        kind: ElementTree.parse(table(product, kind)).getroot() for kind in ("calibration", "noise")
    }

    def nodes(kind, path, lut):
        vectors = roots[kind].findall(path)
        parts = [[v.findtext(t).split() for v in vectors] for t in ("line", "pixel", lut)]
        return [[np.array(p, float) for p in part] for part in parts]

    lines, pixels, sigma = nodes("calibration", "*/calibrationVector", "sigmaNought")
    noise_lines, noise_pixels, noise = nodes("noise", "*/noiseRangeVector", "noiseRangeLut")
    blocks = roots["noise"].findall("*/noiseAzimuthVector")
    rng = np.random.default_rng(0)
    rows = [0, 668, 669, 1002, 8018, 16704, *rng.integers(0, shape[0], 20)]
    cols = np.array([0, 40, 57, 8889, 8890, 26080, 26101, *rng.integers(0, shape[1], 200)])
    dn = rng.integers(1, 2000, (len(rows), len(cols))).astype(np.float64)
    for row, numbers in zip(rows, dn, strict=True):
        tables = (lines, pixels, sigma), (noise_lines, noise_pixels, noise)
        at = [bilinear(np.ravel(a) - row, b, c, (1, shape[1]))[0, cols] for a, b, c in tables]
        for block in blocks:
            first, last = (int(block.findtext(f"{e}RangeSample")) for e in ("first", "last"))
            line, lut = (np.array(block.findtext(t).split(), float)
                         for t in ("line", "noiseAzimuthLut"))  # fmt: skip
            at[1][(cols >= first) & (cols <= last)] *= np.interp(row, line, lut)
        expected = np.maximum((numbers**2 - at[1]) / at[0] ** 2, FLOOR)
        for col, number, value in zip(cols, numbers, expected, strict=True):
            pixel = np.array([[number]], np.float32)
            found.apply(pixel, Window(int(row), int(col), 1, 1), intensity=False)
            assert pixel[0, 0] == pytest.approx(value, rel=1e-5, abs=1e-8)


def test_the_real_product_is_read_by_its_tables(shared_data):
    with open_source(next(shared_data.glob("safe/*5371.SAFE"))) as source:
        assert "thermal noise removed" in source.calibrated().calibration
    lacking = next(shared_data.glob("safe/*ECC8.SAFE"))
    with open_source(lacking) as source, pytest.raises(SceneError, match="lacks annotation"):
        plan_reading(source, spec(fill=(None, -20.0)))
