"""Reads files of STAC: an item, or an item collection (a GeoJSON FeatureCollection)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cwsam_geo.errors import SceneError

_LARGEST_COLLECTION = 512 << 20
"""Bytes of an item collection, at most: 50,000 items of 10 kB."""


def read_features(path: Path) -> tuple[list[Any], bool]:
    """The items of a file as JSON, and whether the file is a collection of them.

    Raises:
        SceneError: The file cannot be read, or is neither a STAC item nor an item collection.
    """
    data = read_json_file(path, _LARGEST_COLLECTION)
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "FeatureCollection" and isinstance(data.get("features"), list):
        return data["features"], True
    if kind == "Feature" and "assets" in data:
        return [data], False
    if kind in ("Catalog", "Collection"):
        raise SceneError(
            f"{path}: is a STAC {kind.lower()}, which only links to items; give the items, or an "
            "item collection (pystac-client: search(...).item_collection().save_object(FILE))"
        )
    raise SceneError(f"{path}: is neither a STAC item nor an item collection; give one of them")


def read_json_file(path: Path, largest: int) -> Any:
    """Reads JSON from a file of at most ``largest`` bytes.

    Raises:
        SceneError: The file cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > largest:
            raise SceneError(f"{path}: has more than {largest >> 20} MB; divide it")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SceneError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(f"{path}: cannot be read as JSON ({str(error)[:80]})") from None
