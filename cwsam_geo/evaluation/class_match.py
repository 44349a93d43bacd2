"""Matches the codes of a map and the values of a reference with classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cwsam_geo.core.class_values import (
    COMMAND_LINE,
    IGNORE,
    LISTED,
    ClassValues,
    Value,
    absent_names,
    counted,
    kind_of,
    listed,
    value_name,
)
from cwsam_geo.core.legend import Legend, is_code, is_color
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.evaluation.options import ClassMapping


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


def comparable_classes(legend: Legend, mapping: ClassMapping) -> ComparedClasses:
    """The map's classes after merging.

    Args:
        legend: The map's legend.
        mapping: The user's mapping.

    Raises:
        LegendError: A class in ``merge``, or a target in ``map``, is not in the legend.
        UsageError: A class is merged into one that is itself merged away.
    """
    for target in mapping.map.values():
        if target != IGNORE:
            legend.channel(target)  # raises if there is no such class
    into = {legend.channel(a): legend.channel(b) for a, b in mapping.merge.items()}
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
        for item in mapping.ignore
        if _has(legend, item)
    }
    reduced = Legend(tuple(legend.entries[i] for i in remaining))
    return ComparedClasses(reduced, by_code, tuple(sorted(ignored)))


def class_values(legend: Legend, mapping: ClassMapping, label: str) -> ClassValues:
    """What the values of a reference mean, before merging.

    Args:
        legend: The map's legend.
        mapping: The user's mapping.
        label: Name of the reference in messages.

    Raises:
        LegendError: A target in ``map`` is not in the legend.
    """
    entries: dict[str, tuple[int, ...]] = dict.fromkeys(mapping.ignore, ())
    for value, target in mapping.map.items():
        entries[value] = () if target == IGNORE else (legend.channel(target),)
    return ClassValues(legend, label, COMMAND_LINE, entries)


def channels_of_values(
    values: Mapping[Value, int],
    legend: Legend,
    classes: ComparedClasses,
    mapping: ClassMapping,
    where: str,
    unit: str,
) -> dict[Value, int | None]:
    """The channel of each reference value, after merging; None for a value that does not count.

    Args:
        values: Count of each value in the reference.
        legend: The map's legend before merging.
        classes: The classes after merging.
        mapping: The user's mapping.
        where: Name of the reference in messages.
        unit: What is counted, for messages: ``pixels`` or ``points``.

    Raises:
        LegendError: Values have no class. The message lists such values with their counts.
        UsageError: ``map`` or ``ignore`` names something that cannot be a value of the reference.
    """
    _check_mapping(values, legend, mapping, where)
    meanings = class_values(legend, mapping, where)
    channels: dict[Value, int | None] = {}
    unknown: dict[Value, int] = {}
    for value, count in values.items():
        unmerged = meanings.channels(value)
        if unmerged is None:
            unknown[value] = count
        else:
            # --map gives a value one class or none. Its channel changes if classes are merged.
            channels[value] = classes.by_code[int(legend.codes[unmerged[0]])] if unmerged else None
    meanings.check_known(unknown, sum(values.values()), unit)
    return channels


def absent_remarks(
    values: Collection[Value], legend: Legend, mapping: ClassMapping, where: str
) -> tuple[str, ...]:
    """A remark on names in ``map`` that do not occur in the reference.

    Such a name is misspelt, or belongs to another reference for which the same mapping is used.

    Args:
        values: Values that occur in the reference.
        legend: The map's legend before merging.
        mapping: The user's mapping.
        where: Name of the reference in the message.
    """
    if kind_of(values) != "name":
        return ()
    names = sorted({value_name(value) for value in values})
    absent = [item for item in absent_names(mapping.map, names) if not _has(legend, item)]
    if not absent:
        return ()
    return (
        f"--map: the compared part of {where} has no class called "
        f"{', '.join(absent[:LISTED])}; its classes are {', '.join(names[:LISTED])}",
    )


def _check_mapping(
    values: Mapping[Value, int], legend: Legend, mapping: ClassMapping, where: str
) -> None:
    """Refuses items of the mapping that cannot occur in this kind of reference."""
    names = {value_name(value) for value in values}
    any_case = {name.casefold() for name in names}
    kind = kind_of(values)
    absent = {item: () for item in mapping.map if item not in names}
    contents = f"whose compared part has: {counted(values)}"
    ClassValues(legend, where, COMMAND_LINE, absent).check_entries(kind, contents)
    for item in mapping.ignore:
        plausible = _has(legend, item) or is_code(item) or item.casefold() in any_case
        if not plausible and not (kind == "colour" and is_color(item)):
            raise UsageError(
                f"--ignore {item}: neither a class of the map ({listed(legend)}) nor a value "
                f"of {where}"
            )


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
            f"{where}: codes without a class in its legend: {counted(missing)}; "
            f"the legend has: {listed(legend)}"
        )


def _has(legend: Legend, item: str) -> bool:
    """Whether a legend has a class of this name, in any case, or of this code."""
    try:
        legend.channel(item)
    except LegendError:
        return False
    return True
