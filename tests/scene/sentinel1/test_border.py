"""Noise along the borders of products of before IPF 2.9 is nodata; land and calm water are not."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import rasterio
from models import random_bundle
from products import Tables, write_product, zipped
from scipy import ndimage
from specs import spec

from cwsam_geo.cli.main import main
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import amplitude8_spec
from cwsam_geo.scene import edge
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.sentinel1 import border
from cwsam_geo.scene.sentinel1.border import processor_version
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = Legend.from_list(
    [
        {"code": 1, "name": "water", "color": "#0000ff"},
        {"code": 2, "name": "land", "color": "#00ff00"},
    ]
)

SHAPE = (240, 330)
LAND, WATER, NOISE, NOTHING = range(4)

MANIFEST = (
    '<xfdu xmlns:safe="http://www.esa.int/safe/sentinel-1.0"><safe:processing name="GRD Post '
    'Processing"><safe:software name="Sentinel-1 IPF" version="{}"/><safe:resource><processing '
    'name="SLC Processing"><software name="Sentinel-1 IPF" version="002.00"/></processing>'
    "</safe:resource></safe:processing></xfdu>"
)


def speckle(rng, shape, looks=4):
    """Speckle of mean 1, whose neighbouring pixels are correlated as those of a GRD."""
    total = 0
    for _ in range(looks):
        parts = rng.normal(size=(2, shape[0] + 1, shape[1] + 1))
        parts = parts[:, :-1] + parts[:, 1:]
        parts = parts[:, :, :-1] + parts[:, :, 1:]
        total = total + np.square(parts).sum(axis=0) / 8
    return total / looks


def ground():
    """What each pixel is: borders on all four sides, and water that touches them and the edge."""
    height, width = SHAPE
    rows, cols = np.indices(SHAPE)
    what = np.full(SHAPE, LAND)
    what[height // 3 : height // 2, : width // 2] = WATER  # to the border at near range
    what[: height // 3, width // 2 : 2 * width // 3] = WATER  # to the scene's edge
    what[height // 2 :, 3 * width // 4 :] = WATER  # to far range
    left, right = 12 + rows // 9, width - 20 + rows // 20
    what[cols < left] = NOISE
    what[cols >= right] = NOISE
    what[cols < left - 8] = NOTHING  # zeros, and noise between them and the data
    what[height - 10 :] = NOISE
    what[:9, : width // 3] = NOISE
    return what


def numbers(what, tables, rng, level, least=0.02, most=0.2):
    """Digital numbers: noise lacks the thermal noise, and is 7 dB and more below it."""
    thermal = tables.noise_power()
    power = thermal + np.where(what == LAND, level * np.square(tables.amplitude()), 0)
    power = np.where(what == NOISE, thermal * rng.uniform(least, most, what.shape), power)
    stored = np.rint(np.sqrt(power * speckle(rng, what.shape))).astype(np.uint16)
    stored[what == NOTHING] = 0
    return stored


def make(folder, version="002.72", layout="old", most=0.2, **profile):
    """A product of a processor's version; None for a manifest that does not tell it."""
    rng = np.random.default_rng(3)
    what = ground()
    tables = {
        "VV": Tables(SHAPE, layout=layout),
        "VH": Tables(SHAPE, layout=layout, level=620, noise=1500),
    }
    bands = {
        "VV": numbers(what, tables["VV"], rng, 0.1, most=most),
        "VH": numbers(what, tables["VH"], rng, 0.02, most=most),
    }
    product = write_product(folder, bands, tables, **profile)
    if version is not None:
        (product / "manifest.safe").write_text(MANIFEST.format(version))
    return product, what


def read(location, model=None, units="auto", noise="mask", **options):
    with open_source(location, **options) as source:
        reading = plan_reading(source, model or spec(), units, noise)
        valid = reading.source.read(source.grid.window)[1]
    return valid, reading


def check(valid, what):
    """All is as it should be but for pixels that touch the limit of the noise."""
    data = what < NOISE
    wrong = valid != data
    near = ndimage.binary_dilation(data, iterations=2) & ndimage.binary_dilation(
        ~data, iterations=2
    )
    assert not (wrong & ~near).any()
    assert wrong[near].mean() < 0.2


@pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
@pytest.mark.parametrize("version", ["002.36", "002.84", None])
def test_noise_is_nodata_and_land_and_calm_water_are_not(tmp_path, version, profile):
    product, what = make(tmp_path, version, **profile)
    valid, reading = read(product)
    check(valid, what)
    (said,) = [r for r in reading.remarks if "noise along the borders" in r]
    assert ("before IPF 2.9" if version is None else f"IPF {float(version):.2f}") in said
    assert "--border-noise keep" in said
    assert not any("noise" in w for w in reading.warnings)
    # What is no data is in no statistics.
    assert reading.stats.border_noise == pytest.approx((what == NOISE).mean(), abs=0.02)
    assert reading.stats.valid == pytest.approx((what != NOISE).mean(), abs=0.02)


def test_no_window_and_no_cell_changes_it(tmp_path, monkeypatch):
    product, what = make(tmp_path)
    whole, reading = read(product)
    zero = pickle.loads(pickle.dumps(reading.source.zero))
    monkeypatch.setattr(edge, "_CELL_PIXELS", 5000)
    again, _ = read(product)
    np.testing.assert_array_equal(again, whole)
    window = Window(37, 5, 101, 222)
    with open_source(product) as source:
        part = source.calibrated().with_zero(zero).read(window)[1]
    np.testing.assert_array_equal(part, whole[window.slices])
    # Each band alone, a zip, and the digital numbers without calibration agree.
    for valid, _ in (
        read(product, spec(("VV",))),
        read(zipped(product)),
        read(product, units="amplitude"),
        read(product, amplitude8_spec(64)),
        read(product, units="amplitude", scale=2.0, offset=1.0),
    ):
        check(valid, what)


def test_noise_is_kept_on_request(tmp_path):
    product, what = make(tmp_path)
    valid, reading = read(product, noise="keep")
    assert valid[what != NOTHING].all()
    assert not valid[what == NOTHING].any()
    (warning,) = [w for w in reading.warnings if "noise" in w]
    assert "is kept, and may be mapped as water" in warning
    assert reading.border_noise == "keep"


@pytest.mark.parametrize(("version", "layout"), [("002.90", "modern"), ("003.31", "old")])
def test_newer_products_are_as_they_are(tmp_path, version, layout):
    product, what = make(tmp_path, version, layout)
    valid, reading = read(product)
    assert valid[what != NOTHING].all()
    assert reading.border_noise is None
    assert not any("noise along" in text for text in (*reading.warnings, *reading.remarks))


def test_only_the_border_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(border, "REACH", 30)
    product, what = make(tmp_path)
    valid, _ = read(product)
    rows, cols = np.indices(SHAPE)
    inside = (rows >= 30) & (rows < SHAPE[0] - 30) & (cols >= 30) & (cols < SHAPE[1] - 30)
    assert valid[inside & (what != NOTHING)].all()
    check(valid[:, :30], what[:, :30])


def test_zeros_and_low_values_inside_stay(tmp_path):
    product, what = make(tmp_path)
    for file in (product / "measurement").iterdir():
        with rasterio.open(file, "r+") as raster:
            stored = raster.read(1)
            stored[100:110, 200:220] = 0
            stored[120:130, 200:220] = 3  # far below the noise, but surrounded by data
            raster.write(stored, 1)
    valid, _ = read(product)
    assert valid[95:135, 190:230].all()
    check(valid, what)


def test_without_a_noise_table_what_is_below_all_noise_is_no_data(tmp_path):
    product, what = make(tmp_path, "002.36", "none", most=0.05)  # a third of 14 squared
    assert not list(product.rglob("noise-*.xml"))
    valid, _ = read(product)
    check(valid, what)


def test_the_version_is_that_of_the_last_processing_step(tmp_path):
    product, _ = make(tmp_path, "002.53")
    file = next((product / "measurement").iterdir())
    assert processor_version(str(file)) == (2, 53)
    archive = zipped(product)
    inside = f"/vsizip/{archive}/{file.relative_to(tmp_path)}"
    assert processor_version(inside) == (2, 53)
    for text in ("<xfdu/>", "no XML", MANIFEST.format("new"), "<!DOCTYPE a><a/>"):
        (product / "manifest.safe").write_text(text)
        assert processor_version(str(file)) is None
    (product / "manifest.safe").unlink()
    assert processor_version(str(file)) is None
    assert processor_version("https://a.example/P.SAFE/measurement/a.tiff") is None


def test_maps_of_parts_and_of_several_processes_have_the_same_border(tmp_path):
    product, what = make(tmp_path)
    model = random_bundle(CLASSES).save(tmp_path / "m.safetensors")
    common = ["-m", str(model), "--quiet"]
    whole, kept, shared = (tmp_path / f"{n}.tif" for n in ("whole", "kept", "shared"))

    def predict(output, *options):
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(product), "-o", str(output), *options, *common])
        assert ended.value.code == 0

    # With the speckle filter, of which the same holds.
    predict(whole, "--despeckle")
    predict(kept, "--border-noise", "keep")
    predict(shared, "--despeckle", "--devices", "cpu:2")
    codes = {}
    for path in (whole, kept, shared):
        with rasterio.open(path) as raster:
            codes[path.stem], tags = raster.read(1), raster.tags()
            settings = json.loads(tags["CWSAM_GEO_SETTINGS"])
            assert settings["border_noise"] == ("keep" if path is kept else "mask")
            assert '"--border-noise"' in tags["CWSAM_GEO_FINGERPRINT"]
    check(codes["whole"] != 255, what)
    np.testing.assert_array_equal(codes["shared"], codes["whole"])
    assert (codes["kept"][what == NOISE] != 255).all()
    # A part: its corners in degrees lie inside the scene (the product has control points).
    aoi = tmp_path / "aoi.geojson"
    ring = [[11.001, 47.999], [11.02, 47.999], [11.02, 47.985], [11.001, 47.985], [11.001, 47.999]]
    aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    part = tmp_path / "part.tif"
    predict(part, "--despeckle", "--aoi", str(aoi))
    with rasterio.open(part) as raster, rasterio.open(whole) as all_of_it:
        found = raster.read(1)
        first = raster.gcps[0][0]  # that of the whole map is at its first pixel
        row, col = round(-first.row), round(-first.col)
        same = all_of_it.read(1)[row : row + found.shape[0], col : col + found.shape[1]]
    inside = found != 255
    np.testing.assert_array_equal(found[inside], same[inside])
    assert (same[~inside] == 255).any()


def test_a_real_product_of_2015(tmp_path, shared_data):
    """Its own tables and manifest, with simulated pixels; its noise tables are empty."""
    name = "S1A_IW_GRDH_1SDV_20150222T170725_20150222T170750_004739_005DD8_CEAB"
    with zipfile.ZipFile(shared_data / "formats" / "safe_metadata" / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    product = tmp_path / f"{name}.SAFE"
    assert processor_version(str(product / "measurement" / "a.tiff")) == (2, 36)
    rng = np.random.default_rng(1)
    height, width = 120, 25357
    noise = 18.0  # the thermal noise in digital numbers at its least
    what = np.full((height, width), LAND)
    what[50:80] = WATER
    what[:, :180] = NOISE
    what[:, width - 150 :] = NOISE
    what[:15] = NOISE
    for path in sorted((product / "annotation").glob("*.xml")):
        level = {"vv": 150.0, "vh": 60.0}[path.name.split("-")[3]]
        mean = np.select([what == LAND, what == WATER], [level, noise], 6.0)
        stored = np.rint(mean * np.sqrt(speckle(rng, what.shape))).astype(np.uint16)
        with rasterio.open(
            product / "measurement" / f"{path.stem}.tiff", "w", driver="GTiff", count=1,
            height=height, width=width, dtype="uint16",
        ) as out:  # fmt: skip
            out.write(stored, 1)
    valid, reading = read(product)
    check(valid, what)
    assert any("(IPF 2.36, made before March 2018)" in r for r in reading.remarks)
