"""Finds the class that a code, name or colour in a label or reference file means.

``evaluate`` uses it for the values of a reference, ``finetune`` for those of labels. The user's map
(``--map``, or ``map:`` in region.yaml) comes first. A value without an entry there means the class
with that code, name or colour. If there is no such class, it is an error: the message lists these
values with their numbers of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from cwsam_geo.core.legend import Legend, by_name, is_code, is_color, plain_color
from cwsam_geo.errors import LegendError, UsageError

IGNORE = "ignore"
"""Word in the user's map for values that do not count."""

LISTED = 12
"""Number of values or names that a message lists, so that it stays readable."""

_MANY_COLOURS = 16
"""Number of unknown colours above which a picture is suspected to be compressed with loss (JPEG).

An incomplete legend leaves a few unknown colours; compression makes hundreds.
"""

_JPEG_HINT = (
    "so many colours look like JPEG compression: export the labels losslessly (PNG, GeoTIFF)"
)

Value = int | str
"""A value as a file has it: a code, a name, or a colour ``#rrggbb``."""

ClassMap = Mapping[str, tuple[int, ...]]
"""The user's map: channels of the classes that each value may mean; none for ``ignore``.

Keys are codes, names or colours (``#rrggbb`` in lower case) as text."""

ValueKind = Literal["code", "colour", "name"]

# A code in a text column, perhaps of a table that was once read as floats: "2", "02", "2.0".
_CODE_AS_TEXT = re.compile(r"([0-9]+)(?:\.0+)?")


@dataclass(frozen=True)
class Wording:
    """How messages name the user's map, which the command line and region.yaml spell differently.

    Attributes:
        map: The option or key of the map, such as ``--map``.
        hint: What to do about values without a class.
        entry: How an entry of the map is written; ``{value}`` is its value.
        classes: Where the classes are listed.
        file: The file whose values are looked up.
    """

    map: str
    hint: str
    entry: str
    classes: str
    file: str


COMMAND_LINE = Wording(
    map="--map",
    hint="give each a class or 'ignore' with --map VALUE=CLASS, or leave it out with --ignore",
    entry="--map {value}=CLASS",
    classes="the map",
    file="the reference",
)

REGION_FILE = Wording(
    map="`map:`",
    hint="give each a class, or ignore, under `map:`",
    entry="`{value}: CLASS` under `map:`",
    classes="`classes:`",
    file="the labels",
)


def value_name(value: object) -> str:
    """A value as text, in the form in which maps name it."""
    return plain_color(str(value).strip())


def kind_of(values: Iterable[Value]) -> ValueKind:
    """Kind of a file's values: ``name`` unless all are codes, or all are colours."""
    names = [value_name(value) for value in values]
    if all(is_color(name) for name in names):
        return "colour"
    return "code" if all(is_code(name) for name in names) else "name"


@dataclass(frozen=True)
class ClassValues:
    """Which classes each value of one file means.

    Attributes:
        label: The file's name in messages.
        wording: How messages name the map.
        entries: The user's map. Names in it, and names of classes, are matched exactly or, if that
            finds nothing, without regard to upper and lower case.
    """

    legend: Legend
    label: str
    wording: Wording
    entries: ClassMap = field(default_factory=dict)

    def channels(self, value: Value) -> tuple[int, ...] | None:
        """The channels of the classes that a value may mean.

        Returns:
            One channel, several for a value that the map gives several classes, none for a value
            that is ignored. None if nothing says what the value means.

        Raises:
            LegendError: The value is a colour that two classes share.
        """
        name = value_name(value)
        key = name if name in self.entries else by_name(self.entries, name)
        if key is not None:
            return self.entries[key]
        channel = self._own(value)
        return None if channel is None else (channel,)

    def _own(self, value: Value) -> int | None:
        """The channel of the class that has this code, name or colour."""
        if isinstance(value, int):
            return self._by_code.get(value)
        name = value_name(value)
        colour = [i for i, e in enumerate(self.legend.entries) if e.color == name]
        if len(colour) > 1:
            twins = " and ".join(self.legend.names[i] for i in colour)
            raise LegendError(
                f"{self.label}: {twins} share a colour in the legend, so {name} can be either; "
                f"give the classes colours of their own, or say which it is: "
                f"{self.wording.entry.format(value=name)}"
            )
        if colour:
            return colour[0]
        named = by_name(self.legend.names, name)
        if named is not None:
            return self.legend.names.index(named)
        code = _CODE_AS_TEXT.fullmatch(name)
        return self._by_code.get(int(code[1])) if code else None

    @cached_property
    def _by_code(self) -> dict[int, int]:
        return {e.code: i for i, e in enumerate(self.legend.entries)}

    def check_entries(self, kind: ValueKind, contents: str) -> None:
        """Refuses entries of the map that cannot occur in a file of this kind.

        Such an entry would have no effect, and the user would not notice. An entry of the right
        kind may be absent, because users share one map between several files.

        Args:
            kind: What the file's values are.
            contents: What the file holds, for the message.

        Raises:
            UsageError: There is such an entry.
        """
        for item in self.entries:
            if not _may_occur(item, kind):
                raise UsageError(
                    f"{self.wording.map} {item}: no {kind} of {self.label}, {contents}; correct "
                    "or remove this entry"
                )

    def check_known(self, unknown: Mapping[Value, int], total: int, unit: str) -> None:
        """Refuses values that have no class.

        Args:
            unknown: Counts of the values for which ``channels`` gave None.
            total: Count of all values.
            unit: What was counted, in the plural.

        Raises:
            LegendError: There are unknown values. The message lists them with their counts.
        """
        if not unknown:
            return
        kind = kind_of(unknown)
        lossy = kind == "colour" and len(unknown) > _MANY_COLOURS
        raise LegendError(
            f"{self.label}: {kind}s without a class: {counted(unknown)}; "
            f"{sum(unknown.values())} of {total} {unit}; the classes are "
            f"{listed(self.legend)}; {_JPEG_HINT if lossy else self.wording.hint}"
        )

    def remarks(self, values: Collection[Value], own: Legend | None) -> tuple[str, ...]:
        """Remarks on codes that count as the class with the same code, but may mean another class.

        Args:
            values: Values that occur in the file.
            own: The file's own legend, if it has one.
        """
        names = {} if own is None else {e.code: e.name for e in own.entries}
        # Codes without an entry in the map are matched by their number.
        codes = {v for v in values if isinstance(v, int) and str(v) not in self.entries}
        matched = {c: self.legend.names[self._by_code[c]] for c in codes & self._by_code.keys()}
        differing = {c: name for c, name in matched.items() if _differ(name, names.get(c))}
        same = {c for c, name in matched.items() if names.get(c, "").casefold() == name.casefold()}
        if differing:
            return (self._differing(differing, names),)
        unsaid = {c: name for c, name in matched.items() if c not in same}
        return (self._foreign(unsaid),) if unsaid and self._recodes else ()

    @property
    def _recodes(self) -> bool:
        """Whether the map gives a code a class that has another code."""
        return any(
            is_code(key) and channels and self._by_code.get(int(key)) not in channels
            for key, channels in self.entries.items()
        )

    def _differing(self, ours: Mapping[int, str], theirs: Mapping[int, str]) -> str:
        pairs = [
            f"{c} ({name!r} in {self.wording.classes}, {theirs[c]!r} in {self.wording.file})"
            for c, name in sorted(ours.items())
        ]
        return (
            f"{self.label}: names of codes differ: {', '.join(pairs[:LISTED])}; "
            f"if they mean different classes, say so with {self.wording.map}"
        )

    def _foreign(self, codes: Mapping[int, str]) -> str:
        # The file's codes may be another product's, and equal ours only by chance.
        pairs = [f"{code} ({name})" for code, name in sorted(codes.items())]
        return (
            f"{self.label}: codes without an entry in {self.wording.map} count as the class with "
            f"that code: {', '.join(pairs[:LISTED])}; if one means something else, add "
            f"{self.wording.entry.format(value=min(codes))}"
        )


def absent_names(entries: Iterable[str], values: Iterable[str]) -> list[str]:
    """Names and colours in a map that do not occur (whatever the case), and so may be misspelt.

    Args:
        entries: Keys of the map. Codes among them may be absent.
        values: Values that occur, as ``value_name`` writes them.
    """
    occurring = {value.casefold() for value in values}
    return [e for e in entries if e.casefold() not in occurring and not is_code(e)]


def counted(counts: Mapping[int, int] | Mapping[str, int] | Mapping[Value, int]) -> str:
    """Values with their counts, the most frequent first."""
    order = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value} ({count})" for value, count in order[:LISTED])
    more = len(order) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def listed(legend: Legend) -> str:
    """The classes of a legend, for messages."""
    return ", ".join(f"{e.code} {e.name}" for e in legend.entries)


def _may_occur(item: str, kind: ValueKind) -> bool:
    if kind == "colour":
        return is_color(item)
    return is_code(item) if kind == "code" else not is_color(item)


def _differ(a: str, b: str | None) -> bool:
    # A legend read from a palette has numbers for names; they say nothing about the class.
    return b is not None and a.casefold() != b.casefold() and not a.isdigit() and not b.isdigit()
