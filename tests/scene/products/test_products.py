"""Products of agencies and companies: names, nodata, units and calibration by their own metadata.

Values are compared with the formulas of the products' documentation, in float64.
"""

import json
import math
import shutil
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from scene_rasters import UTM, write
from specs import spec

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.file_states import file_states
from cwsam_geo.scene.locations import is_one_scene
from cwsam_geo.scene.products.recognise import recognise
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RNG = np.random.default_rng(5)
SHAPE = (40, 60)


def amplitude(mean=3000, low=1):
    """Single-look amplitude as whole numbers; never 0."""
    return np.maximum(np.rint(RNG.rayleigh(mean, SHAPE)), low).astype(np.uint16)


def plan(locations, model, units="auto", **options):
    with open_source(locations, **options) as source:
        reading = plan_reading(source, model, units)
        values, valid = reading.source.read(source.grid.window)
        # A part is read like the whole.
        part = Window(3, 7, 20, 30)
        np.testing.assert_array_equal(
            reading.source.read(part)[0], values[(slice(None), *part.slices)]
        )
    return reading, values, valid


def refused(locations, model, *words):
    with pytest.raises(SceneError) as caught:
        plan(locations, model)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


def model(*bands):
    return spec(bands)


# PALSAR mosaics


def mosaic(folder, suffix=".tif", driver="GTiff", **bands):
    folder.mkdir(exist_ok=True)
    for name, values in bands.items():
        middle = f"sl_{name}" if name in ("HH", "HV") else name
        write(folder / f"N07E116_20_{middle}_F02DAR{suffix}", values, driver=driver)
    return folder


@pytest.mark.parametrize(("suffix", "driver"), [(".tif", "GTiff"), ("", "ENVI")])
def test_a_mosaic_of_palsar_is_gamma_nought(tmp_path, suffix, driver):
    hh, hv = amplitude(5000), amplitude(2500)
    hh[:4], hv[:4] = 0, 0
    hh[20:23, 20:23], hv[20:23, 20:23] = 0, 0
    hv[30, 30] = 0
    others = {name: np.full(SHAPE, 50, np.uint8) for name in ("mask", "linci")}
    folder = mosaic(tmp_path / "N07E116_20_MOS", suffix, driver, HH=hh, HV=hv, **others)
    reading, values, valid = plan(folder, model("HH", "HV"))
    # Inside, too, 0 is nodata; in one band only it is data.
    assert not valid[:4].any()
    assert not valid[20:23, 20:23].any()
    assert valid[30, 30]
    assert valid.sum() == valid.size - 4 * 60 - 9
    for plane, numbers in zip(values, (hh, hv), strict=True):
        told = valid & (numbers > 0)
        expected = 10 * np.log10(numbers[told].astype(np.float64) ** 2) - 83.0
        np.testing.assert_allclose(
            10 * np.log10(plane[told].astype(np.float64)), expected, atol=1e-4
        )
    assert reading.units.units == "power"
    assert "gamma nought" in reading.units.reason
    assert not any("--nodata" in w for w in reading.warnings)


def test_the_mask_of_a_mosaic_is_no_scene(tmp_path):
    folder = mosaic(tmp_path / "m", mask=np.full(SHAPE, 255, np.uint8))
    refused(next(folder.iterdir()), model("HH"), "no backscatter", "mask")


def test_palsar_of_unknown_name_by_scale(tmp_path):
    """docs/products.md names this scale for exports whose names are lost."""
    hh = amplitude(5000)
    path = write(tmp_path / "export.tif", hh, ["HH"])
    refused(path, model("HH"), "uncalibrated", "--units")
    _, values, _ = plan(path, model("HH"), "amplitude", scale=10 ** (-83 / 20))
    expected = 20 * np.log10(hh.astype(np.float64)) - 83
    np.testing.assert_allclose(20 * np.log10(values[0].astype(np.float64)), expected, atol=1e-4)


# Terrain-corrected Sentinel-1


@pytest.mark.parametrize(
    ("vv", "vh", "units"),
    [
        ("OPERA_L2_RTC-S1_T137-292324-IW2_20240108_S1A_30_v1.0_VV",
         "OPERA_L2_RTC-S1_T137-292324-IW2_20240108_S1A_30_v1.0_VH", "power"),
        ("iw-vv.rtc", "iw-vh.rtc", "power"),
        ("S1A_IW_20210401T052622_DVP_RTC30_G_gpuned_AB12_VV",
         "S1A_IW_20210401T052622_DVP_RTC30_G_gpuned_AB12_VH", "power"),
        ("S1A_IW_20210401T052622_DVP_RTC30_G_gauned_AB12_VV",
         "S1A_IW_20210401T052622_DVP_RTC30_G_gauned_AB12_VH", "amplitude"),
        ("S1A_IW_20210401T052622_DVP_RTC30_S_sduned_AB12_VV",
         "S1A_IW_20210401T052622_DVP_RTC30_S_sduned_AB12_VH", "db"),
    ],
)  # fmt: skip
def test_units_of_terrain_corrected_products_are_those_of_their_names(tmp_path, vv, vh, units):
    levels = np.stack([RNG.normal(level, 4, SHAPE) for level in (-11, -18)])
    stored = {"db": levels, "power": 10 ** (levels / 10), "amplitude": 10 ** (levels / 20)}[units]
    folder = tmp_path / "product"
    folder.mkdir()
    for name, band in zip((vv, vh), stored.astype(np.float32), strict=True):
        write(folder / f"{name}.tif", band)
    beside = vv.rpartition("_")[0] or "iw"
    for end in ("inc_map", "ls_map", "dem", "mask"):
        write(folder / f"{beside}_{end}.tif", np.ones(SHAPE, np.float32))
    reading, values, _ = plan(folder, model("VV", "VH"))
    assert reading.units.units == units
    assert "the scene says so" in reading.units.reason
    assert not reading.warnings
    order = [reading.source.names.index(name) for name in ("VV", "VH")]
    np.testing.assert_array_equal(values[order], stored.astype(np.float32))


def test_a_real_crop_of_opera(shared_data):
    reading, _, _ = plan_small(shared_data / "formats" / "opera_rtc", model("VV", "VH"))
    assert reading.units.units == "power"
    assert "OPERA RTC-S1" in reading.units.reason


def plan_small(locations, model, **options):
    with open_source(locations, **options) as source:
        reading = plan_reading(source, model)
        return reading, *reading.source.read(source.grid.window)


# ICEYE


def test_a_real_file_of_iceye_is_sigma_nought(shared_data):
    path = shared_data / "formats" / "iceye_grd_10px_gcps_tags.tif"
    reading, values, valid = plan_small(path, model("VV"))
    with rasterio.open(path) as file:
        factor, numbers = float(file.tags()["CALIBRATION_FACTOR"]), file.read(1)
    np.testing.assert_allclose(values[0], factor * numbers.astype(np.float64) ** 2, rtol=1e-6)
    assert valid.all()
    assert reading.units.units == "power"
    assert "ICEYE" in reading.units.reason
    # As digital numbers, for a model that was trained on these.
    with open_source(path) as source:
        stored = plan_reading(source, model("VV"), "amplitude").source.read(source.grid.window)[0]
    np.testing.assert_array_equal(stored[0], numbers)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"CALIBRATION_FACTOR": "0"}, "ICEYE has not calibrated it"),
        ({"CALIBRATION_FACTOR": "nan"}, "no tag CALIBRATION_FACTOR"),
        ({}, "no tag CALIBRATION_FACTOR"),
        ({"CALIBRATION_FACTOR": "4e-8", "ACQUISITION_MODE": "SCAN"}, "not calibrated"),
    ],
)
def test_iceye_without_calibration_is_refused(tmp_path, tags, words):
    tags = {"SATELLITE_NAME": "ICEYE-X7", "POLARIZATION": "VV", **tags}
    path = write(tmp_path / "ICEYE_GRD_1.tif", amplitude(300), tags=tags)
    refused(path, model("VV"), words, "--units amplitude")


# Capella

IMAGE = {
    "scale_factor": 0.00034308869733029704,
    "radiometry": "sigma_nought",
    "calibration": "full",
}


def extended(**image):
    radar = {"transmit_polarization": "H", "receive_polarization": "H"}
    return {"product_type": "GEO", "collect": {"image": IMAGE | image, "radar": radar}}


@pytest.mark.parametrize("place", ["tag", "file"])
@pytest.mark.parametrize("quantity", ["sigma", "gamma"])
def test_capella_has_its_scale_factor_in_a_tag_or_a_file(tmp_path, place, quantity):
    numbers = amplitude(900)
    numbers[:3] = 0
    numbers[20, 20:25] = 0
    text = json.dumps(extended(radiometry=f"{quantity}_nought"))
    tags = {"TIFFTAG_IMAGEDESCRIPTION": text} if place == "tag" else None
    name = "CAPELLA_C02_SM_GEO_HH_20201126192221_20201126192225"
    path = write(tmp_path / f"{name}.tif", numbers, tags=tags, nodata=0)
    if place == "file":
        (tmp_path / f"{name}_extended.json").write_text(text)
    reading, values, valid = plan(path, model("HH"))
    np.testing.assert_allclose(
        values[0], (numbers.astype(np.float64) * IMAGE["scale_factor"]) ** 2, rtol=1e-5
    )
    # 0 is data inside, as in radar shadow.
    assert not valid[:3].any()
    assert valid[3:].all()
    assert f"{quantity} nought of a Capella product" in reading.units.reason
    with open_source(path) as source:
        assert (f"{name}_extended.json" in file_states(source)) == (place == "file")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (extended(radiometry="beta_nought"), "beta_nought"),
        (extended(radiometry=None), "radiometry"),
        (extended(calibration="none"), "radiometry"),
        (extended(scale_factor=None), "scale_factor"),
        (extended(scale_factor=-1), "scale_factor"),
        (extended(scale_factor="x"), "scale_factor"),
        ({"collect": []}, "scale_factor"),
        (None, "_extended.json"),
    ],
)
def test_capella_without_calibration_is_refused(tmp_path, data, words):
    path = write(tmp_path / "CAPELLA_C02_SM_GEO_HH_1.tif", amplitude(900))
    if data is not None:
        (tmp_path / "CAPELLA_C02_SM_GEO_HH_1_extended.json").write_text(json.dumps(data))
    refused(path, model("HH"), words, "--units amplitude")


# Umbra


def test_umbra_is_refused_with_what_to_do(tmp_path, shared_data):
    real = shared_data / "formats" / "umbra_x_uint8_zero_is_data.tiff"
    refused(real, model("VV"), "Umbra gives no calibration factor", "--units amplitude")
    with open_source(real) as source:
        reading = plan_reading(source, model("VV"), "amplitude")
        _, valid = reading.source.read(Window(0, 0, 500, 500))
    assert valid.all()  # 0 is shadow, not nodata


# NISAR


@pytest.mark.parametrize("name", ["uavsar_nisar_rslc_hh.h5", "envisat_hh_slc.h5"])
def test_single_looks_in_the_layout_of_nisar_are_refused(shared_data, name):
    path = shared_data / "formats" / "hdf5" / name
    with pytest.raises(SceneError, match=r"digital numbers.*give the GCOV product.*--units power"):
        plan_small(path, model("HH"))


def test_a_grid_in_hdf5_is_placed_by_the_driver_of_netcdf(tmp_path):
    """NetCDF 4 is HDF5; NISAR's grids have the same coordinates, in groups."""
    hh, hv = power(-9).astype(np.float32), power(-16).astype(np.float32)
    plain = write(tmp_path / "plain.tif", np.stack([hh, hv]))
    with rasterio.open(plain, "r+") as file:
        for i, name in enumerate(("HHHH", "HVHV"), 1):
            file.update_tags(i, NETCDF_VARNAME=name)
    made = tmp_path / "made.nc"
    rasterio.shutil.copy(plain, made, driver="netCDF", FORMAT="NC4")
    path = made.rename(tmp_path / "scene.h5")
    with rasterio.open(path) as container:
        names = sorted(n for n in container.subdatasets if "HHHH" in n or "HVHV" in n)
    assert all(name.startswith("HDF5:") for name in names)
    reading, values, valid = plan(names, model("HH", "HV"))
    np.testing.assert_array_equal(values, np.stack([hh, hv]))
    assert valid.all()
    assert reading.source.grid.transform == UTM
    assert reading.source.grid.crs.to_epsg() == 32633


def test_the_diagonal_of_gcov_is_power(tmp_path):
    grid = 'NETCDF:"nisar.h5":/science/LSAR/GCOV/grids/frequencyA/HHHH'
    with rasterio.open(write(tmp_path / "s.tif", power(-9))) as file:
        assert recognise(file, grid).units == "power"


# Gaofen-3

GF3 = "GF3_MYN_QPSI_011111_E99.2_N26.6_20180926_L1A_{}_L20003483180"


def gaofen(folder, level="L1A", quality="5284.325195", constant="32.565", xml="AHV"):
    folder.mkdir(exist_ok=True)
    parts = {}
    for name in ("HH", "HV", "VH", "VV"):
        parts[name] = np.rint(RNG.normal(0, 400, (2, *SHAPE))).astype(np.int16)
        stored = parts[name] if level == "L1A" else np.abs(parts[name][:1]).astype(np.uint16)
        file = folder / f"{GF3.format(name).replace('L1A', level)}.tiff"
        write(file, stored, transform=rasterio.Affine.identity(), crs=None)
    if xml:
        names = ("HH", "HV", "VH", "VV")
        q = "".join(f"<{n}>{quality}</{n}>" for n in names)
        k = "".join(f"<{n}>{constant}</{n}>" for n in names)
        file = folder / f"{GF3.format(xml).replace('L1A', level)}.meta.xml"
        file.write_text(
            f"<product><imageinfo><QualifyValue>{q}</QualifyValue></imageinfo>"
            f"<processinfo><CalibrationConst>{k}</CalibrationConst></processinfo></product>"
        )
    return parts


@pytest.mark.parametrize(("level", "full"), [("L1A", 32767), ("L2", 65535)])
def test_gaofen_3_is_sigma_nought(tmp_path, level, full):
    parts = gaofen(tmp_path / "gf3", level)
    files = sorted((tmp_path / "gf3").glob("*.tiff"))
    for locations in (tmp_path / "gf3", [str(f) for f in files]):
        reading, values, valid = plan(locations, model("HH", "HV", "VH", "VV"))
        assert valid.all()
        assert reading.source.names == ("HH", "HV", "VH", "VV")
        for name, plane in zip(reading.source.names, values, strict=True):
            i, q = parts[name].astype(np.float64)
            power = i**2 + q**2 if level == "L1A" else np.abs(i) ** 2
            with np.errstate(divide="ignore"):
                expected = 10 * np.log10(power * (5284.325195 / full) ** 2) - 32.565
            told = power > 0
            np.testing.assert_allclose(10 * np.log10(plane[told].astype(np.float64)),
                                       expected[told], atol=1e-4)  # fmt: skip
    assert "QualifyValue" in reading.units.reason
    (one,) = [f for f in files if "_VV_" in f.name]
    assert plan(one, model("VV"))[0].source.names == ("VV",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"xml": None}, (".meta.xml is not beside it", "put the product's .meta.xml")),
        ({"quality": "NULL"}, ("QualifyValue", "--units amplitude")),
        ({"constant": "NULL"}, ("CalibrationConst", "--units amplitude")),
        ({"quality": "-3"}, ("QualifyValue",)),
    ],
)
def test_gaofen_3_without_calibration_is_refused(tmp_path, options, words):
    gaofen(tmp_path / "gf3", "L2", **options)
    refused(tmp_path / "gf3", model("HH"), *words)


# PolSARpro


def matrix(folder, **elements):
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in elements.items():
        write(folder / f"{name}.bin", values.astype(np.float32), (f"{name}.bin",), driver="ENVI")
    return folder


def power(level):
    return 10 ** (RNG.normal(level, 4, SHAPE) / 10)


@pytest.mark.parametrize("pack", [False, True])
def test_the_diagonal_of_c3_is_hh_hv_vv(tmp_path, pack):
    """C22 of the covariance of (HH, sqrt(2) HV, VV) is twice the intensity of HV."""
    hh, hv, vv = power(-9), power(-17), power(-10)
    cross = {f"C{i}_{p}": hv for i in ("12", "13", "23") for p in ("real", "imag")}
    folder = matrix(tmp_path / "x" / "C3", C11=hh, C22=2 * hv, C33=vv, **cross)
    (folder / "config.txt").write_text("PolarType\nfull\n")
    assert is_one_scene(folder)
    location = folder
    if pack:
        location = tmp_path / "x.zip"
        with zipfile.ZipFile(location, "w") as out:
            for file in folder.iterdir():
                out.write(file, f"C3/{file.name}")
    reading, values, _ = plan(location, model("HH", "HV", "VV"))
    assert reading.source.names == ("HH", "HV", "VV")
    assert reading.units.units == "power"
    np.testing.assert_allclose(values, np.stack([hh, hv, vv]), rtol=1e-6)
    refused(folder / "C12_real.bin", model("HH"), "not on the diagonal")


@pytest.mark.parametrize("pack", [False, True])
def test_a_raster_beside_the_folder_of_a_matrix_is_the_scene(tmp_path, pack):
    matrix(tmp_path / "x" / "C3", C11=power(-9), C22=power(-16), C33=power(-10))
    write(tmp_path / "x" / "scene_VV.tif", power(-11).astype(np.float32))
    location = tmp_path / "x"
    if pack:
        location = tmp_path / "x.zip"
        with zipfile.ZipFile(location, "w") as out:
            for file in (tmp_path / "x").rglob("*.*"):
                out.write(file, file.relative_to(tmp_path / "x"))
    with open_source(location) as source:
        assert source.names == ("VV",)


def test_t3_has_hv_and_no_other_polarisation(tmp_path):
    hv = power(-17)
    folder = matrix(tmp_path / "T3", T11=power(-8), T22=power(-12), T33=2 * hv, T12_real=hv)
    with open_source(folder) as source:
        assert source.names == (None, None, "HV")
    _, values, _ = plan(folder, model("HV"))
    np.testing.assert_allclose(values[0], hv, rtol=1e-6)
    refused(folder, model("HH", "VV"), "the model needs", "-b")


def test_elements_as_bands_of_one_file(tmp_path):
    hh, hv, vv = power(-9), power(-17), power(-10)
    path = write(tmp_path / "snap.tif", np.stack([hh, hv, 2 * hv, vv]).astype(np.float32),
                 ("C11", "C12_real", "C22", "C33"))  # fmt: skip
    _, values, _ = plan(path, model("HH", "HV", "VV"))
    np.testing.assert_allclose(values, np.stack([hh, hv, vv]), rtol=1e-6)


def test_a_real_c2(tmp_path, shared_data):
    """Its elements with the header that the sample has for one of them."""
    real = shared_data / "formats" / "polsarpro" / "C2_VVVH"
    folder = tmp_path / "C2_VVVH"
    folder.mkdir()
    for file in real.glob("*.bin"):
        shutil.copy(file, folder)
        header = (real / "C11.bin.hdr").read_text().replace("C11.bin", file.name)
        (folder / f"{file.name}.hdr").write_text(header)
    reading, values, _ = plan_small(folder, model("VV", "VH"))
    assert reading.source.names == ("VV", "VH")
    stored = np.stack([np.fromfile(real / f"C{i}.bin", "<f4") for i in ("11", "22")])
    stored = stored.reshape(values.shape)
    np.testing.assert_array_equal(values[np.isfinite(stored)], stored[np.isfinite(stored)])
    # As it is delivered, a header is missing: the message says so.
    with pytest.raises(SceneError, match=r"C22\.bin.*header"), open_source(real):
        pass


# RADARSAT-2

RS2 = """<?xml version="1.0" encoding="UTF-8"?>
<product xmlns="http://www.rsi.ca/rs2/prod/xml/schemas" copyright="MDA" >
<sourceAttributes><satellite>RADARSAT-2</satellite></sourceAttributes>
<imageGenerationParameters><generalProcessingInformation><productType>{kind}</productType>
</generalProcessingInformation></imageGenerationParameters>
<imageAttributes><rasterAttributes><dataType>{type}</dataType>
<bitsPerSample dataStream="Magnitude">16</bitsPerSample>
<numberOfSamplesPerLine>{width}</numberOfSamplesPerLine><numberOfLines>{height}</numberOfLines>
<sampledPixelSpacing units="m">12.5</sampledPixelSpacing>
<sampledLineSpacing units="m">12.5</sampledLineSpacing></rasterAttributes>
<geographicInformation><geolocationGrid>{points}</geolocationGrid>
<referenceEllipsoidParameters><ellipsoidName>WGS84</ellipsoidName>
<semiMajorAxis>6378137</semiMajorAxis><semiMinorAxis>6356752.314</semiMinorAxis>
</referenceEllipsoidParameters></geographicInformation>
<lookupTable incidenceAngleCorrection="Sigma Nought">lutSigma.xml</lookupTable>
{images}</imageAttributes></product>
"""


def radarsat2(folder, names=("HH", "HV"), kind="SGF", is_complex=False, offset="125.5"):
    folder.mkdir(parents=True)
    height, width = SHAPE
    numbers = {}
    for name in names:
        if is_complex:
            numbers[name] = np.rint(RNG.normal(0, 900, (2, *SHAPE))).astype(np.int16)
        else:
            numbers[name] = amplitude(2000)
        write(folder / f"imagery_{name}.tif", numbers[name],
              transform=rasterio.Affine.identity(), crs=None)  # fmt: skip
    points = "".join(
        f"<imageTiePoint><imageCoordinate><line>{r}</line><pixel>{c}</pixel></imageCoordinate>"
        f"<geodeticCoordinate><latitude>{50 - r / 1e3}</latitude><longitude>{9 + c / 1e3}"
        "</longitude><height>0</height></geodeticCoordinate></imageTiePoint>"
        for r in (0, height)
        for c in (0, width)
    )
    images = "".join(
        f'<fullResolutionImageData pole="{n}">imagery_{n}.tif</fullResolutionImageData>'
        for n in names
    )
    kinds = {"kind": kind, "type": "Complex" if is_complex else "Magnitude Detected"}
    text = RS2.format(width=width, height=height, points=points, images=images, **kinds)
    (folder / "product.xml").write_text(text)
    gains = np.linspace(4e6, 9e6, width) if not is_complex else np.linspace(2e3, 3e3, width)
    for lut, factor in (("Sigma", 1.0), ("Beta", 0.7), ("Gamma", 1.1)):
        values = " ".join(f"{g * factor:.9e}" for g in gains)
        (folder / f"lut{lut}.xml").write_text(
            '<lut xmlns="http://www.rsi.ca/rs2/prod/xml/schemas">'
            f"<offset>{offset}</offset><gains>{values}</gains></lut>"
        )
    return numbers, gains


def gdal_sigma(folder):
    """Sigma nought as GDAL's driver computes it from the same tables."""
    with rasterio.open(f"RADARSAT_2_CALIB:SIGMA0:{folder}/product.xml") as file:
        return np.abs(file.read().astype(complex)) ** (2 if "complex" in file.dtypes[0] else 1)


@pytest.mark.parametrize("pack", [False, True])
def test_radarsat_2_detected(tmp_path, pack):
    folder = tmp_path / "RS2_OK1"
    numbers, gains = radarsat2(folder)
    location = folder
    if pack:
        location = tmp_path / "RS2_OK1.zip"
        with zipfile.ZipFile(location, "w") as out:
            for file in folder.iterdir():
                out.write(file, f"RS2_OK1/{file.name}")
    reading, values, valid = plan(location, model("HH", "HV"))
    assert valid.all()
    assert reading.source.names == ("HH", "HV")
    assert len(reading.source.grid.gcps) == 4
    for name, plane in zip(("HH", "HV"), values, strict=True):
        expected = (numbers[name].astype(np.float64) ** 2 + 125.5) / gains
        np.testing.assert_allclose(plane, expected, rtol=1e-5)
    np.testing.assert_allclose(values, gdal_sigma(folder), rtol=1e-5)
    assert "calibration tables of the RADARSAT-2 product" in reading.units.reason
    with open_source(location) as source:
        states = file_states(source)
    assert pack or {"product.xml", "lutSigma.xml"} <= set(states)


def test_radarsat_2_by_the_file_of_a_polarisation(tmp_path):
    numbers, gains = radarsat2(tmp_path / "RS2")
    _, values, _ = plan(tmp_path / "RS2" / "imagery_HV.tif", model("HV"))
    expected = (numbers["HV"].astype(np.float64) ** 2 + 125.5) / gains
    np.testing.assert_allclose(values[0], expected, rtol=1e-5)


def test_radarsat_2_complex(tmp_path):
    folder = tmp_path / "RS2"
    numbers, gains = radarsat2(folder, kind="SLC", is_complex=True, offset="0")
    for location in (folder, [str(folder / f"imagery_{n}.tif") for n in ("HH", "HV")]):
        reading, values, _ = plan(location, model("HH", "HV"))
        for name, plane in zip(("HH", "HV"), values, strict=True):
            i, q = numbers[name].astype(np.float64)
            np.testing.assert_allclose(plane, (i**2 + q**2) / gains**2, rtol=1e-5)
    np.testing.assert_allclose(values, gdal_sigma(folder), rtol=1e-5)
    assert "SLC" in " ".join(reading.warnings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no table", ("lacks lutSigma.xml", "get the whole product")),
        ("short", ("broken calibration table", "columns 0 to 29")),
        ("zero", ("broken calibration table", "positive")),
        ("text", ("broken calibration table", "not all numbers")),
        ("geocoded", ("geocoded",)),
    ],
)
def test_radarsat_2_that_cannot_be_calibrated(tmp_path, change, words):
    folder = tmp_path / "RS2"
    radarsat2(folder, kind="SSG" if change == "geocoded" else "SGF")
    table = folder / "lutSigma.xml"
    text = {
        "short": " ".join(["5e6"] * 30),
        "zero": " ".join(["5e6"] * 59 + ["0"]),
        "text": "five",
    }
    if change == "no table":
        table.unlink()
    elif change in text:
        table.write_text(f"<lut><offset>0</offset><gains>{text[change]}</gains></lut>")
    refused(folder / "imagery_HH.tif", model("HH"), *words, "--units amplitude")


# RCM


def rcm(folder, names=("HH", "HV"), kind="GRD", step=1, first=0, is_complex=False):
    stem = "RCM1_OK1_PK1_1_SC30MCPB_20200301_{}"
    (folder / "imagery").mkdir(parents=True)
    (folder / "metadata" / "calibration").mkdir(parents=True)
    (folder / "metadata" / "product.xml").write_text(
        '<product xmlns="rcmGsProductSchema"><imageGenerationParameters>'
        f"<generalProcessingInformation><productType>{kind}</productType>"
        "</generalProcessingInformation></imageGenerationParameters></product>"
    )
    height, width = SHAPE
    numbers, gains = {}, {}
    for i, name in enumerate(names):
        count = math.ceil(width / abs(step)) + 1
        columns = first + step * np.arange(count)
        values = np.linspace(4e6, 9e6, count) * (1 + i)
        order = np.argsort(columns)
        gains[name] = np.interp(np.arange(width), columns[order], values[order])
        numbers[name] = (
            np.rint(RNG.normal(0, 900, (2, *SHAPE))).astype(np.int16)
            if is_complex
            else amplitude(2000)
        )
        profile = {"transform": rasterio.Affine.identity(), "crs": None}
        path = write(folder / "imagery" / f"{stem.format(name)}.tif", numbers[name], **profile)
        with rasterio.open(path, "r+") as file:
            file.gcps = [GroundControlPoint(r, c, 9 + c / 1e3, 70 - r / 1e3)
                         for r in (0, height) for c in (0, width)], "EPSG:4326"  # fmt: skip
        text = " ".join(f"{v:.9e}" for v in values)
        (folder / "metadata" / "calibration" / f"lutSigma_{name}.xml").write_text(
            f'<lut xmlns="rcmGsProductSchema"><pixelFirstLutValue>{first}</pixelFirstLutValue>'
            f"<stepSize>{step}</stepSize><numberOfValues>{count}</numberOfValues>"
            f"<offset>0</offset><gains>{text}</gains></lut>"
        )
    return numbers, gains


@pytest.mark.parametrize(("step", "first"), [(1, 0), (-1, 59), (7, 0), (-7, 62)])
def test_rcm_detected(tmp_path, step, first):
    folder = tmp_path / "RCM1_OK1"
    numbers, gains = rcm(folder, step=step, first=first)
    assert is_one_scene(folder)
    for location in (folder, tmp_path, folder / "imagery"):
        if location == folder / "imagery":
            location = [str(f) for f in sorted(location.iterdir())]
        reading, values, _ = plan(location, model("HH", "HV"))
        assert len(reading.source.grid.gcps) == 4
        for name, plane in zip(("HH", "HV"), values, strict=True):
            expected = numbers[name].astype(np.float64) ** 2 / gains[name]
            np.testing.assert_allclose(plane, expected, rtol=1e-5)
    assert "RCM" in reading.units.reason


def test_rcm_complex(tmp_path):
    numbers, gains = rcm(tmp_path / "RCM", kind="SLC", is_complex=True)
    _, values, _ = plan(tmp_path / "RCM", model("HH", "HV"))
    i, q = numbers["HH"].astype(np.float64)
    np.testing.assert_allclose(values[0], (i**2 + q**2) / gains["HH"] ** 2, rtol=1e-5)


def test_rcm_without_its_table_or_geocoded_is_refused(tmp_path):
    rcm(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "metadata" / "calibration")
    refused(tmp_path / "a", model("HH"), "lacks lutSigma_HH.xml", "get the whole product")
    rcm(tmp_path / "b", kind="GCD")
    refused(tmp_path / "b", model("HH"), "geocoded")
