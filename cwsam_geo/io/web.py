"""Small answers of web servers: JSON documents, and why a server refuses a file."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import IO, Any

from cwsam_geo._version import __version__
from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import display_name

LARGEST_ANSWER = 32 << 20
"""Bytes. A page of 100 STAC items has about one million; a longer answer is no catalogue's."""

LONGEST_WAIT_S = 120.0
"""Seconds. A server that asks for a longer pause (``Retry-After``) is asked again after this."""

_LOST = (urllib.error.URLError, ConnectionError, TimeoutError, HTTPException, ssl.SSLError)
"""Exceptions that mean a lost connection."""

USER_AGENT = f"cwsam-geo/{__version__}"


@dataclass(frozen=True)
class Patience:
    """How often and how soon a server is asked again.

    Attributes:
        attempts: Consecutive failures before giving up.
        pause_s: Seconds before the second attempt; doubled before each further one.
        timeout_s: Seconds without an answer after which a connection counts as lost.
    """

    attempts: int = 6
    pause_s: float = 1.0
    timeout_s: float = 60.0

    def pause(self, failures: int, told: float | None) -> float:
        """Seconds to wait after so many failures, or what the server asked for if it is more."""
        own: float = self.pause_s * 2 ** (failures - 1)
        return min(max(own, told or 0.0), LONGEST_WAIT_S)


@dataclass(frozen=True)
class Answer:
    """What a server says about a file.

    Attributes:
        status: HTTP status; None if there was no answer.
        reason: Words of the server, or what happened to the connection.
        retry_after: Seconds after which the server wants to be asked again, or None.
    """

    status: int | None
    reason: str
    retry_after: float | None = None

    @property
    def temporary(self) -> bool:
        """Whether asking again may help."""
        return self.status is None or self.status in (408, 425, 429) or self.status >= 500

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.reason}".rstrip() if self.status else self.reason


def read_json(url: str, patience: Patience | None = None) -> Any:
    """Reads a JSON document over http or https.

    Raises:
        SceneError: The server does not give it, or it is no JSON, or too long.
    """
    patience = patience or Patience()
    failures = 0
    while True:
        try:
            with _open(url, {"Accept": "application/json"}, patience.timeout_s) as response:
                data = response.read(LARGEST_ANSWER + 1)
            break
        except _LOST as error:
            answer = _answer(error)
        failures += 1
        if not answer.temporary or failures >= patience.attempts:
            raise SceneError(
                f"{display_name(url)}: cannot be read ({answer}); check the address and the network"
            )
        time.sleep(patience.pause(failures, answer.retry_after))
    if len(data) > LARGEST_ANSWER:
        raise SceneError(f"{display_name(url)}: has more than {LARGEST_ANSWER >> 20} MB of JSON")
    try:
        return json.loads(data)
    except ValueError:
        raise SceneError(
            f"{display_name(url)}: the server's answer is no JSON; check the address"
        ) from None


def ask(url: str, patience: Patience | None = None) -> Answer:
    """Asks a server for the first byte of a file, to find out why it refuses the file."""
    patience = patience or Patience()
    try:
        with _open(url, {"Range": "bytes=0-0"}, patience.timeout_s) as response:
            return Answer(response.status, response.reason)
    except _LOST as error:
        return _answer(error)


def retry_after(text: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def is_web(url: str) -> bool:
    """Whether an address is http or https, with a host."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _answer(error: BaseException) -> Answer:
    if isinstance(error, urllib.error.HTTPError):
        with contextlib.closing(error):
            return Answer(error.code, error.reason, retry_after(error.headers.get("Retry-After")))
    reason = getattr(error, "reason", None) or error
    return Answer(None, str(reason) or type(error).__name__)


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_web(newurl):
            raise urllib.error.URLError("it redirects to an address that is not http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    if not is_web(url):
        raise SceneError(f"{display_name(url)}: is no http or https address")
    opener = urllib.request.build_opener(_WebRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **headers})
    return opener.open(request, timeout=timeout)
