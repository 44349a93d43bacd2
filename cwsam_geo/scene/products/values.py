"""Numbers in the metadata of products, which may be missing or damaged."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """A finite number from text or JSON; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except ValueError:
        return None
    return result if math.isfinite(result) else None
