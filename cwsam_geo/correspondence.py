"""Which class of a map a reference's code, name or colour stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.legend import Legend, is_code, is_color, plain_color

IGNORE = "ignore"
"""Where a code or class goes that does not count."""

_LISTED = 12
_MANY_COLOURS = 16

Value = int | str


@dataclass(frozen=True)
class Wishes:
    """What the user says of codes and classes.

    Attributes:
        map: Reference code, name or colour to class of the map (code or name) or ``ignore``.
        merge: Class of the map to the class of the map that it shall count as.
        ignore: Classes of the map, or values of the reference, that do not count.

    Raises:
        UsageError: ``map`` gives a colour twice, in upper and in lower case.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    merge: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        meant: dict[str, str] = {}
        for value, target in self.map.items():
            if meant.setdefault(plain_color(str(value)), target) != target:
                raise UsageError(f"--map {value} is given twice")
        object.__setattr__(self, "map", meant)
        object.__setattr__(self, "ignore", tuple(plain_color(str(i)) for i in self.ignore))


@dataclass(frozen=True)
class Classes:
    """The classes that are compared.

    Attributes:
        legend: Its entries are the channels of all matrices.
        by_code: Channel of each code of the map, as it is or merged.
        ignored: Channels that do not count.
    """

    legend: Legend
    by_code: Mapping[int, int]
    ignored: tuple[int, ...]


def comparable_classes(legend: Legend, wishes: Wishes) -> Classes:
    """The map's classes after merging.

    Raises:
        LegendError: A class named in ``merge`` or as a target of ``map`` does not exist.
        UsageError: A class is merged into one that is itself merged away.
    """
    for target in wishes.map.values():
        if target != IGNORE:
            legend.channel(target)
    into = {legend.channel(a): legend.channel(b) for a, b in wishes.merge.items()}
    chained = [legend.names[a] for a, b in into.items() if b in into]
    if chained:
        raise UsageError(
            f"--merge {chained[0]}: its target is merged away as well; name the last class directly"
        )
    kept = [i for i in range(len(legend)) if i not in into]
    place = {channel: new for new, channel in enumerate(kept)}
    by_code = {int(e.code): place[into.get(i, i)] for i, e in enumerate(legend.entries)}
    ignored = {
        by_code[int(legend.codes[legend.channel(item)])]
        for item in wishes.ignore
        if _known(legend, item)
    }
    reduced = Legend(tuple(legend.entries[i] for i in kept))
    return Classes(reduced, by_code, tuple(sorted(ignored)))


def channels_of_values(
    values: Mapping[Value, int], legend: Legend, classes: Classes, wishes: Wishes, where: str
) -> dict[Value, int | None]:
    """The channel of each value of a reference; None where it does not count.

    Args:
        values: The values that occur, with how often.
        legend: The map's legend, not merged.
        classes: The classes that are compared.
        wishes: What the user says.
        where: The reference, for messages.

    Raises:
        LegendError: Values have no class: they are listed with their counts.
        UsageError: A name in ``map``, or an ignored one, cannot be a value of the reference.
    """
    _check_wishes(values, legend, wishes, where)
    found: dict[Value, int | None] = {}
    unknown: dict[Value, int] = {}
    for value, count in values.items():
        name = plain_color(str(value))
        target = wishes.map.get(name)
        if target == IGNORE or (target is None and name in wishes.ignore):
            found[value] = None
            continue
        channel = _channel(legend, value) if target is None else legend.channel(target)
        if channel is None:
            unknown[value] = count
        else:
            found[value] = classes.by_code[int(legend.codes[channel])]
    if unknown:
        raise LegendError(_unknown(unknown, sum(values.values()), legend, where))
    return found


def absent_names(
    values: Iterable[Value], legend: Legend, wishes: Wishes, where: str
) -> tuple[str, ...]:
    """A remark on names in ``map`` that were not met: misspelt, or of other references.

    Args:
        values: The values of the reference that occur.
        legend: The map's legend, not merged.
        wishes: What the user says.
        where: The reference, for the message.
    """
    met = {plain_color(str(value)) for value in values}
    if _kind(met) != "class":
        return ()
    absent = [
        item
        for item in wishes.map
        if item not in met and not _known(legend, item) and not is_code(item)
    ]
    if not absent:
        return ()
    return (
        f"--map: no class of {where} is called {', '.join(absent[:_LISTED])} where it was "
        f"compared; there it has {', '.join(sorted(met)[:_LISTED])}",
    )


def _check_wishes(values: Mapping[Value, int], legend: Legend, wishes: Wishes, where: str) -> None:
    """Refuses what no reference of this kind has; it would be dropped without a word.

    A code, colour or name may be absent from one of many references that the same wishes are for;
    a name of codes or colours is a mistake.
    """
    names = {plain_color(str(value)) for value in values}
    kind = _kind(names)
    for item in wishes.map:
        if item not in names and not _may_be_absent(item, kind):
            raise UsageError(
                f"--map {item}: no {kind} of {where} where it was compared; there it has: "
                f"{_counted(values)}; correct it or leave it out"
            )
    for item in wishes.ignore:
        known = _known(legend, item) or item in names or is_code(item)
        if not known and not (kind == "colour" and is_color(item)):
            raise UsageError(
                f"--ignore {item}: neither a class of the map ({_listed(legend)}) nor a value "
                f"of {where}"
            )


def _kind(names: Collection[str]) -> str:
    """What the values of a reference are: colours, codes or names of classes."""
    if all(is_color(name) for name in names):
        return "colour"
    return "code" if all(is_code(name) for name in names) else "class"


def _may_be_absent(item: str, kind: str) -> bool:
    if kind == "colour":
        return is_color(item)
    return is_code(item) if kind == "code" else not is_color(item)


def check_codes(counts: Mapping[int, int], legend: Legend, where: str) -> None:
    """Makes sure that a map shows only classes of its legend.

    Raises:
        LegendError: It does not: the codes are listed with their counts.
    """
    strange = {code: n for code, n in counts.items() if code not in legend.codes}
    if strange:
        raise LegendError(
            f"{where}: codes without a class in its legend: {_counted(strange)}; "
            f"the legend has: {_listed(legend)}"
        )


def disagreements(
    legend: Legend, other: Legend, where: str, codes: Collection[int]
) -> tuple[str, ...]:
    """Remarks on codes that two legends call by different names.

    Args:
        legend: The map's.
        other: The reference's.
        where: The reference.
        codes: Codes that are taken as they are.
    """
    mine = {e.code: e for e in legend.entries}
    named = [
        f"{e.code} ({mine[e.code].name!r} in the map, {e.name!r} in the reference)"
        for e in other.entries
        if e.code in codes and e.code in mine and _differ(mine[e.code].name, e.name)
    ]
    if not named:
        return ()
    return (
        f"{where}: names of codes differ: {', '.join(named[:_LISTED])}; "
        "if they mean different classes, say so with --map",
    )


def _differ(a: str, b: str) -> bool:
    # A palette gives no names, only numbers.
    return a.casefold() != b.casefold() and not a.isdigit() and not b.isdigit()


def _known(legend: Legend, item: str) -> bool:
    return any(item in (e.name, str(e.code)) for e in legend.entries)


def _channel(legend: Legend, value: Value) -> int | None:
    if isinstance(value, int):
        return next((i for i, e in enumerate(legend.entries) if e.code == value), None)
    if any(e.color == plain_color(value) for e in legend.entries):
        rgb: NDArray[np.uint8] = np.frombuffer(bytes.fromhex(value[1:]), np.uint8)
        code = int(legend.decode_rgb(rgb.reshape(3, 1, 1))[0, 0])
        return legend.channel(code)
    for same in (str, str.casefold):
        alike = [i for i, name in enumerate(legend.names) if same(name) == same(value)]
        if len(alike) == 1:
            return alike[0]
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
    order = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value} ({count})" for value, count in order[:_LISTED])
    more = len(order) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _listed(legend: Legend) -> str:
    return ", ".join(f"{e.code} {e.name}" for e in legend.entries)
