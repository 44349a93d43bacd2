"""``--devices``: which devices, and how many processes and threads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cwsam_geo.errors import UsageError
from cwsam_geo.model.device import cuda_count, resolve_device, thread_count

_NAME = re.compile(r"cuda:\d+|cuda|mps|cpu(:[1-9]\d*)?")


@dataclass(frozen=True)
class ProcessPlace:
    """Where a process computes.

    Attributes:
        device: Name of the device.
        threads: Threads on a CPU; None for torch's choice.
    """

    device: str
    threads: int | None = None


def parse_devices(text: str) -> list[ProcessPlace]:
    """A place for each process that ``--devices`` asks for.

    Raises:
        UsageError: The text is none of ``4``, ``all``, ``cuda:0,cuda:2`` and ``cpu:2``, or this
            machine has no such devices.
    """
    words = text.strip().split(",")
    if words == ["all"] or (len(words) == 1 and words[0].isdecimal()):
        return _gpus(words[0])
    if not all(_NAME.fullmatch(word) for word in words):
        raise UsageError(f"--devices {text}: give a number of GPUs, all, cuda:0,cuda:2 or cpu:2")
    if len({word.partition(":")[0] for word in words}) > 1:
        raise UsageError(
            f"--devices {text}: devices of one kind only, because others round differently"
        )
    if words[0].startswith("cpu"):
        count = sum(int(word.partition(":")[2] or 1) for word in words)
        return [ProcessPlace("cpu", max(1, thread_count() // count))] * count
    names = [str(resolve_device(word)) for word in words]
    if len(set(names)) < len(names):
        raise UsageError(f"--devices {text}: name each device once")
    return [ProcessPlace(name) for name in names]


def _gpus(text: str) -> list[ProcessPlace]:
    there = cuda_count()
    if not there:
        raise UsageError(
            f"--devices {text}: torch finds no CUDA device; for processes on the CPU give cpu:2"
        )
    count = there if text == "all" else int(text)
    if not 1 <= count <= there:
        raise UsageError(f"--devices {text}: there are {there} CUDA devices")
    return [ProcessPlace(f"cuda:{i}") for i in range(count)]
