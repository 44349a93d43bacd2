"""What stands for a scene: SNAP's products, folders, archives, containers; and what does not."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from products import Tables, write_product, zipped
from scene_rasters import UTM, write
from scipy.io import netcdf_file

from cwsam_geo.errors import SceneError
from cwsam_geo.scene.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

VV, VH, OTHER = (np.full((4, 5), v, np.float32) for v in (0.5, 0.25, 30.0))


def read(*locations):
    """Names and values of a scene's bands."""
    with open_source([str(p) for p in locations]) as source:
        values, _ = source.read(source.grid.window)
        return dict(zip(source.names, values[:, 0, 0].tolist(), strict=True))


BOTH = {"VV": 0.5, "VH": 0.25}


def refused(location, *words):
    with pytest.raises(SceneError) as caught:
        read(location)
    text = str(caught.value)
    assert "\n" not in text
    assert str(location) in text
    for word in words:
        assert word in text
    return text


def snap(folder, name="P", **bands):
    """A product of SNAP: ``.dim`` and ``.data`` with a file for each band."""
    data = folder / f"{name}.data"
    data.mkdir(parents=True)
    infos = ""
    for i, (band, values) in enumerate(bands.items()):
        write(data / f"{band}.img", values, ("Band 1",), driver="ENVI")
        infos += f"<BAND_INDEX>{i}</BAND_INDEX><BAND_NAME>{band}</BAND_NAME>"
    (data / "tie_point_grids").mkdir()
    write(data / "tie_point_grids" / "latitude.img", OTHER, driver="ENVI")
    dim = folder / f"{name}.dim"
    dim.write_text(
        f"<Dimap_Document><Spectral_Band_Info>{infos}</Spectral_Band_Info></Dimap_Document>"
    )
    return dim


def test_a_product_of_snap_is_its_bands(tmp_path):
    dim = snap(
        tmp_path, Sigma0_VV_db=VV, Sigma0_VH_db=VH, localIncidenceAngle=OTHER, elevation=OTHER
    )
    assert read(dim) == BOTH
    assert read(dim.with_suffix(".data")) == BOTH
    assert read(tmp_path) == BOTH  # the folder that holds it
    one = snap(tmp_path / "one", Gamma0_VV=VV, elevation=OTHER)
    assert read(one) == {"VV": 0.5}
    assert read(snap(tmp_path / "single", intensity=VV)) == {None: 0.5}


def test_a_product_of_snap_with_two_readings_names_its_files(tmp_path):
    dim = snap(tmp_path, Sigma0_VV=VV, Sigma0_VH=VH, Gamma0_VV=VV, Gamma0_VH=VH)
    text = refused(dim, "4 bands", str(tmp_path / "P.data" / "Gamma0_VH.img"))
    files = text.split(": ")[-1].split(", ")
    assert read(*files[2:]) == BOTH


def test_a_product_of_snap_that_is_not_whole(tmp_path):
    dim = snap(tmp_path, Sigma0_VV_db=VV)
    shutil.rmtree(dim.with_suffix(".data"))
    refused(dim, "P.data is not beside it", "copy")
    complex_parts = snap(tmp_path / "slc", i_VV=VV, q_VV=VV)
    refused(complex_parts, "real and imaginary", "i_VV.img", "SNAP")


@pytest.mark.parametrize("name", ["a.hdr", "a.img.hdr"])
def test_an_envi_header_stands_for_its_data(tmp_path, name):
    write(tmp_path / "a.img", VV, ("VV",), driver="ENVI")
    header = tmp_path / "a.hdr"
    if name != "a.hdr":
        header = header.rename(tmp_path / name)
    assert read(header) == {"VV": 0.5}
    (tmp_path / "a.img").unlink()
    refused(header, "ENVI header", "not beside it")


def test_data_of_envi_without_its_header(tmp_path):
    write(tmp_path / "C11.bin", VV, driver="ENVI")
    (tmp_path / "C11.hdr").unlink()
    refused(tmp_path / "C11.bin", "C11.hdr", "header")


# Folders and archives


def rtc(folder, stem="S1_20200101", suffix="tif", **bands):
    """A folder as ASF and others deliver it."""
    folder.mkdir(exist_ok=True)
    for band, values in bands.items():
        write(folder / f"{stem}_{band}.{suffix}", values)
    return folder


def in_zip(folder):
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, file.relative_to(folder.parent))
    return archive


@pytest.mark.parametrize("pack", [lambda folder: folder, in_zip])
def test_vv_and_vh_beside_elevation_and_angle(tmp_path, pack):
    folder = rtc(tmp_path / "rtc", VV=VV, VH=VH, dem=OTHER, inc_map=OTHER, VV_mask=OTHER)
    (folder / "README.md").write_text("of ASF")
    (folder / "S1_20200101_VV.png").write_bytes(b"a preview")
    assert read(pack(folder)) == BOTH


@pytest.mark.parametrize("pack", [lambda folder: folder, in_zip])
def test_two_readings_of_a_folder_are_refused_with_names(tmp_path, pack):
    folder = rtc(tmp_path / "rtc", VV=VV, VH=VH)
    rtc(folder, "S1_20200113", VV=VV)
    refused(pack(folder), "3 rasters", "S1_20200101_VH.tif", "give the ones to map")
    (folder / "S1_20200101_VV.tif").unlink()  # one of each polarisation, but of two dates
    refused(pack(folder), "2 rasters")
    unnamed = rtc(tmp_path / "unnamed", a=VV, b=VH)
    refused(pack(unnamed), "2 rasters")


def test_one_raster_of_a_folder(tmp_path):
    folder = rtc(tmp_path / "one", scene=VV)
    assert read(folder) == {None: 0.5}
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is a folder without rasters")


def test_a_product_of_snap_in_a_zip(tmp_path):
    snap(tmp_path / "P", Sigma0_VV_db=VV, Sigma0_VH_db=VH)
    shutil.rmtree(tmp_path / "P" / "P.data" / "tie_point_grids")
    assert read(in_zip(tmp_path / "P")) == BOTH


# Sentinel-1


@pytest.fixture
def product(tmp_path):
    numbers = np.full((150, 230), 150, np.uint16)
    return write_product(tmp_path / "made", {"VV": numbers}, {"VV": Tables()})


def test_a_folder_with_one_product(product):
    assert list(read(product.parent)) == ["VV"]


@pytest.mark.parametrize("cut", ["measurement", "manifest.safe measurement", "files"])
def test_a_product_without_measurements(product, cut):
    for name in cut.split():
        if name == "files":
            next((product / "measurement").iterdir()).unlink()
        elif (product / name).is_dir():
            shutil.rmtree(product / name)
        else:
            (product / name).unlink()
    words = "no measurement files", "get the whole product"
    refused(product, *words)
    if "manifest" not in cut:
        with pytest.raises(SceneError, match=r"no measurement files.*get the whole"):
            read(product / "manifest.safe")
    refused(zipped(product), *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("S1A_WV_OCN__2SSV_20200101.SAFE", "ocean"),
        ("S1A_IW_RAW__0SDV_20200101.SAFE", "Level-0"),
        ("S2A_MSIL1C_20200101.SAFE", "no product of Sentinel-1"),
    ],
)
def test_products_that_are_no_image(tmp_path, name, words):
    (tmp_path / name).mkdir()
    refused(tmp_path / name, words)


# Containers


def netcdf(path, **variables):
    with netcdf_file(path, "w") as out:
        for name, size in (("y", 4), ("x", 5)):
            out.createDimension(name, size)
            axis = out.createVariable(name, "f8", (name,))
            axis[:] = np.arange(size) * (10 if name == "x" else -10) + 5
        for name, values in variables.items():
            out.createVariable(name, "f4", ("y", "x"))[:] = values
    return path


def test_sub_datasets_that_name_one_polarisation_each(tmp_path):
    path = netcdf(tmp_path / "s1.nc", VV=VV, VH=VH, angle=OTHER)
    assert read(path) == BOTH
    assert read(netcdf(tmp_path / "b.nc", sigma0_vh=VH, lia=OTHER, sigma0_vv=VV)) == BOTH
    assert read(f'NETCDF:"{path}":VH') == {"VH": 0.25}


def test_sub_datasets_with_two_readings_are_named(tmp_path):
    path = netcdf(tmp_path / "s1.nc", sigma0_VV=VV, gamma0_VV=VV, elevation=OTHER)
    text = refused(path, "sub-datasets", f"{path}:sigma0_VV", f"{path}:gamma0_VV")
    assert "elevation" not in text
    refused(netcdf(tmp_path / "t.nc", a=VV, b=VH), "sub-datasets")


def zarr(folder, **arrays):
    """A Zarr store of version 2 with coordinates, as xarray writes it."""
    folder.mkdir()
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    axes = {"y": 5_600_000 - 10.0 * np.arange(4) - 5, "x": 500_000 + 10.0 * np.arange(5) + 5}
    for name, values in {**arrays, **axes}.items():
        (folder / name).mkdir()
        meta = {
            "zarr_format": 2, "shape": values.shape, "chunks": values.shape, "order": "C",
            "dtype": values.dtype.str, "compressor": None, "filters": None, "fill_value": None,
        }  # fmt: skip
        dims = [name] if name in axes else ["y", "x"]
        (folder / name / ".zarray").write_text(json.dumps(meta))
        (folder / name / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": dims}))
        (folder / name / ".".join("0" * values.ndim)).write_bytes(values.tobytes())
    return folder


def test_zarr(tmp_path):
    path = zarr(tmp_path / "s1.zarr", VV=VV, VH=VH, angle=OTHER)
    assert read(path) == BOTH
    with open_source(path) as source:
        assert source.grid.transform == UTM
    assert read(zarr(tmp_path / "one.zarr", VH=VH)) == {"VH": 0.25}
    refused(zarr(tmp_path / "two.zarr", a=VV, b=VH), "sub-datasets")


# Tiles


def test_tiles_of_one_scene_are_no_bands(tmp_path):
    paths = [
        write(
            tmp_path / f"s_{i}.tif", np.stack([VV, VH]), transform=UTM * UTM.translation(5 * i, 0)
        )
        for i in range(3)
    ]
    for files in (paths, paths[:2]):
        with pytest.raises(SceneError, match=r"beside each other: tiles.*rio merge .*s_0\.tif"):
            read(*files)
    single = [
        write(tmp_path / f"{p.stem}_vv.tif", VV, transform=UTM * UTM.translation(0, 4 * i))
        for i, p in enumerate(paths)
    ]
    with pytest.raises(SceneError, match="tiles of one scene"):
        read(*single)


def test_a_zip_without_rasters(tmp_path):
    with zipfile.ZipFile(tmp_path / "roads.zip", "w") as out:
        out.writestr("roads.txt", "no rasters")
    refused(tmp_path / "roads.zip", "is a zip archive without rasters; give the raster file")
