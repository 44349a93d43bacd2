"""Sentinel-1 products of all modes: real metadata, with simulated pixels in some windows."""

import shutil
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RioWindow

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

PRODUCTS = {
    "IW 2015": "S1A_IW_GRDH_1SDV_20150222T170725_20150222T170750_004739_005DD8_CEAB.zip",
    "IW 2026": "S1A_IW_GRDH_1SDV_20260606T181903_20260606T181928_064852_082C02_1C0B.zip",
    "EW": "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15",
    "SM of S1C": "S1C_S4_GRDH_1SDH_20250118T171404_20250118T171421_000638_000538_4B8B.SAFE",
}

SIZE = 24


def numbers_in(element):
    return np.array(element.text.split(), float)


def at(lines, pixels, values, window):
    """Bilinear interpolation of vectors in float64, written for the test."""
    columns = np.arange(window.col, window.right)
    rows = np.arange(window.row, window.bottom)
    along = np.array([np.interp(columns, p, v) for p, v in zip(pixels, values, strict=True)])
    return np.array([np.interp(rows, lines, column) for column in along.T]).T


def vectors(root, tag, value):
    elements = list(root.iter(tag))
    lines = [float(e.findtext("line")) for e in elements]
    pixels = [numbers_in(e.find("pixel")) for e in elements]
    return lines, pixels, [numbers_in(e.find(value)) for e in elements]


def noise_at(root, window):
    modern = root.find("noiseRangeVectorList") is not None
    tag, value = ("noiseRangeVector", "noiseRangeLut") if modern else ("noiseVector", "noiseLut")
    noise = at(*vectors(root, tag, value), window)
    factor, known = np.ones_like(noise), np.zeros(noise.shape, bool)
    for block in root.iter("noiseAzimuthVector"):
        top, bottom, left, right = (
            int(block.findtext(t) or d)
            for t, d in (("firstAzimuthLine", 0), ("lastAzimuthLine", 10**9),
                         ("firstRangeSample", 0), ("lastRangeSample", 10**9))
        )  # fmt: skip
        lines, values = numbers_in(block.find("line")), numbers_in(block.find("noiseAzimuthLut"))
        for row in range(window.row, window.bottom):
            cols = np.arange(window.col, window.right)
            own = (cols >= left) & (cols <= right) & (top <= row <= bottom)
            own &= ~known[row - window.row]
            factor[row - window.row, own] = np.interp(row, lines, values)
            known[row - window.row] |= own
    return noise * factor


def unpacked(name, shared_data, folder):
    source = shared_data / "formats" / "safe_metadata" / name
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            wanted = [n for n in archive.namelist() if "/annotation/" in n or n.endswith(".safe")]
            archive.extractall(folder, [n for n in wanted if "report" not in n])
        (product,) = folder.iterdir()
        return product
    product = folder / name
    shutil.copytree(source, product, copy_function=shutil.copyfile)
    for path in (product, *product.rglob("*")):
        path.chmod(0o755)
    return product


def with_measurements(product, ending=".tiff", **profile):
    """Adds measurement files of true size, with numbers in a few windows; their values by name."""
    rng = np.random.default_rng(0)
    (product / "measurement").mkdir(exist_ok=True)
    stored = {}
    for annotation in sorted((product / "annotation").glob("*.xml")):
        root = ElementTree.parse(annotation).getroot()
        height, width = (
            int(root.findtext(f"imageAnnotation/imageInformation/{tag}"))
            for tag in ("numberOfLines", "numberOfSamples")
        )
        name = root.findtext("adsHeader/polarisation")
        windows = [
            Window(row, col, SIZE, SIZE)
            for row in (0, height // 2, height - SIZE)
            for col in (0, width // 3, width - SIZE)
        ]
        path = product / "measurement" / f"{annotation.stem}{ending}"
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=1, dtype="uint16",
            tiled=True, SPARSE_OK=True, **profile,
        ) as out:  # fmt: skip
            for window in windows:
                values = np.rint(rng.rayleigh(150, (SIZE, SIZE))).astype(np.uint16) + 1
                out.write(values, 1, window=RioWindow(window.col, window.row, SIZE, SIZE))
                stored[name, window] = values
    return stored


def expected(product, name, window, stored, denoised):
    folder = product / "annotation" / "calibration"
    trees = {
        kind: next(
            root
            for path in folder.glob(f"{kind}-*.xml")
            for root in [ElementTree.parse(path).getroot()]
            if root.findtext("adsHeader/polarisation") == name
        )
        for kind in ("calibration", "noise")
    }
    gain = at(*vectors(trees["calibration"], "calibrationVector", "sigmaNought"), window)
    noise = noise_at(trees["noise"], window) if denoised else 0
    return np.maximum((stored.astype(float) ** 2 - noise) / gain**2, 1e-5)


def check(product, location, stored):
    with open_source(location) as source:
        calibrated = source.calibrated()
        # The noise table of early 2015 is in other units, which nobody can use.
        denoised = "20150222" not in product.name
        assert ("thermal noise removed" in calibrated.calibration) == denoised
        names = calibrated.names
        for (name, window), numbers in stored.items():
            values, _ = calibrated.read(window)
            np.testing.assert_allclose(
                values[names.index(name)],
                expected(product, name, window, numbers, denoised),
                rtol=1e-4,
            )
        assert len(source.grid.gcps) >= 100
    return names


@pytest.mark.parametrize("mode", PRODUCTS)
def test_products_of_all_modes(mode, tmp_path, shared_data):
    product = unpacked(PRODUCTS[mode], shared_data, tmp_path)
    stored = with_measurements(product)
    names = check(product, product, stored)
    assert set(names) == ({"VV", "VH"} if mode.startswith("IW") else {"HH", "HV"})


def test_a_cog_product(tmp_path, shared_data):
    """COG_SAFE: the measurement files have ``-cog`` in their names, and the folder ``_COG``."""
    plain = unpacked(PRODUCTS["SM of S1C"], shared_data, tmp_path)
    product = plain.with_name(f"{plain.stem}_COG.SAFE")
    plain.rename(product)
    stored = with_measurements(product, "-cog.tiff", compress="deflate")
    check(product, product, stored)
    archive = product.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for file in product.rglob("*"):
            out.write(file, file.relative_to(tmp_path))
    check(product, archive, stored)


@pytest.mark.parametrize("swaths", [("iw1", "iw2", "iw3"), ("ew1", "ew5")])
def test_an_slc_of_several_swaths_asks_for_one(tmp_path, swaths):
    product = tmp_path / "S1A_IW_SLC__1SDV_20200101.SAFE"
    (product / "measurement").mkdir(parents=True)
    for swath in swaths:
        for name in ("vv", "vh"):
            file = f"s1a-{swath}-slc-{name}-20200101t000000-20200101t000025-030000-030000-001.tiff"
            (product / "measurement" / file).write_bytes(b"")
    with pytest.raises(SceneError, match=rf"{len(swaths)} swaths .*files of one swath"):
        open_source(product)
