"""Names and colours of the values of a class raster."""

from __future__ import annotations

import colorsys
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rasterio.errors import RasterioError

from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.io.legend_file import tagged_legend
from cwsam_geo.legend import LegendEntry

_GOLDEN = 0.618033988749895


@dataclass(frozen=True)
class ClassNames:
    """What the values of a raster mean; values may be any whole numbers.

    Attributes:
        known: Name and ``#rrggbb`` of the values that the raster explains.
        named: True where the raster names its classes.
        label: The raster, for messages.
    """

    known: Mapping[int, tuple[str, str]]
    named: bool
    label: str

    def name(self, value: int) -> str:
        """Name of a value; ``class N`` where the raster has none."""
        return self.known[value][0] if value in self.known else f"class {value}"

    def color(self, value: int) -> str:
        """Colour of a value as ``#rrggbb``; a colour of its own where the raster has none."""
        return self.known[value][1] if value in self.known else _color(value)

    def select(self, wanted: Iterable[str]) -> frozenset[int]:
        """Values of classes given by name or number.

        Raises:
            LegendError: The raster names its classes, and one is not among them.
            UsageError: A name was given and the raster has no names.
        """
        return frozenset(self._value(text.strip()) for text in wanted)

    def _value(self, text: str) -> int:
        by_name = {name: value for value, (name, _) in self.known.items()}
        if text in by_name:
            return by_name[text]
        number: int | None = None
        with contextlib.suppress(ValueError):
            number = int(text)
        if number is not None and (number in self.known or not self.named):
            return number
        if not self.named:
            raise UsageError(
                f"{self.label}: has no class names, so --classes takes numbers, not {text!r}"
            )
        have = ", ".join(f"{value} {self.known[value][0]}" for value in sorted(self.known))
        raise LegendError(f"{self.label}: no class {text!r} in its legend (it has: {have})")


def class_names(dataset: Any, label: str) -> ClassNames:
    """The classes of an open raster: from its ``LEGEND`` tag, its palette, or nothing.

    Raises:
        LegendError: The ``LEGEND`` tag is malformed.
    """
    legend = tagged_legend(dataset.tags(), label)
    if legend is not None:
        return ClassNames({e.code: _explained(e) for e in legend.entries}, True, label)
    palette: dict[int, tuple[int, int, int, int]] = {}
    with contextlib.suppress(ValueError, RasterioError):
        palette = dataset.colormap(1)
    known = {
        value: (f"class {value}", "#{:02x}{:02x}{:02x}".format(*rgba[:3]))
        for value, rgba in palette.items()
        if rgba[3] > 0
    }
    return ClassNames(known, False, label)


def _explained(entry: LegendEntry) -> tuple[str, str]:
    return entry.name, entry.color


def _color(value: int) -> str:
    # Steps of the golden ratio around the colour wheel: neighbours in value differ clearly.
    rgb = colorsys.hsv_to_rgb((value * _GOLDEN) % 1.0, 0.55 + 0.15 * (value % 3), 0.85)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * v) for v in rgb))
