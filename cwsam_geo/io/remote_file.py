"""A file at a URL (``s3://bucket/maps/map.tif``) that appears whole or not at all."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import rasterio

from cwsam_geo.atomic import sidecar_endings
from cwsam_geo.errors import UsageError
from cwsam_geo.io.creation_options import GDAL_FAILURES
from cwsam_geo.io.object_store import file_system, telling
from cwsam_geo.io.raster_file import display_name

_ADVICE = "write to another place"


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL that fsspec can write to.

    Attributes:
        url: The URL.
    """

    url: str

    @property
    def name(self) -> str:
        """The URL for messages, without secrets."""
        return display_name(self.url)

    def check(self, overwrite: bool) -> None:
        """Checks, before hours of work, that the file can be written.

        A small file is written beside it and removed again: keys that may only read are noticed.

        Raises:
            UsageError: The URL names no file, or one on a web server; or the file, or a sidecar of
                an earlier file of that name, exists and ``overwrite`` is False.
            OutputError: The store cannot be reached, or refuses.
        """
        if re.match(r"https?://", self.url, re.IGNORECASE):
            raise UsageError(
                f"{self.name}: a web server takes no files; give the address of a store, such as "
                "s3://bucket/map.tif"
            )
        if self.url.endswith("/") or not urlsplit(self.url).path.strip("/"):
            raise UsageError(f"{self.name}: names no file; give s3://bucket/map.tif, for instance")
        if not overwrite:
            if self.exists():
                raise UsageError(f"{self.name}: exists already; pass --overwrite to replace it")
            for ending in sidecar_endings(self._path):
                if self._there(self._path + ending):
                    raise UsageError(
                        f"{self.name}{ending}: is left over from an earlier file and would be read "
                        "as a part of the new one; remove it, or pass --overwrite"
                    )
        with self._telling():
            probe = self._hidden()
            self._system.pipe_file(probe, b"-")
            self._system.rm_file(probe)

    def exists(self) -> bool:
        """Whether the file is there.

        Raises:
            OutputError: The store cannot be reached.
        """
        return self._there(self._path)

    def modified(self) -> datetime:
        """When the file was written.

        Raises:
            OutputError: It is not there, or the store cannot be reached.
        """
        with self._telling():
            time: datetime = self._system.modified(self._path)
            return time

    def put(self, file: Path, overwrite: bool, sidecars: Sequence[str] = ()) -> None:
        """Sends a file that is complete on this machine's disk.

        Args:
            file: The complete file. It stays.
            overwrite: Whether an existing file may be replaced.
            sidecars: Endings of files beside ``file`` that go with it, if they exist. Other
                sidecars of a replaced file are removed.

        Raises:
            UsageError: The file exists by now, and may not be replaced.
            OutputError: The store cannot be reached, or refuses.
        """
        path = self._path
        replaces = self.exists()
        if replaces and not overwrite:
            raise UsageError(f"{self.name}: exists already; pass --overwrite to replace it")
        new = {e: part for e in sidecars if (part := Path(f"{file}{e}")).is_file()}
        # As on a disk: a new file comes last, and a replaced one keeps its sidecars until then.
        if replaces:
            self._send(file, path)
        old = sidecar_endings(path) if overwrite else ()
        with self._telling():
            for sidecar in (path + ending for ending in old if ending not in new):
                if self._there(sidecar):
                    self._system.rm_file(sidecar)
        for ending, part in new.items():
            self._send(part, path + ending)
        if not replaces:
            self._send(file, path)

    def fetch(self, file: Path) -> None:
        """Copies the file to this machine's disk.

        Raises:
            OutputError: It is not there, or the store cannot be reached.
        """
        with self._telling():
            self._system.get_file(self._path, str(file))

    def raster_tags(self) -> Mapping[str, str] | None:
        """Tags of a raster, of which little more than the header is read; None if it is none.

        Raises:
            OutputError: The store cannot be reached.
        """
        # Not by name: GDAL has options of its own for keys and servers.
        with (
            self._telling(),
            contextlib.suppress(*GDAL_FAILURES),
            rasterio.open(self._path, opener=self._system.open) as dataset,
        ):
            tags: dict[str, str] = dataset.tags()
            return tags
        return None

    @cached_property
    def _store(self) -> tuple[Any, str]:
        return file_system(self.url, "output")

    @property
    def _system(self) -> Any:
        return self._store[0]

    @property
    def _path(self) -> str:
        return self._store[1]

    def _there(self, path: str) -> bool:
        with self._telling():
            return bool(self._system.exists(path))

    def _hidden(self) -> str:
        """A new name beside the file."""
        folder, _, name = self._path.rpartition("/")
        return f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"

    def _send(self, file: Path, path: str) -> None:
        from fsspec.asyn import AsyncFileSystem

        with self._telling():
            if isinstance(self._system, AsyncFileSystem):
                # The stores' own packages: the object appears when all of it has arrived.
                self._system.put_file(str(file), path)
                return
            # Arrow makes an object of what has arrived when it is interrupted, and so do others.
            hidden = self._hidden()
            try:
                self._system.put_file(str(file), hidden)
                self._system.mv(hidden, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._system.rm_file(hidden)
                raise

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        with telling(self.name, _ADVICE):
            yield
