"""Reading plain values of a YAML file into dataclasses, with errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from cwsam_geo.errors import UsageError

Reader = Callable[[Any, str], Any]
"""Takes a value and what to call it; gives what it stands for."""


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys, of which plain YAML keeps the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(k) for k in keys if keys.count(k) > 1}
        if twice:
            raise UsageError(f"{', '.join(sorted(twice))} is given twice")
        return super().construct_mapping(node, deep)


def load_yaml(text: str, where: str) -> Mapping[str, Any]:
    """A mapping from YAML text.

    Raises:
        UsageError: It is no YAML, or no mapping, or gives a key twice.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: is not YAML: {' '.join(str(error).split())}") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: needs keys such as classes, scenes and train")
    return data


def check_keys(data: Any, known: Collection[str], where: str) -> Mapping[str, Any]:
    """The data, if it is a mapping of known keys.

    Raises:
        UsageError: A key is unknown: it is named, with the nearest that there is.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: needs keys ({', '.join(sorted(known))}), got {data!r}")
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")
    return data


def read_fields(data: Any, readers: Mapping[str, Reader], where: str) -> dict[str, Any]:
    """Values by key, each read by its reader; only the keys that are given.

    Raises:
        UsageError: A key is unknown or a value cannot be read.
    """
    given = check_keys({} if data is None else data, readers, where)
    return {key: readers[key](value, f"{where}: {key}") for key, value in given.items()}


def whole(value: Any, where: str) -> int:
    """A whole number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value % 1 != 0:  # of inf and nan it is nan
        raise UsageError(f"{where}: {value!r} is not a whole number")
    return int(value)


def real(value: Any, where: str) -> float:
    """A number; YAML takes ``2e-4`` for text, we do not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {value!r} is not a number") from None


def text(value: Any, where: str) -> str:
    """Text, or a number written out."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{where}: {value!r} is not text")
    return str(value)


def flag(value: Any, where: str) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {value!r} is neither true nor false")
    return value


def one_of(*choices: str) -> Reader:
    """One of some words."""

    def read(value: Any, where: str) -> str:
        if value not in choices:
            raise UsageError(f"{where}: {value!r} is none of {', '.join(choices)}")
        return str(value)

    return read


def or_auto(read: Reader) -> Reader:
    """``auto`` (None), or what the reader takes."""
    return lambda value, where: None if value in (None, "auto") else read(value, where)


def list_of(read: Reader) -> Reader:
    """A list, or a single value for a list of one."""

    def read_all(value: Any, where: str) -> tuple[Any, ...]:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(read(item, where) for item in items)

    return read_all
