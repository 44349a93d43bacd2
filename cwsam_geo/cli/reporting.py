"""Printing what a run tells: remarks and a progress bar on stderr, or NDJSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from typing_extensions import Self


class Reporter:
    """Prints events; the base of each command's own.

    A subclass has a method ``on_KIND`` for each kind of event it prints; remarks (``decision``)
    and warnings are printed by the base.

    Args:
        as_json: One JSON object a line on standard output, and no bar.
        quiet: Neither bar nor remarks.

    Attributes:
        unit: What the bar counts.
    """

    unit = "tile"

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._as_json, self._quiet = as_json, quiet
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_bar()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Prints one event."""
        if self._as_json:
            click.echo(json.dumps(event, ensure_ascii=False))
        if not self._quiet:
            self.show(event)

    def show(self, event: Mapping[str, Any]) -> None:
        """Prints one event for people."""
        kind = event["event"]
        if kind in ("decision", "warning"):
            self.say(f"{'Warning: ' if kind == 'warning' else ''}{event['text']}")
        elif not self._as_json:
            getattr(self, f"on_{kind}", self._ignore)(event)

    def _ignore(self, event: Mapping[str, Any]) -> None:
        pass

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.clear()
        click.echo(text, err=True)

    def advance(self, done: int, total: int, remark: str = "") -> None:
        """Moves the bar, which appears at the first call.

        Args:
            done: How much is done.
            total: Of how much.
            remark: What to show behind the bar.
        """
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=self.unit, dynamic_ncols=True)
        self._bar.set_postfix_str(remark, refresh=False)
        self._bar.update(done - self._bar.n)

    def close_bar(self) -> None:
        """Ends the bar; the next ``advance`` begins another."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
