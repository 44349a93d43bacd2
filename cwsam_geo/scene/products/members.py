"""The rasters among the files of a product that is delivered as a folder or archive."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cwsam_geo.scene.products.polsarpro import diagonal

_IMAGE = re.compile(r".*_(?:HH|HV|VH|VV)\.tiff?", re.IGNORECASE)

_MATRIX = (".bin", ".img", ".tif", ".tiff")


@dataclass(frozen=True)
class Members:
    """The rasters of a product.

    Attributes:
        root: The product's folder, relative to the folder or archive; empty if it is that itself.
        rasters: Relative paths of the rasters, or of the XML file that GDAL opens instead.
    """

    root: str
    rasters: tuple[str, ...]


def members(names: Sequence[str]) -> Members | None:
    """The rasters of the only RADARSAT-2, RCM or PolSARpro product among files.

    Args:
        names: Paths of the files, relative to a folder or archive, with ``/``.

    Returns:
        Its rasters; None if the files hold no such product, or several.
    """
    by_folder: dict[str, list[str]] = {}
    for name in sorted(names):
        parent = PurePosixPath(name).parent.as_posix()
        by_folder.setdefault("" if parent == "." else parent, []).append(name)
    found = [m for folder in by_folder for m in _in_folder(folder, by_folder)]
    return found[0] if len(found) == 1 else None


def _in_folder(folder: str, by_folder: dict[str, list[str]]) -> list[Members]:
    names = by_folder[folder]
    document = f"{folder}/product.xml".lstrip("/")
    images = [n for n in names if _IMAGE.fullmatch(PurePosixPath(n).name)]
    # RADARSAT-2: GDAL's driver opens product.xml, joins the parts of complex numbers, and has the
    # control points.
    if document in names:
        radarsat2 = any(PurePosixPath(n).name.lower().startswith("imagery_") for n in images)
        return [Members(folder, (document,))] if radarsat2 else []
    # RCM: metadata/product.xml and imagery/*_HH.tif
    top, _, last = folder.rpartition("/")
    beside = by_folder.get(f"{top}/metadata".lstrip("/"), [])
    if last == "imagery" and images and f"{top}/metadata/product.xml".lstrip("/") in beside:
        return [Members(top, tuple(images))]
    matrix = diagonal([n for n in names if n.lower().endswith(_MATRIX)])
    return [Members(folder, tuple(matrix))] if matrix else []
