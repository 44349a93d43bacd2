"""Outputs at URLs: each is made on this machine's disk, and sent when it is complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError
from cwsam_geo.io.aux_xml import AUX_XML
from cwsam_geo.io.object_store import is_url, without_file_scheme
from cwsam_geo.io.raster_file import display_name
from cwsam_geo.io.remote_file import RemoteFile

PathLike = str | os.PathLike[str]


@dataclass
class Uploads:
    """Which outputs of a scene go to URLs, and where they lie until they are complete.

    Without a URL among the outputs, every method does nothing.

    Attributes:
        folder: Holds the outputs that go to URLs. Their paths in it are those of the store, so that
            relative links from one to another stay right.
        urls: URL of each path in the folder.
    """

    folder: Path = field(default_factory=lambda: _new_folder())
    urls: dict[Path, str] = field(default_factory=dict)
    _sent: set[Path] = field(default_factory=set)
    _styles: dict[Path, bytes | None] = field(default_factory=dict)

    def place(self, location: PathLike) -> Path:
        """Where an output is written: a path stays as it is, a URL gets a path in the folder."""
        text = os.fspath(location)
        if not is_url(text):
            return Path(without_file_scheme(text))
        names = re.split(r"[/:]+", text.split("?", 1)[0])
        if not all(names) or {".", ".."} & set(names):
            raise UsageError(f"{display_name(text)}: names no file; give s3://bucket/map.tif")
        path = self.folder.joinpath(*names)
        if path.suffix.lower() == ".shp":
            raise UsageError(
                f"{display_name(text)}: a shapefile is several files, which do not appear together "
                "in a store; name it *.gpkg or *.parquet"
            )
        self.urls[path] = text
        return path

    def place_style(self, output: Path, path: Path) -> None:
        """Sends the style of a raster, which is made beside it, to the URL beside the raster."""
        if output in self.urls:
            address, mark, query = self.urls[output].partition("?")
            self.urls[path] = f"{address.rpartition('/')[0]}/{path.name}{mark}{query}"
            self._styles[path] = None

    def check_links(self, item: Path, outputs: Iterable[Path]) -> None:
        """Refuses a STAC item whose links cannot be relative.

        Raises:
            UsageError: An output is not in the store of the item, or not on its machine.
        """
        for path in outputs:
            if _store_of(self.location(path)) != _store_of(self.location(item)):
                raise UsageError(
                    f"--stac {self.shown(item)}: {self.shown(path)} lies elsewhere, so that the "
                    "item cannot refer to it; write the item and all outputs to one bucket, or "
                    "all of them to this machine"
                )

    def shown(self, path: PathLike) -> str:
        """Path or URL of an output, as the user knows it."""
        url = self.urls.get(Path(path))
        return os.fspath(path) if url is None else display_name(url)

    def location(self, path: PathLike) -> str:
        """Path or URL of an output."""
        return self.urls.get(Path(path), os.fspath(path))

    def gdal_name(self, path: PathLike) -> str:
        """Path of an output, or GDAL's name for its URL."""
        return re.sub(r"^(s3|gs|az)://", r"/vsi\1/", self.location(path))

    def remote(self, path: PathLike) -> RemoteFile | None:
        """The file at the URL of an output; None for an output on this machine."""
        url = self.urls.get(Path(path))
        return None if url is None else RemoteFile(url)

    @property
    def names(self) -> dict[str, str]:
        """URL of each path in the folder, for reports."""
        return {str(path): self.shown(path) for path in self.urls}

    def told(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event with URLs in place of the paths in the folder."""
        return {k: self._with_urls(v) if isinstance(v, str) else v for k, v in event.items()}

    def _with_urls(self, text: str) -> str:
        if str(self.folder) in text:
            for path in self.urls:
                text = text.replace(str(path), self.shown(path))
        return text

    def check(self, overwrite: bool) -> None:
        """Checks, before hours of work, that all files can be sent.

        Raises:
            CwsamGeoError: See ``RemoteFile.check``.
        """
        for path, url in self.urls.items():
            if path not in self._styles:
                RemoteFile(url).check(overwrite)
            elif RemoteFile(url).exists():
                # Whether it is the user's, and therefore kept, is decided as for one on a disk.
                RemoteFile(url).fetch(path)
                self._styles[path] = path.read_bytes()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keeps the folder while the block runs.

        Raises:
            CwsamGeoError: That of the block, see ``translated``.
        """
        try:
            self.begin()
            yield
        except CwsamGeoError as error:
            translated = self.translated(error)
            if translated is error:
                raise
            raise translated from error
        finally:
            self.close()

    def begin(self) -> None:
        """Makes the folder."""
        if self.urls:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        for path in self.urls:
            path.parent.mkdir(parents=True, exist_ok=True)

    def translated(self, error: CwsamGeoError) -> CwsamGeoError:
        """An error with URLs in place of the paths in the folder, if it names one."""
        text = self._with_urls(str(error))
        if text == str(error):
            return error
        if isinstance(error, UsageError):
            return UsageError(text)
        return OutputError(
            f"{text} (outputs at URLs are kept in {self.folder.parent} until they are complete; "
            "TMPDIR names another folder)"
        )

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, paths: Iterable[Path], overwrite: bool) -> None:
        """Sends those outputs that are complete and have not been sent.

        Args:
            paths: The outputs, in the order in which they are to appear.

        Raises:
            UsageError: A file exists by now, and may not be replaced.
            OutputError: The store cannot be reached, or refuses.
        """
        for path in paths:
            remote = self.remote(path)
            if remote is None or path in self._sent or not path.is_file():
                continue
            if path not in self._styles:
                remote.put(path, overwrite, (AUX_XML,))
            elif path.read_bytes() != self._styles[path]:
                remote.put(path, overwrite=True)
            self._sent.add(path)

    def send_rest(self, overwrite: bool) -> None:
        """Sends all outputs that are complete and have not been sent; see ``send``."""
        self.send(list(self.urls), overwrite)

    def fetch(self, paths: Iterable[Path]) -> None:
        """Brings outputs back that an earlier run has sent.

        Raises:
            OutputError: They are not there, or the store cannot be reached.
        """
        for path in paths:
            remote = self.remote(path)
            if remote is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                remote.fetch(path)
                self._sent.add(path)


def _store_of(location: str) -> tuple[str, str]:
    """Scheme and bucket of a URL; empty for a path."""
    parts = urlsplit(location) if is_url(location) else None
    return ("", "") if parts is None else (parts.scheme, parts.netloc)


def _new_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"cwsam-geo-outputs-{secrets.token_hex(8)}"
