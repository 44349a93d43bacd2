"""Matches the codes, names or colours of a reference to the classes of a map."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.legend import Legend, is_code, is_color, plain_color
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.evaluation.options import ClassMapping

IGNORE = "ignore"
"""Target of a mapping for reference values that do not count."""

_LISTED = 12
"""Number of values that a message lists, so that it stays readable."""

_MANY_COLOURS = 16
"""Number of unknown colours above which a picture is suspected to be lossily compressed (JPEG)."""

Value = int | str


@dataclass(frozen=True)
class ComparedClasses:
    """The classes that are compared.

    Attributes:
        legend: The classes after merging; entry i is row and column i of all matrices.
        by_code: Channel of each code of the map, after merging.
        ignored: Channels that do not count.
    """

    legend: Legend
    by_code: Mapping[int, int]
    ignored: tuple[int, ...]


def comparable_classes(legend: Legend, wishes: ClassMapping) -> ComparedClasses:
    """The map's classes after merging.

    Args:
        legend: The map's legend.
        wishes: The user's mapping.

    Raises:
        LegendError: A class in ``merge``, or a target in ``map``, is not in the legend.
        UsageError: A class is merged into one that is itself merged away.
    """
    for target in wishes.map.values():
        if target != IGNORE:
            legend.channel(target)  # raises if there is no such class
    into = {legend.channel(a): legend.channel(b) for a, b in wishes.merge.items()}
    chained = [legend.names[a] for a, b in into.items() if b in into]
    if chained:
        raise UsageError(
            f"--merge {chained[0]}: its target is merged away as well; name the last class directly"
        )
    remaining = [i for i in range(len(legend)) if i not in into]
    new_channels = {channel: new for new, channel in enumerate(remaining)}
    by_code = {int(e.code): new_channels[into.get(i, i)] for i, e in enumerate(legend.entries)}
    ignored = {
        by_code[int(legend.codes[legend.channel(item)])]
        for item in wishes.ignore
        if _known(legend, item)
    }
    reduced = Legend(tuple(legend.entries[i] for i in remaining))
    return ComparedClasses(reduced, by_code, tuple(sorted(ignored)))


def channels_of_values(
    values: Mapping[Value, int],
    legend: Legend,
    classes: ComparedClasses,
    wishes: ClassMapping,
    where: str,
) -> dict[Value, int | None]:
    """The channel of each reference value; None for a value that does not count.

    Args:
        values: Count of each value in the reference.
        legend: The map's legend before merging.
        classes: The classes after merging.
        wishes: The user's mapping.
        where: Name of the reference in messages.

    Raises:
        LegendError: Values have no class. The message lists such values with their counts.
        UsageError: ``map`` or ``ignore`` names something that cannot be a value of the reference.
    """
    _check_wishes(values, legend, wishes, where)
    channels: dict[Value, int | None] = {}
    unknown: dict[Value, int] = {}
    for value, count in values.items():
        name = plain_color(str(value))
        target = wishes.map.get(name)
        if target == IGNORE or (target is None and name in wishes.ignore):
            channels[value] = None
            continue
        channel = _channel(legend, value) if target is None else legend.channel(target)
        if channel is None:
            unknown[value] = count
        else:
            channels[value] = classes.by_code[int(legend.codes[channel])]
    if unknown:
        raise LegendError(_unknown(unknown, sum(values.values()), legend, where))
    return channels


def absent_names(
    values: Iterable[Value], legend: Legend, wishes: ClassMapping, where: str
) -> tuple[str, ...]:
    """A remark on names in ``map`` that do not occur in the reference.

    Such a name is misspelt, or belongs to another reference for which the same mapping is used.

    Args:
        values: Values that occur in the reference.
        legend: The map's legend before merging.
        wishes: The user's mapping.
        where: Name of the reference in the message.
    """
    names = {plain_color(str(value)) for value in values}
    if _kind(names) != "class":
        return ()
    absent = [
        item
        for item in wishes.map
        if item not in names and not _known(legend, item) and not is_code(item)
    ]
    if not absent:
        return ()
    return (
        f"--map: the compared part of {where} has no class called "
        f"{', '.join(absent[:_LISTED])}; its classes are {', '.join(sorted(names)[:_LISTED])}",
    )


def _check_wishes(
    values: Mapping[Value, int], legend: Legend, wishes: ClassMapping, where: str
) -> None:
    """Refuses items of the mapping that cannot occur in this kind of reference.

    Such an item would have no effect, and the user would not notice. An item of the right kind may
    be absent, because users share one mapping between several references. An item of another kind,
    such as a name where the reference has codes, is a mistake.
    """
    names = {plain_color(str(value)) for value in values}
    kind = _kind(names)
    for item in wishes.map:
        if item not in names and not _may_be_absent(item, kind):
            raise UsageError(
                f"--map {item}: no {kind} of {where} in the compared part, which has: "
                f"{_counted(values)}; correct or remove this entry"
            )
    for item in wishes.ignore:
        plausible = _known(legend, item) or item in names or is_code(item)
        if not plausible and not (kind == "colour" and is_color(item)):
            raise UsageError(
                f"--ignore {item}: neither a class of the map ({_listed(legend)}) nor a value "
                f"of {where}"
            )


def _kind(names: Collection[str]) -> str:
    """Kind of a reference's values: ``colour``, ``code``, or ``class`` for names of classes."""
    if all(is_color(name) for name in names):
        return "colour"
    return "code" if all(is_code(name) for name in names) else "class"


def _may_be_absent(item: str, kind: str) -> bool:
    if kind == "colour":
        return is_color(item)
    return is_code(item) if kind == "code" else not is_color(item)


def check_codes(counts: Mapping[int, int], legend: Legend, where: str) -> None:
    """Makes sure that all codes of a map are in its legend.

    Args:
        counts: Pixel count of each code.
        legend: The map's legend.
        where: Name of the map in messages.

    Raises:
        LegendError: Codes are missing from the legend. The message lists them with their counts.
    """
    missing = {code: n for code, n in counts.items() if code not in legend.codes}
    if missing:
        raise LegendError(
            f"{where}: codes without a class in its legend: {_counted(missing)}; "
            f"the legend has: {_listed(legend)}"
        )


def disagreements(
    legend: Legend, other: Legend, where: str, codes: Collection[int]
) -> tuple[str, ...]:
    """A remark on codes that have different names in two legends.

    Args:
        legend: Legend of the map.
        other: Legend of the reference.
        where: Name of the reference in the message.
        codes: Codes of the reference that are matched to the map by their number.
    """
    map_entries = {e.code: e for e in legend.entries}
    differing = [
        f"{e.code} ({map_entries[e.code].name!r} in the map, {e.name!r} in the reference)"
        for e in other.entries
        if e.code in codes and e.code in map_entries and _differ(map_entries[e.code].name, e.name)
    ]
    if not differing:
        return ()
    return (
        f"{where}: names of codes differ: {', '.join(differing[:_LISTED])}; "
        "if they mean different classes, say so with --map",
    )


def _differ(a: str, b: str) -> bool:
    # A legend read from a palette has numbers for names; they say nothing about the class.
    return a.casefold() != b.casefold() and not a.isdigit() and not b.isdigit()


def _known(legend: Legend, item: str) -> bool:
    return any(item in (e.name, str(e.code)) for e in legend.entries)


def _channel(legend: Legend, value: Value) -> int | None:
    if isinstance(value, int):
        return next((i for i, e in enumerate(legend.entries) if e.code == value), None)
    # A colour of the legend, ``#rrggbb``.
    if any(e.color == plain_color(value) for e in legend.entries):
        rgb: NDArray[np.uint8] = np.frombuffer(bytes.fromhex(value[1:]), np.uint8)
        code = int(legend.decode_rgb(rgb.reshape(3, 1, 1))[0, 0])
        return legend.channel(code)
    # A name: exact first, then ignoring case if that is unambiguous.
    for form in (str, str.casefold):
        matches = [i for i, name in enumerate(legend.names) if form(name) == form(value)]
        if len(matches) == 1:
            return matches[0]
    # A code stored as text, as in a text column of a vector file.
    return _channel(legend, int(value)) if value.isdecimal() else None


def _unknown(unknown: Mapping[Value, int], total: int, legend: Legend, where: str) -> str:
    colours = all(isinstance(v, str) and v.startswith("#") for v in unknown)
    what = "colours" if colours else "values"
    hint = "give each a class or 'ignore' with --map VALUE=CLASS, or leave it out with --ignore"
    if colours and len(unknown) > _MANY_COLOURS:
        hint = (
            "so many colours look like JPEG compression: export the labels losslessly "
            "(PNG, GeoTIFF)"
        )
    return (
        f"{where}: {what} without a class in the map's legend ({sum(unknown.values())} of "
        f"{total}): {_counted(unknown)}; the legend has: {_listed(legend)}; {hint}"
    )


def _counted(counts: Mapping[int, int] | Mapping[Value, int]) -> str:
    """Values with their counts, the most frequent first."""
    order = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value} ({count})" for value, count in order[:_LISTED])
    more = len(order) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _listed(legend: Legend) -> str:
    return ", ".join(f"{e.code} {e.name}" for e in legend.entries)
