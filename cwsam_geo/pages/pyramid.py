"""Embeds rasters in a page: levels of halved size, each cut into chunks that are packed alone.

A page reads only the chunks that it shows. Codes and percentages are packed without loss, so that
the page can tell the value of a pixel. Pictures are WebP, which loses a little.
"""

from __future__ import annotations

import base64
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from cwsam_geo.core.legend import NODATA
from cwsam_geo.rendering.png import png_bytes

Codes = NDArray[np.uint8]
Picture = NDArray[np.uint8]

SIDE = 256
"""Side of a chunk of codes, in cells. A tile of the screen of this side touches four at most."""

PICTURE_SIDE = 512
"""Side of a chunk of a picture, in pixels: larger, because each has the overhead of a file."""

_COARSEST = 256
"""Longest side of the coarsest level, which is seen when the map is smallest."""

_FIRST_CELLS = 1 << 20
"""Cells of the level that is packed first, to learn how well the raster packs."""

_MOST_CELLS = 1 << 26
_MOST_PIXELS = 1 << 24
"""Most cells of a level of codes (64 MB), and most pixels of a picture, whose values take 16 times
the memory before they are stretched."""

_GROWTH = 3.0
"""Bytes of a level by bytes of the one half as fine, at least: codes have borders, which grow less
than areas. A finer level is tried only if it could fit the budget by this measure."""

_QUALITY = 82
"""Quality of WebP, 0 to 100: the grain of speckle is still seen."""

Chunk = str | int | None
"""A packed chunk; the code that all its cells have; or None if it is empty."""


@dataclass(frozen=True)
class Level:
    """One resolution of an embedded raster.

    Attributes:
        shape: Rows and columns.
        cell: Pixels of the raster that a cell spans, down and across.
        chunks: Packed chunks by row and column.
    """

    shape: tuple[int, int]
    cell: tuple[float, float]
    chunks: Sequence[Sequence[Chunk]]

    @property
    def size(self) -> int:
        """Characters of all chunks."""
        return sum(len(c) if isinstance(c, str) else 3 for row in self.chunks for c in row)

    def to_dict(self) -> dict[str, Any]:
        """The level for the page's script."""
        return {
            "height": self.shape[0],
            "width": self.shape[1],
            "down": self.cell[0],
            "right": self.cell[1],
            "chunks": self.chunks,
        }


@dataclass(frozen=True)
class _Packing:
    """How a kind of raster is packed.

    Attributes:
        pack: Packs a level as chunks.
        halve: Makes a level of half the resolution.
        most: Most cells of a level.
    """

    pack: Callable[[NDArray[Any]], Sequence[Sequence[Chunk]]]
    halve: Callable[[NDArray[Any]], NDArray[Any]]
    most: int


def code_levels(
    read: Callable[[int], Codes], shape: tuple[int, int], budget: int
) -> tuple[Level, ...]:
    """Levels of class codes, the finest first. Coarser cells have the most frequent code.

    Args:
        read: Returns the whole raster with at most so many cells along its longer side, uint8 with
            255 for nodata.
        shape: Rows and columns of the raster.
        budget: Characters that the levels may take together, about.
    """
    return _levels(read, shape, budget, _CODES)


def percent_levels(
    read: Callable[[int], Codes], shape: tuple[int, int], budget: int
) -> tuple[Level, ...]:
    """Levels of percentages, the finest first. Coarser cells have the mean.

    Args:
        read: As for ``code_levels``.
        shape: Rows and columns of the raster.
        budget: Characters that the levels may take together, about.
    """
    return _levels(read, shape, budget, _PERCENT)


def picture_levels(
    read: Callable[[int], Picture], shape: tuple[int, int], budget: int
) -> tuple[Level, ...]:
    """Levels of a picture, the finest first.

    Args:
        read: Returns the picture, (h, w, 4) RGBA, of at most so many pixels along the longer side.
        shape: Rows and columns of the raster.
        budget: Characters that the levels may take together, about.
    """
    return _levels(read, shape, budget, _PICTURE)


def _levels(
    read: Callable[[int], NDArray[Any]],
    shape: tuple[int, int],
    budget: int,
    packing: _Packing,
) -> tuple[Level, ...]:
    # Coarser levels add a third to the finest.
    most = budget * 3 // 4
    longest = max(shape)
    factor = 1
    while _cells(shape, factor) > _FIRST_CELLS:
        factor *= 2
    finest = None
    while True:
        array = read(-(-longest // factor))
        packed = _packed(array, shape, packing)
        if packed.size > most:
            if finest is not None or max(packed.shape) <= _COARSEST:
                break
            factor *= 2
            continue
        finest = array, packed
        finer = factor // 2
        if factor == 1 or packed.size * _GROWTH > most or _cells(shape, finer) > packing.most:
            break
        factor = finer
    array, packed = finest or (array, packed)
    levels = [packed]
    while max(array.shape[:2]) > _COARSEST:
        array = packing.halve(array)
        down, across = levels[-1].cell
        level = Level(array.shape[:2], (2 * down, 2 * across), packing.pack(array))
        levels.append(level)
    return tuple(levels)


def _cells(shape: tuple[int, int], factor: int) -> int:
    return -(-shape[0] // factor) * -(-shape[1] // factor)


def _packed(array: NDArray[Any], shape: tuple[int, int], packing: _Packing) -> Level:
    height, width = array.shape[:2]
    return Level((height, width), (shape[0] / height, shape[1] / width), packing.pack(array))


def _packed_codes(codes: Codes) -> list[list[Chunk]]:
    return [
        [_packed_chunk(codes[top : top + SIDE, left : left + SIDE]) for left in _starts(codes, 1)]
        for top in _starts(codes, 0)
    ]


def _packed_chunk(codes: Codes) -> Chunk:
    first = int(codes.flat[0])
    if (codes == first).all():
        return None if first == NODATA else first
    return base64.b64encode(zlib.compress(np.ascontiguousarray(codes).tobytes(), 9)).decode()


def _starts(array: NDArray[Any], axis: int, side: int = SIDE) -> range:
    return range(0, array.shape[axis], side)


def _packed_picture(picture: Picture) -> list[list[Chunk]]:
    def chunk(top: int, left: int) -> Chunk:
        part = picture[top : top + PICTURE_SIDE, left : left + PICTURE_SIDE]
        return image_url(part) if part[..., 3].any() else None

    return [
        [chunk(top, left) for left in _starts(picture, 1, PICTURE_SIDE)]
        for top in _starts(picture, 0, PICTURE_SIDE)
    ]


def image_url(picture: Picture, lossless: bool = False) -> str:
    """A picture as a data URL: WebP, or PNG if it must be lossless or GDAL has no WebP.

    Args:
        picture: (h, w, 4) RGBA.
        lossless: Whether the colours must stay exactly as they are.
    """
    if picture[..., 3].all():
        picture = picture[..., :3]
    webp = None if lossless else _webp(picture)
    kind, content = ("png", png_bytes(picture)) if webp is None else ("webp", webp)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _webp(picture: Picture) -> bytes | None:
    height, width, bands = picture.shape
    profile: dict[str, Any] = {"driver": "WEBP", "count": bands, "dtype": "uint8"}
    with (
        rasterio.Env() as env,
        warnings.catch_warnings(),
        MemoryFile(ext=".webp") as file,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if "WEBP" not in env.drivers():
            return None
        with file.open(height=height, width=width, **profile, QUALITY=str(_QUALITY)) as image:
            image.write(np.moveaxis(picture, 2, 0))
        return bytes(file.read())


def halved_codes(codes: Codes) -> Codes:
    """Codes at half the resolution: the most frequent one of each four, which may be nodata."""
    a, b, c, d = _quarters(codes)
    best = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, best)


def halved_means(values: Codes) -> Codes:
    """Percentages at half the resolution: the mean of those of each four that are not nodata."""
    parts = np.stack(_quarters(values))
    valid = parts != NODATA
    count = valid.sum(0)
    sums = np.where(valid, parts, 0).sum(0, dtype=np.uint16)
    means = np.rint(sums / np.maximum(count, 1))
    return np.where(count > 0, means, NODATA).astype(np.uint8)


def halved_picture(picture: Picture) -> Picture:
    """A picture at half the resolution: means of colour, weighted by opacity."""
    parts = np.stack(_quarters(picture)).astype(np.float32)
    opacity = parts[..., 3:]
    total = opacity.sum(0)
    colour = (parts[..., :3] * opacity).sum(0) / np.maximum(total, 1)
    return np.concatenate([np.rint(colour), np.rint(total / 4)], axis=2).astype(np.uint8)


def _quarters(array: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Upper left, upper right, lower left, lower right of each two by two cells."""
    odd = [(0, n % 2) for n in array.shape[:2]] + [(0, 0)] * (array.ndim - 2)
    even = np.pad(array, odd, mode="edge")
    return even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]


_CODES = _Packing(_packed_codes, halved_codes, _MOST_CELLS)
_PERCENT = _Packing(_packed_codes, halved_means, _MOST_CELLS)
_PICTURE = _Packing(_packed_picture, halved_picture, _MOST_PIXELS)
