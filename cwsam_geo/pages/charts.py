"""Charts as SVG, whose colours follow the page's: light, dark or print.

Each chart is a picture for the eye; the templates put the same figures beside it as a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import shapely
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 500, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 40
_PLAN_SIDE = 300
"""Longer side of a drawing of areas, in units of its view box."""

_TICKS = 5
"""Ticks of an axis, about."""


class _Axes:
    """A plot with axes from zero or from given limits, in the units of the SVG's view box."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        size: tuple[int, int] = (_WIDTH, _HEIGHT),
    ) -> None:
        self._x, self._y, self._labels, self._size = x, y, labels, size

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the plot in the view box."""
        width, height = self._size[0] - _LEFT - _RIGHT, self._size[1] - _TOP - _BOTTOM
        (left, right), (low, high) = self._x, self._y
        return (
            round(_LEFT + width * (x - left) / ((right - left) or 1), 2),
            round(_TOP + height * (1 - (y - low) / ((high - low) or 1)), 2),
        )

    def bar(self, left: float, right: float, value: float, style: str = "bar") -> Markup:
        """A bar from zero to a value."""
        (x0, y0), (x1, y1) = self.at(left, value), self.at(right, self._y[0])
        return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            style, x0, y0, round(max(0.5, x1 - x0 - 1), 2), round(max(0.0, y1 - y0), 2)
        )

    def line(self, points: Iterable[tuple[float, float]], style: str, color: str = "") -> Markup:
        """A line through points."""
        text = " ".join(f"{a},{b}" for a, b in (self.at(*p) for p in points))
        stroke = Markup(' style="stroke:{}"').format(color) if color else ""
        return Markup('<polyline class="{}"{} points="{}"/>').format(style, stroke, text)

    def draw(self, parts: Iterable[Markup], label: str, x_format: str = "g") -> Markup:
        """The SVG with grid, axes and parts."""
        lines = []
        for value in _ticks(*self._y):
            (x0, y0), (x1, _) = self.at(self._x[0], value), self.at(self._x[1], value)
            lines.append(
                Markup(
                    '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                    '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
                ).format(x0, x1, y0, y0, x0 - 6, y0 + 4, _short(value))
            )
        for value in _ticks(*self._x, whole=x_format == "d"):
            x, y = self.at(value, self._y[0])
            lines.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    x, y + 16, _short(value)
                )
            )
        width, height = self._size
        middle = (_LEFT + width - _RIGHT) / 2
        across = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            middle, height - 4, self._labels[0]
        )
        up = Markup(
            '<text class="axis" transform="translate(12 {}) rotate(-90)" text-anchor="middle">'
            "{}</text>"
        ).format((_TOP + height - _BOTTOM) / 2, self._labels[1])
        return Markup(
            '<svg class="chart{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        ).format(
            " small" if width < _WIDTH else "",
            width,
            height,
            label,
            Markup("").join([*lines, *parts, across, up]),
        )


def histogram(shares: Sequence[float], label: str, x_label: str, y_label: str) -> Markup:
    """Bars over 0 to 100 per cent.

    Args:
        shares: Height of each bar, in per cent; the bars divide 0 to 100 equally.
        label: What the chart shows, for those who do not see it.
        x_label: Text of the axis across.
        y_label: Text of the axis up.
    """
    step = 100 / len(shares)
    axes = _Axes((0, 100), (0, _ceiling(max(shares))), (x_label, y_label))
    bars = [axes.bar(i * step, (i + 1) * step, share) for i, share in enumerate(shares)]
    return axes.draw(bars, label)


def curves(
    lines: Sequence[tuple[str, Sequence[float | None]]], label: str, y_label: str, top: float | None
) -> Markup:
    """Lines over epochs, from 1; a value of None is a gap.

    Args:
        lines: Colour (``#rrggbb``, or empty for the text's) and values of each line.
        label: What the chart shows, for those who do not see it.
        y_label: Text of the axis up.
        top: Upper end of that axis; None to find it.
    """
    epochs = max(len(values) for _, values in lines)
    known = [v for _, values in lines for v in values if v is not None and math.isfinite(v)]
    axes = _Axes(
        (1, max(2, epochs)), (0, top or _ceiling(max(known, default=1.0))), ("epoch", y_label)
    )
    drawn = []
    for color, values in lines:
        style = "line" if color else "line strong"
        for run in _runs(values):
            drawn.append(axes.line(run, style, color))
            if len(run) < 30:
                # A single epoch would not be seen as a line.
                drawn += [_dot(*axes.at(*point), color) for point in run]
    return axes.draw(drawn, label, "d")


def reliability_diagram(
    bins: Sequence[dict[str, float | None]], label: str, x_label: str = "confidence"
) -> Markup:
    """Bars of accuracy by confidence, and the diagonal on which the two are equal.

    Args:
        bins: ``from``, ``to``, ``accuracy`` (0 to 1, or None) and ``mean_confidence`` of each bin.
        label: What the chart shows, for those who do not see it.
        x_label: Text of the axis across.
    """
    axes = _Axes((0, 1), (0, 1), (x_label, "share that is right"), (360, 330))
    parts = [axes.line([(0, 0), (1, 1)], "diagonal")]
    for entry in bins:
        accuracy, confidence = entry["accuracy"], entry["mean_confidence"]
        if accuracy is None or confidence is None:
            continue
        left, right = entry["from"] or 0.0, entry["to"] or 0.0
        parts.append(axes.bar(left, right, accuracy))
        # The gap that the calibration error counts.
        parts.append(axes.line([(confidence, accuracy), (confidence, confidence)], "gap"))
    return axes.draw(parts, label)


def bin_counts(bins: Sequence[dict[str, float | None]], label: str) -> Markup:
    """Bars of the share of each bin of a reliability diagram."""
    total = sum(entry["count"] or 0 for entry in bins) or 1
    shares = [(entry["count"] or 0) / total for entry in bins]
    axes = _Axes((0, 1), (0, _ceiling(max(shares))), ("confidence", "share"), (360, 150))
    return axes.draw(
        [
            axes.bar(entry["from"] or 0.0, entry["to"] or 0.0, share)
            for entry, share in zip(bins, shares, strict=True)
        ],
        label,
    )


def plan(
    shapes: Sequence[tuple[str, Any]],
    bounds: tuple[float, float, float, float],
    label: str,
    flipped: bool,
) -> Markup:
    """A drawing of areas from above.

    Args:
        shapes: The role of each area (``train``, ``val`` or ``test``) and its polygon.
        bounds: Left, bottom, right and top of the drawing.
        label: What the drawing shows, for those who do not see it.
        flipped: Whether the vertical axis points down, as rows of pixels do.
    """
    left, bottom, right, top = bounds
    scale = _PLAN_SIDE / max(right - left, top - bottom)
    width, height = scale * (right - left), scale * (top - bottom)
    parts = []
    for role, shape in shapes:
        for ring in shapely.get_rings(shapely.get_parts(shape)):
            x, y = shapely.get_coordinates(ring).T
            down = y - bottom if flipped else top - y
            corners = " ".join(
                f"{a:.1f},{b:.1f}" for a, b in zip(scale * (x - left), scale * down, strict=True)
            )
            parts.append(
                Markup('<polygon class="split-shape split-{}" points="{}"/>').format(role, corners)
            )
    return Markup(
        '<svg class="plan" viewBox="-1 -1 {:.0f} {:.0f}" role="img" aria-label="{}">'
        '<rect class="plan-frame" width="{:.1f}" height="{:.1f}"/>{}</svg>'
    ).format(width + 2, height + 2, label, width, height, Markup("").join(parts))


def _dot(x: float, y: float, color: str) -> Markup:
    fill = Markup(' style="fill:{}"').format(color) if color else ""
    return Markup('<circle class="dot" r="2.5" cx="{}" cy="{}"{}/>').format(x, y, fill)


def _runs(values: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Points of neighbouring epochs that have a value."""
    runs: list[list[tuple[float, float]]] = [[]]
    for epoch, value in enumerate(values, 1):
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append((epoch, value))
    return [run for run in runs if run]


def _ceiling(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return next(power * s for s in steps if power * s >= value * 0.999)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    rough = (high - low) / _TICKS or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in (1, 2, 2.5, 5, 10) if power * s >= rough * 0.999)
    if whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _short(value: float) -> str:
    return str(escape(f"{value:g}"))
