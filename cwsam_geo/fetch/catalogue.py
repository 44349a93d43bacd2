"""STAC APIs: searched with pystac-client, with bounds on what a server may send."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.fetch.options import Bounds
from cwsam_geo.io.raster_file import display_name
from cwsam_geo.io.web import LARGEST_ANSWER, LONGEST_WAIT_S, USER_AGENT, Patience, is_web
from cwsam_geo.scene.stac_item import StacItem, parse_item

MOST_ITEMS = 5000
"""Items of one search. One place has about 10 of a satellite in a month."""

_PAGE = 100
"""Items of one answer."""

_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP status of answers after which a request is repeated."""


@dataclass(frozen=True)
class Source:
    """A catalogue.

    Attributes:
        url: Address of its STAC API.
        collection: Its collection of Sentinel-1, or None if the user must name one.
        problem: Why its scenes cannot be fetched, and what to do; None if they can.
    """

    url: str
    collection: str | None = None
    problem: str | None = None


PLANETARY_COMPUTER = "planetary-computer"

GRD = (
    "holds GRD as delivered: digital numbers that are not terrain-corrected and not on a map grid; "
    "take --source planetary-computer (RTC, gamma nought), or download the .SAFE of a product that "
    "--dry-run lists and give it to predict"
)
"""Why a collection of GRD is not fetched, and what to do."""

SOURCES = {
    PLANETARY_COMPUTER: Source(
        "https://planetarycomputer.microsoft.com/api/stac/v1", "sentinel-1-rtc"
    ),
    "earth-search": Source("https://earth-search.aws.element84.com/v1", "sentinel-1-grd", GRD),
    "opera": Source("https://cmr.earthdata.nasa.gov/stac/ASF", "OPERA_L2_RTC-S1_V1_1"),
}
"""The catalogues that have a name."""


def find_source(name: str, collection: str | None) -> Source:
    """The catalogue with a name or address, and the collection to search.

    Raises:
        UsageError: It is neither a name nor an address, or has no collection of its own.
    """
    source = SOURCES.get(name)
    if source is None and is_web(name):
        source = Source(name.rstrip("/"), collection or "sentinel-1-rtc")
    if source is None:
        raise UsageError(
            f"--source {name}: is none of {', '.join(SOURCES)}, and no http(s) address of a STAC "
            "API"
        )
    chosen = collection or source.collection
    return Source(source.url, chosen, source.problem if chosen == source.collection else None)


class Catalogue:
    """An open STAC API.

    Args:
        url: Its address.
        patience: How often a request is repeated.

    Raises:
        SceneError: pystac-client is missing, or the server gives no STAC API.
    """

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self.label = display_name(url)
        with self._answers("is no STAC API, or cannot be reached"):
            self._client = _client(url, patience or Patience())

    def collection(self, name: str) -> dict[str, Any]:
        """The description of a collection.

        Raises:
            UsageError: There is no such collection.
            SceneError: The server fails.
        """
        from pystac_client.exceptions import APIError

        with self._answers(f"collection {name}"):
            try:
                found = self._client.get_collection(name)
            except (APIError, KeyError) as error:
                if getattr(error, "status_code", None) not in (None, 404):
                    raise
                found = None
            if found is not None:
                description: dict[str, Any] = found.to_dict(
                    include_self_link=False, transform_hrefs=False
                )
                return description
        raise UsageError(f"{self.label}: has no collection {name}; name another with --collection")

    def search(self, collection: str, boxes: Sequence[Bounds], dates: str | None) -> list[StacItem]:
        """The items of a collection that meet some rectangles in a span of time, each once.

        Args:
            boxes: Rectangles in degrees, within -180 to 180.
            dates: A day, or first and last day; None for any time.

        Raises:
            SceneError: The server fails, or sends what is no item.
            UsageError: There are too many items.
        """
        items: dict[str, StacItem] = {}
        with self._answers("the search"):
            for bounds in boxes:
                found = self._client.search(
                    collections=[collection],
                    bbox=list(bounds),
                    datetime=dates,
                    limit=_PAGE,
                    max_items=MOST_ITEMS + 1,
                )
                for data in found.items_as_dicts():
                    item = parse_item(data, self._address(data))
                    items.setdefault(item.id, item)
                    if len(items) > MOST_ITEMS:
                        raise UsageError(
                            f"{self.label}: has more than {MOST_ITEMS} items of {collection} "
                            "there; give a smaller area or fewer days"
                        )
        return list(items.values())

    def _address(self, data: Any) -> str:
        """The address of an item, which its links say; the API's where they say none."""
        links = data.get("links") if isinstance(data, dict) else None
        for link in links if isinstance(links, list) else ():
            if isinstance(link, dict) and link.get("rel") == "self":
                address = link.get("href")
                if isinstance(address, str) and is_web(address):
                    return address
        return str(self._client.get_self_href() or self.label)

    @contextlib.contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        """Turns failures of a server, and answers that make no sense, into one clear line."""
        try:
            with warnings.catch_warnings():
                # About conformance classes, which the user cannot change.
                warnings.simplefilter("ignore")
                yield
        except ImportError:
            raise SceneError("fetch needs pystac-client: pip install 'cwsam-geo[stac]'") from None
        except (SceneError, UsageError):
            raise
        except Exception as error:
            # pystac and pystac-client raise many types for answers that are no STAC.
            raise SceneError(f"{self.label}: {what} ({_reason(error)})") from None


def licence_of(collection: dict[str, Any]) -> str | None:
    """The licence of a collection: its SPDX name, or the title of its link."""
    name = collection.get("license")
    links = collection.get("links")
    titles = [
        str(link.get("title") or link.get("href"))
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, dict) and link.get("rel") == "license"
    ]
    if name in (None, "proprietary", "various", "other") and titles:
        return titles[0][:200]
    return str(name)[:200] if name else None


def _client(url: str, patience: Patience) -> Any:
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO
    from requests import PreparedRequest, RequestException, Response
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    class PatientRetry(Retry):
        """Waits as the server asks (``Retry-After``), up to a limit."""

        def get_retry_after(self, response: Any) -> float | None:
            seconds = super().get_retry_after(response)
            return None if seconds is None else min(seconds, LONGEST_WAIT_S)

    class BoundedAdapter(HTTPAdapter):  # type: ignore[misc]
        """Reads answers up to a limit, so that no server fills the memory."""

        def send(self, request: PreparedRequest, *args: Any, **more: Any) -> Response:
            response = super().send(request, *args, **{**more, "stream": True})
            pieces, size = [], 0
            for piece in response.iter_content(1 << 16):
                pieces.append(piece)
                size += len(piece)
                if size > LARGEST_ANSWER:
                    response.close()
                    raise RequestException(
                        f"the server's answer has more than {LARGEST_ANSWER >> 20} MB"
                    )
            response._content = b"".join(pieces)
            return response

    class WebOnly(StacApiIO):  # type: ignore[misc]
        """Reads addresses only: a link of an answer must not name a local file."""

        def read_text(self, source: Any, *args: Any, **more: Any) -> str:
            address = getattr(source, "href", source)
            if not is_web(str(address)):
                raise SceneError(f"{display_name(url)}: links to {str(address)[:80]!r}")
            return str(super().read_text(source, *args, **more))

    retry = PatientRetry(
        total=patience.attempts - 1,
        backoff_factor=patience.pause_s / 2,
        status_forcelist=_TEMPORARY,
        allowed_methods=None,
        raise_on_status=False,
    )
    stac_io = WebOnly(
        headers={"User-Agent": USER_AGENT}, timeout=patience.timeout_s, max_retries=None
    )
    for scheme in ("http://", "https://"):
        stac_io.session.mount(scheme, BoundedAdapter(max_retries=retry))
    return Client.open(url, stac_io=stac_io)


def _reason(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())
    # Messages of requests name the address again, and the object in which it happened.
    text = text.split("Caused by ")[-1].strip("()\"'")
    text = text[:160] or type(error).__name__
    return f"HTTP {status}: {text}" if status else text
