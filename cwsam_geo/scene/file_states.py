"""The state of a scene's files: whether they are still those of an earlier run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from cwsam_geo.core.grid import Window
from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.scene.source import RasterSource

_PATIENCE = 20
"""Seconds until a server must answer."""

_SAMPLE = 64
"""Side in pixels of the windows that are compared where a server tells nothing of a file."""

_HARMLESS = (".aux.xml", ".ovr")
"""Endings of files that QGIS and GDAL write beside a scene that they only look at. What they can
change of a scene's values (nodata, scale, offset) is compared by itself."""

_ARCHIVE = re.compile(r"^(?:/vsi(?:zip|tar|gzip|7z|rar|subfile)/)+\{?")


def file_states(source: RasterSource) -> dict[str, str]:
    """Size and time of each file of a scene, or what its server tells of it, by name.

    No pixel is read, except of files on a server that answers no HTTP request.
    """
    states: dict[str, str] = {}
    for part in source.parts:
        if is_remote(part.path):
            states[_key(part.path, states)] = _remote_state(part.path) or _sample(source)
            continue
        paths = [*part.dataset.files, part.path]
        if part.product is not None:
            paths += part.product.files
        for path in dict.fromkeys(map(_on_disk, paths)):
            if path is not None and not path.name.lower().endswith(_HARMLESS):
                states[_key(path.as_posix(), states)] = local_state(path)
    return states


def local_state(path: str | os.PathLike[str]) -> str:
    """Size and time of a file, or of all files in a folder; ``missing`` where there is none."""
    root = Path(path)
    try:
        files = sorted(_files(root)) if root.is_dir() else [root]
        stats = [file.stat() for file in files]
    except OSError:
        return "missing"
    size, newest = sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
    text = f"{size} bytes, changed {_time(newest)}"
    return f"{len(files)} files, {text}" if root.is_dir() else text


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"


def _key(path: str, taken: dict[str, str]) -> str:
    """The file's name, or its path where another file of the scene has that name."""
    name = re.split(r"[?#]", path)[0].rstrip("/").rsplit("/", 1)[-1]
    return path if name in taken or not name else name


def _on_disk(path: str) -> Path | None:
    """The file on disk that holds a file of GDAL, such as the archive around it."""
    inner = Path(_ARCHIVE.sub("", path).replace("}", "").removeprefix("file://"))
    for candidate in (inner, *inner.parents):
        with contextlib.suppress(OSError):
            if candidate.is_file() or (candidate == inner and candidate.is_dir()):
                return candidate
    return None


def _remote_state(path: str) -> str | None:
    """Size, ETag and time of a file as its HTTP server tells them; None where it does not."""
    address = re.search(r"https?://\S+", path)
    if address is None:
        return None
    # One byte is asked for: signed addresses often allow no HEAD request.
    request = urllib.request.Request(address.group(), headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            headers = answer.headers
    except (OSError, ValueError):
        return None
    size = (headers.get("Content-Range") or "/").rsplit("/", 1)[-1] or headers.get("Content-Length")
    known = {"ETag": headers.get("ETag"), "changed": headers.get("Last-Modified")}
    if not any(known.values()):
        return None
    told = [f"{name} {value}" for name, value in known.items() if value]
    return ", ".join([f"{size} bytes", *told])


def _sample(source: RasterSource) -> str:
    """A hash of the values in the corners and in the middle of a scene."""
    height, width = source.grid.height, source.grid.width
    digest = hashlib.sha256()
    for row, col in ((0, 0), (height // 2, width // 2), (height - _SAMPLE, width - _SAMPLE)):
        window = Window(max(row, 0), max(col, 0), _SAMPLE, _SAMPLE).intersect(source.grid.window)
        digest.update(source.examine(window).values.tobytes())
    return f"values {digest.hexdigest()[:16]}"
