"""One scene of a batch: its files, and the names that the files of its map are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cwsam_geo.io.raster_file import display_name, is_remote
from cwsam_geo.scene.band_names import file_name, without_polarisations

_SUFFIX = re.compile(r"(\.SAFE|\.data|\.zarr|\.dim|\.[A-Za-z][A-Za-z0-9]{1,4})$", re.IGNORECASE)
"""What the name of a scene leaves out at the end of a file's name."""

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")
"""A date in a file name. The first one of a Sentinel-1 product is that of the acquisition."""


@dataclass(frozen=True)
class BatchScene:
    """One scene of a batch, not opened yet.

    Attributes:
        files: What ``predict`` takes: one location, or one for each band.
        stem: Name of the file without suffix, and without the polarisation if there are several.
        parent: Name of the folder that holds the files.
        id: Identifier of its STAC item; without one, ``stem``.
        date: Day of the acquisition, ``YYYYMMDD``; None if neither item nor name tells it.
        problem: Why the scene cannot be mapped, if that is known already.
    """

    files: tuple[str, ...]
    stem: str
    parent: str
    id: str
    date: str | None = None
    problem: str | None = None

    @property
    def label(self) -> str:
        """The scene's name in messages, without secrets."""
        return " + ".join(display_name(file) for file in self.files) or self.id


def scene_of(files: Sequence[str], id: str | None = None, date: str | None = None) -> BatchScene:
    """A scene with the names that its files have.

    Args:
        id: Identifier of its STAC item.
        date: Day of its acquisition, ``YYYYMMDD``; None to look for one in the file name.
    """
    first = files[0]
    local = not is_remote(first) and not first.startswith("/vsi")
    where = Path(first).absolute() if local else PurePosixPath(first.split("?", 1)[0])
    if where.name == "manifest.safe":
        where = where.parent
    name = _SUFFIX.sub("", _SUFFIX.sub("", where.name) if _doubled(where.name) else where.name)
    if len(files) > 1:
        name = joined_name(name)
    stem = name or where.parent.name
    found = _DATE.search(file_name(first))
    return BatchScene(
        files=tuple(files),
        stem=stem,
        parent=where.parent.name,
        id=id or stem,
        date=date or (found and "".join(found.groups())),
    )


def _doubled(name: str) -> bool:
    """Whether a name has two suffixes: ``S1A.SAFE.zip``."""
    return name.lower().endswith(".safe.zip")


def joined_name(name: str) -> str:
    """A name without its polarisation, and without the separators around it."""
    parts = [part.strip("_-. ") for part in without_polarisations(name).split(" ")]
    return "_".join(part for part in parts if part)
