"""Asynchronous transfers between the CPU and CUDA: only reading a result waits for the device.

On a CPU everything here is done at once. The CUDA side has not been run on a GPU yet.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor


def pinned(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes an empty tensor in pinned host memory, which CUDA copies asynchronously.

    torch's caching allocator reuses the memory only when the copies that use it are complete. For
    other devices than CUDA the tensor is in ordinary memory.
    """
    if device.type == "cuda":
        # Where no memory can be pinned, ordinary memory works too: its copies are slower and wait.
        with contextlib.suppress(RuntimeError):
            return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
    return torch.empty(tuple(shape), dtype=dtype)


class Fetched:
    """A tensor that is being copied to the CPU; it may be read in another thread.

    Args:
        tensor: A tensor on any device; one on the CPU is not copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._host = tensor.cpu()
            return
        self._host = pinned(tensor.shape, tensor.dtype, tensor.device)
        self._host.copy_(tensor, non_blocking=True)
        # A blocking event: a thread that waits for it sleeps instead of spinning.
        self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(tensor.device))

    @property
    def ready(self) -> bool:
        """Whether the tensor can be read without waiting."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def numpy(self) -> NDArray[Any]:
        """Waits for the copy and returns the values."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[Any] = self._host.numpy()
        return array


class Uploads:
    """Copies tensors to a device while it computes, in a stream of their own.

    Work that is queued on the device after a copy waits for the copy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, host: Tensor) -> Tensor:
        """Copies ``host``, made by ``pinned``, to the device; do not write to ``host`` any more."""
        if self._stream is None:
            return host.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            copy = host.to(self._device, non_blocking=True)
        computing.wait_stream(self._stream)
        # The copy's memory belongs to the upload stream: it must not be reused while the computing
        # stream needs it.
        copy.record_stream(computing)
        return copy


class Answer(Protocol):
    """A boolean that may still be on its way to the CPU, such as a ``Fetched``."""

    @property
    def ready(self) -> bool:
        """Whether the value can be read without waiting."""

    def numpy(self) -> NDArray[Any]:
        """Waits for the value and returns it."""


class LateCheck:
    """Checks booleans that a device computes, without waiting for each of them."""

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque()

    def add(self, answer: Answer) -> None:
        """Adds an answer, which arrives after those added before."""
        self._answers.append(answer)

    def passed(self, wait: bool) -> bool:
        """Whether all answers that have arrived are true; ``wait`` waits for the others too."""
        while self._answers and (wait or self._answers[0].ready):
            if not bool(self._answers.popleft().numpy()):
                return False
        return True


class Stopwatch:
    """Measures how long a device computes, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measures the work that is queued inside the context, unless it raises."""
        before, begin = time.perf_counter(), self._mark()
        yield
        end = self._mark()
        if begin is None or end is None:
            self._seconds += time.perf_counter() - before
        else:
            self._spans.append((begin, end))

    def _mark(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self) -> float:
        """Waits for the device and returns the seconds measured so far."""
        for begin, end in self._spans:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        self._spans.clear()
        return self._seconds
