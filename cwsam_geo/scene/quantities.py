"""Names of quantities that are delivered beside backscatter: angles, masks, counts."""

from __future__ import annotations

import re

_COMPUTED = re.compile(
    r"(std|stdev|stddev|var|variance|count|ratio|coh|coherence|angle|incidence|inc|phase|entropy|"
    r"glcm|texture|mask|quality|weight)s?",
    re.IGNORECASE,
)
"""Quantities that are computed from a polarisation but are no backscatter (GEE's VV_stdDev)."""

_BESIDE = re.compile(
    r"((data|shadow|valid|water|land|cloud|nodata)?mask|lia|linci|theta|azimuth|layover|shadow|"
    r"elevation|elev|dem|dsm|dtm|height|slope|aspect|lat|latitude|lon|longitude|date|doy|epoch|"
    r"looks|area|anf|qa|rvi|ndpi|alpha|anisotropy)s?",
    re.IGNORECASE,
)
"""Quantities that products hold beside backscatter: Sentinel Hub's dataMask, SNAP's
localIncidenceAngle, OPERA's number_of_looks, the date and qa of PALSAR mosaics."""

_FILE_END = re.compile(
    r"(?:^|[_\-. ])((?:local_|ellipsoid_)?inc(?:idence)?(?:_angle)?(?:_map)?|angle|lia|linci|"
    r"ls_?map|(?:data|shadow|layover_shadow_|valid_?|water)?mask|dem|elevation|area|rgb|"
    r"number_of_looks|rtc_anf\w*|(?:vv|vh|hh|hv)_(?:mask|angle|inc|coh|coherence|phase|std|count))$",
    re.IGNORECASE,
)
"""Ends of the names of files that come with a scene and are none: HyP3's inc_map, ls_map, area,
dem and rgb, and OPERA's mask and number_of_looks."""


_BACKSCATTER = re.compile(
    r"(sigma|gamma|beta|naught|nought|backscatter|intensity|amplitude|power|db|sar|radar)\d*",
    re.IGNORECASE,
)

_MOST_WORDS = 4
"""Words from which on a text is a sentence, which may name many things."""


def is_computed(text: str) -> bool:
    """Whether a text names a quantity computed from backscatter.

    Args:
        text: A text without the polarisations in it.
    """
    return any(map(_COMPUTED.fullmatch, _words(text)))


def quantity_beside(text: str) -> bool:
    """Whether a text that names no polarisation names a quantity other than backscatter."""
    words = _words(text)
    if any(map(_BACKSCATTER.fullmatch, words)) or len(text.split()) > _MOST_WORDS:
        return False
    return any(_COMPUTED.fullmatch(word) or _BESIDE.fullmatch(word) for word in words)


def file_beside(stem: str) -> str | None:
    """The end of a file's name that says that the file holds no backscatter; else None.

    Args:
        stem: The name without its suffix.
    """
    match = _FILE_END.search(stem)
    return match[1] if match else None


def _words(text: str) -> list[str]:
    """The words of a text, and those that are joined in it (``localIncidenceAngle``)."""
    words = re.findall(r"[A-Za-z]+", text)
    return [*words, *(part for word in words for part in re.findall(r"[A-Z]?[a-z]+", word))]
