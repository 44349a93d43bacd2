"""The files of a Sentinel-1 product: measurements, annotation, calibration and noise tables."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import (
    Location,
    is_remote,
)
from cwsam_geo.scene.sentinel1.xml import is_there, member_name

_RASTERS = (".tif", ".tiff", ".img", ".vrt", ".nc", ".h5", ".jp2", ".png")


def measurements(location: Location) -> list[str]:
    """The raster files of a location.

    For a Sentinel-1 product (its ``.SAFE`` folder, ``manifest.safe`` or ``.zip``) these are its
    measurement files; for any other ``.zip``, the one raster inside; and else the location
    itself.

    Raises:
        SceneError: The product or archive does not hold exactly one scene.
    """
    text = os.fspath(location)
    if is_remote(text) or text.startswith("/vsi"):
        return [text]
    path = Path(text)
    if path.name == "manifest.safe" and path.is_file():
        path = path.parent
    if path.is_dir() and (path / "measurement").is_dir():
        return _one_scene(path, [str(p) for p in (path / "measurement").iterdir()])
    if path.suffix.lower() == ".zip" and path.is_file():
        return _in_zip(path)
    return [text]


def _one_scene(where: Path, files: Sequence[str]) -> list[str]:
    rasters = sorted(f for f in files if f.lower().endswith((".tif", ".tiff")) and not _hidden(f))
    if not rasters:
        raise SceneError(f"{where}: this Sentinel-1 product holds no measurement files")
    # Names are MISSION-SWATH-TYPE-POLARISATION-..., such as s1a-iw-grd-vv-20200101t...
    swaths = {Path(f).name.split("-")[1].lower() for f in rasters if Path(f).name.count("-") > 3}
    if len(swaths) > 1:
        raise SceneError(
            f"{where}: holds {len(swaths)} swaths ({', '.join(sorted(swaths))}) on different "
            "grids; give the measurement files of one swath"
        )
    return rasters


def _hidden(name: str) -> bool:
    # macOS puts a file "._NAME" beside every NAME in archives and on disks of other systems.
    return Path(name).name.startswith(".")


def _in_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member_name(n) for n in archive.namelist() if not n.endswith("/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise SceneError(f"{path}: cannot be read as a zip archive ({error})") from None
    names = [n for n in names if not _hidden(n)]
    measurement_files = [n for n in names if "/measurement/" in f"/{n}"]
    if measurement_files:
        return _one_scene(path, [f"/vsizip/{path}/{n}" for n in measurement_files])
    rasters = [n for n in names if n.lower().endswith(_RASTERS)]
    if len(rasters) != 1:
        raise SceneError(
            f"{path}: holds {len(rasters)} rasters; unpack it and give the ones to map"
        )
    return [f"/vsizip/{path}/{rasters[0]}"]


@dataclass(frozen=True)
class TableFiles:
    """Paths of the XML files that calibrate a measurement file.

    Attributes:
        calibration: ``annotation/calibration/calibration-*.xml``.
        noise: ``annotation/calibration/noise-*.xml``, or None if it does not exist.
        annotation: ``annotation/*.xml``, or None if it does not exist.
    """

    calibration: str
    noise: str | None
    annotation: str | None = None


def table_files(measurement: str) -> TableFiles | None:
    """Finds the tables of a measurement file in a product's folder or zip archive.

    Products on a server count as having no tables, because every search is a request.

    Args:
        measurement: ``PRODUCT/measurement/NAME.tiff``, also after ``/vsizip/``.

    Returns:
        The files, or None if the path is not in a local product or the product lacks the
        calibration table.
    """
    for calibration in _expected(measurement):
        if is_there(calibration):
            noise = "/noise-".join(calibration.rsplit("/calibration-", 1))
            return TableFiles(
                calibration, noise if is_there(noise) else None, annotation_file(measurement)
            )
    return None


def missing_table(measurement: str) -> str | None:
    """Path of the calibration table, if it should exist but does not.

    None if the table exists, and if the measurement file is not in a local product.
    """
    expected = _expected(measurement)
    return expected[0] if expected and table_files(measurement) is None else None


def annotation_file(measurement: str) -> str | None:
    """Path of the annotation of a measurement file; None if it does not exist locally."""
    product, stems = _product(measurement)
    candidates = (f"{product}/annotation/{stem}.xml" for stem in stems)
    return next((path for path in candidates if is_there(path)), None)


def _expected(measurement: str) -> list[str]:
    product, stems = _product(measurement)
    return [f"{product}/annotation/calibration/calibration-{stem}.xml" for stem in stems]


def _product(measurement: str) -> tuple[str, list[str]]:
    """The folder of a measurement file's product, and possible stems of its tables' names.

    The stems are empty if the file is not in a local product.
    """
    in_archive = measurement.startswith("/vsizip/")
    if is_remote(measurement) or (measurement.startswith("/vsi") and not in_archive):
        return "", []
    path = measurement
    if not in_archive:
        path = Path(path.removeprefix("file://")).absolute().as_posix()
    folder, _, name = path.rpartition("/")
    product, _, inner = folder.rpartition("/")
    if inner.lower() != "measurement":
        return "", []
    stem = PurePosixPath(name).stem
    # In COG products only the measurement files may have "-cog" in their names.
    return product, list(dict.fromkeys([stem, stem.removesuffix("-cog")]))
