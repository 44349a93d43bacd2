"""Processes that compute the shards of scenes, one for each device."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cwsam_geo.errors
from cwsam_geo.errors import CwsamGeoError, NoModelError, OutputError
from cwsam_geo.prediction.devices import ProcessPlace
from cwsam_geo.prediction.shards import OnTold, ShardModel, ShardTask, rest_of
from cwsam_geo.prediction.worker import Assignment, Told, work

if TYPE_CHECKING:
    from typing_extensions import Self

_TRIES = 2
"""Processes that try a shard before the run fails: the second may have what the first lacks."""

_PATIENCE = 5.0
"""Seconds until a process that was asked to end is killed."""


@dataclass
class _Job:
    """The shards of one scene."""

    task: ShardTask
    waiting: deque[range]
    messages: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    running: set[int] = field(default_factory=set)
    failures: int = 0
    settled: int = 0
    batch_size: int | None = None
    model_seconds: float = 0.0


@dataclass
class _Run:
    """A shard that a process computes."""

    job: _Job
    rows: range
    finished: list[range] = field(default_factory=list)
    pixels: int = 0


@dataclass
class _Process:
    place: ProcessPlace
    process: Any
    pipe: Connection
    shard: int | None = None


class DevicePool:
    """A process on each device. The processes stay while scenes come and go.

    Use it as a context manager: leaving it ends the processes. Several threads may call ``map``.

    Args:
        places: Where each process computes.
        model: The model that every process loads once.
    """

    def __init__(self, places: Sequence[ProcessPlace], model: ShardModel) -> None:
        self._places, self._model = places, model
        self._processes: list[_Process] = []
        self._jobs: list[_Job] = []
        self._runs: dict[int, _Run] = {}
        self._number = 0
        self._lacking = False
        self._lock = threading.Lock()
        self._wake, self._waked = multiprocessing.Pipe()
        self._stop = False
        self._thread = threading.Thread(target=self._watch, name="cwsam-geo pool", daemon=True)

    @property
    def size(self) -> int:
        """Number of processes that are alive."""
        return len(self._processes)

    @property
    def name(self) -> str:
        """The devices, with a count where there are several processes on one."""
        counts = Counter(place.device for place in self._places)
        return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())

    def __enter__(self) -> Self:
        try:
            self._start_lacking()
        except BaseException:
            self._end()
            raise
        self._thread.start()
        return self

    def _start_lacking(self) -> None:
        """Starts a process in each place that has none."""
        # CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        lacking = Counter(self._places) - Counter(worker.place for worker in self._processes)
        for place in lacking.elements():
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, place, self._model), daemon=True)
            with _without_interrupts():
                process.start()
            # Only the process itself may hold this end: its end is then noticed.
            theirs.close()
            self._processes.append(_Process(place, process, ours))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop = True
        self._wake.send(None)
        self._thread.join()
        self._end()

    def _end(self) -> None:
        for worker in self._processes:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._processes:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._processes.clear()

    def map(self, task: ShardTask, shards: Sequence[range], on_told: OnTold) -> tuple[int, float]:
        """Computes shards of a scene; returns when all of them are in parts.

        Args:
            on_told: Called in this thread.

        Returns:
            The smallest batch size, and the seconds that the model computed, over all processes.

        Raises:
            CwsamGeoError: A shard failed on two devices, or no process is left.
        """
        job = _Job(task, deque(shards))
        with self._lock:
            self._jobs.append(job)
            # Processes that one scene has cost are there again for the next one.
            self._lacking = True
        self._wake.send(None)
        try:
            while True:
                # With a timeout, Ctrl-C is noticed on Windows, too.
                try:
                    kind, value = job.messages.get(timeout=0.5)
                except queue.Empty:
                    kind, value = "waiting", None
                if kind == "error":
                    raise value
                if kind == "done":
                    return job.batch_size or task.settings.batch_size, job.model_seconds
                on_told(kind, value)
        finally:
            with self._lock:
                job.waiting.clear()
                self._jobs.remove(job)

    def _watch(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            for job in list(self._jobs):
                job.messages.put(("error", error))
            raise

    def _serve(self) -> None:
        """Gives shards to processes that are idle, and takes their messages."""
        while not self._stop:
            with self._lock:
                if self._lacking:
                    self._lacking = False
                    self._start_lacking()
                self._assign()
            pipes = {worker.pipe: worker for worker in self._processes}
            for ready in wait([*pipes, self._waked]):
                if ready is self._waked:
                    self._waked.recv()
                    continue
                worker = pipes[ready]  # type: ignore[index]
                try:
                    told = worker.pipe.recv()
                except (EOFError, OSError):
                    self._lost(worker)
                else:
                    self._take(worker, told)

    def _assign(self) -> None:
        for worker in self._processes:
            job = next((job for job in self._jobs if job.waiting), None)
            if worker.shard is not None or job is None:
                continue
            self._number += 1
            rows = job.waiting.popleft()
            self._runs[self._number] = _Run(job, rows)
            job.running.add(self._number)
            worker.shard = self._number
            # A process that has just ended is noticed when its pipe is read.
            with contextlib.suppress(OSError):
                worker.pipe.send(Assignment(self._number, job.task, rows))
        for job in self._jobs:
            if not job.waiting and not job.running:
                job.messages.put(("done", None))
            elif not self._processes:
                job.messages.put(("error", OutputError("no process is left to compute the scene")))

    def _take(self, worker: _Process, told: Told) -> None:
        run = self._runs[told.number]
        job = run.job
        if told.kind == "progress":
            run.pixels = told.values[0]
            pixels = sum(self._runs[number].pixels for number in job.running)
            job.messages.put(("progress", job.settled + pixels))
        elif told.kind == "part":
            run.finished.append(told.values[0])
        elif told.kind == "done":
            batch_size, seconds = told.values
            job.batch_size = min(batch_size, job.batch_size or batch_size)
            job.model_seconds += seconds
            self._settle(worker, run)
        else:
            kind, text = told.values
            self._failed(worker, run, kind, text)

    def _settle(self, worker: _Process, run: _Run) -> None:
        """The process is idle again; what it has finished of its shard counts."""
        width = run.job.task.shape[1]
        run.job.settled += width * sum(len(rows) for rows in run.finished)
        assert worker.shard is not None
        run.job.running.discard(worker.shard)
        del self._runs[worker.shard]
        worker.shard = None

    def _failed(self, worker: _Process, run: _Run, kind: str, text: str) -> None:
        self._settle(worker, run)
        if not kind:
            # Not an error of ours: the device or the process may be damaged.
            self._dismiss(worker)
        run.job.failures += 1
        problem = text.removeprefix("Error: ")
        error = _error(kind, problem)
        hopeless = isinstance(error, NoModelError)
        if hopeless or run.job.failures >= _TRIES or not self._processes:
            self._give_up(run.job, error)
        else:
            self._again(run, f"{worker.place.device}: {problem}")

    def _lost(self, worker: _Process) -> None:
        """A process has ended by itself, or was killed."""
        self._dismiss(worker)
        run = None if worker.shard is None else self._runs[worker.shard]
        how = _ending(worker.process.exitcode)
        if run is not None:
            self._settle(worker, run)
            if self._processes:
                self._again(run, f"the process on {worker.place.device} {how}")
        if not self._processes:
            error = OutputError(
                f"the process on {worker.place.device} {how}, and none is left; pass --resume to "
                "go on"
            )
            # A process that ends before it has a shard would end again. A scene that has cost the
            # last process costs no scene that waits: that one gets new processes.
            jobs = list(self._jobs) if run is None else [run.job]
            for job in jobs:
                self._give_up(job, error)
            with self._lock:
                self._lacking = any(job.waiting for job in self._jobs)

    def _again(self, run: _Run, problem: str) -> None:
        text = f"{problem}; another process computes its rows"
        run.job.messages.put(("warning", text))
        with self._lock:
            run.job.waiting.extendleft(rest_of(run.rows, run.finished))

    def _give_up(self, job: _Job, error: Exception) -> None:
        with self._lock:
            job.waiting.clear()
        job.messages.put(("error", error))

    def _dismiss(self, worker: _Process) -> None:
        worker.pipe.close()
        worker.process.terminate()
        worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        self._processes.remove(worker)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started here gets no Ctrl-C, not even before it runs code of ours."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start lets interrupts through again, so it must run before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _error(kind: str, text: str) -> Exception:
    """The error of another process."""
    found = getattr(cwsam_geo.errors, kind, None) if kind else None
    if isinstance(found, type) and issubclass(found, CwsamGeoError):
        return found(text)
    return OutputError(text)
