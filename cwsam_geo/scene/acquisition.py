"""What a catalogue says about a scene: kept in the tags of all that is made from the scene."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SCENE_TAG = "CWSAM_GEO_SCENE"
"""Tag with an ``Acquisition`` as JSON, in scenes that ``fetch`` writes and in maps of them."""


@dataclass(frozen=True)
class Acquisition:
    """Where a scene comes from.

    Attributes:
        items: Ids of the STAC items that it was made from.
        collection: Id of their collection.
        start: Time of the first echo as ISO 8601 in UTC, or None.
        end: Time of the last echo.
        platform: Satellite, such as ``sentinel-1a``.
        orbit: ``ascending`` or ``descending``.
        relative_orbit: Number of the track.
        licence: Licence of the data, as the catalogue states it.
        source: Address of the catalogue or of the item, without query string.
    """

    items: tuple[str, ...] = ()
    collection: str | None = None
    start: str | None = None
    end: str | None = None
    platform: str | None = None
    orbit: str | None = None
    relative_orbit: int | None = None
    licence: str | None = None
    source: str | None = None

    def to_json(self) -> str:
        """The fields that are known, as a JSON object."""
        return json.dumps({k: v for k, v in asdict(self).items() if v}, ensure_ascii=False)

    @property
    def words(self) -> str:
        """The scene in a few words: date, satellite, orbit and track."""
        when = (self.start or "").replace("T", " ")[:16]
        track = None if self.relative_orbit is None else str(self.relative_orbit)
        return " ".join(filter(None, (when, self.platform, self.orbit, track))) or "no date"

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Acquisition | None:
        """Reads the tag ``SCENE_TAG``; None without it, or if another program has changed it."""
        with contextlib.suppress(ValueError, TypeError):
            data: Any = json.loads(tags.get(SCENE_TAG) or "null")
            known = {f.name for f in fields(cls)}
            if isinstance(data, dict) and set(data) <= known:
                return cls(**{**data, "items": tuple(data.get("items", ()))})
        return None
