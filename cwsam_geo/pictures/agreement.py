"""Where a map agrees with a reference: both on the frame of a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.class_match import channels_of_values, comparable_classes
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.reference import open_reference
from cwsam_geo.io.vector_file import Features
from cwsam_geo.pictures.options import PathLike, ReferenceOptions
from cwsam_geo.pictures.panels import Key, Panel, Picture
from cwsam_geo.rendering.class_view import paint

_FIRST_ONLY, _SECOND_ONLY = "#d55e00", "#7b3294"
"""Vermilion and purple, which people with any colour vision can tell apart."""

_PALE = 0.6
"""Share of white in the colour of a class where map and reference agree."""

_NO_CLASS = -1


@dataclass(frozen=True)
class Labels:
    """A reference on the frame of a picture.

    Attributes:
        legend: The classes that are compared, after merging.
        wanted: Channel of the reference's class, shape (h, w), int16; -1 where there is none.
        mapped: Channel of the map's class, likewise.
    """

    legend: Legend
    wanted: NDArray[np.int16]
    mapped: NDArray[np.int16]

    @property
    def compared(self) -> NDArray[np.bool_]:
        """Where both have a class that counts."""
        return (self.wanted >= 0) & (self.mapped >= 0)

    @property
    def agreement(self) -> float | None:
        """Share of the compared pixels on which both agree; None if none is compared."""
        compared = self.compared
        if not compared.any():
            return None
        return float((self.wanted == self.mapped)[compared].mean())


def read_labels(
    path: PathLike,
    onto: Geolocation,
    codes: NDArray[np.int32],
    valid: NDArray[np.bool_],
    entries: Sequence[LegendEntry],
    options: ReferenceOptions,
) -> Labels:
    """Reads a reference at the centres of a frame's pixels, and gives it the map's classes.

    Args:
        path: A class raster, an RGB picture in the classes' colours, or polygons.
        onto: The frame.
        codes: The map's codes on the frame, shape (h, w).
        valid: Where the map has a class, shape (h, w).
        entries: The map's classes.
        options: How the reference is read.

    Raises:
        UsageError: The reference holds points, or cannot be placed on the frame.
        LegendError: Values of the reference are no class of the map.
    """
    legend = Legend(tuple(entries))
    classes = comparable_classes(legend, options.mapping)
    reference = open_reference(path, onto, options.layer, band=options.band)
    if isinstance(reference, Features):
        raise UsageError(
            f"{path}: holds points; give a raster or polygons (evaluate compares maps with points)"
        )
    with contextlib.closing(reference):
        values, labelled = reference.read(onto.grid.window)
        kinds, counts = np.unique(values[labelled], return_counts=True)
        names: dict[int, Value] = {v: reference.label_of(v) for v in kinds.tolist()}
        counted = {names[v]: n for v, n in zip(kinds.tolist(), counts.tolist(), strict=True)}
        channels = channels_of_values(
            counted, legend, classes, options.mapping, reference.label, "pixels"
        )
    wanted = np.full(values.shape, _NO_CLASS, np.int16)
    for value, name in names.items():
        channel = channels[name]
        if channel is not None and channel not in classes.ignored:
            wanted[labelled & (values == value)] = channel
    mapped = np.full(values.shape, _NO_CLASS, np.int16)
    for code, channel in classes.by_code.items():
        mapped[valid & (codes == code)] = channel
    return Labels(classes.legend, wanted, mapped)


def reference_panel(labels: Labels) -> Panel:
    """The reference in the colours of the map's classes."""
    entries = [LegendEntry(i, e.name, e.rgb) for i, e in enumerate(labels.legend.entries)]
    picture = paint(labels.wanted.astype(np.int32), labels.wanted >= 0, entries)
    return Panel("Reference", (picture,))


def agreement_panel(labels: Labels) -> tuple[Panel, tuple[Key, ...]]:
    """Where map and reference agree, in pale colours of the class, and where they differ.

    Of two classes, the two ways to differ have a colour each.
    """
    entries = labels.legend.entries
    picture = np.zeros((*labels.wanted.shape, 4), np.uint8)
    compared = labels.compared
    same = compared & (labels.wanted == labels.mapped)
    for i, entry in enumerate(entries):
        pale = [round(255 * _PALE + v * (1 - _PALE)) for v in entry.rgb]
        picture[same & (labels.mapped == i)] = (*pale, 255)
    keys: tuple[Key, ...]
    if len(entries) == 2:
        first = entries[0].name
        keys = (
            Key(f"{first} only in the map", _FIRST_ONLY),
            Key(f"{first} only in the reference", _SECOND_ONLY),
        )
        _fill(picture, compared & (labels.mapped == 0) & (labels.wanted == 1), _FIRST_ONLY)
        _fill(picture, compared & (labels.mapped == 1) & (labels.wanted == 0), _SECOND_ONLY)
    else:
        keys = (Key("map and reference differ", _FIRST_ONLY),)
        _fill(picture, compared & ~same, _FIRST_ONLY)
    share = labels.agreement
    title = "Agreement" if share is None else f"Agreement: {100 * share:.0f} % of the pixels"
    return Panel(title, (picture,)), keys


def _fill(picture: Picture, where: NDArray[np.bool_], color: str) -> None:
    picture[where] = (*bytes.fromhex(color[1:]), 255)
