"""Parses the values of options."""

from __future__ import annotations

import click


def auto_or_count(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """Parses ``auto`` (None) or a whole number of at least 1."""
    if value == "auto":
        return None
    if value.isdecimal() and int(value) >= 1:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither auto nor a number of at least 1")


def band_list(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Parses band numbers from 1, separated by commas."""
    if value is None:
        return None
    parts = value.split(",")
    if all(p.strip().isdecimal() and int(p) >= 1 for p in parts):
        return tuple(int(p) for p in parts)
    raise click.BadParameter(f"{value!r} is not a list of band numbers like 1,2")


def creation_options(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Parses repeated ``NAME=VALUE`` options; GDAL's names are turned to upper case."""
    options = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        options[name.upper()] = text
    return options


def class_pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Parses repeated ``A=B,C=D`` options.

    A name may contain commas. An option is split at its commas only if every part has an ``=``.
    """
    pairs: dict[str, str] = {}
    for value in values:
        parts = value.split(",")
        for part in parts if all("=" in p for p in parts) else [value]:
            # Split at the last "=": a name in the reference may contain one, too.
            left, equals, right = (text.strip() for text in part.rpartition("="))
            if not left or not equals or not right:
                raise click.BadParameter(f"{part!r} is not FROM=TO")
            if pairs.setdefault(left, right) != right:
                raise click.BadParameter(f"{left!r} is given twice")
    return pairs


def sizes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Parses repeated ``NAME=SIZE,...`` options."""
    numbers = {}
    for name, text in class_pairs(ctx, param, values).items():
        try:
            numbers[name] = float(text)
        except ValueError:
            raise click.BadParameter(f"{name}={text}: {text!r} is not a number") from None
    return numbers


def nodata_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | str | None:
    """Parses a number, ``nan``, or ``none`` (no value is nodata)."""
    if value is None or value == "none":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f'{value!r} is neither a number, "nan" nor "none"') from None
