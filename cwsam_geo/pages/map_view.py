"""The zoomable map of a report: its layers and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.pages.layers import Layer
from cwsam_geo.pages.placement import north_is_up, pixel_sides, placement
from cwsam_geo.pages.pyramid import PICTURE_SIDE, SIDE

_CHARACTERS = 13_000_000
"""Characters of all layers together, about: with Leaflet, still pictures and tables a page has less
than 15 MB, which mail still takes."""


def layer_budget(layers: int) -> int:
    """Characters that each of so many layers may take."""
    return _CHARACTERS // max(1, layers)


@dataclass(frozen=True)
class MapView:
    """A map with layers in the pixel space of its grid.

    Attributes:
        label: What the map shows, for those who do not see it.
        location: Georeferencing of the grid.
        layers: The lowest first.
    """

    label: str
    location: Geolocation
    layers: Sequence[Layer]

    @property
    def captions(self) -> list[str]:
        """Sentences below the map."""
        return [layer.caption for layer in self.layers if layer.caption]

    @property
    def extent(self) -> str:
        """A sentence on what the still pictures show; empty without a place on the ground."""
        grid, sides = self.location.grid, pixel_sides(self.location)
        if sides is None:
            return ""
        across, down = (n * side for n, side in zip((grid.width, grid.height), sides, strict=True))
        unit, scale = ("km", 1000) if max(across, down) >= 1000 else ("m", 1)
        size = f"Each picture shows {across / scale:.3g} x {down / scale:.3g} {unit}"
        return f"{size}; north is up." if north_is_up(self.location) else f"{size}."

    def to_dict(self) -> dict[str, Any]:
        """The map for the page's script."""
        grid = self.location.grid
        return {
            "width": grid.width,
            "height": grid.height,
            "side": SIDE,
            "pictureSide": PICTURE_SIDE,
            "place": placement(self.location),
            "layers": [layer.to_dict() for layer in self.layers],
        }
