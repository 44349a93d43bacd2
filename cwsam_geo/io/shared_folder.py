"""A folder that several processes or machines use: on disk, or on an object store (fsspec)."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from cwsam_geo.io.object_store import file_system, is_url, telling, without_file_scheme

_UNFINISHED = ".unfinished"
"""Ending of files that are still written; a process that was killed leaves them behind."""


class SharedFolder(Protocol):
    """Files by name. A file appears whole, and stays there even if the power fails."""

    @property
    def location(self) -> str:
        """Path or URL, for messages and for other processes."""

    def create(self) -> None:
        """Makes the folder.

        Raises:
            OutputError: It cannot be written.
        """

    def exists(self) -> bool:
        """Whether the folder holds a file."""

    def names(self) -> list[str]:
        """Names of the finished files, sorted."""

    def text(self, name: str) -> str:
        """Contents of a small text file.

        Raises:
            OutputError: There is no such file, or it cannot be read.
        """

    def put_text(self, name: str, text: str) -> None:
        """Writes or replaces a small text file."""

    def new_file(self, name: str) -> Path:
        """A path on disk for a file that ``put`` will move to the folder."""

    def put(self, file: Path, name: str) -> None:
        """Moves a file that ``new_file`` has named to the folder."""

    def fetched(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A path on disk at which a file of the folder can be read.

        Raises:
            OutputError: There is no such file, or it cannot be read.
        """

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def clear(self, keep: str = "") -> None:
        """Removes all files but ``keep``, and the folder if it is empty then.

        The files go in the order of their names.
        """


def shared_folder(location: str | os.PathLike[str]) -> SharedFolder:
    """The folder at a path, or at a URL that fsspec knows (``s3://bucket/parts``).

    Raises:
        UsageError: fsspec does not know such URLs, or lacks the package for them.
    """
    text = os.fspath(location)
    if is_url(text):
        return RemoteFolder(text)
    return LocalFolder(Path(without_file_scheme(text)))


class LocalFolder:
    """A folder on a disk. Files are synchronised with the disk before they get their name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def location(self) -> str:
        """The path."""
        return str(self._path)

    def create(self) -> None:
        """See ``SharedFolder``."""
        with _told(self.location):
            self._path.mkdir(exist_ok=True)
            # Folders of other users and read-only disks are noticed now, not after hours.
            self.put_text("test", "")
            self.remove("test")
            _synchronise(self._path.parent)

    def exists(self) -> bool:
        """See ``SharedFolder``."""
        return bool(self.names())

    def names(self) -> list[str]:
        """See ``SharedFolder``."""
        if not self._path.is_dir():
            return []
        with _told(self.location):
            return sorted(
                e.name
                for e in os.scandir(self._path)
                if e.is_file() and not e.name.endswith(_UNFINISHED)
            )

    def text(self, name: str) -> str:
        """See ``SharedFolder``."""
        with _told(self._path / name):
            return (self._path / name).read_text(encoding="utf-8")

    def put_text(self, name: str, text: str) -> None:
        """See ``SharedFolder``."""
        file = self.new_file(name)
        with _told(self._path / name):
            file.write_text(text, encoding="utf-8")
        self.put(file, name)

    def new_file(self, name: str) -> Path:
        """See ``SharedFolder``."""
        return self._path / f"{name}.{secrets.token_hex(4)}{_UNFINISHED}"

    def put(self, file: Path, name: str) -> None:
        """See ``SharedFolder``."""
        with _told(self._path / name):
            _synchronise(file)
            os.replace(file, self._path / name)
            _synchronise(self._path)

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """See ``SharedFolder``."""
        path = self._path / name
        with _told(path):
            path.stat()
        yield path

    def remove(self, name: str) -> None:
        """See ``SharedFolder``."""
        with _told(self._path / name):
            (self._path / name).unlink(missing_ok=True)

    def clear(self, keep: str = "") -> None:
        """See ``SharedFolder``."""
        with contextlib.suppress(OSError):
            for entry in sorted(os.scandir(self._path), key=lambda e: e.name):
                if entry.is_file() and entry.name != keep:
                    os.unlink(entry)
            if not keep:
                self._path.rmdir()


class RemoteFolder:
    """A folder on an object store. An object appears whole: no other process sees half of it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._system, self._root = file_system(self._url, "--parts")
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def location(self) -> str:
        """The URL."""
        return self._url

    def create(self) -> None:
        """See ``SharedFolder``."""
        self.put_text("test", "")
        self.remove("test")

    def exists(self) -> bool:
        """See ``SharedFolder``."""
        return bool(self.names())

    def names(self) -> list[str]:
        """See ``SharedFolder``."""
        with _told(self._url):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(path).rsplit("/", 1)[-1] for path in found)

    def text(self, name: str) -> str:
        """See ``SharedFolder``."""
        with _told(self._at(name)):
            content: bytes = self._system.cat_file(f"{self._root}/{name}")
            return content.decode()

    def put_text(self, name: str, text: str) -> None:
        """See ``SharedFolder``."""
        with _told(self._at(name)):
            self._system.pipe_file(f"{self._root}/{name}", text.encode())

    def new_file(self, name: str) -> Path:
        """See ``SharedFolder``."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="cwsam-geo-parts-")
        return Path(self._scratch.name) / f"{secrets.token_hex(4)}-{name}"

    def put(self, file: Path, name: str) -> None:
        """See ``SharedFolder``."""
        with _told(self._at(name)):
            self._system.put_file(str(file), f"{self._root}/{name}")
        file.unlink()

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """See ``SharedFolder``."""
        file = self.new_file(name)
        try:
            with _told(self._at(name)):
                self._system.get_file(f"{self._root}/{name}", str(file))
            yield file
        finally:
            file.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """See ``SharedFolder``."""
        with _told(self._at(name)), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}")

    def clear(self, keep: str = "") -> None:
        """See ``SharedFolder``."""
        for name in self.names():
            if name != keep:
                self.remove(name)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _at(self, name: str) -> str:
        return f"{self._url}/{name}"


_ADVICE = "name another folder with --parts"


def _told(place: str | Path) -> contextlib.AbstractContextManager[None]:
    return telling(place, _ADVICE)


def _synchronise(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows does not synchronise folders
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)
