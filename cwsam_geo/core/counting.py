"""Counts in sentences."""

from __future__ import annotations


def how_many(number: int, noun: str) -> str:
    """A number with its noun, which gets a regular plural: ``1 class``, ``1,200 classes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'sh', 'tch')) else 's'}"


def were(number: int) -> str:
    """The verb after a number: ``was`` or ``were``."""
    return "was" if number == 1 else "were"
