"""Signs addresses of the Planetary Computer, whose storage refuses unsigned requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import display_name

_STORAGE = ".blob.core.windows.net"
"""End of the host names of the Planetary Computer's storage (Azure)."""

_SIGNATURE = {"sig", "se"}
"""Parameters of an address that is signed already."""

_TRIES = 4
"""How often the signing service is asked again after it failed."""


def is_signable(url: str) -> bool:
    """Whether an address lies in a storage that the Planetary Computer signs."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return host.endswith(_STORAGE) and not _SIGNATURE & set(parse_qs(parts.query))


def signed(url: str, afresh: bool = False) -> str:
    """The address with a signature, if it needs one; else the address itself.

    A signature is good for about an hour. It is kept and used again until a minute before its end.

    Args:
        afresh: Whether to ask for a new signature although the last one should still be good.

    Raises:
        SceneError: The package ``planetary-computer`` is missing, or its service refuses.
    """
    if not is_signable(url):
        return url
    try:
        import requests
        from planetary_computer import sas
    except ImportError:
        raise SceneError(
            f"{display_name(url)}: needs a signature of the Planetary Computer; install what "
            "makes it: pip install 'cwsam-geo[stac]'"
        ) from None
    if afresh:
        sas.TOKEN_CACHE.clear()
    host, path = urlsplit(url).hostname or "", urlsplit(url).path
    try:
        # This fills the cache that sign_url reads; sign_url itself would try for ten minutes.
        sas.get_token(host.split(".")[0], path.lstrip("/").split("/")[0], retry_total=_TRIES)
        return str(sas.sign_url(url))
    except (requests.RequestException, ValueError) as error:
        if _status(error) == 404:
            return url  # storage of somebody else, which may be public
        raise SceneError(
            f"{display_name(url)}: the Planetary Computer does not sign it ({_reason(error)}); "
            "try again later, or set PC_SDK_SUBSCRIPTION_KEY to the key of an account"
        ) from None


def _status(error: Any) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _reason(error: Exception) -> str:
    status = _status(error)
    return f"HTTP {status}" if status else type(error).__name__
