"""Prepares the next scene while the present one is mapped."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from cwsam_geo.batch.batch_scene import BatchScene
from cwsam_geo.batch.finished import Finished, check_finished
from cwsam_geo.batch.names import output_paths
from cwsam_geo.errors import OutputError, SceneError
from cwsam_geo.prediction.preparation import (
    Event,
    MapRequest,
    ModelFacts,
    PreparedScene,
    check_request,
    open_request,
    plan_scene,
)
from cwsam_geo.prediction.stream import BandReader

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Turn:
    """A scene whose turn it is.

    Attributes:
        index: Position among the scenes, from 0.
        prepared: The scene, ready to be mapped; None if it need not or cannot be mapped.
        bands: Has begun to read the scene.
        finished: What of its outputs is there already.
        error: Why the scene cannot be mapped.
        events: Decisions and warnings of its preparation.
    """

    index: int
    prepared: PreparedScene | None = None
    bands: BandReader | None = None
    finished: Finished = field(default_factory=lambda: Finished(False))
    error: Exception | None = None
    events: list[Event] = field(default_factory=list)

    def close(self) -> None:
        """Stops reading and closes the scene's files."""
        if self.bands is not None:
            self.bands.close()
        if self.prepared is not None:
            self.prepared.close()
            self.prepared.request.uploads.close()


class Ahead:
    """Prepares scenes in a thread of its own, one ahead of those that are mapped.

    Use it as a context manager, and close each turn.

    Args:
        scenes: The scenes.
        requests: What to write for each scene.
        reads: Whether to read the rows that the first tiles of the prepared scene need: memory then
            grows by one row band.
    """

    def __init__(
        self,
        scenes: Sequence[BatchScene],
        requests: Sequence[MapRequest],
        model: ModelFacts,
        reads: bool,
    ) -> None:
        self._scenes, self._requests, self._model, self._reads = scenes, requests, model, reads
        self._permits = threading.Semaphore(1)
        self._out: queue.Queue[Turn | BaseException | None] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="cwsam-geo opener", daemon=True)

    def take(self) -> Turn | None:
        """The next scene, in the order of the batch; None after the last. Threads may share it."""
        item = self._out.get()
        if isinstance(item, Turn):
            self._permits.release()
            return item
        # Another thread may wait for the end, too.
        self._out.put(None)
        if item is not None:
            raise item
        return None

    def stop(self) -> None:
        """Prepares no more scenes; ``take`` returns None after those that are prepared."""
        self._stop.set()
        self._permits.release()

    def _work(self) -> None:
        try:
            for index in range(len(self._scenes)):
                self._permits.acquire()
                if self._stop.is_set():
                    break
                self._out.put(self._turn(index))
            self._out.put(None)
        except BaseException as error:
            self._out.put(error)

    def _turn(self, index: int) -> Turn:
        turn = Turn(index)
        try:
            self._prepare(turn)
        except Exception as error:
            turn.close()
            self._requests[index].uploads.close()
            turn.prepared = turn.bands = None
            turn.error = error
        return turn

    def _prepare(self, turn: Turn) -> None:
        scene, request = self._scenes[turn.index], self._requests[turn.index]
        if scene.problem is not None:
            raise SceneError(scene.problem)
        with contextlib.ExitStack() as stack:
            whole = stack.enter_context(open_request(request))
            turn.finished = check_finished(request, whole, self._model)
            if not turn.finished.rasters:
                make_folders(request)
                targets = check_request(request)
                request.uploads.check(request.outputs.overwrite)
                turn.prepared = plan_scene(request, whole, self._model, targets, turn.events.append)
                if self._reads:
                    turn.bands = BandReader(turn.prepared.source, turn.prepared.plan)
                stack.pop_all()  # the turn now closes the files

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()
        # A scene that was prepared for nobody.
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._out.get_nowait()
                if isinstance(item, Turn):
                    item.close()


def make_folders(request: MapRequest) -> None:
    """Makes the folders of a request's outputs: patterns such as ``{parent}/{stem}`` need them.

    Raises:
        OutputError: A folder cannot be made.
    """
    request.uploads.begin()
    for path in output_paths(request):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path}: its folder cannot be made ({error.strerror}); choose another output"
            ) from None
