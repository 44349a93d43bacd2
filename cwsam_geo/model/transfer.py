"""Between the CPU and a device that computes by itself: nobody waits but where results are read.

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
    """Memory of the CPU from and to which a CUDA device copies by itself.

    torch's caching allocator hands it out again only when the copies that use it are done. Where
    no memory can be pinned it is plain memory: copies are slower and wait then.

    Args:
        shape: Of the tensor.
        dtype: Of the tensor.
        device: Which device copies; on others than CUDA it is plain memory.
    """
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError):
            return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
    return torch.empty(tuple(shape), dtype=dtype)


class Fetched:
    """A tensor on its way to the CPU; it may be read in another thread.

    Args:
        tensor: On any device; on the CPU it is read where it is, from others it is copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._host = tensor.cpu()
            return
        self._host = pinned(tensor.shape, tensor.dtype, tensor.device)
        self._host.copy_(tensor, non_blocking=True)
        # Blocking: who waits for it leaves the processor to others.
        self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(tensor.device))

    @property
    def ready(self) -> bool:
        """Whether it can be read without waiting."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def numpy(self) -> NDArray[Any]:
        """The values; waits for the device."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[Any] = self._host.numpy()
        return array


class Uploads:
    """Copies tensors to a device while it computes; what it computes next waits for them.

    Args:
        device: Where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, host: Tensor) -> Tensor:
        """The tensor on the device; ``host``, from ``pinned``, must not be written any more."""
        if self._stream is None:
            return host.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            there = host.to(self._device, non_blocking=True)
        computing.wait_stream(self._stream)
        # Its memory belongs to the other stream, which must not reuse it before this one is done.
        there.record_stream(computing)
        return there


class Answer(Protocol):
    """What ``LateCheck`` asks of a ``Fetched`` yes or no."""

    @property
    def ready(self) -> bool:
        """Whether it can be read without waiting."""

    def numpy(self) -> NDArray[Any]:
        """Yes or no."""


class LateCheck:
    """Remembers yes-or-no answers that are still to come, so that nobody waits for each."""

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque()

    def add(self, answer: Answer) -> None:
        """Takes one more answer, later than those before."""
        self._answers.append(answer)

    def passed(self, wait: bool) -> bool:
        """Whether all answers that have come are yes, with ``wait`` all there are."""
        while self._answers and (wait or self._answers[0].ready):
            if not bool(self._answers.popleft().numpy()):
                return False
        return True


class Stopwatch:
    """Seconds that a device computes, measured without waiting for it.

    Args:
        device: Which one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Counts what is computed inside, unless it fails."""
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
        """All that was counted; waits for the device."""
        for begin, end in self._spans:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        self._spans.clear()
        return self._seconds
