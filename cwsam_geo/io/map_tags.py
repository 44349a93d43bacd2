"""The names of the tags of a map, and what they hold: ``prediction.provenance`` writes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

VERSION_TAG = "CWSAM_GEO_VERSION"
"""Tag in every raster that ``predict`` writes."""

MODEL_TAG = "CWSAM_GEO_MODEL"
SETTINGS_TAG = "CWSAM_GEO_SETTINGS"
INPUT_TAG = "CWSAM_GEO_INPUT"
WARNINGS_TAG = "CWSAM_GEO_WARNINGS"

GEOCODING_TAG = "CWSAM_GEO_GEOCODING"
"""Tag of rasters that were laid on a map grid: a JSON object with how, and how exactly."""

DATE_TAG = "TIFFTAG_DATETIME"
SOFTWARE_TAG = "TIFFTAG_SOFTWARE"


def read_provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    """Reads model, settings, geocoding, input and warnings from the tags of a map."""
    warnings = _parsed(tags.get(WARNINGS_TAG))
    return {
        "version": tags.get(VERSION_TAG),
        "model": _object(tags.get(MODEL_TAG)),
        "settings": _object(tags.get(SETTINGS_TAG)),
        "geocoding": _object(tags.get(GEOCODING_TAG)),
        "input": tags.get(INPUT_TAG),
        "date": tags.get(DATE_TAG),
        "warnings": [str(w) for w in warnings] if isinstance(warnings, list) else [],
    }


def _object(text: str | None) -> dict[str, Any] | None:
    value = _parsed(text)
    return value if isinstance(value, dict) else None


def _parsed(text: str | None) -> Any:
    """The JSON in a tag; None without the tag, or if another program has changed it."""
    with contextlib.suppress(ValueError):
        return json.loads(text or "null")
    return None
