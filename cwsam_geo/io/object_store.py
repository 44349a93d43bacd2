"""Object stores and other places with a URL that fsspec can write to, and their failures."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError, one_line
from cwsam_geo.io.raster_file import display_name

_URL = re.compile(r"^[a-z][a-z0-9+]+://", re.IGNORECASE)
_FILE = re.compile(r"^file://", re.IGNORECASE)

_REASONS = (
    (
        re.compile(r"NO.?SUCH.?BUCKET|bucket does not exist|Bucket '.*' not found", re.IGNORECASE),
        "there is no such bucket; create it, or correct the address",
    ),
    (
        re.compile(
            r"ACCESS.?DENIED|FORBIDDEN|ACCESS.?KEY|SIGNATURE|CREDENTIAL|UNAUTHORIZED",
            re.IGNORECASE,
        ),
        "access is denied; set keys that may write there (S3: AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
    ),
    (
        re.compile(
            r"NETWORK_CONNECTION|CURLCODE|could ?n.t (connect|resolve)|connection refused",
            re.IGNORECASE,
        ),
        "no server answers; check the network, and AWS_ENDPOINT_URL if the store is not Amazon's",
    ),
)
"""What the messages of the stores' libraries mean."""


def is_url(location: str) -> bool:
    """Whether a location is a URL, such as ``s3://bucket/name``, and no path on this machine."""
    return bool(_URL.match(location)) and not _FILE.match(location)


def without_file_scheme(location: str) -> str:
    """The path of a location on this machine, which may be written as ``file://...``."""
    return _FILE.sub("", location)


def file_system(url: str, option: str) -> tuple[Any, str]:
    """A file system of fsspec for a URL, and the path in it.

    S3 and Google's store need no further package: Arrow serves where fsspec lacks its own.

    Args:
        option: The option that the user gave the URL to, for messages.

    Raises:
        UsageError: Nobody knows such URLs.
        OutputError: Arrow knows such stores, but cannot reach this one.
    """
    import fsspec
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    try:
        # What other workers have written must not be hidden by an old listing.
        system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        try:
            arrow, root = FileSystem.from_uri(url)
        except (ValueError, NotImplementedError):
            # Arrow does not know such URLs either: fsspec's words say what would.
            raise UsageError(f"{option} {display_name(url)}: {_line(error)}") from None
        except OSError as failure:  # it asks S3 where the bucket is
            reason = _reason(failure, "choose another place")
            raise OutputError(f"{option} {display_name(url)}: {reason}") from failure
        system = ArrowFSWrapper(arrow)
    return system, str(root)


@contextlib.contextmanager
def telling(place: str | Path, advice: str) -> Iterator[None]:
    """Turns the failures of a disk or a store into OutputError.

    Args:
        place: The file or folder, for the message.
        advice: What to do where the failure does not say it.

    Raises:
        OutputError: Reading or writing failed.
    """
    try:
        yield
    except CwsamGeoError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(f"{place}: the disk is full; free some space, or {advice}") from error
        raise OutputError(f"{place}: {_reason(error, advice)}") from error
    except Exception as error:  # the stores' libraries have errors of their own
        raise OutputError(f"{place}: {_reason(error, advice)}") from error


def _reason(error: Exception, advice: str) -> str:
    # Without the name of the file, which could hold any of the words.
    said = (isinstance(error, OSError) and error.strerror) or _line(error)
    for sign, reason in _REASONS:
        if sign.search(said):
            return reason
    return f"{said}; check that this can be written, or {advice}"


def _line(error: BaseException) -> str:
    return one_line(str(error)).rstrip(".") or type(error).__name__
