"""Processes that are watched, and the machine that they run on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class Watched:
    """What a process did.

    Attributes:
        output: Its standard output.
        seconds: From its start to its end.
        cpu_seconds: Of all its threads.
        peak_mb: Peak resident memory in 1e6 bytes.
    """

    output: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


def watched(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Watched:
    """Runs a command to its end.

    Args:
        arguments: The command.
        environment: Variables besides those that are set.

    Raises:
        click.ClickException: It failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(arguments)} failed with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Watched(output, seconds, cpu_seconds, usage.ru_maxrss * unit / 1e6)


def machine() -> dict[str, Any]:
    """What this is measured on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "load_at_start": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    known: dict[str, str] = {}
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            known.setdefault(key.strip(), value.strip())
    if "model name" not in known:
        return platform.processor() or platform.machine()
    # "AMD EPYC" alone does not tell the generation.
    where = [f"{key} {known[key]}" for key in ("cpu family", "model") if key in known]
    return f"{known['model name']} ({', '.join(where)})" if where else known["model name"]


def shown_machine(about: Mapping[str, Any]) -> str:
    """The same as one line."""
    gpus = ", ".join(about["gpus"]) or "no GPU"
    return (
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {gpus}, load "
        f"{about['load_at_start']:.1f} at start, torch {about['torch']}"
    )
