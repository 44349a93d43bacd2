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

_SILENT_TRIES = 1
"""How often it is asked again after it was silent for ``_TIMEOUT_S``."""

_TIMEOUT_S = (20.0, 30.0)
"""Seconds to wait for a connection, and for an answer: a token takes less than a second."""

_LEAST_LEFT_S = 60.0
"""Seconds. A token that ends sooner is not used."""


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
        SceneError: The package ``planetary-computer`` is missing, or its service refuses or does
            not answer.
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
        token = _token(host.split(".")[0], path.lstrip("/").split("/")[0])
        return str(token.sign(url).href)
    except (requests.RequestException, ValueError) as error:
        if _status(error) == 404:
            return url  # storage of somebody else, which may be public
        raise SceneError(
            f"{display_name(url)}: the Planetary Computer does not sign it ({_reason(error)}); "
            "try again later, or set PC_SDK_SUBSCRIPTION_KEY to the key of an account"
        ) from None


def _token(account: str, container: str) -> Any:
    """The token for a container of the storage.

    The request is that of ``planetary_computer.sas.get_token``, which would wait for ever for a
    service that does not answer.
    """
    import requests
    from planetary_computer import sas
    from planetary_computer.settings import Settings
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    settings = Settings.get()
    address = f"{settings.sas_url}/{account}/{container}"
    token = sas.TOKEN_CACHE.get(address)
    if token is not None and token.ttl() >= _LEAST_LEFT_S:
        return token
    key = settings.subscription_key
    retry = Retry(
        total=_TRIES,
        connect=_SILENT_TRIES,
        read=_SILENT_TRIES,
        backoff_factor=0.8,
        status_forcelist=(429, 500, 502, 503, 504),
    )
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        headers = {"Ocp-Apim-Subscription-Key": key} if key else None
        response = session.get(address, headers=headers, timeout=_TIMEOUT_S)
        response.raise_for_status()
        token = sas.SASToken(**response.json())
    sas.TOKEN_CACHE[address] = token
    return token


def _status(error: Any) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _reason(error: Exception) -> str:
    from requests import ConnectionError, Timeout

    status = _status(error)
    if status:
        return f"HTTP {status}"
    # After several tries a timeout is part of another error's message.
    silent = isinstance(error, Timeout) or "timed out" in str(error)
    if silent:
        return "its signing service does not answer"
    lost = isinstance(error, ConnectionError)
    return "its signing service cannot be reached" if lost else type(error).__name__
