"""What a Dask worker does: computes rows of a map, with a model that it loads once."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.errors import OutputError
from cwsam_geo.io.shared_folder import shared_folder
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.device import (
    Precision,
    auto_batch_size,
    cuda_count,
    resolve_device,
    resolve_precision,
    use_threads,
)
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.prediction.journal import HEADER
from cwsam_geo.prediction.pipeline import Progress
from cwsam_geo.prediction.shards import ShardTask, run_shard

OFTEN = 0.5
"""Seconds from one message on progress to the next."""


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker computes with.

    Attributes:
        version: Version of this package.
        device: Kind of device.
        batch_size: Tiles that fit into its memory at once.
    """

    version: str
    device: str
    precision: Precision
    batch_size: int


def describe_worker(device: str, precision: str, architecture: Architecture) -> WorkerFacts:
    """What this worker computes with; runs on each worker.

    Args:
        device: Name of a device, as ``--device`` takes it.
        precision: As ``--precision`` takes it.
    """
    found = resolve_device(device)
    return WorkerFacts(
        __version__,
        found.type,
        resolve_precision(precision, found, fast=True),
        auto_batch_size(architecture, found),
    )


@dataclass(frozen=True)
class How:
    """How a worker computes.

    Attributes:
        key: Identifies model, precision and compilation.
        threads: Threads on a CPU; None for torch's choice.
        own_gpu: Whether the worker's name says which GPU of this machine is its own.
    """

    key: str
    precision: Precision
    compile: bool
    device: str
    threads: int | None
    own_gpu: bool


@dataclass(frozen=True)
class Work:
    """Rows for a worker.

    Attributes:
        topic: Under which it tells its progress.
    """

    task: ShardTask
    rows: range
    how: How
    topic: str


_BUSY = threading.Lock()
"""A process computes one shard at a time, however many threads its worker has."""

_LOADED: dict[str, LoadedModel] = {}
"""The model of this worker, by ``How.key``: it is loaded once."""


def compute_shard(content: bytes, work: Work) -> tuple[int, float]:
    """Computes rows of a map; runs on a worker.

    Args:
        content: The model's bundle.

    Returns:
        Batch size, and seconds that the model computed.

    Raises:
        CwsamGeoError: See ``run_shard``; or this worker has another version of this package, or
            does not see the folder of the parts.
    """
    from distributed import get_worker

    worker: Any = get_worker()
    with _BUSY:
        folder = shared_folder(work.task.folder)
        if HEADER not in folder.names():
            raise OutputError(
                f"{folder.location}: is not there for worker {worker.address}; give --parts a "
                "folder that all machines share, or a URL such as s3://bucket/parts"
            )
        predictor = TorchPredictor(_model(content, work.how, worker), work.task.request.options.tta)
        with contextlib.closing(work.task.open()) as source:
            teller = _Teller(worker, work)
            summary = run_shard(
                work.task, work.rows, source, predictor, teller.progress, lambda _: None
            )
    return summary.batch_size, summary.model_seconds


def _model(content: bytes, how: How, worker: Any) -> LoadedModel:
    if how.key not in _LOADED:
        if how.threads is not None:
            use_threads(how.threads)
        device = how.device
        if device == "cuda" and how.own_gpu:
            device = f"cuda:{int(worker.name) % cuda_count()}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            file.write_bytes(content)
            bundle = ModelBundle.load(file)
        _LOADED.clear()
        _LOADED[how.key] = LoadedModel(
            bundle, resolve_device(device), how.precision, "fast", how.compile
        )
    return _LOADED[how.key]


class _Teller:
    """Tells the progress of a shard, and stops its work when nobody waits for it any more."""

    def __init__(self, worker: Any, work: Work) -> None:
        from distributed.worker import thread_state

        self._worker, self._work = worker, work
        self._key = thread_state.key
        self._next = 0.0

    def progress(self, progress: Progress) -> None:
        """Called after every batch of tiles."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + OFTEN
        state = self._worker.state.tasks.get(self._key)
        if state is None or state.state == "cancelled":
            raise OutputError("the run was given up")
        self._worker.log_event(self._work.topic, (self._work.rows.start, progress.pixels))
