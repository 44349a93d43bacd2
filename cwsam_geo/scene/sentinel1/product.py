"""The files of a Sentinel-1 product: measurements, annotation, calibration and noise tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.scene.sentinel1.xml import is_there


def is_product(path: Path, names: Iterable[str]) -> bool:
    """Whether a folder that holds ``names`` is a product of Sentinel, perhaps an incomplete one."""
    return path.suffix.upper() == ".SAFE" or not {"manifest.safe", "measurement"}.isdisjoint(names)


def product_rasters(where: Path, files: Sequence[str]) -> list[str]:
    """The measurement files of a Sentinel-1 product.

    Args:
        where: The product's folder or archive.
        files: What its folder ``measurement`` holds; empty if the folder is missing.

    Raises:
        SceneError: The product does not hold exactly one scene.
    """
    rasters = sorted(f for f in files if f.lower().endswith((".tif", ".tiff")) and not is_hidden(f))
    if not rasters:
        raise SceneError(f"{where}: {_why_empty(where, files)}")
    # Names are MISSION-SWATH-TYPE-POLARISATION-..., such as s1a-iw-grd-vv-20200101t...
    swaths = {Path(f).name.split("-")[1].lower() for f in rasters if Path(f).name.count("-") > 3}
    if len(swaths) > 1:
        raise SceneError(
            f"{where}: holds {len(swaths)} swaths ({', '.join(sorted(swaths))}) on different "
            "grids; give the measurement files of one swath"
        )
    return rasters


def _why_empty(where: Path, files: Sequence[str]) -> str:
    if where.name.upper().startswith(("S2", "S3", "S5")):
        return "is no product of Sentinel-1; give a SAR scene"
    if any(f.lower().endswith(".nc") for f in files) or "_OCN_" in where.name:
        return "is a Level-2 ocean product (OCN), which holds no SAR image; give a GRD product"
    if "_RAW_" in where.name:
        return "is a Level-0 product (RAW), which holds no SAR image; give a GRD product"
    return (
        "this Sentinel-1 product holds no measurement files (measurement/*.tiff): it was "
        "downloaded or unpacked only in part; get the whole product"
    )


def is_hidden(name: str) -> bool:
    """Whether a file or member of an archive is hidden.

    macOS puts a file ``._NAME`` beside every ``NAME`` in archives and on disks of other systems.
    """
    return PurePosixPath(name).name.startswith(".")


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


def manifest_file(measurement: str) -> str | None:
    """Path of the manifest of a measurement file's product; None if it does not exist locally."""
    product, stems = _product(measurement)
    path = f"{product}/manifest.safe"
    return path if stems and is_there(path) else None


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
