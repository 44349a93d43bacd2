"""Draws panels, legend, scale bar, north arrow and coordinates on one page, with matplotlib.

Everything is placed in inches on a page of the width of a printed page, and the picture's size in
pixels only decides the resolution. A picture of 600 pixels and one of 3000 have the same layout.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from cwsam_geo.errors import UsageError
from cwsam_geo.pictures.marks import Ticks, scale_bar, ticks_of
from cwsam_geo.pictures.options import Coordinates
from cwsam_geo.pictures.panels import NOTHING, Contents, Key, Panel, visible
from cwsam_geo.rendering.frame import Frame

_PAGE = 7.1
"""Longer side of a picture in inches: the width of a page with two columns."""

_HIGHEST = 5.6
"""Most height of all panels in inches, so that the page is not higher than it is wide."""

_NARROWEST = 3.4
"""Least width of a page in inches: legend and scale bar need room."""

_GAP, _EDGE = 0.12, 0.08
"""Inches between panels, and around everything."""

_LINE = 0.2
"""Height of a line of the legend and of a panel's title in inches."""

_NUMBERS = 0.2
"""Room for coordinates beside an edge in inches."""

_ACROSS, _DOWN = 0.75, 0.6
"""Least inches between coordinates along the lower and the left edge."""

_CORNER = 0.2
"""Inches from a corner of a panel in which no coordinates stand if there are enough others."""

_SLIMMEST = 1 / 4
"""Least ratio of a panel's sides: a slimmer frame gets empty room beside it."""

_INK, _FAINT = "#1a1a1a", "#5f5f5f"

_FONT = {"family": ["DejaVu Sans"]}


@dataclass(frozen=True)
class Box:
    """A rectangle on the page in inches, from the lower left corner."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Plan:
    """Where everything is on the page.

    Attributes:
        width: Width of the page in inches.
        height: Height of the page in inches.
        panels: One box for each panel.
        columns: Panels in a row.
        strip: Upper edge of the legend, in inches from the lower edge of the page.
    """

    width: float
    height: float
    panels: tuple[Box, ...]
    columns: int
    strip: float


def panel_size(aspect: float, count: int, size: int) -> int:
    """Pixels of the longer side of a panel in a picture.

    Args:
        aspect: Height of the frame as a multiple of its width.
        count: Number of panels.
        size: Longer side of the picture in pixels.
    """
    plan = _planned(_limited(aspect), count, 2, True, True)
    box = plan.panels[0]
    dpi = size / max(plan.width, plan.height)
    return max(1, round(max(box.width, box.height) * dpi))


class Page:
    """A picture on a page.

    Args:
        frame: The frame of all panels.
        contents: What is shown.
        size: Longer side of the picture in pixels.
        coordinates: Numbers along the edges.
        title: Line above the panels, or an empty text.
    """

    def __init__(
        self, frame: Frame, contents: Contents, size: int, coordinates: Coordinates, title: str
    ) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise UsageError(
                "pictures need matplotlib, which is not installed: pip install 'cwsam-geo[report]'"
            ) from None
        self._frame, self._contents = frame, contents
        self._figure: Any = Figure(figsize=(1, 1))
        self._canvas = FigureCanvasAgg(self._figure)
        self._title = title
        aspect = _limited(frame.grid.height / frame.grid.width)
        count = len(contents.panels)
        # First the width, which decides how many lines the legend and the notes have.
        rough = _planned(aspect, count, 1, bool(title), coordinates != "none")
        self._left = rough.panels[0].left
        room = rough.width - _EDGE - self._left
        self._rows = self._legend_rows(room)
        self._notes = [line for text in contents.notes for line in self._wrapped(text, room)]
        lines = len(self._rows) + 0.6 * len(self._notes)
        self._plan = _planned(aspect, count, lines, bool(title), coordinates != "none")
        box = self._plan.panels[0]
        inches = _inches_per_pixel(box, frame)
        across, down = frame.grid.width * inches, frame.grid.height * inches
        self._ticks = ticks_of(frame, coordinates, int(across / _ACROSS), int(down / _DOWN))
        self._figure.set_size_inches(self._plan.width, self._plan.height)
        self._figure.set_dpi(size / max(self._plan.width, self._plan.height))
        self._draw()

    def save(self, target: Any, kind: str) -> None:
        """Writes the picture to a path or file object; ``kind`` is ``png``, ``pdf`` or ``svg``."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Gg]lyph")
            self._figure.savefig(target, format=kind, dpi=self._figure.dpi)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        self.save(file, "png")
        return file.getvalue()

    def _draw(self) -> None:
        plan = self._plan
        self._figure.patch.set_facecolor("white")
        if self._title:
            self._text(self._left, plan.height - _EDGE - 0.14, self._title, 9.5, weight="bold")
        rows = math.ceil(len(plan.panels) / plan.columns)
        for i, (box, panel) in enumerate(zip(plan.panels, self._contents.panels, strict=True)):
            # Panels share their coordinates: numbers stand at the left and at the bottom only.
            last = i + plan.columns >= len(plan.panels) or i // plan.columns == rows - 1
            left = self._ticks.left if i % plan.columns == 0 else ()
            self._panel(box, panel, Ticks(self._ticks.bottom if last else (), left))
        self._legend(self._marks())
        for i, note in enumerate(reversed(self._notes)):
            self._text(self._left, _EDGE + 0.12 * i, note, 5.5, color=_FAINT)

    def _panel(self, box: Box, panel: Panel, ticks: Ticks) -> None:
        width, height = self._frame.grid.width, self._frame.grid.height
        axes = self._figure.add_axes(self._share(box))
        # A frame that is slimmer than its panel stands in the middle of it.
        across = max(width, height * box.width / box.height)
        down = max(height, width * box.height / box.width)
        axes.set_xlim((width - across) / 2, (width + across) / 2)
        axes.set_ylim((height + down) / 2, (height - down) / 2)
        axes.set_facecolor("white")
        where = {"transform": axes.transData, "zorder": -1}
        axes.add_patch(self._rectangle((0, 0), width, height, face=NOTHING, **where))
        for layer in panel.layers:
            axes.imshow(layer, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
        if panel.outlines is not None:
            self._polygons(axes, panel, box)
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color=_INK)
        axes.tick_params(length=2, width=0.5, pad=1.5, labelsize=5.5, color=_INK, labelcolor=_INK)
        corner = _CORNER / _inches_per_pixel(box, self._frame)
        for edge, length, place in (
            (ticks.bottom, width, axes.set_xticks),
            (ticks.left, height, axes.set_yticks),
        ):
            # A number in a corner would reach beyond the panel; two are needed to read distances.
            inner = [t for t in edge if corner < t.at < length - corner]
            shown = inner if len(inner) > 1 else edge
            place([t.at for t in shown], [t.text for t in shown])
        for label in axes.get_yticklabels():
            label.set(rotation=90, va="center", rotation_mode="default")
        self._text(box.left, box.bottom + box.height + 0.05, panel.title, 7.5)

    def _polygons(self, axes: Any, panel: Panel, box: Box) -> None:
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path

        outlines = panel.outlines
        assert outlines is not None
        scale = max(1.0, box.width * self._figure.dpi / self._frame.grid.width)
        shapes, index = visible(outlines.shapes, scale)
        paths = []
        for shape in shapes:
            rings = [r for part in shapely.get_parts(shape) for r in _rings(part)]
            paths.append(Path.make_compound_path(*(Path(r, closed=True) for r in rings)))
        if outlines.colors is None:
            fill: Any = "none"
        else:
            alpha = f"{round(255 * outlines.opacity):02x}"
            fill = [outlines.colors[i] + alpha for i in index.tolist()]
        # Many small polygons would become a black surface.
        width = 0.45 if len(paths) < 2000 else 0.2 if len(paths) < 20000 else 0.0
        axes.add_collection(
            PathCollection(paths, facecolors=fill, edgecolors=_INK, linewidths=width),
            autolim=False,
        )

    def _marks(self) -> float:
        """Draws scale bar and north arrow; returns where the legend may begin, in inches."""
        inches = _inches_per_pixel(self._plan.panels[0], self._frame)
        bar = scale_bar(self._frame, min(1.1, 0.5 * self._plan.width) / inches)
        length, y = bar.pixels * inches, self._plan.strip - 0.145
        for i in range(2):
            # A bar of two halves, dark and light, can be read at both ends and in the middle.
            start = self._left + i * length / 2
            face = _INK if i == 0 else "white"
            self._figure.add_artist(
                self._rectangle((start, y), length / 2, 0.035, face=face, edge=_INK, line=0.5)
            )
        text = self._text(self._left + length + 0.05, y - 0.015, bar.text, 6.5)
        right = self._left + length + 0.05 + self._wide(text)
        if self._frame.north is not None:
            right += 0.16
            self._arrow(right, y + 0.02, self._frame.north)
            right += 0.1
        return right + 0.22

    def _arrow(self, x: float, y: float, north: float) -> None:
        from matplotlib.patches import Polygon

        angle = math.radians(north)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        head = np.array([[0, 0.11], [0.045, -0.07], [0, -0.035], [-0.045, -0.07]])
        # Clockwise from the top: a point (x, y) of the arrow turns to the right.
        look = {"edgecolor": _INK, "linewidth": 0.5, "transform": self._inches}
        for part, face in (([0, 1, 2], "white"), ([0, 2, 3], _INK)):
            points = head[part] @ turn + [x, y]
            self._figure.add_artist(Polygon(points, facecolor=face, **look))
        tip = np.array([0, 0.17]) @ turn + [x, y]
        self._text(tip[0], tip[1] - 0.035, "N", 6, align="center")

    def _legend(self, left: float) -> None:
        y = self._plan.strip
        for i, row in enumerate(self._rows):
            x = left if i == 0 else self._left
            for key in row:
                self._figure.add_artist(
                    self._rectangle((x, y - 0.16), 0.15, 0.1, face=key.color, edge=_INK, line=0.4)
                )
                text = self._text(x + 0.2, y - 0.16, key.text, 7)
                x += 0.2 + self._wide(text) + 0.18
            y -= _LINE

    def _legend_rows(self, width: float) -> list[list[Key]]:
        """The keys in lines; the first stands beside scale bar and north arrow."""
        rows: list[list[Key]] = [[]]
        used = 2.4 if width > 5 else 2.0
        for key in self._contents.keys:
            text = self._text(0, 0, key.text, 7)
            need = 0.38 + self._wide(text)
            text.remove()
            if used + need > width and (rows[-1] or len(rows) == 1):
                rows.append([])
                used = 0.0
            rows[-1].append(key)
            used += need
        return rows

    def _wrapped(self, text: str, width: float) -> list[str]:
        lines: list[str] = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            artist = self._text(0, 0, longer, 5.5)
            if self._wide(artist) > width and lines[-1]:
                lines.append(word)
            else:
                lines[-1] = longer
            artist.remove()
        return lines

    @property
    def _inches(self) -> Any:
        return self._figure.dpi_scale_trans

    def _text(self, x: float, y: float, text: str, points: float, **more: Any) -> Any:
        align = more.pop("align", "left")
        color = more.pop("color", _INK)
        return self._figure.text(
            *(x, y, text),
            **{"transform": self._inches, "fontsize": points, "ha": align, "va": "baseline"},
            **{"color": color, "parse_math": False, **_FONT, **more},
        )

    def _wide(self, text: Any) -> float:
        """Width of a text in inches."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Gg]lyph")
            box = text.get_window_extent(self._canvas.get_renderer())
        return float(box.width / self._figure.dpi)

    def _rectangle(
        self, corner: tuple[float, float], width: float, height: float, **how: Any
    ) -> Any:
        from matplotlib.patches import Rectangle

        look = {"edgecolor": how.pop("edge", "none"), "linewidth": how.pop("line", 0)}
        look |= {"facecolor": how.pop("face"), "transform": how.pop("transform", self._inches)}
        return Rectangle(corner, width, height, **look, **how)

    def _share(self, box: Box) -> tuple[float, float, float, float]:
        """A box as shares of the figure, on whole pixels, so that pictures are not resampled."""
        dpi = self._figure.dpi
        width, height = (round(v * dpi) for v in (self._plan.width, self._plan.height))
        left, bottom = round(box.left * dpi), round(box.bottom * dpi)
        wide, high = round(box.width * dpi), round(box.height * dpi)
        return left / width, bottom / height, wide / width, high / height


def _inches_per_pixel(box: Box, frame: Frame) -> float:
    """Size of a pixel of the frame in a panel."""
    return min(box.width / frame.grid.width, box.height / frame.grid.height)


def _rings(part: Any) -> list[Any]:
    inner = range(shapely.get_num_interior_rings(part))
    rings = [shapely.get_exterior_ring(part), *(shapely.get_interior_ring(part, i) for i in inner)]
    return [shapely.get_coordinates(ring) for ring in rings]


def _limited(aspect: float) -> float:
    return min(max(aspect, _SLIMMEST), 1 / _SLIMMEST)


def _planned(aspect: float, count: int, lines: float, title: bool, numbers: bool) -> Plan:
    """Divides the page: as many columns as give the largest panels.

    Args:
        aspect: Height of a panel as a multiple of its width.
        count: Number of panels.
        lines: Lines of the legend and the notes.
        title: Whether there is a title above everything.
        numbers: Whether there are coordinates.
    """
    room = _NUMBERS if numbers else 0.0

    def side(columns: int) -> float:
        rows = math.ceil(count / columns)
        wide = (_PAGE - 2 * _EDGE - room - (columns - 1) * _GAP) / columns
        high = (_HIGHEST - (rows - 1) * _GAP) / rows - _LINE
        return min(wide, high / aspect)

    # No place stays empty, unless there would be one row or column of many panels.
    full = [c for c in range(1, count + 1) if count % c == 0]
    choices = full if count <= 4 else range(2, count)
    best = max(side(c) for c in choices)
    # Panels in one row are easier to compare: fewer rows if that costs little.
    columns = max(c for c in choices if side(c) >= 0.85 * best)
    rows = math.ceil(count / columns)
    wide = side(columns)
    high = wide * aspect
    total = columns * wide + (columns - 1) * _GAP
    width = max(_NARROWEST, total + room + 2 * _EDGE)
    below = 2 * _EDGE + lines * _LINE + room + 0.04
    height = below + rows * (high + _LINE) + (rows - 1) * _GAP + (0.24 if title else 0.0)
    first = room + (width - room - total) / 2 if width > total + room + 2 * _EDGE else room + _EDGE
    boxes = []
    for i in range(count):
        row, column = divmod(i, columns)
        bottom = below + (rows - 1 - row) * (high + _LINE + _GAP)
        boxes.append(Box(first + column * (wide + _GAP), bottom, wide, high))
    return Plan(width, height, tuple(boxes), columns, below - room - 0.04)
