"""Files in zip archives, as portals hand them out: zipped shapefiles, geodatabases and rasters."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cwsam_geo.errors import UsageError

SUFFIXES = (".zip", ".shz", ".kmz")
"""File name suffixes of archives that may hold vector files."""

_RASTERS = (
    (".tif", ".tiff"),
    (".img",),
    (".vrt",),
    (".nc", ".h5"),
    (".jp2",),
    (".png", ".jpg"),
)
"""Suffixes of rasters, formats of data before those of previews. In an archive that holds one,
vector files are footprints."""

_SHOWN = 6
"""Names of files in a message, at most."""


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Path inside the archive; a geodatabase is a folder.
    """

    archive: Path
    name: str

    @property
    def gdal_path(self) -> str:
        """The path by which GDAL opens the file."""
        return f"/vsizip/{{{self.archive.absolute()}}}/{self.name}"

    @property
    def stem(self) -> str:
        """Name of the file without its suffix: the layer of a shapefile."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Suffix of the file, in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    def read(self) -> bytes:
        """The file's content, not for folders."""
        with zipfile.ZipFile(self.archive) as archive:
            return archive.read(self.name)


def members(path: str | os.PathLike[str], suffixes: Collection[str]) -> list[Member]:
    """Vector files in an archive; none if the file is no archive by its name, or holds rasters.

    Args:
        path: A file of any kind.
        suffixes: Suffixes of vector files, in lower case.

    Raises:
        UsageError: The archive is damaged.
    """
    if Path(path).suffix.lower() not in SUFFIXES or not Path(path).is_file():
        return []
    names = _names(path)
    if any(name.lower().endswith(tuple(itertools.chain(*_RASTERS))) for name in names):
        return []
    files: dict[str, None] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        ends = [i for i, part in enumerate(parts, 1) if part.lower().endswith(tuple(suffixes))]
        if ends:
            files["/".join(parts[: ends[0]])] = None
    return [Member(Path(path), name) for name in files]


def only_member(
    path: str | os.PathLike[str], suffixes: Collection[str], layer: str | None
) -> Member:
    """The vector file of an archive that a layer's name selects, or else the only one.

    Raises:
        UsageError: The archive is damaged, holds no vector file, or several.
    """
    files = members(path, suffixes)
    if len(files) > 1 and layer is not None:
        # Every shapefile is a layer, named as the file.
        files = [m for m in files if m.stem == layer] or files
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(m.stem for m in files)
        raise UsageError(
            f"{path}: holds {len(files)} vector files; choose one with --layer: {names}"
        )
    raise UsageError(
        f"{path}: is not a zip archive with a shapefile or another vector file; unpack it and give "
        "the file"
    )


def raster_in(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The raster of a zip archive, by the path by which GDAL opens it; any other path as it is.

    Raises:
        UsageError: The archive is damaged, or holds several rasters.
    """
    if Path(path).suffix.lower() != ".zip" or not Path(path).is_file():
        return path
    names = _names(path)
    for suffixes in _RASTERS:
        found = [name for name in names if name.lower().endswith(suffixes)]
        if len(found) == 1:
            return Member(Path(path), found[0]).gdal_path
        if found:
            listed = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
            raise UsageError(
                f"{path}: holds {len(found)} rasters; unpack it and give one of them: {listed}"
            )
    return path


def _names(path: str | os.PathLike[str]) -> list[str]:
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path}: is not a complete zip archive; get it again, or unpack it")
    with zipfile.ZipFile(path) as archive:
        # macOS adds a hidden twin of every file under __MACOSX.
        return [
            name
            for name in archive.namelist()
            if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
        ]
