"""Figures and tables of a map's report, as the template takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.core.counting import how_many
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import Geolocation, crs_name
from cwsam_geo.map_report.counts import MapCounts, histogram, mean_confidence, share_below
from cwsam_geo.map_report.options import PathLike, ReportOptions
from cwsam_geo.pages.page import percent
from cwsam_geo.pages.placement import pixel_sides

_DOUBTFUL = 60
"""Per cent of confidence below which the text calls pixels doubtful."""

_MANY_CLASSES = 30
"""Classes up to which the table also lists those that do not occur."""

_CALIBRATED = (
    "It was adjusted on labelled areas: there, about 80 of 100 pixels that have 80 % are right. "
    "Where the land or the season is unlike those areas, the model can still be sure and wrong."
)

_NOT_CALIBRATED = (
    "Nobody has checked how often it is right: use it to find the doubtful places, and do not read "
    "80 % as 80 of 100 pixels."
)


def lead(provenance: Mapping[str, Any]) -> str:
    """The line below the title: from what, when and with what the map was made."""
    parts = []
    if provenance["input"]:
        # The path is among the settings; of several files none is left out.
        several = ", " in provenance["input"]
        name = provenance["input"] if several else Path(provenance["input"]).name
        parts.append(f"made from {name}")
    if provenance["date"]:
        with contextlib.suppress(ValueError):
            made = datetime.strptime(provenance["date"], "%Y:%m:%d %H:%M:%S")
            parts.append(f"on {made:%d %B %Y}")
    if provenance["model"] and provenance["model"].get("file"):
        parts.append(f"with the model {provenance['model']['file']}")
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def key_figures(location: Geolocation, counts: MapCounts) -> Iterator[tuple[str, str]]:
    """Names and values of the figures at the top."""
    grid = location.grid
    if counts.unit == "m2":
        yield "mapped area", area_text(counts.area, largest_unit(counts.area))
    yield "pixels of the map", f"{grid.width:,} x {grid.height:,}"
    sides = pixel_sides(location)
    if sides:
        width, height = (f"{side:.3g}" for side in sides)
        size = width if width == height else f"{width} x {height}"
        yield "pixel on the ground", f"{size}\N{NO-BREAK SPACE}m"
    yield "coordinate system", crs_name(location.crs) if location.crs else "none"
    shares = sorted((c.area for c in counts.by_code.values()), reverse=True)
    yield "classes that occur", f"{len(shares)}"
    total = counts.pixels + counts.nodata
    yield "without data", percent(counts.nodata / total)
    if counts.confidence.any():
        mean = mean_confidence(counts.confidence)
        yield "mean confidence", percent(None if mean is None else mean / 100)


def largest_unit(area: float) -> str:
    """The unit in which an area in square metres is a readable number."""
    return "km²" if area >= 1e6 else "ha" if area >= 1e4 else "m²"


def area_text(area: float, unit: str) -> str:
    """An area in square metres in a unit, with the unit."""
    return f"{_area(area, unit)} {unit}"


def _area(area: float, unit: str) -> str:
    value = area / {"km²": 1e6, "ha": 1e4, "m²": 1.0}[unit]
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 100 else f"{value:.3g}"


def area_table(map_path: PathLike, counts: MapCounts, band: int | str | None) -> dict[str, Any]:
    """The table of classes and their areas."""
    with contextlib.closing(ClassRaster(map_path, band=band)) as raster:
        legend, names = raster.legend(list(counts.by_code)), raster.names
    entries = [(e.code, e.name, e.color) for e in legend.entries] if legend else []
    known = {code for code, _, _ in entries}
    entries += [(c, names.name(c), names.color(c)) for c in sorted(set(counts.by_code) - known)]
    if len(entries) > _MANY_CLASSES:
        entries = [entry for entry in entries if entry[0] in counts.by_code]
    metres = counts.unit == "m2"
    unit = largest_unit(counts.area) if metres else ""
    rows = []
    for code, name, color in entries:
        found = counts.by_code.get(code)
        area = found.area if found else 0.0
        share = area / counts.area if counts.area else 0.0
        mean = mean_confidence(found.confidence) if found else None
        rows.append(
            {
                "name": name,
                "color": color,
                "pixels": found.pixels if found else 0,
                "area": _area(area, unit) if metres else "",
                "share": percent(share),
                "width": round(100 * share, 2),
                "confidence": percent(None if mean is None else mean / 100),
            }
        )
    return {"rows": rows, "unit": unit, "note": _area_note(counts, metres)}


def _area_note(counts: MapCounts, metres: bool) -> str:
    kind = (
        "Areas are true areas on the ellipsoid."
        if metres
        else ("The map has no CRS, so shares are those of pixels.")
    )
    if not counts.nodata:
        return f"{kind} All pixels of the map have a class."
    return f"{kind} Shares leave out {how_many(counts.nodata, 'pixel')} without data."


def confidence_values(counts: MapCounts, temperature: float) -> dict[str, Any]:
    """Histogram of confidence, and what it says.

    Args:
        counts: What the map holds.
        temperature: What the logits were divided by; 1 if they were not calibrated.
    """
    total = counts.confidence
    shares = histogram(total)
    step = 100 // len(shares)
    mean, below = mean_confidence(total), share_below(total, _DOUBTFUL)
    text = "No pixel has a confidence."
    if mean is not None:
        text = (
            f"The mean confidence is {mean:.1f} %. {percent(below)} of the pixels are below "
            f"{_DOUBTFUL} %: look at these before you rely on them."
        )
    rows = [[f"{i * step} to {(i + 1) * step} %", f"{s:.2f} %"] for i, s in enumerate(shares)]
    meaning = _NOT_CALIBRATED if temperature == 1 else _CALIBRATED
    return {"histogram": shares, "text": text, "meaning": meaning, "rows": rows}


def file_rows(
    label: str, location: Geolocation, options: ReportOptions, provenance: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Names and values on the files and the grid of the map."""
    grid = location.grid
    yield "Map", options.names.get(label, label)
    if provenance["input"]:
        yield "Made from", str(provenance["input"])
    if options.scene.paths:
        yield "Scene shown", ", ".join(str(p) for p in options.scene.paths)
    if options.confidence is not None:
        yield "Confidence", options.names.get(str(options.confidence), str(options.confidence))
    if options.vectors is not None:
        yield "Polygons", options.names.get(str(options.vectors), str(options.vectors))
    yield "Coordinate system", crs_name(location.crs) if location.crs else "none"
    if location.placed and location.straight:
        yield "Transform", ", ".join(f"{v:.12g}" for v in list(grid.transform)[:6])
    elif location.placed:
        yield "Place", f"{len(grid.gcps)} control points"
    if provenance["version"]:
        yield "Made with", f"cwsam-geo {provenance['version']} (this report: {__version__})"
