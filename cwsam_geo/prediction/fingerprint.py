"""The fingerprint of a map: everything that can change one of its pixels.

Two runs with equal fingerprints make the same map. A fingerprint holds what was asked for, not what
was decided of it, so that it is known before a pixel of the scene is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.scene.file_states import file_states, local_state
from cwsam_geo.scene.source import RasterSource

FINGERPRINT_TAG = "CWSAM_GEO_FINGERPRINT"
"""Tag in every raster that ``predict`` writes."""

_NAMED = 3
"""Differences that a message names; more would hide what to do."""

_RESOLVED = {"model", "device", "precision", "aoi"}
"""Options that the fingerprint holds in another form: a name may come to mean something else."""


@dataclass(frozen=True)
class ModelIdentity:
    """A model and how it computes.

    Attributes:
        sha256: Hash of the bundle's file; None for a model that was made in memory.
        precision: Number format of the arithmetic.
        device: Kind of the device: ``cpu``, ``cuda`` or ``mps``.
    """

    sha256: str | None
    precision: str
    device: str


def fingerprint(
    source: RasterSource, options: PredictOptions, rasters: Mapping[str, int], model: ModelIdentity
) -> dict[str, Any]:
    """What can change a pixel of a map, as JSON values with readable keys.

    Args:
        source: The scene as it was opened.
        rasters: Number of bands of each raster that is written, by name.
    """
    asked = {
        f"--{field.name.replace('_', '-')}": getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in _RESOLVED
    }
    known = {
        "cwsam-geo": __version__,
        "model": model.sha256,
        "device": model.device,
        "precision": model.precision,
        "file": file_states(source),
        "size": [source.grid.height, source.grid.width],
        "band": {str(n): repr(b) for n, b in zip(source.numbers, source.bands, strict=True)},
        "raster": dict(rasters),
        "--aoi": None if options.aoi is None else local_state(options.aoi),
        **asked,
    }
    plain: dict[str, Any] = json.loads(json.dumps(known, default=str))
    # NaN equals nothing, not even itself.
    return {k: str(v) if isinstance(v, float) else v for k, v in plain.items()}


def as_text(known: Mapping[str, Any]) -> str:
    """A fingerprint as the tag ``CWSAM_GEO_FINGERPRINT`` holds it."""
    return json.dumps(known, sort_keys=True, separators=(",", ":"))


def read_fingerprint(tags: Mapping[str, str]) -> dict[str, Any] | None:
    """The fingerprint in a map's tags; None without one, or if another program has changed it."""
    try:
        value = json.loads(tags.get(FINGERPRINT_TAG, "null"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The differences between two fingerprints in words; None if there are none."""
    before, after = dict(_flat(earlier)), dict(_flat(now))
    keys = [k for k in dict.fromkeys([*after, *before]) if before.get(k) != after.get(k)]
    if not keys:
        return None
    texts = [f"{k} was {_word(before.get(k))}, now {_word(after.get(k))}" for k in keys[:_NAMED]]
    more = len(keys) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _word(value: Any) -> str:
    if value is None:
        return "none"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text
