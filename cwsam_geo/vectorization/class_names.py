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

# Fractional part of the golden ratio: the step of the hue, in turns of the colour wheel.
_GOLDEN = 0.618033988749895


@dataclass(frozen=True)
class ClassNames:
    """Names and colours of the values of a raster, which may be any integers.

    Attributes:
        known: Name and ``#rrggbb`` of each value in the raster's legend or palette.
        named: True where the raster has a legend with class names.
        label: Name of the raster in messages.
    """

    known: Mapping[int, tuple[str, str]]
    named: bool
    label: str

    def name(self, value: int) -> str:
        """Name of a value; ``class N`` where the raster names no such class."""
        return self.known[value][0] if value in self.known else f"class {value}"

    def color(self, value: int) -> str:
        """Colour of a value as ``#rrggbb``; a generated one where the raster has none."""
        return self.known[value][1] if value in self.known else _color(value)

    def select(self, wanted: Iterable[str]) -> frozenset[int]:
        """Values of classes given by name or number.

        Raises:
            LegendError: A class is not in the raster's legend.
            UsageError: A class is given by name, but the raster has no class names.
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
        available = ", ".join(f"{value} {self.known[value][0]}" for value in sorted(self.known))
        raise LegendError(f"{self.label}: no class {text!r} in its legend (it has: {available})")


def class_names(dataset: Any, label: str) -> ClassNames:
    """Classes of an open raster: from its ``LEGEND`` tag, else from its palette, else none.

    Raises:
        LegendError: The ``LEGEND`` tag is malformed.
    """
    legend = tagged_legend(dataset.tags(), label)
    if legend is not None:
        return ClassNames({e.code: (e.name, e.color) for e in legend.entries}, True, label)
    palette: dict[int, tuple[int, int, int, int]] = {}
    with contextlib.suppress(ValueError, RasterioError):
        palette = dataset.colormap(1)
    palette_classes = {
        value: (f"class {value}", "#{:02x}{:02x}{:02x}".format(*rgba[:3]))
        for value, rgba in palette.items()
        if rgba[3] > 0  # a transparent entry is no class
    }
    return ClassNames(palette_classes, False, label)


def _color(value: int) -> str:
    # Hues a golden ratio apart: consecutive values get clearly different colours.
    rgb = colorsys.hsv_to_rgb((value * _GOLDEN) % 1.0, 0.55 + 0.15 * (value % 3), 0.85)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * v) for v in rgb))
