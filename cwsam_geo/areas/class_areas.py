"""Areas of the classes of a map: ``class_areas``, the function behind ``cwsam-geo areas``."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import atomic_output, check_apart, check_output
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.class_band import ClassBand
from cwsam_geo.io.class_counts import class_counts
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_areas import PixelAreas
from cwsam_geo.io.raster_file import cache_limit

PathLike = str | os.PathLike[str]

SUFFIXES = (".csv", ".json")
"""Suffixes of tables of areas."""

_MOST_CLASSES = 4096
"""Different codes up to which a raster is a map of classes."""

Progress = Callable[[int, int], None]
"""Called with the number of pixels done and the number of pixels in total."""


@dataclass(frozen=True)
class ClassArea:
    """Area of one class.

    Attributes:
        code: Value in the map.
        name: Name of the class.
        color: Colour as ``#rrggbb``.
        pixels: Number of pixels.
        km2: Area in square kilometres on the ellipsoid; None if the map has no CRS.
        share: Share of the area of all classes, 0 to 1; of their pixels if there is no CRS.
    """

    code: int
    name: str
    color: str
    pixels: int
    km2: float | None
    share: float


@dataclass(frozen=True)
class AreaTable:
    """Areas of all classes of a map, in the order of their codes. Notebooks show it as a table.

    Attributes:
        map: The map's name.
        classes: One row per class; those of the legend that do not occur have 0 pixels.
        nodata: Number of pixels without a class.
    """

    map: str
    classes: tuple[ClassArea, ...]
    nodata: int

    @property
    def km2(self) -> float | None:
        """Area of all classes together; None if the map has no CRS."""
        areas = [c.km2 for c in self.classes if c.km2 is not None]
        return sum(areas) if len(areas) == len(self.classes) and areas else None

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values, for JSON."""
        return {
            "map": self.map,
            "km2": self.km2,
            "nodata_pixels": self.nodata,
            "classes": [
                {
                    "code": c.code,
                    "name": c.name,
                    "color": c.color,
                    "pixels": c.pixels,
                    "km2": c.km2,
                    "percent": 100 * c.share,
                }
                for c in self.classes
            ],
        }

    def to_csv(self) -> str:
        """The table as CSV: code, name, color, pixels, km2 and percent."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["code", "name", "color", "pixels", "km2", "percent"])
        for c in self.classes:
            km2 = "" if c.km2 is None else f"{c.km2:.6f}"
            writer.writerow([c.code, c.name, c.color, c.pixels, km2, f"{100 * c.share:.4f}"])
        return text.getvalue()

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="background:{c.color}">&emsp;</td><td>{c.code}</td>'
            f"<td>{html.escape(c.name)}</td><td>{c.pixels:,}</td>"
            f"<td>{'' if c.km2 is None else f'{c.km2:,.3f}'}</td><td>{100 * c.share:.1f}</td></tr>"
            for c in self.classes
        )
        head = "".join(f"<th>{t}</th>" for t in ("", "code", "class", "pixels", "km²", "%"))
        return f"<table><tr>{head}</tr>{rows}</table>"


def class_areas(
    path: PathLike, band: int | str | None = None, progress: Progress = lambda done, total: None
) -> AreaTable:
    """Measures how much ground each class of a map covers.

    Areas are those on the ellipsoid of the CRS, not in its plane, also for rotated maps and for
    maps with control points.

    Args:
        path: A class raster of any program.
        band: Number or name of the band with the codes; None to find it.
        progress: Called after each window.

    Raises:
        SceneError: The raster cannot be read, or holds no classes.
    """
    with contextlib.closing(ClassBand(path, band)) as raster, cache_limit(64 << 20):
        if raster.colors:
            raise SceneError(f"{raster.label}: is an RGB picture; give a raster of class codes")
        ground = PixelAreas(locate(raster.grid, raster.label))
        pixels: dict[int, int] = {}
        areas: dict[int, float] = {}
        nodata, total, done = 0, raster.grid.height * raster.grid.width, 0
        for found in class_counts(raster, ground):
            nodata += found.nodata
            for _, code, count, area in found.rows():
                pixels[code] = pixels.get(code, 0) + count
                areas[code] = areas.get(code, 0.0) + area
            if len(pixels) > _MOST_CLASSES:
                raise SceneError(
                    f"{raster.label}: holds more than {_MOST_CLASSES} different values, too many "
                    "for classes; give a class raster"
                )
            done += found.valid.size
            progress(done, total)
        legend = raster.names.legend(pixels, raster.dataset.nodata)
        listed = {int(e.code): (e.name, e.color) for e in legend.entries} if legend else {}
        for code in pixels:
            listed.setdefault(code, (raster.names.name(code), raster.names.color(code)))
        whole = sum(areas.values()) or 1.0
        # Without a CRS each pixel has the area 1.
        km2 = 1e-6 if ground.unit == "m2" else None
        rows = tuple(
            ClassArea(
                code,
                *listed[code],
                pixels.get(code, 0),
                None if km2 is None else areas.get(code, 0.0) * km2,
                areas.get(code, 0.0) / whole,
            )
            for code in sorted(listed)
        )
        return AreaTable(raster.label, rows, nodata)


def check_areas_output(path: PathLike, overwrite: bool) -> Path:
    """``check_output`` for a table of areas.

    Raises:
        UsageError: The suffix is not ``.csv`` or ``.json``, or the file exists.
        OutputError: The folder cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: areas are written as CSV or JSON; name it *.csv or *.json")
    return check_output(target, overwrite)


def write_areas(table: AreaTable, path: PathLike, overwrite: bool = False) -> None:
    """Writes a table of areas as CSV or JSON, by the suffix of its path.

    Raises:
        UsageError: See ``check_areas_output``.
        OutputError: The file cannot be written.
    """
    target = check_areas_output(path, overwrite)
    text = table.to_csv()
    if target.suffix.lower() == ".json":
        text = json.dumps(table.to_dict(), ensure_ascii=False, indent=1) + "\n"
    with atomic_output(target, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def measure(
    path: PathLike,
    output: PathLike | None,
    band: int | str | None = None,
    overwrite: bool = False,
    on_event: Callable[[Mapping[str, Any]], None] = lambda event: None,
) -> AreaTable:
    """``class_areas``, written to a file and told as events.

    Raises:
        CwsamGeoError: The map or the output is at fault.
    """
    if output is not None:
        check_areas_output(output, overwrite)
        check_apart([Path(output)], {path: "the map"})

    def progress(done: int, total: int) -> None:
        on_event({"event": "progress", "pixels": done, "total": total})

    table = class_areas(path, band, progress)
    if output is not None:
        write_areas(table, output, overwrite)
    written = None if output is None else str(output)
    on_event({"event": "areas", **table.to_dict(), "output": written})
    return table
