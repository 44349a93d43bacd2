"""``--dask``: shards as the tasks of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cwsam_geo._version import __version__
from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError, one_line
from cwsam_geo.model.device import check_compile, cuda_count, device_kind, thread_count
from cwsam_geo.model.store import load_full
from cwsam_geo.prediction.cluster_worker import OFTEN, How, Work, compute_shard, describe_worker
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.prediction.preparation import ModelFacts
from cwsam_geo.prediction.shards import OnTold, ShardTask

if TYPE_CHECKING:
    from typing_extensions import Self

_ADDRESS = re.compile(r"local(?::([1-9]\d*))?")

_PATIENCE = 20
"""Seconds until a scheduler must answer, and until it must have a worker."""

_CORES = 4
"""Cores for each local worker on a machine without a GPU, if the user gives no number."""


class Cluster:
    """Workers of a Dask cluster that compute shards. Use it as a context manager.

    Each worker gets the model once. A task needs one ``GPU`` where workers offer that resource.
    When the process that made this object ends, its tasks are cancelled.

    Args:
        address: Address of a scheduler, ``local`` or ``local:N``.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._local = _ADDRESS.fullmatch(address)
        if self._local is None and "://" not in address:
            raise UsageError(f"--dask {address}: give tcp://HOST:8786, local or local:N")
        self._open = contextlib.ExitStack()
        self._client: Any = None
        self._threads: int | None = None
        self._resources: dict[str, int] = {}
        # The model's bytes on the workers, and how they compute; see ``send``.
        self._model: Any = None
        self._how: How | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._client = stack.enter_context(self._connect(stack))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A cluster that is gone cannot be left in order.
        with contextlib.suppress(Exception):
            self._open.close()

    def _connect(self, stack: contextlib.ExitStack) -> Any:
        try:
            import distributed
        except ImportError:
            raise UsageError(
                '--dask: Dask is not installed; run: pip install "cwsam-geo[dask]"'
            ) from None
        # Its messages on lost workers and closed connections: the run tells them itself.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if self._local is not None:
            cluster = distributed.LocalCluster(
                n_workers=self._workers_here(),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            return distributed.Client(stack.enter_context(cluster))
        try:
            client = distributed.Client(self._address, timeout=_PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"--dask {self._address}: no scheduler answers there ({one_line(str(error))}); "
                "start one with `dask scheduler`, or give --dask local"
            ) from None
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            client.close()
            raise UsageError(
                f"--dask {self._address}: the scheduler has no workers; start some with "
                f"`dask worker {self._address}`"
            ) from None
        return client

    def _workers_here(self) -> int:
        assert self._local is not None
        given = self._local.group(1)
        count = int(given) if given else cuda_count() or max(1, thread_count() // _CORES)
        if not cuda_count():
            self._threads = max(1, thread_count() // count)
        return count

    @property
    def size(self) -> int:
        """Number of workers."""
        return max(1, len(self._workers()))

    @property
    def name(self) -> str:
        """The cluster's address and size."""
        return f"{self.size} Dask workers ({self._address})"

    def _workers(self) -> dict[str, Any]:
        info: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return info

    def choose(self, model: ModelFacts, options: PredictOptions) -> ModelFacts:
        """The model as the workers compute with it: their device, precision and batch size.

        Raises:
            UsageError: The workers have another version of this package, or differ among each
                other.
        """
        architecture = model.header.architecture
        try:
            told = self._client.run(
                describe_worker, options.device, options.precision, architecture
            )
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"--dask {self._address}: the workers lack this version of cwsam-geo "
                f"({one_line(str(error))}); install cwsam-geo {__version__} on them"
            ) from None
        for worker, facts in told.items():
            if facts.version != __version__:
                raise UsageError(
                    f"--dask {self._address}: worker {worker} has cwsam-geo {facts.version}, this "
                    f"machine has {__version__}; install the same version on all"
                )
        kinds = {(facts.device, facts.precision) for facts in told.values()}
        if len(kinds) > 1:
            listed = " and ".join(sorted(f"{d} ({p})" for d, p in kinds))
            raise UsageError(
                f"--dask {self._address}: the workers compute on {listed}, which round "
                "differently; choose with --device and --precision, or use workers of one kind"
            )
        ((device, precision),) = kinds
        if any("GPU" in worker.get("resources", {}) for worker in self._workers().values()):
            self._resources = {"GPU": 1}
        if options.compile:
            check_compile(device_kind(device))
        batch_size = min(facts.batch_size for facts in told.values())
        return ModelFacts(model.header, model.path, device_kind(device), precision, batch_size)

    def send(self, model: ModelFacts, compile: bool) -> None:
        """Sends the model to all workers; those that join later get it with their first task."""
        assert model.path is not None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            load_full(model.path).save(file)
            content = file.read_bytes()
        self._model = self._client.scatter(content, broadcast=True, hash=False)
        self._how = How(
            f"{model.sha256}-{model.precision}-{compile}",
            model.precision,
            compile,
            model.device.type,
            self._threads,
            self._local is not None,
        )

    def map(self, task: ShardTask, shards: Sequence[range], on_told: OnTold) -> tuple[int, float]:
        """See ``ShardPool``."""
        assert self._how is not None
        topic = f"cwsam-geo-{secrets.token_hex(8)}"
        messages: queue.Queue[Any] = queue.Queue()
        self._client.subscribe_topic(topic, lambda event: messages.put(event[1]))
        futures = {
            self._client.submit(
                compute_shard,
                self._model,
                Work(task, rows, self._how, topic),
                pure=False,
                retries=1,
                resources=self._resources or None,
            ): rows
            for rows in shards
        }
        for future in futures:
            future.add_done_callback(messages.put)
        try:
            return self._collect(task, futures, messages, on_told)
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel(list(futures), force=True)
                self._client.unsubscribe_topic(topic)

    def _collect(
        self,
        task: ShardTask,
        futures: dict[Any, range],
        messages: queue.Queue[Any],
        on_told: OnTold,
    ) -> tuple[int, float]:
        pixels: dict[int, int] = {}
        results: list[tuple[int, float]] = []
        workers, checked = set(self._workers()), time.monotonic()
        while len(results) < len(futures):
            message = None
            with contextlib.suppress(queue.Empty):
                message = messages.get(timeout=OFTEN)
            if isinstance(message, (tuple, list)):
                start, count = message
                pixels[start] = count
            elif message is not None:
                rows = futures[message]
                results.append(self._result(message))
                pixels[rows.start] = len(rows) * task.shape[1]
            if message is None:
                on_told("waiting", None)
            else:
                on_told("progress", sum(pixels.values()))
            if time.monotonic() - checked > 1:
                now, checked = set(self._workers()), time.monotonic()
                for worker in workers - now:
                    on_told("warning", f"worker {worker} is gone; others compute its rows")
                workers = now
        return min(size for size, _ in results), sum(seconds for _, seconds in results)

    def _result(self, future: Any) -> tuple[int, float]:
        """Batch size and seconds of a shard.

        Raises:
            CwsamGeoError: It failed.
        """
        if future.cancelled() or future.status == "lost":
            raise OutputError(
                f"--dask {self._address}: the scheduler is gone; pass --resume to go on"
            )
        error = future.exception()
        if error is None:
            result: tuple[int, float] = future.result()
            return result
        if isinstance(error, CwsamGeoError):
            raise error
        if type(error).__name__ == "KilledWorker":
            raise OutputError(
                f"--dask {self._address}: several workers ended while they computed the same rows, "
                "usually because memory ran out; give them more memory, or pass a smaller "
                "--batch-size, and --resume to go on"
            )
        raise error
