"""What a run has finished, beside its output: a run that was killed goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.atomic import real_file
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.io.object_store import is_url
from cwsam_geo.io.raster_sink import OnBlock
from cwsam_geo.io.shared_folder import LocalFolder, SharedFolder, shared_folder
from cwsam_geo.prediction.fingerprint import difference
from cwsam_geo.prediction.options import PredictRun
from cwsam_geo.prediction.parts import Part, Parts, PartWriter, segments

if TYPE_CHECKING:
    from typing_extensions import Self

HEADER = "journal.json"
"""Name of the file that says which run the parts belong to. ``clear`` removes it first."""

_SECONDS = 60.0
"""Seconds from one part to the next: what a failure costs at most, besides one row of tiles."""

_PAUSE = 60.0
"""Seconds without a journal at the beginning of a run that nobody asked to be resumable. Short runs
leave nothing and pay nothing; after a failure these seconds are computed again."""


@dataclass(frozen=True)
class RunIdentity:
    """Which run the parts in a folder belong to.

    Attributes:
        output: Path or URL of the raster of classes.
        fingerprint: All that can change a pixel of the map.
        bands: Number of bands of each raster, by name.
        shape: Rows and columns of the map.
        batch_size: Tiles per call of the model. A GPU with other free memory would get another.
    """

    output: str
    fingerprint: Mapping[str, Any]
    bands: Mapping[str, int]
    shape: tuple[int, int]
    batch_size: int


def journal_folder(output: str, run: PredictRun) -> SharedFolder:
    """The folder of a run's finished rows: hidden beside its output, or in ``--parts``.

    Args:
        output: Path or URL of the raster of classes.
    """
    is_local = not is_url(output)
    address, mark, query = (os.path.abspath(output), "", "") if is_local else output.partition("?")
    if run.parts is not None:
        # Runs that share a folder do not mix, even if their outputs have the same name.
        key = hashlib.sha256(address.encode()).hexdigest()[:8]
        return shared_folder(f"{run.parts.rstrip('/')}/{Path(address).name}-{key}.parts")
    if not is_local:
        folder, _, name = address.rpartition("/")
        return shared_folder(f"{folder}/.{name}.parts{mark}{query}")
    real = real_file(output)
    return LocalFolder(real.with_name(f".{real.name}.parts"))


def check_journal(output: str, run: PredictRun) -> None:
    """Refuses to begin where an earlier run has stopped, unless the user says what to do.

    Raises:
        UsageError: There is such a run.
    """
    if run.resume is None and has_journal(output, run):
        raise UsageError(
            f"{output}: an earlier run stopped before the end, and what it has finished is in "
            f"{journal_folder(output, run).location}; pass --resume to go on, or --no-resume to "
            "begin again"
        )


def has_journal(output: str, run: PredictRun) -> bool:
    """Whether an earlier run of this output has stopped before the end."""
    return HEADER in journal_folder(output, run).names()


class Journal:
    """The finished rows of a run; use it as a context manager.

    After an error the rows stay, and the user is told how to go on. ``finish`` removes them.
    It also implements ``Checkpoint`` for the rows inside ``recording``.

    Args:
        on_event: Called with decisions and warnings.

    Attributes:
        parts: The parts.
        todo: The map's rows from top to bottom: those of a part, and those that are missing (None).
        empty_tiles: For each finished row of tiles, how many were not given to the model.
    """

    def __init__(
        self,
        identity: RunIdentity,
        run: PredictRun,
        on_event: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self._identity, self._run, self._on_event = identity, run, on_event
        folder = journal_folder(identity.output, run)
        self.parts = Parts(folder, identity.bands, identity.shape, self._begin)
        self.todo: list[tuple[range, Part | None]] = [(range(identity.shape[0]), None)]
        self.empty_tiles: dict[int, int] = {}
        self.batch_size = identity.batch_size
        self._computers: set[str] = set()
        self._writer: PartWriter | None = None
        self._lock: IO[str] | None = None
        # Whether the parts are wanted so much that the run fails without them.
        self._asked = run.shared or run.resume is True
        # A model that was made in memory cannot be recognised by a later run.
        self._given_up = identity.fingerprint.get("model") is None and not self._asked

    def __enter__(self) -> Self:
        folder = self.parts.folder
        if self._run.resume is False:
            self._claim()
            folder.clear()
            self._release()
        elif HEADER in folder.names():
            self._check_same()
            self._claim()
            self._take_over()
        if self._asked and HEADER not in folder.names():
            self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OutputError):
            self._leave()
        self._release()

    def _leave(self) -> None:
        folder = self.parts.folder
        if self._lock is None and isinstance(folder, LocalFolder):
            return  # nothing was begun, or another run has the folder
        if not folder.names():
            return
        found = segments(self.parts.found(), self._identity.shape[0])
        rows = sum(len(r) for r, part in found if part is not None)
        if not rows:
            folder.clear()
            return
        self._warn(
            f"{100 * rows / self._identity.shape[0]:.0f} % of the map is finished and kept in "
            f"{folder.location}: the same command with --resume goes on there"
        )

    def finish(self) -> None:
        """Removes the journal of a run that has succeeded."""
        if len(self._computers) > 1:
            self._warn(
                f"the map was computed by {' and '.join(sorted(self._computers))}: they may round "
                "differently where two classes are equally likely"
            )
        if self._lock is not None or not isinstance(self.parts.folder, LocalFolder):
            self.parts.folder.clear()
        self._release()

    def refresh(self) -> None:
        """Looks again which rows are finished, after other processes have computed."""
        self._use(self.parts.found())

    def missing(self) -> list[range]:
        """The rows that are in no part."""
        return [rows for rows, part in self.todo if part is None]

    def on_block(self, raster: str) -> OnBlock:
        """Takes the blocks of a raster while its rows are recorded."""

        def take(block: Window, values: NDArray[np.uint8]) -> None:
            if self._writer is not None:
                with self._spared():
                    self._writer.add(raster, block, values)

        return take

    @contextlib.contextmanager
    def recording(self, rows: range, computer: str) -> Iterator[None]:
        """Makes durable what is computed of some rows.

        Args:
            computer: What computes, in words.
        """
        self._computers.add(computer)
        pause = 0.0 if self._asked else _PAUSE
        if not self._given_up:
            self._writer = PartWriter(self.parts, rows, computer, _SECONDS, pause)
        try:
            yield
        finally:
            if self._writer is not None:
                self._writer.close()
            self._writer = None

    def due(self) -> bool:
        """See ``Checkpoint``."""
        return self._writer is not None and self._writer.due()

    def take(self, rows: int, empty_tiles: Mapping[int, int]) -> None:
        """See ``Checkpoint``."""
        self.empty_tiles.update(empty_tiles)
        if self._writer is not None:
            with self._spared():
                self._writer.take(rows, empty_tiles)

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """A journal that nobody asked for is given up rather than the run."""
        try:
            yield
        except OutputError as error:
            if self._asked:
                raise
            self._given_up = True
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
            if self._lock is not None:
                self.parts.folder.clear()
            self._warn(f"the run cannot be resumed after a failure ({error})")

    def _begin(self) -> None:
        folder = self.parts.folder
        folder.create()
        self._claim()
        # What a run has left that was killed while it removed its journal.
        folder.clear(keep=_LOCK)
        known = {
            "fingerprint": self._identity.fingerprint,
            "rasters": self._identity.bands,
            "batch_size": self.batch_size,
        }
        folder.put_text(HEADER, json.dumps(known, indent=1))

    def _check_same(self) -> None:
        output, folder = self._identity.output, self.parts.folder
        check_journal(output, self._run)
        try:
            earlier = json.loads(folder.text(HEADER))
            before = {**earlier["fingerprint"], "rasters": earlier["rasters"]}
            batch_size = int(earlier["batch_size"])
        except (ValueError, KeyError, TypeError):
            raise OutputError(
                f"{folder.location}/{HEADER}: is damaged, so that the earlier run cannot go on; "
                "pass --no-resume to begin again"
            ) from None
        now = {**self._identity.fingerprint, "rasters": dict(self._identity.bands)}
        differs = difference(before, now)
        if differs is not None:
            raise UsageError(
                f"{output}: the earlier run was another one: {differs}; run it with the settings "
                "and files of then, or pass --no-resume to begin again"
            )
        if self._identity.fingerprint.get("--batch-size") is None:
            self.batch_size = batch_size

    def _take_over(self) -> None:
        found = self.parts.found()
        intact = [part for part in found if self.parts.intact(part)]
        if len(intact) < len(found):
            self._warn("some finished rows are damaged and are computed again")
        self._use(intact)
        rows = sum(len(rows) for rows, part in self.todo if part is not None)
        share = 100 * rows / self._identity.shape[0]
        self._on_event(
            {"event": "decision", "text": f"resume: {share:.0f} % of the map is finished already"}
        )

    def _use(self, parts: list[Part]) -> None:
        self.todo = segments(parts, self._identity.shape[0])
        for _, part in self.todo:
            if part is not None:
                self.empty_tiles.update(part.empty_tiles)
                self._computers.add(part.computer)

    def _claim(self) -> None:
        """Keeps other runs of this machine away from the folder."""
        folder = self.parts.folder
        if self._lock is not None or not isinstance(folder, LocalFolder):
            return
        if not os.path.isdir(folder.location):
            return
        self._lock = _locked(Path(folder.location) / _LOCK)
        if self._lock is None:
            raise OutputError(
                f"{self._identity.output}: another run is writing it at this moment; wait for its "
                "end, or write to another path"
            )

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _warn(self, text: str) -> None:
        self._on_event({"event": "warning", "text": text})


_LOCK = "lock"


def _locked(path: Path) -> IO[str] | None:
    """An open file that no other process locks, or None. It is released even by ``kill -9``."""
    try:
        file = path.open("w")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; check that this can be written") from None
    try:
        import fcntl
    except ImportError:  # Windows
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # a file system without locks
    return file
