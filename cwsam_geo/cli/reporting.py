"""Prints the events of a run: remarks and a progress bar on stderr, or NDJSON on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from typing_extensions import Self


class Reporter:
    """Prints the events of a run. Base class of each command's reporter.

    A subclass has a method ``on_KIND`` for each kind of event that it prints. The base class prints
    remarks (``decision``) and warnings.

    Args:
        as_json: Print one JSON object per line on standard output, and no bar.
        quiet: Print neither bar nor remarks.

    Attributes:
        unit: Unit that the bar counts.
        bar_options: Further options of tqdm.
    """

    unit = "tile"
    bar_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._as_json, self._quiet = as_json, quiet
        self._bar: Any = None
        # Becomes True when standard error cannot be written any more.
        self._mute = False

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
        """Prints one event as text."""
        kind = event["event"]
        if kind in ("decision", "warning"):
            self.say(f"{'Warning: ' if kind == 'warning' else ''}{event['text']}")
        elif not self._as_json:
            # With --json, remarks and warnings still appear on stderr, other events do not.
            getattr(self, f"on_{kind}", self._ignore)(event)

    def _ignore(self, event: Mapping[str, Any]) -> None:
        pass

    def say(self, text: str) -> None:
        """Prints a line on standard error, above the bar if there is one."""
        with self._showing():
            if self._bar is not None:
                self._bar.clear()
            click.echo(text, err=True)

    def advance(self, done: float, total: int, remark: str = "") -> None:
        """Moves the bar, which appears at the first call.

        Args:
            done: Number of units done so far, not since the last call.
            total: Number of units in total.
            remark: Text behind the bar.
        """
        if self._mute or sys.stderr is None:
            return
        with self._showing():
            if self._bar is None:
                from tqdm import tqdm

                options = {"unit": self.unit, "dynamic_ncols": True, **self.bar_options}
                self._bar = tqdm(total=total, **options)
            self._bar.set_postfix_str(remark, refresh=False)
            # The count may decrease: a server without range requests starts a file again.
            self._bar.update(done - self._bar.n)

    def close_bar(self) -> None:
        """Ends the bar; the next ``advance`` starts another one."""
        bar, self._bar = self._bar, None
        if bar is not None:
            with self._showing():
                bar.close()

    @contextlib.contextmanager
    def _showing(self) -> Iterator[None]:
        """Goes on silently where standard error cannot be written: the work must not fail for it.

        It may be a closed terminal, a pipe whose reader has ended, or a log on a full disk.
        """
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._mute, self._bar = True, None
