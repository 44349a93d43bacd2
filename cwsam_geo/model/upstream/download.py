"""Downloads a checkpoint: resumable, verified, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, Protocol

from cwsam_geo._version import __version__
from cwsam_geo.atomic import real_file
from cwsam_geo.errors import ModelError, OutputError, UsageError
from cwsam_geo.model.upstream.published import Checkpoint

_CHUNK = 1 << 20
"""Bytes read at once."""

_LOST = (urllib.error.URLError, ConnectionError, TimeoutError, HTTPException, ssl.SSLError)
"""Exceptions that mean a lost connection, after which the download is resumed."""

Progress = Callable[[int, int], None]
"""Called with the number of bytes present and the total number of bytes."""


@dataclass(frozen=True)
class Patience:
    """How often and how soon a download is retried after a lost connection.

    Attributes:
        attempts: Consecutive attempts without a new byte before giving up.
        pause_s: Seconds before the second attempt; doubled before each further one.
        timeout_s: Seconds without an answer before a connection counts as lost.
    """

    attempts: int = 5
    pause_s: float = 1.0
    timeout_s: float = 30.0


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def is_complete(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a file is the checkpoint, byte for byte."""
    if not path.is_file() or path.stat().st_size != checkpoint.size:
        return False
    return file_sha256(path) == checkpoint.sha256


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return _hashed(file).hexdigest()


def download(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Downloads a checkpoint, or resumes an interrupted download.

    The data is collected in ``NAME.part`` beside the target until size and hash are right. Nothing
    is downloaded if the target is already the checkpoint. The folder is created if necessary.

    Returns:
        The path of the checkpoint.

    Raises:
        UsageError: Another file has the target's name and ``overwrite`` is False.
        OutputError: The folder cannot be written to, or the disk has too little space.
        ModelError: The server lacks the file or has another one, or the connection was lost.
    """
    _check_address(checkpoint.url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); choose another with --to"
        ) from None
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another with --to")
    target = folder / checkpoint.file_name
    if is_complete(target, checkpoint):
        return target
    if target.exists() and not overwrite:
        raise UsageError(
            f"{target}: exists, but is not {checkpoint.name} (size or hash differ); pass "
            "--overwrite to replace it"
        )
    real = real_file(target)
    part = real.with_name(f"{real.name}.part")
    _Download(checkpoint, part, on_progress or _silent, patience or Patience()).run()
    os.replace(part, real)
    return target


class _Download:
    def __init__(
        self, checkpoint: Checkpoint, part: Path, on_progress: Progress, patience: Patience
    ) -> None:
        self.checkpoint, self.part = checkpoint, part
        self.on_progress, self.patience = on_progress, patience

    def run(self) -> None:
        """Downloads to ``part`` until the file is complete, and verifies it."""
        # A partial file that is too long cannot be the beginning of the checkpoint.
        if self._present() > self.checkpoint.size:
            self.part.unlink()
        self._check_room()
        failures, pause = 0, self.patience.pause_s
        while (before := self._present()) < self.checkpoint.size:
            try:
                self._continue()
                continue
            except urllib.error.HTTPError as error:
                self._refused(error)
                reason = f"HTTP {error.code} {error.reason}"
            except _LOST as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 1 if self._present() > before else failures + 1
            if failures >= self.patience.attempts:
                raise ModelError(self._lost(reason))
            time.sleep(pause * 2 ** (failures - 1))
        self._verify()

    def _present(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _check_room(self) -> None:
        # Checked first: otherwise the disk would be full after gigabytes of download.
        missing = self.checkpoint.size - self._present()
        free = shutil.disk_usage(self.part.parent).free
        if free < missing:
            raise OutputError(
                f"{self.part.parent}: {missing / 1e6:.0f} MB are needed, but only "
                f"{free / 1e6:.0f} MB are free; choose another folder with --to"
            )

    def _continue(self) -> None:
        start = self._present()
        headers = {"User-Agent": f"cwsam-geo/{__version__}", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(self.checkpoint.url, headers=headers)
        with _opener().open(request, timeout=self.patience.timeout_s) as response:
            start = self._agreed_start(response, start)
            mode = "ab" if start else "wb"
            with self.part.open(mode) as file:
                self._copy(response, file, start)

    def _agreed_start(self, response: HTTPResponse, start: int) -> int:
        """Returns the offset at which the response starts, and refuses a file of another size."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if response.status == 206:
            # For example "bytes 100-199/200".
            span, _, whole = response.headers.get("Content-Range", "").partition("/")
            if not span.startswith(f"bytes {start}-"):
                raise ModelError(f"{self.checkpoint.url}: the server sent another byte range")
            total = int(whole) if whole.isdigit() else None
        else:
            # The server does not support ranges: it sends the file from its beginning.
            start = 0
        if total is not None and total != self.checkpoint.size:
            raise ModelError(
                f"{self.checkpoint.url}: the server has a file of {total} bytes, not of "
                f"{self.checkpoint.size}; it is not {self.checkpoint.name}"
            )
        return start

    def _copy(self, response: HTTPResponse, file: IO[bytes], start: int) -> None:
        present, size = start, self.checkpoint.size
        self.on_progress(present, size)
        while present < size:
            data = response.read(min(_CHUNK, size - present))
            if not data:
                raise ConnectionError("the connection was closed early")
            file.write(data)
            present += len(data)
            self.on_progress(present, size)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """Raises if an HTTP error is permanent; returns if another attempt makes sense."""
        if error.code == 416 and self._present():
            # The range is invalid, so the partial file does not belong to the server's file.
            self.part.unlink()
        # 408 and 429 (timeout, too many requests) are temporary, as are the server's own errors.
        elif error.code < 500 and error.code not in (408, 429):
            raise ModelError(
                f"{self.checkpoint.url}: the server answered HTTP {error.code} {error.reason}"
            ) from None

    def _lost(self, reason: str) -> str:
        return (
            f"{self.checkpoint.url}: connection lost after {self._present()} of "
            f"{self.checkpoint.size} bytes ({reason}); run the command again to go on from there"
        )

    def _verify(self) -> None:
        with self.part.open("rb") as file:
            sha256 = _hashed(file).hexdigest()
        if sha256 != self.checkpoint.sha256:
            self.part.unlink()
            raise ModelError(
                f"{self.checkpoint.url}: the downloaded file has sha256 {sha256[:12]}..., not "
                f"{self.checkpoint.sha256[:12]}...; it was deleted, try again"
            )


def _hashed(file: IO[bytes]) -> _Hash:
    digest = hashlib.sha256()
    while data := file.read(_CHUNK):
        digest.update(data)
    return digest


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    is_local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ModelError(f"{url}: only https addresses are allowed")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SafeRedirects)


def _silent(present: int, size: int) -> None:
    pass
