"""When a device had nothing to do while ``predict`` mapped a scene, and what the CPU did then."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EVERY = 0.001
"""Seconds between two looks at what the main thread does."""

_MARK = "start of the waits"
"""Name of a profiled range that ties the profiler's clock to Python's."""

_SHOWN = 20
"""Waits that are listed, the longest first."""


def united(starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """Joins intervals that overlap; both arrays have shape (N,), and the result is sorted."""
    order = np.argsort(starts)
    starts, latest = starts[order], np.maximum.accumulate(ends[order])
    first = np.ones(len(starts), bool)
    first[1:] = starts[1:] > latest[:-1]
    return starts[first], latest[np.append(np.flatnonzero(first)[1:] - 1, len(starts) - 1)]


@dataclass(frozen=True)
class Wait:
    """A time in which the device had nothing to do.

    Attributes:
        begin: Seconds since the first work of the device.
        seconds: Its duration.
        cpu: What the main thread did most of that time.
    """

    begin: float
    seconds: float
    cpu: str


class Looks(threading.Thread):
    """Notes again and again in which of the package's functions the main thread is."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._main = threading.main_thread().ident
        self._over = threading.Event()
        self.times: list[float] = []
        self.places: list[str] = []

    def run(self) -> None:
        """Looks until ``stop``."""
        while not self._over.wait(_EVERY):
            frame = sys._current_frames().get(self._main or 0)
            self.times.append(time.perf_counter())
            self.places.append(place_of(frame))

    def stop(self) -> None:
        """Ends the thread."""
        self._over.set()
        self.join()


def place_of(frame: FrameType | None) -> str:
    """The innermost function of the package, with the line where it is."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "cwsam_geo" in path.parts:
            return f"{path.parent.name}/{path.stem}.{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside the package"


def waits_of(starts: Floats, ends: Floats, looks: Looks | None) -> tuple[float, list[Wait]]:
    """The share of the time that the device was busy, and its waits, the longest first.

    Args:
        starts: When work of the device began, in seconds, shape (N,).
        ends: When it ended, shape (N,).
        looks: What the CPU did, on the same clock.
    """
    starts, ends = united(starts, ends)
    whole = ends[-1] - starts[0]
    begins, durations = ends[:-1], starts[1:] - ends[:-1]
    found = []
    for i in np.argsort(durations)[::-1][:_SHOWN]:
        cpu = during(looks, begins[i], begins[i] + durations[i]) if looks else ""
        found.append(Wait(float(begins[i] - starts[0]), float(durations[i]), cpu))
    return float((ends - starts).sum() / whole), found


def during(looks: Looks, begin: float, end: float) -> str:
    """What the main thread did most between two times."""
    first, last = np.searchsorted(looks.times, [begin, end])
    places: Sequence[str] = looks.places[first : max(last, first + 1)]
    return Counter(places).most_common(1)[0][0] if places else "not seen"


def profiled(model: str, megapixels: float, device: str, folder: str) -> dict[str, Any]:
    """Maps a scene twice, the second time under torch's profiler.

    Args:
        model: What ``-m`` of predict.py takes.
        megapixels: Size of the simulated scene.
        device: ``cuda`` or ``cpu``.
        folder: For scenes and untrained models.

    Returns:
        The share that the device was busy between its first and its last work, and its waits.
    """
    import torch
    from scenes import benchmark_scene, size_of
    from untrained import model_of

    from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
    from cwsam_geo.prediction.predict_scene import predict_scene

    scene = benchmark_scene(Path(folder), size_of(megapixels))
    precision = "bf16" if device == "cuda" else "fp32"
    options = PredictOptions(model=model_of(model, Path(folder)), device=device)
    options = PredictOptions(**{**vars(options), "precision": precision})
    with TemporaryDirectory() as here:
        output, again = Path(here) / "map.tif", PredictOutputs(overwrite=True)
        predict_scene(scene, output, options, again)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if device == "cuda":
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        looks = Looks()
        with torch.profiler.profile(activities=kinds) as profile:
            looks.start()
            marked = time.perf_counter()
            with torch.profiler.record_function(_MARK):
                pass
            predict_scene(scene, output, options, again)
            looks.stop()
    events = profile.events() or []
    mark = next(e.time_range.start for e in events if e.name == _MARK)
    work = [e.time_range for e in events if is_work(e, device)]
    starts, ends = (
        np.array([(getattr(w, side) - mark) / 1e6 + marked for w in work])
        for side in ("start", "end")
    )
    busy, waits = waits_of(starts, ends, looks)
    return {
        "model": model,
        "megapixels": megapixels,
        "device": device,
        "seconds": float(ends.max() - starts.min()),
        "busy": busy,
        "waits": [vars(wait) for wait in waits],
    }


def is_work(event: Any, device: str) -> bool:
    """Whether an event of the profiler is work of the device; on a CPU, an operator of torch."""
    kind = str(event.device_type).rpartition(".")[2].lower()
    return kind == device and (device != "cpu" or event.name.startswith(("aten::", "mkldnn::")))
