"""Reads XML files of a satellite product, on disk or in its zip archive, safely."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cwsam_geo.errors import SceneError

LARGEST = 32 << 20
"""Bytes up to which a file is read; the tables of a Sentinel-1 scene have about 1 MB."""

_MOST_ELEMENTS = 100_000
"""Elements up to which a file is parsed, to bound memory: an empty element is only 4 bytes."""

_ZIP = "/vsizip/"


def is_there(path: str) -> bool:
    """Whether a file, or a member of a zip archive (``/vsizip/ARCHIVE/MEMBER``), exists."""
    archive = in_archive(path)
    if archive is None:
        return Path(path).is_file()
    try:
        with zipfile.ZipFile(archive[0]) as opened:
            return _member(opened, archive[1]) is not None
    except (zipfile.BadZipFile, OSError):
        return False


def member_name(name: str) -> str:
    """The name of an archive's member as GDAL spells it, without backslashes and leading ``./``."""
    return name.replace("\\", "/").removeprefix("./")


def read_xml(path: str) -> Element:
    """The root of an XML file, or of a member of a zip archive (``/vsizip/ARCHIVE/MEMBER``).

    Files that are too large or declare a document type are refused.

    Raises:
        SceneError: The file cannot be read, is too large, or is not plain XML. The message gives
            no advice, which the caller adds.
    """
    data = _bytes_of(path)
    builder, elements = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal elements
        elements += 1
        if elements > _MOST_ELEMENTS:
            raise SceneError(f"{path}: more than {_MOST_ELEMENTS:,} XML elements")
        builder.start(tag, attributes)

    def refuse(*_: object) -> None:
        # The entities of a DTD can expand to gigabytes, or include other files.
        raise SceneError(f"{path}: holds a document type (DTD), which no product has")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = lambda text: builder.data(text)
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise SceneError(f"{path}: is not XML ({error})") from None


def _bytes_of(path: str) -> bytes:
    archive = in_archive(path)
    try:
        # One byte more than allowed shows that a file is too large.
        if archive is None:
            with open(path, "rb") as file:
                data = file.read(LARGEST + 1)
        else:
            with zipfile.ZipFile(archive[0]) as opened:
                data = opened.open(_member(opened, archive[1]) or archive[1]).read(LARGEST + 1)
    except (OSError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SceneError(f"{path}: cannot be read ({error})") from None
    if len(data) > LARGEST:
        raise SceneError(f"{path}: is larger than {LARGEST >> 20} MB")
    return data


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    return next((m for m in archive.infolist() if member_name(m.filename) == name), None)


def in_archive(path: str) -> tuple[Path, str] | None:
    """Archive and member of a ``/vsizip/`` name; None for plain paths."""
    if not path.startswith(_ZIP):
        return None
    name = path.removeprefix(_ZIP)
    if name.startswith("{"):  # /vsizip/{ARCHIVE}/MEMBER, GDAL's explicit form
        name = name[1:].replace("}", "", 1)
    inside = PurePosixPath(name)
    for parent in inside.parents:
        if Path(parent).is_file():
            return Path(parent), str(inside.relative_to(parent))
    return Path(path), ""
