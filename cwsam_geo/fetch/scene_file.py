"""Scenes as GeoTIFFs: written window by window, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from cwsam_geo._version import __version__
from cwsam_geo.atomic import atomic_output, check_room
from cwsam_geo.core.grid import SceneGrid, Window, same_grid
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import OutputError
from cwsam_geo.io.creation_options import GDAL_FAILURES
from cwsam_geo.io.raster_file import environment, grid_of, rio_window
from cwsam_geo.scene.acquisition import SCENE_TAG, Acquisition

BLOCK = 512
"""Side in pixels of a storage block."""

_WINDOW_PIXELS = 1 << 21
"""Pixels that are read and written at once: two million, 8 MB in each band."""

_ROOM = 32 << 20
"""Bytes of disk that must stay free while pixels stream: GDAL's cache holds unwritten blocks."""

_BYTES = 4
"""Bytes of a value (float32)."""


@dataclass(frozen=True)
class SceneContent:
    """What a scene is, besides its pixels.

    Attributes:
        bands: Polarisation of each band.
        acquisition: What the catalogue says of it.
        units: Units of the values, or None where nobody says.
        attribution: Who must be named, and the licence.
        kind: What was made of the data, in words.
    """

    bands: tuple[str, ...]
    acquisition: Acquisition
    units: str | None
    attribution: str
    kind: str


def attribution(years: Iterable[str]) -> str:
    """Who must be named, by the terms of Copernicus Sentinel data.

    Args:
        years: The years of the data, in any order.
    """
    ordered = sorted(set(years) - {""})
    span = "-".join(dict.fromkeys([*ordered[:1], *ordered[-1:]]))
    return f"contains modified Copernicus Sentinel data {span}".rstrip()


def most_bytes(grid: SceneGrid) -> int:
    """Bytes of a scene without compression. Speckle compresses by about a tenth only."""
    return grid.height * grid.width * grid.count * _BYTES


def write_scene(
    path: Path,
    grid: SceneGrid,
    content: SceneContent,
    read: Callable[[Window], NDArray[np.float32]],
    on_pixels: Callable[[int], None],
) -> float:
    """Writes a scene.

    Args:
        path: The file; an earlier one is replaced.
        read: Gives the values of a window, (N, h, w) float32, NaN where there is no data.
        on_pixels: Called with the number of pixels that are done since the last call.

    Returns:
        Share of the pixels with data in every band, 0 to 1. A scene without any is not written.

    Raises:
        SceneError: ``read`` fails.
        OutputError: The disk is full.
    """
    valid = 0
    with contextlib.suppress(_NothingThereError), atomic_output(path, overwrite=True) as temporary:
        with _writing(path), _created(temporary, grid, content) as out:
            for window in windows_over(grid.window, (BLOCK, BLOCK), _WINDOW_PIXELS):
                values = read(window)
                check_room(path, min(_ROOM, most_bytes(grid)))
                out.write(values, window=rio_window(window))
                valid += int((~np.isnan(values)).all(axis=0).sum())
                on_pixels(window.height * window.width)
        if not valid:
            raise _NothingThereError
        _check_whole(temporary, path, grid)
    return valid / (grid.height * grid.width)


def is_scene(path: Path, grid: SceneGrid, items: Sequence[str], some: bool = False) -> bool:
    """Whether a file is a complete scene of some items on a grid.

    Args:
        some: Whether the scene may lack some of the items, which have no data there.
    """
    if not path.is_file():
        return False
    try:
        with environment(remote=False), rasterio.open(path) as scene:
            found = Acquisition.from_tags(scene.tags())
            same = scene.count == grid.count and same_grid(grid_of(scene), grid)
    except GDAL_FAILURES:
        return False
    if not same or found is None:
        return False
    return (
        len(found.items) > 0 and set(found.items) <= set(items)
        if some
        else (found.items == tuple(items))
    )


class _NothingThereError(Exception):
    """A scene without a pixel of data, which is not written."""


@contextlib.contextmanager
def _created(path: Path, grid: SceneGrid, content: SceneContent) -> Iterator[Any]:
    with (
        environment(remote=False),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=grid.height,
            width=grid.width,
            count=grid.count,
            dtype="float32",
            crs=grid.crs,
            transform=grid.transform,
            nodata=np.nan,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="DEFLATE",
            predictor=3,
            interleave="band",
            bigtiff="IF_SAFER",
        ) as out,
    ):
        out.descriptions = content.bands
        if content.units:
            out.units = [content.units] * len(content.bands)
        out.update_tags(**_tags(content))
        yield out


def _tags(content: SceneContent) -> dict[str, str]:
    scene = content.acquisition
    tags = {
        "DATE": scene.start,
        "PLATFORM": scene.platform,
        "ORBIT": scene.orbit,
        "RELATIVE_ORBIT": None if scene.relative_orbit is None else str(scene.relative_orbit),
        "COLLECTION": scene.collection,
        "ITEMS": " ".join(scene.items),
        "UNITS": content.units,
        "LICENCE": scene.licence,
        "ATTRIBUTION": content.attribution,
        "CONTENT": content.kind,
        SCENE_TAG: scene.to_json(),
        "TIFFTAG_SOFTWARE": f"cwsam-geo {__version__}",
    }
    return {key: text for key, text in tags.items() if text}


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except GDAL_FAILURES as error:
        check_room(path)
        text = " ".join(str(error.__cause__ or error).split())
        raise OutputError(f"{path}: cannot be written: {text}") from error


def _check_whole(temporary: Path, path: Path, grid: SceneGrid) -> None:
    """Reads the last pixel of the finished file: GDAL reports some full disks only in its log."""
    corner = Window(grid.height - 1, grid.width - 1, 1, 1)
    with _writing(path), environment(remote=False), rasterio.open(temporary) as scene:
        scene.read(window=rio_window(corner))
