"""What programs write into files to name bands, and how they glue the names."""

import struct

import numpy as np
import pytest
import rasterio
from scene_rasters import write

from cwsam_geo.io.tiff_tags import tiff_tag
from cwsam_geo.scene.band_names import polarisations
from cwsam_geo.scene.source import open_source

PLANES = np.ones((2, 3, 3), np.float32)


def names(*paths):
    with open_source([str(p) for p in paths]) as source:
        return source.names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VV", "VV"),
        ("Sigma0_VV_db", "VV"),
        ("VVmean", "VV"),
        ("vh_mean", "VH"),
        ("vhmean", "VH"),
        ("sigmaVV", "VV"),
        ("sigma0vv", "VV"),
        ("SIGMA0VH", "VH"),
        ("gamma0-RTC-hv", "HV"),
        ("VHdB", "VH"),
        ("vvdb", "VV"),
        ("IntensityVV", "VV"),
        ("Amplitude_VH_S1A", "VH"),
        ("VVVV", "VV"),
        ("HVHV", "HV"),
        ("speckleVVcleaned", "VV"),
        ("S1VH", "VH"),
        ("VVVH", None),
        ("VV/VH", None),
        ("ratioVVVH", None),
        ("VV_minus_VH", None),
        ("coherence VV", None),
        ("savvy", None),
        ("VV_stdDev", None),
        ("highhills", None),
        ("VHR", None),
        ("angle", None),
        ("", None),
    ],
)
def test_names_in_descriptions(tmp_path, text, expected):
    path = write(tmp_path / "scene.tif", PLANES[:1], (text,))
    assert names(path) == (expected,)


@pytest.mark.parametrize(
    "tag",
    ["DESCRIPTION", "description", "band_name", "BandName", "long_name", "NETCDF_VARNAME", "name",
     "Layer name", "POLARIZATION"],
)  # fmt: skip
def test_names_in_tags_of_bands(tmp_path, tag):
    path = write(tmp_path / "scene.tif", PLANES)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, **{tag: "Sigma0_VH"})
        file.update_tags(2, **{tag: "Sigma0_VV"})
    assert names(path) == ("VH", "VV")


def test_a_description_counts_before_tags(tmp_path):
    path = write(tmp_path / "scene.tif", PLANES, ("VV", "VH"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, DESCRIPTION="VH")
    assert names(path) == ("VV", "VH")


def test_tags_that_contradict_each_other_name_nothing(tmp_path):
    path = write(tmp_path / "scene.tif", PLANES)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, DESCRIPTION="VH", long_name="VV")
    assert names(path) == (None, None)


@pytest.mark.parametrize(
    "tags",
    [
        {"BAND_1": "VH", "BAND_2": "VV"},
        {"Band 1": "VH", "Band 2": "VV"},
        {"band_0": "VH", "band_1": "VV"},
        {"BAND_01_NAME": "VHdB", "BAND_02_NAME": "VVdB"},
        {"B1": "vh", "B2": "vv"},
        {"band_names": "VH,VV"},
        {"bands": "['VH', 'VV']"},
        {"long_name": "('sigma0_vh', 'sigma0_vv')"},
        {"BAND_ORDER": "VH VV"},
        {"TIFFTAG_IMAGEDESCRIPTION": "VH;VV"},
        {"polarisation": "VH/VV"},
    ],
)
def test_names_in_tags_of_the_dataset(tmp_path, tags):
    assert names(write(tmp_path / "scene.tif", PLANES, tags=tags)) == ("VH", "VV")


def test_lists_that_name_other_bands_too(tmp_path):
    planes = np.ones((3, 3, 3), np.float32)
    path = write(tmp_path / "scene.tif", planes, tags={"band_names": "angle, VH, VV"})
    assert names(path) == (None, "VH", "VV")


@pytest.mark.parametrize(
    "tags",
    [
        {"DESCRIPTION": "VV and VH of an ascending orbit"},
        {"TIFFTAG_IMAGEDESCRIPTION": "Sentinel-1 VV VH"},
        {"HISTORY": "VV,VH"},
        {"BAND_1_UNIT": "VV"},
    ],
)
def test_sentences_and_other_tags_give_no_order(tmp_path, tags):
    assert names(write(tmp_path / "scene.tif", PLANES, tags=tags)) == (None, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("VVmean.tif", "VV"), ("sigma0vh.tif", "VH"), ("s1_HVHV.tif", "HV"), ("scene.tif", None)],
)
def test_names_of_files(tmp_path, name, expected):
    assert names(write(tmp_path / name, PLANES[:1])) == (expected,)


# PolSARpro


def matrix(folder, *elements, **profile):
    folder.mkdir(exist_ok=True)
    return [
        write(folder / f"{element}.bin", PLANES[:1], (f"{element}.bin",), driver="ENVI", **profile)
        for element in elements
    ]


def config(folder, kind):
    rule = "---------\n"
    (folder / "config.txt").write_text(
        f"Nrow\n3\n{rule}Ncol\n3\n{rule}PolarCase\nmonostatic\n{rule}PolarType\n{kind}\n"
    )


@pytest.mark.parametrize(
    ("kind", "expected"), [("pp1", ("HH", "HV")), ("pp2", ("VV", "VH")), ("pp3", ("HH", "VV"))]
)
def test_c2_with_its_config(tmp_path, kind, expected):
    files = matrix(tmp_path / "C2", "C11", "C22", "C12_real", "C12_imag")
    config(tmp_path / "C2", kind)
    assert names(*files) == expected
    assert names(files[1], files[0]) == expected[::-1]


def test_c2_without_a_config(tmp_path):
    assert names(*matrix(tmp_path / "C2_VHVV", "C11", "C22")) == ("VH", "VV")
    assert names(*matrix(tmp_path / "C2", "C11", "C22")) == (None, None)


def test_c3_c4_and_s2(tmp_path):
    c3 = matrix(tmp_path / "C3", "C11", "C12_real", "C12_imag", "C22", "C33")
    assert names(*c3) == ("HH", "HV", "VV")
    assert names(c3[4]) == ("VV",)
    assert names(*matrix(tmp_path / "C4", "C11", "C22", "C33", "C44")) == ("HH", "HV", "VH", "VV")
    s2 = matrix(tmp_path / "S2", "s11", "s12", "s21", "s22")
    assert names(*s2) == ("HH", "HV", "VH", "VV")
    assert names(*matrix(tmp_path / "T3", "T11", "T22", "T33")) == (None, None, "HV")


def test_elements_as_bands_of_one_file(tmp_path):
    texts = ("C11", "C12_real", "C12_imag", "C22", "C33")
    path = write(tmp_path / "a.tif", np.ones((5, 3, 3), np.float32), texts)
    assert names(path) == ("HH", "HV", "VV")


def test_a_real_c2_of_polsarpro(shared_data):
    folder = shared_data / "formats" / "polsarpro" / "C2_VVVH"
    assert names(folder / "C11.bin") == ("VV",)


# SNAP


def with_tag(path, tag, text):
    """Adds a text tag to a TIFF of less than 4 GB, as SNAP adds its metadata."""
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = data[start + 2 : start + 2 + 12 * count]
    following = data[start + 2 + 12 * count :][:4]
    value = text.encode() + b"\0"
    entry = struct.pack("<HHII", tag, 2, len(value), len(data))
    data += value
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", count + 1) + entries + entry + following
    path.write_bytes(data)
    return path


def dimap(*bands):
    infos = "".join(
        f"<Spectral_Band_Info><BAND_INDEX>{i}</BAND_INDEX><BAND_DESCRIPTION>of VV &amp; VH"
        f"</BAND_DESCRIPTION><BAND_NAME>{name}</BAND_NAME></Spectral_Band_Info>"
        for i, name in reversed(list(enumerate(bands)))
    )
    return f"<Dimap_Document><Image_Interpretation>{infos}</Image_Interpretation></Dimap_Document>"


def test_names_in_a_geotiff_of_snap(tmp_path):
    path = with_tag(write(tmp_path / "a.tif", PLANES), 65000, dimap("Sigma0_VH", "Sigma0_VV"))
    with rasterio.open(path) as file:
        assert (file.read() == 1).all()
    assert names(path) == ("VH", "VV")
    assert tiff_tag(path, 65000).startswith(b"<Dimap_Document>")
    other = with_tag(write(tmp_path / "b.tif", PLANES), 65000, "nothing of SNAP")
    assert names(other) == (None, None)
    three = write(tmp_path / "c.tif", np.ones((3, 3, 3), np.float32))
    assert names(with_tag(three, 65000, dimap("VH", "elevation", "VV"))) == ("VH", None, "VV")


def test_the_case_of_openeo(tmp_path):
    path = write(tmp_path / "oe.tif", PLANES)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, DESCRIPTION="VH")
        file.update_tags(2, DESCRIPTION="VV")
    assert names(path) == ("VH", "VV")


def test_several_names_of_a_text_in_order():
    assert polarisations("s1_vv+vh_20200101") == ["VV", "VH"]
    assert polarisations("C2_VVVH") == ["VV", "VH"]
    assert polarisations("VV and vv") == ["VV"]
