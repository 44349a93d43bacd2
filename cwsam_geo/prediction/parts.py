"""Finished rows of a map, kept in files with checksums until the map is whole.

A part is one sparse GeoTIFF for each raster of the run, and a record that is written last. What has
no record does not exist, so that a process may be killed at any moment.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import OutputError
from cwsam_geo.io.raster_part import RasterPart, part_blocks
from cwsam_geo.io.raster_sink import BLOCK
from cwsam_geo.io.shared_folder import SharedFolder
from cwsam_geo.model.upstream.download import file_sha256

_RECORD = re.compile(r"part-\d+-\d+-[0-9a-f]+\.json")


@dataclass(frozen=True)
class PartFile:
    """A file of a part: the rows of one raster."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """Finished rows of a map.

    Attributes:
        rows: The rows, counted from the map's top; they begin at a border of storage blocks.
        files: The file of each raster, by the raster's name.
        empty_tiles: For rows of tiles that are finished, how many were not given to the model.
        computer: What computed the rows, in words.
    """

    rows: range
    files: Mapping[str, PartFile]
    empty_tiles: Mapping[int, int]
    computer: str

    def to_json(self) -> str:
        """The record of the part."""
        return json.dumps(
            {
                "rows": [self.rows.start, self.rows.stop],
                "files": {raster: vars(file) for raster, file in self.files.items()},
                "empty_tiles": {str(i): n for i, n in self.empty_tiles.items()},
                "computer": self.computer,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Reads a record.

        Raises:
            ValueError: It is damaged.
        """
        try:
            values = json.loads(text)
            files = {str(raster): PartFile(**file) for raster, file in values["files"].items()}
            if any("/" in file.name or "\\" in file.name for file in files.values()):
                raise ValueError("a file of a part lies elsewhere")
            return cls(
                range(*map(int, values["rows"])),
                files,
                {int(i): int(n) for i, n in values["empty_tiles"].items()},
                str(values["computer"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None


class Parts:
    """The parts of one map in a folder.

    Args:
        bands: Number of bands of each raster, by name.
        shape: Rows and columns of the map.
        begin: Makes the folder, before the first part of a run that may need none.
    """

    def __init__(
        self,
        folder: SharedFolder,
        bands: Mapping[str, int],
        shape: tuple[int, int],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.bands, self.shape = folder, dict(bands), shape
        self.begin = begin

    def found(self) -> list[Part]:
        """All parts, in order. Damaged records, and those of other rasters, are left out."""
        parts = []
        for name in self.folder.names():
            if _RECORD.fullmatch(name):
                try:
                    part = Part.from_json(self.folder.text(name))
                except (ValueError, OutputError):
                    continue
                if self._fits(part):
                    parts.append(part)
        return sorted(parts, key=lambda part: (part.rows.start, part.rows.stop))

    def _fits(self, part: Part) -> bool:
        start, stop = part.rows.start, part.rows.stop
        whole = start % BLOCK == 0 and (stop % BLOCK == 0 or stop == self.shape[0])
        return whole and 0 <= start < stop <= self.shape[0] and set(part.files) == set(self.bands)

    def intact(self, part: Part) -> bool:
        """Whether the files of a part have their checksums."""
        try:
            for file in part.files.values():
                with self.folder.fetched(file.name) as path:
                    if path.stat().st_size != file.size or file_sha256(path) != file.sha256:
                        return False
        except OutputError:
            return False
        return True

    def blocks(
        self, part: Part, raster: str, rows: range
    ) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        """The storage blocks of some rows of a part, from top to bottom.

        Raises:
            OutputError: The file is not the one that was written.
        """
        file = part.files[raster]
        with self.folder.fetched(file.name) as path:
            if path.stat().st_size != file.size or file_sha256(path) != file.sha256:
                raise OutputError(
                    f"{self.folder.location}/{file.name}: is damaged; delete it and pass --resume: "
                    "its rows are computed again"
                )
            yield from part_blocks(path, part.rows.start, rows, self.shape[1])


def segments(parts: Sequence[Part], height: int) -> list[tuple[range, Part | None]]:
    """Divides a map's rows into those of parts and those that are missing, from top to bottom.

    Parts may overlap, for instance where a process was given up too early.

    Returns:
        Rows and the part that has them, or None.
    """
    found: list[tuple[range, Part | None]] = []
    row = 0
    while row < height:
        here = [part for part in parts if part.rows.start <= row < part.rows.stop]
        part = max(here, key=lambda p: p.rows.stop, default=None)
        later = (p.rows.start for p in parts if p.rows.start > row)
        stop = min(later, default=height) if part is None else part.rows.stop
        found.append((range(row, stop), part))
        row = stop
    return found


class PartWriter:
    """Writes parts while a run computes rows of a map; implements ``Checkpoint``.

    Complete storage blocks come in through ``add``. Every ``seconds`` the blocks so far become a
    part.

    Args:
        rows: Rows that the run computes.
        computer: What computes, in words.
        seconds: Seconds from one part to the next.
        pause: Seconds without any part at the beginning. Rows that are finished until then are in
            no part.
        on_part: Called with each part that is durable.
    """

    def __init__(
        self,
        parts: Parts,
        rows: range,
        computer: str,
        seconds: float,
        pause: float = 0.0,
        on_part: Callable[[Part], None] = lambda _: None,
    ) -> None:
        self._parts, self._rows, self._computer = parts, rows, computer
        self._on_part = on_part
        self._seconds = seconds
        self._next = time.monotonic() + (pause or seconds)
        # The first row of the part that is being written; None during the pause.
        self._start = None if pause else rows.start
        self._files: dict[str, RasterPart] = {}

    def add(self, raster: str, block: Window, values: NDArray[np.uint8]) -> None:
        """Takes a complete block, (bands, h, w), of a raster.

        Raises:
            OutputError: The disk is full, or GDAL cannot write.
        """
        if self._start is None:
            return
        if raster not in self._files:
            path = self._parts.folder.new_file(f"{raster}.tif")
            rows = range(self._start, self._rows.stop)
            width, bands = self._parts.shape[1], self._parts.bands[raster]
            self._files[raster] = RasterPart(path, rows, width, bands)
        self._files[raster].write(block, values)

    def due(self) -> bool:
        """Whether it is time for a part."""
        return time.monotonic() >= self._next

    def take(self, rows: int, empty_tiles: Mapping[int, int]) -> None:
        """Makes a part of the blocks that are complete.

        Raises:
            OutputError: It cannot be written.
        """
        self._next = time.monotonic() + self._seconds
        # Blocks that the last row of tiles has only begun belong to the next part.
        stop = rows if rows == self._rows.stop else rows // BLOCK * BLOCK
        if self._start is None:
            self._start = stop
            if stop < self._rows.stop:
                self._parts.begin()
            return
        if stop <= self._start:
            return
        stem = f"part-{self._start:08d}-{stop:08d}-{secrets.token_hex(4)}"
        files = {raster: self._put(stem, raster, file) for raster, file in self._files.items()}
        part = Part(range(self._start, stop), files, dict(empty_tiles), self._computer)
        # The record comes last: without it, the files do not count.
        self._parts.folder.put_text(f"{stem}.json", part.to_json())
        self._files, self._start = {}, stop
        self._on_part(part)

    def _put(self, stem: str, raster: str, file: RasterPart) -> PartFile:
        file.close()
        name = f"{stem}-{raster}.tif"
        done = PartFile(name, file.path.stat().st_size, file_sha256(file.path))
        self._parts.folder.put(file.path, name)
        return done

    def close(self) -> None:
        """Gives up the blocks that are in no part yet."""
        for file in self._files.values():
            file.discard()
        self._files = {}
