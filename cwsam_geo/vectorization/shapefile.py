"""The files of a shapefile: several files that appear, and are replaced, together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from cwsam_geo.errors import OutputError, UsageError

SHORT_NAMES: Mapping[str, str] = {"mean_confidence": "mean_conf"}
"""Names of columns that have more than the 10 characters of a shapefile, and their short form."""

_PARTS = (".shx", ".dbf", ".prj", ".cpg")
"""Suffixes of the files that GDAL writes beside the ``.shp``."""

_INDEXES = (".qix", ".sbn", ".sbx", ".idm", ".ind", ".fbn", ".fbx", ".ain", ".aih", ".qpj")
"""Suffixes of files that other programs add. They would be read with the new shapefile."""


def check_parts(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Checks that no file of an earlier shapefile is in the way.

    Raises:
        UsageError: There is such a file, and ``overwrite`` is False; or the path is a symbolic
            link, beside which the other files would be missing.
    """
    if os.path.islink(path):
        raise UsageError(
            f"{path}: is a symbolic link, beside which the other files of the shapefile would be "
            f"missing; write to {os.path.realpath(path)}"
        )
    left = [p for p in _siblings(Path(path)) if os.path.lexists(p)]
    if left and not overwrite:
        raise UsageError(
            f"{left[0]}: would be a part of the new {Path(path).name}; remove it, or pass "
            "--overwrite"
        )


def move_parts(temporary: Path, target: Path, overwrite: bool) -> None:
    """Moves the files beside a finished ``.shp`` to their places; the ``.shp`` itself follows last.

    The earlier shapefile is removed first: its ``.shp`` does not fit the new table. A run that is
    killed in between leaves no ``.shp``, and so nothing that opens.

    Raises:
        OutputError: A file of the earlier shapefile cannot be removed.
    """
    if target.exists() and not overwrite:
        return  # another program was faster: what moves the .shp refuses it
    for old in (target, *_siblings(target)):
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{old}: cannot be replaced ({error.strerror})") from None
    for suffix in _PARTS:
        part = temporary.with_suffix(suffix)
        if part.exists():
            os.replace(part, target.with_suffix(suffix))


def shortened(schema: pa.Schema) -> pa.Schema:
    """The schema with names that fit into a shapefile."""
    return pa.schema([field.with_name(SHORT_NAMES.get(field.name, field.name)) for field in schema])


def _siblings(target: Path) -> list[Path]:
    return [target.with_suffix(suffix) for suffix in (*_PARTS, *_INDEXES)]
