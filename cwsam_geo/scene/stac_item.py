"""STAC items: JSON files that say where the rasters of one acquisition are (stacspec.org)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import Location, display_name, is_remote
from cwsam_geo.io.signing import signed
from cwsam_geo.io.web import LARGEST_ANSWER, is_web, read_json
from cwsam_geo.scene.acquisition import Acquisition
from cwsam_geo.scene.band_names import file_name, only_polarisation
from cwsam_geo.scene.stac_file import read_features, read_json_file

_SUFFIXES = (".json", ".geojson")
"""Suffixes of files that may be items."""

_MEMBER = re.compile(r"(?P<file>.+\.(?:geo)?json)#(?P<id>.+)", re.IGNORECASE | re.DOTALL)
"""An item of a collection in a file: ``items.json#ID``."""

_API_ITEM = re.compile(r"/collections/[^/]+/items/[^/]+/?$")
"""End of the path of an item in a STAC API."""

_RASTER_TYPES = ("tiff", "geotiff", "jp2")
"""Words in the media type of an asset that is a raster."""

_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")

_ASIDE = {"thumbnail", "overview", "metadata", "visual"}
"""Roles of assets that are no measurement."""

_PLATFORM = re.compile(r"(?<![A-Za-z0-9])S1([A-D])(?![A-Za-z0-9])")
"""The satellite in the names of Sentinel-1 products and of OPERA's."""

_TRACK = re.compile(r"(?<![A-Za-z0-9])T(\d{3})-\d{6}-IW\d")
"""The track in a burst's name: T069-147170-IW1 (OPERA)."""

_POWER = re.compile(r"sentinel-?1-?.*rtc|opera_l2_rtc-s1|rtc-?s1", re.IGNORECASE)
"""Collections whose values are gamma nought as linear power, by their documentation."""


@dataclass(frozen=True)
class StacAsset:
    """One raster of an item.

    Attributes:
        href: Absolute address or path, as the catalogue has it: not signed.
        nodata: Nodata value that the item states, or None; NaN is a value.
        scale: Factor from stored to true values that the item states, or None.
        offset: Added after scaling, or None.
        unit: Unit that the item states, or None.
    """

    href: str
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    unit: str | None = None

    def location(self, afresh: bool = False) -> str:
        """What GDAL opens: signed where it must be, and s3 in GDAL's words.

        Raises:
            SceneError: See ``signed``.
        """
        return signed(self.href, afresh)


@dataclass(frozen=True)
class StacItem:
    """A STAC item.

    Attributes:
        id: Id of the item; any text, so no part of it may become a path.
        location: Where the item is: its path or address.
        collection: Id of the collection, or None.
        properties: The item's properties.
        geometry: Footprint as GeoJSON in degrees, or None.
        bbox: West, south, east, north of the footprint in degrees, or None.
        assets: Description of each asset, by key.
        trusted: Whether the item is a local file, which may name local rasters.
    """

    id: str
    location: str
    collection: str | None
    properties: Mapping[str, Any]
    geometry: Mapping[str, Any] | None
    bbox: tuple[float, float, float, float] | None
    assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trusted: bool = False

    def rasters(self) -> dict[str, StacAsset]:
        """The rasters of backscatter, by polarisation in upper case.

        Raises:
            SceneError: Two assets name one polarisation, or an address is not allowed.
        """
        named: dict[str, list[str]] = {}
        for key, asset in self.assets.items():
            name = _polarisation(key, asset) if _is_raster(asset) else None
            if name:
                named.setdefault(name, []).append(key)
        chosen = {}
        for name, keys in named.items():
            # The same file on the web and in a bucket: the web needs no account of the bucket's.
            web = [k for k in keys if is_web(self._href(k))]
            keys = web if len(web) == 1 else keys
            if len(keys) > 1:
                raise SceneError(
                    f"{self.label}: its assets {', '.join(keys[:4])} all name {name}; give the "
                    "address of one raster for each band instead of the item"
                )
            chosen[name] = self.asset(keys[0])
        return chosen

    def asset(self, key: str) -> StacAsset:
        """The asset with a key.

        Raises:
            SceneError: There is none, or its address is not allowed.
        """
        if key not in self.assets:
            raise SceneError(f"{self.label}: has no asset {key!r}, only {self._keys()}")
        data = self.assets[key]
        bands = data.get("raster:bands") or data.get("bands")
        band = bands[0] if isinstance(bands, list) and bands else {}
        band = {**data, **band} if isinstance(band, dict) else data
        return StacAsset(
            href=self._href(key),
            nodata=_number(band.get("nodata")),
            scale=_number(band.get("raster:scale", band.get("scale"))),
            offset=_number(band.get("raster:offset", band.get("offset"))),
            unit=band.get("unit") if isinstance(band.get("unit"), str) else None,
        )

    @property
    def label(self) -> str:
        """The item's place in messages, without query string."""
        return display_name(self.location)

    @property
    def units(self) -> str | None:
        """``power`` for collections whose documentation says so; None if nothing is known."""
        known = _POWER.search(self.collection or "") or _POWER.search(self.id)
        return "power" if known else None

    @property
    def start(self) -> datetime | None:
        """Time of the first echo; the time of the item if it has only one."""
        return _time(self.properties.get("start_datetime")) or _time(
            self.properties.get("datetime")
        )

    @property
    def end(self) -> datetime | None:
        """Time of the last echo; the time of the item if it has only one."""
        return _time(self.properties.get("end_datetime")) or self.start

    @property
    def platform(self) -> str | None:
        """The satellite in lower case, by the item's properties or by its id."""
        named = self.properties.get("platform")
        if isinstance(named, str) and named.strip():
            return named.strip().lower()[:40]
        match = _PLATFORM.search(self.id.replace("_", " "))
        return f"sentinel-1{match[1].lower()}" if match else None

    @property
    def orbit(self) -> str | None:
        """``ascending`` or ``descending``, or None where the item does not say."""
        state = str(self.properties.get("sat:orbit_state") or "").lower()
        return state if state in ("ascending", "descending") else None

    @property
    def relative_orbit(self) -> int | None:
        """Number of the track, by the item's properties or by its id."""
        number = self.properties.get("sat:relative_orbit")
        if isinstance(number, int) and not isinstance(number, bool):
            return number
        match = _TRACK.search(self.id.replace("_", " "))
        return int(match[1]) if match else None

    @property
    def acquisition(self) -> Acquisition:
        """What the tags of a map keep of this item."""
        licence = self.properties.get("license")
        return Acquisition(
            items=(self.id,),
            collection=self.collection,
            start=iso(self.start),
            end=iso(self.end),
            platform=self.platform,
            orbit=self.orbit,
            relative_orbit=self.relative_orbit,
            licence=licence if isinstance(licence, str) else None,
            source=self.label,
        )

    def _href(self, key: str) -> str:
        href = self.assets[key].get("href")
        if not isinstance(href, str) or not href:
            raise SceneError(f"{self.label}: its asset {key!r} has no address (href)")
        return _absolute(href, self.location, self.trusted, f"{self.label}: asset {key!r}")

    def _keys(self) -> str:
        keys = list(self.assets)
        return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "") or "none"


def is_item(location: Location) -> bool:
    """Whether a location is a STAC item.

    That is a JSON file that says so, ``FILE#ID`` for an item of a collection, or an address of the
    form that items have.
    """
    text = os.fspath(location)
    member = _MEMBER.fullmatch(text)
    if member and not is_remote(text) and not os.path.exists(text):
        return os.path.isfile(member["file"])
    if is_web(text):
        page = urlsplit(text).path
        return page.lower().endswith(_SUFFIXES) or bool(_API_ITEM.search(page))
    if is_remote(text) or not text.lower().endswith(_SUFFIXES):
        return False
    path = Path(text)
    # GDAL reads other JSON files, such as the metadata of a Zarr array.
    return path.is_file() and b'"stac_version"' in _head(path)


def read_item(location: Location) -> StacItem:
    """Reads a STAC item from a file, from a collection in a file (``FILE#ID``) or an address.

    Raises:
        SceneError: It cannot be read, or is no STAC item.
    """
    text = os.fspath(location)
    if is_web(text):
        return parse_item(read_json(text), text)
    member = _MEMBER.fullmatch(text)
    if member is None or os.path.exists(text):
        return parse_item(read_json_file(Path(text), LARGEST_ANSWER), text, trusted=True)
    features, _ = read_features(Path(member["file"]))
    found = [f for f in features if isinstance(f, dict) and str(f.get("id")) == member["id"]]
    if len(found) != 1:
        raise SceneError(f"{text}: {member['file']} has {len(found)} items of that id, not one")
    return parse_item(found[0], member["file"], trusted=True)


def parse_item(data: Any, location: str, trusted: bool = False) -> StacItem:
    """Reads a STAC item from its JSON.

    Args:
        data: The JSON, from a file or a catalogue; nothing about it is taken for granted.
        location: Path or address of the item, to which its relative addresses refer.
        trusted: Whether the item is a file of the user's own, which may name local rasters.

    Raises:
        SceneError: It is no STAC item.
    """
    name = display_name(location)
    if not isinstance(data, dict) or data.get("type") != "Feature" or "assets" not in data:
        kind = data.get("type") if isinstance(data, dict) else None
        advice = (
            "give the address of one of its items"
            if kind in ("Catalog", "Collection", "FeatureCollection")
            else "give a raster, or the JSON of a STAC item"
        )
        what = f"a STAC {kind}" if isinstance(kind, str) and kind else "no STAC item"
        raise SceneError(f"{name}: is {what[:60]}; {advice}")
    assets, properties = data["assets"], data.get("properties")
    if not (isinstance(assets, dict) and all(isinstance(a, dict) for a in assets.values())):
        raise SceneError(f"{name}: is no STAC item: its assets are no JSON objects")
    geometry, collection = data.get("geometry"), data.get("collection")
    return StacItem(
        id=str(data.get("id") or "")[:200],
        location=location,
        collection=collection[:200] if isinstance(collection, str) else None,
        properties=properties if isinstance(properties, dict) else {},
        geometry=geometry if isinstance(geometry, dict) else None,
        bbox=_bbox(data.get("bbox")),
        assets=assets,
        trusted=trusted,
    )


def iso(time: datetime | None) -> str | None:
    """A time as ISO 8601 in UTC to the second."""
    return None if time is None else time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _absolute(href: str, base: str, trusted: bool, what: str) -> str:
    """The address of an asset, checked: web, S3 or Google's storage; local only where trusted."""
    # "c:" is a drive, no scheme.
    if not is_web(base) and len(urlsplit(href).scheme) < 2:
        if not trusted:
            raise SceneError(f"{what}: its address {href[:80]!r} is relative to nothing")
        return os.path.normpath(Path(base).parent / href)
    address = urljoin(base, href) if is_web(base) else href
    scheme = urlsplit(address).scheme.lower()
    if is_web(address) or (scheme in ("s3", "gs") and urlsplit(address).netloc):
        return address
    if scheme == "file" and trusted:
        return unquote(urlsplit(address).path)
    raise SceneError(
        f"{what}: its address {display_name(href)[:80]!r} is none of https, http, s3 and gs; "
        "download the raster and give the file"
    )


def _is_raster(asset: Mapping[str, Any]) -> bool:
    roles = asset.get("roles")
    if isinstance(roles, list) and _ASIDE & {str(r).lower() for r in roles}:
        return False
    kind = str(asset.get("type") or "").lower()
    # Some catalogues give all files the type of a download.
    name = file_name(str(asset.get("href"))).lower()
    return any(word in kind for word in _RASTER_TYPES) or name.endswith(_RASTER_SUFFIXES)


def _polarisation(key: str, asset: Mapping[str, Any]) -> str | None:
    listed = asset.get("sar:polarizations")
    if isinstance(listed, list) and len(listed) == 1:
        return only_polarisation(str(listed[0]))
    return only_polarisation(key) or only_polarisation(file_name(str(asset.get("href"))))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)  # "nan" and "inf" are text in JSON
    except ValueError:
        return None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    # Python 3.10 knows neither Z nor other than three or six digits of a second.
    text = re.sub(r"\.\d+", "", value.strip().upper().replace("Z", "+00:00"))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _bbox(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) not in (4, 6):
        return None
    numbers = list(_numbers(value))
    if len(numbers) != len(value):
        return None
    half = len(numbers) // 2  # with heights: west, south, low, east, north, high
    return numbers[0], numbers[1], numbers[half], numbers[half + 1]


def _numbers(values: list[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield float(value)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
