"""Legends: class codes, names and colours."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import LegendError

NODATA = 255
"""Code of pixels without data in every class raster that this package writes: the highest uint8
value, so that 0 can be a class."""

UNCLASSIFIED = "unclassified"
"""Name of the class of pixels on which a model is less sure than the user asks for."""

_UNCLASSIFIED_RGB = (190, 190, 190)

LEGEND_TAG = "LEGEND"
"""Tag of class rasters that holds the classes as a JSON list of ``{code, name, color}``."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
# As Python writes integers: "01" and "+1" are no codes.
_CODE = re.compile(r"0|-?[1-9][0-9]*")


def is_color(text: str) -> bool:
    """True for a colour written as ``#rrggbb``."""
    return _HEX.fullmatch(text) is not None


def is_code(text: str) -> bool:
    """True for a whole number in plain notation: ``1`` and ``-1``, but not ``01``."""
    return _CODE.fullmatch(text) is not None


def by_name(names: Iterable[str], name: str) -> str | None:
    """The one of several names that is meant: equal, or else equal in any case and the only one."""
    candidates = list(names)
    if name in candidates:
        return name
    alike = [n for n in candidates if n.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def plain_color(text: str) -> str:
    """A colour in lower case, the form that names the values of pictures; other text unchanged."""
    return text.lower() if is_color(text) else text


@dataclass(frozen=True)
class LegendEntry:
    """One class.

    Attributes:
        code: Value in class rasters, 0 to 254.
        rgb: Colour, three values of 0 to 255.
    """

    code: int
    name: str
    rgb: tuple[int, int, int]

    @property
    def color(self) -> str:
        """The colour as ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


@dataclass(frozen=True)
class Legend:
    """The classes of a model or class raster, in the order of the model's channels.

    Attributes:
        entries: One entry per class; codes and names are unique.
        ignore: Code of the class whose labels do not count (such as background), or None. It
            remains a class of the model; metrics and losses may leave it out.

    Raises:
        LegendError: Codes or names repeat, a code is not in 0..254, or there is no class.
    """

    entries: tuple[LegendEntry, ...]
    ignore: int | None = None

    def __post_init__(self) -> None:
        if not self.entries:
            raise LegendError("a legend needs at least one class")
        for what in ("code", "name"):
            values = [getattr(e, what) for e in self.entries]
            duplicates = sorted({str(v) for v in values if values.count(v) > 1})
            if duplicates:
                raise LegendError(f"legend: {what} {', '.join(duplicates)} appears twice")
        for e in self.entries:
            if not 0 <= e.code < NODATA:
                raise LegendError(
                    f"legend: code {e.code} of class {e.name!r} is not in 0..254 (255 is nodata)"
                )
            if not all(0 <= v <= 255 for v in e.rgb):
                raise LegendError(f"legend: colour {e.rgb} of class {e.name!r} is not 8-bit RGB")

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """Code of each channel, shape (K,), uint8."""
        return np.array([e.code for e in self.entries], np.uint8)

    @property
    def names(self) -> list[str]:
        """Name of each channel."""
        return [e.name for e in self.entries]

    def channel(self, name_or_code: str | int) -> int:
        """The channel of a class, found by code or by name; see ``by_name``.

        Raises:
            LegendError: The legend has no such class.
        """
        for i, e in enumerate(self.entries):
            if name_or_code in (e.code, e.name) or str(name_or_code) == str(e.code):
                return i
        name = by_name(self.names, str(name_or_code))
        if name is not None:
            return self.names.index(name)
        classes = ", ".join(f"{e.code} {e.name}" for e in self.entries)
        raise LegendError(f"no class {name_or_code!r} in the legend (it has: {classes})")

    @property
    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Palette for rasterio's ``write_colormap``: code to RGBA, with nodata transparent."""
        table = {e.code: (*e.rgb, 255) for e in self.entries}
        table[NODATA] = (0, 0, 0, 0)
        return table

    def with_unclassified(self) -> Legend:
        """The legend with a further class for pixels that no class is given.

        Its code is 254, or the highest one below that no class has.

        Raises:
            LegendError: The legend has a class for every code.
        """
        free = set(range(NODATA)) - {e.code for e in self.entries}
        if not free:
            raise LegendError(
                "the model has a class for every code from 0 to 254, so none is left for pixels "
                "that are not classified; leave out --min-confidence"
            )
        code = max(free)
        name = f"{UNCLASSIFIED} ({code})" if UNCLASSIFIED in self.names else UNCLASSIFIED
        entry = LegendEntry(code, name, _UNCLASSIFIED_RGB)
        return Legend((*self.entries, entry), self.ignore)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="background:{e.color}">&emsp;</td><td>{e.code}</td>'
            f"<td>{html.escape(e.name)}</td></tr>"
            for e in self.entries
        )
        return f"<table>{rows}</table>"

    def to_list(self) -> list[dict[str, Any]]:
        """The classes as a list of ``{code, name, color}``, as in the tag ``LEGEND`` of rasters."""
        return [{"code": e.code, "name": e.name, "color": e.color} for e in self.entries]

    def to_json(self) -> str:
        """``to_list`` as JSON text."""
        return json.dumps(self.to_list(), ensure_ascii=False)

    @classmethod
    def from_list(
        cls,
        classes: Iterable[Mapping[str, Any]],
        where: str = "legend",
        ignore: int | str | None = None,
    ) -> Legend:
        """Reads a list of ``{code, name, color}``.

        Args:
            classes: The list; colours are ``#rrggbb`` or three numbers.
            where: Name of the list's source in messages, usually a file's path.
            ignore: Code or name of the class whose labels do not count.

        Raises:
            LegendError: The list is malformed.
        """
        if not isinstance(classes, Iterable) or isinstance(classes, (str, Mapping)):
            raise LegendError(f"{where}: classes must be a list of {{code, name, color}}")
        entries = tuple(_entry(item, where) for item in classes)
        try:
            legend = cls(entries)
            if ignore is None:
                return legend
            # Looking the class up needs a legend: build it again with the class's code.
            return cls(entries, int(legend.codes[legend.channel(ignore)]))
        except LegendError as error:
            raise LegendError(f"{where}: {error}") from None


def _entry(item: Any, where: str) -> LegendEntry:
    if not isinstance(item, Mapping) or not {"code", "name", "color"} <= set(item):
        raise LegendError(f"{where}: each class needs code, name and color, got {item!r}")
    color = item["color"]
    if isinstance(color, str) and is_color(color):
        rgb = tuple(bytes.fromhex(color[1:]))
    elif (
        isinstance(color, (list, tuple))
        and len(color) == 3
        and all(isinstance(v, int) for v in color)
    ):
        rgb = tuple(color)
    else:
        raise LegendError(f'{where}: colour {color!r} of {item["name"]!r} is not "#rrggbb"')
    code = item["code"]
    if not isinstance(code, int) or isinstance(code, bool):
        raise LegendError(f"{where}: code {code!r} of {item['name']!r} is not a whole number")
    return LegendEntry(code, str(item["name"]), (rgb[0], rgb[1], rgb[2]))
