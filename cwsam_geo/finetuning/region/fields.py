"""Checked values from YAML, with errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from cwsam_geo.errors import UsageError

Reader = Callable[[Any, str], Any]
"""Converts a value; takes the value and, for messages, where it stands."""


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys; PyYAML silently keeps the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(k) for k in keys if keys.count(k) > 1}
        if twice:
            raise UsageError(f"{', '.join(sorted(twice))} is given twice")
        return super().construct_mapping(node, deep)


def load_yaml(text: str, where: str) -> Mapping[str, Any]:
    """Parses a mapping from YAML text.

    Args:
        where: Name of the file, for messages.

    Raises:
        UsageError: The text is not YAML or not a mapping, or a key occurs twice.
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
    """Returns the data if it is a mapping of known keys.

    Raises:
        UsageError: The data is not a mapping, or a key is unknown. The message names the key and
            a known key that resembles it.
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
    """Reads the values of a mapping, each by the reader of its key; None is an empty mapping.

    Raises:
        UsageError: A key is unknown or a value cannot be read.
    """
    values = check_keys({} if data is None else data, readers, where)
    return {key: readers[key](value, f"{where}: {key}") for key, value in values.items()}


def integer(value: Any, where: str) -> int:
    """Reads a whole number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value % 1 != 0:  # inf and nan give nan
        raise UsageError(f"{where}: {value!r} is not a whole number")
    return int(value)


def number(value: Any, where: str) -> float:
    """Reads a number. YAML parses ``2e-4`` as text, so text is converted too."""
    try:
        if isinstance(value, bool):
            raise TypeError  # float(True) is 1.0
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {value!r} is not a number") from None


def text(value: Any, where: str) -> str:
    """Reads text; a number becomes text too."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{where}: {value!r} is not text")
    return str(value)


def boolean(value: Any, where: str) -> bool:
    """Reads ``true`` or ``false``."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {value!r} is neither true nor false")
    return value


def one_of(*choices: str) -> Reader:
    """Makes a reader for one of these words."""

    def read(value: Any, where: str) -> str:
        if value not in choices:
            raise UsageError(f"{where}: {value!r} is none of {', '.join(choices)}")
        return str(value)

    return read


def or_auto(read: Reader) -> Reader:
    """Makes a reader that reads ``auto`` as None and other values with ``read``."""
    return lambda value, where: None if value in (None, "auto") else read(value, where)


def list_of(read: Reader) -> Reader:
    """Makes a reader for a list; a single value counts as a list of one."""

    def read_all(value: Any, where: str) -> tuple[Any, ...]:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(read(item, where) for item in items)

    return read_all
