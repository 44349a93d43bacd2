"""Names and paths of a product's files, on disk or in a zip archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.scene.sentinel1.xml import in_archive, member_name

_MOST_TEXT = 1 << 20
"""Bytes of a text that are read."""


def name_of(path: str) -> str:
    """The name of a file without folders, query string and suffix."""
    return PurePosixPath(path.split("?", 1)[0].replace("\\", "/")).stem


def folder_of(path: str) -> str | None:
    """The folder of a local raster, in which metadata may lie beside it; None for all others.

    Rasters on a server have none, because every search is a request.
    """
    if is_remote(path) or (path.startswith("/vsi") and not path.startswith("/vsizip/")):
        return None
    if not path.startswith("/vsizip/"):
        path = Path(path.removeprefix("file://")).absolute().as_posix()
    return path.rpartition("/")[0]


def files_in(folder: str) -> list[str]:
    """Paths of the files in a local folder, or in a folder of a zip archive (``/vsizip/``)."""
    archive = in_archive(folder)
    try:
        if archive is None:
            return sorted(p.as_posix() for p in Path(folder).iterdir() if p.is_file())
        with zipfile.ZipFile(archive[0]) as opened:
            names = [PurePosixPath(member_name(n)) for n in opened.namelist()]
    except (zipfile.BadZipFile, OSError):
        return []
    inner = PurePosixPath(archive[1])
    return sorted(f"{folder}/{name.name}" for name in names if name.parent == inner)


def text_of(path: str) -> str:
    """The text of a small file on disk or in a zip archive; empty if it cannot be read."""
    archive = in_archive(path)
    try:
        if archive is None:
            with open(path, "rb") as file:
                return file.read(_MOST_TEXT).decode("utf-8", "replace")
        with zipfile.ZipFile(archive[0]) as opened, opened.open(archive[1]) as member:
            return member.read(_MOST_TEXT).decode("utf-8", "replace")
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return ""


def beside(path: str, suffix: str) -> list[str]:
    """Files of the folder of a local raster, or of its zip archive, whose names have a suffix."""
    folder = folder_of(path)
    return [] if folder is None else [f for f in files_in(folder) if f.lower().endswith(suffix)]
