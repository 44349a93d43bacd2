"""Names and colours of the values of a class raster, wherever the raster keeps them."""

from __future__ import annotations

import colorsys
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rasterio.errors import RasterioError

from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.errors import UsageError
from cwsam_geo.io.attribute_table import (
    category_names,
    described,
    esri_table,
    flag_names,
    gdal_table,
)
from cwsam_geo.io.legend_file import tagged_legend

Origin = Literal["tag", "table", "categories", "palette"]
"""Where the classes come from: this package's ``LEGEND`` tag, a raster attribute table (of GDAL or
ESRI), GDAL's category names or NetCDF's flags, or only a palette, which has no names."""

_GOLDEN = 0.618033988749895
"""Step of the hue in turns of the colour wheel: the fractional part of the golden ratio."""


@dataclass(frozen=True)
class ClassNames:
    """Names and colours of the values of a raster, which may be any integers.

    Attributes:
        label: Name of the raster in messages.
        origin: Where the classes come from; None if the raster does not describe its values.
        names: Name of each value that has one. Two values may share a name.
        colors: ``#rrggbb`` of each value that has one.
        tag: The legend of the ``LEGEND`` tag, in the order of the model's channels.
    """

    label: str
    origin: Origin | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, str] = field(default_factory=dict)
    tag: Legend | None = None

    def name(self, value: int) -> str:
        """Name of a value; ``class N`` where the raster names no such class."""
        return self.names.get(value, f"class {value}")

    def color(self, value: int) -> str:
        """Colour of a value as ``#rrggbb``; a generated one where the raster has none."""
        return self.colors[value] if value in self.colors else _color(value)

    def select(self, wanted: Iterable[str]) -> frozenset[int]:
        """Values of classes given by name or number.

        Raises:
            UsageError: A class is not in the raster's legend, or is given by name where the
                raster has no class names.
        """
        return frozenset(value for text in wanted for value in self._values(text.strip()))

    def _values(self, text: str) -> frozenset[int]:
        for form in (str, str.casefold):
            values = frozenset(v for v, name in self.names.items() if form(name) == form(text))
            if values:
                return values
        number: int | None = None
        with contextlib.suppress(ValueError):
            number = int(text)
        # Only this package's tag certainly lists every class.
        if number is not None and (number in self.names or self.origin != "tag"):
            return frozenset({number})
        if not self.names:
            raise UsageError(
                f"{self.label}: has no class names, so --classes takes numbers, not {text!r}"
            )
        available = ", ".join(f"{value} {self.names[value]}" for value in sorted(self.names))
        raise UsageError(f"{self.label}: no class {text!r} in its legend (it has: {available})")

    def legend(self, occurring: Collection[int] = (), nodata: float | None = None) -> Legend | None:
        """The classes as a legend, which has codes from 0 to 254 and different names.

        The ``LEGEND`` tag lists all classes. Other origins may leave some out, so values that
        occur become classes too. A palette has an entry for every possible value, and the unused
        ones are black: black entries become classes only if their value occurs.

        Args:
            occurring: Values that occur in the raster.
            nodata: The raster's nodata value, which is no class.

        Returns:
            The legend, or None if the raster does not describe its values.
        """
        if self.tag is not None or self.origin is None:
            return self.tag
        if self.origin == "palette":
            codes = {c for c, rgb in self.colors.items() if rgb != "#000000"}
            codes |= set(occurring) & set(self.colors)
        else:
            codes = {*self.names, *occurring}
        codes = {c for c in codes if 0 <= c < NODATA and c != nodata}
        if not codes:
            return None
        texts = [self.names.get(c, str(c)) for c in codes]
        # If two codes share a name, add the code to both names.
        return Legend.from_list(
            [
                {
                    "code": c,
                    "name": f"{name} ({c})" if texts.count(name) > 1 else name,
                    "color": self.color(c),
                }
                for c, name in sorted((c, self.names.get(c, str(c))) for c in codes)
            ],
            self.label,
        )


def class_names(dataset: Any, band: int, label: str) -> ClassNames:
    """Names and colours of the values of a band of an open raster.

    They come from the first of these that is present: the ``LEGEND`` tag, a raster attribute table,
    category names, NetCDF's flags, an ESRI value attribute table (``.vat.dbf``). If none of them
    gives a value a colour, it has its colour in the palette.

    Raises:
        LegendError: The ``LEGEND`` tag holds an invalid legend.
    """
    palette = _palette(dataset, band)
    legend = tagged_legend(dataset.tags(), label)
    if legend is not None:
        names = {e.code: e.name for e in legend.entries}
        return ClassNames(label, "tag", names, {e.code: e.color for e in legend.entries}, legend)
    description = described(dataset, band)
    categories = category_names(description) or flag_names(dataset.tags(band))
    table = gdal_table(description)
    if not table and categories:
        return ClassNames(label, "categories", categories, palette)
    table = table or esri_table(dataset.name)
    if table:
        colors = {value: text.color for value, text in table.items() if text.color is not None}
        names = {value: text.name for value, text in table.items()}
        return ClassNames(label, "table", names, {**palette, **colors})
    return ClassNames(label, "palette" if palette else None, {}, palette)


def _palette(dataset: Any, band: int) -> dict[int, str]:
    """``#rrggbb`` by value for the palette entries that are not transparent."""
    with contextlib.suppress(ValueError, RasterioError):
        entries = dataset.colormap(band).items()
        return {v: "#{:02x}{:02x}{:02x}".format(*rgba[:3]) for v, rgba in entries if rgba[3] > 0}
    return {}


def _color(value: int) -> str:
    # Hues a golden ratio apart: consecutive values get clearly different colours.
    rgb = colorsys.hsv_to_rgb((value * _GOLDEN) % 1.0, 0.55 + 0.15 * (value % 3), 0.85)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * v) for v in rgb))
