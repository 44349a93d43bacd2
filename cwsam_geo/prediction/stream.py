"""The threads of the pipeline: one reads row bands ahead, one writes results. Both bound memory."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.tiling import TilePlan

if TYPE_CHECKING:
    from cwsam_geo.scene.source import Source

_READ_ROWS = 256
"""Rows per read, rounded up to whole blocks: the reader's temporary arrays stay small compared with
the band."""

_BANDS_ALIVE = 2
"""Row bands in memory: one that is mapped and one that is being read."""


@dataclass(frozen=True)
class RowBand:
    """All pixels of the scene that one row of a plan's tiles covers or settles.

    Attributes:
        window: The band's place in the scene.
        values: Raw bands, shape (N, h, w), float32.
        valid: True where there is data, shape (h, w).
    """

    window: Window
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def cut(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cuts a tile out; past the scene's edge, pixels repeat the edge and are not valid.

        Args:
            window: The tile, whose first row and column lie inside the band.

        Returns:
            Values, shape (N, h, w), and valid, shape (h, w).
        """
        inside = window.intersect(self.window).within(self.window)
        values = self.values[(slice(None), *inside.slices)]
        valid = self.valid[inside.slices]
        short = window.height - inside.height, window.width - inside.width
        if short == (0, 0):
            return values, valid
        pad = (0, short[0]), (0, short[1])
        return np.pad(values, ((0, 0), *pad), mode="edge"), np.pad(valid, pad)


class BandReader:
    """Reads the rows that a plan needs once, from top to bottom, as one band per row of tiles.

    A thread reads one band ahead. Rows that two bands share are copied, not read again, and reads
    begin at block borders. Reading tile by tile would make GDAL decode a file of one-line strips
    20 times over.

    The thread starts at once, but reads only the first band until the iteration begins. Use the
    reader as a context manager: leaving it stops the thread.

    Raises:
        SceneError: The source cannot be read. The iteration raises the error.
    """

    def __init__(self, source: Source, plan: TilePlan) -> None:
        self._source, self._plan = source, plan
        self._permits = threading.Semaphore(1)
        self._out: queue.Queue[RowBand | BaseException | None] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="cwsam-geo reader", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            band = None
            for i in self._plan.rows:
                self._permits.acquire()
                if self._stop.is_set():
                    return
                band = _next_band(self._source, self._plan, i, band, self._stop)
                self._out.put(band)
            self._out.put(None)
        except BaseException as error:
            self._out.put(error)

    def __iter__(self) -> Iterator[RowBand]:
        self._permits.release(_BANDS_ALIVE - 1)
        while (item := self._out.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            # Free this band before the reader may allocate another.
            del item
            self._permits.release()

    def close(self) -> None:
        """Stops the thread and waits for its end."""
        # The reader may be waiting for a permit: it gets one, sees the signal and returns.
        self._stop.set()
        self._permits.release()
        self._thread.join()

    def __enter__(self) -> BandReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _next_band(
    source: Source, plan: TilePlan, i: int, previous: RowBand | None, stop: threading.Event
) -> RowBand:
    window = band_window(plan, i)
    values = np.empty((source.grid.count, window.height, window.width), np.float32)
    valid = np.empty((window.height, window.width), np.bool_)
    start = window.row
    # Copy the rows that the previous band has read, and read the rest.
    if previous is not None and previous.window.bottom > start:
        shared = previous.window.bottom - start
        values[:, :shared] = previous.values[:, -shared:]
        valid[:shared] = previous.valid[-shared:]
        start += shared
    for part in _read_windows(window, start, source.grid.block_shape[0]):
        if stop.is_set():
            break
        rows = slice(part.row - window.row, part.bottom - window.row)
        values[:, rows], valid[rows] = source.read(part)
    return RowBand(window, values, valid)


def band_window(plan: TilePlan, row_index: int) -> Window:
    """The pixels of the scene that a row of tiles covers or settles."""
    first, last = plan.tile(row_index, plan.cols[0]), plan.tile(row_index, plan.cols[-1])
    # Tiles settle pixels from half a stride above and to the left of their first pixel on.
    row, col = max(0, first.reaches.row), max(0, first.reaches.col)
    bottom, right = min(last.window.bottom, plan.height), min(last.window.right, plan.width)
    return Window(row, col, bottom - row, right - col)


def _read_windows(band: Window, start: int, block_rows: int) -> Iterator[Window]:
    """Windows of whole rows of blocks that cover a band from the row ``start`` on."""
    step = -(-_READ_ROWS // block_rows) * block_rows
    while start < band.bottom:
        end = min((start // step + 1) * step, band.bottom)
        yield Window(start, band.col, end - start, band.width)
        start = end


class Backlog:
    """Runs jobs one after another in a thread of its own, with a bounded queue.

    Use it as a context manager. Leaving it waits until all jobs are done. Leaving it with an error
    waits for the running job only and drops those in the queue, and so does an interrupt (Ctrl-C)
    during the wait.

    Args:
        limit: Jobs in the queue, at most.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(limit)
        self._failure: BaseException | None = None
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def put(self, job: Callable[[], None]) -> None:
        """Queues a job; blocks while the queue is full.

        Raises:
            BaseException: The error of an earlier job.
        """
        self._raise()
        self._jobs.put(job)

    def drain(self) -> None:
        """Waits until all queued jobs are done.

        Raises:
            BaseException: The error of a job.
        """
        done = threading.Event()
        self.put(done.set)
        # After a failed job the queue is emptied without running the rest.
        while not done.wait(0.1):
            self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            # After a failure the queue is still emptied, or put() would block for ever.
            if self._failure is None and not self._stopped.is_set():
                try:
                    job()
                except BaseException as error:
                    self._failure = error
            # Free the job's pixels before waiting for the next job.
            del job
        self._ended.set()

    def __enter__(self) -> Backlog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stopped.set()
        self._finish()
        if error is None:
            self._raise()

    def _finish(self) -> None:
        """Waits for the thread; an interrupt drops the queued jobs and is raised afterwards.

        Without this wait the caller would close the file that the running job writes to.
        """
        interrupt: BaseException | None = None
        # join() alone is not safe: after an interrupt, CPython up to 3.12 wrongly considers the
        # thread ended. The event is set when the thread really ends.
        while not self._ended.is_set():
            try:
                with contextlib.suppress(queue.Full):
                    self._jobs.put(None, timeout=0.1)
                    self._ended.wait()
            except BaseException as caught:  # Ctrl-C, possibly more than once
                self._stopped.set()
                interrupt = caught
        self._thread.join()
        if interrupt is not None:
            raise interrupt
